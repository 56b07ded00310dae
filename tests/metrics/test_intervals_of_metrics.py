"""Intervals of metrics: near those of `diagnose_predictions`, covering the truth, additive over batches."""

import functools
import math

import keras
import numpy as np
import pytest
from harness import slow
from scipy import stats

import keras_ls

METRICS = (
    keras_ls.ExpectedCalibrationError,
    keras_ls.ClasswiseCalibrationError,
    keras_ls.NegativeLogLikelihood,
    keras_ls.BrierScore,
)


def drawn(size, seed, temperature=1.5):
    rng = np.random.default_rng(seed)
    z = 2.5 * rng.normal(size=(size, 5))
    return (z + rng.gumbel(size=z.shape)).argmax(-1), (temperature * z).astype("float32")


def filled(make, y, z, parts=1, weight=None, **options):
    metric = make(from_logits=True, **options)
    for place in np.array_split(np.arange(len(y)), parts):
        metric.update_state(y[place], z[place], None if weight is None else weight[place])
    return metric


@pytest.mark.parametrize("make", METRICS)
def test_they_are_near_those_of_a_diagnosis_and_additive(make):
    y, z = drawn(3000, 0)
    metric = filled(make, y, z, parts=4)
    expected = keras_ls.diagnose_predictions(y, z, from_logits=True, num_resamples=2).estimates[metric.name]
    low, high = metric.interval()
    assert high - low < (1.5 if metric.name == "classwise_ece" else 1.01) * (expected.high - expected.low)
    if metric.name == "classwise_ece":
        assert low <= expected.low + 1e-3
        assert high >= expected.high - 1e-3
    else:
        np.testing.assert_allclose([low, high], [expected.low, expected.high], rtol=2e-3)
    np.testing.assert_allclose(filled(make, y, z).interval(), (low, high), rtol=1e-4, atol=1e-6)
    narrow = metric.interval(0.5)
    assert low < narrow[0] < narrow[1] < high
    twice = filled(make, y, z, weight=np.full(3000, 2.0, "float32"))
    often = filled(make, np.concatenate([y, y]), np.concatenate([z, z]))
    np.testing.assert_allclose(twice.interval(), often.interval(), rtol=1e-3, atol=1e-6)


def test_the_interval_of_the_accuracy_is_wilsons():
    y, z = drawn(300, 0)
    weight = np.random.default_rng(0).integers(0, 3, 300)
    metric = filled(keras_ls.ExpectedCalibrationError, y, z, weight=weight.astype("float32"))
    right, trials = int(weight[z.argmax(-1) == y].sum()), int(weight.sum())
    for level in (0.5, 0.95):
        expected = stats.binomtest(right, trials).proportion_ci(level, method="wilson")
        np.testing.assert_allclose(metric.accuracy_interval(level), expected, rtol=1e-5)
    for sure in (z.argmax(-1), (z.argmax(-1) + 1) % z.shape[-1]):
        metric = filled(keras_ls.ExpectedCalibrationError, sure, z)
        right = int((sure == z.argmax(-1)).sum())
        expected = stats.binomtest(right, 300).proportion_ci(0.95, method="wilson")
        np.testing.assert_allclose(metric.accuracy_interval(), expected, rtol=1e-5, atol=1e-12)
    empty = keras_ls.ExpectedCalibrationError(from_logits=True)
    assert np.isnan(empty.accuracy_interval()).all()
    empty.update_state(np.array([0, 1]), np.array([[math.nan, 1.0], [1.0, 2.0]], "float32"))
    assert np.isnan(empty.accuracy_interval()).all()
    with pytest.raises(ValueError, match="level"):
        empty.accuracy_interval(1)


@pytest.mark.parametrize("make", METRICS)
def test_nothing_and_bad_levels(make):
    metric = make(from_logits=True)
    assert np.isnan(metric.interval()).all()
    for level in (0, 1, "high"):
        with pytest.raises(ValueError, match="level"):
            metric.interval(level)
    metric.update_state(np.array([0, 1]), np.array([[math.nan, 1.0], [1.0, 2.0]], "float32"))
    assert np.isnan(metric.interval()).all()


