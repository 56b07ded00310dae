"""Calibration after training: reliability curves, calibration errors and temperature scaling."""

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_ls._arrays import hard_labels, log_softmax, prediction_rows, to_numpy
from keras_ls._checks import check_choice, check_count
from keras_ls._logits import logits_model
from keras_ls._predictions import LabelledData
from keras_ls._temperature import TemperatureScaling

_NORMS = ("l1", "l2", "max")


@dataclasses.dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """Accuracy against confidence, bin by bin; `reliability_curve` makes it.

    Attributes:
        bin_edges: (B + 1,) float64. Bin b holds the confidences in (bin_edges[b], bin_edges[b + 1]], the first 0 too.
        confidence: (B,) float64, mean confidence in each bin; NaN in an empty one.
        accuracy: (B,) float64, share of correct predictions in each bin; NaN in an empty one.
        count: (B,) float64, predictions in each bin, or the sum of their weights.
    """

    bin_edges: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray

    def ece(self) -> float:
        """Expected calibration error Σ_b (n_b/N)·|accuracy_b − confidence_b|, in [0, 1]."""
        return _norm(self, "l1")

    def mce(self) -> float:
        """Maximum calibration error max_b |accuracy_b − confidence_b| over the bins that hold something, in [0, 1]."""
        return _norm(self, "max")


def reliability_curve(
    y_true: Any,
    y_pred: Any,
    num_bins: int = 15,
    from_logits: bool = False,
    sample_weight: Any = None,
) -> ReliabilityCurve:
    """Accuracy and mean confidence of top-label predictions in equal-width bins of confidence.

    The confidence of a prediction is its largest probability; it is correct where that class (the first of several)
    is the label. Bins are right-closed, (b/B, (b + 1)/B], and 0 falls in the first. A confidence that is b/B as its
    dtype, or float32 if that is narrower, rounds it counts as b/B. Sums are in float64.

    Args:
        y_true: class ids (...,) or (..., 1), integers or floats that hold integers, or one row a prediction (..., K)
            whose largest entry is the class. NumPy array, list, or tensor.
        y_pred: probabilities, or logits with `from_logits`, (..., K), of any float dtype. All but the last dimension
            are flattened. NaN or infinite predictions make the whole curve NaN.
        num_bins: number of bins B, at least 1.
        from_logits: whether `y_pred` holds logits; −inf is the logit of a class that cannot occur.
        sample_weight: None, or weights ≥ 0, shaped as the class ids or as their leading dimensions. Predictions of
            weight 0 do not count at all.

    Returns:
        A `ReliabilityCurve`.

    Raises:
        ValueError: for shapes that do not match, labels outside [0, K), no predictions or none that weighs something,
            probabilities outside [0, 1], and `num_bins` below 1.

    Example:
        >>> import keras_ls
        >>> curve = keras_ls.reliability_curve([0, 1, 1], [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]], num_bins=2)
        >>> print(curve.confidence.round(3), curve.accuracy.round(3), curve.count)
        [  nan 0.767] [  nan 0.667] [0. 3.]
        >>> print(round(curve.ece(), 3))
        0.1

    Reference:
        Müller, Kornblith and Hinton 2019, section 3 and Figure 2; Guo et al. 2017.
    """
    edges = np.arange(check_count("num_bins", num_bins) + 1) / num_bins
    confidence, correct, dtype = _top_label(y_true, y_pred, from_logits)
    weight = np.ones(len(confidence))
    if sample_weight is not None:
        weight = _weights(sample_weight, to_numpy("y_pred", y_pred).shape[:-1])
    # Both sides are rounded alike, so that the float32 of b/B is not above the float64 of b/B.
    bins = np.searchsorted(_rounded(edges[1:-1], dtype), _rounded(confidence, dtype), side="left")
    return _curve(edges, bins, confidence, correct, weight)


