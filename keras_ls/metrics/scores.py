"""Negative log-likelihood and Brier score."""

import math
from typing import Any

import keras
from keras import ops

from keras_ls._checks import check_level
from keras_ls._labels import gather_labels
from keras_ls.metrics._base import ProbabilityMetric
from keras_ls.metrics._interval import interval_of_mean


class _MeanMetric(ProbabilityMetric):
    """Weighted mean of one value per example, from 0 to `largest`."""

    largest = math.inf

    def __init__(self, from_logits, ignore_class, name, dtype):
        super().__init__(from_logits, ignore_class, name, dtype)
        self._start((4,))

    def result(self):
        """The weighted mean of all batches since the last reset."""
        weight, total, _, _ = ops.unstack(self._sums(), 4)
        return ops.cast(ops.divide_no_nan(total, weight), self.dtype)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """A confidence interval of `result()`, corrected for skewness; weights count as numbers of examples.

        Predictions are taken to be independent. For the steps of sequences, which are not, the interval is too
        short: use `keras_ls.diagnose`.

        Args:
            level: In (0, 1).

        Returns:
            Lower and upper limit; NaN if there are none, or if the values of all examples are the same to a third of a
            percent.
        """
        return interval_of_mean(ops.convert_to_numpy(self._sums()), check_level(level), self.largest)

    def _batch_statistics(self, examples):
        values = examples.masked(self._values(examples))
        weighted = examples.weight * values
        powers = (examples.weight, weighted, weighted * values, weighted * values * values)
        return ops.stack([ops.sum(each) for each in powers])

    def _values(self, examples):
        raise NotImplementedError


@keras.saving.register_keras_serializable(package="keras_ls")
class NegativeLogLikelihood(_MeanMetric):
    """Mean of ``−log p_y`` in nats, always against the hard label, so that it compares across label smoothing.

    Logits are exact. Probabilities are clipped to [ε, 1 − ε], ε being Keras's epsilon (1e-7), so that an example
    costs 16.1 nats at most; they are not normalised.

    Args:
        from_logits: Whether predictions are logits.
        ignore_class: A label whose positions do not count.
        name: Name of the metric.
        dtype: Dtype of the result; None is Keras's floatx.

    Raises:
        ValueError: If arguments are bad, here; if shapes cannot match, at the first call.

    Reference:
        Guo et al. 2017, equation 6.

    Example:
    >>> import numpy as np, keras_ls
    >>> metric = keras_ls.NegativeLogLikelihood()
    >>> metric.update_state(np.array([0, 1]), np.array([[0.75, 0.25], [0.5, 0.5]], "float32"))
    >>> round(float(metric.result()), 4)
    0.4904
    """

    def __init__(
        self, from_logits: bool = False, ignore_class: int | None = None, name: str = "nll", dtype: Any = None
    ):
        super().__init__(from_logits, ignore_class, name, dtype)

    def _values(self, examples):
        if self.from_logits:
            return -gather_labels(ops.log_softmax(examples.rows, axis=-1), examples.ids)
        epsilon = keras.config.epsilon()
        return -ops.log(ops.clip(gather_labels(examples.rows, examples.ids), epsilon, 1.0 - epsilon))


@keras.saving.register_keras_serializable(package="keras_ls")
class BrierScore(_MeanMetric):
    """Mean of ``Σ_k (p_k − y_k)²`` against the hard label: 0 is perfect, 2 is certain of a wrong class.

    Args:
        from_logits: Whether predictions are logits, whose softmax is taken here.
        ignore_class: A label whose positions do not count.
        name: Name of the metric.
        dtype: Dtype of the result; None is Keras's floatx.

    Raises:
        ValueError: If arguments are bad, here; if shapes cannot match, at the first call.

    Note:
        The sum runs over all K classes, as Brier wrote it: for two classes that is twice the score of scikit-learn's
        binary `brier_score_loss` with its default scale.

    Reference:
        Brier 1950, "Verification of forecasts expressed in terms of probability", equation 2.

    Example:
    >>> import numpy as np, keras_ls
    >>> metric = keras_ls.BrierScore()
    >>> metric.update_state(np.array([0, 1]), np.array([[0.75, 0.25], [0.5, 0.5]], "float32"))
    >>> round(float(metric.result()), 4)
    0.3125
    """

    largest = 2.0

    def __init__(
        self, from_logits: bool = False, ignore_class: int | None = None, name: str = "brier", dtype: Any = None
    ):
        super().__init__(from_logits, ignore_class, name, dtype)

    def _values(self, examples):
        # Not Σp² − 2p_y + 1, of which near-perfect predictions would leave only rounding errors.
        rows = examples.probabilities()
        at_label = ops.stack([ops.arange(ops.shape(rows)[0], dtype="int32"), examples.ids], axis=-1)
        residuals = ops.scatter_update(rows, at_label, gather_labels(rows, examples.ids) - 1.0)
        return ops.sum(ops.square(residuals), axis=-1)
