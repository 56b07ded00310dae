"""Every number of a diagnosis against its own definition, coverage by simulation, and awkward data."""

import dataclasses
import json
import math
import re

import ml_dtypes
import numpy as np
import pytest
import reference
from scipy import optimize, special, stats

import keras_ls
from benchmarks.coverage import coverage
from keras_ls.diagnosis import _calibration

NAMES = ["accuracy", "nll", "brier", "ece", "ece_equal_mass", "classwise_ece", "temperature", "nll_scaled"]
NAMES += ["calibration_loss", "ece_scaled", "aurc", "excess_aurc", "aurc_largest_logit"]
NAMES += ["aurc_logit_norm", "aurc_logit_norm_change"]


def drawn(size, classes, temperature, spread=3.0, seed=0):
    """Labels, and logits whose best temperature is known."""
    rng = np.random.default_rng(seed)
    logits = spread * rng.normal(size=(size, classes))
    return (logits + rng.gumbel(size=logits.shape)).argmax(-1), temperature * logits


def measured(diagnosis):
    return {name: estimate.value for name, estimate in diagnosis.estimates.items()}


def test_scaled_confidences_of_half_precision_are_binned_as_they_are():
    size = 200_000
    p = np.tile([0.9375, 0.0625], (size, 1)).astype(ml_dtypes.bfloat16)
    y = (np.random.default_rng(0).permutation(size) < 0.0656 * size).astype(int)  # right less often than 14/15
    curve = keras_ls.diagnose_predictions(y, p, num_resamples=1).reliability["scaled"]
    for low, high, confidence in zip(curve.bin_edges[:-1], curve.bin_edges[1:], curve.confidence, strict=True):
        assert np.isnan(confidence) or low < confidence <= high


@pytest.mark.parametrize(("num_bins", "is_weighted"), [(15, False), (40, True)])
def test_values_are_those_of_the_functions(rng, num_bins, is_weighted):
    y, z = drawn(1500, 5, 1.3)
    weight = rng.integers(1, 6, 1500) if is_weighted else None
    diagnosis = keras_ls.diagnose_predictions(
        y, z, num_bins=num_bins, num_resamples=20, sample_weight=weight, from_logits=True
    )
    values = measured(diagnosis)
    assert list(values) == NAMES
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    target = np.eye(5)[y]

    def mean(losses):
        return np.average(losses, weights=weight)

    np.testing.assert_allclose(values["accuracy"], mean(p.argmax(-1) == y))
    np.testing.assert_allclose(values["nll"], -mean(np.log(p[np.arange(1500), y])))
    np.testing.assert_allclose(values["brier"], mean(((p - target) ** 2).sum(-1)))
    for name, binning in (("ece", "uniform"), ("ece_equal_mass", "quantile")):
        expected = keras_ls.calibration_error(y, p, num_bins, binning=binning, sample_weight=weight)
        np.testing.assert_allclose(values[name], expected)
    classes = [reference.error_of_bins(reference.bin_sums(p[:, k], y == k, num_bins, weight)) for k in range(5)]
    np.testing.assert_allclose(diagnosis.class_errors, classes)
    np.testing.assert_allclose(values["classwise_ece"], np.mean(classes))
    curve = keras_ls.risk_coverage_curve(y, z, from_logits=True, sample_weight=weight)
    np.testing.assert_allclose([values["aurc"], values["excess_aurc"]], [curve.aurc(), curve.excess_aurc()])
    curve = keras_ls.risk_coverage_curve(y, p, scores=z.max(-1) - z.mean(-1), sample_weight=weight)
    np.testing.assert_allclose(values["aurc_largest_logit"], curve.aurc())
    found = optimize.minimize_scalar(
        lambda t: mean(np.log(np.exp(z / t).sum(-1)) - z[np.arange(1500), y] / t), bounds=(0.1, 10), method="bounded"
    )
    np.testing.assert_allclose(values["temperature"], found.x, rtol=1e-4)
    assert values["calibration_loss"] == pytest.approx(values["nll"] - values["nll_scaled"])
    assert 0 < values["calibration_loss"] <= values["nll"] - found.fun + 1e-9
    assert [finding.topic for finding in diagnosis.findings] == [
        "confidence",
        "temperature",
        "smoothing",
        "classes",
        "ranking",
    ]