def calibration_error(
    y_true: Any,
    y_pred: Any,
    num_bins: int = 15,
    norm: str = "l1",
    binning: str = "uniform",
    from_logits: bool = False,
) -> float:
    """Distance of top-label accuracy from confidence over bins of confidence.

    With gap_b = |accuracy_b − confidence_b| and shares n_b/N: "l1" is Σ_b (n_b/N)·gap_b (ECE), "l2" is
    √(Σ_b (n_b/N)·gap_b²), "max" is max_b gap_b (MCE).

    Args:
        y_true: as for `reliability_curve`.
        y_pred: as for `reliability_curve`.
        num_bins: number of bins, at least 1.
        norm: "l1", "l2" or "max".
        binning: "uniform", the bins of `reliability_curve`, or "quantile": bins that end at the quantiles of the
            confidences, so that each holds as many (the adaptive calibration error). Equal confidences stay together.
        from_logits: whether `y_pred` holds logits.

    Returns:
        A float in [0, 1]; NaN where a prediction is NaN or infinite.

    Raises:
        ValueError: as `reliability_curve`, and for an unknown `norm` or `binning`.

    Example:
        >>> import keras_ls
        >>> y_true, y_pred = [0, 1, 1], [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]]
        >>> print(round(keras_ls.calibration_error(y_true, y_pred, num_bins=3, binning="quantile"), 3))
        0.433

    netcal's bins are left-closed, so that a confidence on an edge counts in the bin above; torchmetrics has a bin more,
    for a confidence of exactly 1. Elsewhere the three agree.

    Reference:
        Guo et al. 2017 (uniform bins); Nguyen and O'Connor 2015, section 4 (equal-mass bins).
    """
    check_choice("norm", norm, _NORMS)
    if check_choice("binning", binning, ("uniform", "quantile")) == "uniform":
        return _norm(reliability_curve(y_true, y_pred, num_bins, from_logits), norm)
    quantiles = np.arange(check_count("num_bins", num_bins) + 1) / num_bins
    confidence, correct, _ = _top_label(y_true, y_pred, from_logits)
    edges = np.quantile(confidence, quantiles)
    bins = np.searchsorted(edges[1:-1], confidence, side="left")
    return _norm(_curve(edges, bins, confidence, correct, np.ones(len(confidence))), norm)


def calibrate(model: keras.Model, x: Any, y: Any = None, batch_size: int = 32) -> keras.Model:
    """Returns a model that gives calibrated probabilities: `model` with temperature scaling fitted on held-out data.

    Whether `model` gives logits or probabilities is read off its last layers: a linear `Dense` (or convolution) gives
    logits; a softmax, as a layer or as the activation of the last layer, is taken off, and the temperature is fitted on
    what comes before it. Only where the logits cannot be shown (a softmax inside another layer than `Dense`, or a
    quantized one) is the temperature fitted on log p, in which all probabilities that underflowed are the same.

    The new model shares the layers of `model` and leaves them, their weights and their `trainable` flags as they are.
    Where `model` is trained further, calibrate it again.

    Args:
        model: a built functional or `Sequential` model with one output (..., K).
        x: inputs that the model was not trained on, as `model.predict` takes them (an array, or a list or dict of
            arrays), or a dataset of (inputs, labels): `tf.data.Dataset`, `keras.utils.PyDataset` or
            `torch.utils.data.DataLoader`. A dataset is read once, so that labels stay with their inputs if it shuffles.
        y: class ids (N, ...) or (N, ..., 1), or one row a prediction (N, ..., K). None where `x` is a dataset.
        batch_size: examples a batch, where `x` is not a dataset.

    Returns:
        A functional model with the inputs of `model` that gives float32 probabilities (..., K). It can be saved;
        `import keras_ls` before loading it.

    Raises:
        ValueError: where it cannot be told whether the model gives logits or probabilities (it ends in a sigmoid or
            in a layer of your own, say), and for empty data, lengths that do not match or labels outside [0, K).

    Example:
        >>> import numpy as np, keras, keras_ls
        >>> head = keras.layers.Dense(2, activation="softmax", kernel_initializer="identity")
        >>> model = keras.Sequential([keras.Input((2,)), head])
        >>> calibrated = keras_ls.calibrate(model, np.array([[6.0, 0.0], [6.0, 0.0], [6.0, 0.0]]), np.array([0, 0, 1]))
        >>> print(calibrated.predict(np.array([[6.0, 0.0]]), verbose=0).round(3))
        [[0.667 0.333]]

    Reference:
        Guo et al. 2017, section 4.2.
    """
    check_count("batch_size", batch_size)
    source = logits_model(model)
    logits, labels = LabelledData(x, y).predict(source, batch_size)
    scaling = TemperatureScaling(name=f"{model.name}_temperature").fit(logits, labels)
    return keras.Model(source.input, scaling(source.output), name=f"{model.name}_calibrated")


