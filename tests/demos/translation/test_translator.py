"""The translator: the cached decoder sees what training saw, and no sentence sees the rest of its batch."""

import keras
import numpy as np
import pytest
from harness import BACKEND, numpy, slow

from demos.sequence.search import Searcher
from demos.sequence.tokenizers import END, START, Characters
from demos.sequence.translator import Translator
from demos.translation.objective import SIZES, make_objective
from demos.translation.recipe import Recipe

TOKENS = Characters("abcdefghi")
LENGTHS = np.array([7, 3, 1, 5], "int32")


@pytest.fixture(params=[(16, 1, 2), slow((32, 2, 4))], ids=["one block", "two blocks"])
def model(request):
    units, blocks, heads = request.param
    model = Translator(TOKENS.size, units, blocks, heads)
    model.table.embeddings.assign(3 * model.table.embeddings)  # predictions that are far from uniform
    return model


@pytest.fixture
def inputs(rng):
    """Sentences of ragged lengths with anything behind their ends."""
    sources = rng.integers(END, TOKENS.size, (len(LENGTHS), LENGTHS.max())).astype("int32")
    tokens = rng.integers(2, TOKENS.size, (len(LENGTHS), 6)).astype("int32")
    tokens[:, 0] = START
    return {"sources": sources, "num_sources": LENGTHS, "tokens": tokens}


def log_softmax(x):
    return numpy(keras.ops.log_softmax(x, axis=-1))


def check_cached_decoder(model, inputs):
    memory, state = model.memory(inputs), model.initial_state(len(LENGTHS), 8)
    steps = []
    for place in range(inputs["tokens"].shape[1]):
        logits, state = model.step(inputs["tokens"][:, place], state, memory)
        steps.append(log_softmax(logits))
    np.testing.assert_allclose(np.stack(steps, 1), log_softmax(model(inputs)), atol=1e-4)


def test_the_cached_decoder_gives_the_log_probabilities_of_teacher_forcing(model, inputs):
    check_cached_decoder(model, inputs)


@pytest.mark.parametrize("size", SIZES)
def test_the_cached_decoder_of_each_size_does(size, inputs):
    check_cached_decoder(Translator(TOKENS.size, *SIZES[size]), inputs)


def test_padding_and_the_rest_of_a_batch_change_nothing(model, inputs):
    expected = log_softmax(model(inputs))
    longer = {**inputs, "sources": np.pad(inputs["sources"], [(0, 0), (0, 5)], constant_values=4)}
    np.testing.assert_allclose(log_softmax(model(longer)), expected, atol=1e-4)
    for i, length in enumerate(LENGTHS):
        alone = {name: value[i : i + 1] for name, value in inputs.items()}
        alone["sources"] = alone["sources"][:, :length]
        np.testing.assert_allclose(log_softmax(model(alone))[0], expected[i], atol=1e-4)


def test_the_logits_are_products_with_the_tokens_vectors(model, inputs):
    product = numpy(model.penultimate(inputs)) @ numpy(model.token_vectors).T
    np.testing.assert_allclose(numpy(model(inputs)), product, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(BACKEND == "torch", reason="a search without a compiler is slow")
def test_translations_depend_on_neither_batch_nor_padding(inputs):
    model = Translator(TOKENS.size, 16, 1, 2)
    searcher = Searcher(model, TOKENS, 30)
    together = searcher.hypotheses(inputs, 3, 1.0, 1.0, 2)
    padded = {**inputs, "sources": np.pad(inputs["sources"], [(0, 0), (0, 5)], constant_values=4)}
    alone = [
        searcher.hypotheses({name: value[i : i + 1] for name, value in padded.items()}, 3, 1.0, 1.0, 2)[0]
        for i in range(2)
    ]
    for found, wanted in zip(alone, together, strict=False):
        assert [h.text for h in found] == [h.text for h in wanted]
        assert [h.score for h in found] == pytest.approx([h.score for h in wanted], abs=1e-4)


def test_saved_and_loaded_it_is_the_same(model, inputs, tmp_path):
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(numpy(again(inputs)), numpy(model(inputs)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["uniform", "unigram"])
def test_the_loss_is_smoothed_as_the_recipe_says(inputs, rng, kind):
    model = Translator(TOKENS.size, 16, 1, 2, dropout=0.0)
    labels = rng.integers(1, TOKENS.size, (4, 6)).astype("int32")
    labels[1, 3:] = -1
    objective = make_objective(model, Recipe(smoothing_kind=kind), 0.3, np.array([2, 2, 5, 1]))
    loss = objective.compute_loss(inputs, keras.ops.convert_to_tensor(labels), objective(inputs))
    counts = np.bincount([2, 2, 5, 1], minlength=TOKENS.size) / 4
    prior = counts if kind == "unigram" else np.full(TOKENS.size, 1 / TOKENS.size)
    log_probs = log_softmax(model(inputs))
    own = np.take_along_axis(log_probs, np.maximum(labels, 0)[..., None], -1)[..., 0]
    losses = -(0.7 * own + 0.3 * log_probs @ prior)
    assert float(loss) == pytest.approx(losses[labels >= 0].mean(), rel=1e-4)
