"""Risk-coverage curves against the definition, example by example, and scores against float64 formulas."""

import dataclasses
import itertools

import keras
import numpy as np
import pytest

import keras_ls


def expected_risk(correct, scores):
    """The mean over all orders of equal scores of the error rate among the first i + 1."""
    orders = [
        order
        for order in itertools.permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    errors = 1.0 - np.asarray(correct, float)[np.array(orders)]
    return (np.cumsum(errors, axis=1) / np.arange(1, len(scores) + 1)).mean(0)


@pytest.mark.parametrize("seed", range(5))
def test_ties_are_in_random_order(seed):
    rng = np.random.default_rng(seed)
    p = rng.choice([0.6, 0.7, 0.8], 6)
    y = rng.integers(0, 2, 6)
    curve = keras_ls.risk_coverage_curve(y, np.stack([p, 1 - p], -1))
    np.testing.assert_allclose(curve.risk, expected_risk(y == 0, p), rtol=1e-12)
    np.testing.assert_array_equal(curve.coverage, np.arange(1, 7) / 6)
    assert curve.aurc() == pytest.approx(curve.risk.mean())


@pytest.mark.parametrize("seed", range(5))
def test_a_weight_is_the_prediction_so_many_times_among_ties_too(seed):
    rng = np.random.default_rng(seed)
    p, y, w = rng.choice([0.6, 0.7, 0.8], 12), rng.integers(0, 2, 12), rng.integers(1, 4, 12)
    rows = np.stack([p, 1 - p], -1)
    found = keras_ls.risk_coverage_curve(y, rows, sample_weight=w)
    often = keras_ls.risk_coverage_curve(y.repeat(w), rows.repeat(w, axis=0))  # its ties: `expected_risk`
    places = np.round(found.coverage * w.sum()).astype(int) - 1
    np.testing.assert_allclose(found.coverage, (places + 1) / w.sum(), rtol=1e-12)
    np.testing.assert_allclose(found.risk, often.risk[places], rtol=1e-12)


def test_analysis_takes_tensors_of_the_backend(rng):
    z, y = rng.normal(size=(60, 4)).astype("float32"), rng.integers(0, 4, 60)
    w, s = rng.normal(size=(4, 5)).astype("float32"), rng.random(60).astype("float32")

    def diagnosed(z, y, s):
        found = keras_ls.diagnose_predictions(y, z, num_resamples=2, sample_weight=s, from_logits=True)
        return dataclasses.astuple(found.estimates["nll"])

    for of in (
        lambda z, y, w, s: keras_ls.risk_coverage_curve(y, z, True, s, s).risk,
        lambda z, y, w, s: keras_ls.logit_norm_scores(z),
        lambda z, y, w, s: keras_ls.calibration_error(y, z, from_logits=True, sample_weight=s),
        lambda z, y, w, s: dataclasses.astuple(keras_ls.cluster_statistics(z, y, w)),
        lambda z, y, w, s: dataclasses.astuple(keras_ls.neural_collapse(z, y, w)),
        lambda z, y, w, s: keras_ls.ClassPlane(w[:3]).project(z),
        lambda z, y, w, s: diagnosed(z, y, s),
    ):
        np.testing.assert_array_equal(of(*map(keras.ops.convert_to_tensor, (z, y, w, s))), of(z, y, w, s))


def test_the_risk_between_two_coverages_is_that_at_the_larger():
    p = np.array([0.9, 0.8, 0.7, 0.6])
    curve = keras_ls.risk_coverage_curve([0, 1, 0, 1], np.stack([p, 1 - p], -1))
    found = [curve.risk_at(coverage) for coverage in (0.25, 0.26, 0.5, 0.51, 0.76)]
    assert found == pytest.approx([0, 1 / 2, 1 / 2, 1 / 3, 1 / 2])


def test_random_predictions_are_ranked_as_by_sorting():
    rng = np.random.default_rng(0)
    logits, y = rng.normal(size=(5_000, 10)), rng.integers(0, 10, 5_000)
    curve = keras_ls.risk_coverage_curve(y, logits, from_logits=True)
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    order = np.argsort(-(shifted / shifted.sum(-1, keepdims=True)).max(-1), kind="stable")
    wrong = (logits.argmax(-1) != y)[order]
    np.testing.assert_allclose(curve.risk, np.cumsum(wrong) / np.arange(1, 5_001), rtol=1e-12)
    perfect = np.cumsum(np.sort(wrong)) / np.arange(1, 5_001)
    assert curve.excess_aurc() == pytest.approx(curve.risk.mean() - perfect.mean(), rel=1e-9)
    assert curve.risk_at(0.5) == curve.risk[2_499]
    assert curve.risk_at(0.0) == curve.risk[0]
    assert curve.risk_at(1.0) == pytest.approx(wrong.mean())
    reached = curve.coverage_at(0.89)
    assert curve.risk[round(reached * 5_000) - 1] <= 0.89 < curve.risk[round(reached * 5_000) :].min()
    best, none = keras_ls.risk_coverage_curve([1, 1], [0.2, 0.9]), 0.0
    assert best.coverage_at(0.0) == 0.5
    assert keras_ls.risk_coverage_curve([1], [0.1]).coverage_at(0.5) == none


@pytest.mark.parametrize("errors", [0.1, 0.4])
def test_a_ranking_at_random_has_an_excess_that_rises_with_the_errors(errors):
    y = np.arange(10_000) < 10_000 * errors
    curve = keras_ls.risk_coverage_curve(y.astype(int), np.tile([0.6, 0.4], (10_000, 1)))
    assert curve.excess_aurc() == pytest.approx(-(1 - errors) * np.log(1 - errors), rel=1e-3)


@pytest.mark.parametrize("margins", [[60.0, 80.0, 50.0], [800.0, 900.0, 750.0], [1e20, 1e30, 1e10]])
@pytest.mark.parametrize("others", [[0.0], [0.0, -1e30], [0.0, -np.inf]])
def test_logits_far_apart_do_not_tie(margins, others):
    logits = np.array([[margin, *others] for margin in margins])  # probabilities round to 1
    curve = keras_ls.risk_coverage_curve([0, 0, 1], logits, from_logits=True)
    np.testing.assert_allclose(curve.risk, [0, 0, 1 / 3])


def test_weights_are_shares_and_what_is_ignored_does_not_count():
    p, y = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]), np.array([0, 1, 0])
    curve = keras_ls.risk_coverage_curve(y, p, sample_weight=[1.0, 2.0, 1.0])
    np.testing.assert_allclose(curve.coverage, [0.25, 0.75, 1.0])
    np.testing.assert_allclose(curve.risk, [0, 2 / 3, 0.5])
    assert curve.aurc() == pytest.approx(0.5 * 2 / 3 + 0.25 * 0.5)
    assert curve.excess_aurc() == pytest.approx(1 / 6)
    assert [curve.risk_at(coverage) for coverage in (0.25, 0.3, 0.8)] == pytest.approx([0, 2 / 3, 0.5])
    assert [curve.coverage_at(risk) for risk in (0.4, 0.5)] == [0.25, 1.0]
    np.testing.assert_allclose(keras_ls.risk_coverage_curve(y, p, sample_weight=[1, 0, 1]).risk, [0, 0])
    np.testing.assert_allclose(keras_ls.risk_coverage_curve([0, -1, 0], p, ignore_class=-1).risk, [0, 0])
    np.testing.assert_allclose(keras_ls.risk_coverage_curve(y, p, scores=[1.0, 3.0, 2.0]).risk, [1, 0.5, 1 / 3])