def test_probabilities_give_what_their_logits_give():
    y, z = drawn(600, 4, 1.5)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    a, b = (keras_ls.diagnose_predictions(y, each, num_resamples=20, from_logits=each is z) for each in (z, p))
    for name in NAMES:
        expected, found = ([e.value, e.low, e.high] for e in (a.estimates[name], b.estimates[name]))
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-5, err_msg=name)


def test_one_unit_is_two_columns():
    y, z = drawn(400, 2, 1.5)
    one = keras_ls.diagnose_predictions(y, z[:, 1:] - z[:, :1], num_resamples=20, from_logits=True)
    two = keras_ls.diagnose_predictions(y, z, num_resamples=20, from_logits=True)
    for name in NAMES:
        np.testing.assert_allclose(one.estimates[name].value, two.estimates[name].value, rtol=1e-6, err_msg=name)
    assert math.isnan(one.estimates["aurc_logit_norm"].value)
    assert one.num_classes == 2


def test_what_does_not_count_changes_nothing():
    y, z = drawn(300, 4, 1.5)
    alone = keras_ls.diagnose_predictions(y, z, num_resamples=20, from_logits=True)
    more, labels = np.concatenate([z, np.full((5, 4), np.nan)]), np.concatenate([y, np.full(5, -1)])
    ignored = keras_ls.diagnose_predictions(labels, more, num_resamples=20, from_logits=True, ignore_class=-1)
    weight = np.repeat([1.0, 0.0], [300, 5])
    weighted = keras_ls.diagnose_predictions(
        np.abs(labels), more, num_resamples=20, from_logits=True, sample_weight=weight
    )
    assert str(ignored) == str(alone) == str(weighted)


def test_steps_of_a_sequence_are_no_examples_of_their_own():
    y, z = drawn(400, 4, 1.5)
    steps, copies = np.repeat(y[:, None], 6, 1), np.repeat(z[:, None], 6, 1)
    once = keras_ls.diagnose_predictions(y, z, num_resamples=50, from_logits=True)
    often = keras_ls.diagnose_predictions(steps, copies, num_resamples=50, from_logits=True)
    assert (often.num_examples, often.num_predictions) == (400, 2400)
    for name in ("accuracy", "nll", "brier", "temperature", "ece", "classwise_ece", "calibration_loss"):
        a, b = once.estimates[name], often.estimates[name]
        np.testing.assert_allclose(
            [b.value, b.low, b.high], [a.value, a.low, a.high], rtol=0.02, atol=2e-3, err_msg=name
        )
    a, b = once.estimates["aurc"], often.estimates["aurc"]
    assert b.high - b.low > 0.7 * (a.high - a.low)


def test_an_example_that_is_wrong_often_is_one_that_is_wrong(rng):
    p, y = rng.uniform(0.6, 1, 100), np.zeros(100, int)
    y[0] = 1
    rows = np.stack([p, 1 - p], -1)
    once = keras_ls.diagnose_predictions(y, rows, num_resamples=50).estimates
    often = keras_ls.diagnose_predictions(np.repeat(y[:, None], 6, 1), np.repeat(rows[:, None], 6, 1), num_resamples=50)
    assert np.isnan([once["nll"].high, often.estimates["nll"].high]).all()
    assert often.estimates["aurc"].high == pytest.approx(once["aurc"].high, rel=0.01)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_sigmoid_units_that_rounding_took_to_1_have_the_temperature_of_their_logits(dtype):
    limit = {"float32": 20.0, "float64": 40.0, "float16": 9.0}[dtype]
    z = np.repeat([limit, -limit], 500)
    y = np.concatenate([np.repeat([1, 0], [491, 9]), np.repeat([0, 1], [491, 9])])
    p = (1 / (1 + np.exp(-z))).astype(dtype)
    assert p.max() == 1
    of_logits = keras_ls.diagnose_predictions(y, z[:, None], num_resamples=1, from_logits=True)
    of_probabilities = keras_ls.diagnose_predictions(y, p, num_resamples=1)
    expected = of_logits.estimates["temperature"].value
    assert of_probabilities.estimates["temperature"].value == pytest.approx(expected, rel=0.15)


