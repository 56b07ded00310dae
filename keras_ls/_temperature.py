"""Temperature scaling: the temperature that maximises the likelihood of labels, and the layer that applies it."""

import math
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ls._arrays import hard_labels, prediction_rows
from keras_ls._checks import check_positive

LOWEST, HIGHEST = 0.01, 100.0

# Elements of one block of logits in float64, a few copies of which are alive at a time.
_BLOCK_SIZE = 2**20


def optimal_temperature(logits: np.ndarray, labels: np.ndarray) -> tuple[float, str | None]:
    """Minimises NLL(T) = mean(logsumexp(z/T) − z_y/T) over T in [LOWEST, HIGHEST].

    NLL is convex in β = 1/T, so that its derivative mean(E_p[z] − z_y), p = softmax(βz), grows with β and
    has at most one root. It is found in log β, by Newton steps inside a bracket that only shrinks.

    Args:
        logits: (N, K), N > 0, of any float dtype (a memory map is read block by block); −inf for a class that
            cannot occur.
        labels: (N,) class ids in [0, K).

    Returns:
        T and, where no optimum lies within the bounds, a sentence that says why.

    Raises:
        ValueError: for NaN or +inf logits, or a label whose logit is −inf.
    """
    if not _check(logits, labels):
        return 1.0, "The logits of each example are all equal, so that every temperature fits as well: 1 is taken."
    low, high = -math.log(HIGHEST), -math.log(LOWEST)
    if _slope(logits, labels, math.exp(low))[0] > 0:
        return HIGHEST, (
            f"The likelihood still rises at the highest temperature allowed, {HIGHEST:g} "
            "(do the logits tell anything about the labels?)."
        )
    if _slope(logits, labels, math.exp(high))[0] <= 0:
        return LOWEST, (
            f"The likelihood still rises at the lowest temperature allowed, {LOWEST:g} "
            "(is every example classified correctly?)."
        )
    return math.exp(-_root(logits, labels, low, high)), None


@keras.saving.register_keras_serializable(package="keras_ls")
class TemperatureScaling(keras.layers.Layer):
    """Turns logits into calibrated probabilities softmax(z/T), with one temperature T for all classes.

    T is a float32 weight that training does not touch: `fit` sets it from held-out logits. It changes no decision, only
    how sure the probabilities are. Probabilities are computed in float32 or wider whatever the dtype policy.

    Args:
        temperature: T > 0 before `fit`.
        **kwargs: the arguments of every Keras layer.

    Call arguments:
        logits: (..., K), any float dtype; −inf for a class that cannot occur.

    Returns:
        Probabilities (..., K), float32 (float64 for float64 logits).

    Raises:
        ValueError: where `temperature` is not a finite number above 0.

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
        self.initial_temperature = check_positive("temperature", temperature)
        self.supports_masking = True
        self.temperature = self.add_weight(
            name="temperature",
            shape=(),
            initializer=keras.initializers.Constant(self.initial_temperature),
            trainable=False,
            dtype="float32",
            autocast=False,
        )

    def fit(self, logits: Any, labels: Any) -> "TemperatureScaling":
        """Sets T to the minimiser of NLL(T) = mean(logsumexp(z/T) − z_y/T) within [0.01, 100].

        NLL is convex in 1/T; its derivative's root is found in float64, block by block of examples. Where the optimum
        lies outside the bounds, T is the nearer bound and a warning says so: separable examples (a single one that is
        classified correctly, say) have no optimum above 0, and logits that say less than nothing about the labels have
        none below infinity. Where the logits of each example are all equal T is 1, with a warning.

        Args:
            logits: (..., K) raw scores, or log-probabilities.
            labels: class ids (...,) or (..., 1), or one row an example (..., K).

        Returns:
            The layer itself.

        Raises:
            ValueError: for NaN or +inf logits, no examples, labels outside [0, K) or with a logit of −inf, and shapes
                that do not match.
        """
        scores = prediction_rows("logits", logits)
        ids = hard_labels("labels", labels, scores.shape)
        temperature, problem = optimal_temperature(scores.reshape(-1, scores.shape[-1]), ids)
        if problem is not None:
            warnings.warn(problem, stacklevel=2)
        # float32(0.01) is less than 0.01.
        lowest = np.nextafter(np.float32(LOWEST), np.float32(1))
        self.temperature.assign(max(np.float32(temperature), lowest))
        return self

    def call(self, logits):
        """Returns softmax(logits / T)."""
        dtype = "float64" if keras.backend.standardize_dtype(logits.dtype) == "float64" else "float32"
        return ops.softmax(ops.cast(logits, dtype) / ops.cast(self.temperature, dtype), axis=-1)

    def compute_output_shape(self, input_shape):
        """Probabilities have the shape of the logits."""
        return input_shape

    def get_config(self):
        """The config holds the temperature that the layer began with; the fitted one is a weight."""
        return {**super().get_config(), "temperature": self.initial_temperature}


def _root(logits: np.ndarray, labels: np.ndarray, low: float, high: float) -> float:
    position, step = 0.0, high - low  # T = 1 first
    while abs(step) > 1e-10:
        beta = math.exp(position)
        slope, curvature = _slope(logits, labels, beta)
        low, high = (position, high) if slope < 0 else (low, position)
        newton = -slope / (beta * curvature) if curvature > 0 else math.inf
        # A Newton step counts only where it stays inside and at least halves the last one; bisection does both.
        safe = low <= position + newton <= high and abs(newton) < abs(step) / 2
        step = newton if safe else (low + high) / 2 - position
        position += step
    return position


def _slope(logits: np.ndarray, labels: np.ndarray, beta: float) -> tuple[float, float]:
    """First and second derivative of NLL with respect to β: mean(E_p[z] − z_y) and mean(Var_p[z])."""
    slope = curvature = 0.0
    for block, label in _blocks(logits, labels):
        distance = block - block.max(axis=-1, keepdims=True)  # at most 0: no exponential overflows
        own = distance[np.arange(len(label)), label]
        weight = np.exp(beta * distance)
        weight /= weight.sum(axis=-1, keepdims=True)
        distance[weight == 0] = 0.0  # 0 · −inf of a class that cannot occur is 0
        mean = (weight * distance).sum(axis=-1)
        slope += float((mean - own).sum())
        curvature += float((weight * np.square(distance - mean[:, None])).sum())
    return slope / len(labels), curvature / len(labels)


def _check(logits: np.ndarray, labels: np.ndarray) -> bool:
    """Refuses logits without a likelihood; says whether the logits of any example differ."""
    differ = False
    for block, label in _blocks(logits, labels):
        if np.isnan(block).any() or np.isposinf(block).any():
            raise ValueError("`logits` must be finite, or −inf for a class that cannot occur. Received NaN or +inf.")
        own = block[np.arange(len(label)), label]
        if np.isneginf(own).any():
            raise ValueError("`labels` must be classes that can occur. Received one whose logit is −inf.")
        lowest = np.where(np.isneginf(block), np.inf, block).min(axis=-1)
        differ = differ or bool((lowest < block.max(axis=-1)).any())
    return differ


def _blocks(logits: np.ndarray, labels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rows = max(1, _BLOCK_SIZE // logits.shape[-1])
    for start in range(0, len(labels), rows):
        yield logits[start : start + rows].astype("float64"), labels[start : start + rows]
