"""Smoothed losses against float64 references, Keras's own loss and PyTorch's."""

import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import reference
from harness import (
    BACKEND,
    ROOT,
    RTOL,
    TESTS,
    assert_config_round_trip,
    compiled,
    needs_graph,
    numpy,
    slow,
    value_and_gradient,
)
from keras import ops

import keras_ls
from keras_ls._backend import get_mask, set_mask
from keras_ls._labels import labels_to_tensor, numbers_to_tensor
from keras_ls.losses import smooth_labels

dense = keras_ls.smoothed_categorical_crossentropy
sparse = keras_ls.smoothed_sparse_categorical_crossentropy

SHAPES = [((7,), -1), ((6, 4), -1), ((6, 4), 0), ((3, 5, 7), 1), ((2, 3, 4, 5), -1), ((2, 3, 4, 5), 2)]
# XLA compiles the same loss of (N, K) rows for all of them.
COMPILED_SHAPES = [((6, 4), -1), ((2, 3, 4, 5), 2)]
PRIORS = {"uniform": None, "unigram": "random", "with zeros": "zeros"}


def make_prior(kind, num_classes):
    """An unnormalised prior, and the normalised one for the reference."""
    if kind is None:
        return None, None
    prior = np.random.default_rng(5).uniform(0.5, 4.0, num_classes)
    if kind == "zeros":
        prior[::2] = 0.0
    return prior, prior / prior.sum()


def make_case(rng, shape, axis, scale=3.0):
    logits = (scale * rng.standard_normal(shape)).astype("float32")
    labels = rng.integers(0, shape[axis], np.delete(shape, axis))
    return logits, labels


def one_hot(labels, num_classes, axis):
    return np.moveaxis(np.eye(num_classes, dtype="float32")[labels], -1, axis)


def call(kind, labels, num_classes, axis, **options):
    """The loss of one kind as a function of predictions alone."""
    if kind == "sparse":
        return lambda y_pred: sparse(labels, y_pred, axis=axis, **options)
    return lambda y_pred: dense(one_hot(labels, num_classes, axis), y_pred, axis=axis, **options)


@pytest.mark.parametrize("kind", ["sparse", "dense"])
@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
@pytest.mark.parametrize(
    ("shape", "axis", "jit"),
    [*((*each, False) for each in SHAPES), (*COMPILED_SHAPES[0], True), slow(*COMPILED_SHAPES[1], True)],
)
def test_logits_match_the_definition(rng, shape, axis, prior, kind, jit):
    logits, labels = make_case(rng, shape, axis)
    prior, normalised = make_prior(prior, shape[axis])
    for alpha in (0.0, 0.1) if jit else (0.0, 0.1, 0.9):
        targets = np.moveaxis(reference.smoothed_targets(labels, shape[axis], alpha, normalised), -1, axis)
        loss = call(kind, labels, shape[axis], axis, label_smoothing=alpha, prior=prior, from_logits=True)
        value, gradient = value_and_gradient(loss, logits, jit=jit)
        np.testing.assert_allclose(value, reference.cross_entropy(targets, logits, axis), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            gradient, reference.cross_entropy_gradient(targets, logits, axis), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("kind", ["sparse", "dense"])
@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_probabilities_match_the_definition(rng, shape, axis, prior, kind):
    logits, labels = make_case(rng, shape, axis, scale=1.0)
    probabilities = (2.0 * reference.softmax(logits, axis)).astype("float32")  # normalised by the loss
    prior, normalised = make_prior(prior, shape[axis])
    targets = np.moveaxis(reference.smoothed_targets(labels, shape[axis], 0.1, normalised), -1, axis)
    loss = call(kind, labels, shape[axis], axis, label_smoothing=0.1, prior=prior)
    value, gradient = value_and_gradient(loss, probabilities)
    expected = reference.cross_entropy_of_probabilities(targets, probabilities, axis)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    wide = probabilities.astype("float64")
    slope = -targets / wide + 1.0 / wide.sum(axis, keepdims=True)
    np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-5)


def test_hopeless_probabilities_are_clipped_as_in_keras():
    probabilities = np.array([[1.0, 0.0, 0.0]], "float32")
    ours = keras_ls.SmoothedSparseCategoricalCrossentropy(0.1)(np.array([1]), probabilities)
    keras_own = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)(np.array([[0.0, 1, 0]]), probabilities)
    np.testing.assert_allclose(numpy(ours), numpy(keras_own), rtol=1e-5)


@pytest.mark.parametrize("num_classes", [2, 3, 257, 50_000])
@pytest.mark.parametrize("scale", [1.0, 1e2, 1e4])
def test_any_number_of_classes_and_size_of_logits(rng, num_classes, scale):
    logits, labels = make_case(rng, (4, num_classes), -1, scale)
    targets = reference.smoothed_targets(labels, num_classes, 0.1)
    value, gradient = value_and_gradient(lambda z: sparse(labels, z, 0.1, from_logits=True), logits)
    np.testing.assert_allclose(value, reference.cross_entropy(targets, logits), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, reference.cross_entropy_gradient(targets, logits), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("offset", [1e3, -1e4])
def test_a_common_offset_of_the_logits_changes_nothing(rng, offset):
    logits, labels = make_case(rng, (8, 30), -1)
    logits = (logits + np.float32(offset)).astype("float32")
    targets = reference.smoothed_targets(labels, 30, 0.1)
    value, gradient = value_and_gradient(lambda z: sparse(labels, z, 0.1, from_logits=True), logits)
    np.testing.assert_allclose(value, reference.cross_entropy(targets, logits), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, reference.cross_entropy_gradient(targets, logits), rtol=1e-5, atol=1e-6)


def test_a_confident_right_answer_keeps_its_small_loss():
    logits = np.array([[12.0, 0.0, 0.0]], "float32")
    targets = reference.smoothed_targets(np.array([0]), 3, 0.0)
    value = numpy(sparse(np.array([0]), logits, 0.0, from_logits=True))
    # Half a float32 step near 1 is 6e-8, and the logarithm rounds once more.
    np.testing.assert_allclose(value, reference.cross_entropy(targets, logits), atol=2e-7)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["sparse", "dense"])
@pytest.mark.parametrize("scale", [3.0, 1e4])
def test_half_precision_is_finite_and_within_its_rounding(rng, kind, dtype, scale):
    logits = np.clip(rng.standard_normal((16, 40)) * scale, -1e4, 1e4)
    labels = rng.integers(0, 40, 16)
    stored = numpy(ops.cast(ops.convert_to_tensor(logits.astype("float32")), dtype)).astype("float64")
    targets = reference.smoothed_targets(labels, 40, 0.1)
    loss = call(kind, labels, 40, -1, label_smoothing=0.1, from_logits=True)
    value, gradient = value_and_gradient(loss, stored.astype("float32"), dtype=dtype)
    np.testing.assert_allclose(value, reference.cross_entropy(targets, stored), rtol=RTOL[dtype], atol=RTOL[dtype])
    expected = reference.cross_entropy_gradient(targets, stored)
    np.testing.assert_allclose(gradient, expected, rtol=RTOL[dtype], atol=RTOL[dtype])


@pytest.mark.parametrize(("dtype", "rounding"), [("float16", 2.0**-11), ("bfloat16", 2.0**-8)])
def test_half_precision_rounds_the_result_alone(rng, dtype, rounding):
    logits, labels = numpy(ops.cast(rng.standard_normal((8, 5000)), dtype)), rng.integers(0, 5000, 8)
    targets = reference.smoothed_targets(labels, 5000, 0.1)
    value, gradient = value_and_gradient(lambda z: sparse(labels, z, 0.1, from_logits=True), logits, dtype=dtype)
    wide = logits.astype("float64")
    np.testing.assert_allclose(value, reference.cross_entropy(targets, wide), rtol=1.1 * rounding)
    expected = reference.cross_entropy_gradient(targets, wide)
    np.testing.assert_allclose(gradient, expected, rtol=1.1 * rounding, atol=6e-8)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "mixed_bfloat16"])
