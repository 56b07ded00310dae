"""Named lines of one or several runs, as a figure draws them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_ls._arrays import to_numpy
from keras_ls._checks import shown


def checked_lines(curves: Any, x: str, y: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Each curve's `x` (P,), finite and rising, and `y` (R, P), one row per run, float64, by name.

    Raises:
        ValueError: If there is no curve, shapes do not fit, or `x` is not finite.
    """
    if not isinstance(curves, Mapping) or not curves:
        raise ValueError(f"`curves` must be a dict of at least one ({x}, {y}) by name. Received: {shown(curves)}.")
    return {str(name): _checked_line(name, curve, x, y) for name, curve in curves.items()}


def _checked_line(name: Any, curve: Any, x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(curve, (tuple, list)) or len(curve) != 2:
        raise ValueError(f"`curves` must map names to ({x}, {y}). Received: {shown(curve)} for {shown(name)}.")
    points, runs = (to_numpy(f"curves[{shown(name)}]", part).astype("float64") for part in curve)
    if points.ndim != 1 or runs.ndim not in (1, 2) or runs.size == 0 or runs.shape[-1] != len(points):
        raise ValueError(
            f"`curves` must map names to {x} (P,) and {y} (P,) or (R, P), P and R at least 1. "
            f"Received: shapes {points.shape} and {runs.shape} for {shown(name)}."
        )
    if not np.isfinite(points).all():
        raise ValueError(f"`curves` must hold finite {x}. Received: {shown(curve)} for {shown(name)}.")
    order = np.argsort(points, kind="stable")
    return points[order], np.atleast_2d(runs)[:, order]