def test_a_few_heavy_examples_make_a_temperature_less_sure():
    y, z = drawn(1000, 4, 1.5)
    weight = np.where(np.arange(1000) < 8, 200.0, 1.0)
    found = keras_ls.diagnose_predictions(y, z, num_resamples=1, sample_weight=weight, from_logits=True)
    temperature = found.estimates["temperature"]
    p = special.softmax(z / temperature.value, -1)
    mean = (p * z).sum(-1)
    variance = (p * z**2).sum(-1) - mean**2
    slopes = weight * (mean - z[np.arange(1000), y])
    effective = weight.sum() ** 2 / np.square(weight).sum()
    assert effective < 25
    squares = max(np.square(slopes).sum() * effective / (effective - 1), (weight**2 * variance).sum())
    error = temperature.value * np.sqrt(squares) / (weight * variance).sum()
    expected = stats.t.ppf([0.025, 0.975], effective - 1) * error
    np.testing.assert_allclose(
        np.log([temperature.low, temperature.high]) - np.log(temperature.value), expected, rtol=0.02
    )


def test_blocks_of_predictions_cut_no_sequence(monkeypatch):
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 4, (30, 9)), np.repeat(rng.dirichlet(np.ones(4), (30, 1)), 9, 1)
    y[rng.random(y.shape) < 0.3] = -1
    whole = keras_ls.diagnose_predictions(y, p, num_resamples=5, ignore_class=-1)
    for size in (4, 28, 60):
        monkeypatch.setattr("keras_ls._rows._BLOCK_SIZE", size)
        found = keras_ls.diagnose_predictions(y, p, num_resamples=5, ignore_class=-1).estimates
        for name, expected in whole.estimates.items():
            limits = [found[name].value, found[name].low, found[name].high]
            np.testing.assert_allclose(limits, [expected.value, expected.low, expected.high], rtol=1e-6, err_msg=name)


def test_weights_are_relative_and_means_are_weighted():
    rng = np.random.default_rng(0)
    y, z, weight = rng.integers(0, 4, 300), rng.normal(size=(300, 4)), rng.random(300)
    one, three = (
        keras_ls.diagnose_predictions(y, z, num_resamples=20, sample_weight=w, from_logits=True).estimates
        for w in (weight, 3 * weight)
    )
    for name, estimate in one.items():
        limits = [[each.value, each.low, each.high] for each in (estimate, three[name])]
        np.testing.assert_allclose(*limits, rtol=1e-6, err_msg=name)
    p = special.softmax(z, axis=1)
    expected = {
        "accuracy": z.argmax(-1) == y,
        "nll": -np.log(p[np.arange(300), y]),
        "brier": np.sum((p - np.eye(4)[y]) ** 2, axis=1),
    }
    for name, losses in expected.items():
        assert one[name].value == pytest.approx(np.average(losses, weights=weight)), name
        assert one[name].low < one[name].value < one[name].high, name


@pytest.mark.parametrize(("temperature", "verdict"), [(3.0, "over"), (0.4, "under"), (1.0, "calibrated")])
def test_confidence_is_judged_by_the_interval(temperature, verdict):
    y, z = drawn(6000, 3, temperature)
    diagnosis = keras_ls.diagnose_predictions(y, z, num_resamples=5, from_logits=True)
    assert diagnosis.findings[0].verdict.startswith(verdict)
    few = keras_ls.diagnose_predictions(y[:30], z[:30], num_resamples=5, from_logits=True)
    assert few.findings[0].verdict in (diagnosis.findings[0].verdict, "cannot tell")
    assert few.findings[0].verdict != "calibrated"


