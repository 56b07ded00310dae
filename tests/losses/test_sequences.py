"""Unigram priors and neighbourhood smoothing against their definitions, and with the losses."""

import numpy as np
import pytest
import reference
from harness import BACKEND, compiled, needs_graph, numpy, value_and_gradient
from keras import ops

import keras_ls
from keras_ls import losses
from keras_ls.losses import label_frequencies, neighbourhood_smoothed_targets


def neighbourhood_reference(labels, num_classes, weights, ignore_class=None):
    """The definition place by place: what a neighbour cannot take stays with the label."""
    labels = np.asarray(labels)
    targets = np.zeros((*labels.shape, num_classes))
    for place in np.ndindex(*labels.shape):
        label = int(labels[place])
        if label == ignore_class:
            continue
        targets[place][label] += 1 - sum(weights)
        for distance, weight in enumerate(weights, start=1):
            for t in (place[-1] - distance, place[-1] + distance):
                neighbour = int(labels[place[:-1]][t]) if 0 <= t < labels.shape[-1] else ignore_class
                there = 0 <= t < labels.shape[-1] and neighbour != ignore_class
                targets[place][neighbour if there else label] += weight / 2
    return targets


@pytest.mark.parametrize("weights", [[], [0.1], [0.1, 0.05], (0.0, 0.3, 0.2, 0.0, 0.1)])
@pytest.mark.parametrize("ignore_class", [None, -1, 0])
@pytest.mark.parametrize("shape", [(1,), (4,), (3, 5), (2, 3, 2), (2, 0)])
def test_neighbourhood_targets_match_the_definition(rng, shape, ignore_class, weights):
    labels = rng.integers(0, 6, shape)
    if ignore_class is not None:
        labels[rng.uniform(size=shape) < 0.3] = ignore_class
    targets = numpy(neighbourhood_smoothed_targets(labels, 6, weights, ignore_class))
    assert targets.dtype == np.float32
    np.testing.assert_allclose(targets, neighbourhood_reference(labels, 6, weights, ignore_class), atol=1e-6)
    counts = np.ones(shape) if ignore_class is None else labels != ignore_class
    np.testing.assert_allclose(targets.sum(-1), counts, atol=1e-6)


@pytest.mark.parametrize("labels", [[1, 2, 2, 0], np.array([1.0, 2.0, 2.0, 0.0]), np.array([1, 2, 2, 0], "uint8")])
def test_labels_may_be_lists_and_floats(labels):
    expected = neighbourhood_reference([1, 2, 2, 0], 3, [0.2])
    np.testing.assert_allclose(numpy(neighbourhood_smoothed_targets(labels, 3, [0.2])), expected, atol=1e-6)


def test_rows_are_independent_of_padding(rng):
    labels = rng.integers(0, 5, (2, 6))
    padded = np.concatenate([labels, np.full((2, 3), -1)], axis=1)
    targets = numpy(neighbourhood_smoothed_targets(padded, 5, [0.2, 0.1], ignore_class=-1))
    np.testing.assert_allclose(targets[:, :6], numpy(neighbourhood_smoothed_targets(labels, 5, [0.2, 0.1])), atol=1e-7)
    assert (targets[:, 6:] == 0).all()


def test_neighbourhood_targets_train_with_the_dense_loss(rng):
    logits = rng.standard_normal((2, 5, 4)).astype("float32")
    labels = np.array([[0, 1, 2, 3, 3], [2, 2, 1, -1, -1]])
    targets = neighbourhood_smoothed_targets(labels, 4, [0.1, 0.1], ignore_class=-1)
    loss = keras_ls.SmoothedCategoricalCrossentropy(0.0, from_logits=True, reduction="sum")
    value, gradient = value_and_gradient(lambda z: loss(targets, z, sample_weight=labels >= 0), logits)
    expected = neighbourhood_reference(labels, 4, [0.1, 0.1], -1)
    np.testing.assert_allclose(value, reference.cross_entropy(expected, logits).sum(), rtol=1e-5)
    np.testing.assert_allclose(gradient, reference.cross_entropy_gradient(expected, logits), rtol=1e-5, atol=1e-6)


@needs_graph
@pytest.mark.parametrize("jit", [False, True])
def test_neighbourhood_targets_in_a_graph(rng, jit):
    labels = rng.integers(0, 4, (3, 6)).astype("int32")
    labels[1, 4:] = -1
    run = compiled(lambda y: neighbourhood_smoothed_targets(y, 4, [0.2, 0.1], ignore_class=-1), jit=jit)
    expected = neighbourhood_reference(labels, 4, [0.2, 0.1], -1)
    np.testing.assert_allclose(numpy(run(ops.convert_to_tensor(labels))), expected, atol=1e-6)
    labels[0, 2] = 4
    targets = numpy(run(ops.convert_to_tensor(labels)))
    assert np.isnan(targets[0, :5]).all()  # the wrong label's own row and those it is a neighbour of
    np.testing.assert_allclose(targets[1:], expected[1:], atol=1e-6)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.data runs TensorFlow's graphs")
def test_neighbourhood_targets_of_unknown_length_in_tf_data():
    import tensorflow as tf

    labels = tf.ragged.constant([[0, 1, 2], [1], [2, 2]])
    data = tf.data.Dataset.from_tensor_slices(labels).map(lambda y: neighbourhood_smoothed_targets(y, 3, [0.2, 0.1]))
    for targets, row in zip(data, labels.to_list(), strict=True):
        np.testing.assert_allclose(targets.numpy(), neighbourhood_reference(row, 3, [0.2, 0.1]), atol=1e-6)


