"""Rows chosen apart for each batch element."""

from typing import Any

import keras
from keras import ops


def row_numbers(places: Any, count: int) -> Any:
    """(B, n) places among `count` to the same places (B, n) where the batch lies flat."""
    first = ops.arange(ops.shape(places)[0], dtype="int32") * count
    return places + ops.expand_dims(first, -1)


def take_rows(values: Any, numbers: Any) -> Any:
    """(N, …) at the places (…) along the first axis, also of no values, of which JAX's own takes another shape."""
    return values[numbers] if keras.backend.backend() == "jax" else ops.take(values, numbers, axis=0)


def gather_rows(values: Any, places: Any) -> Any:
    """(B, M, …) and (B, n) places among M to (B, n, …)."""
    rest = tuple(values.shape[2:])
    return take_rows(ops.reshape(values, (-1, *rest)), row_numbers(places, values.shape[1]))