def test_class_ids_above_256_survive_a_half_precision_loss(rng, dtype):
    logits, labels = make_case(rng, (64, 700), -1)
    labels = np.maximum(labels, 257) | 1
    expected = numpy(keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, from_logits=True)(labels, logits))
    half = keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, from_logits=True, dtype=dtype)(labels, logits)
    assert keras.backend.standardize_dtype(half.dtype) == dtype.removeprefix("mixed_")
    np.testing.assert_allclose(numpy(half), expected, rtol=1e-2)


def test_labels_of_half_precision_reach_the_last_class(rng):
    logits, _ = make_case(rng, (2, 50_001), -1)
    labels = np.array([49_920, 1024])  # bfloat16 holds both, and would round K down to the first
    half = ops.cast(ops.convert_to_tensor(labels), "bfloat16")
    expected = numpy(sparse(labels, logits, from_logits=True))
    np.testing.assert_array_equal(numpy(sparse(half, logits, from_logits=True)), expected)


@pytest.mark.parametrize("axis", [np.int64(1), np.int32(-2)])
def test_axis_may_be_numpys_integer(rng, axis):
    logits, labels = make_case(rng, (6, 4, 3), 1)
    np.testing.assert_array_equal(numpy(sparse(labels, logits, axis=axis)), numpy(sparse(labels, logits, axis=1)))
    loss = keras_ls.SmoothedSparseCategoricalCrossentropy(axis=axis)
    assert_config_round_trip(loss, lambda copy: copy(labels, reference.softmax(logits, 1)))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("trailing", [(), (1,)])
def test_labels_of_any_dtype_and_with_a_trailing_1(rng, dtype, trailing):
    logits, labels = make_case(rng, (3, 4, 9), -1)
    expected = numpy(sparse(labels, logits, from_logits=True))
    given = labels.reshape(labels.shape + trailing).astype(dtype)
    assert expected.shape == (3, 4)
    np.testing.assert_array_equal(numpy(sparse(given, logits, from_logits=True)), expected)
    loss = keras_ls.SmoothedSparseCategoricalCrossentropy(from_logits=True, reduction=None)
    np.testing.assert_array_equal(numpy(loss(given, logits)), expected)


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight", None])
@pytest.mark.parametrize("weighted", [False, True])
def test_without_a_prior_it_is_keras_own_loss(rng, from_logits, alpha, reduction, weighted):
    logits, labels = make_case(rng, (6, 5, 8), -1)
    y_pred = logits if from_logits else reference.softmax(logits).astype("float32")
    weights = rng.uniform(0, 2, (6, 5)).astype("float32") if weighted else None
    options = {"label_smoothing": alpha, "from_logits": from_logits, "reduction": reduction}
    expected = numpy(keras.losses.CategoricalCrossentropy(**options)(one_hot(labels, 8, -1), y_pred, weights))
    ours = keras_ls.SmoothedCategoricalCrossentropy(**options)(one_hot(labels, 8, -1), y_pred, weights)
    np.testing.assert_allclose(numpy(ours), expected, rtol=1e-6)
    ours = keras_ls.SmoothedSparseCategoricalCrossentropy(**options)(labels, y_pred, weights)
    np.testing.assert_allclose(numpy(ours), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", [False, "a graph", True])
@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_of_a_softmax_it_is_keras_own_loss_however_sure(alpha, how):
    logits = np.array([[40.0, 0.0, -300.0], [0.0, 90.0, 1.0], [1.0, 2.0, 3.0]], "float32")
    labels, targets = np.array([1, 1, 0]), np.eye(3, dtype="float32")[[1, 1, 0]]
    head = keras.layers.Dense(3, activation="softmax", kernel_initializer="identity")
    head.build((None, 3))
    losses = [
        (keras.losses.CategoricalCrossentropy(label_smoothing=alpha), targets),
        (keras_ls.SmoothedCategoricalCrossentropy(alpha), targets),
        (keras_ls.SmoothedSparseCategoricalCrossentropy(alpha), labels),
        *([(keras.losses.SparseCategoricalCrossentropy(), labels)] if alpha == 0 else []),
    ]
    (expected, slopes), *found = (
        value_and_gradient(lambda z, loss=loss, y=y: loss(y, head(z)), logits, jit=how) for loss, y in losses
    )
    for value, gradient in found:
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-4, atol=1e-6)
    if BACKEND == "tensorflow":  # which goes back to the logits
        assert expected > 40 * (1 - alpha) / 3
        assert abs(slopes[0]).max() > 0.2


@pytest.mark.skipif(BACKEND != "tensorflow", reason="Keras keeps the logits of a softmax on TensorFlow alone")
def test_logits_of_a_softmax_that_are_said_to_be_given(rng):
    logits, labels = make_case(rng, (4, 5), -1)
    probabilities = keras.ops.softmax(logits)
    with pytest.warns(UserWarning, match="comes from a softmax"):
        found = sparse(labels, probabilities, from_logits=True)
    np.testing.assert_allclose(numpy(found), numpy(sparse(labels, logits, from_logits=True)), rtol=1e-6)


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_weights_of_positions_on_both_sides_of_the_classes(rng, kind):
    logits, labels = make_case(rng, (2, 3, 5), 1)
    weights = rng.uniform(0, 2, (2, 5)).astype("float32")
    loss, y_true = keras_ls.SmoothedSparseCategoricalCrossentropy, labels
    if kind == "dense":
        loss, y_true = keras_ls.SmoothedCategoricalCrossentropy, one_hot(labels, 3, 1)
    targets = np.moveaxis(reference.smoothed_targets(labels, 3, 0.1), -1, 1)
    expected = np.mean(weights * reference.cross_entropy(targets, logits, 1))
    np.testing.assert_allclose(numpy(loss(0.1, from_logits=True, axis=1)(y_true, logits, weights)), expected, rtol=1e-5)


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("ignore_class", [-1, 3, 255])
def test_ignored_classes_are_those_of_keras(rng, from_logits, ignore_class):
    logits, labels = make_case(rng, (6, 5, 8), -1)
    labels[rng.random(labels.shape) < 0.3] = ignore_class
    y_pred = logits if from_logits else reference.softmax(logits).astype("float32")
    options = {"from_logits": from_logits, "ignore_class": ignore_class}
    for weights in (None, rng.uniform(0, 2, (6, 5)).astype("float32")):
        expected = keras.losses.SparseCategoricalCrossentropy(**options)(labels, y_pred, weights)
        ours = keras_ls.SmoothedSparseCategoricalCrossentropy(0.0, **options)(labels, y_pred, weights)
        np.testing.assert_allclose(numpy(ours), numpy(expected), rtol=1e-5)
    kept = labels != ignore_class
    mean = numpy(keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, **options)(labels, y_pred))
    alone = keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, from_logits=from_logits)(labels[kept], y_pred[kept])
    np.testing.assert_allclose(mean, numpy(alone), rtol=1e-5)


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("jit", [False, True])
def test_ignored_positions_have_no_loss_and_no_gradient_even_when_broken(rng, from_logits, jit):
    logits, labels = make_case(rng, (6, 4), -1)
    y_pred = logits if from_logits else reference.softmax(logits).astype("float32")
    labels[[0, 3, 5]] = -100
    y_pred[0], y_pred[3], y_pred[5] = np.nan, np.inf, 0.0
    value, gradient = value_and_gradient(
        lambda z: sparse(labels, z, 0.1, from_logits=from_logits, ignore_class=-100), y_pred, jit=jit
    )
    assert np.all(value[[0, 3, 5]] == 0)
    assert np.all(gradient[[0, 3, 5]] == 0)
    assert np.all(value[[1, 2, 4]] > 0)
    assert np.all(np.isfinite(gradient))


def test_an_all_ignored_batch_costs_nothing(rng):
    logits, _ = make_case(rng, (6, 4), -1)
    loss = keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, from_logits=True, ignore_class=0)
    assert float(loss(np.zeros(6, int), logits)) == 0.0


def test_the_mask_of_predictions_is_honoured(rng):
    logits, labels = make_case(rng, (6, 5, 8), -1)
    mask = rng.random((6, 5)) < 0.6
    y_pred = ops.convert_to_tensor(logits)
    set_mask(y_pred, ops.convert_to_tensor(mask))
    ours = keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, from_logits=True)(labels, y_pred)
    expected = numpy(sparse(labels[mask], logits[mask], 0.1, from_logits=True)).mean()
    np.testing.assert_allclose(numpy(ours), expected, rtol=1e-5)
    for padded in (np.where(mask, labels, -1), np.where(mask, labels, 99)[..., None]):  # padding may be anything
        for shaped in (mask, mask[..., None]):
            set_mask(y_pred, ops.convert_to_tensor(shaped))
            ours = keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, from_logits=True)(padded, y_pred)
            np.testing.assert_allclose(numpy(ours), expected, rtol=1e-5)


