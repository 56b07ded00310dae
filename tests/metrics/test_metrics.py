"""Calibration metrics against float64 references, what counts and what does not, awkward inputs, and peers."""

import itertools

import keras
import numpy as np
import pytest
import reference
from harness import BACKEND, assert_config_round_trip, compiled, needs_graph, numpy
from keras import ops
from metric_references import METRICS, each_metric

from keras_ls._backend import set_mask
from keras_ls.calibration import reliability_curve
from keras_ls.metrics import (
    BrierScore,
    ClasswiseCalibrationError,
    ExpectedCalibrationError,
    NegativeLogLikelihood,
    bin_statistics,
)

WIDE = "float32" if BACKEND == "jax" else "float64"  # Keras leaves JAX without 64-bit types
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


def make_case(rng, n=200, num_classes=5):
    """Labels and probabilities that are neither right nor calibrated."""
    logits = rng.normal(size=(n, num_classes)) * 2
    labels = np.where(rng.random(n) < 0.6, logits.argmax(-1), rng.integers(0, num_classes, n))
    return labels, reference.softmax(logits).astype("float32")


def reference_of_logits(name, labels, logits):
    if name == "nll":
        return reference.nll_of_logits(labels, logits)
    return METRICS[name][1](labels, reference.softmax(logits))


def measure(metric, *args, **kwargs):
    metric.update_state(*args, **kwargs)
    return float(metric.result())


# What the numbers are


@each_metric
@pytest.mark.parametrize("num_classes", [2, 5, 40])
def test_values_of_probabilities_and_logits(name, num_classes, rng):
    make, expected = METRICS[name]
    labels, probs = make_case(rng, num_classes=num_classes)
    np.testing.assert_allclose(measure(make(), labels, probs), expected(labels, probs), **TOLERANCE)
    logits = rng.normal(size=probs.shape).astype("float32") * 4
    wanted = reference_of_logits(name, labels, logits)
    np.testing.assert_allclose(measure(make(from_logits=True), labels, logits), wanted, **TOLERANCE)


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize("num_bins", [1, 2, 10, 15, 100, 5000])
def test_ece_norms_and_bins(norm, num_bins, rng):
    labels, probs = make_case(rng)
    metric = ExpectedCalibrationError(num_bins, norm)
    assert tuple(metric.variables[0].shape) == (num_bins, 4)
    wanted = reference.expected_calibration_error(labels, probs, num_bins, norm)
    np.testing.assert_allclose(measure(metric, labels, probs), wanted, **TOLERANCE)


@pytest.mark.parametrize("num_bins", [1, 3, 100])
def test_classwise_bins(num_bins, rng):
    labels, probs = make_case(rng)
    metric = ClasswiseCalibrationError(num_bins)
    wanted = reference.classwise_calibration_error(labels, probs, num_bins)
    np.testing.assert_allclose(measure(metric, labels, probs), wanted, **TOLERANCE)
    assert tuple(metric.variables[0].shape) == (num_bins, 5, 4)


def test_one_bin_is_confidence_less_accuracy(rng):
    labels, probs = make_case(rng)
    gap = abs(probs.max(-1).astype("float64").mean() - (probs.argmax(-1) == labels).mean())
    np.testing.assert_allclose(measure(ExpectedCalibrationError(1), labels, probs), gap, **TOLERANCE)


@pytest.mark.parametrize("num_bins", [1, 2, 3, 5, 7, 10, 15, 20, 49, 100])
@pytest.mark.parametrize("dtype", ["float32", WIDE])
def test_confidences_on_every_edge(num_bins, dtype):
    confidence = np.concatenate([[0.0], [np.float32(k / num_bins) for k in range(1, num_bins + 1)]]).astype("float32")
    counts = np.ones(num_bins)
    counts[0] = 2  # 0 joins the first bin
    sums = numpy(bin_statistics(confidence.astype(dtype), np.ones(num_bins + 1), np.ones(num_bins + 1), num_bins))
    np.testing.assert_array_equal(sums[:, 0], counts)
    metric = ExpectedCalibrationError(num_bins, dtype=dtype)
    rows = np.stack([confidence, np.zeros_like(confidence)], axis=-1)
    labels = np.arange(len(rows)) % 2
    wanted = reference.expected_calibration_error(labels, rows, num_bins)
    np.testing.assert_allclose(measure(metric, labels, rows), wanted, **TOLERANCE)
    np.testing.assert_array_equal(numpy(metric.variables[0])[:, 0], counts)


