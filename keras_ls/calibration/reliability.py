"""Accuracy against confidence, bin by bin, and how far the one is from the other."""

import dataclasses
from typing import Any

import numpy as np

from keras_ls._checks import check_choice, check_count, check_flag, check_ignore_class
from keras_ls._rows import LabelledRows, TopLabel, labelled_rows

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

    def __repr__(self) -> str:
        """One line, not all bins."""
        return f"ReliabilityCurve({self.count.sum():g} predictions in {len(self.count)} bins, ECE {self.ece():.4f})"


def reliability_curve(
    y_true: Any,
    y_pred: Any,
    num_bins: int = 15,
    from_logits: bool = False,
    sample_weight: Any = None,
    ignore_class: int | None = None,
) -> ReliabilityCurve:
    """Accuracy and mean confidence of top-label predictions in equal-width bins of confidence.

    The confidence of a prediction is its largest probability; it is correct if that class (the first of several) is
    the label. Bins are right-closed, (b/B, (b + 1)/B], and 0 falls in the first. A confidence that is b/B as its dtype,
    or float32 if that is narrower, rounds it counts as b/B. Sums are in float64.

    Args:
        y_true: class ids (...,) or (..., 1), integers or floats that hold integers, or one row per prediction (..., K)
            whose largest entry is the class. NumPy array, list, or tensor.
        y_pred: probabilities, or logits with `from_logits`, (..., K), of any float dtype. All but the last dimension
            are flattened. NaN or infinite predictions make the whole curve NaN. A binary classifier with one sigmoid
            unit gives the probability (or logit) of class 1, (..., 1), or (N,) with labels (N,): its curve is that of
            the two columns 1 − p and p, and the labels are 0 and 1.
        num_bins: number of bins B, at least 1.
        from_logits: whether `y_pred` holds logits; −inf is the logit of a class that cannot occur.
        sample_weight: None, or weights ≥ 0, shaped as the class ids or as their leading dimensions. A weight of 2 is
            the prediction twice; predictions of weight 0 do not count at all.
        ignore_class: a label, in [0, K) or not, whose positions do not count, or None.

    Returns:
        A `ReliabilityCurve`.

    Raises:
        ValueError: If shapes do not match, labels are outside [0, K), label rows mark several classes (multi-label
            targets), no prediction counts, probabilities are outside [0, 1], or `num_bins` is below 1.

    Example:
        >>> import keras_ls
        >>> curve = keras_ls.reliability_curve([0, 1, 1], [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]], num_bins=2)
        >>> print(curve.confidence.round(3), curve.accuracy.round(3), curve.count)
        [  nan 0.767] [  nan 0.667] [0. 3.]
        >>> print(round(curve.ece(), 3))
        0.1
        >>> binary = keras_ls.reliability_curve([0, 1, 1], [0.1, 0.2, 0.6], num_bins=2)
        >>> print(round(binary.ece(), 3))
        0.1

    Reference:
        Müller, Kornblith and Hinton 2019, section 3 and Figure 2; Guo et al. 2017.
    """
    num_bins = check_count("num_bins", num_bins)
    return curve_of(_checked_rows(y_true, y_pred, from_logits, sample_weight, ignore_class), num_bins)


def calibration_error(
    y_true: Any,
    y_pred: Any,
    num_bins: int = 15,
    norm: str = "l1",
    binning: str = "uniform",
    from_logits: bool = False,
    sample_weight: Any = None,
    ignore_class: int | None = None,
    debiased: bool = False,
) -> float:
    """Distance of top-label accuracy from confidence over bins of confidence.

    With gap_b = |accuracy_b − confidence_b| and shares n_b/N: "l1" is Σ_b (n_b/N)·gap_b (ECE), "l2" is
    √(Σ_b (n_b/N)·gap_b²), "max" is max_b gap_b (MCE).

    Few predictions per bin make all of these too large, even for a calibrated model. `debiased` takes that off the
    "l2" error: with v_b the sample variance of hit − confidence in bin b, and the bins of fewer than 2 predictions
    left out, it is sign(s)·√|s| for s = Σ_b (n_b/N)·(gap_b² − v_b/n_b), negative where chance alone explains the gaps.

    Args:
        y_true: as for `reliability_curve`.
        y_pred: as for `reliability_curve`.
        num_bins: number of bins, at least 1.
        norm: "l1", "l2" or "max".
        binning: "uniform", the bins of `reliability_curve`, or "quantile": bins that end at the quantiles of the
            confidences, so that each holds as many (the adaptive calibration error). Equal confidences stay together.
        from_logits: whether `y_pred` holds logits.
        sample_weight: as for `reliability_curve`. Quantiles are those of the repeated rows if all weights are whole
            numbers or multiples of the smallest, else those of the weighted distribution. If `debiased`, weights that
            are not all whole numbers count as so many predictions as are as informative, whatever they sum to.
        ignore_class: as for `reliability_curve`.
        debiased: whether to take off the bias of few predictions per bin; "l2" only.

    Returns:
        A float in [0, 1], or in [−1, 1] if `debiased`, 0 then if all bins are left out; NaN if a prediction is NaN or
        infinite.

    Raises:
        ValueError: As `reliability_curve`, for an unknown `norm` or `binning`, and for `debiased` with another norm
            than "l2".

    Example:
        >>> import keras_ls
        >>> y_true, y_pred = [0, 1, 1], [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]]
        >>> print(round(keras_ls.calibration_error(y_true, y_pred, num_bins=3, binning="quantile"), 3))
        0.433

    netcal's bins are left-closed, so that a confidence on an edge counts in the bin above; torchmetrics has a bin more,
    for a confidence of exactly 1. Elsewhere the three agree.

    Reference:
        Guo et al. 2017 (uniform bins); Nguyen and O'Connor 2015, section 4 (equal-mass bins); Kumar, Liang and Ma 2019,
        section 4.2 (debiased).
    """
    check_choice("norm", norm, _NORMS)
    check_choice("binning", binning, ("uniform", "quantile"))
    num_bins = check_count("num_bins", num_bins)
    if check_flag("debiased", debiased) and norm != "l2":
        raise ValueError(f"`debiased=True` needs norm='l2'. Received: norm={norm!r}.")
    rows = _checked_rows(y_true, y_pred, from_logits, sample_weight, ignore_class)
    top = rows.top_label()
    edges, bins = (uniform_bins if binning == "uniform" else quantile_bins)(top, num_bins)
    return _debiased_error(top, bins, num_bins) if debiased else _norm(curve_of_bins(edges, bins, top), norm)