@pytest.mark.parametrize("ignore_class", [None, 1])
def test_predictions_under_a_mask_may_be_anything(rng, ignore_class):
    logits, labels = make_case(rng, (6, 5, 4), -1)
    mask = rng.random((6, 5)) < 0.6
    logits[..., 0], labels = -np.inf, 1 + labels % 3  # the class of padding, which cannot be predicted
    logits[~mask & (rng.random((6, 5)) < 0.5)] = np.nan
    prior, kept = [0, 1, 1, 2], mask & (labels != ignore_class)
    expected = numpy(sparse(labels[kept], logits[kept], 0.1, prior=prior, from_logits=True)).mean()
    loss = keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, prior=prior, from_logits=True, ignore_class=ignore_class)

    def masked(z):
        set_mask(z, ops.convert_to_tensor(mask))
        return loss(labels, z)

    value, gradient = value_and_gradient(masked, logits)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert not np.asarray(gradient)[~kept].any()
    y_pred = ops.convert_to_tensor(logits)
    set_mask(y_pred, ops.convert_to_tensor(mask))
    wrong = labels.copy()
    wrong[tuple(np.argwhere(kept)[0])] = 9
    with pytest.raises(ValueError, match=r"in \[0, 4\)( or ignore_class=1)?. Received: \[9\]"):
        loss(wrong, y_pred)
    assert loss.ignore_class == ignore_class


@pytest.mark.parametrize("shape", [(6, 1), (5,), (6,), (6, 5, 2)])
def test_labels_under_a_mask_must_fit_as_without_one(rng, shape):
    y_pred = ops.convert_to_tensor(make_case(rng, (6, 5, 8), -1)[0])
    set_mask(y_pred, ops.ones((6, 5), dtype="bool"))
    with pytest.raises(ValueError, match="`y_true` must hold one class id per prediction"):
        keras_ls.SmoothedSparseCategoricalCrossentropy(0.1)(np.zeros(shape, int), y_pred)


def test_forbidden_classes_cost_nothing_under_a_prior_that_forbids_them(rng):
    logits, labels = make_case(rng, (5, 6), -1)
    labels %= 3
    forbidden = logits.copy()
    forbidden[:, 3:] = -np.inf
    value, gradient = value_and_gradient(
        lambda z: sparse(labels, z, 0.1, prior=[1, 1, 1, 0, 0, 0], from_logits=True), forbidden
    )
    expected, slope = value_and_gradient(lambda z: sparse(labels, z, 0.1, from_logits=True), logits[:, :3])
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, np.pad(slope, ((0, 0), (0, 3))), atol=1e-7)
    rounded = sparse(labels, forbidden, 0.1, prior=[1, 1, 1, 1e-50, 0, 0], from_logits=True)  # to 0 in float32
    np.testing.assert_allclose(numpy(rounded), expected, rtol=1e-6)


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_broken_predictions_surface_as_nan(bad, from_logits):
    y_pred = np.array([[bad, 1.0, 2.0], [0.2, 0.5, 0.3]], "float32")
    value = numpy(sparse(np.array([1, 1]), y_pred, 0.1, from_logits=from_logits))
    assert np.isnan(value[0])
    assert np.isfinite(value[1])


@pytest.mark.parametrize("options", [{"label_smoothing": 0.0}, {"prior": [0, 1, 1]}])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_broken_probability_of_a_class_without_target_is_nan_too(bad, options):
    y_pred = np.array([[bad, 0.5, 0.5], [0.2, 0.5, 0.3]], "float32")
    value = numpy(sparse(np.array([1, 1]), y_pred, **options))
    assert np.isnan(value[0])
    assert np.isfinite(value[1])


