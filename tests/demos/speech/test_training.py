"""Losses against plain references, the schedule, training on made-up features, exact resume."""

import dataclasses
import itertools
import math
import types

import keras
import numpy as np
import pytest
from harness import BACKEND, value_and_gradient

from demos.kit.runs import Run
from demos.kit.trials import Trial, fit
from demos.sequence.evaluation import EXAMPLES, evaluate, next_tokens
from demos.sequence.monitor import attention_picture, pixels
from demos.sequence.search import Hypothesis, Searcher
from demos.sequence.tokenizers import END, START, Characters
from demos.speech.analysis import evaluation, training
from demos.speech.analysis.data import make_split
from demos.speech.corpora import batches
from demos.speech.corpora.feature_cache import FeatureSet
from demos.speech.networks.objective import build, ctc_loss, make_objective
from demos.speech.networks.recipe import Recipe
from demos.speech.networks.recognisers import encoded_lengths

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="the speech demo needs TensorFlow")

TOKENS = Characters("abc")
RECIPE = Recipe(steps=8, steps_per_epoch=4, batch_size=4, units=16, warmup_steps=2, dropout=0.2)


def made_up(rng, size=24, noise=0.5):
    """Utterances whose every letter is a stretch of frames of its own kind."""
    kinds = np.random.default_rng(0).normal(size=(3, 80)) * 2
    transcripts, parts = [], []
    for _ in range(size):
        letters = rng.integers(0, 3, rng.integers(2, 6))
        transcripts.append("".join("abc"[k] for k in letters))
        frames = [kinds[k] + noise * rng.normal(size=(rng.integers(10, 16), 80)) for k in letters]
        silence = noise * rng.normal(size=(4, 80))
        parts.append(np.concatenate([np.concatenate([f, silence]) for f in frames]))
    return FeatureSet(
        keys=[f"made-up-{i}" for i in range(size)],
        transcripts=transcripts,
        frames=[part.astype("float16") for part in parts],
        corpus_statistics=None,
        skipped=[],
    )


@pytest.fixture
def split(rng):
    return make_split(TOKENS, made_up(rng), max_seconds=40, skip_bad=False)


def ctc_by_enumeration(labels, log_probs):
    """−log of the summed probability of all paths (S steps) that collapse to `labels`."""
    total = -math.inf
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        collapsed = [k for k, _ in itertools.groupby(path) if k != START]
        if collapsed == list(labels):
            total = np.logaddexp(total, sum(row[k] for row, k in zip(log_probs, path, strict=True)))
    return -total


class TestCTC:
    LABELS = np.array([[2, 3, 1, -1], [2, 2, 1, -1], [4, 1, -1, -1], [2, 2, 2, 1]], "int32")
    OUTPUTS = np.array([4, 3, 2, 4], "int32")  # the last needs 5

    def logits(self, rng):
        return rng.normal(size=(4, 5, 5)).astype("float32") * 2

    @pytest.mark.parametrize("xla", [False, True])
    def test_equals_the_sum_over_all_paths(self, rng, xla):
        logits = self.logits(rng)
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        expected = 0.0
        for labels, row, size in zip(self.LABELS[:3], log_probs, self.OUTPUTS, strict=False):
            ids = labels[labels > END]
            expected += ctc_by_enumeration(ids, row[:size].astype("float64")) / len(ids)
        value, gradient = value_and_gradient(
            lambda z: ctc_loss(keras.ops.convert_to_tensor(self.LABELS), z, self.OUTPUTS, xla), logits, jit=xla
        )
        assert value == pytest.approx(expected / 4, rel=1e-4)
        assert np.isfinite(gradient).all()
        assert np.abs(gradient[3]).max() == 0  # does not fit
        for row, size in zip(gradient[:3], self.OUTPUTS, strict=False):
            assert np.abs(row[:size]).min() > 0
            assert np.abs(row[size:]).max() == 0

    @pytest.mark.parametrize("xla", [False, True])
    def test_transcripts_that_do_not_fit_or_are_empty_count_as_0(self, rng, xla):
        labels = np.array([[1, -1, -1, -1], [2, 3, 2, 1]], "int32")
        loss = ctc_loss(keras.ops.convert_to_tensor(labels), self.logits(rng)[:2], np.array([5, 2], "int32"), xla)
        assert float(loss) == 0

    def test_padding_of_the_labels_does_not_matter(self, rng):
        logits = self.logits(rng)
        wide = np.pad(self.LABELS, [(0, 0), (0, 3)], constant_values=-1)
        a, b = (float(ctc_loss(keras.ops.convert_to_tensor(y), logits, self.OUTPUTS)) for y in (self.LABELS, wide))
        assert a == pytest.approx(b, rel=1e-6)