def curve_of(rows: LabelledRows, num_bins: int, temperature: float | None = None) -> ReliabilityCurve:
    """The `ReliabilityCurve` of rows, or of softmax(z / temperature)."""
    return curve_of_top(rows.top_label(temperature), num_bins)


def curve_of_top(top: TopLabel, num_bins: int) -> ReliabilityCurve:
    """The `ReliabilityCurve` of confidences and hits, in bins of equal width."""
    return curve_of_bins(*uniform_bins(top, num_bins), top)


def _checked_rows(
    y_true: Any, y_pred: Any, from_logits: bool, sample_weight: Any, ignore_class: int | None
) -> LabelledRows:
    check_flag("from_logits", from_logits)
    ignored = check_ignore_class(ignore_class)
    return labelled_rows(y_true, y_pred, sample_weight, ignored, from_logits).check_any()


def _norm(curve: ReliabilityCurve, norm: str) -> float:
    filled = curve.count != 0  # NaN is not 0 and so stays
    gap = np.abs(curve.accuracy - curve.confidence)[filled]
    share = curve.count[filled] / curve.count.sum()
    if norm == "max":
        return float(gap.max())
    return float(share @ gap) if norm == "l1" else float(np.sqrt(share @ np.square(gap)))


def _debiased_error(top: TopLabel, bins: np.ndarray, num_bins: int) -> float:
    difference, weight = top.correct - top.confidence, top.weight
    if np.isnan(difference).any():
        return np.nan
    if (weight != np.floor(weight)).any():  # no numbers of predictions: as many as would be as informative (Kish)
        weight = weight * (weight.sum() / np.square(weight).sum())
    count = np.bincount(bins, weight, minlength=num_bins)
    enough = count >= 2 - 1e-9  # of what rounding has left
    with np.errstate(divide="ignore", invalid="ignore"):  # of bins that are left out
        gap = np.bincount(bins, weight * difference, minlength=num_bins) / count
        variance = np.bincount(bins, weight * np.square(difference - gap[bins]), minlength=num_bins) / (count - 1)
        terms = count / weight.sum() * (np.square(gap) - variance / count)
    total = float(terms[enough].sum())
    return float(np.sign(total) * np.sqrt(abs(total)))


def uniform_bins(top: TopLabel, num_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """The (B + 1,) edges of equal-width bins, and the bin of each confidence (M,)."""
    edges = np.arange(num_bins + 1) / num_bins
    # Both sides are rounded alike, so that the float32 of b/B is not above the float64 of b/B.
    bins = np.searchsorted(_rounded(edges[1:-1], top.dtype), _rounded(top.confidence, top.dtype), side="left")
    return edges, bins


def quantile_bins(top: TopLabel, num_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """The same of bins that hold as many predictions each."""
    edges = _weighted_quantiles(top.confidence, top.weight, np.arange(num_bins + 1) / num_bins)
    return edges, np.searchsorted(edges[1:-1], top.confidence, side="left")


def _weighted_quantiles(values: np.ndarray, weight: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Quantiles of `values` (M,): of whole weights, `np.quantile` of repeated values, else those of inverted_cdf."""
    order = np.argsort(values)
    if (weight != np.floor(weight)).any():  # multiples of the smallest weight count as whole numbers
        with np.errstate(over="ignore"):
            multiples = weight / weight.min()
        whole = np.round(multiples)
        weight = whole if np.isfinite(whole).all() and np.allclose(multiples, whole, rtol=1e-6, atol=0) else weight
    values, ends = values[order], np.cumsum(weight[order])
    if (weight == np.floor(weight)).all() and ends[-1] < 2**53:
        # NumPy's own linear interpolation, between the places that repeating would give the values.
        positions = shares * (ends[-1] - 1)
        low = np.floor(positions)
        lower, upper = (values[np.searchsorted(ends, at.clip(max=ends[-1] - 1), side="right")] for at in (low, low + 1))
        return np.where(positions > low, lower + (upper - lower) * (positions - low), lower)
    return values[np.searchsorted(ends / ends[-1], shares, side="left")]


def _rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return values.astype(dtype).astype("float64")


def curve_of_bins(edges: np.ndarray, bins: np.ndarray, top: TopLabel) -> ReliabilityCurve:
    """The `ReliabilityCurve` of predictions whose bins (M,) are known."""
    size = len(edges) - 1
    if np.isnan(top.confidence).any():
        unknown = np.full(size, np.nan)
        return ReliabilityCurve(edges, unknown, unknown, unknown)
    count = np.bincount(bins, top.weight, minlength=size)
    with np.errstate(invalid="ignore"):  # 0/0 of an empty bin is the NaN that it should be
        mean_confidence = np.bincount(bins, top.weight * top.confidence, minlength=size) / count
        accuracy = np.bincount(bins, top.weight * top.correct, minlength=size) / count
    return ReliabilityCurve(edges, mean_confidence, accuracy, count)
