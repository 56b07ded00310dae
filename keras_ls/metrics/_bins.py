"""Weights, confidences and hits summed in bins of confidence, and the calibration error of the sums."""

import keras
import numpy as np
from keras import ops

from keras_ls._backend import segment_sums
from keras_ls._checks import check_choice
from keras_ls._labels import gather_labels

NORMS = ("l1", "l2", "max")
# float32 sums of many like numbers drift when added one by one (5e-6 of the sum after 50,000 terms, 1e-3 after a
# million), so a batch is added up as interleaved partial sums, as many as make this number of segments.
_SEGMENTS = 4096
# Up to so many bins vectorised comparisons with each edge are quicker than a search among them, most of all under XLA.
_FEW_BINS = 32


def bin_statistics(confidence, correct, weight, num_bins: int, edge_dtype: str = "float32"):
    """Sums up each bin of confidence; the sums of two batches add up to those of both.

    Args:
        confidence: (N,) in [0, 1].
        correct: (N,) 1 or True where the prediction was right.
        weight: (N,) weights.
        num_bins: B. A confidence of float32(b/B) ends its bin, whatever b and B.
        edge_dtype: the dtype that stands for float32 there: "float16" or "bfloat16" for confidences that came in it.

    Returns:
        (B, 3): weight, weighted confidence and weighted hits of each bin, in `confidence`'s dtype.

    Example:
    >>> import numpy as np
    >>> from keras_ls.metrics import bin_statistics
    >>> sums = bin_statistics(np.array([0.5, 0.75], "float32"), np.array([0, 1]), np.ones(2, "float32"), num_bins=2)
    >>> [[float(x) for x in row] for row in sums]
    [[1.0, 0.5, 0.0], [1.0, 0.75, 1.0]]
    """
    return top_label_bin_statistics(confidence, correct, weight, num_bins, edge_dtype)[:, :3]


def top_label_bin_statistics(confidence, correct, weight, num_bins: int, edge_dtype: str = "float32"):
    """What `bin_statistics` gives, and in a fourth column the weighted squares of hit − confidence: (B, 4)."""
    confidence = ops.convert_to_tensor(confidence)
    weight, hit = (ops.cast(each, confidence.dtype) for each in (weight, correct))
    columns = weight, weight * confidence, weight * hit, weight * ops.square(hit - confidence)
    return bin_sums(columns, bin_index(confidence, num_bins, edge_dtype), num_bins)


def classwise_bin_statistics(probabilities, ids, weight, num_bins: int, edge_dtype: str = "float32"):
    """`bin_statistics` of each class's probability against the indicator of that class, and the squares of their gaps.

    Args:
        probabilities: (N, K) in [0, 1].
        ids: (N,) int class ids in [0, K).
        weight: (N,) weights.
        num_bins: B.
        edge_dtype: as for `bin_statistics`.

    Returns:
        (B, K, 4) in `probabilities`' dtype; the fourth column has the weighted squares of hit − probability.
    """
    num_classes = probabilities.shape[-1]
    classes = ops.arange(num_classes, dtype="int32")
    index = bin_index(ops.reshape(probabilities, (-1,)), num_bins, edge_dtype)
    of_class = ops.reshape(index, (-1, num_classes)) * num_classes + classes
    gap = ops.where(ops.expand_dims(ids, -1) == classes, 1.0 - probabilities, probabilities)
    wide_weight = ops.broadcast_to(ops.expand_dims(weight, -1), ops.shape(probabilities))
    wide = (wide_weight, wide_weight * probabilities, wide_weight * ops.square(gap))
    columns = [ops.reshape(each, (-1,)) for each in wide]
    sums = ops.reshape(bin_sums(columns, ops.reshape(of_class, (-1,)), num_bins * num_classes), (-1, num_classes, 3))
    # A hit happens once an example, in the bin of its own class: no (N, K) indicator is summed.
    hits = ops.reshape(bin_sums([weight], gather_labels(of_class, ids), num_bins * num_classes), (-1, num_classes, 1))
    return ops.concatenate([sums[..., :2], hits, sums[..., 2:]], axis=-1)


def calibration_error_of_bins(statistics, norm: str = "l1"):
    """Calibration error of summed bins, as `keras_ls.metrics` defines it.

    Args:
        statistics: (B, …, 3), or more columns: weight, weighted confidence and weighted hits, as `bin_statistics`
            gives them.
        norm: "l1", "l2" or "max".

    Returns:
        (…,) errors in [0, 1]; 0 where the weights are 0. Empty bins add nothing.

    Raises:
        ValueError: For another norm.

    Example:
    >>> import numpy as np
    >>> from keras_ls.metrics import calibration_error_of_bins
    >>> sums = np.array([[1.0, 0.5, 0.0], [1.0, 0.75, 1.0]], "float32")
    >>> float(calibration_error_of_bins(sums)), float(calibration_error_of_bins(sums, "max"))
    (0.375, 0.5)
    """
    check_choice("norm", norm, NORMS)
    statistics = ops.convert_to_tensor(statistics)
    weight, total = statistics[..., 0], ops.sum(statistics[..., 0], axis=0)
    gap = ops.abs(statistics[..., 2] - statistics[..., 1])  # w_b·|acc_b − conf_b|
    if norm == "l1":
        return ops.divide_no_nan(ops.sum(gap, axis=0), total)
    mean_gap = ops.divide_no_nan(gap, weight)
    if norm == "l2":
        return ops.sqrt(ops.divide_no_nan(ops.sum(gap * mean_gap, axis=0), total))
    total_gap = ops.sum(mean_gap, axis=0)  # NaN where a gap is, which a compiled maximum may pass over
    return ops.where(ops.isnan(total_gap), total_gap, ops.max(mean_gap, axis=0))


def inner_edges(num_bins: int, edge_dtype: str) -> np.ndarray:
    """(B − 1,) float32: b/B for each b in 1…B − 1, as `edge_dtype` rounds it."""
    return (np.arange(1, num_bins) / num_bins).astype(edge_dtype).astype("float32")


def bin_index(confidence, num_bins: int, edge_dtype: str):
    """(M,) to int32 (M,): bins are (b/B, (b+1)/B], found from the inner edges alone so that 1.0 cannot overflow.

    Both sides are compared as `edge_dtype` rounds them, so that a confidence that was float32(b/B), say, is b/B.
    """
    edges, confidence = inner_edges(num_bins, edge_dtype), ops.cast(confidence, "float32")
    if num_bins > _FEW_BINS or keras.backend.backend() == "torch":  # which is as quick to search
        return ops.cast(ops.searchsorted(ops.convert_to_tensor(edges), confidence, side="left"), "int32")
    index = ops.zeros_like(confidence, dtype="int32")
    for edge in edges:
        index = index + ops.cast(confidence > float(edge), "int32")
    return index


def bin_sums(columns, index, num_bins):
    """C columns (M,) and the bins (M,) of their entries to (num_bins, C)."""
    lanes = max(1, _SEGMENTS // num_bins)
    lane = ops.arange(ops.shape(index)[0], dtype="int32") % lanes
    sums = segment_sums(columns, index * lanes + lane, num_bins * lanes)
    # Along the last axis, where every backend adds pairwise; along others TensorFlow adds one by one.
    return ops.transpose(ops.sum(ops.reshape(sums, (len(columns), num_bins, lanes)), axis=-1))
