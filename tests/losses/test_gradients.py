"""Closed-form losses and gradients of rows, against their definition taken step by step, also for broken rows."""

import numpy as np
import pytest
import reference
from harness import BACKEND, RTOL, numpy, value_and_gradient
from keras import ops

from keras_ls import _gradients, losses

INF, NAN = np.inf, np.nan
ROWS = {
    "random": [0.3, -1.2, 2.5, 0.1, -0.7],
    "ties": [1.5, 1.5, 1.5, 1.5, 1.5],
    "an offset": [1e4, 1e4 + 2, 1e4 - 3, 1e4 + 1, 1e4],
    "far apart": [-1e37, 3e36, 0.0, 2e37, -2e37],
    "tiny": [1e-38, -1e-38, 0.0, -0.0, 1e-45],
    "one is forbidden": [0.5, -INF, 1.0, 0.0, -2.0],
    "all but one are": [-INF, -INF, 0.7, -INF, -INF],
    "all are": [-INF] * 5,
    "+inf": [0.5, INF, 1.0, 0.0, -2.0],
    "NaN": [0.5, 1.0, NAN, 0.0, -2.0],
    "NaN and infinities": [INF, -INF, NAN, 0.0, -2.0],
}
PRIORS = {"uniform": None, "unigram": [3, 1, 2, 2, 1], "forbids": [3, 0, 2, 0, 1], "forbids others": [0, 3, 0, 1, 0]}


def step_by_step(rows, labels, alpha, prior):
    """The definition in float64, NaN and infinities included: losses (N,) and their gradients (N, K)."""
    rows = np.asarray(rows, "float64")
    prior = np.full(rows.shape[1], 1 / rows.shape[1]) if prior is None else np.array(prior) / np.sum(prior)
    with np.errstate(invalid="ignore", divide="ignore"):
        shifted = rows - rows.max(-1, keepdims=True)
        exponentials = np.exp(shifted)
        total = exponentials.sum(-1)
        on_label = shifted[np.arange(len(rows)), labels]
        # A class whose share is 0 has no part, at whatever logit.
        term = np.where(alpha * prior > 0, shifted * prior, 0.0).sum(-1)
        values = np.log(total) - (1 - alpha) * on_label - (alpha * term if alpha else 0.0)
        gradients = exponentials / total[:, None] - alpha * prior
    gradients[np.arange(len(rows)), labels] -= 1 - alpha
    return values, gradients


@pytest.mark.parametrize("jit", [False, "graph", True])
@pytest.mark.parametrize("alpha", [0.0, 0.3])
@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
def test_broken_and_extreme_rows_are_those_of_the_definition(prior, alpha, jit):
    rows = np.repeat(np.array(list(ROWS.values()), "float32"), 5, axis=0)
    labels = np.tile(np.arange(5), len(ROWS))

    def loss(z):
        return losses.smoothed_sparse_categorical_crossentropy(labels, z, alpha, prior, from_logits=True)

    values, gradients = value_and_gradient(loss, rows, jit=jit)
    expected, slopes = step_by_step(rows, labels, alpha, prior)
    np.testing.assert_allclose(values, expected, rtol=RTOL["float32"], atol=1e-6)  # NaN and inf at the same places
    broken = np.isnan(expected)
    np.testing.assert_allclose(gradients[~broken], slopes[~broken], rtol=RTOL["float32"], atol=1e-6)
    assert np.isnan(gradients[broken]).any(-1).all()  # TensorFlow's softmax has zeros beside NaN


@pytest.mark.parametrize("offset", [0.0, 40.0, -1e4, 1e4])
def test_an_offset_of_all_rows_changes_nothing_where_compiled(rng, offset):
    rows = (3.0 * rng.standard_normal((8, 300)) + offset).astype("float32")
    labels = rng.integers(0, 300, 8)

    def loss(z):
        return losses.smoothed_sparse_categorical_crossentropy(labels, z, 0.3, from_logits=True)

    values, gradients = value_and_gradient(loss, rows, jit=True)
    expected, slopes = step_by_step(rows, labels, 0.3, None)
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    np.testing.assert_allclose(gradients, slopes, rtol=RTOL["float32"], atol=1e-7)


@pytest.mark.parametrize("ignore_class", [-1, 3])
def test_ignored_rows_are_0_whatever_they_hold(ignore_class):
    rows = np.array(list(ROWS.values()), "float32")
    labels = np.full(len(rows), ignore_class)
    labels[:2] = 0
    values, gradients = value_and_gradient(
        lambda z: losses.smoothed_sparse_categorical_crossentropy(
            labels, z, 0.3, from_logits=True, ignore_class=ignore_class
        ),
        rows,
        jit=True,
    )
    assert np.all(values[:2] > 0)
    assert np.all(values[2:] == 0)
    assert np.all(gradients[2:] == 0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_the_slope_of_a_function_of_the_losses_is_a_factor(rng, dtype):
    rows, labels = rng.standard_normal((9, 6)).astype("float32"), rng.integers(0, 6, 9)
    stored = numpy(ops.cast(ops.convert_to_tensor(rows), dtype))
    values, gradients = value_and_gradient(
        lambda z: losses.smoothed_sparse_categorical_crossentropy(labels, z, 0.2, from_logits=True) ** 2, rows, dtype
    )
    expected = reference.cross_entropy(reference.smoothed_targets(labels, 6, 0.2), stored)
    slopes = reference.cross_entropy_gradient(reference.smoothed_targets(labels, 6, 0.2), stored)
    tolerance = 2 * RTOL[dtype]  # the loss is rounded to the dtype, and then squared
    np.testing.assert_allclose(values, expected**2, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(gradients, 2 * expected[:, None] * slopes, rtol=tolerance, atol=tolerance)


@pytest.mark.skipif(BACKEND != "torch", reason="Other backends compute all rows at once")
class TestBlocks:
    @pytest.mark.parametrize("block", [1, 12, 30, 10_000])
    @pytest.mark.parametrize("ignore_class", [None, 0])
    def test_of_any_size_give_the_same(self, rng, monkeypatch, block, ignore_class):
        rows, labels = rng.standard_normal((7, 6)).astype("float32"), rng.integers(0, 6, 7)

        def loss(z):
            return losses.smoothed_sparse_categorical_crossentropy(
                labels, z, 0.1, [1, 2, 3, 1, 2, 3], True, ignore_class
            )

        expected = value_and_gradient(loss, rows)
        monkeypatch.setattr(_gradients, "_CPU_BLOCK", block)
        for found, whole in zip(value_and_gradient(loss, rows), expected, strict=True):
            np.testing.assert_allclose(found, whole, rtol=1e-6, atol=1e-7)

    def test_a_gradient_to_be_differentiated_again_is_computed_whole(self, rng, monkeypatch):
        import torch

        monkeypatch.setattr(_gradients, "_CPU_BLOCK", 12)
        rows = torch.tensor(rng.standard_normal((7, 6)), requires_grad=True)
        labels = rng.integers(0, 6, 7)

        def loss(z):
            return losses.smoothed_sparse_categorical_crossentropy(labels, z, 0.1, from_logits=True)

        assert torch.autograd.gradcheck(loss, (rows,))
        assert torch.autograd.gradgradcheck(loss, (rows,))
