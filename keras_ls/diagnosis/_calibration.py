"""Calibration errors with intervals, top-label and class by class."""

from collections.abc import Iterator

import numpy as np

from keras_ls._intervals import (
    BinMoments,
    calibration_error_interval,
    effective_number,
    folding_bias,
    normal_quantile,
    ratio_residuals,
    student_quantile,
)
from keras_ls._rows import LabelledRows, TopLabel
from keras_ls.calibration.reliability import quantile_bins, uniform_bins
from keras_ls.diagnosis._cells import cell_moments, moments_of_sums
from keras_ls.diagnosis._positions import Positions


def top_label_error(
    positions: Positions, top: TopLabel, num_bins: int, level: float, equal_mass: bool = False
) -> tuple[float, float, float]:
    """ECE with its interval, in bins of equal width or of equal mass."""
    _, bins = (quantile_bins if equal_mass else uniform_bins)(top, num_bins)
    difference = top.correct - top.confidence
    sums = cell_moments(bins, num_bins, top.weight, top.confidence, difference, positions.example)
    cells = moments_of_sums(sums)
    sign = np.sign(cells.gap)
    _, residuals = ratio_residuals(positions.example_sums(sign[bins] * difference), positions.example_weights())
    dependence: tuple[float, ...] = ()
    if positions.example is not None:
        dependence = _dependence(positions, 2.0 * cells.gap[bins] * (difference - cells.gap[bins]))
    return float(cells.errors()), *calibration_error_interval(cells, _error(residuals), level, *dependence)


def class_errors(
    rows: LabelledRows, positions: Positions, num_bins: int, level: float, with_limits: bool = True
) -> tuple[tuple[float, float, float], np.ndarray, np.ndarray | None]:
    """Class-wise ECE with its interval, and of each class its error (K,) and the lower limit of that.

    The limits of the classes hold together, each at the level 1 − (1 − level)/K. With limits predictions are read
    twice; without, the interval is NaN and there are no limits of classes.
    """
    classes = rows.num_classes
    sums = np.zeros((7, num_bins * classes))
    for part, cell, difference, confidence in _class_blocks(rows, positions, num_bins):
        weight = np.repeat(positions.weight[part], classes)
        example = None if positions.example is None else np.repeat(positions.example[part], classes)
        sums += cell_moments(cell, num_bins * classes, weight, confidence, difference, example)
    cells = moments_of_sums(sums.reshape(7, num_bins, classes))
    errors = cells.errors()
    if not with_limits:
        return (float(errors.mean()), np.nan, np.nan), errors, None
    gap, (signed, moved) = cells.gap.reshape(-1), np.empty((2, len(positions.weight)))
    squares = np.zeros(classes)
    for part, cell, difference, _ in _class_blocks(rows, positions, num_bins):
        own = (np.sign(gap)[cell] * difference).reshape(-1, classes)
        signed[part] = own.mean(axis=-1)
        if positions.example is not None:
            moved[part] = (2.0 * gap[cell] * (difference - gap[cell])).reshape(-1, classes).mean(axis=-1)
            squares += _squares_of_examples(own - errors, positions.weight[part], positions.example[part])
    mean, residuals = ratio_residuals(positions.example_sums(signed), positions.example_weights())
    dependence: tuple[float, ...] = () if positions.example is None else _dependence(positions, moved)
    interval = calibration_error_interval(cells, _error(residuals), level, *dependence)
    return (mean, *interval), errors, _lower_limits(cells, positions, squares, 1.0 - (1.0 - level) / classes)


def _class_blocks(rows: LabelledRows, positions: Positions, num_bins: int):
    """Blocks of whole examples: their slice, and of each class's probability, flat, cell, hit − p and p."""
    for start, probabilities, ids in _whole_examples(rows, positions):
        classes = probabilities.shape[-1]
        flat = probabilities.reshape(-1)
        nothing = np.empty(0)
        _, bins = uniform_bins(TopLabel(flat, nothing, nothing, positions.top.dtype), num_bins)
        cell = bins * classes + np.tile(np.arange(classes), len(ids))
        difference = -flat
        difference[np.arange(len(ids)) * classes + ids] += 1.0
        yield slice(start, start + len(ids)), cell, difference, flat


def _whole_examples(rows: LabelledRows, positions: Positions) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Blocks that end where an example does: their first row, probabilities and labels."""
    start, held = 0, []
    for probabilities, ids, _ in rows.probabilities():
        if positions.example is None:
            yield start, probabilities, ids
            start += len(ids)
            continue
        held.append((probabilities, ids))
        size = sum(len(part) for _, part in held)
        example = positions.example[start : start + size]
        whole = size if start + size == len(positions.example) else int(np.searchsorted(example, example[-1]))
        if whole:
            probabilities, ids = (np.concatenate(parts) for parts in zip(*held, strict=True))
            yield start, probabilities[:whole], ids[:whole]
            start, held = start + whole, [(probabilities[whole:], ids[whole:])]


def _squares_of_examples(residuals: np.ndarray, weight: np.ndarray, example: np.ndarray) -> np.ndarray:
    """(K,) sums of the squares of what whole examples contribute, of (n, K) residuals of their positions."""
    first = np.flatnonzero(np.diff(example, prepend=-1))
    return np.square(np.add.reduceat(weight[:, None] * residuals, first)).sum(axis=0)


def _lower_limits(cells: BinMoments, positions: Positions, squares: np.ndarray, level: float) -> np.ndarray:
    """(K,) lower limits of the classes' errors; `squares` are those of examples with several positions."""
    share, deviation = cells.shares(), np.sqrt(cells.variances())
    error, quantile = np.sqrt((share**2 * deviation**2).sum(axis=0)), normal_quantile(level)
    if positions.example is not None:  # what is right or wrong together moves all bins together
        count = effective_number(positions.example_weights())
        error = np.maximum(error, np.sqrt(squares * count / max(1.0, count - 1.0)) / positions.weight.sum())
        quantile = student_quantile(level, count - 1.0)
    bias = (share * folding_bias(cells.gap, deviation)).sum(axis=0)
    # Of a single example the quantile is infinite, and an error of 0 must stay one.
    return np.maximum(0.0, cells.errors() - bias - np.minimum(quantile, 1e9) * error)


def _dependence(positions: Positions, moved: np.ndarray) -> tuple[float, float]:
    """Of examples with several positions, the variance of S's linear part, (M,) `moved`, and degrees of freedom."""
    degrees = effective_number(positions.example_weights()) - 1.0
    return _error(positions.example_sums(moved) / positions.weight.sum()) ** 2, degrees


def _error(residuals: np.ndarray) -> float:
    count = len(residuals)
    return float(np.sqrt(np.square(residuals).sum() * count / max(1, count - 1)))