@pytest.mark.parametrize("targets", ["mixup", "zero rows", "weights"])
@pytest.mark.parametrize("from_logits", [True, False])
def test_targets_that_are_no_distribution_behave_as_in_keras(rng, targets, from_logits):
    logits, labels = make_case(rng, (6, 5), -1)
    y_pred = logits if from_logits else reference.softmax(logits).astype("float32")
    y_true = one_hot(labels, 5, -1) * rng.uniform(0.1, 2.0, (6, 1)).astype("float32")
    if targets == "mixup":
        y_true = 0.3 * one_hot(labels, 5, -1) + 0.7 * one_hot(labels[::-1], 5, -1)
    elif targets == "zero rows":
        y_true[::2] = 0.0
    for alpha in (0.0, 0.1):
        ours = value_and_gradient(lambda z, a=alpha: dense(y_true, z, a, from_logits=from_logits), y_pred)
        keras_own = value_and_gradient(
            lambda z, a=alpha: keras.losses.categorical_crossentropy(
                ops.convert_to_tensor(y_true), z, from_logits=from_logits, label_smoothing=a
            ),
            y_pred,
        )
        np.testing.assert_allclose(ours[0], keras_own[0], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(ours[1], keras_own[1], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("label", [-1, 4, 1.5, np.nan])
def test_a_label_that_is_no_class_is_refused_eagerly(label):
    y_true = np.array([1, label])
    logits = np.zeros((2, 4), "float32")
    with pytest.raises(ValueError, match=r"`y_true` must hold integers in \[0, 4\)"):
        sparse(y_true, logits, from_logits=True)
    with pytest.raises(ValueError, match=r"or ignore_class=9"):
        sparse(y_true, logits, from_logits=True, ignore_class=9)


@pytest.mark.parametrize(("label", "ignore_class"), [(-1.5, -1), (0.5, 0), (np.nan, 0), (2**32, 0), (2**32 + 1, None)])
def test_a_label_that_int32_would_round_to_a_class_is_refused(label, ignore_class):
    with pytest.raises(ValueError, match=r"`y_true` must hold integers in \[0, 4\)"):
        sparse(np.array([label]), np.zeros((1, 4), "float32"), from_logits=True, ignore_class=ignore_class)


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("jit", [False, True])
def test_no_examples_give_no_losses(from_logits, jit):
    y_pred = np.zeros((0, 4), "float32")
    labels = np.zeros(0, "int32")
    value, gradient = value_and_gradient(lambda z: sparse(labels, z, from_logits=from_logits), y_pred, jit=jit)
    assert value.shape == (0,)
    assert gradient.shape == (0, 4)


@needs_graph
def test_labels_may_be_constants_of_a_compiled_graph(rng):
    logits, labels = make_case(rng, (6, 4), -1)
    constants = ops.convert_to_tensor(labels)
    value = compiled(lambda z: sparse(constants, z, from_logits=True))(ops.convert_to_tensor(logits))
    np.testing.assert_allclose(numpy(value), numpy(sparse(labels, logits, from_logits=True)), rtol=1e-6)


@needs_graph
@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("jit", [False, True])
def test_a_label_that_is_no_class_is_nan_in_a_graph(from_logits, jit):
    y_pred = np.full((4, 4), 0.25, "float32")

    def loss(y_true, y_pred):
        return sparse(y_true, y_pred, 0.1, from_logits=from_logits)

    y_true = ops.convert_to_tensor(np.array([1, -1, 4, 1.5], "float32"))
    value = numpy(compiled(loss, jit)(y_true, ops.convert_to_tensor(y_pred)))
    assert np.isnan(value).tolist() == [False, True, True, True]
    if BACKEND == "tensorflow":
        import tensorflow as tf

        @tf.function(jit_compile=jit)
        def gradient(y_true, y_pred):
            with tf.GradientTape() as tape:
                tape.watch(y_pred)
                value = loss(y_true, y_pred)
            return tape.gradient(value, y_pred)

        slope = numpy(gradient(y_true, tf.constant(y_pred)))
        assert np.isfinite(slope[0]).all()
        assert np.isnan(slope[1:]).any(axis=-1).all()


@pytest.mark.skipif(BACKEND != "tensorflow", reason="looks at TensorFlow's graph")
def test_no_one_hot_of_probabilities_either(rng):
    import tensorflow as tf

    logits, labels = make_case(rng, (256, 500), -1)

    @tf.function
    def step(p):
        with tf.GradientTape() as tape:
            tape.watch(p)
            value = ops.mean(sparse(labels, p, 0.1))
        return tape.gradient(value, p)

    graph = step.get_concrete_function(tf.constant(reference.softmax(logits).astype("float32"))).graph
    library = graph.as_graph_def().library.function
    branches = [[node.op for node in function.node_def] for function in library]
    assert "OneHot" not in {op.type for op in graph.get_operations()}.union(*branches)


@needs_graph
def test_no_one_hot_and_one_softmax_in_the_compiled_step(rng):
    logits, labels = make_case(rng, (256, 500), -1)

    def loss(z):
        return ops.mean(sparse(labels, z, 0.1, from_logits=True))

    if BACKEND == "tensorflow":
        import tensorflow as tf

        @tf.function
        def step(z):
            with tf.GradientTape() as tape:
                tape.watch(z)
                value = loss(z)
            return tape.gradient(value, z)

        graph = step.get_concrete_function(tf.constant(logits)).graph
        # Which branch of the loss and of its gradient runs is for the device and the compiler to say.
        branches = [[node.op for node in function.node_def] for function in graph.as_graph_def().library.function]
        assert "OneHot" not in {op.type for op in graph.get_operations()}.union(*branches)
        counts = sorted((kinds.count("Exp"), kinds.count("Softmax")) for kinds in branches)
        assert [count for count in counts if any(count)] == [(0, 1), (1, 0), (1, 0), (1, 0)]
    else:
        import jax

        memory = jax.jit(jax.grad(loss)).lower(logits).compile().memory_analysis()
        assert memory.output_size_in_bytes >= logits.nbytes
        assert memory.temp_size_in_bytes < 0.1 * logits.nbytes  # what a one-hot, or a second softmax, would take


def hessian_times(fn, x, direction, jit=False):
    """The Hessian of Σ fn(x) times `direction`, forward over reverse on JAX, reverse over reverse elsewhere."""
    if BACKEND == "jax":
        import jax

        return numpy(compiled(lambda x: jax.jvp(jax.grad(lambda z: fn(z).sum()), (x,), (direction,))[1], jit)(x))
    if BACKEND == "tensorflow":
        import tensorflow as tf

        def run(x):
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    total = tf.reduce_sum(fn(x))
                slope = tf.reduce_sum(inner.gradient(total, x) * direction)
            return outer.gradient(slope, x)

        return numpy((tf.function(run, jit_compile=jit is True) if jit else run)(tf.constant(x)))
    import torch

    x = torch.tensor(x, requires_grad=True)
    (slope,) = torch.autograd.grad(fn(x).sum(), x, create_graph=True)
    return numpy(torch.autograd.grad((slope * torch.tensor(direction)).sum(), x)[0])


# XLA takes seconds for each. On other backends than TensorFlow `hessian_times` has one way alone.
SECOND_DERIVATIVES = [(False, 0.0, None), (False, 0.0, "zeros"), (False, 0.2, None), (False, 0.2, "zeros")]
if BACKEND == "tensorflow":
    SECOND_DERIVATIVES += [("graph", *each[1:]) for each in SECOND_DERIVATIVES] + [(True, 0.2, "zeros")]


@pytest.mark.parametrize(("jit", "alpha", "prior"), SECOND_DERIVATIVES)
def test_second_derivatives_are_those_of_the_softmax(rng, alpha, prior, jit):
    logits, labels = make_case(rng, (5, 6), -1, scale=1.0)
    direction = rng.standard_normal((5, 6)).astype("float32")
    prior, _ = make_prior(prior, 6)
    labels[3] = -1
    p = reference.softmax(logits)
    expected = p * direction - p * (p * direction).sum(-1, keepdims=True)  # (diag(p) − p·pᵀ)·direction
    expected[3] = 0.0
    logits[3] = np.nan
    product = hessian_times(
        lambda z: sparse(labels, z, alpha, prior, from_logits=True, ignore_class=-1), logits, direction, jit
    )
    np.testing.assert_allclose(product, expected, atol=1e-6)


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch differentiates it in reverse mode alone")
@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("jit", [False, True])
def test_forward_mode_is_the_gradient_along_the_direction(rng, from_logits, jit):
    logits, labels = make_case(rng, (5, 6), -1, scale=1.0)
    y_pred = logits if from_logits else reference.softmax(logits).astype("float32")
    direction = rng.standard_normal((5, 6)).astype("float32")
    labels[2] = -1

    def loss(z):
        return sparse(labels, z, 0.1, from_logits=from_logits, ignore_class=-1)

    _, gradient = value_and_gradient(loss, y_pred)
    y_pred[2] = np.nan
    if BACKEND == "jax":
        import jax

        def run(z, along):
            return jax.jvp(loss, (z,), (along,))[1]

        slope = (jax.jit(run) if jit else run)(y_pred, direction)
    else:
        import tensorflow as tf

        def run(z, along):
            with tf.autodiff.ForwardAccumulator(z, along) as accumulator:
                losses = loss(z)
            return accumulator.jvp(losses)

        slope = (tf.function(run) if jit else run)(tf.constant(y_pred), tf.constant(direction))
    np.testing.assert_allclose(numpy(slope), (gradient * direction).sum(-1), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(BACKEND != "jax", reason="TensorFlow and PyTorch have no Hessian in one call")
def test_the_hessian_in_jax(rng):
    import jax

    logits, labels = make_case(rng, (6,), -1, scale=1.0)
    p = reference.softmax(logits)
    for nested in (jax.hessian, lambda f: jax.jacrev(jax.jacrev(f)), lambda f: jax.jacfwd(jax.jacfwd(f))):
        hessian = nested(lambda z: sparse(labels, z, 0.1, from_logits=True))(logits)
        np.testing.assert_allclose(hessian, np.diag(p) - np.outer(p, p), atol=1e-6)


FLOAT64_CHECK = """
import keras, numpy as np, reference
import keras_ls
from keras import ops
from harness import value_and_gradient

rng = np.random.default_rng(7)
logits, labels = rng.standard_normal((6, 7)), np.array([0, 3, 6, 1, 1, 5])
for prior in (None, [0, 1, 2, 3, 4, 5, 6]):
    normalised = None if prior is None else np.array(prior) / 21
    targets = reference.smoothed_targets(labels, 7, 0.1, normalised)
    onehot = np.eye(7)[labels]
    losses = {
        "sparse": lambda z: keras_ls.smoothed_sparse_categorical_crossentropy(labels, z, 0.1, prior, True),
        "dense": lambda z: keras_ls.smoothed_categorical_crossentropy(onehot, z, 0.1, prior, True),
        "probabilities": lambda z: keras_ls.smoothed_sparse_categorical_crossentropy(
            labels, 2 * ops.softmax(z, axis=-1), 0.1, prior),
    }
    if keras.backend.backend() == "tensorflow":  # where its logits are found
        losses["softmax"] = lambda z: keras_ls.smoothed_sparse_categorical_crossentropy(
            labels, ops.softmax(z, axis=-1), 0.1, prior)
    for name, loss in losses.items():
        value, gradient = value_and_gradient(loss, logits, dtype="float64")
        assert value.dtype == gradient.dtype == "float64", name
        np.testing.assert_allclose(value, reference.cross_entropy(targets, logits), rtol=1e-12)
        expected = reference.cross_entropy_gradient(targets, logits)
        np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-14)
        if keras.backend.backend() == "jax":
            from jax.test_util import check_grads

            check_grads(loss, (logits,), order=2, modes=("fwd", "rev"))
        if keras.backend.backend() == "torch":
            import torch

            x = torch.tensor(logits, requires_grad=True)
            assert torch.autograd.gradcheck(loss, (x,))
            assert torch.autograd.gradgradcheck(loss, (x,))
"""


def test_float64_is_computed_in_float64():
    """On JAX in a process of its own, which has 64-bit numbers for a whole process or not at all."""
    if BACKEND != "jax":
        exec(FLOAT64_CHECK, {})
        return
    environment = {
        **os.environ,
        "JAX_ENABLE_X64": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(TESTS)]),
    }
    done = subprocess.run([sys.executable, "-c", FLOAT64_CHECK], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_labels_under_a_mask_are_not_looked_at_wherever_the_class_axis_is(rng):
    logits, labels = rng.standard_normal((2, 5, 3)).astype("float32"), rng.integers(0, 5, (2, 3))
    y_pred = ops.convert_to_tensor(logits)
    set_mask(y_pred, ops.convert_to_tensor(np.arange(3) < [[2], [3]]))
    loss = keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, from_logits=True, axis=1)
    whole = float(loss(labels, y_pred))
    labels[0, 2] = -1
    assert float(loss(labels, y_pred)) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize(
    ("alpha", "prior"), [(0.0, None), (0.0, [1, 1, 1, 1]), (0.2, [3, 1, 0, 0]), (0.2, [3, 1, 1e-50, 1e-60])]
)
def test_a_forbidden_class_without_a_target_costs_nothing_in_the_dense_loss(rng, alpha, prior, jit):
    logits, labels = make_case(rng, (5, 4), -1)
    logits[0] = [1e38, 1.0, 2.0, 0.0]
    logits[1] -= np.float32(1e38)
    labels %= 2
    y_true = one_hot(labels, 4, -1)
    forbidden = logits.copy()
    forbidden[:, 2:] = -np.inf
    value, gradient = value_and_gradient(lambda z: dense(y_true, z, alpha, prior, from_logits=True), forbidden, jit=jit)
    targets = reference.smoothed_targets(labels, 2, alpha, None if prior is None else [0.75, 0.25])
    np.testing.assert_allclose(value, reference.cross_entropy(targets, logits[:, :2]), rtol=1e-5, atol=1e-6)
    slope = reference.cross_entropy_gradient(targets, logits[:, :2])
    np.testing.assert_allclose(gradient, np.pad(slope, ((0, 0), (0, 2))), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["sparse", "dense"])
@pytest.mark.parametrize(("alpha", "prior"), [(0.0, None), (0.2, None), (0.2, [1, 1, 0])])
def test_a_forbidden_class_with_a_target_costs_infinitely_much(alpha, prior, kind):
    logits = np.array([[0.0, -np.inf, 1.0]], "float32")
    loss = call(kind, np.array([1]), 3, -1, label_smoothing=alpha, prior=prior, from_logits=True)
    assert numpy(loss(logits)).tolist() == [np.inf]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_broken_logits_surface_beside_a_forbidden_class(bad):
    logits = np.array([[bad, -np.inf, 1.0], [0.0, -np.inf, 1.0]], "float32")
    value = numpy(dense(np.array([[1.0, 0.0, 0.0]] * 2), logits, 0.0, from_logits=True))
    assert np.isnan(value).tolist() == [True, False]


def test_without_smoothing_the_dense_loss_is_bit_for_bit_that_of_keras(rng):
    logits, labels = make_case(rng, (50, 8), -1)
    y_true = one_hot(labels, 8, -1)
    expected = numpy(keras.losses.categorical_crossentropy(y_true, logits, from_logits=True))
    np.testing.assert_array_equal(numpy(dense(y_true, logits, 0.0, from_logits=True)), expected)


@pytest.mark.parametrize("kind", ["sparse", "dense"])
@pytest.mark.parametrize("axis", [-1, 1])
def test_a_loss_over_one_class_warns(kind, axis):
    y_pred = np.zeros((4, 1, 3) if axis == 1 else (4, 1), "float32")
    y_true = np.zeros((4, 3) if axis == 1 else 4, int)
    with pytest.warns(SyntaxWarning, match=r"more than one class.*BinaryCrossentropy\(label_smoothing") as caught:
        call(kind, y_true, 1, axis, from_logits=True)(y_pred)
    assert "\n" not in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error", SyntaxWarning)
        call(kind, np.zeros(4, int), 2, -1, from_logits=True)(np.zeros((4, 2), "float32"))


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.6])
def test_one_sigmoid_unit_with_keras_binary_loss_is_the_loss_of_its_two_classes(rng, alpha):
    logits, labels = (2.0 * rng.standard_normal((9, 1))).astype("float32"), rng.integers(0, 2, (9, 1))
    binary = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=alpha)
    expected, slope = value_and_gradient(lambda z: binary(labels.astype("float32"), z), logits)
    for loss, y_true in (
        (keras_ls.SmoothedCategoricalCrossentropy(alpha, from_logits=True), one_hot(labels[:, 0], 2, -1)),
        (keras_ls.SmoothedSparseCategoricalCrossentropy(alpha, from_logits=True), labels),
    ):

        def of_two_classes(z, loss=loss, y_true=y_true):
            return loss(y_true, ops.concatenate([ops.zeros_like(z), z], axis=-1))

        value, gradient = value_and_gradient(of_two_classes, logits)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.6])
