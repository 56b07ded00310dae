"""Calibration error, top-label and class by class, summed in bins of confidence."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ls._backend import on_cpu_kernels
from keras_ls._checks import check_choice, check_count, check_level
from keras_ls.metrics._base import ProbabilityMetric
from keras_ls.metrics._bins import NORMS, calibration_error_of_bins, classwise_bin_statistics, top_label_bin_statistics
from keras_ls.metrics._classwise import statistics_by_kernels
from keras_ls.metrics._interval import interval_of_accuracy, interval_of_bins
from keras_ls.metrics._top_label import top_label


class _BinnedMetric(ProbabilityMetric):
    """A calibration error from sums over bins of confidence."""

    norm = "l1"

    def __init__(self, num_bins, from_logits, ignore_class, name, dtype):
        super().__init__(from_logits, ignore_class, name, dtype)
        self.num_bins = check_count("num_bins", num_bins)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """A confidence interval of the error; it need not hold `result()`, which is too high with few examples per bin.

        Weights count as numbers of examples. Predictions are taken to be independent. For the steps of sequences,
        which are not, the interval is too short: use `keras_ls.diagnose`.

        Args:
            level: In (0, 1).

        Returns:
            Lower and upper limit; NaN if there are none.

        Raises:
            ValueError: If the norm is "max", for which there is none, or `level` is not in (0, 1).
        """
        if self.norm == "max":
            raise ValueError("`interval` needs the norm 'l1' or 'l2'. Received: norm='max'.")
        level = check_level(level)
        if self.statistics is None:
            return np.nan, np.nan
        return interval_of_bins(ops.convert_to_numpy(self._sums()), level, self.norm)

    def get_config(self):
        """Every constructor argument, as plain JSON values."""
        return {**super().get_config(), "num_bins": self.num_bins}


@keras.saving.register_keras_serializable(package="keras_ls")
class ExpectedCalibrationError(_BinnedMetric):
    """Top-label calibration error: do predictions of confidence c come true a fraction c of the time?

    The confidence is the largest probability, and the prediction its class (the first, in a tie). `keras_ls.metrics`
    has the formula. The state is a (B, 4) sum and its rounding, however much data comes.

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
        super().__init__(num_bins, from_logits, ignore_class, name, dtype)
        self.norm = check_choice("norm", norm, NORMS)
        self._start((self.num_bins, 4))

    def result(self):
        """The error of all batches since the last reset, in [0, 1]."""
        return ops.cast(calibration_error_of_bins(self._sums(), self.norm), self.dtype)

    def accuracy_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Wilson's interval of the accuracy, which the bins count as well; weights count as numbers of examples.

        Args:
            level: In (0, 1).

        Returns:
            Lower and upper limit; NaN if there are none.

        Raises:
            ValueError: If `level` is not in (0, 1).

        Reference:
            Wilson 1927, "Probable inference, the law of succession, and statistical inference".

        Example:
        >>> import numpy as np, keras_ls
        >>> metric = keras_ls.ExpectedCalibrationError()
        >>> metric.update_state(np.array([0, 1]), np.array([[0.75, 0.25], [0.5, 0.5]], "float32"))
        >>> [round(limit, 3) for limit in metric.accuracy_interval()]  # one of two is right
        [0.095, 0.905]
        """
        return interval_of_accuracy(ops.convert_to_numpy(self._sums()), check_level(level))

    def get_config(self):
        """Every constructor argument, as plain JSON values."""
        return {**super().get_config(), "norm": self.norm}

    def _batch_statistics(self, examples):
        confidence, correct = top_label(examples.rows, examples.ids, examples.from_logits)
        confidence = examples.masked(confidence, rows_are_checked=True)
        return top_label_bin_statistics(confidence, correct, examples.weight, self.num_bins, examples.edge_dtype)


@keras.saving.register_keras_serializable(package="keras_ls")
class ClasswiseCalibrationError(_BinnedMetric):
    """Mean over classes of the l1 calibration error of each class's probability.

    For class k the confidence is p_k and a hit is y = k; `keras_ls.metrics` has the formula. With many classes most
    probabilities are near 0, where they are nearly always right: the number shrinks as K grows. The state is a
    (B, K, 4) sum and its rounding, created when the first predictions tell K.

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
        super().__init__(num_bins, from_logits, ignore_class, name, dtype)

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

    def _batch_statistics(self, examples):
        self._require_classes(examples.rows.shape[-1])

        def general():
            probabilities = examples.masked(examples.probabilities())
            return classwise_bin_statistics(
                probabilities, examples.ids, examples.weight, self.num_bins, examples.edge_dtype
            )

        if keras.backend.standardize_dtype(examples.rows.dtype) != "float32" or self.num_bins == 1:
            return general()
        return on_cpu_kernels(examples.rows, lambda: statistics_by_kernels(examples, self.num_bins, general), general)

    def _require_classes(self, num_classes):
        if self.statistics is None:
            self._start((self.num_bins, num_classes, 4))
        elif self.statistics.shape[1] != num_classes:
            raise ValueError(
                f"`y_pred` must have the {self.statistics.shape[1]} classes that this metric has seen before. "
                f"Received: {num_classes} classes."
            )
