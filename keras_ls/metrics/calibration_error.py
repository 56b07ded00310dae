"""Calibration error, top-label and class by class, summed in bins of confidence."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ls._checks import check_choice, check_count
from keras_ls._labels import gather_labels
from keras_ls.metrics._base import ProbabilityMetric
from keras_ls.metrics._interval import check_level, interval_of_bins

NORMS = ("l1", "l2", "max")
# float32 sums of many like numbers drift when added one by one (5e-6 of the sum after 50,000 terms, 1e-3 after a
# million), so a batch is added up as interleaved partial sums, as many as make this number of segments.
_SEGMENTS = 4096


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
    confidence = ops.convert_to_tensor(confidence)
    weight = ops.cast(weight, confidence.dtype)
    rows = ops.stack([weight, weight * confidence, weight * ops.cast(correct, confidence.dtype)], axis=-1)
    return _segment_sums(rows, _bin_index(confidence, num_bins, edge_dtype), num_bins)


def classwise_bin_statistics(probabilities, ids, weight, num_bins: int, edge_dtype: str = "float32"):
    """`bin_statistics` of each class's probability against the indicator of that class.

    Args:
        probabilities: (N, K) in [0, 1].
        ids: (N,) int class ids in [0, K).
        weight: (N,) weights.
        num_bins: B.
        edge_dtype: as for `bin_statistics`.

    Returns:
        (B, K, 3) in `probabilities`' dtype.
    """
    num_classes = probabilities.shape[-1]
    shape = (num_bins, num_classes, -1)
    index = _bin_index(ops.reshape(probabilities, (-1,)), num_bins, edge_dtype)
    of_class = ops.reshape(index, (-1, num_classes)) * num_classes + ops.arange(num_classes, dtype="int32")
    wide_weight = ops.broadcast_to(ops.expand_dims(weight, -1), ops.shape(probabilities))
    rows = ops.reshape(ops.stack([wide_weight, wide_weight * probabilities], axis=-1), (-1, 2))
    sums = _segment_sums(rows, ops.reshape(of_class, (-1,)), num_bins * num_classes)
    # A hit happens once an example, in the bin of its own class: no (N, K) indicator is needed.
    hits = _segment_sums(ops.expand_dims(weight, -1), gather_labels(of_class, ids), num_bins * num_classes)
    return ops.concatenate([ops.reshape(sums, shape), ops.reshape(hits, shape)], axis=-1)


def calibration_error_of_bins(statistics, norm: str = "l1"):
    """Calibration error of summed bins, as `keras_ls.metrics` defines it.

    Args:
        statistics: (B, …, 3): weight, weighted confidence and weighted hits, as `bin_statistics` gives them.
        norm: "l1", "l2" or "max".

    Returns:
        (…,) errors in [0, 1]; 0 where the weights are 0. Empty bins add nothing.

    Example:
    >>> import numpy as np
    >>> from keras_ls.metrics import calibration_error_of_bins
    >>> sums = np.array([[1.0, 0.5, 0.0], [1.0, 0.75, 1.0]], "float32")
    >>> float(calibration_error_of_bins(sums)), float(calibration_error_of_bins(sums, "max"))
    (0.375, 0.5)
    """
    statistics = ops.convert_to_tensor(statistics)
    weight, total = statistics[..., 0], ops.sum(statistics[..., 0], axis=0)
    gap = ops.abs(statistics[..., 2] - statistics[..., 1])  # w_b·|acc_b − conf_b|
    if norm == "l1":
        return ops.divide_no_nan(ops.sum(gap, axis=0), total)
    mean_gap = ops.divide_no_nan(gap, weight)
    if norm == "l2":
        return ops.sqrt(ops.divide_no_nan(ops.sum(gap * mean_gap, axis=0), total))
    return ops.max(mean_gap, axis=0)


@keras.saving.register_keras_serializable(package="keras_ls")
class ExpectedCalibrationError(ProbabilityMetric):
    """Top-label calibration error: do predictions of confidence c come true a fraction c of the time?

    The confidence is the largest probability, and the prediction its class (the first, in a tie). `keras_ls.metrics`
    has the formula. The state is a (B, 3) sum and its rounding, however much data comes.

    Args:
        num_bins: B ≥ 1.
        norm: "l1" (the usual ECE), "l2" (root mean square) or "max" (maximum calibration error).
        from_logits: Whether predictions are logits, whose softmax is taken here.
        ignore_class: A label whose positions do not count.
        name: Name of the metric.
        dtype: Dtype of the result; None is Keras's floatx.

    Raises:
        ValueError: If arguments are bad, here; if shapes cannot match, at the first call.

    Note:
        Where no confidence lies exactly on an edge b/B, this is torchmetrics' `MulticlassCalibrationError` for
        probabilities and, for the l1 and max norms, netcal's `ECE` and `MCE`. On an edge they differ, as both take
        bins [b/B, (b+1)/B); torchmetrics moreover puts a confidence of exactly 1.0 into a bin of its own. netcal
        takes labels with at most two distinct values for a binary task: with two classes it then measures
        P(class 1) instead of the top label, with more it raises. torchmetrics takes any batch outside [0, 1] for
        logits; here only `from_logits` decides.

    Reference:
        Guo et al. 2017, equation 3; Müller et al. 2019, section 3.

    Example:
    >>> import numpy as np, keras_ls
    >>> metric = keras_ls.ExpectedCalibrationError(num_bins=10)
    >>> metric.update_state(np.array([0, 1]), np.array([[0.75, 0.25], [0.65, 0.35]], "float32"))
    >>> round(float(metric.result()), 4)
    0.45
    """

    def __init__(
        self,
        num_bins: int = 15,
        norm: str = "l1",
        from_logits: bool = False,
        ignore_class: int | None = None,
        name: str = "ece",
        dtype: Any = None,
    ):
        super().__init__(from_logits, ignore_class, name, dtype)
        self.num_bins = check_count("num_bins", num_bins)
        self.norm = check_choice("norm", norm, NORMS)
        self._start((self.num_bins, 3))

    def result(self):
        """The error of all batches since the last reset, in [0, 1]."""
        return ops.cast(calibration_error_of_bins(self._sums(), self.norm), self.dtype)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """A confidence interval of the error; it need not hold `result()`, which few examples per bin make too large.

        Weights count as numbers of examples. Predictions are taken to be independent. Of the steps of sequences, which
        are not, it is too short: use `keras_ls.diagnose`.

        Args:
            level: In (0, 1).

        Returns:
            Lower and upper limit; NaN if there are none.

        Raises:
            ValueError: If the norm is "max", for which there is none, or `level` is not in (0, 1).
        """
        if self.norm == "max":
            raise ValueError("`interval` needs the norm 'l1' or 'l2'. Received: norm='max'.")
        return interval_of_bins(ops.convert_to_numpy(self._sums()), check_level(level), self.norm)

    def get_config(self):
        """Every constructor argument, as plain JSON values."""
        return {**super().get_config(), "num_bins": self.num_bins, "norm": self.norm}

    def _batch_statistics(self, examples):
        predicted = ops.cast(ops.argmax(examples.rows, axis=-1), "int32")
        confidence = examples.masked(gather_labels(examples.probabilities(), predicted))
        correct = ops.equal(predicted, examples.ids)
        return bin_statistics(confidence, correct, examples.weight, self.num_bins, examples.edge_dtype)


@keras.saving.register_keras_serializable(package="keras_ls")
class ClasswiseCalibrationError(ProbabilityMetric):
    """Mean over classes of the l1 calibration error of each class's probability.

    For class k the confidence is p_k and a hit is y = k; `keras_ls.metrics` has the formula. With many classes most
    probabilities are near 0, where they are nearly always right: the number shrinks as K grows. The state is a
    (B, K, 3) sum and its rounding, created when the first predictions tell K.

    Args:
        num_bins: B ≥ 1.
        from_logits: Whether predictions are logits, whose softmax is taken here.
        ignore_class: A label whose positions do not count.
        name: Name of the metric.
        dtype: Dtype of the result; None is Keras's floatx.

    Raises:
        ValueError: If arguments are bad, here; if shapes cannot match or K changes, at the call.

    Note:
        torchmetrics and netcal have no such metric; for each class alone, this is netcal's `ECE` of the column p_k
        against y = k, under the same condition on bin edges as in `ExpectedCalibrationError`.

    Reference:
        Kull et al. 2019, "Beyond temperature scaling", section 2 (classwise-ECE).

    Example:
    >>> import numpy as np, keras_ls
    >>> metric = keras_ls.ClasswiseCalibrationError(num_bins=10)
    >>> metric.update_state(np.array([0, 1]), np.array([[0.75, 0.25], [0.65, 0.35]], "float32"))
    >>> round(float(metric.result()), 4)
    0.45
    """

    def __init__(
        self,
        num_bins: int = 15,
        from_logits: bool = False,
        ignore_class: int | None = None,
        name: str = "classwise_ece",
        dtype: Any = None,
    ):
        super().__init__(from_logits, ignore_class, name, dtype)
        self.num_bins = check_count("num_bins", num_bins)

    def result(self):
        """The error of all batches since the last reset, in [0, 1]."""
        if self.statistics is None:
            return ops.zeros((), dtype=self.dtype)
        return ops.cast(ops.mean(calibration_error_of_bins(self._sums())), self.dtype)

    def per_class(self) -> np.ndarray:
        """The (K,) errors of the classes, whose mean is `result()`; of no class before the first batch."""
        if self.statistics is None:
            return np.zeros(0, self.dtype)
        return ops.convert_to_numpy(ops.cast(calibration_error_of_bins(self._sums()), self.dtype))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """A confidence interval of the error; it need not hold `result()`, which few examples per bin make too large.

        Weights count as numbers of examples. Predictions are taken to be independent. Of the steps of sequences, which
        are not, it is too short: use `keras_ls.diagnose`.

        Args:
            level: In (0, 1).

        Returns:
            Lower and upper limit; NaN if there are none.
        """
        level = check_level(level)
        if self.statistics is None:
            return np.nan, np.nan
        return interval_of_bins(ops.convert_to_numpy(self._sums()), level)

    def get_config(self):
        """Every constructor argument, as plain JSON values."""
        return {**super().get_config(), "num_bins": self.num_bins}

    def _batch_statistics(self, examples):
        self._require_classes(examples.rows.shape[-1])
        probabilities = examples.masked(examples.probabilities())
        return classwise_bin_statistics(
            probabilities, examples.ids, examples.weight, self.num_bins, examples.edge_dtype
        )

    def _require_classes(self, num_classes):
        if self.statistics is None:
            self._start((self.num_bins, num_classes, 3))
        elif self.statistics.shape[1] != num_classes:
            raise ValueError(
                f"`y_pred` must have the {self.statistics.shape[1]} classes that this metric has seen before. "
                f"Received: {num_classes} classes."
            )


def _bin_index(confidence, num_bins, edge_dtype):
    """(M,) to int32 (M,): bins are (b/B, (b+1)/B], found from the inner edges alone so that 1.0 cannot overflow.

    Both sides are compared as `edge_dtype` rounds them, so that a confidence that was float32(b/B), say, is b/B.
    """
    edges = ops.convert_to_tensor((np.arange(1, num_bins) / num_bins).astype(edge_dtype).astype("float32"))
    return ops.cast(ops.searchsorted(edges, ops.cast(confidence, "float32"), side="left"), "int32")


def _segment_sums(rows, index, num_segments):
    """(M, C) rows and (M,) segments to (num_segments, C)."""
    lanes = max(1, _SEGMENTS // num_segments)
    lane = ops.arange(ops.shape(index)[0], dtype="int32") % lanes
    sums = ops.segment_sum(rows, index * lanes + lane, num_segments=num_segments * lanes)
    # Along the last axis, where every backend adds pairwise; along others TensorFlow adds one by one.
    return ops.sum(ops.moveaxis(ops.reshape(sums, (num_segments, lanes, rows.shape[-1])), 1, -1), axis=-1)