def test_just_above_an_edge_is_the_next_bin():
    confidence = np.nextafter(np.float32(0.6), np.float32(1))
    sums = numpy(bin_statistics(np.array([confidence]), np.ones(1), np.ones(1), num_bins=5))
    np.testing.assert_array_equal(sums[:, 0], [0, 0, 0, 1, 0])


@each_metric
def test_perfect_predictions_cost_nothing(name):
    labels = np.arange(12) % 3
    assert measure(METRICS[name][0](), labels, np.eye(3, dtype="float32")[labels]) <= 2e-7


def test_a_probability_rounded_above_1_has_no_negative_cost():
    assert measure(NegativeLogLikelihood(), np.array([0]), np.array([[1.0000005, 0.0]], "float32")) > 0


@each_metric
def test_one_unit_rounded_above_1(name):
    found = measure(METRICS[name][0](), np.array([1, 0]), np.array([[1.0000001], [0.25]], "float32"))
    assert found == pytest.approx(measure(METRICS[name][0](), np.array([1, 0]), np.array([[1.0], [0.25]])), abs=1e-5)


def test_hopeless_predictions():
    certain, wrong = np.array([[1.0, 0.0]] * 4, "float32"), np.ones(4, "int64")
    np.testing.assert_allclose(measure(NegativeLogLikelihood(), wrong, certain), -np.log(1e-7), rtol=1e-5)
    np.testing.assert_allclose(measure(NegativeLogLikelihood(from_logits=True), wrong, certain * 1e4), 1e4, rtol=1e-6)
    assert measure(BrierScore(), wrong, certain) == 2.0
    assert measure(ExpectedCalibrationError(norm="max"), wrong, certain) == 1.0


@pytest.mark.parametrize("doubt", [1e-2, 1e-3, 1e-5])
def test_brier_of_near_perfect_predictions(doubt):
    rows = np.tile(np.array([1 - doubt, doubt / 2, doubt / 2], "float32"), (50, 1))
    labels = np.zeros(50, "int64")
    np.testing.assert_allclose(measure(BrierScore(), labels, rows), reference.brier(labels, rows), rtol=1e-5)


