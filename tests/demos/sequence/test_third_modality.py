"""A demo of a third kind on the sequence shelf alone: a character-level language model that completes words.

Its inputs are the first letters of words, its outputs the rest of them.
"""

from argparse import Namespace

import keras
import numpy as np
import pytest
from harness import BACKEND
from keras import layers, ops

from demos.kit import measures
from demos.sequence import evaluation, sweep
from demos.sequence.buckets import buckets, shuffled_batches, sorted_batches, teacher_forcing
from demos.sequence.evaluation import Split, evaluate_tokens
from demos.sequence.objective import token_loss
from demos.sequence.search import Searcher
from demos.sequence.tokenizers import Characters

pytestmark = pytest.mark.skipif(BACKEND == "torch", reason="a search without a compiler is slow")

WORDS = ["ant", "bee", "camel", "dog", "elephant", "fox", "goose", "hippopotamus"]
LETTERS = Characters.learn(WORDS)


class LanguageModel(keras.Model):
    """One GRU that reads the first letter and the letters so far."""

    sources = {"first": ((None,), "int32")}  # noqa: RUF012

    def __init__(self, units=32):
        super().__init__()
        self.vocabulary_size = LETTERS.size
        self.embedding, self.first = layers.Embedding(LETTERS.size, units), layers.Embedding(LETTERS.size, units)
        self.gru, self.logits = layers.GRU(units, return_sequences=True), layers.Dense(LETTERS.size)

    def call(self, inputs):
        return self.logits(self.gru(self.embedding(inputs["tokens"]), initial_state=self.first(inputs["first"])))

    def memory(self, inputs):
        return self.first(inputs["first"])

    def max_tokens(self, inputs):
        return ops.full_like(inputs["first"], 12)

    def initial_state(self, size, max_length):
        return {"is_new": ops.ones((size, 1)), "hidden": ops.zeros((size, self.gru.units))}

    def step(self, tokens, state, memory):
        width = ops.shape(tokens)[0] // ops.shape(memory)[0]
        hidden = state["hidden"] + state["is_new"] * ops.repeat(memory, width, axis=0)
        outputs, (hidden,) = self.gru.cell(self.embedding(tokens), [hidden])
        return self.logits(outputs), {"is_new": 0 * state["is_new"], "hidden": hidden}


class Words(Split):
    """The words, in batches of 4."""

    references = [word[1:] for word in WORDS]  # noqa: RUF012

    def __init__(self):
        self.ids = [LETTERS.encode(word) for word in WORDS]
        self.token_ids = [ids[1:] for ids in self.ids]
        lengths = np.array([len(ids) - 1 for ids in self.ids])
        self.groups = buckets(lengths, lengths, count=1)

    def batch(self, bucket):
        tokens, labels = teacher_forcing([self.ids[row][1:] for row in bucket.rows], bucket.tokens)
        return {"first": np.array([self.ids[row][0] for row in bucket.rows]), "tokens": tokens}, labels, bucket.rows

    def batches(self):
        return map(self.batch, sorted_batches(self.groups, 4))

    def text_scores(self, texts):
        return {"error": np.mean([text != word for text, word in zip(texts, self.references, strict=True)])}


@pytest.fixture(scope="module")
def trained():
    """The words, and the searcher of a model that was trained for 60 steps."""
    keras.utils.set_random_seed(1906)
    words, model = Words(), LanguageModel()
    loss = token_loss("neighbourhood", 0.1, LETTERS.size)
    model.compile(keras.optimizers.Adam(0.02), loss=loss)
    for epoch in range(30):
        for bucket in shuffled_batches(words.groups, 4, 0, epoch):
            x, y, _ = words.batch(bucket)
            model.train_on_batch(x, y)
    return words, Searcher(model, LETTERS, 12)


