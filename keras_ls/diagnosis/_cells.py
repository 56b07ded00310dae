"""Sums over bins of confidence, counting examples and not the positions of a sequence."""

import numpy as np

from keras_ls._intervals import BinMoments


def cell_moments(
    cell: np.ndarray,
    num_cells: int,
    weight: np.ndarray,
    confidence: np.ndarray,
    difference: np.ndarray,
    example: np.ndarray | None,
) -> np.ndarray:
    """Sums (7, num_cells) that add up over blocks of whole examples; `moments_of_sums` turns them into `BinMoments`.

    Args:
        cell: (M,) cell of each position.
        num_cells: number of cells.
        weight: (M,) weights.
        confidence: (M,) confidences.
        difference: (M,) hit − confidence.
        example: (M,) example of each position, not falling, or None if each is one of its own.

    Returns:
        W, Σ w·confidence, D, Σ A², Σ AV, Σ V² and the number of examples of each cell, A and V being an example's
        Σ w(hit − confidence) and Σ w there.
    """
    value = weight * difference
    whole = [np.bincount(cell, each, minlength=num_cells) for each in (weight, weight * confidence, value)]
    if example is not None:
        _, place = np.unique(example * num_cells + cell, return_inverse=True)
        first = np.zeros(place.max(initial=-1) + 1, "int64")
        first[place] = cell
        value, weight, cell = np.bincount(place, value), np.bincount(place, weight), first
    parts = (value * value, value * weight, weight * weight, None)
    return np.stack([*whole, *(np.bincount(cell, each, minlength=num_cells) for each in parts)])


def moments_of_sums(sums: np.ndarray) -> BinMoments:
    """`BinMoments` of (7, …) sums."""
    weight, confidence, value, squares, products, weights, clusters = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        confidence, gap = (np.where(weight > 0, each / weight, 0.0) for each in (confidence, value))
        effective = weight**2 / weights
    residual = np.maximum(0.0, squares - 2.0 * gap * products + gap**2 * weights)
    return BinMoments(weight, confidence, gap, clusters, residual, effective)