def test_nan_and_extremes():
    curve = keras_ls.risk_coverage_curve([0, 1], [[np.nan, 0.0], [1.0, 2.0]], from_logits=True)
    assert np.isnan([curve.aurc(), curve.excess_aurc(), curve.risk_at(0.3), curve.coverage_at(0.3)]).all()
    right = keras_ls.risk_coverage_curve([1, 1], [0.9, 0.8])
    assert (right.aurc(), right.excess_aurc(), right.coverage_at(0.0)) == (0.0, 0.0, 1.0)
    wrong = keras_ls.risk_coverage_curve([0, 0], [0.9, 0.8])
    assert wrong.aurc() == 1.0
    assert wrong.excess_aurc() == pytest.approx(0.0)
    for arguments in ({"scores": [1.0]}, {"from_logits": 3}, {"sample_weight": [0.0, 0.0]}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            keras_ls.risk_coverage_curve([0, 1], [0.2, 0.3], **arguments)
    with pytest.raises(ValueError, match=r"`coverage` must be in \[0, 1\]"):
        right.risk_at(1.5)


@pytest.mark.parametrize("p", [1.0, 2.0, 5.0, 9.0])
def test_logit_norm_scores_are_the_formula(p):
    z = 3 * np.random.default_rng(1).normal(size=(4, 7, 5))
    centred = z - z.mean(-1, keepdims=True)
    expected = centred.max(-1) / np.linalg.norm(centred, ord=p, axis=-1)
    np.testing.assert_allclose(keras_ls.logit_norm_scores(z, p), expected, rtol=1e-12)
    np.testing.assert_allclose(keras_ls.logit_norm_scores(1e200 * z, p), expected, rtol=1e-9)
    forbidden = np.concatenate([z, np.full((4, 7, 1), -np.inf)], -1)
    np.testing.assert_allclose(keras_ls.logit_norm_scores(forbidden, p), expected, rtol=1e-12)


def test_logit_norm_scores_of_awkward_rows():
    rows = [[1.0, 1.0, 1.0], [np.nan, 1.0, 2.0], [np.inf, 1.0, 2.0], [-np.inf] * 3]
    scores = keras_ls.logit_norm_scores(rows)
    assert scores[0] == 0
    assert np.isnan(scores[1:]).all()
    with pytest.raises(ValueError, match="at least 3 classes"):
        keras_ls.logit_norm_scores([[1.0, 2.0]])
    with pytest.raises(ValueError, match="`p` must be at least 1"):
        keras_ls.logit_norm_scores(np.eye(3), p=0.5)


@pytest.mark.parametrize(
    "logits",
    [[[np.inf, 0.0], [1.0, 0.0], [0.0, 2.0]], [[np.nan, np.nan], [0.4, 0.6], [0.7, 0.3]], [[np.inf], [1.0], [2.0]]],
)
@pytest.mark.parametrize("scores", [None, [3.0, 2.0, 1.0]])
def test_predictions_without_a_largest_probability_have_no_risk(logits, scores):
    curve = keras_ls.risk_coverage_curve([0, 1, 1], logits, from_logits=True, scores=scores)
    assert np.isnan(curve.risk).all()
    np.testing.assert_allclose(curve.coverage, [1 / 3, 2 / 3, 1])


def test_infinite_scores_tie():
    sure = [[800.0, 0.0], [800.0, 0.0]]
    for labels in ([0, 1], [1, 0]):
        found = keras_ls.risk_coverage_curve(labels, sure, from_logits=True)
        np.testing.assert_allclose(found.risk, [0.5, 0.5])
        found = keras_ls.risk_coverage_curve(labels, np.array(sure) / 800, from_logits=True, scores=[np.inf, np.inf])
        np.testing.assert_allclose(found.risk, [0.5, 0.5])


def test_scores_have_the_shape_of_the_predictions():
    labels, logits = np.zeros((2, 3), int), np.arange(12.0).reshape(2, 3, 2)
    scores = np.arange(6.0).reshape(2, 3)
    found = keras_ls.risk_coverage_curve(labels, logits, from_logits=True, scores=scores)
    again = keras_ls.risk_coverage_curve(labels, logits, from_logits=True, scores=scores[..., None])
    np.testing.assert_array_equal(found.risk, again.risk)
    with pytest.raises(ValueError, match=r"`scores` must hold .* \(2, 3\). Received shape: \(3, 2\)"):
        keras_ls.risk_coverage_curve(labels, logits, from_logits=True, scores=scores.T)


@pytest.mark.parametrize("value", [0.1, float(np.log(0.1)), 1e30, -7.3])
def test_equal_logits_score_zero(value):
    np.testing.assert_array_equal(keras_ls.logit_norm_scores(np.full((2, 10), value)), 0.0)


@pytest.mark.parametrize("weight", [0.1, 0.7, 3.0])
def test_equal_weights_are_none(weight):
    p = np.linspace(0.95, 0.55, 10)
    rows, y = np.stack([p, 1 - p], -1), np.arange(10) % 2
    plain = keras_ls.risk_coverage_curve(y, rows)
    weighted = keras_ls.risk_coverage_curve(y, rows, sample_weight=np.full(10, weight))
    np.testing.assert_array_equal(weighted.coverage, plain.coverage)
    np.testing.assert_array_equal(weighted.risk, plain.risk)


def test_a_perfect_ranking_has_no_excess():
    for count in range(2, 60):
        for errors in range(count):
            y = np.repeat([0, 1], [count - errors, errors])
            p = np.linspace(0.99, 0.51, count)
            assert 0 <= keras_ls.risk_coverage_curve(y, np.stack([p, 1 - p], -1)).excess_aurc() < 1e-12


def test_scores_of_what_does_not_count_are_left_out():
    p = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]
    for y, options in (([0, -1, 1], {"ignore_class": -1}), ([0, 0, 1], {"sample_weight": [1, 0, 1]})):
        curve = keras_ls.risk_coverage_curve(y, p, scores=[1.0, 9.0, 2.0], **options)
        np.testing.assert_allclose(curve.risk, [1, 0.5])
