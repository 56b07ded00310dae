"""Some examples of a model's inputs, and the model made ready to be asked about them."""

from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ls._head import Probe
from keras_ls._predictions import kept_random_state


def taken(x: Any, index: np.ndarray) -> Any:
    """The examples at `index` (n,) of an array or a list or dict of arrays or tensors, as NumPy arrays."""
    return tree.map_structure(
        lambda leaf: (ops.convert_to_numpy(leaf) if ops.is_tensor(leaf) else np.asarray(leaf))[index], x
    )


def probe_for(model: keras.Model, x: Any) -> Probe:
    """A `Probe` of a model that is about to train on inputs such as `x`.

    TensorFlow builds a model without an `Input` when its first step is traced, after training has begun for callbacks.
    """
    if not model.built:
        with kept_random_state():
            model.predict_on_batch(taken(x, np.arange(1)))
    return Probe(model)