class TestMakeObjective:
    def rate(self, objective, step):
        objective.optimizer.iterations.assign(step)
        return float(objective.optimizer.learning_rate)

    @pytest.mark.parametrize("warmup", [0, 10])
    def test_the_rate_rises_then_falls_to_0(self, warmup):
        recipe = dataclasses.replace(RECIPE, steps=100, warmup_steps=warmup, learning_rate=1e-2)
        objective = make_objective(build(recipe, 5), recipe, 0.0, np.array([2]))
        if warmup:
            assert self.rate(objective, 5) == pytest.approx(5e-3)
        assert self.rate(objective, warmup) == pytest.approx(1e-2)
        middle = warmup + (100 - warmup) // 2
        assert self.rate(objective, middle) == pytest.approx(5e-3, rel=1e-3)
        assert self.rate(objective, 100) == pytest.approx(0, abs=1e-9)

    def test_more_warmup_than_steps(self):
        recipe = dataclasses.replace(RECIPE, steps=1, steps_per_epoch=1, warmup_steps=100)
        objective = make_objective(build(recipe, 5), recipe, 0.0, np.array([2]))
        assert self.rate(objective, 0) == pytest.approx(recipe.learning_rate)

    @pytest.mark.parametrize(("ctc_weight", "kind"), [(0.0, "unigram"), (0.3, "uniform")])
    def test_the_loss_is_the_weighted_sum_and_ignores_padding(self, split, ctc_weight, kind):
        recipe = dataclasses.replace(RECIPE, dropout=0.0, ctc_weight=ctc_weight, smoothing_kind=kind)
        model = build(recipe, TOKENS.size)
        objective = make_objective(model, recipe, 0.1, np.array([2, 1]))
        x, y, _ = next(iter(split.batches()))
        value = float(objective.compute_loss(x, y, objective(x)))
        names = {metric.name: float(metric.result()) for metric in objective.metrics}
        prior = {"uniform": np.full(5, 0.2), "unigram": np.array([0, 0.5, 0.5, 0, 0])}[kind]  # of the labels 2 and 1
        log_probs = np.asarray(keras.ops.log_softmax(model(x)))
        own = np.take_along_axis(log_probs, np.maximum(y.numpy(), 0)[..., None], -1)[..., 0]
        losses = -(0.9 * own + 0.1 * log_probs @ prior)
        assert names["token_loss"] == pytest.approx(losses[y.numpy() >= 0].mean(), rel=1e-4)
        assert value == pytest.approx(names["token_loss"] + ctc_weight * names.get("ctc_loss", 0.0), rel=1e-5)
        hits = np.asarray(model(x)).argmax(-1) == y.numpy()
        assert names["accuracy"] == pytest.approx(hits[y.numpy() >= 0].mean())
        wide = {
            "features": np.pad(x["features"], [(0, 0), (0, 9), (0, 0)]),
            "num_frames": x["num_frames"],
            "tokens": np.pad(x["tokens"], [(0, 0), (0, 5)]),
        }
        wide_y = np.pad(y, [(0, 0), (0, 5)], constant_values=-1)
        assert float(objective.compute_loss(wide, wide_y, objective(wide))) == pytest.approx(value, rel=1e-5)


def train(split, folder, recipe=RECIPE, alpha=0.1, callbacks=(), **arguments):
    """Trains a fresh model; returns it and its history."""
    keras.utils.set_random_seed(0)
    model = build(recipe, TOKENS.size)
    labels = np.concatenate(split.token_ids)
    objective = make_objective(model, recipe, alpha, labels, **arguments)

    def endless(first_step):
        return batches.training_batches(split.features, split.token_ids, recipe.batch_size, 0, first_step, False)

    how = (recipe.steps_per_epoch, recipe.epochs, None, {}, lambda *_: callbacks)
    return model, fit(Trial("", 0, {}, None, endless, *how), Run(folder, {}), objective, model)


