"""The recognisers: the search sees what training saw, and no utterance sees the rest of its batch."""

import keras
import numpy as np
import pytest
from harness import BACKEND, slow

from demos.sequence.search import Searcher
from demos.sequence.tokenizers import END, START, Characters
from demos.speech.networks.recognisers import LSTMRecogniser, TimeReduction, TransformerRecogniser, encoded_lengths

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="the speech demo needs TensorFlow")

TOKENS = Characters("abcdefghi")
FRAMES = np.array([48, 21, 5, 33], "int32")
MODELS = {"lstm": LSTMRecogniser, "transformer": TransformerRecogniser}


def make(name, dtype="float32", **arguments):
    """A small recogniser whose predictions are far from uniform."""
    keras.utils.set_random_seed(3)
    model = MODELS[name](TOKENS.size, 16, encoder_layers=2, dtype=dtype, **arguments)
    kernel = model.logits.kernel
    kernel.assign(8 * kernel)
    return model


@pytest.fixture(params=sorted(MODELS))
def model(request):
    return make(request.param)


@pytest.fixture
def inputs(rng):
    """Utterances of ragged lengths, zero-padded, with random tokens before each place."""
    features = rng.normal(size=(len(FRAMES), FRAMES.max(), 80)).astype("float32")
    for row, frames in zip(features, FRAMES, strict=True):
        row[frames:] = 0
    tokens = rng.integers(2, TOKENS.size, (len(FRAMES), 7)).astype("int32")
    tokens[:, 0] = START
    return {"features": features, "num_frames": FRAMES, "tokens": tokens}


def numpy(x):
    return keras.ops.convert_to_numpy(x)


class TestStep:
    @pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
    @pytest.mark.parametrize("name", MODELS)
    def test_logits_are_those_of_teacher_forcing(self, name, dtype, inputs):
        model = make(name, dtype)
        memory = model.remember(model.encode(inputs["features"], inputs["num_frames"]))
        state = model.initial_state(len(FRAMES), 9)
        logits = []
        for place in range(inputs["tokens"].shape[1]):
            step, state = model.step(inputs["tokens"][:, place], state, memory)
            logits.append(numpy(step))
        tolerance = 1e-4 if dtype == "float32" else 0.05
        np.testing.assert_allclose(np.stack(logits, 1), numpy(model(inputs)), rtol=tolerance, atol=tolerance)

    def test_hypotheses_side_by_side_share_a_memory(self, model, inputs, rng):
        width = 3
        memory = model.remember(model.encode(inputs["features"], inputs["num_frames"]))
        tokens = rng.integers(2, TOKENS.size, (2, len(FRAMES) * width)).astype("int32")
        state = model.initial_state(len(FRAMES) * width, 4)
        for row in tokens:
            logits, state = model.step(row, state, memory)
        alone = {name: np.repeat(value, width, axis=0) for name, value in inputs.items()}
        expected = model({**alone, "tokens": tokens.T})[:, 1]
        np.testing.assert_allclose(numpy(logits), numpy(expected), rtol=1e-4, atol=1e-4)

    def test_later_tokens_are_not_seen(self, model, inputs):
        before = numpy(model(inputs))
        inputs["tokens"][:, 4:] = 2
        np.testing.assert_allclose(numpy(model(inputs))[:, :4], before[:, :4], rtol=1e-5, atol=1e-5)
        assert np.abs(numpy(model(inputs))[:, 5:] - before[:, 5:]).max() > 1e-2


class TestPadding:
    @pytest.mark.parametrize("more", [0, slow(1), slow(2), 3, slow(16)])
    def test_neither_padding_nor_what_lies_in_it_matters(self, model, inputs, more):
        together = numpy(model(inputs))
        for i, frames in enumerate(FRAMES):
            features = np.full((1, frames + more, 80), 7.0, "float32")
            features[0, :frames] = inputs["features"][i, :frames]
            alone = {"features": features, "num_frames": FRAMES[i : i + 1], "tokens": inputs["tokens"][i : i + 1]}
            np.testing.assert_allclose(numpy(model(alone))[0], together[i], rtol=1e-4, atol=1e-4)

    def test_attention_stays_inside_the_utterance(self, model, inputs):
        weights = numpy(model.attention(inputs))
        assert weights.shape == (4, 7, 12)
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
        for row, frames in zip(weights, FRAMES, strict=True):
            assert (row[:, encoded_lengths(frames) :] == 0).all()
            assert (row[:, : encoded_lengths(frames)] > 0).all()

    def test_ctc_logits_do_not_depend_on_the_batch(self, model, inputs):
        together = numpy(model.ctc_logits(model.encode(inputs["features"], FRAMES)))
        alone = numpy(model.ctc_logits(model.encode(inputs["features"][1:2, :21], FRAMES[1:2])))
        np.testing.assert_allclose(alone[0], together[1, : alone.shape[1]], rtol=1e-4, atol=1e-4)


