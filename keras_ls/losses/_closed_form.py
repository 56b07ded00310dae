"""Cross-entropy of (N, K) rows under smoothed integer labels, with no K-wide target."""

import keras
import numpy as np
from keras import ops

from keras_ls._arrays import widened
from keras_ls._backend import added_at, computed_after, row_maximum, softmax_given_log_total
from keras_ls._labels import gather_labels


def loss_of_logits(logits, ids, alpha, prior, kept):
    """(N, K) logits and (N,) ids to (N,) losses.

    JAX differentiates the formula itself, in either mode: a custom gradient would forbid forward mode there. Other
    backends, which do not fuse what they derive from a formula, are given the gradient in closed form.
    """
    if keras.backend.backend() != "jax":
        return _closed_form_loss(logits, ids, alpha, prior, kept)
    wide = widened(logits)
    if kept is not None:
        wide = _zero_unless(kept, wide)
    losses, _ = _losses_and_log_total(wide, ids, alpha, prior, kept)
    return ops.cast(losses, logits.dtype)


def loss_of_probabilities(probabilities, ids, alpha, prior, kept):
    """(N, K) probabilities and (N,) ids to (N,) losses; normalised and clipped as in Keras."""
    rows = widened(probabilities)
    if kept is not None:
        rows = ops.where(ops.expand_dims(kept, -1), rows, 1.0)
    total = ops.sum(rows, axis=-1, keepdims=True)
    rows = rows / ops.where(ops.isfinite(total), total, np.nan)  # a finite probability over ∞ would be a plausible 0
    epsilon = keras.config.epsilon()
    log_rows = ops.log(ops.clip(rows, epsilon, 1.0 - epsilon))
    losses = -(1.0 - alpha) * gather_labels(log_rows, ids) - _prior_term(alpha, prior, log_rows)
    if kept is not None:
        losses = ops.where(kept, losses, 0.0)
    return ops.cast(losses, probabilities.dtype)


def without_forbidden(logits, targets):
    """Logits of any shape, where those of −inf whose target is 0 are finite, and so low that softmax gives them 0.

    What they add to the loss, 0·log 0, is its limit then, 0, and so is their gradient.
    """
    lowest = -0.5 * float(np.finfo(keras.backend.standardize_dtype(logits.dtype)).max)  # finite less the maximum, too
    return ops.where(ops.logical_and(ops.equal(logits, -np.inf), ops.equal(targets, 0.0)), lowest, logits)


def _closed_form_loss(logits, ids, alpha, prior, kept):
    """`loss_of_logits` with the gradient ``softmax(z) − (1 − α)·onehot(y) − α·u``, written into one buffer."""

    @ops.custom_gradient
    def loss(logits):
        losses, log_total = _losses_and_log_total(widened(logits), ids, alpha, prior, kept)

        def gradient(*args, upstream=None):
            upstream = args[-1] if upstream is None else upstream  # only PyTorch passes it by name
            upstream = ops.cast(upstream, log_total.dtype)
            wide = widened(logits)
            if kept is not None:
                wide = _zero_unless(kept, wide)
                upstream = ops.where(kept, upstream, 0.0)
            rows = softmax_given_log_total(wide, log_total)
            if alpha:
                rows = rows - _prior_weights(alpha, prior, rows)
            rows = rows * ops.expand_dims(upstream, -1)
            return ops.cast(added_at(rows, ids, (alpha - 1.0) * upstream), logits.dtype)

        return ops.cast(losses, logits.dtype), gradient

    return loss(logits)


def _losses_and_log_total(rows, ids, alpha, prior, kept):
    """(N, K) logits to (N,) losses, 0 where not kept, and to log Σ exp(z − max z) (N,)."""
    shifted = rows - row_maximum(ops.stop_gradient(rows))  # differences stay exact, exp cannot overflow
    linear = (1.0 - alpha) * gather_labels(shifted, ids) + _prior_term(alpha, prior, shifted)
    # Nothing else reads `shifted` after `linear`, so that the exponential may overwrite it.
    log_total = ops.log(ops.sum(ops.exp(computed_after(shifted, linear)), axis=-1))
    losses = log_total - linear
    return losses if kept is None else ops.where(kept, losses, 0.0), log_total


def _zero_unless(kept, rows):
    """(N, K) rows without those that do not count: the derivative of NaN is NaN, whatever multiplies it."""
    return ops.where(ops.expand_dims(kept, -1), rows, 0.0)


def _prior_term(alpha, prior, rows):
    """(N, K) to (N,): α·Σ_k u_k·row_k. Classes whose prior is 0 have no part in it, even at −inf."""
    if alpha == 0.0:
        return 0.0
    if prior is None:  # no mean: PyTorch's and JAX's, as Keras has them, are float32 under float64
        return ops.sum(rows, axis=-1) * _prior_weights(alpha, prior, rows)
    if not prior.all():
        rows = ops.where(ops.convert_to_tensor(prior > 0), rows, 0.0)
    return ops.sum(rows * _prior_weights(alpha, prior, rows), axis=-1)


def _prior_weights(alpha, prior, rows):
    """α·u in the dtype of (N, K) rows: a number for the uniform prior, else (K,)."""
    if prior is None:
        return alpha / ops.cast(ops.shape(rows)[-1], rows.dtype)
    return ops.convert_to_tensor(alpha * prior, dtype=rows.dtype)
