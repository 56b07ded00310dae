"""Penultimate activations of three classes in the plane of their templates: one plot, and a grid of plots."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ls._checks import shown
from keras_ls.plots._axes import (
    CARD_INCHES,
    add_grid,
    drawn_in,
    legend_below,
    legend_beside,
    legend_inside,
    legend_name,
    muted,
    new_figure,
)
from keras_ls.projection.plane import Projection

PANEL_INCHES, LEGEND_INCHES = 2.6, 1.3  # a panel with its ticks
AXIS_LABELS = "First axis of the plane", "Second axis of the plane"


def class_projection(projection: Projection, ax: Any = None) -> Any:
    """Draws examples of three classes in the plane through the classes' templates.

    Each point is an example, coloured by its label; each cross is the template of the class of that colour, and thin
    lines join the three crosses. Both axes have the same scale, so that distances and angles are those of the plane,
    in the units of the activations.

    Args:
        projection: a `Projection`, as `project_classes` returns it.
        ax: the matplotlib `Axes` to draw in; None creates one in a new figure that is not registered
            with pyplot (`ax.figure.savefig(...)` writes it), with the legend below the axes.

    Returns:
        The `Axes` with the plot.

    Raises:
        ValueError: If `projection` is not a `Projection`, or `ax` not an `Axes`.

    Example:
        >>> import keras, keras_ls, numpy as np
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> x, y = np.eye(4, dtype="float32")[[0, 1, 2, 3]], np.array([0, 1, 2, 0])
        >>> ax = keras_ls.class_projection(keras_ls.project_classes(model, x, y, (0, 1, 2), examples_per_class=1))
        >>> print([text.get_text() for text in ax.get_legend().get_texts()])
        ['0', '1', '2', 'templates']

    Reference:
        Müller, Kornblith and Hinton 2019, section 2 and Figure 1.
    """
    _check(projection)
    is_given = ax is not None
    ax = drawn_in(ax, (CARD_INCHES, CARD_INCHES + 0.4))
    _draw(projection, ax)
    ax.set(**dict(zip(("xlabel", "ylabel"), AXIS_LABELS, strict=True)))
    if is_given:
        legend_inside(ax, markerscale=1.6)
    else:
        legend_below(ax, markerscale=1.6, ncols=2)
    return ax


def projection_grid(projections: Any) -> Any:
    """Draws projections in rows and columns, such as class triples against training and held-out examples.

    All panels have the same size but their own scales, as in the paper: smoothing can change the scale by orders of
    magnitude. Each row has a legend of its classes to its right.

    Args:
        projections: a list of rows, each a list of `Projection`s. Either may be a dict instead, whose keys are titles:
            `{"cat, dog, fox": {"training, hard": p, "training, smoothed": q}}`. All rows must have the same
            columns, and column titles are those of the first row. None leaves a panel empty. `Projection`s that are
            in no row are one: `[p, q]`, or `{"hard": p, "smoothed": q}`.

    Returns:
        A matplotlib `Figure` that is not registered with pyplot (`figure.savefig(...)` writes it).

    Raises:
        ValueError: If there is no projection, or rows differ in their number of columns or their titles.

    Example:
        >>> import keras, keras_ls, numpy as np
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> x, y = np.eye(4, dtype="float32")[[0, 1, 2, 3]], np.array([0, 1, 2, 0])
        >>> projection = keras_ls.project_classes(model, x, y, (0, 1, 2), examples_per_class=1)
        >>> figure = keras_ls.projection_grid({"0, 1, 2": {"hard": projection, "smoothed": projection}})
        >>> print([ax.get_title() for ax in figure.axes])
        ['hard', 'smoothed']

    Reference:
        Müller, Kornblith and Hinton 2019, Figure 1.
    """
    row_titles, column_titles, rows = _grid(projections)
    figure = new_figure((PANEL_INCHES * len(rows[0]) + LEGEND_INCHES, PANEL_INCHES * len(rows) + 0.6))
    # One grid for all panels, so that they have the same size.
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for ax, column_title in zip(axes[0], column_titles, strict=True):
        ax.set_title(column_title, fontsize="medium")
    for panels, row_title, row in zip(axes, row_titles, rows, strict=True):
        for ax, projection in zip(panels, row, strict=True):
            _draw_panel(projection, ax)
        panels[0].set_ylabel(row_title)
        _add_legend(panels, row)
    figure.supxlabel(AXIS_LABELS[0], fontsize="medium")
    figure.supylabel(AXIS_LABELS[1], fontsize="medium")
    return figure


def _draw(projection: Projection, ax: Any, point_size: float = 14.0) -> None:
    labels = np.asarray(projection.labels)
    for place, (class_id, name) in enumerate(zip(projection.classes, projection.class_names, strict=True)):
        points = np.asarray(projection.points)[labels == class_id]
        label = legend_name(name).replace("$", r"\$")  # which matplotlib would read as mathematics
        ax.scatter(*points.T, point_size, color=f"C{place}", alpha=0.7, linewidths=0, label=label, zorder=3)
    corners = np.asarray(projection.templates_2d)
    grey = muted(ax, 0.6)
    ax.plot(*corners[[0, 1, 2, 0]].T, color=grey, linewidth=0.8, zorder=2)
    # Crosses on white ones, so that they stand out from points of the same colour.
    ax.scatter(*corners.T, 6 * point_size, color="white", marker="X", linewidths=0, zorder=4)
    colors = [f"C{place}" for place in range(len(corners))]
    ax.scatter(*corners.T, 3.5 * point_size, color=colors, edgecolors="black", marker="X", linewidths=0.7, zorder=5)
    ax.plot([], [], color=grey, linewidth=0.8, marker="X", markersize=3.5, label="templates")
    # matplotlib cannot move the limits of axes that share both.
    shares_both = ax in ax.get_shared_x_axes() and ax in ax.get_shared_y_axes()
    ax.set_aspect("equal", adjustable="box" if shares_both else "datalim")
    add_grid(ax)


def _draw_panel(projection: Projection | None, ax: Any) -> None:
    ax.set_box_aspect(1)
    if projection is None:
        ax.set(xticks=[], yticks=[], frame_on=False)
        return
    _draw(projection, ax, point_size=7.0)
    ax.tick_params(labelsize="x-small")


def _add_legend(panels: Any, row: list[Projection | None]) -> None:
    """Adds a legend, that of the first panel that is not empty, beside the last panel."""
    shown_panels = [ax for ax, projection in zip(panels, row, strict=True) if projection is not None]
    if shown_panels:
        handles, labels = shown_panels[0].get_legend_handles_labels()
        legend_beside(panels[-1], handles=handles, labels=labels, fontsize="small", markerscale=2.0)


def _grid(projections: Any) -> tuple[list[str], list[str], list[list[Projection | None]]]:
    """Titles of rows, titles of columns, and the panels."""
    row_titles, given = _titled("`projections`", projections)
    if any(isinstance(row, Projection) for row in given):
        row_titles, given = [""], [projections]
    titled = [_titled("Each row of `projections`", row) for row in given]
    column_titles = titled[0][0]
    if any(titles != column_titles for titles, _ in titled):
        raise ValueError(
            "The rows of `projections` must have the same columns. "
            f"Received: {' and '.join(shown(titles) for titles, _ in titled)}."
        )
    rows = [row for _, row in titled]
    for panel in (panel for row in rows for panel in row if panel is not None):
        _check(panel, "Each panel of `projections`")
    return row_titles, column_titles, rows


def _titled(name: str, group: Any) -> tuple[list[str], list[Any]]:
    if isinstance(group, Mapping):
        titles, items = [str(title) for title in group], list(group.values())
    elif isinstance(group, Sequence) and not isinstance(group, (str, bytes, range)):
        titles, items = [""] * len(group), list(group)
    else:
        titles, items = [], []
    if not items:
        raise ValueError(f"{name} must be a list or dict that is not empty. Received: {shown(group)}.")
    return titles, items


def _check(projection: Any, name: str = "`projection`") -> None:
    if not isinstance(projection, Projection):
        raise ValueError(f"{name} must be a Projection, as project_classes returns it. Received: {shown(projection)}.")
