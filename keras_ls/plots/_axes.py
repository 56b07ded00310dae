"""Axes to draw in, the caller's or those of a new figure outside pyplot, and their legends."""

from collections.abc import Mapping
from typing import Any

from keras_ls._checks import shown

DPI = 150
# TensorBoard shows images 350 pixels wide and drops pixels of larger ones. At twice the width it drops every second
# pixel, so that lines of two pixels survive.
CARD_INCHES = 700 / DPI


def drawn_in(ax: Any, figsize: tuple[float, float]) -> Any:
    """Returns `ax`, which must be matplotlib `Axes`, or those of a new figure if it is None."""
    from matplotlib.axes import Axes

    if ax is None:
        return new_figure(figsize).add_subplot()
    if not isinstance(ax, Axes):
        raise ValueError(f"`ax` must be a matplotlib Axes or None. Received: ax={shown(ax)}.")
    return ax


def new_figure(figsize: tuple[float, float]) -> Any:
    """Returns a matplotlib `Figure` of that size, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=figsize, dpi=DPI, layout="constrained")


def muted(ax: Any, strength: float) -> tuple[float, ...]:
    """A colour between that of the background of `ax` (0) and that of the text (1), whatever the style."""
    from matplotlib import rcParams
    from matplotlib.colors import to_rgb

    faces = ax.get_facecolor(), ax.figure.get_facecolor()
    background = to_rgb(next((face for face in faces if face[3] > 0), "white"))
    pairs = zip(background, to_rgb(rcParams["text.color"]), strict=True)
    return tuple((1 - strength) * back + strength * text for back, text in pairs)


def add_grid(ax: Any, strength: float = 0.1) -> None:
    """Adds a grid behind what is drawn in `ax`."""
    ax.grid(color=muted(ax, strength), linewidth=0.8)
    ax.set_axisbelow(True)


def named_curves(curve_or_curves: Any, kind: type) -> dict[str, Any]:
    """Curves by their names in the legend: "" for one alone; those of a list are numbered from 1.

    Raises:
        ValueError: If there is none, or one that is not of its `kind`.
    """
    if isinstance(curve_or_curves, (list, tuple)):
        curve_or_curves = dict(enumerate(curve_or_curves, start=1))
    curves = curve_or_curves if isinstance(curve_or_curves, Mapping) else {"": curve_or_curves}
    if not curves or not all(isinstance(curve, kind) for curve in curves.values()):
        raise ValueError(
            f"`curve_or_curves` must be a {kind.__name__}, or a dict (by name) or list of at least one. "
            f"Received: {shown(curve_or_curves)}."
        )
    return {legend_name(name): curve for name, curve in curves.items()}


def legend_name(name: Any) -> str:
    """A name as a legend shows it: matplotlib leaves out those that begin with an underscore, such as "_silence_"."""
    return f" {name}" if str(name).startswith("_") else str(name)


def legend_inside(ax: Any, **arguments: Any) -> None:
    """Adds a legend inside `ax`, for the caller's own axes: a legend outside could cover their neighbours."""
    ax.legend(loc="best", framealpha=0.9, **arguments)


def legend_beside(ax: Any, **arguments: Any) -> None:
    """Adds a legend to the right of `ax`, where it hides nothing; the layout of a new figure makes room for it."""
    ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0, frameon=False, **arguments)


def legend_below(ax: Any, lowest: Any = None, **arguments: Any) -> None:
    """Adds a legend to `ax` below its x-axis label, or below that of the axes `lowest` if given."""
    from matplotlib.transforms import ScaledTranslation

    below_label = ScaledTranslation(0, -36 / 72, ax.figure.dpi_scale_trans)
    place = {"bbox_to_anchor": (0.5, 0), "bbox_transform": (lowest or ax).transAxes + below_label}
    ax.legend(loc="upper center", borderaxespad=0, frameon=False, **place, **arguments)
