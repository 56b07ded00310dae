"""Reliability diagrams: accuracy against confidence."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ls._checks import shown
from keras_ls.calibration import ReliabilityCurve
from keras_ls.plots._axes import drawn_in

# Bins with a smaller share of the predictions are points without a line.
SMALLEST_SHARE = 3e-3


def reliability_diagram(
    curve_or_curves: ReliabilityCurve | Mapping[str, ReliabilityCurve] | Sequence[ReliabilityCurve], ax: Any = None
) -> Any:
    """Draws accuracy against confidence, one point per bin, with the gaps to the diagonal of perfect calibration.

    A point lies at its bin's mean confidence and accuracy; the vertical line from it to the diagonal is the gap that
    ECE averages. The larger a point, the more predictions it stands for: the strip below the axes shows which share of
    them lies in each bin. Empty bins have no point; they and bins of less than 0.3 % of the predictions break the line.
    Below the diagonal a model is too confident, above it not confident enough.

    Args:
        curve_or_curves: a `ReliabilityCurve`, a dict that maps names for the legend to curves, or a list of
            curves, which the legend numbers from 1.
        ax: the matplotlib `Axes` to draw in, which gives up a strip at the bottom; None for one in a new figure that
            pyplot does not know (`ax.figure.savefig(...)` writes it).

    Returns:
        The `Axes` with the diagram.

    Raises:
        ValueError: If there is no curve, or something else than one, or `ax` is no `Axes`.

    Example:
        >>> import keras_ls
        >>> curve = keras_ls.reliability_curve([0, 1, 1], [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]])
        >>> ax = keras_ls.reliability_diagram(curve)
        >>> print(ax.get_legend().get_texts()[0].get_text())
        ECE 0.433

    Reference:
        Müller, Kornblith and Hinton 2019, Figure 2; Guo et al. 2017, Figure 1.
    """
    curves = _named(curve_or_curves)
    ax = drawn_in(ax, (5.0, 5.6))
    strip = ax.inset_axes((0.0, -0.17, 1.0, 0.14), sharex=ax)
    for place, (name, curve) in enumerate(curves.items()):
        color = f"C{place}"
        _draw_curve(ax, curve, color, _label(name, curve))
        _draw_shares(strip, curve, color, place, len(curves))
    _finish(ax, strip)
    return ax


def _named(curve_or_curves: Any) -> dict[str, ReliabilityCurve]:
    if isinstance(curve_or_curves, (list, tuple)):
        curve_or_curves = dict(enumerate(curve_or_curves, start=1))
    curves = curve_or_curves if isinstance(curve_or_curves, Mapping) else {"": curve_or_curves}
    if not curves or not all(isinstance(curve, ReliabilityCurve) for curve in curves.values()):
        raise ValueError(
            "`curve_or_curves` must be a ReliabilityCurve, or a dict (by name) or list of at least one. "
            f"Received: {shown(curve_or_curves)}."
        )
    return {str(name): curve for name, curve in curves.items()}


def _label(name: str, curve: ReliabilityCurve) -> str:
    return f"{name}: ECE {curve.ece():.3f}" if name else f"ECE {curve.ece():.3f}"


def _draw_curve(ax: Any, curve: ReliabilityCurve, color: str, label: str) -> None:
    ax.scatter(curve.confidence, curve.accuracy, 12 + 120 * _shares(curve), color=color, clip_on=False, zorder=4)
    # One prediction alone is right or wrong: a line to it would draw attention to chance.
    counts = _shares(curve) >= SMALLEST_SHARE
    confidence, accuracy = (np.where(counts, values, np.nan) for values in (curve.confidence, curve.accuracy))
    ax.vlines(confidence, confidence, accuracy, color=color, linewidth=2, alpha=0.35, zorder=2)
    ax.fill_between(confidence, confidence, accuracy, color=color, alpha=0.12, linewidth=0, zorder=2)
    ax.plot(confidence, accuracy, color=color, linewidth=1.6, label=label, zorder=3)


def _draw_shares(strip: Any, curve: ReliabilityCurve, color: str, place: int, places: int) -> None:
    width = np.diff(curve.bin_edges) * 0.9 / places
    centre = (curve.bin_edges[1:] + curve.bin_edges[:-1]) / 2 + (place - (places - 1) / 2) * width
    strip.bar(centre, _shares(curve), width, color=color, linewidth=0)


def _shares(curve: ReliabilityCurve) -> np.ndarray:
    return curve.count / curve.count.sum()


def _finish(ax: Any, strip: Any) -> None:
    ax.plot([0, 1], [0, 1], color="0.4", linewidth=1, linestyle="--", zorder=1)
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", anchor="N", ylabel="Accuracy")
    ax.tick_params(labelbottom=False)
    ax.grid(color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.legend(loc="best", framealpha=0.9)
    strip.set(xlabel="Confidence", ylabel="Share", ylim=(0, None))
    strip.locator_params(axis="y", nbins=2)
