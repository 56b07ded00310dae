"""What is made of a batch whose losses, confidences and hits are known: their mean, and a metric."""

import keras
from keras import ops

from keras_ls._arrays import wide_dtype
from keras_ls.metrics import bin_statistics, calibration_error_of_bins


class ReducedLosses(keras.losses.Loss):
    """The mean of losses that are known, as Keras takes it, sample weights and masks included."""

    def __init__(self):
        super().__init__(name="fused", reduction="sum_over_batch_size", dtype=wide_dtype(keras.config.floatx()))

    def call(self, y_true, y_pred):
        """The losses."""
        return y_pred


class BinnedError(keras.metrics.Metric):
    """`keras_ls.ExpectedCalibrationError` of confidences and hits that are known."""

    def __init__(self, name: str, num_bins: int = 15):
        super().__init__(name=name, dtype=wide_dtype(keras.config.floatx()))
        self.num_bins = num_bins
        self.statistics = self.add_variable((num_bins, 3), "zeros", dtype=self.dtype, name="statistics")

    def update_state(self, confidence, hit, weight):
        """Adds a batch of confidences, hits and weights of one shape."""
        confidence, hit, weight = (ops.reshape(each, (-1,)) for each in (confidence, hit, weight))
        self.statistics.assign_add(ops.cast(bin_statistics(confidence, hit, weight, self.num_bins), self.dtype))

    def result(self):
        """The error of all batches since the last reset."""
        return calibration_error_of_bins(self.statistics)
