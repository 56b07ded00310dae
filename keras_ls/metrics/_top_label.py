"""The most probable class of each row: how probable it is, whether it is the label, and whether the row is sound."""

import keras
import numpy as np
from keras import ops

from keras_ls._backend import on_cpu_kernels, row_argmax, row_maximum, row_range
from keras_ls._labels import gather_labels
from keras_ls._rows import LARGEST_PROBABILITY

# Where a probability is above this no other class has as much; 1/2 and some rounding.
_MAJORITY = 0.51


def top_label(rows, ids, from_logits: bool):
    """The confidence of each prediction and whether it is correct; the first class of several equal ones is predicted.

    Args:
        rows: (N, K) probabilities, or logits with `from_logits`, float32 or wider.
        ids: (N,) int32 class ids.
        from_logits: whether `rows` holds logits.

    Returns:
        (N,) the largest probability, NaN where `are_valid` is False; and (N,) bool, True where its class is the label.
    """

    def general():
        return _in_one_pass(rows, ids, from_logits)

    if keras.backend.standardize_dtype(rows.dtype) != "float32":
        return general()
    if from_logits:
        fast = _logits_by_kernels
    else:
        fast = _probabilities_by_bits if keras.backend.backend() == "tensorflow" else _probabilities_by_kernels
    return on_cpu_kernels(rows, lambda: fast(rows, ids, general), general)


def _in_one_pass(rows, ids, from_logits):
    """Reductions over each row, which a compiler makes in a single loop."""
    low, high = (ops.squeeze(bound, -1) for bound in row_range(rows))
    own = gather_labels(rows, ids)
    stands_before = ops.arange(rows.shape[-1], dtype="int32") < ops.expand_dims(ids, -1)
    before = ops.squeeze(row_maximum(ops.where(stands_before, rows, -np.inf)), -1)
    if from_logits:
        confidence = 1.0 / ops.sum(ops.exp(rows - ops.expand_dims(high, -1)), axis=-1)
        is_valid = (low > -np.inf) & (high < np.inf)
    else:
        confidence = high
        is_valid = (low >= 0) & (high <= LARGEST_PROBABILITY)
    return ops.where(is_valid, confidence, np.nan), (own == high) & (before < own)


def _probabilities_by_bits(rows, ids, general):
    """As unsigned integers the bits of valid probabilities have their order, and those of all others lie above."""
    import tensorflow as tf

    largest, predicted = tf.math.top_k(tf.bitcast(rows, tf.uint32), 1)
    return tf.cond(
        tf.reduce_all(largest <= _limit()),
        lambda: (tf.bitcast(largest[:, 0], tf.float32), tf.equal(predicted[:, 0], ids)),
        general,  # also for −0, which is valid
    )


def _probabilities_by_kernels(rows, ids, general):
    """From reductions alone, save for rows in which the label's class may share the first place."""
    high = ops.squeeze(row_maximum(rows), -1)
    own = gather_labels(rows, ids)

    def checked():
        return high, _is_first(rows, ids, own == high, own <= _MAJORITY * ops.sum(rows, axis=-1))

    return ops.cond(all_are_valid(rows, from_logits=False), checked, general)


def _logits_by_kernels(rows, ids, general):
    """As `_probabilities_by_kernels`, from the softmax; logits may differ where it does not."""
    probabilities = ops.softmax(rows, axis=-1)
    confidence = ops.squeeze(row_maximum(probabilities), -1)
    own = gather_labels(probabilities, ids)

    def checked():
        return confidence, _is_first(rows, ids, own == confidence, own <= _MAJORITY)

    return ops.cond(all_are_valid(rows, from_logits=True), checked, general)


def _is_first(rows, ids, leads, may_share):
    """(N,) bool: of the rows whose label's class has the largest probability, is it the first such class?"""
    doubtful = ops.nonzero(leads & may_share)[0]
    predicted = row_argmax(ops.take(rows, doubtful, axis=0))
    return ops.scatter_update(leads, ops.expand_dims(doubtful, -1), predicted == ops.take(ids, doubtful))


def all_are_valid(rows, from_logits: bool):
    """A bool tensor: True only if `are_valid` is for all rows, though not always then.

    Args:
        rows: (N, K) float32.
        from_logits: whether `rows` holds logits.
    """
    if from_logits:
        return ops.isfinite(ops.sum(rows))  # which one infinity or NaN makes another
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.reduce_all(tf.reduce_max(tf.bitcast(rows, tf.uint32), axis=-1) <= _limit())
    low, high = row_range(rows)
    return ops.all((low >= 0) & (high <= LARGEST_PROBABILITY))


def _limit():
    """The bits of the largest valid probability."""
    import tensorflow as tf

    return tf.constant(np.float32(LARGEST_PROBABILITY).view("uint32"), tf.uint32)
