"""Class-wise sums by the kernels that TensorFlow has on a CPU, which are not fused."""

from keras_ls._labels import gather_labels
from keras_ls.metrics._bins import bin_index, inner_edges, segment_sums
from keras_ls.metrics._top_label import all_are_valid

# Rows that are added up one by one, before the sums of all such groups are.
_GROUP = 1024


def statistics_by_kernels(examples, num_bins: int, general):
    """`classwise_bin_statistics` of a batch, at the cost of a few passes over its probabilities.

    Most of the probabilities lie in the first bin, which is summed up column by column; only the others are scattered.

    Args:
        examples: `Examples` with float32 rows.
        num_bins: B, at least 2.
        general: gives the same, with NaN where a row is not valid. It is used where one may not be.
    """
    import tensorflow as tf

    is_valid = all_are_valid(examples.rows, examples.from_logits)
    if examples.is_valid is not None:
        is_valid = is_valid & tf.reduce_all(examples.is_valid)
    return tf.cond(is_valid, lambda: _statistics(examples, num_bins), general)


def _statistics(examples, num_bins):
    import tensorflow as tf

    probabilities, weight, edge_dtype = examples.probabilities(), examples.weight, examples.edge_dtype
    num_classes = probabilities.shape[-1]
    is_high = probabilities > inner_edges(num_bins, edge_dtype)[0]
    lowest = _weighted_column_sums(tf.where(is_high, 0.0, probabilities), weight)

    places = tf.where(is_high)
    confidence, wide_weight = tf.gather_nd(probabilities, places), tf.gather(weight, places[:, 0])
    column = tf.cast(places[:, 1], tf.int32)
    segment = (bin_index(confidence, num_bins, edge_dtype) - 1) * num_classes + column
    terms = tf.stack([wide_weight, wide_weight * confidence], axis=-1)
    sums = segment_sums(terms, segment, (num_bins - 1) * num_classes)
    sums = tf.reshape(sums, (num_bins - 1, num_classes, 2))
    remaining = tf.maximum(tf.reduce_sum(weight) - tf.reduce_sum(sums[..., 0], axis=0), 0.0)
    sums = tf.concat([tf.stack([remaining, lowest], axis=-1)[None], sums], axis=0)

    own = bin_index(gather_labels(probabilities, examples.ids), num_bins, edge_dtype)
    hits = segment_sums(weight[:, None], own * num_classes + examples.ids, num_bins * num_classes)
    return tf.concat([sums, tf.reshape(hits, (num_bins, num_classes, 1))], axis=-1)


def _weighted_column_sums(rows, weight):
    """(N, K) and (N,) to (K,), in groups, whose sums are added pairwise."""
    import tensorflow as tf

    groups = tf.shape(rows)[0] // _GROUP
    whole = groups * _GROUP
    first = tf.matmul(
        tf.reshape(weight[:whole], (groups, 1, _GROUP)), tf.reshape(rows[:whole], (groups, _GROUP, rows.shape[-1]))
    )
    rest = tf.matmul(weight[None, whole:], rows[whole:])
    return tf.reduce_sum(tf.transpose(first[:, 0]), axis=-1) + rest[0]