@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_nll_of_logits_is_exact_far_from_zero(shift, rng):
    logits = (rng.normal(size=(64, 6)) * 3 + shift).astype("float32")
    labels = rng.integers(0, 6, 64)
    wanted = reference.nll_of_logits(labels, logits)
    np.testing.assert_allclose(measure(NegativeLogLikelihood(from_logits=True), labels, logits), wanted, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@each_metric
def test_half_precision_logits(name, dtype, rng):
    make, _ = METRICS[name]
    logits = ops.cast(ops.convert_to_tensor((rng.normal(size=(300, 7)) * 1e4).astype("float32")), dtype)
    labels = rng.integers(0, 7, 300)
    exact = numpy(logits).astype("float64")  # rounding the logits is not the metric's doing
    wanted = reference_of_logits(name, labels, exact)
    np.testing.assert_allclose(measure(make(from_logits=True), labels, logits), wanted, **TOLERANCE)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_probabilities_on_every_edge(dtype):
    confidence = ops.cast(ops.convert_to_tensor(np.arange(8, 16) / 15, "float32"), dtype)  # some above b/15, some below
    probs = ops.stack([1 - confidence, confidence], axis=-1)
    labels = np.arange(8) % 2
    curve = reliability_curve(labels, probs)
    np.testing.assert_array_equal(curve.count[7:], np.ones(8))
    np.testing.assert_allclose(measure(ExpectedCalibrationError(), labels, probs), curve.ece(), **TOLERANCE)
    metric = ClasswiseCalibrationError()
    metric.update_state(labels, probs)
    np.testing.assert_array_equal(numpy(metric.variables[0])[7:, 1, 0], np.ones(8))


@each_metric
def test_half_precision_metric_counts_in_float32(name, rng):
    make, expected = METRICS[name]
    labels, probs = make_case(rng, n=1500)
    metric = make(dtype="bfloat16")
    for start in range(0, 1500, 30):
        metric.update_state(labels[start : start + 30], probs[start : start + 30])
    assert keras.backend.standardize_dtype(metric.result().dtype) == "bfloat16"
    np.testing.assert_allclose(numpy(metric.result()), expected(labels, probs), rtol=4e-3)


@each_metric
def test_a_single_batch_of_100_000(name, rng):
    n = 100_000
    confidence = rng.uniform(0.9, 1.0, n).astype("float32")
    probs = np.stack([confidence, 1 - confidence], axis=-1)
    labels = (rng.random(n) < 0.2).astype("int64")
    hits, wide = labels == 0, probs.astype("float64")
    upper = confidence > np.float32(14 / 15)
    gaps = [abs((hits[bin_] - wide[bin_, 0]).sum()) / n for bin_ in (upper, ~upper)]
    wanted = {
        "ece": sum(gaps),
        "classwise_ece": sum(gaps),  # the two columns are each other's complement
        "nll": -np.log(np.minimum(wide[np.arange(n), labels], 1 - 1e-7)).mean(),
        "brier": ((wide - np.eye(2)[labels]) ** 2).sum(-1).mean(),
    }[name]
    np.testing.assert_allclose(measure(METRICS[name][0](), labels, probs), wanted, rtol=0, atol=1e-6)


@each_metric
def test_50_000_classes(name, rng):
    logits = rng.normal(size=(4, 50_000)).astype("float32")
    labels = np.array([0, 49_999, 257, 30_001])
    wanted = reference_of_logits(name, labels, logits) if name != "classwise_ece" else None
    if wanted is None:  # the reference would take minutes; here every probability lies in the first bin
        probs = reference.softmax(logits)
        assert probs.max() < 1 / 15
        hits = np.zeros_like(probs)
        hits[np.arange(4), labels] = 1
        wanted = np.abs((hits - probs).sum(0)).mean() / 4
    for given in (labels, labels.astype("float32")):
        np.testing.assert_allclose(measure(METRICS[name][0](from_logits=True), given, logits), wanted, rtol=1e-5)


# What counts


@each_metric
def test_label_forms(name, rng):
    make, expected = METRICS[name]
    labels, probs = make_case(rng)
    wanted = expected(labels, probs)
    forms = [labels.astype("uint8"), labels.astype("float32"), labels[:, None], np.eye(5)[labels], list(labels)]
    forms += [np.eye(5, dtype="int32")[labels], np.eye(5, dtype=bool)[labels], np.eye(5)[labels] * 0.9 + 0.02]
    for given in forms:
        np.testing.assert_allclose(measure(make(), given, probs), wanted, **TOLERANCE)


@each_metric
def test_leading_dimensions(name, rng):
    make, expected = METRICS[name]
    labels, probs = make_case(rng, n=24)
    weight = rng.random(24)
    wanted = expected(labels, probs, weights=weight)
    for lead in [(24,), (4, 6), (2, 3, 4), (24, 1)]:
        rows, ids, weights = probs.reshape(*lead, 5), labels.reshape(lead), weight.reshape(lead)
        for y_true in (ids, ids[..., None], np.eye(5)[ids]):
            for sample_weight in (weights, weights[..., None]):
                value = measure(make(), y_true, rows, sample_weight=sample_weight)
                np.testing.assert_allclose(value, wanted, **TOLERANCE)


@each_metric
def test_sample_weights_broadcast(name, rng):
    make, expected = METRICS[name]
    labels, probs = make_case(rng, n=24)
    rows, ids = probs.reshape(4, 6, 5), labels.reshape(4, 6)
    of_row, of_step = rng.random(4), rng.random(6)
    for given, full in [
        (of_row, np.repeat(of_row, 6)),
        (of_row[:, None], np.repeat(of_row, 6)),
        (of_step[None], np.tile(of_step, 4)),
        (0.5, np.full(24, 0.5)),
    ]:
        value = measure(make(), ids, rows, sample_weight=given)
        np.testing.assert_allclose(value, expected(labels, probs, weights=full), **TOLERANCE)


@each_metric
def test_weight_2_is_a_repeated_row_and_order_is_free(name, rng):
    make, _ = METRICS[name]
    labels, probs = make_case(rng)
    repeats = rng.integers(0, 3, len(labels))
    repeated = measure(make(), np.repeat(labels, repeats), np.repeat(probs, repeats, axis=0))
    np.testing.assert_allclose(measure(make(), labels, probs, sample_weight=repeats), repeated, **TOLERANCE)
    order = rng.permutation(len(labels))
    shuffled = measure(make(), labels[order], probs[order], sample_weight=repeats[order])
    np.testing.assert_allclose(shuffled, repeated, **TOLERANCE)


@each_metric
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("from_logits", [False, True])
def test_what_does_not_count_has_no_influence(name, bad, from_logits, rng):
    make, _ = METRICS[name]
    labels, probs = make_case(rng, n=12)
    keep = np.arange(12) % 3 != 0
    rows, ids = np.where(keep[:, None], probs, bad).astype("float32"), np.where(keep, labels, -7)
    wanted = pytest.approx(measure(make(from_logits=from_logits), labels[keep], probs[keep]), rel=1e-6)

    assert measure(make(from_logits=from_logits), ids, rows, sample_weight=keep.astype("float32")) == wanted
    ignoring = make(from_logits=from_logits, ignore_class=-7)
    assert measure(ignoring, ids, rows) == wanted
    masked = ops.convert_to_tensor(rows)
    set_mask(masked, ops.convert_to_tensor(keep))
    assert measure(make(from_logits=from_logits), ids, masked) == wanted
    unlabelled = np.eye(5)[labels] * keep[:, None]
    assert measure(make(from_logits=from_logits), unlabelled, rows) == wanted


@each_metric
def test_mask_weights_and_ignored_class_together(name, rng):
    make, expected = METRICS[name]
    labels, probs = make_case(rng, n=24)
    weight = rng.random(4)
    mask = rng.random((4, 6)) < 0.7
    y_pred = ops.convert_to_tensor(probs.reshape(4, 6, 5))
    set_mask(y_pred, ops.convert_to_tensor(mask))
    value = measure(make(ignore_class=2), labels.reshape(4, 6), y_pred, sample_weight=weight)
    full = np.repeat(weight, 6) * mask.ravel() * (labels != 2)
    np.testing.assert_allclose(value, expected(labels, probs, weights=full), **TOLERANCE)


@each_metric
def test_nothing_seen_is_0(name):
    make, _ = METRICS[name]
    metric = make(ignore_class=0)
    assert float(metric.result()) == 0.0
    metric.reset_state()
    rows = np.full((3, 4), 0.25, "float32")
    assert measure(metric, np.zeros(3, "int64"), rows) == 0.0
    assert measure(metric, np.ones(3, "int64"), rows, sample_weight=np.zeros(3)) == 0.0
    assert measure(metric, np.zeros(0, "int64"), rows[:0]) == 0.0
    all_masked = ops.convert_to_tensor(rows)
    set_mask(all_masked, ops.zeros((3,), dtype="bool"))
    assert measure(metric, np.ones(3, "int64"), all_masked) == 0.0


# Streaming


@each_metric
def test_ragged_batches_equal_one_pass(name, rng):
    make, expected = METRICS[name]
    labels, probs = make_case(rng, n=500)
    metric, cuts = make(), [0, 1, 40, 40, 79, 118, 119, 500]
    shapes = set()
    for start, stop in itertools.pairwise(cuts):
        metric.update_state(labels[start:stop], probs[start:stop])
        shapes.add(tuple(tuple(variable.shape) for variable in metric.variables))
    np.testing.assert_allclose(float(metric.result()), expected(labels, probs), **TOLERANCE)
    assert len(shapes) == 1
    metric.reset_state()
    assert float(metric.result()) == 0.0
    value = measure(metric, labels[:50], probs[:50])
    np.testing.assert_allclose(value, expected(labels[:50], probs[:50]), **TOLERANCE)


@pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in METRICS), ("ece", {"norm": "l2"}), ("ece", {"norm": "max"})]
)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_predictions_give_nan_until_reset(name, options, bad, rng):
    make, expected = METRICS[name]
    labels, probs = make_case(rng, n=30)
    for column in (0, 4):
        broken = probs.copy()
        broken[7, column] = bad
        for from_logits in (False, True):
            metric = make(from_logits=from_logits, **options)
            assert np.isnan(measure(metric, labels, broken))
            assert np.isnan(measure(metric, labels, probs))
    metric = make()
    metric.update_state(labels, broken)
    metric.reset_state()
    np.testing.assert_allclose(measure(metric, labels, probs), expected(labels, probs), **TOLERANCE)
    targets = np.eye(5)[labels]
    targets[3, 1] = np.nan
    assert np.isnan(measure(make(), targets, probs))