def test_errors_however_far_off_count_for_the_temperature(rng):
    y, z = rng.integers(0, 10, 200), rng.normal(size=(200, 10))
    estimate = keras_ls.diagnose_predictions(y, 1e6 * z, num_resamples=5, from_logits=True).estimates["temperature"]
    assert estimate.value == estimate.high == 100
    assert estimate.low > 90
    # One that is far off makes all others say little about T.
    y, z = drawn(5000, 2, 1.0)
    y, z = np.append(y, 0), np.concatenate([z, [[0.0, 3000.0]]])
    estimate = keras_ls.diagnose_predictions(y, z, num_resamples=5, from_logits=True).estimates["temperature"]
    assert estimate.low < 1 < estimate.value


def test_a_temperature_close_to_one_is_no_reason_to_smooth_more_or_less():
    for temperature, verdict, than in ((1.05, "over-confident", "more"), (0.95, "under-confident", "less")):
        labels, logits = drawn(20_000, 10, temperature)
        confidence, _, smoothing, *_ = keras_ls.diagnose_predictions(
            labels, logits, from_logits=True, num_resamples=10
        ).findings
        assert confidence.verdict == verdict
        assert confidence.text.endswith(
            f"a little {than} sure than they are right, by too little to matter in most uses."
        )
        assert smoothing.verdict == "not needed"


def test_normalised_logits_repair_a_ranking_that_scale_has_spoiled():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(3000, 5))
    z *= 6.0 / np.linalg.norm(z - z.mean(-1, keepdims=True), axis=-1, keepdims=True)
    y = (z + rng.gumbel(size=z.shape)).argmax(-1)
    spoiled = z * rng.uniform(0.2, 5.0, (3000, 1))  # changes no decision, and every probability
    diagnosis = keras_ls.diagnose_predictions(y, spoiled, num_resamples=50, from_logits=True)
    change, finding = diagnosis.estimates["aurc_logit_norm_change"], diagnosis.findings[4]
    assert change.high < 0
    assert (finding.topic, finding.verdict) == ("ranking", "normalised logits rank better")
    half = keras_ls.diagnose_predictions(y, spoiled, level=0.5, num_resamples=50, from_logits=True)
    narrow = half.estimates["aurc_logit_norm_change"]
    assert change.low < narrow.low < narrow.high < change.high


def test_what_is_added_to_all_logits_of_a_prediction_changes_no_ranking(rng):
    y, z = drawn(300, 4, 1.5)
    moved = (z, z + 20.0 * rng.normal(size=(300, 1)), special.log_softmax(z, -1))
    plain, *others = (keras_ls.diagnose_predictions(y, each, num_resamples=5, from_logits=True) for each in moved)
    for name in ("aurc", "aurc_largest_logit", "aurc_logit_norm"):
        for other in others:
            numbers = (dataclasses.astuple(each.estimates[name]) for each in (other, plain))
            np.testing.assert_allclose(*numbers, rtol=1e-6)


def test_the_norm_is_not_chosen_on_the_examples_that_it_ranks():
    changes = []
    for seed in range(40):
        y, z = drawn(60, 5, 1.0, spread=2.0, seed=seed)
        found = keras_ls.diagnose_predictions(y, z, num_resamples=1, from_logits=True)
        changes.append(found.estimates["aurc_logit_norm_change"].value)
    assert np.mean(changes) > 0  # the largest probability is what these labels are drawn by


@pytest.mark.parametrize("digits", [0, 1])
def test_a_ranking_is_no_better_than_itself_though_many_scores_tie(digits):
    y, z = drawn(2000, 3, 2.0)
    p = np.round(special.softmax(z, -1), digits)
    sure = p[np.arange(len(p)), p.argmax(-1)] == 1  # of these all norms are alike
    found = keras_ls.diagnose_predictions(y[sure], p[sure], num_resamples=50)
    change = found.estimates["aurc_logit_norm_change"]
    assert change.low == change.value == change.high == 0
    assert found.findings[-1].verdict == "no better ranking found"