@pytest.mark.parametrize("temperature", [slow(1.0), 3.0])
def test_they_hold_the_truth(temperature):
    y, z = drawn(200_000, 1, temperature)
    metrics = (*METRICS, functools.partial(keras_ls.ExpectedCalibrationError, norm="l2"))
    truth = {make: float(filled(make, y, z).result()) for make in metrics}
    held = dict.fromkeys(metrics, 0)
    for seed in range(60):
        y, z = drawn(400, [2, seed], temperature)
        for make in metrics:
            low, high = filled(make, y, z).interval()
            held[make] += low <= truth[make] <= high
    assert min(held.values()) >= 53  # of 60: 95 % less two standard errors and a half


def test_the_root_mean_square_error_varies_with_the_shares_of_its_bins():
    truth, held = np.sqrt((0.9**2 + 0.0) / 2), 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        is_off = rng.random(1000) < 0.5
        confidence, right = np.where(is_off, 0.95, 0.65), rng.random(1000) < np.where(is_off, 0.05, 0.65)
        metric = keras_ls.ExpectedCalibrationError(norm="l2")
        metric.update_state((~right).astype("int32"), np.stack([confidence, 1 - confidence], -1))
        low, high = metric.interval()
        held += low <= truth <= high
    assert held >= 90  # 73 if the shares were known


def test_the_root_mean_square_error_has_one_and_the_largest_has_none():
    metric = filled(keras_ls.ExpectedCalibrationError, *drawn(2000, 0), norm="l2")
    low, high = metric.interval()
    assert low < float(metric.result()) < high
    narrow = metric.interval(0.5)
    assert low < narrow[0] < narrow[1] < high
    rng = np.random.default_rng(0)  # calibrated, most of it alone in its bin
    confidence = rng.uniform(0.5, 1.0, 200)
    y, p = rng.random(200) > confidence, np.stack([confidence, 1 - confidence], axis=-1)
    alone = keras_ls.ExpectedCalibrationError(num_bins=2000, norm="l2")
    alone.update_state(y.astype("int32"), p)
    assert alone.interval()[0] == 0 < alone.interval()[1]
    with pytest.raises(ValueError, match="norm='max'"):
        keras_ls.ExpectedCalibrationError(norm="max").interval()


def test_errors_of_classes():
    y, z = drawn(500, 0)
    metric = filled(keras_ls.ClasswiseCalibrationError, y, z, parts=3)
    errors = metric.per_class()
    np.testing.assert_allclose(
        errors, keras_ls.diagnose_predictions(y, z, from_logits=True, num_resamples=1).class_errors, rtol=1e-4
    )
    assert errors.mean() == pytest.approx(float(metric.result()), rel=1e-6)
    assert keras_ls.ClasswiseCalibrationError().per_class().shape == (0,)


def test_after_fit(rng):
    x, y = rng.normal(size=(64, 4)).astype("float32"), rng.integers(0, 3, 64)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    nll = keras_ls.NegativeLogLikelihood(from_logits=True)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=[nll])
    model.fit(x, y, verbose=0)
    low, high = nll.interval()
    assert low < float(nll.result()) < high


@pytest.mark.parametrize("make", [keras_ls.NegativeLogLikelihood, keras_ls.BrierScore])
def test_values_that_hardly_differ_have_none_rather_than_one_of_rounding_errors(make):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 1000, 2000)
    almost_equal = (0.001 * rng.normal(size=(2000, 1000))).astype("float32")
    assert np.isnan(filled(make, y, almost_equal).interval()).all()
    assert np.isnan(filled(make, np.zeros(10, int), np.tile(np.float32([2, 0, 0]), (10, 1))).interval()).all()
    sure = filled(make, np.zeros(10, int), np.tile(np.float32([1000, 0, 0]), (10, 1)))
    assert float(sure.result()) == 0
    assert np.isnan(sure.interval()).all()
    differ = (rng.normal(size=(2000, 1000)) + 3.0 * np.eye(1000)[y]).astype("float32")
    expected = keras_ls.diagnose_predictions(y, differ, from_logits=True, num_resamples=2).estimates[make().name]
    assert math.isfinite(expected.low)
    np.testing.assert_allclose(filled(make, y, differ).interval(), (expected.low, expected.high), rtol=1e-4)