# Compiled, saved, refused


@needs_graph
@pytest.mark.parametrize("jit", [False, True])
def test_nan_surfaces_from_a_compiled_maximum(jit, rng):
    labels, probs = make_case(rng, n=50)
    probs[7, 0] = np.nan
    run = stateless(ExpectedCalibrationError(norm="max"), jit)
    assert np.isnan(numpy(run(ops.convert_to_tensor(labels), ops.convert_to_tensor(probs))))


def stateless(metric, jit):
    """The metric's update and result as one compiled function of a batch."""
    start = [ops.zeros(v.shape, v.dtype) for v in metric.variables]

    def run(y_true, y_pred):
        return metric.stateless_result(metric.stateless_update_state(start, y_true, y_pred))

    return compiled(run, jit)


@needs_graph
@each_metric
@pytest.mark.parametrize("jit", [False, True])
def test_compiled(name, jit, rng):
    make, expected = METRICS[name]
    labels, probs = make_case(rng)
    metric = make(ignore_class=1)
    metric.update_state(labels, probs)  # creates the variables that a stateless call hands in
    run = stateless(metric, jit)
    wanted = expected(labels, probs, weights=labels != 1)
    for y_true in (labels, labels.astype("float32"), np.eye(5, dtype="float32")[labels])[: 1 if jit else None]:
        value = run(ops.convert_to_tensor(y_true), ops.convert_to_tensor(probs))
        np.testing.assert_allclose(numpy(value), wanted, **TOLERANCE)