def test_probabilities_in_float64_are_used_as_far_as_they_go():
    y, z = drawn(500, 4, 20.0)  # the smallest are near 1e-200
    found = keras_ls.diagnose_predictions(y, special.softmax(z, -1), num_resamples=2).estimates["temperature"]
    of_logits = keras_ls.diagnose_predictions(y, z, num_resamples=2, from_logits=True).estimates["temperature"]
    assert found.value == pytest.approx(of_logits.value, rel=1e-3)


def test_one_bad_class_is_named():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(6), 6000)
    y = (rng.random((6000, 1)) > p.cumsum(-1)).sum(-1)
    fair = keras_ls.diagnose_predictions(y, p, num_resamples=5)
    assert fair.findings[3].verdict == "none shown to be off"
    wrong = np.where((y == 2) & (rng.random(6000) < 0.5), 4, y)
    text = keras_ls.diagnose_predictions(wrong, p, num_resamples=5).findings[3].text
    assert {"2", "4"} <= set(re.findall(r"(\d+) \(0", text))


def test_limits_of_classes_hold_together(monkeypatch):
    levels, limits = [], _calibration._lower_limits
    monkeypatch.setattr(_calibration, "_lower_limits", lambda *given: levels.append(given[-1]) or limits(*given))
    keras_ls.diagnose_predictions(*drawn(200, 8, 1.0), level=0.9, num_resamples=1, from_logits=True)
    assert levels == [pytest.approx(1 - 0.1 / 8)]


def test_each_half_is_scaled_by_the_temperature_of_the_other():
    y, z = drawn(1000, 4, 2.0)
    order = np.random.default_rng([3, 0]).permutation(1000)
    halves, scaled = (order[:500], order[500:]), z.copy()
    for own, other in (halves, halves[::-1]):
        scaled[own] /= float(keras_ls.TemperatureScaling().fit(z[other], y[other]).temperature)
    diagnosis = keras_ls.diagnose_predictions(y, z, num_resamples=1, seed=3, from_logits=True)
    found = diagnosis.estimates
    assert found["nll_scaled"].value == pytest.approx(reference.cross_entropy(np.eye(4)[y], scaled).mean(), rel=1e-5)
    gained = reference.cross_entropy(np.eye(4)[y], z) - reference.cross_entropy(np.eye(4)[y], scaled)
    loss, error = found["calibration_loss"], gained.std(ddof=1) / 1000**0.5
    assert loss.value == pytest.approx(gained.mean(), rel=1e-5)
    assert (loss.high - loss.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.1)
    expected = keras_ls.calibration_error(y, scaled, from_logits=True)
    assert found["ece_scaled"].value == pytest.approx(expected, rel=1e-4)
    assert diagnosis.reliability["scaled"].ece() == pytest.approx(expected, rel=1e-4)
    plain = keras_ls.calibration_error(y, z, from_logits=True)
    assert diagnosis.reliability["as given"].ece() == pytest.approx(plain, rel=1e-6)
    for name, scores in (("largest probability", None), ("largest logit", z.max(-1) - z.mean(-1))):
        curve = keras_ls.risk_coverage_curve(y, z, from_logits=True, scores=scores)
        np.testing.assert_allclose(diagnosis.ranking[name].risk, curve.risk)


