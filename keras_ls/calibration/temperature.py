"""Temperature scaling: the temperature that maximises the likelihood of labels, and the layer that applies it."""

import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ls._arrays import wide_dtype
from keras_ls._backend import row_maximum
from keras_ls._checks import check_ignore_class, check_positive
from keras_ls._models.layers import AfterLogits
from keras_ls._rows import LabelledRows, labelled_rows
from keras_ls.calibration.search import LOWEST, optimal_temperature


def fitted_temperature(rows: LabelledRows, stacklevel: int = 2) -> np.float32:
    """The optimal temperature as a float32 within the bounds.

    Warns, `stacklevel` calls up, if there is no optimum, or if what is given as logits looks like probabilities.
    """
    temperature, problem = optimal_temperature(rows)
    if rows.from_logits and are_probabilities(rows):
        problem = (
            "The logits look like probabilities: none is negative, and they sum to 1 for each example. "
            "Say from_logits=False, or give TemperatureScaling.fit the logarithms of the probabilities."
        )
    if problem is not None:
        warnings.warn(problem, stacklevel=stacklevel)
    # float32(0.01) is less than 0.01.
    return max(np.float32(temperature), np.nextafter(np.float32(LOWEST), np.float32(1)))


def are_probabilities(rows: LabelledRows) -> bool:
    """Says whether what is given as logits looks like probabilities, by the first 1,000 rows that count."""
    first = rows.rows[np.flatnonzero(rows.weight > 0)[:1000]].astype("float64")
    return first.shape[-1] > 1 and first.min() >= 0 and np.abs(first.sum(axis=-1) - 1).max() < 0.01  # of half precision


@keras.saving.register_keras_serializable(package="keras_ls")
class TemperatureScaling(AfterLogits):
    """Turns logits into calibrated probabilities softmax(z/T), with one temperature T for all classes.

    Logits (..., 1) are those of class 1 of two classes, such as the one sigmoid unit of a binary classifier has, and
    become sigmoid(z/T).

    T is a float32 weight that training does not touch: `fit` sets it from held-out logits. It changes no decision, only
    how sure the probabilities are. Probabilities are computed in float32 or wider whatever the dtype policy.

    Args:
        temperature: T > 0 before `fit`.
        **kwargs: the arguments of every Keras layer.

    Call arguments:
        logits: (..., K) or (..., 1), any float dtype; −inf for a class that cannot occur.

    Returns:
        Probabilities of the shape of the logits, float32 (float64 for float64 logits).

    Raises:
        ValueError: If `temperature` is not a finite number above 0.

    Example:
        >>> import keras, keras_ls
        >>> scaling = keras_ls.TemperatureScaling().fit([[6.0, 0.0], [6.0, 0.0], [6.0, 0.0]], [0, 0, 1])
        >>> print(round(float(scaling.temperature), 3))
        8.656
        >>> print([round(float(p), 3) for p in scaling(keras.ops.array([6.0, 0.0]))])
        [0.667, 0.333]

    Reference:
        Guo et al. 2017, section 4.2; Müller, Kornblith and Hinton 2019, section 3.
    """

    def __init__(self, temperature: float = 1.0, **kwargs):
        super().__init__(autocast=False, **kwargs)  # logits stay as precise as they come
        self.initial_temperature = check_positive("temperature", temperature, of_float32=True)
        self.supports_masking = True
        self.temperature = self.add_weight(
            name="temperature",
            shape=(),
            initializer=keras.initializers.Constant(self.initial_temperature),
            trainable=False,
            dtype="float32",
            autocast=False,
        )

    def fit(
        self, logits: Any, labels: Any, sample_weight: Any = None, ignore_class: int | None = None
    ) -> "TemperatureScaling":
        """Sets T to the minimiser of NLL(T) = mean(logsumexp(z/T) − z_y/T) within [0.01, 100].

        NLL is convex in 1/T. The root of its derivative is found over blocks of examples, on all cores, with the last
        steps in float64. If the optimum lies outside the bounds, T is the nearer bound and a warning says so: separable
        examples (a single one that is classified correctly, say) have no optimum above 0, and logits that are worse
        than uninformative have none below infinity. If the logits of each example are all equal, T is 1, with a
        warning. Logits that look like probabilities cause a warning, too.

        Args:
            logits: (..., K) raw scores, or log-probabilities; (..., 1), or (N,) with labels (N,), of two classes.
            labels: class ids (...,) or (..., 1), or one row per example (..., K).
            sample_weight: None, or weights ≥ 0, shaped as the class ids or as their leading dimensions. The mean is by
                weight, so that a weight of 2 is the example twice and one of 0 leaves it out.
            ignore_class: a label, in [0, K) or not, whose positions do not count, or None.

        Returns:
            The layer itself.

        Raises:
            ValueError: If logits that count are NaN or +inf, no example counts, labels are outside [0, K) or have a
                logit of −inf, label rows mark several classes, or shapes do not match.
        """
        ignored = check_ignore_class(ignore_class)
        rows = labelled_rows(labels, logits, sample_weight, ignored, from_logits=True, names=("labels", "logits"))
        self.temperature.assign(fitted_temperature(rows.check_any("logits"), stacklevel=3))
        return self

    def call(self, logits):
        """Returns softmax(logits / T), or sigmoid(logits / T) of logits (..., 1); NaN for rows with NaN or +inf."""
        if len(logits.shape) == 0:
            raise ValueError("`logits` must be (..., K). Received: a single number.")
        dtype = wide_dtype(logits.dtype)
        logits, temperature = ops.cast(logits, dtype), ops.cast(self.temperature, dtype)
        is_broken = ops.any(ops.isnan(logits) | (logits == np.inf), axis=-1, keepdims=True)
        if logits.shape[-1] == 1:
            return ops.where(is_broken, np.nan, ops.sigmoid(logits / temperature))
        # Before they are divided, so that no quotient is infinite.
        highest = row_maximum(logits)
        below = logits - ops.where(ops.isfinite(highest), highest, 0.0)
        return ops.softmax(ops.where(is_broken, np.nan, below / temperature), axis=-1)

    def compute_output_spec(self, logits):
        """Probabilities have the shape of the logits, in float32 or wider whatever the dtype policy."""
        return keras.KerasTensor(logits.shape, dtype=wide_dtype(logits.dtype))

    def compute_output_shape(self, input_shape):
        """Probabilities have the shape of the logits."""
        return input_shape

    def get_config(self):
        """The config holds the temperature that the layer began with; the fitted one is a weight."""
        return {**super().get_config(), "temperature": self.initial_temperature}