@needs_graph
@each_metric
def test_bad_label_in_a_compiled_graph_gives_nan(name, rng):
    labels, probs = make_case(rng, n=20)
    metric = METRICS[name][0]()
    metric.update_state(labels, probs)
    run, given = stateless(metric, jit=False), labels.astype("float32")
    for bad in (-1, 5, 2.5, np.nan):
        given[3] = bad
        assert np.isnan(numpy(run(ops.convert_to_tensor(given), ops.convert_to_tensor(probs)))), bad


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow has shapes unknown while it compiles")
@pytest.mark.parametrize("width", [1, 3])
def test_the_width_of_labels_may_be_unknown_and_is_checked(width, rng):
    import tensorflow as tf

    labels, probs = make_case(rng, num_classes=3)
    given = labels[:, None] if width == 1 else np.eye(3, dtype="int64")[labels]
    metric = ExpectedCalibrationError()
    spec = [tf.TensorSpec((None, None), "int64"), tf.TensorSpec((None, 3))]
    tf.function(metric.update_state, input_signature=spec)(given, probs)
    expected = np.nan if width == 1 else reference.expected_calibration_error(labels, probs)
    np.testing.assert_allclose(numpy(metric.result()), expected, **TOLERANCE)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="reads TensorFlow's graph")
@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("name", ["nll", "brier"])
def test_no_one_hot_in_the_graph(name, from_logits):
    import tensorflow as tf

    metric = METRICS[name][0](from_logits=from_logits)
    graph = tf.function(metric.update_state).get_concrete_function(
        tf.TensorSpec((None,), "int32"), tf.TensorSpec((None, 1000), "float32")
    )
    for operation in graph.graph.get_operations():
        assert operation.type != "OneHot"
        assert operation.type != "Equal" or operation.outputs[0].shape.rank < 2, operation


