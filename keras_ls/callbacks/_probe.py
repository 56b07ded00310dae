"""A model made ready to be asked about some of its inputs."""

from typing import Any

import keras
import numpy as np

from keras_ls._arrays import taken
from keras_ls._models.devices import on_devices_of
from keras_ls._models.head import Probe
from keras_ls._models.random_state import kept_random_state


def build(model: keras.Model, x: Any) -> None:
    """Builds a model that is about to train on inputs such as `x`, if it is not built.

    TensorFlow builds a model without an `Input` when its first step is traced, after training has begun for callbacks.
    """
    if model.built:
        return
    with kept_random_state(), on_devices_of(model):
        model(taken(x, np.arange(1)), training=False)


def probe_for(model: keras.Model, x: Any, output: str | None = None) -> Probe:
    """A `Probe` of an output of a model that is about to train on inputs such as `x`."""
    build(model, x)
    return Probe(model, output)