def _norm(curve: ReliabilityCurve, norm: str) -> float:
    filled = curve.count != 0  # NaN is not 0 and so stays
    gap = np.abs(curve.accuracy - curve.confidence)[filled]
    share = curve.count[filled] / curve.count.sum()
    if norm == "max":
        return float(gap.max())
    return float(share @ gap) if norm == "l1" else float(np.sqrt(share @ np.square(gap)))


def _top_label(y_true: Any, y_pred: Any, from_logits: bool) -> tuple[np.ndarray, np.ndarray, np.dtype]:
    """(N,) confidences, NaN where a prediction is not finite; (N,) hits; the dtype that bins compare in."""
    predictions = prediction_rows("y_pred", y_pred)
    labels = hard_labels("y_true", y_true, predictions.shape)
    rows = predictions.reshape(-1, predictions.shape[-1]).astype("float64")
    probabilities = np.exp(log_softmax(rows)) if from_logits else rows
    finite = np.isfinite(probabilities)
    # Half precision may round a probability a little past 1.
    if not (np.abs(probabilities[finite] - 0.5) <= 0.51).all():
        raise ValueError("`y_pred` must hold probabilities in [0, 1], or logits with from_logits=True.")
    confidence = np.where(finite.all(axis=-1), probabilities.max(axis=-1), np.nan)
    single = np.dtype("float32")
    narrow = predictions.dtype.itemsize < single.itemsize and not from_logits
    return confidence, probabilities.argmax(axis=-1) == labels, predictions.dtype if narrow else single


def _rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return values.astype(dtype).astype("float64")


def _weights(sample_weight: Any, shape: tuple[int, ...]) -> np.ndarray:
    """(N,) float64 weights of predictions whose leading dimensions are `shape`."""
    weight = to_numpy("sample_weight", sample_weight).astype("float64")
    if weight.shape == (*shape, 1):
        weight = weight[..., 0]
    if weight.shape != shape[: weight.ndim]:
        raise ValueError(
            "`sample_weight` must have the leading dimensions of `y_pred`. "
            f"Received: shape {weight.shape} for leading dimensions {shape}."
        )
    if not ((weight >= 0).all() and 0 < weight.sum() < np.inf):
        raise ValueError("`sample_weight` must be finite, not negative and not all zero.")
    return np.broadcast_to(weight.reshape(weight.shape + (1,) * (len(shape) - weight.ndim)), shape).ravel()


def _curve(edges: np.ndarray, bins: np.ndarray, confidence: np.ndarray, correct: np.ndarray, weight: np.ndarray):
    counts = weight > 0
    bins, confidence, correct, weight = bins[counts], confidence[counts], correct[counts], weight[counts]
    size = len(edges) - 1
    if np.isnan(confidence).any():
        unknown = np.full(size, np.nan)
        return ReliabilityCurve(edges, unknown, unknown, unknown)
    count = np.bincount(bins, weight, minlength=size)
    with np.errstate(invalid="ignore"):  # 0/0 of an empty bin is the NaN that it should be
        mean_confidence = np.bincount(bins, weight * confidence, minlength=size) / count
        accuracy = np.bincount(bins, weight * correct, minlength=size) / count
    return ReliabilityCurve(edges, mean_confidence, accuracy, count)
