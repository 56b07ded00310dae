"""Scores of decoded text and calibration against temperature (or beam width), one panel per quantity."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from keras_ls._arrays import to_numpy
from keras_ls._checks import check_string, shown
from keras_ls.plots._axes import add_grid, legend_beside, legend_name, muted, new_figure

LABELS = {"wer": "WER", "cer": "CER", "bleu": "BLEU", "chrf": "chrF", "ece": "ECE", "nll": "NLL (nats)"}
LOWEST_IS_BEST = ("wer", "cer", "ece", "nll")
HIGHEST_IS_BEST = ("bleu", "chrf", "accuracy", "token_accuracy")
LOGARITHMIC = ("beam_width",)  # usually doubled from one value to the next
# Hollow, so that it hides no point.
STAR: dict[str, Any] = {"marker": "*", "markersize": 15, "markerfacecolor": "none", "linestyle": ""}
LEGEND_INCHES = 1.5


def beam_temperature_curves(
    curves: Mapping[str, Mapping[str, Any]],
    figure: Any = None,
    against: str = "temperature",
    percent: Collection[str] = (),
) -> Any:
    """Draws a score of beam search, ECE and NLL against temperature: one panel per quantity, one line per model.

    A star marks the best value of each line if the better direction of the quantity is known: the lowest "wer", "cer",
    "ece" and "nll", the highest "bleu", "chrf", "accuracy" and "token_accuracy". The legend is to the right of the last
    panel.

    Args:
        curves: maps a model's name, for the legend, to a dict of arrays: "temperature" (P,), finite, in any order, and
            each quantity by its name, (P,) or, for several runs, (R, P). Lines are means over the runs; bands span the
            smallest to the largest value. Every model must have the same quantities, but may have its own
            temperatures. Quantities are drawn in the units given; a NaN leaves a gap in the line.
        figure: the matplotlib `Figure` or `SubFigure` to draw in, best with `layout="constrained"`; None creates one
            that is not registered with pyplot.
        against: the name of the array that all others are drawn against, such as "beam_width", whose axis is
            logarithmic.
        percent: names of quantities that are given as fractions and drawn in %, such as `("wer", "cer")`.

    Returns:
        The figure, with panels side by side in the order of the first model's quantities.

    Raises:
        ValueError: If there is no model or no quantity, models differ in quantities, shapes do not fit, `percent` names
            something that is not a quantity, or a beam width on the x-axis is not above 0.

    Example:
        >>> from keras_ls.plots import beam_temperature_curves
        >>> figure = beam_temperature_curves({
        ...     "hard": {"temperature": [1.0, 2.0], "wer": [0.12, 0.1], "ece": [0.08, 0.02], "nll": [0.5, 0.4]},
        ...     "α = 0.1": {"temperature": [1.0, 2.0], "wer": [0.09, 0.1], "ece": [0.02, 0.2], "nll": [0.5, 0.7]}},
        ...     percent=["wer"])
        >>> print([ax.get_ylabel() for ax in figure.axes])
        ['WER (%)', 'ECE', 'NLL (nats)']

    Reference:
        Müller, Kornblith and Hinton 2019, Figure 4.
    """
    models = _checked(curves, check_string("against", against))
    quantities = [quantity for quantity in next(iter(models.values())) if quantity != against]
    try:
        in_percent = None if isinstance(percent, (str, bytes)) else set(percent)
    except TypeError:  # not a collection, or one whose entries cannot be names
        in_percent = None
    if in_percent is None or not in_percent <= set(quantities):
        raise ValueError(f"`percent` must hold names among {shown(quantities)}. Received: percent={shown(percent)}.")
    if figure is None:
        figure = new_figure((0.4 + 3.2 * len(quantities) + LEGEND_INCHES, 3.4))
    elif not hasattr(figure, "subplots") or not hasattr(figure, "axes"):
        raise ValueError(f"`figure` must be a matplotlib Figure or None. Received: figure={shown(figure)}.")
    panels = figure.subplots(1, len(quantities), squeeze=False)[0]
    for ax, quantity in zip(panels, quantities, strict=True):
        factor = 100 if quantity in in_percent else 1
        for place, (name, arrays) in enumerate(models.items()):
            _draw(ax, quantity, arrays[against][0], factor * arrays[quantity], f"C{place}", name)
        _finish(ax, against, _label(quantity) + " (%)" * (quantity in in_percent), models)
    _add_legend(panels)
    return figure


def _draw(ax: Any, quantity: str, x: np.ndarray, runs: np.ndarray, color: str, name: str) -> None:
    mean = runs.mean(axis=0)
    if len(runs) > 1:
        ax.fill_between(x, runs.min(axis=0), runs.max(axis=0), color=color, alpha=0.12, linewidth=0, zorder=2)
    ax.plot(x, mean, color=color, marker="o", markersize=3.5, linewidth=1.6, label=legend_name(name), zorder=3)
    is_known = np.isfinite(mean)
    if is_known.any() and quantity in LOWEST_IS_BEST + HIGHEST_IS_BEST:
        best = np.nanargmin(np.where(is_known, mean, np.nan) * (1 if quantity in LOWEST_IS_BEST else -1))
        ax.plot(x[best], mean[best], color=color, **STAR, zorder=4)


def _finish(ax: Any, against: str, label: str, models: dict[str, dict[str, np.ndarray]]) -> None:
    if against in LOGARITHMIC:
        ax.set_xscale("log", base=2)
        ticks = np.unique(np.concatenate([arrays[against][0] for arrays in models.values()]))
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
    ax.set(xlabel=_label(against), ylabel=label)
    add_grid(ax, 0.08)


def _label(name: str) -> str:
    return LABELS.get(name, name.replace("_", " ").capitalize())


def _add_legend(panels: Any) -> None:
    """Adds the legend of all panels: the models, and stars and bands if any are drawn."""
    last = panels[-1]
    color = muted(last, 0.6)
    lines = [line for ax in panels for line in ax.get_lines()]
    if any(line.get_marker() == STAR["marker"] for line in lines):
        last.plot([], [], color=color, **STAR, label="best value")
    if any(ax.collections for ax in panels):
        last.fill_between([], [], color=color, alpha=0.2, linewidth=0, label="range of the runs")
    legend_beside(last)


def _checked(curves: Any, against: str) -> dict[str, dict[str, np.ndarray]]:
    """Every model's quantities (R, P), float64, in rising order of `against` (1, P)."""
    if not isinstance(curves, Mapping) or not curves or not all(isinstance(c, Mapping) for c in curves.values()):
        raise ValueError(f"`curves` must map at least one model's name to a dict of arrays. Received: {shown(curves)}.")
    models = {str(name): _checked_arrays(name, arrays, against) for name, arrays in curves.items()}
    first = next(iter(models.values()))
    for name, arrays in models.items():
        if set(arrays) != set(first):
            raise ValueError(
                "`curves` must have the same quantities for every model. "
                f"Received: {shown(sorted(arrays))} for {shown(name)}, {shown(sorted(first))} for the first."
            )
    return models