@pytest.mark.parametrize(
    "metric",
    [
        ExpectedCalibrationError(7, "l2", True, -1, "mine", WIDE),
        ExpectedCalibrationError(),
        ClasswiseCalibrationError(7, from_logits=True, ignore_class=0, name="mine", dtype="bfloat16"),
        NegativeLogLikelihood(True, 3, "mine", "float16"),
        BrierScore(True, 3, "mine"),
    ],
    ids=lambda metric: type(metric).__name__,
)
def test_config_round_trip(metric, rng):
    labels, probs = make_case(rng)

    def call(copy):
        copy.reset_state()
        copy.update_state(labels, probs)
        return copy.result()

    assert keras.saving.get_registered_name(type(metric)) == f"keras_ls>{type(metric).__name__}"
    assert_config_round_trip(metric, call)


@each_metric
def test_refused_at_the_first_call(name, rng):
    make, _ = METRICS[name]
    labels, probs = np.arange(8) % 5, make_case(rng, n=8)[1]
    for y_true, y_pred, options, message in [
        (labels[:4], probs, {}, "`y_true` must"),
        (np.eye(4)[labels % 4], probs, {}, "`y_true` must"),
        (np.eye(5)[labels][:4], probs, {}, "`y_true` must"),
        (labels.reshape(2, 4), probs, {}, "`y_true` must"),
        (labels[0], probs[0], {}, "`y_pred` must be"),
        (labels, probs[:, :1], {}, r"`y_true` must hold integers in \[0, 2\)"),
        (labels, probs, {"sample_weight": np.ones(7)}, "`sample_weight` must broadcast"),
        (labels, probs, {"sample_weight": np.ones((8, 5))}, "`sample_weight` must broadcast"),
        (labels - 1, probs, {}, r"`y_true` must hold integers in \[0, 5\).*-1"),
        (np.where(labels == 0, 5, labels), probs, {}, "`y_true` must hold integers"),
        (labels + 0.5, probs, {}, "`y_true` must hold integers"),
    ]:
        with pytest.raises(ValueError, match=message):
            make().update_state(y_true, y_pred, **options)


@pytest.mark.parametrize("make", [ExpectedCalibrationError, ClasswiseCalibrationError])
@pytest.mark.parametrize("num_bins", [0, -1, 1.5, None, True])
def test_refused_bins(make, num_bins):
    with pytest.raises(ValueError, match="`num_bins` must be"):
        make(num_bins=num_bins)


def test_refused_options(rng):
    with pytest.raises(ValueError, match="`norm` must be one of 'l1', 'l2', 'max'"):
        ExpectedCalibrationError(norm="L1")
    with pytest.raises(ValueError, match="`ignore_class` must be an integer"):
        BrierScore(ignore_class=0.5)
    labels, probs = make_case(rng)
    metric = ClasswiseCalibrationError()
    metric.update_state(labels, probs)
    with pytest.raises(ValueError, match=r"the 5 classes that this metric has seen before\. Received: 6"):
        metric.update_state(labels, np.full((len(labels), 6), 1 / 6, "float32"))


# Peers


@pytest.mark.peer
@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize("num_classes", [2, 7])
def test_agrees_with_torchmetrics(norm, num_classes, rng):
    torch = pytest.importorskip("torch", reason="compares with torchmetrics, which needs PyTorch")
    peer = pytest.importorskip("torchmetrics.classification", reason="compares with torchmetrics")
    labels, probs = make_case(rng, n=2000, num_classes=num_classes)
    theirs = peer.MulticlassCalibrationError(num_classes, n_bins=15, norm=norm, ignore_index=1)
    ours = ExpectedCalibrationError(15, norm, ignore_class=1)
    for rows in np.array_split(np.arange(2000), 4):
        theirs.update(torch.from_numpy(probs[rows]), torch.from_numpy(labels[rows]))
        ours.update_state(labels[rows], probs[rows])
    np.testing.assert_allclose(float(ours.result()), float(theirs.compute()), rtol=0, atol=1e-6)


