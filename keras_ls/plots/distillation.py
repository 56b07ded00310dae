"""Accuracy of teachers and students against the label smoothing that their targets are equivalent to."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_ls.plots._axes import add_grid, drawn_in, legend_beside, legend_inside, legend_name
from keras_ls.plots._lines import checked_lines

MARKERS = "osD^vP*X"


def distillation_curves(curves: Mapping[str, tuple[Any, Any]], ax: Any = None) -> Any:
    """Draws accuracy against γ, the (equivalent) label smoothing of the targets, one line per training method.

    A network trained on smoothed labels is drawn at γ = α, and one trained on a teacher's targets at the γ that
    `equivalent_smoothing` gives for them, so that students of different teachers can be compared with each other and
    with a student trained alone.

    Args:
        curves: maps names for the legend to (gamma, accuracy): γ (P,), finite, in any order, and accuracy (P,) or, for
            several runs, (R, P), as fractions. Markers are means over the runs; bars and band span the smallest to
            the largest value.
        ax: the matplotlib `Axes` to draw in; None creates one in a new figure that is not registered
            with pyplot (`ax.figure.savefig(...)` writes it), with the legend beside the axes.

    Returns:
        The `Axes` with the curves; accuracy is in %.

    Raises:
        ValueError: If there is no curve, shapes do not fit, or a γ is not finite.

    Example:
        >>> import keras_ls
        >>> from keras_ls.plots import distillation_curves
        >>> curves = {"student alone": ([0, 0.3], [0.74, 0.75]), "student of a teacher": ([0.1], [[0.77], [0.75]])}
        >>> ax = distillation_curves(curves)
        >>> print([text.get_text() for text in ax.get_legend().get_texts()])
        ['student alone', 'student of a teacher']

    Reference:
        Müller, Kornblith and Hinton 2019, Figure 5.
    """
    lines = checked_lines(curves, "gamma", "accuracy")
    add_legend = legend_beside if ax is None else legend_inside
    ax = drawn_in(ax, (8.6, 4.6))
    for place, (name, (gamma, accuracy)) in enumerate(lines.items()):
        _draw(ax, gamma, 100 * accuracy, f"C{place}", MARKERS[place % len(MARKERS)], name)
    ax.set(xlabel="γ, (equivalent) label smoothing of the targets", ylabel="Accuracy (%)")
    add_grid(ax, 0.08)
    add_legend(ax)
    return ax


def _draw(ax: Any, gamma: np.ndarray, accuracy: np.ndarray, color: str, marker: str, name: str) -> None:
    from matplotlib.colors import to_rgba

    mean, low, high = accuracy.mean(axis=0), accuracy.min(axis=0), accuracy.max(axis=0)
    if len(accuracy) > 1:
        ax.fill_between(gamma, low, high, color=color, alpha=0.12, linewidth=0, zorder=2)
        reach = np.maximum(0.0, (mean - low, high - mean))  # of equal numbers the mean may be off by rounding
        ax.errorbar(gamma, mean, reach, color=color, linestyle="", linewidth=1, capsize=2, zorder=2)
    # Translucent markers: points of different curves often overlap.
    markers = {"marker": marker, "markersize": 6, "markerfacecolor": to_rgba(color, 0.3), "markeredgecolor": color}
    ax.plot(gamma, mean, color=color, linewidth=1.4, label=legend_name(name), zorder=3, **markers)
