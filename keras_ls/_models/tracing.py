"""Tracing a model: symbols in place of its inputs, layers with other attributes meanwhile, and no needless warning."""

import contextlib
from collections.abc import Callable, Iterator
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


def count_tracings_apart(model: keras.Model) -> None:
    """Has TensorFlow count how often it traces the `predict` function of `model` by itself.

    TensorFlow counts by the code of functions, which all models share, and so warns of needless tracing where several
    new models each trace once, as they must.
    """
    if keras.backend.backend() != "tensorflow" or model.run_eagerly:
        return
    import tensorflow as tf

    model.make_predict_function()
    function = _Uncoded(model.predict_function.python_function)
    model.predict_function = tf.function(function, autograph=False, reduce_retracing=True)


class _Uncoded:
    """A function as an object that has no code of its own, so that TensorFlow knows it by its identity."""

    def __init__(self, function: Callable[..., Any]):
        self._function = function

    def __call__(self, data):
        return self._function(data)
