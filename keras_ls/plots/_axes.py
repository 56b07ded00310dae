"""Where pictures are drawn: in what the caller gives, or in a new figure that pyplot does not know."""

from typing import Any

from keras_ls._checks import shown


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

    return Figure(figsize=figsize, dpi=100, layout="constrained")
