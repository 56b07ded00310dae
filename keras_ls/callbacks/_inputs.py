"""A model made ready to be asked about some of its inputs."""

from typing import Any

import keras
import numpy as np

from keras_ls._arrays import taken
from keras_ls._head import Probe
from keras_ls._predictions import kept_random_state


def build(model: keras.Model, x: Any) -> None:
    """Builds a model that is about to train on inputs such as `x`, where it is not built.

    TensorFlow builds a model without an `Input` when its first step is traced, after training has begun for callbacks.
    """
    if not model.built:
        with kept_random_state():
            model.predict_on_batch(taken(x, np.arange(1)))


def probe_for(model: keras.Model, x: Any) -> Probe:
    """A `Probe` of a model that is about to train on inputs such as `x`."""
    build(model, x)
    return Probe(model)
