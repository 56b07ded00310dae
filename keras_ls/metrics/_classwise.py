"""Class-wise sums by the kernels that TensorFlow and PyTorch have on a CPU, which are not fused."""

from keras import ops

from keras_ls._labels import gather_labels
from keras_ls.metrics._bins import bin_index, bin_sums, inner_edges
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
    is_valid = all_are_valid(examples.rows, examples.from_logits)
    if examples.is_valid is not None:
        is_valid = is_valid & ops.all(examples.is_valid)
    return ops.cond(is_valid, lambda: _statistics(examples, num_bins), general)


def _statistics(examples, num_bins):
    probabilities, ids, weight = examples.probabilities(), examples.ids, examples.weight
    edge_dtype, num_classes = examples.edge_dtype, probabilities.shape[-1]
    is_high = probabilities > inner_edges(num_bins, edge_dtype)[0]
    low = ops.where(is_high, 0.0, probabilities)
    lowest, lowest_squares = (_weighted_column_sums(rows, weight) for rows in (low, ops.square(low)))

    place = ops.nonzero(ops.reshape(is_high, (-1,)))[0]
    row, column = place // num_classes, place % num_classes
    confidence, own_weight = ops.take(ops.reshape(probabilities, (-1,)), place), ops.take(weight, row)
    gap = ops.where(ops.take(ids, row) == column, 1.0 - confidence, confidence)
    segment = (bin_index(confidence, num_bins, edge_dtype) - 1) * num_classes + column
    shape = (num_bins - 1, num_classes)
    counts, confidences, squares = (
        ops.reshape(bin_sums([terms], segment, (num_bins - 1) * num_classes), shape)
        # Weights in float64, so that what the other bins leave of them for the first is exact.
        for terms in (ops.cast(own_weight, "float64"), own_weight * confidence, own_weight * ops.square(gap))
    )
    remaining = ops.maximum(ops.sum(ops.cast(weight, "float64")) - ops.sum(counts, axis=0), 0.0)
    counts = ops.cast(ops.concatenate([remaining[None], counts], axis=0), weight.dtype)

    own = gather_labels(probabilities, ids)
    bin_of_own = bin_index(own, num_bins, edge_dtype)
    hits = bin_sums([weight], bin_of_own * num_classes + ids, num_bins * num_classes)
    # (1 − p)² in place of p², for hits in the first bin.
    change = bin_sums([ops.where(bin_of_own == 0, weight * (1.0 - 2.0 * own), 0.0)], ids, num_classes)
    confidences = ops.concatenate([lowest[None], confidences], axis=0)
    squares = ops.concatenate([(lowest_squares + change[:, 0])[None], squares], axis=0)
    return ops.stack([counts, confidences, ops.reshape(hits, (num_bins, num_classes)), squares], axis=-1)


def _weighted_column_sums(rows, weight):
    """(N, K) and (N,) to (K,), in groups, whose sums are added pairwise."""
    groups = ops.shape(rows)[0] // _GROUP
    whole = groups * _GROUP
    first = ops.matmul(
        ops.reshape(weight[:whole], (groups, 1, _GROUP)), ops.reshape(rows[:whole], (groups, _GROUP, rows.shape[-1]))
    )
    rest = ops.matmul(weight[None, whole:], rows[whole:])
    return ops.sum(ops.transpose(first[:, 0]), axis=-1) + rest[0]
