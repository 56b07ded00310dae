"""Means over all pairs of many points, whose distances are never all in memory."""

from collections.abc import Callable

import numpy as np

BLOCK_SIZE = 2**22  # numbers that are in memory at a time
# A squared distance below this share of the points' squares is mostly rounding, and is computed from the difference.
_CLOSE = 1e-6


def mean_over_pairs(count: int, of_block: Callable[[slice, slice], np.ndarray]) -> float:
    """The mean over pairs a < b of what is given, as matrices, for a in one slice and b in another."""
    total, step = 0.0, max(1, BLOCK_SIZE // count)
    for start in range(0, count, step):
        first, later = slice(start, start + step), slice(start, count)
        total += float(np.triu(of_block(first, later), 1).sum())
    return total / (count * (count - 1) / 2)


def squared_distances(centred: np.ndarray, first: slice, later: slice) -> np.ndarray:
    """Between some and others of (K, D) points around 0, by one matrix product."""
    squares = np.square(centred).sum(-1)
    sums = squares[first, None] + squares[later]
    distances = sums - 2.0 * centred[first] @ centred[later].T
    close, step = np.argwhere(distances < _CLOSE * sums), max(1, BLOCK_SIZE // centred.shape[1])
    for start in range(0, len(close), step):
        a, b = close[start : start + step].T
        distances[a, b] = np.square(centred[first][a] - centred[later][b]).sum(-1)
    return distances
