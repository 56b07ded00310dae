"""Tracing a model without data: symbols in place of its inputs, and layers with other attributes meanwhile."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

# For sizes that inputs leave open: some layers cannot be traced with unknown ones, others not with guessed ones.
TRACED_SIZES = (None, 32, 224)


def symbol(x: Any, size: int | None) -> keras.KerasTensor:
    """A symbol like `x`, with `size` in place of each unknown size."""
    shape = [size if given is None else given for given in x.shape]
    return keras.KerasTensor(shape, keras.backend.standardize_dtype(x.dtype))


@contextlib.contextmanager
def having(layer: Any, name: str, value: Any) -> Iterator[None]:
    """Gives a layer another value of an attribute while the context lasts, past Keras, which would track it."""
    is_own, before = name in vars(layer), getattr(layer, name)
    object.__setattr__(layer, name, value)
    try:
        yield
    finally:
        if is_own:
            object.__setattr__(layer, name, before)
        else:
            object.__delattr__(layer, name)