def test_smoothed_binary_labels_are_the_second_column(alpha):
    y = np.array([0.0, 1.0, 0.3], "float32")
    columns = numpy(smooth_labels(np.stack([1 - y, y], axis=-1), alpha))
    np.testing.assert_allclose(columns[:, 1], (1 - alpha) * y + alpha / 2, rtol=1e-6)
    probabilities = np.array([0.2, 0.7, 0.9], "float32")
    ours = -(columns[:, 1] * np.log(probabilities) + columns[:, 0] * np.log(1 - probabilities))
    keras_own = keras.losses.BinaryCrossentropy(label_smoothing=alpha)(y, probabilities)
    np.testing.assert_allclose(ours.mean(), numpy(keras_own), rtol=1e-5)


def test_smooth_labels_mixes_with_the_prior(rng):
    y_true = rng.dirichlet(np.ones(5), (3, 4)).astype("float32")
    prior = rng.uniform(0, 1, 5)
    for axis in (-1, 1):
        given = np.moveaxis(y_true, -1, axis)
        mixed = numpy(smooth_labels(given, 0.3, prior, axis=axis))
        np.testing.assert_allclose(np.moveaxis(mixed, axis, -1), 0.7 * y_true + 0.3 * prior / prior.sum(), rtol=1e-5)
        uniform = numpy(smooth_labels(given, 0.3, axis=axis))
        np.testing.assert_allclose(uniform, 0.7 * given + 0.3 / 5, rtol=1e-5)
    np.testing.assert_array_equal(numpy(smooth_labels(np.eye(3, dtype=int), 0.0)), np.eye(3))
    many = numpy(smooth_labels(np.zeros((1, 70_000), "float16"), 0.1))  # more classes than float16 can count
    np.testing.assert_allclose(many.astype("float64"), 0.1 / 70_000, rtol=0.03)


BAD_ARRAYS = [
    np.array([["a", "b"]]),
    "labels",
    np.array([[1j, 2.0]]),
    [[1.0], [1.0, 2.0]],
    np.array([[None, 1]]),
    np.zeros(2, [("a", "i4")]),
    np.array(["2020-01-01"], "datetime64[D]"),
    object(),
    None,
]


@pytest.mark.parametrize("bad", BAD_ARRAYS, ids=lambda bad: f"{type(bad).__name__} {getattr(bad, 'dtype', '')}")
def test_what_is_no_array_of_numbers_is_refused_by_name(bad):
    y_true, y_pred = np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]], "float32")
    dense_loss, sparse_loss = (
        keras_ls.SmoothedCategoricalCrossentropy(),
        keras_ls.SmoothedSparseCategoricalCrossentropy(),
    )
    attempts = [
        ("y_true", lambda: smooth_labels(bad, 0.1)),
        ("y_true", lambda: dense(bad, y_pred)),
        ("y_true", lambda: sparse(bad, y_pred)),
        ("y_true", lambda: dense_loss(bad, y_pred)),
        ("y_true", lambda: sparse_loss(bad, y_pred)),
        ("y_pred", lambda: dense(y_true, bad)),
        ("y_pred", lambda: sparse([1], bad)),
        ("y_pred", lambda: dense_loss(y_true, bad)),
        ("y_pred", lambda: sparse_loss([1], bad)),
    ]
    if bad is not None:
        attempts.append(("sample_weight", lambda: dense_loss(y_true, y_pred, bad)))
        attempts.append(("prior", lambda: dense(y_true, y_pred, prior=bad)))
        attempts.append(("prior", lambda: keras_ls.SmoothedCategoricalCrossentropy(prior=bad)))
    for name, attempt in attempts:
        with pytest.raises(ValueError, match=f"`{name}` must be") as caught:
            attempt()
        assert "\n" not in str(caught.value)