@pytest.mark.peer
@pytest.mark.parametrize("num_bins", [1, 10, 15])
def test_agrees_with_netcal(num_bins, rng):
    peer = pytest.importorskip("netcal.metrics", reason="compares with netcal")
    labels, probs = make_case(rng, n=2000, num_classes=7)
    for norm, theirs in [("l1", peer.ECE(num_bins)), ("max", peer.MCE(num_bins))]:
        value = measure(ExpectedCalibrationError(num_bins, norm), labels, probs)
        np.testing.assert_allclose(value, theirs.measure(probs.astype("float64"), labels), rtol=0, atol=1e-6)
    columns = [peer.ECE(num_bins).measure(probs[:, k].astype("float64"), labels == k) for k in range(7)]
    value = measure(ClasswiseCalibrationError(num_bins), labels, probs)
    np.testing.assert_allclose(value, np.mean(columns), rtol=0, atol=1e-6)


@pytest.mark.peer
def test_where_torchmetrics_differs():
    torch = pytest.importorskip("torch", reason="compares with torchmetrics, which needs PyTorch")
    peer = pytest.importorskip("torchmetrics.functional.classification", reason="compares with torchmetrics")

    def theirs(labels, probs, num_bins):
        tensors = torch.from_numpy(probs), torch.from_numpy(labels)
        return float(peer.multiclass_calibration_error(*tensors, num_classes=2, n_bins=num_bins))

    certain = np.array([[1.0, 0.0], [0.95, 0.05]], "float32")
    labels = np.array([1, 0])
    np.testing.assert_allclose(measure(ExpectedCalibrationError(10), labels, certain), 0.475, atol=1e-6)
    np.testing.assert_allclose(theirs(labels, certain, 10), 0.525, atol=1e-6)  # 1.0 in a bin of its own
    on_edge = np.array([[0.75, 0.25], [0.8, 0.2]], "float32")  # 0.75 ends our bin and begins theirs
    np.testing.assert_allclose(measure(ExpectedCalibrationError(4), labels, on_edge), 0.475, atol=1e-6)
    np.testing.assert_allclose(theirs(labels, on_edge, 4), 0.275, atol=1e-6)
    logits = np.array([[2.0, 0.0], [0.9, 0.1]], "float32")  # torchmetrics guesses from the range of the batch
    assert theirs(labels, logits, 10) != pytest.approx(
        np.mean([theirs(labels[:1], logits[:1], 10), theirs(labels[1:], logits[1:], 10)]), abs=1e-3
    )


@pytest.mark.peer
def test_where_netcal_differs():
    peer = pytest.importorskip("netcal.metrics", reason="compares with netcal")
    on_edge = np.array([[0.75, 0.25, 0.0], [0.8, 0.2, 0.0], [0.1, 0.1, 0.8]])
    labels = np.array([1, 0, 2])
    np.testing.assert_allclose(measure(ExpectedCalibrationError(4), labels, on_edge), (0.75 + 0.4) / 3, atol=1e-6)
    np.testing.assert_allclose(peer.ECE(4).measure(on_edge, labels), abs(2 - 2.35) / 3, atol=1e-6)
    two = np.array([[0.9, 0.1], [0.3, 0.7]])
    labels = np.array([0, 0])
    np.testing.assert_allclose(measure(ExpectedCalibrationError(10), labels, two), 0.4, atol=1e-6)
    np.testing.assert_allclose(peer.ECE(10).measure(two, labels), 0.4, atol=1e-6)
    np.testing.assert_allclose(measure(ExpectedCalibrationError(1), labels, two), 0.3, atol=1e-6)
    np.testing.assert_allclose(peer.ECE(1).measure(two, labels), 0.4, atol=1e-6)  # mean P(class 1), not top label
    with pytest.raises(RuntimeError, match="binary"):
        peer.ECE(10).measure(on_edge, np.array([0, 1, 1]))


@pytest.mark.skipif(BACKEND != "torch", reason="of PyTorch")
def test_its_first_batch_may_be_of_inference(rng):
    import torch

    metric, y, p = ClasswiseCalibrationError(), rng.integers(0, 3, 20), rng.dirichlet(np.ones(3), 20).astype("float32")
    with torch.inference_mode():
        metric.update_state(y, p)
    metric.update_state(y, p)
    assert float(metric.result()) == pytest.approx(reference.classwise_calibration_error(y, p), rel=1e-4)