def test_time_reduction_equals_its_definition(rng):
    """Against a convolution in plain loops over an utterance alone."""
    layer = TimeReduction(4)
    x = rng.normal(size=(9, 80))
    padded = np.zeros((1, 14, 80), "float32")
    padded[0, :9] = x
    outputs, mask = layer(padded, np.array([9], "int32"))
    for convolution in layer.convolutions:
        kernel, bias = (numpy(w).astype("float64") for w in convolution.weights)
        frames = np.pad(x, [(2, 3), (0, 0)])
        x = np.array(
            [np.maximum(0, bias + sum(frames[2 * i + k] @ kernel[k] for k in range(5))) for i in range(-(-len(x) // 2))]
        )
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3)
    assert numpy(mask)[0].tolist() == [True] * 3 + [False]
    np.testing.assert_allclose(numpy(outputs)[0, :3], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [slow("float32"), "mixed_bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded(name, dtype, inputs, tmp_path):
    model = make(name, dtype, dropout=0.3)
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert copy.get_config() == model.get_config()
    assert copy.dtype_policy.name == dtype
    np.testing.assert_array_equal(numpy(copy(inputs)), numpy(model(inputs)))


def test_dropout_is_for_training_alone(model, inputs):
    model.dropout.rate = 0.5
    np.testing.assert_array_equal(numpy(model(inputs)), numpy(model(inputs)))
    assert np.abs(numpy(model(inputs, training=True)) - numpy(model(inputs))).max() > 0.1


class TestSearcher:
    @pytest.fixture(params=["lstm", slow("transformer")])
    def model(self, request):
        return make(request.param)

    def greedy(self, model, inputs, temperature):
        """The most probable token after token, by teacher forcing: ids and log p of each utterance."""
        import tensorflow as tf

        predict, limits = tf.function(model), encoded_lengths(FRAMES)
        tokens = np.full((len(FRAMES), limits.max() + 1), START, "int32")  # what comes later is not seen
        texts, log_probs = [[] for _ in FRAMES], np.zeros(len(FRAMES))
        going_on = set(range(len(FRAMES)))
        for place in range(limits.max()):
            logits = numpy(predict({**inputs, "tokens": tokens}))[:, place].astype("float64") / temperature
            logits[:, START] = -np.inf
            steps = logits - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
            steps -= logits.max(-1, keepdims=True)
            for i in sorted(going_on):
                best = int(steps[i].argmax())
                log_probs[i] += steps[i, best]
                if best == END:
                    going_on.remove(i)
                    continue
                texts[i].append(best)
                tokens[i, place + 1] = best
                if len(texts[i]) == limits[i]:
                    going_on.remove(i)
        return texts, log_probs

    @pytest.mark.parametrize("temperature", [slow(1.0), 2.5])
    def test_width_1_is_greedy(self, model, inputs, temperature):
        found = Searcher(model, TOKENS, 15).hypotheses(inputs, temperature=temperature)
        texts, log_probs = self.greedy(model, inputs, temperature)
        assert [best.text for (best,) in found] == [TOKENS.decode(ids) for ids in texts]
        np.testing.assert_allclose([best.score for (best,) in found], log_probs, rtol=1e-4, atol=1e-4)
        assert len({len(ids) for ids in texts}) > 1

    def test_scores_are_those_of_teacher_forcing(self, model, inputs):
        width = 5
        found = Searcher(model, TOKENS, 15).hypotheses(inputs, beam_width=width, num_results=width)
        texts = [TOKENS.encode(hypothesis.text) for hypotheses in found for hypothesis in hypotheses]
        tokens = np.full((len(texts), 1 + max(map(len, texts))), START, "int32")  # what comes later is not seen
        for row, ids in zip(tokens, texts, strict=True):
            row[1 : len(ids) + 1] = ids
        repeated = {name: np.repeat(value, width, axis=0) for name, value in inputs.items()}
        logits = model({**repeated, "tokens": tokens})
        log_probs = numpy(keras.ops.log_softmax(logits[..., 1:]))  # the start token never comes
        expected = []
        for row, ids, limit in zip(log_probs, texts, np.repeat(encoded_lengths(FRAMES), width), strict=True):
            expected.append(row[np.arange(len(ids)), np.array(ids, int) - 1].sum())
            if len(ids) < limit:  # else it was cut
                expected[-1] += row[len(ids), END - 1]
        scores = [[hypothesis.score for hypothesis in hypotheses] for hypotheses in found]
        assert scores == [sorted(row, reverse=True) for row in scores]
        assert np.shape(scores) == (len(FRAMES), width)
        np.testing.assert_allclose(np.ravel(scores), expected, rtol=1e-4, atol=1e-3)

    @pytest.mark.parametrize("width", [slow(1), 4])
    def test_utterances_do_not_see_their_batch(self, model, inputs, width):
        searcher = Searcher(model, TOKENS, 15)
        together = searcher.hypotheses(inputs, width, num_results=width)
        for i, frames in enumerate(FRAMES):
            (alone,) = searcher.hypotheses(
                {"features": inputs["features"][i : i + 1, :frames], "num_frames": FRAMES[i : i + 1]},
                width,
                1.0,
                0.0,
                width,
            )
            assert [h.text for h in alone] == [h.text for h in together[i]]
            np.testing.assert_allclose([h.score for h in alone], [h.score for h in together[i]], rtol=1e-4, atol=1e-4)

    def test_no_more_tokens_than_encoder_outputs(self, inputs, monkeypatch):
        monkeypatch.setattr("demos.sequence.search.LEAST_ROOM", 2)  # as if texts were beyond the least room
        model = make("lstm")
        model.logits.bias.assign(np.eye(TOKENS.size)[2] * 1e3)  # an "a" whatever comes
        texts = [best.text for (best,) in Searcher(model, TOKENS, 15).hypotheses(inputs)]
        assert texts == ["a" * int(encoded_lengths(frames)) for frames in FRAMES]
