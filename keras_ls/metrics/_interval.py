"""Confidence intervals of metrics from what they have summed, weights being numbers of examples."""

import math

import numpy as np

from keras_ls._intervals import (
    BinMoments,
    calibration_error_interval,
    normal_quantile,
    skewed_limits,
    squared_error_interval,
    wilson_interval,
    within,
)

_UNKNOWN = (math.nan, math.nan)
_ROUNDING = 1e-5


def interval_of_bins(sums: np.ndarray, level: float, norm: str = "l1") -> tuple[float, float]:
    """An interval of the calibration error of (B, 4) sums, or of its mean over classes of (B, K, 4) sums.

    The columns are weights, weighted confidences and hits, and the weighted squares of hit − confidence.
    """
    weight, confidence, hits, squares_of_gaps = np.moveaxis(np.asarray(sums, "float64"), -1, 0)
    total = weight.sum(axis=0).max(initial=0.0)
    if not (np.isfinite(sums).all() and total > 1):
        return _UNKNOWN
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, share, mean_squares = (
            np.where(weight > 0, each / weight, 0.0) for each in (confidence, hits, squares_of_gaps)
        )
    gap = share - mean
    variance = np.maximum(0.0, mean_squares - gap**2)
    cells = BinMoments(weight, mean, gap, weight, weight * variance, weight)
    if norm == "l2":
        return squared_error_interval(cells, level)
    squares = float((cells.shares() * (variance + gap**2)).sum())  # E Σ_k (hit_k − p_k)²
    classes, error = (gap.shape[1] if gap.ndim == 2 else 1), float(cells.errors().mean())
    # Σ_k ±(hit_k − p_k) is at most 2(1 − p_y), and its square at most four times that sum of squares.
    most = squares if classes == 1 else 4.0 * squares
    deviation = math.sqrt(max(0.0, most - (classes * error) ** 2) / (total - 1.0)) / classes
    return calibration_error_interval(cells, deviation, level)


def interval_of_accuracy(sums: np.ndarray, level: float) -> tuple[float, float]:
    """An interval of the share of hits of (B, 4) sums, whose columns are those of `interval_of_bins`."""
    weight, _, hits, _ = np.asarray(sums, "float64").sum(axis=0)
    if not (np.isfinite(sums).all() and weight > 0):
        return _UNKNOWN
    return wilson_interval(min(1.0, float(hits / weight)), float(weight), normal_quantile(level))


def interval_of_mean(sums: np.ndarray, level: float, largest: float) -> tuple[float, float]:
    """An interval of a mean from the sums of weights and of weighted values from 0 to `largest`, squares and cubes."""
    weight, first, second, third = np.asarray(sums, "float64")
    if not (np.isfinite(sums).all() and weight > 1):
        return _UNKNOWN
    mean = first / weight
    squares = second / weight - mean**2
    if squares <= _ROUNDING * second / weight:
        return _UNKNOWN  # values that hardly differ: what is left is the rounding of float32 sums, or nothing
    cubes = third / weight - 3.0 * mean * second / weight + 2.0 * mean**3
    return within(skewed_limits(mean, squares / weight, cubes / weight**2, weight, level), mean, largest)
