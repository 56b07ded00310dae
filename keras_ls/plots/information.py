"""Mutual information during training, with its limits."""

import math
from collections.abc import Mapping
from typing import Any

from keras_ls._checks import check_count
from keras_ls.plots._axes import add_grid, drawn_in, legend_below, legend_inside, legend_name, muted
from keras_ls.plots._lines import checked_lines


def information_curves(curves: Mapping[str, tuple[Any, Any]], num_examples: int | None = None, ax: Any = None) -> Any:
    """Draws the estimated mutual information of examples and logits against the training step, one line per network.

    A dashed line marks log 2, the value if the logits tell only which of two classes of equal size an example belongs
    to; another marks log N, the value if they identify every example.

    Args:
        curves: maps names for the legend to (steps, values): steps (S,), finite, in any order, at which it was
            measured, and values (S,) in nats or, for several runs, (R, S): the line is their mean, and the band spans
            all runs.
        num_examples: N, the number of examples of both classes together, at least 2; None draws no line at log N.
        ax: the matplotlib `Axes` to draw in; None creates one in a new figure that is not registered
            with pyplot (`ax.figure.savefig(...)` writes it), with the legend below the axes.

    Returns:
        The `Axes` with the curves.

    Raises:
        ValueError: If there is no curve, shapes do not fit, a step is not finite, or `num_examples` is below 2.

    Example:
        >>> import keras_ls
        >>> curves = {"hard targets": ([0, 100, 200], [0.1, 2.9, 1.6]), "α = 0.1": ([0, 100, 200], [0.1, 1.8, 0.8])}
        >>> ax = keras_ls.information_curves(curves, num_examples=600)
        >>> print([text.get_text() for text in ax.get_legend().get_texts()])
        ['hard targets', 'α = 0.1']

    Reference:
        Müller, Kornblith and Hinton 2019, Figure 6.
    """
    lines = {legend_name(name): line for name, line in checked_lines(curves, "steps", "values").items()}
    limits = {"log 2": math.log(2)}
    if num_examples is not None:
        limits[f"log {num_examples}"] = math.log(check_count("num_examples", num_examples, minimum=2))
    add_legend = legend_below if ax is None else legend_inside
    ax = drawn_in(ax, (6.4, 4.8))
    for place, (name, (steps, values)) in enumerate(lines.items()):
        if len(values) > 1:
            ax.fill_between(
                steps, values.min(axis=0), values.max(axis=0), color=f"C{place}", alpha=0.2, linewidth=0, zorder=2
            )
        how = {"color": f"C{place}", "marker": "o" if len(steps) == 1 else None}
        ax.plot(steps, values.mean(axis=0), linewidth=1.8, label=name, zorder=3, **how)
    _finish(ax, limits, min(steps.min() for steps, _ in lines.values()), max(s.max() for s, _ in lines.values()))
    add_legend(ax, ncols=min(3, len(lines)))
    return ax


def _finish(ax: Any, limits: dict[str, float], first: float, last: float) -> None:
    color = muted(ax, 0.65)
    for label, value in limits.items():
        ax.axhline(value, color=color, linewidth=1, linestyle="--", zorder=1)
        ax.annotate(
            label,
            (1, value),
            (4, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            verticalalignment="center",
            color=color,
            annotation_clip=False,
        )
    if last > first:
        ax.set_xlim(first, last)
    ax.set_ylim(0, None)
    ax.margins(y=0.05)
    ax.set(xlabel="Training step", ylabel="Estimated mutual information (nats)")
    add_grid(ax, 0.08)