BAD_WEIGHTS = [[-0.1], [0.5, 0.5], [float("nan")], 0.1, [[0.1]], ["a"], ["0.1"], "0.1", None, np.eye(40), {0.1}, [1j]]
BAD_WEIGHTS += [[0.7, 0.2, 0.1], [1e308, 1e308]]  # 1 less a rounding, added from left to right; and an overflow


@pytest.mark.parametrize("weights", BAD_WEIGHTS, ids=lambda weights: str(weights)[:20].splitlines()[0])
def test_bad_weights_are_refused(weights):
    with pytest.raises(ValueError, match="`weights` must be a sequence of non-negative numbers") as caught:
        neighbourhood_smoothed_targets([0, 1], 2, weights)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("weights", [np.array([0.2, 0.1], ">f8"), np.array([0.25, 0.125], "float16"), (0, 0)])
def test_weights_may_be_arrays_and_tensors(weights):
    expected = neighbourhood_reference([1, 2, 2, 0], 3, [float(weight) for weight in weights])
    for given in (weights, ops.convert_to_tensor([float(weight) for weight in weights])):
        np.testing.assert_allclose(numpy(neighbourhood_smoothed_targets([1, 2, 2, 0], 3, given)), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [">i4", ">i8", ">f4", "uint8", "uint16", "uint32", "uint64", "int8", "float16"])
def test_labels_may_have_any_dtype(dtype):
    labels = np.array([1, 2, 2, 0], dtype)
    expected = neighbourhood_reference([1, 2, 2, 0], 3, [0.2])
    np.testing.assert_allclose(numpy(neighbourhood_smoothed_targets(labels, 3, [0.2])), expected, atol=1e-6)
    np.testing.assert_array_equal(label_frequencies(labels, 3), [0.25, 0.25, 0.5])
    assert label_frequencies(np.array([True, False, True]), 2).tolist() == [1 / 3, 2 / 3]
    np.testing.assert_array_equal(label_frequencies(labels, 3, ignore_class=-1), [0.25, 0.25, 0.5])


@pytest.mark.parametrize("labels", [np.array(["a"]), "abc", [[0], [0, 1]], np.array([1j]), None, object()])
def test_labels_that_are_no_numbers_are_refused(labels):
    for attempt in (lambda: label_frequencies(labels, 3), lambda: neighbourhood_smoothed_targets(labels, 3, [0.1])):
        with pytest.raises(ValueError, match="`labels` must be an array of real numbers") as caught:
            attempt()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("labels", [np.array([0, 2**32 + 1]), np.array([0, 2**64 - 1], "uint64")])
def test_labels_beyond_int32_are_no_classes(labels):
    for attempt in (lambda: label_frequencies(labels, 3), lambda: neighbourhood_smoothed_targets(labels, 3, [0.1])):
        with pytest.raises(ValueError, match=r"`labels` must hold integers in \[0, 3\)"):
            attempt()


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0], [0.5, 1.0]])
def test_bad_labels_are_refused(labels):
    with pytest.raises(ValueError, match=r"`labels`.*\[0, 3\)"):
        label_frequencies(labels, 3)
    with pytest.raises(ValueError, match=r"`labels`.*\[0, 3\)"):
        neighbourhood_smoothed_targets(labels, 3, [0.1])


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="`labels`"):
        neighbourhood_smoothed_targets(1, 3, [0.1])
    with pytest.raises(ValueError, match="`num_classes`"):
        neighbourhood_smoothed_targets([1], 0, [0.1])
    with pytest.raises(ValueError, match="`num_classes`"):
        label_frequencies([1], 2.5)
    with pytest.raises(ValueError, match="`ignore_class`"):
        label_frequencies([1], 2, ignore_class="pad")


@pytest.mark.parametrize("shape", [(50,), (4, 9), (2, 3, 4)])
@pytest.mark.parametrize("ignore_class", [None, -1, 2])
def test_frequencies_are_shares(rng, shape, ignore_class):
    labels = rng.integers(0, 5, shape)
    if ignore_class is not None:
        labels.flat[::3] = ignore_class
    frequencies = label_frequencies(labels, 7, ignore_class)
    counted = [label for label in labels.flat if label != ignore_class]
    np.testing.assert_allclose(frequencies, [counted.count(k) / len(counted) for k in range(7)], rtol=1e-12)
    np.testing.assert_allclose(frequencies.sum(), 1.0, rtol=1e-12)
    assert frequencies.shape == (7,)


@pytest.mark.parametrize("labels", [[], [[-1, -1]]])
def test_no_labels_have_no_frequencies(labels):
    with pytest.raises(ValueError, match=r"`labels`.*none"):
        label_frequencies(labels, 3, ignore_class=-1)


def test_frequencies_are_a_prior_of_the_losses(rng):
    labels = np.array([0, 0, 0, 1, 2, 2, -1])
    logits = rng.standard_normal((7, 3)).astype("float32")
    prior = label_frequencies(ops.convert_to_tensor(labels), 3, ignore_class=-1)
    loss = keras_ls.SmoothedSparseCategoricalCrossentropy(0.2, prior=prior, from_logits=True, ignore_class=-1)
    targets = reference.smoothed_targets(labels[:6], 3, 0.2, [3 / 6, 1 / 6, 2 / 6])
    expected = reference.cross_entropy(targets, logits[:6]).mean()
    np.testing.assert_allclose(numpy(loss(labels, logits)), expected, rtol=1e-5)


def test_is_reachable_from_the_losses():
    assert losses.label_frequencies is label_frequencies
    assert losses.neighbourhood_smoothed_targets is neighbourhood_smoothed_targets
