"""Rows chosen apart for each batch element."""

from typing import Any

from keras import ops


def row_numbers(places: Any, count: int) -> Any:
    """(B, n) places among `count` to the same places (B, n) where the batch lies flat."""
    first = ops.arange(ops.shape(places)[0], dtype="int32") * count
    return places + ops.expand_dims(first, -1)


def gather_rows(values: Any, places: Any) -> Any:
    """(B, M, …) and (B, n) places among M to (B, n, …)."""
    rest = tuple(values.shape[2:])
    return ops.take(ops.reshape(values, (-1, *rest)), row_numbers(places, values.shape[1]), axis=0)