def test_numbers_as_strings_are_no_prior():
    with pytest.raises(ValueError, match="`prior` must be an array of real numbers"):
        smooth_labels(np.eye(2), 0.1, prior=["0.5", "0.5"])


@needs_graph
def test_a_prior_that_only_the_graph_knows_is_refused():
    with pytest.raises(ValueError, match="`prior` must be numbers that are known now"):
        compiled(lambda prior: smooth_labels(np.eye(2, dtype="float32"), 0.1, prior=prior))(ops.ones(2))


@pytest.mark.parametrize("dtype", [">i4", ">i8", ">f4", ">f8", "uint8", "uint16", "uint32", "uint64", "longdouble"])
def test_arrays_of_any_dtype_and_byte_order_are_taken(rng, dtype):
    labels, prior, weights = rng.integers(0, 4, 6), np.array([4, 3, 2, 1]), np.array([0, 1, 2, 3, 1, 1])
    predictions = rng.integers(1, 9, (6, 4))
    y_true = np.eye(4, dtype=int)[labels]
    plain, strange = ([a.astype(d) for a in (y_true, labels, predictions, prior, weights)] for d in ("float32", dtype))
    for given, result in ((plain, []), (strange, [])):
        y_true, labels, predictions, prior, weights = given
        result.append(dense(y_true, predictions, prior=prior))
        result.append(sparse(labels, predictions, prior=prior))
        result.append(smooth_labels(y_true, 0.1, prior))
        for from_logits in (False, True):
            options = {"prior": prior, "from_logits": from_logits}
            result.append(keras_ls.SmoothedCategoricalCrossentropy(**options)(y_true, predictions, weights))
            result.append(keras_ls.SmoothedSparseCategoricalCrossentropy(**options)(labels, predictions, weights))
        given[:] = result
    for expected, ours in zip(plain, strange, strict=True):
        np.testing.assert_allclose(numpy(ours), numpy(expected), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64"])
def test_unsigned_tensors_are_taken(dtype):
    if BACKEND == "jax" and dtype == "uint64":
        pytest.skip("JAX has no 64-bit numbers by default")
    labels = np.array([2, 0, 1])
    y_pred = np.arange(9, dtype="float32").reshape(3, 3)
    if BACKEND == "torch":
        import torch

        given = torch.tensor(labels.tolist(), dtype=getattr(torch, dtype))
    else:
        given = ops.cast(ops.convert_to_tensor(labels), dtype)
    expected = numpy(sparse(labels, y_pred, from_logits=True))
    np.testing.assert_array_equal(numpy(sparse(given, y_pred, from_logits=True)), expected)
    for loss in (keras_ls.SmoothedSparseCategoricalCrossentropy(from_logits=True),):
        np.testing.assert_allclose(numpy(loss(given, y_pred, given)), (expected * labels).mean(), rtol=1e-6)


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (np.array([1, 2**32 + 1]), r"42949672\d\d"),
        (np.array([1, 2**64 - 1], "uint64"), r"18446744073709551\d\d\d"),
        (np.array([1, 2**32 - 1], "uint32"), r"42949672\d\d"),
        (np.array([1, -1], ">i8"), "-1"),
        (np.array([1, 5], "float16"), "5"),
        ([1, 2.5], r"2\.5"),
        ([1, 2**63], "9223372036854775808"),
    ],
)
def test_labels_keep_that_they_are_no_class(labels, shown):
    y_pred = np.zeros((2, 4), "float32")
    for attempt in (
        lambda: sparse(labels, y_pred, from_logits=True),
        lambda: keras_ls.SmoothedSparseCategoricalCrossentropy(from_logits=True)(labels, y_pred),
    ):
        with pytest.raises(ValueError, match=rf"`y_true` must hold integers in \[0, 4\)\. Received: \[{shown}\]"):
            attempt()


@pytest.mark.parametrize("ignore_class", [-1, 2**31 - 1])
def test_the_largest_labels_are_not_ignored(ignore_class):
    for labels in (np.array([1, 2**64 - 1], "uint64"), np.array([1, 2**32 - 1], "uint32")):
        with pytest.raises(ValueError, match="`y_true` must hold integers"):
            sparse(labels, np.zeros((2, 4), "float32"), from_logits=True, ignore_class=ignore_class)


@needs_graph
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("dtype", ["uint32", "uint64"])
def test_unsigned_labels_that_are_no_class_are_nan_in_a_graph(dtype, jit):
    if BACKEND == "jax" and dtype == "uint64":
        pytest.skip("JAX has no 64-bit numbers by default")
    run = compiled(lambda y: sparse(y, ops.zeros((3, 4)), 0.1, from_logits=True, ignore_class=-1), jit)
    labels = np.array([1, np.iinfo(dtype).max, 2**31], dtype)
    assert np.isnan(numpy(run(ops.convert_to_tensor(labels)))).tolist() == [False, True, True]


def test_labels_become_tensors_that_compare():
    allowed = {"int32", "int64", "float32", "float64"}
    for dtype in (
        "bool",
        "int8",
        "uint8",
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "uint64",
        "float16",
        "float64",
    ):
        labels = np.array([0, 1, 1], dtype)
        tensor = labels_to_tensor(labels, "labels")
        assert keras.backend.standardize_dtype(tensor.dtype) in allowed
        np.testing.assert_array_equal(numpy(tensor), labels.astype("float64"))
    of_tensors = [ops.convert_to_tensor(1), ops.convert_to_tensor(2)]
    assert numpy(labels_to_tensor(of_tensors, "labels")).tolist() == [1, 2]
    variable = keras.Variable([1.0, 2.0])
    assert numpy(labels_to_tensor(variable, "labels")).tolist() == [1, 2]
    assert keras.backend.standardize_dtype(numbers_to_tensor([0.5, 1.0], "weights").dtype) == "float32"


def test_the_gradient_passes_through_a_list_of_predictions(rng):
    logits, labels = make_case(rng, (2, 3), -1)
    expected = value_and_gradient(lambda z: sparse(labels, z, from_logits=True), logits)[1]
    gradient = value_and_gradient(lambda z: sparse(labels, [z[0], z[1]], from_logits=True), logits)[1]
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a variable of TensorFlow")
@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("in_graph", [False, True])
def test_predictions_may_be_a_variable_of_tensorflow(axis, in_graph, rng):
    import tensorflow as tf

    logits, labels = make_case(rng, (3, 4, 5), axis)
    variable = tf.Variable(logits)

    def step():
        with tf.GradientTape() as tape:
            loss = ops.sum(sparse(labels, variable, 0.1, from_logits=True, axis=axis))
        return loss, tape.gradient(loss, variable)

    expected = value_and_gradient(lambda z: ops.sum(sparse(labels, z, 0.1, from_logits=True, axis=axis)), logits)
    for found, wanted in zip((tf.function(step) if in_graph else step)(), expected, strict=True):
        np.testing.assert_allclose(numpy(found), wanted, rtol=1e-6)


@pytest.mark.parametrize("flag", ["False", 1, np.nan, None, object(), np.array([True, False])])
def test_what_is_no_flag_is_refused(flag):
    y_pred = np.array([[0.5, 0.5]], "float32")
    for attempt in (
        lambda: dense([[1.0, 0.0]], y_pred, from_logits=flag),
        lambda: sparse([1], y_pred, from_logits=flag),
        lambda: keras_ls.SmoothedCategoricalCrossentropy(from_logits=flag),
        lambda: keras_ls.SmoothedSparseCategoricalCrossentropy(from_logits=flag),
    ):
        with pytest.raises(ValueError, match="`from_logits` must be True or False") as caught:
            attempt()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": 3}, "`name` must be a string"),
        ({"reduction": ["sum"]}, "`reduction` must be a string"),
        ({"reduction": "median"}, "`reduction` must be one that"),
        ({"reduction": "a\nb"}, r"Received: reduction='a\\nb'"),
        ({"dtype": "int32"}, "`dtype` must be a float dtype"),
        ({"dtype": "False"}, "`dtype` must be a float dtype"),
        ({"dtype": np.zeros(3)}, "`dtype` must be a float dtype"),
        ({"label_smoothing": 10**400}, "`label_smoothing` must be a number"),
        ({"label_smoothing": 10**5000}, "`label_smoothing` must be a number"),  # which has no repr
        ({"axis": 0.5}, "`axis` must be an integer"),
        ({"axis": True}, "`axis` must be an integer"),
        ({"axis": None}, "`axis` must be an integer"),
    ],
)
def test_bad_options_are_refused_by_both_classes(options, message):
    for kind in (keras_ls.SmoothedCategoricalCrossentropy, keras_ls.SmoothedSparseCategoricalCrossentropy):
        with pytest.raises(ValueError, match=message) as caught:
            kind(**options)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(4,), (0,), (3, 5), (4, 5, 3)])