@pytest.mark.filterwarnings("ignore:The likelihood still rises")  # every letter is predicted correctly
def test_words_are_completed(trained):
    words, searcher = trained
    assert words.search(searcher, 2, 1.0, 1.0) == words.references
    numbers = evaluate_tokens(searcher, words, words)
    assert numbers["token_accuracy"] == 1
    assert numbers["nll_scaled"] < numbers["nll"] < 0.5
    assert measures.curve_from_json(numbers["curve"]).ece() == pytest.approx(numbers["ece"])
    assert numbers["diagnosis"]["estimates"]["accuracy"]["value"] == 1


def test_no_diagnosis_of_very_many_logits(trained, monkeypatch):
    words, searcher = trained
    logits = len(words.references) * max(map(len, words.references)) * LETTERS.size
    monkeypatch.setattr(evaluation, "DIAGNOSED_LOGITS", logits)
    assert "diagnosis" not in evaluate_tokens(searcher, words, words)


def test_of_very_many_logits_a_random_part_is_measured(trained, monkeypatch):
    words, searcher = trained

    def measured_with(limit):
        monkeypatch.setattr(evaluation, "MEASURED_LOGITS", limit)
        numbers = evaluate_tokens(searcher, words, words)
        examples = evaluation.tokens_by_example(searcher, words)
        assert len(examples) == numbers["measured_examples"] == numbers["dev_measured_examples"]
        return {LETTERS.decode(came[:-1]): logits for logits, came in examples}

    sizes = {word: (len(word) + 1) * LETTERS.size for word in words.references}
    limit = sum(sizes.values())
    all_of_them = measured_with(limit)
    assert set(all_of_them) == set(words.references)
    some = measured_with(limit - 1)
    assert some.keys() < all_of_them.keys()
    fewer = measured_with(limit // 2)
    assert limit // 2 - max(sizes.values()) < sum(sizes[word] for word in fewer) <= limit // 2
    shortest = sorted(sizes, key=sizes.get)[: len(fewer)]
    assert fewer.keys() not in (set(shortest), set(words.references[: len(fewer)]))
    for word, logits in (some | fewer).items():
        np.testing.assert_allclose(logits, all_of_them[word], atol=1e-5)
    assert len(measured_with(1)) == 1


def test_temperatures_and_widths_are_swept_over(trained, capsys):
    words, searcher = trained
    asked = []

    def search(*how):
        asked.append(how)
        return words.search(searcher, *how)

    options = Namespace(temperatures=[1.0, 2.0], beam_widths=[1, 2], beam_width=2, length_penalty=1.0)
    swept = sweep.sweep(searcher, search, words, options, "α = 0.1", 2.0)
    assert swept["measured_examples"] == len(WORDS)
    assert "width 2: ERROR 0.00 %" in capsys.readouterr().out
    assert asked == [(2, 1.0, 1.0), (2, 2.0, 1.0), (1, 1.0, 1.0)]  # width 2 at temperature 1 once
    logits, labels = evaluation.next_tokens(searcher, words)
    for place, temperature in enumerate((1.0, 2.0)):
        expected = measures.calibration(logits / temperature, labels)
        for name in ("ece", "nll"):
            assert swept["temperature"][name][place] == pytest.approx(expected[name], rel=1e-6)
    for name, temperature in (("curve", 1.0), ("curve_scaled", 2.0)):
        assert swept["next_tokens"][name] == measures.calibration(logits / temperature, labels)["curve"]
    sweeps = [{"label_smoothing": 0.1, "seed": 0, **swept}]
    assert set(sweep.curves(sweeps, "temperature")["α = 0.1"]) == {"temperature", "error", "ece", "nll"}
    assert sweep.table(sweeps, "beam_width").splitlines()[0] == "beam width  α = 0.1: ERROR %"
    two_seeds = [*sweeps, {**sweeps[0], "seed": 1, "beam_width": {"beam_width": [1, 2], "error": [0.02, 0.04]}}]
    assert sweep.table(two_seeds, "beam_width").splitlines()[2:] == [
        "1           1.00 ± 1.41",
        "2           2.00 ± 2.83",
    ]