def test_awkward_data_give_an_answer_that_claims_little():
    right = keras_ls.diagnose_predictions(np.zeros(10, int), np.tile([0.9, 0.05, 0.05], (10, 1)), num_resamples=5)
    wrong = keras_ls.diagnose_predictions(np.ones(10, int), np.tile([0.9, 0.05, 0.05], (10, 1)), num_resamples=5)
    one = keras_ls.diagnose_predictions([0], [[0.6, 0.3, 0.1]], num_resamples=5)
    assert right.estimates["accuracy"].low < 0.73
    assert right.estimates["aurc"].high > 0.3
    assert right.estimates["ece"].low == 0
    assert right.findings[0].verdict == one.findings[0].verdict == "cannot tell"
    assert wrong.findings[0].verdict == "over-confident"
    assert all(finding.verdict in ("cannot tell", "none shown to be off") for finding in one.findings)
    assert math.isnan(one.estimates["ece_scaled"].value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], [[np.nan, 0.5], [0.5, 0.5]]), "`y_pred` must be finite"),
        (([0, 1], [[0.2, 1.5], [0.5, 0.5]]), "probabilities in"),
        (([0, 3], [[0.5, 0.5], [0.5, 0.5]]), r"in \[0, 2\)"),
        (([0, 1], [[0.5, 0.5]]), "one class id per prediction"),
    ],
)
def test_bad_predictions(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_ls.diagnose_predictions(*arguments)


@pytest.mark.parametrize(
    "settings", [{"level": 1.0}, {"level": 0}, {"num_bins": 0}, {"num_resamples": 0}, {"seed": -1}]
)
def test_bad_settings(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        keras_ls.diagnose_predictions([0, 1], [0.3, 0.6], **settings)


def test_the_table_shows_the_lower_limit_first():
    y, z = drawn(90, 3, 1.0)
    found = keras_ls.diagnose_predictions(y, z, num_resamples=5, from_logits=True)
    accuracy = found.estimates["accuracy"]
    (row,) = (line for line in str(found).splitlines() if line.startswith("accuracy"))
    assert row.split() == ["accuracy", f"{accuracy.value:.4f}", f"{accuracy.low:.4f}", "to", f"{accuracy.high:.4f}"]


def test_json_is_strict_and_complete(tmp_path):
    y, z = drawn(50, 2, 1.0)
    diagnosis = keras_ls.diagnose_predictions(y, z, num_resamples=5, from_logits=True)
    diagnosis.to_json(tmp_path / "d.json")

    def no_constant(name):
        raise AssertionError(name)

    read = json.loads((tmp_path / "d.json").read_text(encoding="utf-8"), parse_constant=no_constant)
    assert read["estimates"]["aurc_logit_norm"] == {"value": None, "low": None, "high": None}
    assert read["estimates"]["accuracy"]["value"] == diagnosis.estimates["accuracy"].value
    assert [finding["text"] for finding in read["findings"]] == [finding.text for finding in diagnosis.findings]
    assert [path.name for path in tmp_path.iterdir()] == ["d.json"]


def test_the_order_of_the_norm_is_chosen_on_the_other_half():
    chosen = set()
    for seed in range(6):
        y, z = drawn(400, 5, 1.0, spread=1.0, seed=seed)
        z = z * np.random.default_rng(seed).uniform(0.3, 3.0, (400, 1))
        centred = z - z.mean(-1, keepdims=True)
        scores = [z.max(-1) - special.logsumexp(np.sort(z, -1)[:, :-1], axis=-1)]  # the largest probability's log-odds
        # With p = 1 those are equal whose largest logit alone is above the mean, but for rounding.
        norms = [np.linalg.norm(centred, ord=p, axis=-1) for p in range(1, 10)]
        scores += [(centred.max(-1) / norm).astype("float32") for norm in norms]
        half = np.zeros(400, bool)
        half[np.random.default_rng([seed, 0]).permutation(400)[:200]] = True

        def area(score, where=slice(None), y=y, z=z):
            return keras_ls.risk_coverage_curve(y[where], z[where], from_logits=True, scores=score[where]).aurc()

        best = {own: int(np.argmin([area(each, half != own) for each in scores])) for own in (True, False)}
        chosen |= set(best.values())
        ranked = scores[best[True]]
        if best[True] != best[False]:  # by the place in their half
            ranked = np.empty(400)
            for own in (True, False):
                ranked[half == own] = stats.rankdata(scores[best[own]][half == own])
        found = keras_ls.diagnose_predictions(y, z, num_resamples=1, seed=seed, from_logits=True).estimates
        assert found["aurc_logit_norm"].value == pytest.approx(area(ranked), rel=1e-6)
    assert len(chosen) > 2


def test_one_floor_of_probability_is_under_both_likelihoods():
    y, z = drawn(2000, 4, 1.5)
    z[0], y[0] = [100.0, 0.0, 0.0, 0.0], 1
    order, scaled = np.random.default_rng([3, 0]).permutation(2000), z.copy()
    halves = order[:1000], order[1000:]
    for own, other in (halves, halves[::-1]):
        scaled[own] /= float(keras_ls.TemperatureScaling().fit(z[other], y[other]).temperature)
    found = keras_ls.diagnose_predictions(y, special.softmax(z, -1), num_resamples=1, seed=3).estimates
    for name, logits in (("nll", z), ("nll_scaled", scaled)):
        own = special.softmax(logits, -1)[np.arange(2000), y]
        assert found[name].value == pytest.approx(-np.log(np.clip(own, 1e-7, 1 - 1e-7)).mean(), rel=1e-4), name


def test_intervals_are_as_wide_as_estimates_vary():
    names, values, widths = ("accuracy", "nll", "brier", "temperature", "aurc"), [], []
    for number in range(100):
        y, z = drawn(500, 3, 1.5, seed=[7, number])
        found = keras_ls.diagnose_predictions(y, z, num_resamples=100, from_logits=True).estimates
        values.append([found[name].value for name in names])
        widths.append([found[name].high - found[name].low for name in names])
    ratio = np.mean(widths, 0) / (2 * 1.96 * np.std(values, 0, ddof=1))
    assert ((ratio > 0.8) & (ratio < 1.3)).all(), dict(zip(names, ratio, strict=True))


@pytest.mark.parametrize("temperature", [1.0, 1.5, 3.0])
def test_intervals_hold_the_truth(temperature):
    """A few draws only; `python -m benchmarks.coverage` takes 1,000."""
    found = coverage(draws=100, size=500, temperature=temperature, classes=3, num_truth=60_000, num_resamples=100)
    for name in ("accuracy", "nll", "brier", "temperature", "aurc"):
        assert found[name] >= 0.86, name  # 91 % less two standard errors of 100 draws
    for name in ("ece", "ece_equal_mass", "classwise_ece"):
        assert found[name] >= 0.93, name


def test_too_much_data_leave_out_the_class_wise_interval_and_say_so(monkeypatch, tmp_path):
    y, z = drawn(300, 4, 1.5)
    expected = keras_ls.diagnose_predictions(y, z, num_resamples=5, from_logits=True)
    monkeypatch.setattr("keras_ls.diagnosis._estimates._LARGEST_FOR_CLASSES", 1000)
    np.save(tmp_path / "z.npy", z)
    found = keras_ls.diagnose_predictions(
        y, np.load(tmp_path / "z.npy", mmap_mode="r"), num_resamples=5, from_logits=True
    )
    estimate = found.estimates["classwise_ece"]
    assert estimate.value == pytest.approx(expected.estimates["classwise_ece"].value)
    assert np.isnan([estimate.low, estimate.high]).all()
    assert found.findings[3].verdict == "cannot tell"
    assert "no interval" in str(found)
    assert found.estimates["ece"] == expected.estimates["ece"]


def test_limits_of_the_likelihood_are_not_below_0():
    y, z = np.repeat([0, 1], [995, 5]), np.tile([10.0, 0.0], (1000, 1))
    found = keras_ls.diagnose_predictions(y, z, level=0.999, num_resamples=2, from_logits=True).estimates
    assert found["nll"].low == 0


def test_without_errors_the_intervals_of_rankings_begin_at_0():
    found = keras_ls.diagnose_predictions([0, 1] * 50, [[0.9, 0.1], [0.2, 0.8]] * 50, seed=2**40).estimates
    for name in ("aurc", "excess_aurc", "aurc_largest_logit"):
        assert (found[name].value, found[name].low) == (0.0, 0.0)


def test_a_half_without_errors_hides_no_over_confidence():
    half = np.random.default_rng([0, 0]).permutation(200)[:100]  # what the seed 0 draws
    labels = np.zeros(200, int)
    labels[half[:6]] = 1
    found = keras_ls.diagnose_predictions(labels, np.tile([8.0, 0.0], (200, 1)), from_logits=True)
    assert np.isnan([found.estimates[name].low for name in ("nll_scaled", "ece_scaled", "calibration_loss")]).all()
    assert any("A half of the data has no best temperature" in note for note in found.notes)
    verdicts = {finding.topic: finding.verdict for finding in found.findings}
    assert verdicts["temperature"] == "cannot tell"
    assert verdicts["confidence"] == "over-confident"
    assert "too little to matter" not in found.findings[0].text


def test_few_errors_of_unequal_weight_leave_rankings_as_unsure_as_accuracy():
    labels, weight = np.repeat([1, 0], [4, 96]), np.ones(100)
    weight[-1] = 1000.0
    found = keras_ls.diagnose_predictions(labels, np.tile([0.9, 0.1], (100, 1)), sample_weight=weight).estimates
    error = 1 - found["accuracy"].low
    assert found["aurc"].high > error + (1 - error) * np.log1p(-error)  # of the best ranking of that many errors


def test_a_handful_of_examples_are_called_that(rng):
    found = keras_ls.diagnose_predictions(rng.integers(0, 3, (8, 100)), rng.normal(size=(8, 100, 3)), from_logits=True)
    (ranking,) = (finding for finding in found.findings if finding.topic == "ranking")
    assert ranking.text.endswith("too few examples, or too few that are right, or wrong.")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rounded_probabilities_sum_to_one(rng, dtype):
    logits = rng.normal(size=(50, 3000))
    probabilities = (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).astype(dtype)
    found = keras_ls.diagnose_predictions(rng.integers(0, 3000, 50), probabilities, num_resamples=2)
    assert found.estimates["nll"].value == pytest.approx(np.log(3000) + 0.5, abs=1)


@pytest.mark.parametrize("seed", [34, 41, 42, 50])
def test_equal_confidences_are_ranked_at_random_in_intervals_too(seed):
    y = np.random.default_rng(seed).integers(0, 4, 60)
    found = keras_ls.diagnose_predictions(y, np.tile([0.4, 0.3, 0.2, 0.1], (60, 1))).estimates
    for name in ("aurc", "excess_aurc"):
        assert found[name].low <= found[name].value <= found[name].high
    # Of equal scores the expected area is the error rate, whose bootstrap this is.
    errors = np.random.default_rng(0).binomial(60, np.mean(y != 0), 20_000) / 60
    np.testing.assert_allclose([found["aurc"].low, found["aurc"].high], np.quantile(errors, [0.025, 0.975]), atol=0.02)


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e155])
def test_a_common_factor_of_the_weights_changes_nothing(rng, scale):
    y, z = drawn(200, 4, 1.5)
    weight = rng.random(200)
    given = keras_ls.diagnose_predictions(y, z, from_logits=True, sample_weight=weight)
    scaled = keras_ls.diagnose_predictions(y, z, from_logits=True, sample_weight=weight * scale)
    for name, estimate in given.estimates.items():
        found = scaled.estimates[name]
        np.testing.assert_allclose(
            [found.value, found.low, found.high], [estimate.value, estimate.low, estimate.high], rtol=1e-6, atol=1e-9
        )


def test_logits_that_look_like_probabilities_are_said_to():
    y, z = drawn(200, 4, 1.5)
    probabilities = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    with pytest.warns(UserWarning, match="look like probabilities: none is negative, and they sum to 1") as found:
        notes = keras_ls.diagnose_predictions(y, probabilities, from_logits=True).notes
    assert found[0].filename == __file__
    assert "look like probabilities" in notes[0]
    assert not any("look like" in note for note in keras_ls.diagnose_predictions(y, z, from_logits=True).notes)
