"""The most probable class of each row: how probable it is, whether it is the label, and whether the row is sound."""

import keras
import numpy as np
from keras import ops

from keras_ls._backend import on_tensorflow_cpu, row_maximum, row_range
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
    fast = _logits_by_kernels if from_logits else _probabilities_by_kernels
    return on_tensorflow_cpu(lambda: fast(rows, ids, general), general)


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


def _probabilities_by_kernels(rows, ids, general):
    """As unsigned integers the bits of valid probabilities have their order, and those of all others lie above."""
    import tensorflow as tf

    largest, predicted = tf.math.top_k(tf.bitcast(rows, tf.uint32), 1)
    return tf.cond(
        tf.reduce_all(largest <= _limit()),
        lambda: (tf.bitcast(largest[:, 0], tf.float32), tf.equal(predicted[:, 0], ids)),
        general,  # also for −0, which is valid
    )


def _logits_by_kernels(rows, ids, general):
    """From the softmax alone, save for rows in which the label's class may share the first place."""
    import tensorflow as tf

    probabilities = tf.nn.softmax(rows)
    confidence = tf.reduce_max(probabilities, axis=-1)
    own = gather_labels(probabilities, ids)
    leads = own == confidence

    def checked():
        doubtful = tf.where(leads & (own <= _MAJORITY))
        predicted = tf.argmax(tf.gather_nd(rows, doubtful), axis=-1, output_type=tf.int32)
        correct = tf.tensor_scatter_nd_update(leads, doubtful, predicted == tf.gather_nd(ids, doubtful))
        return confidence, correct

    return tf.cond(all_are_valid(rows, from_logits=True), checked, general)


def all_are_valid(rows, from_logits: bool):
    """A bool tensor of TensorFlow: True only if `are_valid` is for all rows, though not always then.

    Args:
        rows: (N, K) float32.
        from_logits: whether `rows` holds logits.
    """
    import tensorflow as tf

    if from_logits:
        return tf.math.is_finite(tf.reduce_sum(rows))  # which one infinity or NaN makes another
    return tf.reduce_all(tf.reduce_max(tf.bitcast(rows, tf.uint32), axis=-1) <= _limit())


def _limit():
    """The bits of the largest valid probability."""
    import tensorflow as tf

    return tf.constant(np.float32(LARGEST_PROBABILITY).view("uint32"), tf.uint32)