@pytest.mark.slow
@pytest.mark.parametrize(("network", "kind"), [("lstm", "unigram"), ("transformer", "uniform")])
def test_the_fused_output_gives_the_same_loss_curve(split, tmp_path, network, kind):
    small = {"encoder_layers": 1, "decoder_layers": 1, "steps": 3, "steps_per_epoch": 1}
    recipe = dataclasses.replace(RECIPE, model=network, smoothing_kind=kind, **small)
    curves = []
    for fused_output in (False, True):
        folder = tmp_path / str(fused_output)
        folder.mkdir()
        curves.append(train(split, folder, recipe, fused_output=fused_output)[1])
    for plain, fused in zip(*curves, strict=True):
        for name in ("loss", "token_loss", "ctc_loss"):
            assert fused[name] == pytest.approx(plain[name], rel=1e-4), name


class Killed(Exception):
    pass


class Kill(keras.callbacks.Callback):
    """Ends a training in the middle of its second epoch."""

    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations == 6:
            raise Killed


class TestTrain:
    @pytest.mark.slow
    @pytest.mark.parametrize("model", ["lstm", "transformer"])
    def test_a_killed_training_ends_as_one_that_was_not(self, split, tmp_path, model):
        recipe = dataclasses.replace(RECIPE, model=model)
        whole, history = train(split, tmp_path / "whole", recipe)
        with pytest.raises(Killed):
            train(split, tmp_path / "killed", recipe, callbacks=(Kill(),))
        resumed, resumed_history = train(split, tmp_path / "killed", recipe)
        assert [epoch["epoch"] for epoch in resumed_history] == [1, 2]
        for a, b in zip(whole.weights, resumed.weights, strict=True):
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-3, atol=1e-5)
        assert resumed_history[-1]["loss"] == pytest.approx(history[-1]["loss"], rel=1e-4)

    @pytest.mark.slow
    @pytest.mark.parametrize("arguments", [{"steps_per_execution": 2}, {"jit_compile": True}], ids=["steps", "XLA"])
    def test_steps_in_one_call_and_xla_change_nothing(self, split, tmp_path, arguments):
        recipe = dataclasses.replace(RECIPE, dropout=0.0)
        _, history = train(split, tmp_path / "one", recipe)
        _, other = train(split, tmp_path / "other", recipe, **arguments)
        assert other[-1]["loss"] == pytest.approx(history[-1]["loss"], rel=1e-3)

    @pytest.mark.slow
    def test_learns_and_is_measured(self, rng, split, tmp_path):
        recipe = dataclasses.replace(
            RECIPE, steps=300, steps_per_epoch=150, batch_size=16, units=32, learning_rate=5e-3, warmup_steps=20
        )
        model, history = train(make_split(TOKENS, made_up(rng, 200), max_seconds=40, skip_bad=False), tmp_path, recipe)
        assert history[-1]["accuracy"] > 0.85
        test = make_split(TOKENS, made_up(rng, 16), max_seconds=40, skip_bad=False)
        searcher = Searcher(model, TOKENS, encoded_lengths(test.features.num_frames.max()))
        result, texts = evaluate(searcher, split, test, beam_width=3, length_penalty=1.0)
        assert len(texts) == 16
        assert set(evaluation.MEASURES) <= set(result)
        assert result["token_accuracy"] > 0.85
        assert result["beam_cer"] < 0.3
        assert result["dev_beam_wer"] < 0.6
        logits, labels = next_tokens(searcher, test)
        assert len(labels) == sum(len(ids) + 1 for ids in test.token_ids)
        assert (labels == END).sum() == 16
        log_probs = logits - np.log(np.exp(logits.astype("float64")).sum(-1, keepdims=True))
        assert result["nll"] == pytest.approx(-log_probs[np.arange(len(labels)), labels].mean(), rel=1e-4)
        assert result["nll_scaled"] <= result["nll"] + 0.05
        assert result["diagnosis"]["estimates"]["nll"]["value"] == pytest.approx(result["nll"], rel=1e-4)
        assert result["diagnosis"]["num_classes"] == logits.shape[-1]
        assert [e["reference"] for e in result["examples"]] == test.features.transcripts[:EXAMPLES]


