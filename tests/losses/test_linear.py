"""The loss of a linear output layer without its logits: against the logits' loss, the definition and differences."""

import keras
import numpy as np
import pytest
import reference
from harness import BACKEND, RTOL, compiled, needs_graph, numpy, slow
from keras import ops

import keras_ls
from keras_ls._backend import get_mask
from keras_ls.losses import linear

linear_loss = keras_ls.linear_smoothed_crossentropy
sparse = keras_ls.smoothed_sparse_categorical_crossentropy

N, D, K = 23, 5, 37


def values_and_gradients(loss, tensors, upstream, jit=None, unknown=False):
    """`loss(*tensors)` and its gradients in all of them for the given upstream gradient, as NumPy arrays."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        def run(*given):
            with tf.GradientTape() as tape:
                tape.watch(given)
                value = loss(*given)
                total = tf.reduce_sum(value * tf.cast(upstream, value.dtype))
            return value, *tape.gradient(total, given)

        given = [tf.convert_to_tensor(each) for each in tensors]
        if jit is not None:
            rows = [None, *given[0].shape[1:]] if unknown else given[0].shape
            signature = [tf.TensorSpec(rows, given[0].dtype), *(tf.TensorSpec(e.shape, e.dtype) for e in given[1:])]
            run = tf.function(run, jit_compile=jit, input_signature=signature)
        return [numpy(each) for each in run(*given)]
    if BACKEND == "jax":
        import jax

        def run(*given):
            value, pullback = jax.vjp(loss, *given)
            return value, *pullback(jax.numpy.asarray(upstream, value.dtype))

        return [numpy(each) for each in (run if jit is None else jax.jit(run))(*map(ops.convert_to_tensor, tensors))]
    given = [ops.convert_to_tensor(each).detach().clone().requires_grad_(True) for each in tensors]
    value = loss(*given)
    (value * ops.cast(ops.convert_to_tensor(upstream), value.dtype)).sum().backward()
    return [numpy(value.detach()), *(numpy(each.grad) for each in given)]


def of_logits(labels, **options):
    def loss(features, kernel, bias=None):
        logits = ops.matmul(features, kernel)
        return sparse(labels, logits if bias is None else logits + bias, from_logits=True, **options)

    return loss


def of_layer(labels, **options):
    return lambda features, kernel, bias=None: linear_loss(features, kernel, bias, labels, **options)


@pytest.fixture
def case(rng):
    """Features, kernel and bias, labels some of which are ignored, upstream gradients."""
    tensors = [rng.standard_normal(shape).astype("float32") for shape in ((N, D), (D, K), (K,))]
    labels = rng.integers(0, K, N)
    labels[[3, N - 1]] = -1
    return tensors, labels, rng.uniform(0.1, 2.0, N).astype("float32")


@pytest.fixture(params=["examples", "classes"])
def blocks(request, monkeypatch):
    """Blocks of examples or of classes, whatever K is."""
    if request.param == "classes":
        monkeypatch.setattr(linear, "_MANY_CLASSES", 1)
    return request.param


PRIORS = {"uniform": None, "unigram": np.arange(1, K + 1), "with zeros": np.arange(K) % 3}


@pytest.mark.parametrize(
    ("chunk_size", "prior", "alpha", "with_bias"),
    [
        (None, "uniform", 0.1, True),
        (1, "unigram", 0.1, False),
        (7, "uniform", 0.0, True),
        (7, "with zeros", 0.9, True),
        (22, "uniform", 0.1, False),
        (64, "unigram", 0.1, True),
    ],
)
def test_values_and_gradients_are_those_of_the_logits(case, blocks, chunk_size, prior, alpha, with_bias):
    tensors, labels, upstream = case
    options = {"label_smoothing": alpha, "prior": PRIORS[prior], "ignore_class": -1}
    tensors = tensors if with_bias else tensors[:2]
    expected = values_and_gradients(of_logits(labels, **options), tensors, upstream)
    found = values_and_gradients(of_layer(labels, **options, chunk_size=chunk_size), tensors, upstream)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


@needs_graph
@pytest.mark.parametrize(("jit", "unknown"), [slow(False, False), slow(True, False), (False, True), slow(True, True)])
def test_they_are_the_same_compiled(case, blocks, jit, unknown):
    if BACKEND == "jax" and (unknown or jit):
        pytest.skip("JAX compiles in one way, for known shapes")
    tensors, labels, upstream = case
    options = {"prior": PRIORS["with zeros"], "ignore_class": -1}
    expected = values_and_gradients(of_logits(labels, **options), tensors, upstream)
    found = values_and_gradients(of_layer(labels, **options, chunk_size=7), tensors, upstream, jit, unknown)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


def test_the_definition_and_finite_differences(case, blocks):
    (features, kernel, bias), labels, upstream = case
    labels = np.where(labels < 0, 0, labels)
    targets = reference.smoothed_targets(labels, K, 0.1)

    def exact(features, kernel, bias):
        return reference.cross_entropy(targets, features @ kernel + bias)

    wide = [each.astype("float64") for each in (features, kernel, bias)]
    value, *gradients = values_and_gradients(of_layer(labels, chunk_size=8), (features, kernel, bias), upstream)
    np.testing.assert_allclose(value, exact(*wide), rtol=1e-5)
    for place, gradient in enumerate(gradients):
        for index in [np.unravel_index(i, gradient.shape) for i in (0, gradient.size // 2, gradient.size - 1)]:
            ends = []
            for step in (1e-5, -1e-5):
                moved = [each.copy() for each in wide]
                moved[place][index] += step
                ends.append(upstream @ exact(*moved))
            np.testing.assert_allclose(gradient[index], (ends[0] - ends[1]) / 2e-5, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize(("offset", "scale"), [(1e4, 1.0), (-1e4, 1.0), (0.0, 1e3)])
def test_huge_logits(case, blocks, offset, scale):
    (features, kernel, bias), labels, upstream = case
    tensors = [features * np.float32(scale), kernel, bias + np.float32(offset)]
    expected = values_and_gradients(of_logits(labels, ignore_class=-1), tensors, upstream)
    found = values_and_gradients(of_layer(labels, ignore_class=-1, chunk_size=7), tensors, upstream)
    error = 4e-7 * max(abs(offset), 10 * scale)  # of the logits themselves
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=error)
    assert all(np.isfinite(each).all() for each in found)
    if offset:  # which the softmax does not see; the logits have lost digits to it, alike in both
        for ours, theirs in zip(found[1:], expected[1:], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("num_classes", [2, 50_000])
def test_any_number_of_classes(rng, num_classes):
    tensors = [rng.standard_normal(shape).astype("float32") for shape in ((6, 4), (4, num_classes), (num_classes,))]
    labels, upstream = rng.integers(0, num_classes, 6), rng.uniform(0.5, 2.0, 6)
    expected = values_and_gradients(of_logits(labels), tensors, upstream)
    found = values_and_gradients(of_layer(labels, chunk_size=20_000 if num_classes > 3 else 4), tensors, upstream)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_within_its_rounding(case, blocks, dtype):
    tensors, labels, upstream = case
    tensors = [ops.cast(ops.convert_to_tensor(each), dtype) for each in tensors]
    wide = [numpy(each).astype("float32") for each in tensors]
    expected = values_and_gradients(of_logits(labels, ignore_class=-1), wide, upstream)
    found = values_and_gradients(of_layer(labels, ignore_class=-1, chunk_size=7), tensors, upstream)
    loss = linear_loss(*tensors, labels, ignore_class=-1, chunk_size=7)
    assert keras.backend.standardize_dtype(loss.dtype) == dtype
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=4 * RTOL[dtype], atol=4 * RTOL[dtype])


def test_what_a_loss_scale_is_for_holds_in_float16(blocks):
    labels = np.arange(8) % 6
    tensors = [np.eye(6, dtype="float32")[labels], 17 * np.eye(6, dtype="float32"), np.zeros(6, "float32")]
    upstream = np.full(8, 4096.0, "float32")  # the other slopes are e^-17, which float16 alone rounds to 0
    expected = values_and_gradients(of_logits(labels, label_smoothing=0), tensors, upstream)
    narrow = [ops.cast(ops.convert_to_tensor(each), "float16") for each in tensors]
    found = values_and_gradients(of_layer(labels, label_smoothing=0, chunk_size=4), narrow, upstream)
    for ours, theirs in zip(found[1:3], expected[1:3], strict=True):
        others = ~np.eye(6, dtype="bool")[labels if len(ours) == 8 else range(6)]  # 1 − p of labels is 0 in float32
        assert theirs[others].min() > 1e-4
        np.testing.assert_allclose(ours[others], theirs[others], rtol=4 * RTOL["float16"])


def test_sequences_and_the_mask_of_ignored_labels(case, blocks):
    (features, kernel, bias), labels, _ = case
    features, labels = features[:20].reshape(4, 5, D), labels[:20].reshape(4, 5)
    expected = numpy(of_logits(labels, ignore_class=-1)(features, kernel, bias))
    for given in (labels, labels[..., None], labels.astype("float32")):
        loss = linear_loss(features, kernel, bias, given, ignore_class=-1, chunk_size=7)
        np.testing.assert_allclose(numpy(loss), expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(numpy(get_mask(loss)), labels != -1)


def test_what_is_ignored_may_be_anything(case, blocks):
    (features, kernel, bias), labels, upstream = case
    expected = values_and_gradients(of_layer(labels, ignore_class=-1, chunk_size=7), (features, kernel, bias), upstream)
    features = features.copy()
    features[3], features[N - 1] = np.nan, np.inf
    found = values_and_gradients(of_layer(labels, ignore_class=-1, chunk_size=7), (features, kernel, bias), upstream)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("chunk_size", [None, 7])
def test_nothing_counts_or_nothing_is_there(case, blocks, chunk_size):
    tensors, _, upstream = case
    labels = np.full(N, -1)
    found = values_and_gradients(of_layer(labels, ignore_class=-1, chunk_size=chunk_size), tensors, upstream)
    assert not any(each.any() for each in found)
    empty = [tensors[0][:0], *tensors[1:]]
    found = values_and_gradients(of_layer(labels[:0], chunk_size=chunk_size), empty, upstream[:0])
    assert found[0].shape == (0,)
    assert not any(each.any() for each in found)
    _, statistics = linear.linear_loss_and_statistics(*empty, labels[:0], 0.1, None, -1, chunk_size)
    assert all(each.shape == (0,) for each in statistics.values())


def test_forbidden_classes(case, blocks):
    (features, kernel, bias), labels, upstream = case
    labels, bias = np.where(labels < 0, 0, labels) % 20, bias.copy()
    bias[20:] = -np.inf  # whole blocks of classes
    options = {"prior": np.arange(K) < 20}
    found = values_and_gradients(of_layer(labels, **options, chunk_size=5), (features, kernel, bias), upstream)
    expected = values_and_gradients(of_layer(labels), (features, kernel[:, :20], bias[:20]), upstream)
    np.testing.assert_allclose(found[0], expected[0], rtol=2e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(found[2], np.pad(expected[2], ((0, 0), (0, 17))), rtol=2e-5, atol=2e-6)
    bias[:] = np.where(np.arange(K) < 7, -np.inf, 0.0)  # the first block alone
    loss = numpy(linear_loss(features, kernel, bias, np.full(N, 30), 0.0, chunk_size=7))
    expected = numpy(linear_loss(features, kernel[:, 7:], bias[7:], np.full(N, 23), 0.0))
    np.testing.assert_allclose(loss, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_broken_logits_surface_as_nan(case, blocks, bad):
    (features, kernel, bias), labels, _ = case
    features = features.copy()
    features[1, 2] = bad
    loss = numpy(linear_loss(features, kernel, bias, labels, ignore_class=-1, chunk_size=7))
    assert np.isnan(loss[1])
    assert np.isfinite(np.delete(loss, 1)).all()


def test_labels_that_are_no_class(case, blocks):
    (features, kernel, bias), labels, _ = case
    wrong = np.where(labels < 0, K, labels)
    with pytest.raises(ValueError, match=rf"`labels` must hold integers in \[0, {K}\). Received: \[{K}\]"):
        linear_loss(features, kernel, bias, wrong, chunk_size=7)
    if BACKEND != "torch":
        loss = compiled(lambda y: linear_loss(features, kernel, bias, y, chunk_size=7))(ops.convert_to_tensor(wrong))
        np.testing.assert_array_equal(np.isnan(numpy(loss)), wrong == K)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_smoothing": 1.0}, "`label_smoothing` must be in"),
        ({"prior": np.ones(3)}, "one entry per class"),
        ({"ignore_class": 0.5}, "`ignore_class` must be an integer"),
        ({"chunk_size": 0}, "`chunk_size` must be at least 1"),
        ({"chunk_size": 2.5}, "`chunk_size` must be an integer"),
        ({"features": np.zeros((N, D + 1), "float32")}, "`features` must be"),
        ({"features": np.float32(1)}, "`features` must be"),
        ({"features": "text"}, "`features` must be an array of real numbers"),
        ({"kernel": np.zeros(D, "float32")}, "`kernel` must be"),
        ({"bias": np.zeros(K + 1, "float32")}, "`bias` must be"),
        ({"labels": np.zeros((N, 2), int)}, "`labels` must hold one class id per example"),
    ],
)
def test_what_does_not_fit_is_refused(case, changes, message):
    (features, kernel, bias), labels, _ = case
    given = {"features": features, "kernel": kernel, "bias": bias, "labels": labels, "ignore_class": -1, **changes}
    with pytest.raises(ValueError, match=message):
        linear_loss(**given)


def test_variables_and_integers_are_taken(case):
    (_, kernel, bias), labels, _ = case
    labels = np.where(labels < 0, 0, labels)
    features = np.arange(N * D).reshape(N, D) % 3
    expected = numpy(of_logits(labels)(features.astype("float32"), kernel, bias))
    found = linear_loss(features, keras.Variable(kernel), keras.Variable(bias), labels, chunk_size=7)
    np.testing.assert_allclose(numpy(found), expected, rtol=1e-5)


@pytest.mark.parametrize("chunk_size", [None, 7])
def test_statistics_of_the_same_pass(case, blocks, chunk_size):
    (features, kernel, bias), labels, _ = case
    kernel, bias = kernel.copy(), bias.copy()
    kernel[:, 5], bias[5] = kernel[:, 20], bias[20]  # a tie, which the first class wins
    bias[[5, 20]] += 4.0
    labels[:6] = [5, 20, 5, -1, 20, 5]
    _, found = linear.linear_loss_and_statistics(features, kernel, bias, labels, 0.1, None, -1, chunk_size)
    logits = features @ kernel + bias
    logits[:, 20] = logits[:, 5]
    probabilities, kept = reference.softmax(logits), labels != -1
    own = probabilities[np.arange(N), np.maximum(labels, 0)]
    np.testing.assert_allclose(numpy(found["nll"]), np.where(kept, -np.log(own), 0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(numpy(found["confidence"]), np.where(kept, probabilities.max(-1), 0), rtol=1e-5)
    hit, expected = numpy(found["hit"]), kept & (probabilities.argmax(-1) == labels)
    # PyTorch's products of equal columns may differ in the last digit.
    is_sure = ~np.isin(probabilities.argmax(-1), [5, 20]) if BACKEND == "torch" else np.ones(N, bool)
    assert is_sure.any()
    np.testing.assert_array_equal(hit[is_sure], expected[is_sure])


@pytest.mark.skipif(BACKEND != "torch", reason="elsewhere second derivatives are those of the forward pass")
def test_second_derivatives_in_blocks_are_refused(rng):
    import torch

    features, kernel = (torch.tensor(rng.standard_normal(shape), requires_grad=True) for shape in ((N, D), (D, K)))
    labels = rng.integers(0, K, N)
    loss = linear_loss(features, kernel, None, labels).sum()
    (slope,) = torch.autograd.grad(loss, features, create_graph=True)  # one block
    assert torch.isfinite(torch.autograd.grad(slope.square().sum(), features)[0]).all()
    loss = linear_loss(features, kernel, None, labels, chunk_size=7).sum()
    with pytest.raises(NotImplementedError, match="`chunk_size` of all examples"):
        torch.autograd.grad(loss, features, create_graph=True)


def test_without_a_gradient_only_the_forward_pass_is_computed(case, blocks, monkeypatch):
    tensors, labels, _ = case
    seen, logits = [], linear.Layer.logits

    def never(*_):
        raise AssertionError("the gradient was computed")

    for kind in (linear.ByClasses, linear.ByExamples):
        monkeypatch.setattr(kind, "backward", never)
    monkeypatch.setattr(linear.Layer, "logits", lambda layer, x: seen.append(1) or logits(layer, x))
    found = numpy(linear_loss(*tensors, labels, ignore_class=-1, chunk_size=7))
    assert 0 < len(seen) <= -(-(N if blocks == "examples" else K) // 7)
    np.testing.assert_allclose(found, numpy(of_logits(labels, ignore_class=-1)(*tensors)), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("trains", [False, True])
def test_no_more_than_a_block_of_logits_is_computed(case, blocks, monkeypatch, trains):
    tensors, labels, upstream = case
    shapes, logits = set(), linear.Layer.logits

    def watched(layer, features):
        found = logits(layer, features)
        shapes.add(tuple(found.shape))
        return found

    monkeypatch.setattr(linear.Layer, "logits", watched)
    loss = of_layer(labels, ignore_class=-1, chunk_size=7)
    if trains:
        values_and_gradients(loss, tensors, upstream)
    else:
        loss(*tensors)
    assert shapes == ({(7, K), (2, K)} if blocks == "examples" else {(N, 7), (N, 2)})


@pytest.mark.parametrize(
    ("examples", "classes", "size"),
    [
        (100, 1000, None),
        (8192, 1000, 4194),
        (None, 1000, 4194),
        (8192, 16_000, 512),
        (8192, 50_000, 1024),
        (None, 50_000, 2048),
        (64, 50_000, None),
        (64, 100_000, 65_536),
    ],
)
def test_blocks_are_as_large_as_documented(examples, classes, size):
    assert linear._size(examples, classes, None) == size


@pytest.mark.skipif(BACKEND != "jax", reason="compiles functions and then differentiates them")
@pytest.mark.parametrize("ignore_class", [None, -1])
def test_the_gradient_of_a_compiled_loss_on_jax(case, blocks, ignore_class):
    import jax

    tensors, labels, _ = case
    labels = labels if ignore_class else np.maximum(labels, 0)

    def loss(*given):
        return ops.mean(linear_loss(*given, ignore_class=ignore_class, chunk_size=7))

    expected = jax.grad(lambda *given: of_logits(labels, ignore_class=ignore_class)(*given).mean(), (0, 1, 2))(*tensors)
    for inner in (jax.jit, jax.checkpoint, lambda function: jax.jit(jax.checkpoint(function))):
        found = jax.jit(jax.grad(inner(loss), (0, 1, 2)))(*tensors, labels)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


def test_float64_is_computed_as_keras_multiplies_it(case, blocks):
    tensors, labels, upstream = case
    wide, upstream = [each.astype("float64") for each in tensors], upstream.astype("float64")
    expected = values_and_gradients(of_logits(labels, ignore_class=-1), wide, upstream)
    found = values_and_gradients(of_layer(labels, ignore_class=-1, chunk_size=7), wide, upstream)
    assert found[0].dtype == keras.backend.result_type("float64", "float64")  # float32 on JAX and PyTorch
    precise = found[0].dtype == "float64"
    assert precise or BACKEND != "tensorflow"
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10 if precise else 2e-5, atol=1e-13 if precise else 2e-6)
