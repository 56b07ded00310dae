"""What the metrics share: options, what counts, and sums that do not drift."""

from typing import Any

import keras
from keras import ops

from keras_ls._arrays import wide_dtype
from keras_ls._backend import concrete_zeros, no_inference_mode
from keras_ls._checks import check_dtype, check_flag, check_ignore_class, check_string
from keras_ls.metrics._rows import hard_labelled


class ProbabilityMetric(keras.metrics.Metric):
    """What the metrics share: options, what counts, and that lower is better."""

    _direction = "down"  # read by EarlyStopping and ModelCheckpoint with mode="auto"

    def __init__(self, from_logits, ignore_class, name, dtype):
        super().__init__(name=None if name is None else check_string("name", name), dtype=check_dtype(dtype))
        self.from_logits = check_flag("from_logits", from_logits)
        self.ignore_class = check_ignore_class(ignore_class)
        self.statistics: Any = None
        self._rounding: Any = None

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch.

        Args:
            y_true: Class ids (…,) or (…, 1), integers or floats holding integers; or one-hot (…, K).
            y_pred: Predictions (…, K), or (…, 1) of a binary classifier; a Keras mask that they carry is honoured.
            sample_weight: None, or weights of at least 0 that broadcast to (…,).

        Raises:
            ValueError: If shapes cannot match and, where values can be read (eagerly), if a label is neither in [0, K)
                nor `ignore_class`, or a one-hot row holds several ones.
        """
        examples = hard_labelled(
            y_true, y_pred, sample_weight, self.ignore_class, wide_dtype(self.dtype), self.from_logits
        )
        self._add(self._batch_statistics(examples))

    def get_config(self):
        """Every constructor argument, as plain JSON values."""
        return {**super().get_config(), "from_logits": self.from_logits, "ignore_class": self.ignore_class}

    def _start(self, shape):
        """Makes the sums, and what rounding took from them, which is added to them in the end."""
        with no_inference_mode():
            self.statistics, self._rounding = (
                self.add_variable(shape=shape, initializer=concrete_zeros, dtype=wide_dtype(self.dtype), name=name)
                for name in ("statistics", "rounding")
            )

    def _add(self, statistics):
        before = ops.convert_to_tensor(self.statistics)
        total = before + statistics
        added = total - before
        self._rounding.assign_add((before - (total - added)) + (statistics - added))
        self.statistics.assign(total)

    def _sums(self):
        return self.statistics + self._rounding

    def _batch_statistics(self, examples):
        raise NotImplementedError
