"""Cross-entropy of (N, K) rows under smoothed integer labels, with no K-wide target."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_ls._arrays import wide_dtype, widened
from keras_ls._backend import is_concrete, row_maximum
from keras_ls._gradients import exponential_sum, less_at, softmax_of, sum_of_differences, with_slopes
from keras_ls._labels import gather_labels


class _Smoothing(NamedTuple):
    """What label smoothing and prior come to.

    Attributes:
        on_label: 1 − α.
        weights: α·u in the dtype of the computation, a number for the uniform prior, else (K,); None if α is 0.
        allowed: (K,) bool, False where α·u is 0, perhaps by rounding; None if it is 0 nowhere.
    """

    on_label: float
    weights: Any | None
    allowed: Any | None

    @property
    def is_uniform(self) -> bool:
        """Whether every class has the same share of α, which is not 0."""
        return self.weights is not None and not len(self.weights.shape)


def loss_of_logits(logits, ids, alpha, prior, kept):
    """(N, K) logits and (N,) ids to (N,) losses, whose gradient is ``softmax(z) − (1 − α)·onehot(y) − α·u``."""
    return with_slopes(_losses, _slopes, logits, ids, kept, _smoothing(alpha, prior, logits))


def loss_of_probabilities(probabilities, ids, alpha, prior, kept):
    """(N, K) probabilities and (N,) ids to (N,) losses; normalised and clipped as in Keras."""
    rows = widened(probabilities)
    if kept is not None:
        rows = ops.where(ops.expand_dims(kept, -1), rows, 1.0)
    total = ops.sum(rows, axis=-1, keepdims=True)
    rows = rows / ops.where(ops.isfinite(total), total, np.nan)  # a finite probability over ∞ would be a plausible 0
    epsilon = keras.config.epsilon()
    log_rows = ops.log(ops.clip(rows, epsilon, 1.0 - epsilon))
    smoothing = _smoothing(alpha, prior, rows)
    losses = -smoothing.on_label * gather_labels(log_rows, ids) - _prior_term(log_rows, smoothing)
    if kept is not None:
        losses = ops.where(kept, losses, 0.0)
    return ops.cast(losses, probabilities.dtype)


def logits_of_softmax(probabilities):
    """The logits from which a softmax made these probabilities, on TensorFlow; None if they are not known.

    Keras's own cross-entropies use them, so that a probability that was rounded to 0 still has a gradient.
    """
    if keras.backend.backend() != "tensorflow":
        return None
    logits = getattr(probabilities, "_keras_logits", None)
    if logits is None and not is_concrete(probabilities):
        operation: Any = getattr(probabilities, "op", None)
        if getattr(operation, "type", None) == "Softmax":
            logits = operation.inputs[0]
    return logits


def without_forbidden(logits, targets):
    """Logits of any shape, where those of −inf whose target is 0 are finite, and so low that softmax gives them 0.

    What they add to the loss, 0·log 0, is its limit then, 0, and so is their gradient.
    """
    dtype = keras.backend.standardize_dtype(logits.dtype)
    lowest = ops.convert_to_tensor(-0.5 * float(np.finfo(dtype).max), dtype=dtype)  # finite less the maximum, too
    return ops.where(ops.logical_and(ops.equal(logits, -np.inf), ops.equal(targets, 0.0)), lowest, logits)


def _losses(fused, logits, ids, kept, smoothing):
    """(N, K) logits to (N,) losses, 0 where not kept, and to what `exponential_sum` gives."""
    rows = _counting_rows(logits, kept)
    maximum = row_maximum(ops.stop_gradient(rows))
    shifted = rows - maximum  # differences stay exact, exp cannot overflow
    # Gathered from the logits as they are given, so that neither `rows` nor `shifted` is kept for it.
    on_label = widened(gather_labels(logits, ids)) - ops.squeeze(maximum, -1)
    if kept is not None:
        on_label = ops.where(kept, on_label, 0.0)
    linear = smoothing.on_label * on_label
    if smoothing.is_uniform:
        linear = linear + smoothing.weights * sum_of_differences(fused, rows, maximum, shifted)
    else:
        linear = linear + _prior_term(shifted, smoothing)
    shift, total = exponential_sum(fused, rows, maximum, shifted, linear)
    losses = ops.log(total) - linear
    if kept is not None:
        losses = ops.where(kept, losses, 0.0)
    return ops.cast(losses, logits.dtype), shift, total


def _slopes(fused, logits, ids, kept, smoothing, known):
    """The derivative of `_losses` in each logit (N, K), finite where not kept; `known` is what they give besides."""
    rows = softmax_of(fused, _counting_rows(logits, kept), *known)
    if smoothing.weights is not None:
        rows = rows - smoothing.weights
    return less_at(fused, rows, ids, smoothing.on_label)


def _counting_rows(logits, kept):
    """Logits in float32 or wider, 0 where not kept: the derivative of NaN is NaN, whatever multiplies it."""
    rows = widened(logits)
    return rows if kept is None else ops.where(ops.expand_dims(kept, -1), rows, 0.0)


def _smoothing(alpha, prior, rows):
    """`_Smoothing` of checked arguments, for (N, K) rows."""
    if alpha == 0.0:
        return _Smoothing(1.0, None, None)
    dtype = wide_dtype(rows.dtype)
    if prior is None:
        return _Smoothing(1.0 - alpha, alpha / ops.cast(ops.shape(rows)[-1], dtype), None)
    weights = (alpha * prior).astype(dtype)
    allowed = None if weights.all() else ops.convert_to_tensor(weights > 0)
    return _Smoothing(1.0 - alpha, ops.convert_to_tensor(weights), allowed)


def _prior_term(rows, smoothing):
    """(N, K) to (N,): α·Σ_k u_k·row_k. Classes whose prior is 0 have no part in it, even at −inf."""
    if smoothing.weights is None:
        return 0.0
    if smoothing.allowed is not None:
        rows = ops.where(smoothing.allowed, rows, 0.0)
    if smoothing.is_uniform:  # no mean: PyTorch's and JAX's, as Keras has them, are float32 under float64
        return ops.sum(rows, axis=-1) * smoothing.weights
    return ops.sum(rows * smoothing.weights, axis=-1)
