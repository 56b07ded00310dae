"""Penultimate activations of three classes in the plane of their templates: one picture, and a grid of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ls._checks import shown
from keras_ls.plots._axes import drawn_in, new_figure
from keras_ls.projection import Projection

PANEL_INCHES = 2.7


def class_projection(projection: Projection, ax: Any = None) -> Any:
    """Draws examples of three classes in the plane through the classes' templates.

    A point is an example, coloured by its label; a cross is the template of the class of that colour, and thin lines
    join the three crosses. Both axes have the same scale, so that distances and angles are those of the plane.

    Args:
        projection: what `project_classes` gives.
        ax: the matplotlib `Axes` to draw in; None for one in a new figure that pyplot does not know
            (`ax.figure.savefig(...)` writes it).

    Returns:
        The `Axes` with the picture.

    Raises:
        ValueError: If `projection` or `ax` is something else.

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
    ax = drawn_in(ax, (5.0, 5.0))
    _draw(projection, ax)
    ax.legend(loc="best", framealpha=0.9, markerscale=1.6)
    return ax


def projection_grid(projections: Any) -> Any:
    """Draws projections in rows and columns, such as class triples against training and held-out examples.

    Every panel has its own scale, as in the paper: smoothing can change it by orders of magnitude. Each row has a
    legend of its classes.

    Args:
        projections: a list of rows, each a list of `Projection`s, or dicts in their place, whose keys are titles:
            `{"cat, dog, fox": {"training, hard": p, "training, smoothed": q}}`. All rows have as many columns; the
            titles of columns are those of the first row. None leaves a panel empty.

    Returns:
        A matplotlib `Figure` that pyplot does not know (`figure.savefig(...)` writes it).

    Raises:
        ValueError: If there is no projection, or rows differ in length or titles.

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
    size = (PANEL_INCHES * len(rows[0]), (PANEL_INCHES + 0.3) * len(rows))
    figure = new_figure(size)
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for place, (part, title, row) in enumerate(zip(parts, row_titles, rows, strict=True)):
        axes = part.subplots(1, len(row), squeeze=False)[0]
        for ax, projection, column_title in zip(axes, row, column_titles, strict=True):
            _draw_panel(projection, ax, column_title if place == 0 else "")
        axes[0].set_ylabel(title)
        _add_legend(part, [ax for ax, projection in zip(axes, row, strict=True) if projection is not None])
    return figure


def _draw(projection: Projection, ax: Any, point_size: float = 14.0) -> None:
    labels = np.asarray(projection.labels)
    for place, (class_id, name) in enumerate(zip(projection.classes, projection.class_names, strict=True)):
        points = projection.points[labels == class_id]
        ax.scatter(*points.T, point_size, color=f"C{place}", alpha=0.7, linewidths=0, label=name, zorder=3)
    corners = np.asarray(projection.templates_2d)
    ax.plot(*corners[[0, 1, 2, 0]].T, color="0.4", linewidth=0.8, zorder=2)
    # Crosses on white ones, to be seen among points of the same colour.
    ax.scatter(*corners.T, 6 * point_size, color="white", marker="X", linewidths=0, zorder=4)
    colors = [f"C{place}" for place in range(len(corners))]
    ax.scatter(*corners.T, 3.5 * point_size, color=colors, edgecolors="black", marker="X", linewidths=0.7, zorder=5)
    ax.plot([], [], color="0.4", linewidth=0.8, marker="X", markersize=3.5, label="templates")
    ax.set_aspect("equal", adjustable="datalim")
    ax.grid(color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)


def _draw_panel(projection: Projection | None, ax: Any, title: str) -> None:
    ax.set_title(title, fontsize="medium")
    if projection is None:
        ax.set(xticks=[], yticks=[], frame_on=False)
        return
    _draw(projection, ax, point_size=7.0)
    ax.tick_params(labelsize="x-small")
    ax.set_box_aspect(1)


def _add_legend(part: Any, axes: list[Any]) -> None:
    if axes:
        handles, labels = axes[0].get_legend_handles_labels()
        place = {"loc": "outside lower center", "ncols": len(labels), "frameon": False}
        part.legend(handles, labels, fontsize="small", markerscale=2.0, **place)


def _grid(projections: Any) -> tuple[list[str], list[str], list[list[Projection | None]]]:
    """Titles of rows, titles of columns, and the panels."""
    row_titles, given = _titled("`projections`", projections)
    titled = [_titled("Each row of `projections`", row) for row in given]
    column_titles = titled[0][0]
    if any(titles != column_titles for titles, _ in titled):
        raise ValueError(
            "The rows of `projections` must have the same columns. "
            f"Received: {' and '.join(shown(titles) for titles, _ in titled)}."
        )
    rows = [row for _, row in titled]
    for panel in (panel for row in rows for panel in row if panel is not None):
        _check(panel)
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


def _check(projection: Any) -> None:
    if not isinstance(projection, Projection):
        raise ValueError(
            f"`projection` must be a Projection, as project_classes gives it. Received: {shown(projection)}."
        )
