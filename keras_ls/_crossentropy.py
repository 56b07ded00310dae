"""Cross-entropy of (N, K) rows under smoothed integer labels, with no K-wide target."""

import keras
import numpy as np
from keras import ops

from keras_ls._backend import added_at, computed_after, row_maximum, softmax_given_log_total
from keras_ls._labels import picked


def loss_of_logits(logits, ids, alpha, prior, kept):
    """(N, K) logits and (N,) ids to (N,) losses, with the gradient in closed form."""

    @ops.custom_gradient
    def loss(logits):
        wide = widened(logits)
        shifted = wide - row_maximum(wide)  # differences stay exact, exp cannot overflow
        linear = (1.0 - alpha) * picked(shifted, ids) + _prior_term(alpha, prior, shifted)
        # Nothing else reads `shifted` after `linear`, so that the exponential may overwrite it.
        log_total = ops.log(ops.sum(ops.exp(computed_after(shifted, linear)), axis=-1))
        losses = log_total - linear
        if kept is not None:
            losses = ops.where(kept, losses, 0.0)

        def gradient(*args, upstream=None):
            upstream = args[-1] if upstream is None else upstream  # only PyTorch passes it by name
            upstream = ops.cast(upstream, log_total.dtype)
            rows = softmax_given_log_total(widened(logits), log_total)
            if alpha:
                rows = rows - _prior_weights(alpha, prior, rows)
            rows = rows * ops.expand_dims(upstream, -1)
            if kept is not None:
                rows = ops.where(ops.expand_dims(kept, -1), rows, 0.0)
                upstream = ops.where(kept, upstream, 0.0)
            return ops.cast(added_at(rows, ids, (alpha - 1.0) * upstream), logits.dtype)

        return ops.cast(losses, logits.dtype), gradient

    return loss(logits)


def loss_of_probabilities(probabilities, ids, alpha, prior, kept):
    """(N, K) probabilities and (N,) ids to (N,) losses; normalised and clipped as in Keras."""
    rows = widened(probabilities)
    if kept is not None:
        rows = ops.where(ops.expand_dims(kept, -1), rows, 1.0)
    total = ops.sum(rows, axis=-1, keepdims=True)
    rows = rows / ops.where(ops.isfinite(total), total, np.nan)  # a finite probability over ∞ would be a plausible 0
    epsilon = keras.config.epsilon()
    log_rows = ops.log(ops.clip(rows, epsilon, 1.0 - epsilon))
    losses = -(1.0 - alpha) * picked(log_rows, ids) - _prior_term(alpha, prior, log_rows)
    if kept is not None:
        losses = ops.where(kept, losses, 0.0)
    return ops.cast(losses, probabilities.dtype)


def _prior_term(alpha, prior, rows):
    """(N, K) to (N,): α·Σ_k u_k·row_k, where classes of prior 0 have no part, be they −inf."""
    if alpha == 0.0:
        return 0.0
    if prior is None:
        return alpha * ops.mean(rows, axis=-1)
    if not prior.all():
        rows = ops.where(ops.convert_to_tensor(prior > 0), rows, 0.0)
    return ops.sum(rows * _prior_weights(alpha, prior, rows), axis=-1)


def _prior_weights(alpha, prior, rows):
    """α·u in the dtype of (N, K) rows: a number for the uniform prior, else (K,)."""
    if prior is None:
        return alpha / ops.cast(ops.shape(rows)[-1], rows.dtype)
    return ops.convert_to_tensor(alpha * prior, dtype=rows.dtype)


def widened(x):
    """`x` in float32 where it is half precision, else as it is."""
    half = keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16")
    return ops.cast(x, "float32") if half else x