@pytest.mark.parametrize("confidences", [[0.9, 0.9, 0.8, 0.4], [0.1, 0.2, 0.1, 0.9, 0.8, 0.99]])
def test_of_a_few_predictions_they_stay_in_range(confidences):
    p = np.stack([1.0 - np.array(confidences), confidences], -1).astype("float32")
    y = np.zeros(len(p), int)
    metrics = ((keras_ls.BrierScore(), 2.0), (keras_ls.NegativeLogLikelihood(), math.inf))
    for metric, largest in (*metrics, (keras_ls.BrierScore(dtype="bfloat16"), 2.0)):
        metric.update_state(y, p)
        estimate = keras_ls.diagnose_predictions(y, p, num_resamples=2).estimates[metric.name]
        for low, high in (metric.interval(), (estimate.low, estimate.high)):
            assert 0 <= low <= estimate.value + 1e-6 <= high + 2e-6 <= largest + 2e-6 or np.isnan([low, high]).all()


def test_the_upper_limit_may_lie_below_a_plug_in_error_that_is_all_noise():
    rng = np.random.default_rng(0)  # calibrated, ten examples per bin
    confidence = rng.uniform(0.5, 1.0, 10_000)
    y, p = rng.random(10_000) > confidence, np.stack([confidence, 1 - confidence], axis=-1)
    metric = keras_ls.ExpectedCalibrationError(num_bins=2000)
    metric.update_state(y.astype("int32"), p.astype("float32"))
    low, high = metric.interval()
    assert low == 0 < high < float(metric.result())


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_an_error_far_from_zero_is_as_sure_as_a_share(level):
    """One bin of confidence 0.9 and accuracy 0.6: its error varies as the share of hits does."""
    labels, p = np.repeat([0, 1], [600, 400]), np.tile([0.9, 0.1], (1000, 1))
    error = math.sqrt(0.6 * 0.4 / 999)
    z, most = stats.norm.ppf((1 + level) / 2), stats.norm.ppf((3 + level) / 4)
    found = keras_ls.diagnose_predictions(labels, p, level=level, num_resamples=1).estimates
    limits = {name: (found[name].low, found[name].high) for name in ("ece", "ece_equal_mass", "classwise_ece")}
    metric = keras_ls.ExpectedCalibrationError()
    metric.update_state(labels, p.astype("float32"))
    limits["metric"] = metric.interval(level)
    for name, (low, high) in limits.items():
        assert (0.3 - low) / error == pytest.approx(z, rel=0.02), name
        assert z < (high - 0.3) / error <= 1.001 * most, name  # the upper limit shares its tail between two bounds
    root = keras_ls.ExpectedCalibrationError(norm="l2")
    root.update_state(labels, p.astype("float32"))
    squared = 0.09 - error**2
    reach = z * math.sqrt(4 * 0.09 * error**2 + 2 * error**4)
    np.testing.assert_allclose(
        root.interval(level), [math.sqrt(squared - reach), math.sqrt(squared + reach)], rtol=1e-3
    )


def test_of_one_sigmoid_unit_they_are_those_of_two_columns():
    y, z = np.repeat([1, 0], [600, 400]), np.full((1000, 1), np.log(9), "float32")  # a probability of 0.9
    for make in METRICS:
        one, two = filled(make, y, z), filled(make, y, np.concatenate([0 * z, z], axis=-1))
        np.testing.assert_allclose(one.interval(), two.interval(), rtol=1e-5)
    errors = filled(keras_ls.ClasswiseCalibrationError, y, z).per_class()
    np.testing.assert_allclose(errors, [0.3, 0.3], rtol=1e-5)
