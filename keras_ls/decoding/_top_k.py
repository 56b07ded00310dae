"""The highest scores of each row, with ties broken alike on every backend."""

from typing import Any

import keras
from keras import ops


def stable_top_k(scores: Any, count: int) -> tuple[Any, Any]:
    """The `count` highest of each row of (B, N), highest first, and their places; ties go to the lower place.

    The places of a row with NaN are meaningless, but lie in [0, N).
    """
    values, places = ops.top_k(scores, count)
    places = ops.cast(places, "int32")
    if keras.backend.backend() != "torch":
        return values, places
    # PyTorch breaks ties arbitrarily, in the order and in which of those equal to the lowest are taken. Choose again.
    lowest = values[:, -1:]
    numbers = ops.arange(scores.shape[1], dtype="int32")
    equals = -ops.top_k(ops.where(scores == lowest, -numbers, 1 - scores.shape[1]), count)[0]
    rank = ops.arange(count, dtype="int32") - ops.sum(values > lowest, axis=1, keepdims=True)
    equals = ops.take_along_axis(equals, ops.maximum(rank, 0), axis=1)
    places = ops.sort(ops.where(rank < 0, places, equals), axis=1)
    values = ops.take_along_axis(scores, places, axis=1)
    order = ops.argsort(-values, axis=1)
    return ops.take_along_axis(values, order, axis=1), ops.take_along_axis(places, order, axis=1)
