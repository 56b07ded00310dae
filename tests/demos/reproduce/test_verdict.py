"""The rule of the report, against a t-interval by SciPy and by hand."""

import numpy as np
import pytest
from scipy import stats

from demos.reproduce import verdict
from demos.reproduce.experiment import NEARER_TO_1, Claim, Number
from demos.reproduce.verdict import AGREES, CANNOT_TELL, DISAGREES

BELOW, ABOVE = Claim("", "a", "below", "b"), Claim("", "a", "above", "b")


def test_quantiles_are_those_of_students_t():
    degrees = np.arange(1, len(verdict.QUANTILES) + 1)
    np.testing.assert_allclose(verdict.QUANTILES, stats.t.ppf(0.975, degrees), atol=5e-4)


def test_the_interval_is_that_of_students_t():
    values = [0.1, 0.4, 0.3]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    found = verdict.interval(values)
    assert (found.mean, found.half_width) == (
        pytest.approx((low + high) / 2),
        pytest.approx((high - low) / 2, rel=1e-4),
    )


@pytest.mark.parametrize(
    ("differences", "below", "above"),
    [
        ([-0.10, -0.11, -0.12], AGREES, DISAGREES),
        ([0.10, 0.11, 0.12], DISAGREES, AGREES),
        ([-0.1, 0.1, 0.0], CANNOT_TELL, CANNOT_TELL),
        ([-0.5], CANNOT_TELL, CANNOT_TELL),
        ([-0.5, -0.5], AGREES, DISAGREES),
        ([0.0, 0.0], CANNOT_TELL, CANNOT_TELL),
        ([], CANNOT_TELL, CANNOT_TELL),
    ],
)
def test_agrees_where_the_whole_interval_does(differences, below, above):
    numbers = {"a": {seed: 1.0 + d for seed, d in enumerate(differences)}, "b": dict.fromkeys(range(9), 1.0)}
    assert verdict.judge(BELOW, numbers).word == below
    assert verdict.judge(ABOVE, numbers).word == above


@pytest.mark.parametrize(("chosen", "word"), [([2.0, 2.0, 2.0], CANNOT_TELL), ([2.0, 2.0, 1.9], AGREES)])
def test_the_same_choice_of_all_seeds_decides_nothing(chosen, word):
    numbers = {"a": dict(enumerate(chosen))}
    assert verdict.judge(Claim("", "a", "above", 1.0), numbers, coarse=["a"]).word == word
    assert verdict.judge(Claim("", "a", "above", 1.0), numbers).word == AGREES


def test_networks_of_the_same_seed_are_compared():
    numbers = {"a": {0: 1.0, 1: 2.0, 2: 3.0, 7: 99.0}, "b": {2: 3.11, 1: 2.1, 0: 1.09, 8: -99.0}}
    assert verdict.judge(BELOW, numbers).word == AGREES


def test_a_margin_and_a_constant_move_the_other_side():
    numbers = {"a": {0: 0.030, 1: 0.031}, "b": {0: 0.02, 1: 0.021}}
    assert verdict.judge(BELOW, numbers).word == DISAGREES
    assert verdict.judge(Claim("", "a", "below", "b", by=0.013), numbers).word == AGREES
    assert verdict.judge(Claim("", "a", "above", 0.02), numbers).word == AGREES
    says = verdict.judge(Claim("", "a", "below", 0.02, by=0.1), numbers).why
    assert says.startswith("a is 0.0305 (95 % interval: 0.02415 to 0.03685")
    assert says.endswith("claimed: below 0.12")
    says = verdict.judge(Claim("", "a", "above", "b", by=-0.01), numbers).why
    assert says == "a − b is 0.01 (95 % interval: 0.01 to 0.01, 2 seeds); claimed: above -0.01"


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [(0.8, 0.9, AGREES), (1.25, 0.95, AGREES), (0.9, 0.8, DISAGREES), (0.9, 1.2, DISAGREES), (1.1, 1.3, DISAGREES)],
)
def test_a_ratio_is_nearer_to_1_on_either_side(before, after, word):
    numbers = {name: {seed: x + 0.001 * seed for seed in range(3)} for name, x in (("a", after), ("b", before))}
    assert verdict.judge(Claim("", "a", NEARER_TO_1, "b"), numbers).word == word


