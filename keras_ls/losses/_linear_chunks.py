"""Smoothed cross-entropy of logits that are seen a block of classes at a time."""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_ls._backend import added_at, first_maximum, in_place, row_maximum
from keras_ls._labels import gather_labels

# Columns of the result where statistics are asked for.
STATISTICS = ("loss", "nll", "confidence", "hit")


class Smoothing(NamedTuple):
    """The targets: α, u (K,) or None where it is uniform, and K."""

    alpha: float
    prior: np.ndarray | None
    num_classes: int

    @property
    def weights(self):
        """α·u: a number where all classes have the same, else (K,)."""
        return self.alpha / self.num_classes if self.prior is None else self.alpha * self.prior


class Rows(NamedTuple):
    """What is known of N rows of logits z, of which some classes have been seen.

    Attributes:
        top: (N,) their maximum, −∞ where there is none.
        top_id: (N,) int32, the first class that has it, or None where it is not asked for.
        total: (N,) Σ exp(z − shift).
        own: (N,) the logit of the label.
        mixed: (N,) α·Σ u·(z − shift).
        mass: α·Σ u, of the classes seen.
    """

    top: Any
    top_id: Any
    total: Any
    own: Any
    mixed: Any
    mass: Any

    @property
    def shift(self):
        """(N,): `top` where it is a number to subtract."""
        return ops.where(ops.equal(self.top, -np.inf), 0.0, self.top)


def no_rows_seen(like, with_top_id):
    """`Rows` before the first class; `like` is any (N, …) tensor of the dtype of the results."""
    zero = ops.zeros_like(like[:, 0])
    top_id = ops.cast(zero, "int32") if with_top_id else None
    return Rows(zero - np.inf, top_id, zero, zero, zero, ops.sum(zero[:0]))


def with_classes(rows, logits, ids, start, weights):
    """`Rows` that have seen the (N, C) logits of the classes `start`, …, `start` + C − 1, too.

    Args:
        rows: `Rows`.
        logits: (N, C), whose memory may be used again.
        ids: (N,) int32 labels in [0, K).
        start: the first class.
        weights: α·u of the classes, (C,) or a number; 0 where nothing is smoothed.
    """
    width = logits.shape[-1]
    local, is_here = local_ids(ids, start, width)
    own = ops.where(is_here, gather_labels(logits, local), rows.own)
    top, top_id = ops.squeeze(row_maximum(logits), -1), rows.top_id
    if top_id is not None:
        top_id = ops.where(ops.greater(top, rows.top), first_maximum(logits, top) + start, top_id)
    seen = rows._replace(top=ops.maximum(rows.top, top), top_id=top_id, own=own)
    shift = seen.shift
    shifted = in_place("subtract", logits, ops.expand_dims(shift, -1))  # differences stay exact, exp cannot overflow
    mixed, mass = rows.mixed, rows.mass
    if not isinstance(weights, float) or weights:
        mixed = mixed + (rows.shift - shift) * mass + _mixed(shifted, weights)
        mass = mass + (weights * width if isinstance(weights, float) else ops.sum(weights))
    total = rows.total * ops.exp(rows.top - shift) + ops.sum(in_place("exp", shifted), axis=-1)
    return seen._replace(total=total, mixed=mixed, mass=mass)


def results(rows, ids, alpha, kept):
    """(N,) losses and, where `top_id` was asked for, (N, 4) columns of `STATISTICS`; 0 where not kept."""
    log_total = ops.log(rows.total)
    own = rows.own - rows.shift
    losses = log_total - (1.0 - alpha) * own - rows.mixed
    if rows.top_id is None:
        return losses if kept is None else ops.where(kept, losses, 0.0)
    nll, hit = log_total - own, ops.cast(ops.equal(rows.top_id, ids), losses.dtype)
    columns = ops.stack([losses, nll, 1.0 / rows.total, ops.where(ops.isnan(nll), nll, hit)], axis=-1)
    return columns if kept is None else ops.where(ops.expand_dims(kept, -1), columns, 0.0)


def slopes_of_logits(logits, ids, start, weights, alpha, shift, total):
    """(N, C) ``softmax(z) − (1 − α)·onehot(y) − α·u`` of a block of classes; arguments as `with_classes`."""
    local, is_here = local_ids(ids, start, logits.shape[-1])
    # One after the other: a large shift would swallow digits of the logarithm.
    shifted = in_place("subtract", logits, ops.expand_dims(shift, -1))
    rows = in_place("exp", in_place("subtract", shifted, ops.expand_dims(ops.log(total), -1)))
    if not isinstance(weights, float) or weights:
        rows = in_place("subtract", rows, weights)
    return added_at(rows, local, ops.where(is_here, ops.convert_to_tensor(alpha - 1.0, dtype=rows.dtype), 0.0))


def local_ids(ids, start, width):
    """(N,) ids counted from `start`, 0 where they are not in the block, and (N,) whether they are."""
    local = ids - start
    is_here = ops.logical_and(ops.greater_equal(local, 0), ops.less(local, width))
    return ops.where(is_here, local, 0), is_here


def _mixed(shifted, weights):
    """(N, C) to (N,): Σ weight·shifted. Classes of weight 0 have no part in it, even at −∞."""
    if isinstance(weights, float):
        return ops.sum(shifted, axis=-1) * weights
    return ops.sum(ops.where(ops.greater(weights, 0), shifted, 0.0) * weights, axis=-1)
