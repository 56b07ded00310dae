"""Risk-coverage curves: the error rate of the predictions that are accepted."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ls.calibration.selective import RiskCoverageCurve
from keras_ls.plots._axes import add_grid, drawn_in, legend_below, legend_inside, named_curves

_POINTS = 2_000  # of a line, beyond what can be seen


def risk_coverage(
    curve_or_curves: RiskCoverageCurve | Mapping[str, RiskCoverageCurve] | Sequence[RiskCoverageCurve],
    ax: Any = None,
) -> Any:
    """Draws the error rate of the most confident predictions against the share of predictions that is accepted.

    The line ends at the error rate of all predictions. The lower it is before, the better the model knows its own
    errors; dotted, the line of a perfect ranking with as many errors.

    Args:
        curve_or_curves: a `RiskCoverageCurve`, a dict that maps names for the legend to curves, or a list of curves,
            which the legend numbers from 1.
        ax: the matplotlib `Axes` to draw in; None creates one in a new figure that is not registered
            with pyplot (`ax.figure.savefig(...)` writes it), with the legend below the axes.

    Returns:
        The `Axes` with the curves.

    Raises:
        ValueError: If there is no curve, something is not a curve, or `ax` is not an `Axes`.

    Example:
        >>> import keras_ls
        >>> curve = keras_ls.risk_coverage_curve([0, 1, 1], [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]])
        >>> ax = keras_ls.risk_coverage(curve)
        >>> print(ax.get_legend().get_texts()[0].get_text())
        AURC 0.278, 0.167 above perfect

    Reference:
        Geifman and El-Yaniv 2017; Xia et al. 2025, Figure 1.
    """
    curves = named_curves(curve_or_curves, RiskCoverageCurve)
    add_legend = legend_below if ax is None else legend_inside
    ax = drawn_in(ax, (6.4, 4.8))
    for place, (name, curve) in enumerate(curves.items()):
        label = f"AURC {curve.aurc():.3f}, {curve.excess_aurc():.3f} above perfect"
        shown_points = np.unique(np.linspace(0, len(curve.risk) - 1, _POINTS).astype(int))
        coverage, risk = 100.0 * curve.coverage[shown_points], 100.0 * curve.risk[shown_points]
        perfect = 100.0 * np.maximum(0.0, 1.0 - (1.0 - curve.risk[-1]) / curve.coverage[shown_points])
        how = {"color": f"C{place}", "marker": "o" if len(risk) == 1 else None}
        ax.plot(coverage, risk, linewidth=1.8, label=f"{name}: {label}" if name else label, **how)
        ax.plot(coverage, perfect, color=f"C{place}", linewidth=1.0, linestyle=":")
    ax.set(xlabel="Accepted predictions in %", ylabel="Errors among them in %", xlim=(0, 100), ylim=(0, None))
    add_grid(ax)
    add_legend(ax)
    return ax