def test_numbers_are_found_in_rows():
    rows = [
        {
            "demo": "d",
            "seed": 0,
            "label_smoothing": 0.0,
            "name": "teacher/x",
            "a": {"b": [0.1, None, 0.3, 0.2], "c": [3, 0, 1, 2]},
        },
        {"demo": "d", "seed": 1, "label_smoothing": 0.0, "name": "teacher/x", "a": {"b": [0.4, 0.1], "c": [1, 1]}},
        {"demo": "d", "seed": 2, "label_smoothing": 0.1, "name": "teacher/x", "a": {"b": [0.5]}},
        {"demo": "d", "seed": 3, "label_smoothing": 0.0, "name": "student/x", "a": {"b": [0.5]}},
        {"demo": "e", "seed": 4, "label_smoothing": 0.0, "name": "teacher/x", "a": {"b": [0.5]}},
        {"demo": "d", "seed": 5, "label_smoothing": 0.0, "name": "teacher/x"},
    ]
    where = {"label_smoothing": 0, "name": "teacher/"}
    means = {"demo": "d", "seed": 0, "c": [1.0, None, 2.0, 6.0], "d": [3.0], "e": []}
    for path, expected in (
        ("c.half", 2.0),
        ("e.half", None),
        ("c.mean2.max", 4.0),
        ("c.mean2.0", 1.5),
        ("d.mean2.-1", 3.0),
        ("e.mean2.max", None),
    ):
        found = verdict.values(Number("x", "d", path, {}), [means])
        assert found == ({} if expected is None else {0: expected}), path
    for path, found in (("a.b.max", {0: 0.3, 1: 0.4}), ("a.b.min", {0: 0.1, 1: 0.1}), ("a.b.-1", {0: 0.2, 1: 0.1})):
        assert verdict.values(Number("", "d", path, where), rows) == found
    assert verdict.values(Number("", "d", "a.b.-1", where, unit="error %"), rows) == {0: 80.0, 1: 90.0}
    assert verdict.values(Number("", "d", "a.b.1", where), rows) == {1: 0.1}  # null is left out
    # Where the second is least, 0, the first is null, and left out; of equals the first counts. Other rows have no c.
    assert verdict.values(Number("", "d", "a.b@c", where), rows) == {0: 0.3, 1: 0.4}
    assert verdict.values(Number("", "d", "a.b@-c", where), rows) == {0: 0.1, 1: 0.4}


def test_the_gap_of_a_curve_is_that_of_its_examples():
    confidence, right = np.array([0.55, 0.58, 0.9, 0.95, 0.99]), np.array([1, 0, 1, 1, 0])
    ids = [[0, 1], [], [2, 3, 4]]
    curve = {
        "confidence": [confidence[i].mean() if i else None for i in ids],
        "accuracy": [right[i].mean() if i else None for i in ids],
        "count": [float(len(i)) for i in ids],
    }
    found = verdict.values(Number("x", "d", "curve.gap", {}, unit="%"), [{"demo": "d", "seed": 0, "curve": curve}])
    assert found == {0: pytest.approx(100 * (confidence.mean() - right.mean()))}
    empty = {"confidence": [None], "accuracy": [None], "count": [0.0]}
    assert verdict.values(Number("x", "d", "curve.gap", {}), [{"demo": "d", "seed": 0, "curve": empty}]) == {}


def test_digits_follow_the_spread():
    assert str(verdict.interval([0.1234, 0.1236])) == "0.1235 ± 0.0013"
    assert str(verdict.interval([0.1234])) == "0.1234"
