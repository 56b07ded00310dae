"""Reliability diagrams: accuracy against confidence."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ls._checks import check_flag
from keras_ls.calibration.reliability import ReliabilityCurve
from keras_ls.plots._axes import CARD_INCHES, add_grid, drawn_in, legend_below, legend_inside, muted, named_curves

# Bins with a smaller share of the predictions are pale points without a line.
SMALLEST_SHARE = 5e-3
PALE = 0.4
EDGE = {"edgecolors": "white", "linewidths": 0.5}  # keeps apart points that overlap
LEVEL = 0.95  # of the consistency band


def reliability_diagram(
    curve_or_curves: ReliabilityCurve | Mapping[str, ReliabilityCurve] | Sequence[ReliabilityCurve],
    ax: Any = None,
    band: bool = False,
) -> Any:
    """Draws accuracy against confidence, one point per bin, with the gaps to the diagonal of perfect calibration.

    A point lies at its bin's mean confidence and accuracy; the vertical line from it to the diagonal is the gap that
    ECE averages. Larger points stand for more predictions, and the strip below the axes shows the share of predictions
    in each bin. Empty bins have no point; the line has a gap there and at bins with less than 0.5 % of the predictions,
    whose points are pale. A model is overconfident below the diagonal, and underconfident above it.

    With `band`, a shaded box for each bin that is not pale shows the range in which its accuracy would lie with a
    probability of 95 % by chance alone, if each prediction were right independently of the others with the bin's mean
    confidence as its probability. The range spans the 2.5 % to the 97.5 % quantile of the binomial distribution; chance
    hardly explains a point outside it. Predictions that depend on each other (those of several networks on the same
    examples, or of the steps of a sequence) scatter more. A weight counts as that many predictions, and the sum of a
    bin is rounded to a whole number.

    Args:
        curve_or_curves: a `ReliabilityCurve`, a dict that maps names for the legend to curves, or a list of
            curves, which the legend numbers from 1.
        ax: the matplotlib `Axes` to draw in, with the strip at its bottom; None creates one in a new figure that is not
            registered with pyplot (`ax.figure.savefig(...)` writes it), with the legend below the axes.
        band: whether to draw the range that chance alone would give.

    Returns:
        The `Axes` with the diagram.

    Raises:
        ValueError: If there is no curve, something is not a curve, `ax` is not an `Axes`, or `band` is not a boolean.

    Example:
        >>> import keras_ls
        >>> curve = keras_ls.reliability_curve([0, 1, 1], [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]])
        >>> ax = keras_ls.reliability_diagram(curve)
        >>> print(ax.get_legend().get_texts()[0].get_text())
        ECE 0.433

    Reference:
        Müller, Kornblith and Hinton 2019, Figure 2; Guo et al. 2017, Figure 1. The band: Bröcker and Smith 2007,
        "Increasing the reliability of reliability diagrams", whose consistency bars come from resampling; here they
        come from a binomial distribution per bin.
    """
    curves = named_curves(curve_or_curves, ReliabilityCurve)
    check_flag("band", band)
    is_given = ax is not None
    ax = drawn_in(ax, (CARD_INCHES, CARD_INCHES + 0.8 + 0.22 * (len(curves) + band)))
    strip = ax.inset_axes((0.0, -0.17, 1.0, 0.14), sharex=ax)
    for place, (name, curve) in enumerate(curves.items()):
        color = f"C{place}"
        _draw_curve(ax, curve, color, _label(name, curve))
        _draw_shares(strip, curve, color, place, len(curves))
        if band:
            _draw_band(ax, curve, color if len(curves) > 1 else "0.5")
        else:
            _fill_gaps(ax, curve, color)
    if band:
        label = f"{100 * LEVEL:g} % range by chance, if calibrated"
        ax.fill_between([], [], color="0.5", alpha=0.3, linewidth=0, label=label)
    _finish(ax, strip)
    if is_given:
        legend_inside(ax)
    else:
        legend_below(ax, lowest=strip)
    return ax


def _label(name: str, curve: ReliabilityCurve) -> str:
    return f"{name}: ECE {curve.ece():.3f}" if name else f"ECE {curve.ece():.3f}"


def _draw_curve(ax: Any, curve: ReliabilityCurve, color: str, label: str) -> None:
    # A single prediction is either right or wrong: its point, or a line to it, would show nothing but chance.
    size, alpha = 12 + 120 * _shares(curve), np.where(_counts(curve), 1.0, PALE)
    ax.scatter(curve.confidence, curve.accuracy, size, color=color, alpha=alpha, clip_on=False, zorder=4, **EDGE)
    confidence, accuracy = _points(curve)
    ax.vlines(confidence, confidence, accuracy, color=color, linewidth=2, alpha=0.35, zorder=2)
    ax.plot(confidence, accuracy, color=color, linewidth=1.6, label=label, zorder=3)


def _fill_gaps(ax: Any, curve: ReliabilityCurve, color: str) -> None:
    confidence, accuracy = _points(curve)
    ax.fill_between(confidence, confidence, accuracy, color=color, alpha=0.12, linewidth=0, zorder=2)


def _points(curve: ReliabilityCurve) -> list[np.ndarray]:
    """Confidence and accuracy, NaN in bins that hold almost nothing."""
    return [np.where(_counts(curve), values, np.nan) for values in (curve.confidence, curve.accuracy)]


def _draw_band(ax: Any, curve: ReliabilityCurve, color: str) -> None:
    for place in np.flatnonzero(_counts(curve)):
        low, high = binomial_interval(curve.count[place], curve.confidence[place], LEVEL)
        left, right = curve.bin_edges[place : place + 2]
        ax.fill_between([left, right], low, high, color=color, alpha=0.2, linewidth=0, zorder=1, gid="band")


def binomial_interval(count: float, probability: float, level: float) -> tuple[float, float]:
    """The quantiles of the share of hits among `count` trials, rounded to an integer, that leave out equal tails."""
    trials = max(1, round(count))
    if not 0 < probability < 1:
        return probability, probability
    # Values farther from the mean have a probability below 1e-20.
    mean, width = trials * probability, 10 + 10 * math.sqrt(trials * probability * (1 - probability))
    hits = np.arange(max(0, math.floor(mean - width)), min(trials, math.ceil(mean + width)) + 1)
    steps = np.log((trials - hits[:-1]) / (hits[:-1] + 1) * (probability / (1 - probability)))
    log_mass = np.concatenate([[0.0], np.cumsum(steps)])
    below = np.cumsum(np.exp(log_mass - log_mass.max()))
    low, high = hits[np.searchsorted(below / below[-1], [(1 - level) / 2, (1 + level) / 2])] / trials
    return float(low), float(high)


def _draw_shares(strip: Any, curve: ReliabilityCurve, color: str, place: int, places: int) -> None:
    width = np.diff(curve.bin_edges) * 0.9 / places
    centre = (curve.bin_edges[1:] + curve.bin_edges[:-1]) / 2 + (place - (places - 1) / 2) * width
    strip.bar(centre, _shares(curve), width, color=color, linewidth=0)


def _counts(curve: ReliabilityCurve) -> np.ndarray:
    """Which bins hold more than almost nothing."""
    return np.isfinite(curve.confidence) & (_shares(curve) >= SMALLEST_SHARE)


def _shares(curve: ReliabilityCurve) -> np.ndarray:
    return curve.count / curve.count.sum()


def _finish(ax: Any, strip: Any) -> None:
    ax.plot([0, 1], [0, 1], color=muted(ax, 0.6), linewidth=1, linestyle="--", zorder=1)
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", anchor="N", ylabel="Accuracy")
    ax.tick_params(labelbottom=False)
    add_grid(ax)
    strip.set(xlabel="Confidence", ylabel="Share", ylim=(0, None))
    strip.locator_params(axis="y", nbins=2)