def _checked_arrays(name: str, arrays: Mapping[str, Any], against: str) -> dict[str, np.ndarray]:
    if against not in arrays or len(arrays) < 2:
        raise ValueError(
            f"`curves` must hold {shown(against)} and at least one quantity for each model. "
            f"Received: {shown(list(arrays))} for {shown(name)}."
        )
    rows = {
        str(quantity): to_numpy(f"curves[{shown(name)}][{shown(quantity)}]", values).astype("float64")
        for quantity, values in arrays.items()
    }
    x = rows[against]
    if x.ndim != 1 or x.size == 0 or not np.isfinite(x).all():
        raise ValueError(
            f"`curves[{shown(name)}][{shown(against)}]` must be finite and of shape (P,), P at least 1. "
            f"Received: {shown(x)}."
        )
    if against in LOGARITHMIC and x.min() <= 0:
        raise ValueError(f"`curves[{shown(name)}][{shown(against)}]` must be above 0. Received: {shown(x)}.")
    for quantity, values in rows.items():
        if values.ndim not in (1, 2) or values.shape[-1] != len(x) or values.size == 0:
            raise ValueError(
                f"`curves[{shown(name)}][{shown(quantity)}]` must have one value per {against}: ({len(x)},) or "
                f"(R, {len(x)}). Received: shape {values.shape}."
            )
    order = np.argsort(x, kind="stable")
    return {quantity: np.atleast_2d(values)[:, order] for quantity, values in rows.items()}
