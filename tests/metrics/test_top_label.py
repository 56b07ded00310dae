"""The most probable class and class-wise sums, by whatever way the backend takes, against their definitions."""

import numpy as np
import pytest
import reference
from harness import compiled, numpy
from keras import ops

from keras_ls.metrics import ClasswiseCalibrationError, ExpectedCalibrationError
from keras_ls.metrics._top_label import top_label

CLASSES = 6


def logits_of(kind, rng):
    """(60, 6) float32 logits."""
    logits = rng.normal(size=(60, CLASSES)).astype("float32")
    if kind == "ties":
        return np.round(logits)
    if kind == "equal":
        return np.zeros_like(logits)
    if kind == "a rounding apart":  # so that their exponentials are the same number
        return np.float32(1) + rng.integers(0, 3, logits.shape).astype("float32") * np.float32(1.2e-7)
    if kind == "huge":  # finite, with a sum that is not
        return np.abs(logits) * np.float32(1e38)
    return logits * 200 if kind == "saturated" else logits * 3


def labels_of(logits, rng):
    """Often the first of the largest, else any class."""
    return np.where(rng.random(len(logits)) < 0.5, logits.argmax(axis=1), rng.integers(0, CLASSES, len(logits)))


def expected(rows, labels, from_logits):
    with np.errstate(over="ignore", invalid="ignore"):
        probabilities = reference.softmax(rows) if from_logits else rows.astype("float64")
        valid = np.isfinite(rows) if from_logits else (rows >= 0) & (rows <= np.float32(1.01))
    valid = valid.all(axis=1)
    confidence = np.where(valid, probabilities.max(axis=1), np.nan)
    return confidence, rows.argmax(axis=1) == labels, valid


def check(rows, labels, from_logits, fn):
    confidence, correct, valid = expected(rows, labels, from_logits)
    found = fn(ops.convert_to_tensor(rows), ops.convert_to_tensor(labels.astype("int32")), from_logits)
    np.testing.assert_allclose(numpy(found[0]), confidence, rtol=3e-6)
    np.testing.assert_array_equal(numpy(found[1])[valid], correct[valid])


@pytest.mark.parametrize("kind", ["random", "ties", "equal", "a rounding apart", "huge", "saturated"])
def test_ties_go_to_the_first_class(kind, rng):
    logits = logits_of(kind, rng)
    labels = labels_of(logits, rng)
    check(logits, labels, True, top_label)
    # In single precision saturated rows hold exact zeros and ones, and near ones become equal.
    probabilities = reference.softmax(logits).astype("float32")
    check(probabilities, labels_of(probabilities, rng), False, top_label)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -0.1, 1.02])
def test_a_bad_entry_spoils_its_row_alone(bad, rng):
    probabilities = reference.softmax(logits_of("random", rng)).astype("float32")
    probabilities[7, rng.integers(CLASSES)] = bad
    check(probabilities, rng.integers(0, CLASSES, 60), False, top_label)
    if not np.isfinite(bad):
        logits = logits_of("ties", rng)
        logits[7, rng.integers(CLASSES)] = bad
        check(logits, rng.integers(0, CLASSES, 60), True, top_label)


def test_minus_zero_and_a_little_above_1_are_probabilities(rng):
    probabilities = reference.softmax(logits_of("random", rng)).astype("float32")
    probabilities[::2, 0] = -0.0
    probabilities[::3] = 0.0
    probabilities[::3, 2] = np.nextafter(np.float32(1.01), np.float32(0))
    check(probabilities, rng.integers(0, CLASSES, 60), False, top_label)


def test_compiled_for_any_number_of_rows(rng):
    def of_both(logits, labels):
        return (*top_label(logits, labels, True), *top_label(ops.softmax(logits), labels, False))

    run = compiled(of_both)
    for count in (60, 1, 0):
        logits = logits_of("ties", rng)[:count]
        labels = labels_of(logits, rng)
        found = run(ops.convert_to_tensor(logits), ops.convert_to_tensor(labels.astype("int32")))
        for confidence, correct in (found[:2], found[2:]):
            np.testing.assert_allclose(numpy(confidence), reference.softmax(logits).max(axis=1, initial=0), rtol=3e-6)
            np.testing.assert_array_equal(numpy(correct), logits.argmax(axis=1) == labels)


@pytest.mark.parametrize("num_bins", [1, 2, 15])
@pytest.mark.parametrize("rows", ["concentrated", "spread", "one-hot"])
def test_classwise_sums(num_bins, rows, rng):
    # More rows than are added up one by one.
    logits = rng.normal(size=(1100, CLASSES)) * {"concentrated": 20, "spread": 0.1, "one-hot": 1e4}[rows]
    labels, weights = labels_of(logits, rng), rng.random(1100) * (rng.random(1100) < 0.8)
    probabilities = reference.softmax(logits).astype("float32")
    metric = ClasswiseCalibrationError(num_bins)
    metric.update_state(labels, probabilities, weights.astype("float32"))
    for k in range(CLASSES):
        sums = reference.bin_sums(probabilities[:, k], labels == k, num_bins, weights)
        np.testing.assert_allclose(numpy(metric._sums())[:, k], sums, rtol=2e-6, atol=2e-5)
    error = reference.classwise_calibration_error(labels, probabilities, num_bins, weights)
    np.testing.assert_allclose(float(metric.result()), error, rtol=1e-5, atol=1e-6)


def test_a_probability_on_an_edge_is_in_the_bin_that_ends_there():
    probabilities = np.array([[0.25, 0.75], [0.5, 0.5], [0.75, 0.25], [0.0, 1.0], [0.1, 0.9]], "float32")
    labels = np.array([1, 0, 0, 1, 0])
    metric = ClasswiseCalibrationError(4)
    metric.update_state(labels, probabilities)
    for k in range(2):
        sums = reference.bin_sums(probabilities[:, k], labels == k, 4)
        np.testing.assert_allclose(numpy(metric._sums())[:, k], sums, rtol=1e-6)


@pytest.mark.parametrize("make", [ExpectedCalibrationError, ClasswiseCalibrationError])
@pytest.mark.parametrize("from_logits", [False, True])
def test_what_does_not_count_may_hold_anything(make, from_logits, rng):
    logits = logits_of("random", rng)
    labels, weights = labels_of(logits, rng), np.ones(60, "float32")
    rows = logits if from_logits else reference.softmax(logits).astype("float32")
    clean, spoilt = make(from_logits=from_logits), make(from_logits=from_logits)
    clean.update_state(labels[5:], rows[5:])
    rows[:5], weights[:5] = np.nan, 0
    spoilt.update_state(labels, rows, weights)
    np.testing.assert_allclose(float(spoilt.result()), float(clean.result()), rtol=1e-5)
