"""Intervals against SciPy, simulation from known truths, and what few examples allow."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from keras_ls import diagnose_predictions
from keras_ls._intervals import (
    folding_bias,
    mean_interval,
    normal_quantile,
    share_interval,
    student_quantile,
    wilson_interval,
)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_quantiles(level):
    assert normal_quantile(level) == pytest.approx(stats.norm.ppf((1 + level) / 2))
    for degrees in (1, 2, 4, 10, 50, 1000):
        assert student_quantile(level, degrees) == pytest.approx(stats.t.ppf((1 + level) / 2, degrees), rel=2e-2)
    assert student_quantile(level, 0) == math.inf


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (3, 10), (10, 10), (120, 1000)])
def test_wilson(hits, trials):
    expected = stats.binomtest(hits, trials).proportion_ci(0.9, method="wilson")
    np.testing.assert_allclose(wilson_interval(hits / trials, trials, normal_quantile(0.9)), expected, atol=1e-12)
    found = share_interval(np.repeat([1.0, 0.0], [hits, trials - hits]), np.ones(trials), 0.9)
    assert found[0] == hits / trials
    np.testing.assert_allclose(found[1:], expected, rtol=1e-9)


def test_positions_of_an_example_count_once(rng):
    hits = rng.integers(0, 2, 200).astype(float)
    once = share_interval(hits, np.ones(200), 0.95)
    np.testing.assert_allclose(share_interval(7 * hits, np.full(200, 7.0), 0.95), once, rtol=1e-12)
    np.testing.assert_allclose(
        mean_interval(7 * hits, np.full(200, 7.0), 0.95), mean_interval(hits, 1 + 0 * hits, 0.95)
    )


def test_a_large_sample_has_the_normal_interval(rng):
    values, weight = rng.exponential(size=40_000), rng.integers(1, 4, 40_000).astype(float)
    mean = np.average(values, weights=weight)
    error = np.sqrt(np.square(weight * (values - mean)).sum()) / weight.sum()
    for level in (0.5, 0.95, 0.99):
        _, low, high = mean_interval(weight * values, weight, level)
        z = stats.norm.ppf((1 + level) / 2)
        np.testing.assert_allclose([(low - mean) / error, (high - mean) / error], [-z, z], atol=0.05)


def test_heavy_examples_that_are_all_right_do_not_make_a_share_surer():
    weight = np.repeat([50.0, 1.0], [10, 90])
    hits = weight * np.repeat([1.0, 0.0], [55, 45])
    effective = weight.sum() ** 2 / np.square(weight).sum()
    share, low, high = share_interval(hits, weight, 0.95)
    assert (low, high) == wilson_interval(share, effective, normal_quantile(0.95))


def test_steps_that_fail_together_widen_the_calibration_error():
    rng, above = np.random.default_rng(0), 0
    for _ in range(100):
        confidence, hit = rng.uniform(0.6, 1.0, (20, 100)), np.repeat(rng.random((20, 1)) < 0.6, 100, 1)
        found = diagnose_predictions(~hit, np.stack([confidence, 1 - confidence], -1), num_resamples=1)
        above += found.estimates["ece_equal_mass"].high < 0.2  # the truth
    assert above <= 20  # 27 as if bins were independent


def test_steps_that_fail_together_name_no_class_of_calibrated_predictions():
    rng, off, steps = np.random.default_rng(0), 0, np.linspace(0.52, 0.98, 15)
    for _ in range(100):
        wrong, flip = rng.random((40, 1)) >= steps, rng.random((40, 15)) < 0.5
        p = np.where(flip, 1 - steps, steps)
        found = diagnose_predictions((p < 0.5) != wrong, np.stack([p, 1 - p], -1), num_resamples=1)
        off += next(each for each in found.findings if each.topic == "classes").verdict != "none shown to be off"
    assert off <= 1  # 2 if bins were independent


def test_a_skewed_mean_is_covered_where_the_normal_interval_fails():
    rng = np.random.default_rng(0)
    truth, hits, normal = math.exp(0.5 * 1.2**2), 0, 0
    for _ in range(500):
        values = np.exp(1.2 * rng.normal(size=100))
        _, low, high = mean_interval(values, np.ones(100), 0.95)
        hits += low <= truth <= high
        error = 1.96 * values.std(ddof=1) / 10
        normal += abs(values.mean() - truth) <= error
    assert hits / 500 > 0.915 > normal / 500


def test_the_bias_of_folding():
    for gap, deviation in ((0.0, 0.1), (0.35, 0.1), (-0.6, 0.2)):
        a = max(0.0, abs(gap) / deviation - 2)
        expected = integrate.quad(lambda z, a=a: abs(a + z) * stats.norm.pdf(z), -12, 12, points=[-a])[0] - a
        assert folding_bias(np.array(gap), np.array(deviation)) == pytest.approx(deviation * expected, rel=1e-6)
    assert folding_bias(np.zeros(1), np.zeros(1)) == 0