class TestEvaluation:
    def test_error_rates_by_hand(self, rng):
        pytest.importorskip("jiwer", reason='word error rates need pip install -e ".[speech]"')
        features = dataclasses.replace(made_up(rng, 2), transcripts=["one two three", "four"])
        utterances = evaluation.Utterances(features, [np.array([2])] * 2)
        wer, cer = utterances.text_scores(["one to", "four"]).values()
        assert wer == pytest.approx(2 / 4)  # a word replaced, one missing
        assert cer == pytest.approx(7 / 17)
        assert utterances.text_scores(["", ""]) == {"wer": 1, "cer": 1}

    def test_texts_come_in_the_order_of_the_split(self, split):
        class Echo:
            def hypotheses(self, inputs, *settings):
                return [[Hypothesis(str(int(n)), 0.0)] for n in inputs["num_frames"]]

        texts = Searcher.texts(Echo(), split.batches(), len(split.features))
        assert texts == [str(n) for n in split.features.num_frames]

    def row(self, alpha, wer, nll=0.1):
        row = {name: {"mean": 0.5, "sd": None} for name in evaluation.MEASURES}
        return {
            "label_smoothing": alpha,
            **row,
            "dev_beam_wer": {"mean": wer, "sd": None},
            "dev_nll": {"mean": nll, "sd": None},
        }

    def test_best_on_dev(self):
        rows = [self.row(0.0, 0.1), self.row(0.05, 0.08, 0.3), self.row(0.1, 0.08, 0.2)]
        assert evaluation.best_on_dev(rows) == 0.1

    def test_table(self):
        row = self.row(0.1, 0.0823)
        row["greedy_wer"] = {"mean": 0.1234, "sd": 0.01}
        lines = training.table({"summary": [row], "settings": {"beam_width": 8}}).splitlines()
        assert "beam 8 WER %" in lines[0]
        assert lines[-1].split()[-1] == "8.23"
        assert "12.34 ± 1.00" in lines[-1]


def test_bad_utterances_are_refused_or_skipped(rng):
    features = dataclasses.replace(made_up(rng, 4), transcripts=["ab", "xa", "abc" * 50, "c"])
    with pytest.raises(ValueError, match=r"made-up-1: .*'x'.*--skip-bad"):
        make_split(TOKENS, features, max_seconds=40, skip_bad=False)
    split = make_split(TOKENS, features, max_seconds=40, skip_bad=True)
    assert split.features.transcripts == ["ab", "c"]
    assert [len(ids) for ids in split.token_ids] == [2, 1]
    assert len(split.features.skipped) == 2
    assert "made-up-2" in split.features.skipped[1]
    with pytest.raises(ValueError, match=r"made-up-\d: it lasts \d\.\d s, more than the 0\.2 s of --max-seconds"):
        make_split(TOKENS, made_up(rng, 4), max_seconds=0.2, skip_bad=False)


def test_attention_picture(rng):
    weights = rng.dirichlet(np.ones(20), 5)
    figure = attention_picture(weights, ["a", " ", "$", "ü", "end"], 0.04 * np.arange(20), "a $ ü")
    image = pixels(figure)
    assert image.dtype == np.uint8
    assert image.ndim == 4
    assert len(np.unique(image)) > 10
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()][:2] == ["a", "␣"]
    assert figure.axes[0].get_xlabel() == "Time (seconds)"
    assert figure.axes[1].get_ylabel() == "Attention weight"


def test_batches_are_made_as_the_recipe_says(monkeypatch):
    monkeypatch.setattr(training, "training_batches", lambda *given: given)
    features = types.SimpleNamespace(features="f", token_ids="t")
    for augment in (False, True):
        how = dataclasses.replace(RECIPE, augment=augment)
        assert training.KIND.batches(features, how, 3, 5) == ("f", "t", 4, 3, 5, augment)