def test_weights_of_a_shape_that_no_loss_has_are_refused(shape):
    y_pred = np.full((4, 5, 3), 1 / 3, "float32")
    for loss, y_true in (
        (keras_ls.SmoothedSparseCategoricalCrossentropy(), np.zeros((4, 5), int)),
        (keras_ls.SmoothedCategoricalCrossentropy(), y_pred),
    ):
        with pytest.raises(ValueError, match=r"`sample_weight` must broadcast to .*, \(4, 5\)\. Received: shape"):
            loss(y_true, y_pred, np.ones(shape))


@pytest.mark.parametrize("shape", [(), (1,), (5,), (4, 1), (4, 5), (4, 5, 1)])
def test_weights_of_a_shape_that_keras_takes_count_as_there(rng, shape):
    y_true, y_pred = rng.integers(0, 3, (4, 5)), rng.normal(size=(4, 5, 3)).astype("float32")
    ours = keras_ls.SmoothedSparseCategoricalCrossentropy(0.0, from_logits=True)
    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    weights = rng.uniform(0, 2, shape).astype("float32")
    assert float(ours(y_true, y_pred, weights)) == pytest.approx(float(theirs(y_true, y_pred, weights)), rel=1e-5)
    # One position per example: the weights (N,) are those of the examples.
    one = y_true[:, :1], y_pred[:, :1], rng.uniform(0, 2, 4).astype("float32")
    assert float(ours(*one)) == pytest.approx(float(theirs(*one)), rel=1e-5)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (4, 1), (4, 5), (4, 5, 1)])
def test_weights_that_broadcast_count_as_there_under_a_mask(rng, shape, reduction):
    y_true, y_pred = rng.integers(0, 3, (4, 5)), rng.normal(size=(4, 5, 3)).astype("float32")
    weights = rng.uniform(0.5, 2, shape).astype("float32")
    spread = weights[..., 0] if len(shape) > 2 else np.broadcast_to(weights, (4, 5))
    counts = rng.random((4, 5)) > 0.4
    losses = numpy(sparse(y_true, y_pred, 0.1, from_logits=True)) * spread * counts
    divisors = {"sum": 1, "sum_over_batch_size": counts.sum(), "mean_with_sample_weight": (spread * counts).sum()}
    expected = pytest.approx(losses.sum() / divisors[reduction], rel=1e-5)
    options = {"label_smoothing": 0.1, "from_logits": True, "reduction": reduction}
    ignoring = keras_ls.SmoothedSparseCategoricalCrossentropy(ignore_class=-1, **options)
    assert float(ignoring(np.where(counts, y_true, -1), y_pred, weights)) == expected
    for loss, targets in (
        (keras_ls.SmoothedSparseCategoricalCrossentropy(**options), y_true),
        (keras_ls.SmoothedCategoricalCrossentropy(**options), np.eye(3, dtype="float32")[y_true]),
    ):
        masked = ops.convert_to_tensor(y_pred)
        set_mask(masked, ops.convert_to_tensor(counts))
        assert float(loss(targets, masked, weights)) == expected


def test_losses_that_are_not_reduced_have_the_shape_of_keras_under_a_mask(rng):
    y_true, y_pred = rng.integers(0, 3, 9), rng.normal(size=(9, 3)).astype("float32")
    weights, counts = rng.uniform(0.5, 2, (9, 1)).astype("float32"), np.arange(9) % 3 > 0
    found = []
    for loss in (
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none"),
        keras_ls.SmoothedSparseCategoricalCrossentropy(0.0, from_logits=True, reduction="none"),
    ):
        masked = ops.convert_to_tensor(y_pred)
        set_mask(masked, ops.convert_to_tensor(counts))
        found.append(numpy(loss(y_true, masked, ops.convert_to_tensor(weights))))
    assert found[1].shape == (9, 1)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)


def test_weights_of_examples_with_one_position_count_under_a_mask(rng):
    y_true, y_pred = np.array([[0], [2], [-1], [1]]), rng.normal(size=(4, 1, 3)).astype("float32")
    loss = keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, from_logits=True, ignore_class=-1)
    for weights in (np.array([1.0, 2.0, 3.0, 4.0]), np.array([[1.0], [2.0], [3.0], [4.0]])):
        assert float(loss(y_true, y_pred, weights)) == pytest.approx(
            float(loss(y_true[:, 0], y_pred[:, 0], weights)), rel=1e-5
        )


@pytest.mark.parametrize("graph", [False, True])
def test_of_two_softmaxes_one_is_traced_back_as_in_keras(graph):
    if BACKEND != "tensorflow":
        pytest.skip("only TensorFlow's tensors show their softmax")
    import tensorflow as tf

    logits, targets = ops.convert_to_tensor([[5.0, 0.0, 0.0], [1.0, -2.0, 0.0]]), np.eye(3, dtype="float32")[[0, 2]]
    for alpha in (0.0, 0.1):
        theirs = keras.losses.CategoricalCrossentropy(label_smoothing=alpha)
        ours = keras_ls.SmoothedCategoricalCrossentropy(alpha)

        def both(z, ours=ours, theirs=theirs):
            return [loss(targets, ops.softmax(ops.softmax(z))) for loss in (ours, theirs)]

        found, expected = (tf.function(both) if graph else both)(logits)
        assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_ragged_labels_are_refused():
    if BACKEND != "tensorflow":
        pytest.skip("ragged tensors are TensorFlow's")
    import tensorflow as tf

    labels = tf.ragged.constant([[1, 2], [1]])
    for attempt in (
        lambda: keras_ls.label_frequencies(labels, 3),
        lambda: sparse(labels, np.zeros((2, 2, 3), "float32")),
        lambda: keras_ls.calibration_error(labels, np.full((2, 2, 3), 1 / 3)),
    ):
        with pytest.raises(ValueError, match="must be an array of real numbers"):
            attempt()


@pytest.mark.parametrize("name", [None, "mine"])
def test_a_loss_without_a_name_gets_one_from_keras(name):
    assert keras_ls.SmoothedCategoricalCrossentropy(name=name).name == (name or "smoothed_categorical_crossentropy")


@pytest.mark.parametrize("ignore_class", ["pad", 1.5, True, np.nan, 2**40])
def test_an_ignored_class_that_is_no_integer_is_refused(ignore_class):
    for attempt in (
        lambda: sparse([1], np.zeros((1, 3), "float32"), ignore_class=ignore_class),
        lambda: keras_ls.SmoothedSparseCategoricalCrossentropy(ignore_class=ignore_class),
    ):
        with pytest.raises(ValueError, match="`ignore_class` must be"):
            attempt()


@pytest.mark.parametrize("alpha", [-0.1, 1.0, 2.0, np.nan, "much", None])
def test_bad_smoothing_is_refused(alpha):
    logits, one = np.zeros((1, 3), "float32"), np.array([[1.0, 0, 0]])
    for attempt in (
        lambda: smooth_labels(one, alpha),
        lambda: dense(one, logits, alpha),
        lambda: sparse(np.array([0]), logits, alpha),
        lambda: keras_ls.SmoothedCategoricalCrossentropy(alpha),
        lambda: keras_ls.SmoothedSparseCategoricalCrossentropy(alpha),
    ):
        with pytest.raises(ValueError, match="`label_smoothing` must be"):
            attempt()


@pytest.mark.parametrize("prior", [[0.5, 0.5], [1, 1, -1], [0, 0, 0], [1, 1, np.nan], [[1, 1, 1]], [], [1, 1, np.inf]])
def test_bad_priors_are_refused(prior):
    logits, one = np.zeros((1, 3), "float32"), np.array([[1.0, 0, 0]])
    for attempt in (
        lambda: smooth_labels(one, 0.1, prior),
        lambda: dense(one, logits, 0.1, prior),
        lambda: sparse(np.array([0]), logits, 0.1, prior),
        lambda: keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, prior)(np.array([0]), logits),
    ):
        with pytest.raises(ValueError, match="`prior` must"):
            attempt()


@pytest.mark.parametrize(
    ("true_shape", "pred_shape", "axis"),
    [((5,), (4, 3), -1), ((4, 2), (4, 3), -1), ((4, 3), (4, 3), -1), ((4, 7), (4, 3, 7, 1), 1), ((), (4, 3), -1)],
)
def test_sparse_shapes_that_cannot_match_are_refused(true_shape, pred_shape, axis):
    with pytest.raises(ValueError, match="`y_true` must hold one class id per prediction"):
        sparse(np.zeros(true_shape, int), np.zeros(pred_shape, "float32"), axis=axis)


@pytest.mark.parametrize(("true_shape", "pred_shape"), [((4,), (4, 3)), ((4, 2), (4, 3)), ((1, 3), (4, 3))])
def test_dense_shapes_that_differ_are_refused(true_shape, pred_shape):
    with pytest.raises(ValueError, match="`y_true` must have the shape of `y_pred`"):
        dense(np.zeros(true_shape), np.zeros(pred_shape, "float32"))


@pytest.mark.parametrize("axis", [2, -3, 0.5])
def test_an_axis_that_is_none_is_refused(axis):
    with pytest.raises(ValueError, match="`axis` must be a dimension"):
        sparse(np.zeros(4, int), np.zeros((4, 3), "float32"), axis=axis)
    with pytest.raises(ValueError, match="`axis` must be a dimension"):
        dense(np.zeros((4, 3)), np.zeros((4, 3), "float32"), axis=axis)


def test_configs_are_complete_and_survive_json(rng):
    logits, labels = make_case(rng, (4, 3), -1)
    options = {"label_smoothing": 0.2, "prior": [1, 2, 3], "from_logits": True, "axis": -1, "reduction": "sum"}
    dense_loss = keras_ls.SmoothedCategoricalCrossentropy(**options, name="a", dtype="float16")
    assert_config_round_trip(dense_loss, lambda loss: loss(one_hot(labels, 3, -1), logits))
    sparse_loss = keras_ls.SmoothedSparseCategoricalCrossentropy(**options, ignore_class=2, name="b", dtype="bfloat16")
    assert_config_round_trip(sparse_loss, lambda loss: loss(labels, logits))


@pytest.mark.peer
@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 5), (2, 8, 3, 4)])
def test_pytorchs_cross_entropy_agrees(rng, alpha, reduction, shape):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    logits, labels = make_case(rng, shape, 1)
    labels[rng.random(labels.shape) < 0.2] = -100
    z = torch.tensor(logits, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        z, torch.tensor(labels), label_smoothing=alpha, ignore_index=-100, reduction=reduction
    )
    expected.sum().backward()
    ours = keras_ls.SmoothedSparseCategoricalCrossentropy(
        alpha,
        from_logits=True,
        axis=1,
        ignore_class=-100,
        reduction={"mean": "sum_over_batch_size", "sum": "sum", "none": None}[reduction],
    )
    value, gradient = value_and_gradient(lambda z: ours(labels, z), logits)
    np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, z.grad.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_forbidden_class_costs_nothing_in_any_dtype(dtype):
    logits = ops.convert_to_tensor(np.array([[1.0, 2.0, -np.inf]], dtype))
    value = numpy(dense(np.array([[0.0, 1.0, 0.0]], dtype), logits, 0.0, from_logits=True))
    np.testing.assert_allclose(value, [np.log1p(np.exp(-1))], rtol=1e-3)


def test_symbolic_tensors_are_called_that():
    with pytest.raises(ValueError, match="`y_pred` must hold numbers: use symbolic tensors in"):
        keras_ls.smoothed_sparse_categorical_crossentropy(np.array([0]), keras.Input((2,)))


@pytest.mark.parametrize("positions", [(6,), (1, 5), (5, 5), (6, 5)])
def test_a_mask_of_another_rank_counts_beside_ignored_labels(rng, positions):
    logits, labels = make_case(rng, (*positions, 8), -1)
    mask, kept = rng.random(positions) < 0.6, rng.random(positions) < 0.7
    mask.flat[0] = kept.flat[0] = kept.flat[-1] = True
    mask.flat[-1] = False
    labels[~kept] = -1
    expected = numpy(sparse(labels[mask & kept], logits[mask & kept], 0.1, from_logits=True)).mean()
    loss = keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, from_logits=True, ignore_class=-1)
    for shaped in (mask, mask[..., None]):
        y_pred = ops.convert_to_tensor(logits)
        set_mask(y_pred, ops.convert_to_tensor(shaped))
        np.testing.assert_allclose(numpy(loss(labels, y_pred)), expected, rtol=1e-5)
        assert get_mask(y_pred).shape == shaped.shape


@pytest.mark.parametrize("positions", [(2, 3, 4), (3, 3, 3)])
def test_a_mask_of_leading_dimensions_counts_for_all_that_follow(rng, positions):
    logits, labels = make_case(rng, (*positions, 5), -1)
    mask = rng.random(positions[:2]) < 0.6
    mask[0] = [True, False] + [True] * (positions[1] - 2)
    expected = numpy(sparse(labels[mask], logits[mask], 0.1, from_logits=True)).mean()
    for make, y_true in (
        (keras_ls.SmoothedCategoricalCrossentropy, one_hot(labels, 5, -1)),
        (keras_ls.SmoothedSparseCategoricalCrossentropy, labels),
    ):
        y_pred = ops.convert_to_tensor(logits)
        set_mask(y_pred, ops.convert_to_tensor(mask))
        np.testing.assert_allclose(numpy(make(0.1, from_logits=True)(y_true, y_pred)), expected, rtol=1e-5)
        assert get_mask(y_pred).shape == mask.shape


def test_both_classes_smooth_with_their_prior(rng):
    logits, labels = make_case(rng, (6, 4), -1)
    prior, normalised = make_prior("random", 4)
    expected = reference.cross_entropy(reference.smoothed_targets(labels, 4, 0.3, normalised), logits).mean()
    for make, y_true in (
        (keras_ls.SmoothedCategoricalCrossentropy, one_hot(labels, 4, -1)),
        (keras_ls.SmoothedSparseCategoricalCrossentropy, labels),
    ):
        np.testing.assert_allclose(numpy(make(0.3, prior, from_logits=True)(y_true, logits)), expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_dense_loss_in_half_precision_is_that_of_float32_rounded_once(rng, dtype):
    logits, labels = make_case(rng, (256, 40), -1)
    half = ops.cast(ops.convert_to_tensor(logits), dtype)
    loss = call("dense", labels, 40, -1, label_smoothing=0.1, from_logits=True)
    expected = ops.cast(loss(ops.cast(half, "float32")), dtype)
    np.testing.assert_array_equal(numpy(loss(half)), numpy(expected))


@pytest.mark.skipif(BACKEND != "torch", reason="of PyTorch's compiler")
@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_pytorch_compiles_it_as_one_graph(kind, rng):
    import torch

    logits, labels = make_case(rng, (6, 3), -1)
    loss = {
        "sparse": keras_ls.SmoothedSparseCategoricalCrossentropy,
        "dense": keras_ls.SmoothedCategoricalCrossentropy,
    }[kind](0.1, from_logits=True)
    y = torch.as_tensor(labels if kind == "sparse" else np.eye(3, dtype="float32")[labels])
    z = torch.as_tensor(logits, dtype=torch.float32)
    found = torch.compile(lambda y, z: loss(y, z), backend="eager", fullgraph=True)(y, z)
    np.testing.assert_allclose(numpy(found), numpy(loss(y, z)), rtol=1e-6)
