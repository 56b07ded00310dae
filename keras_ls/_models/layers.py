"""Layers that give logits where a model gives probabilities."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_ls._arrays import rounded_off_one, smallest_probability, wide_dtype
from keras_ls._rows import LARGEST_PROBABILITY

# As Keras names them, and as a user may give them.
SOFTMAX = (keras.activations.softmax, ops.softmax)
SIGMOID = (keras.activations.sigmoid, ops.sigmoid)


class AfterLogits(layers.Layer):
    """A layer that turns logits into probabilities; the layer before it counts as the last of its network."""


@keras.saving.register_keras_serializable(package="keras_ls")
class LinearHead(layers.Layer):
    """A `Dense` layer without its activation, on the same weights.

    Args:
        dense: the `keras.layers.Dense` whose kernel and bias are used.
        **kwargs: arguments of `keras.layers.Layer`.
    """

    def __init__(self, dense: layers.Dense, **kwargs):
        super().__init__(**kwargs)
        self.dense = dense
        self.supports_masking = True

    def build(self, input_shape):
        """Builds the `Dense` when a saved model is loaded."""
        if not self.dense.built:
            self.dense.build(input_shape)

    def call(self, inputs):
        """Returns inputs · kernel + bias."""
        if self.dense.quantization_mode is not None:  # quantized since; its kernel holds scaled integers
            return _without_activation(self.dense).quantized_call(inputs)
        outputs = ops.matmul(inputs, self.dense.kernel)
        return outputs if self.dense.bias is None else ops.add(outputs, self.dense.bias)

    def compute_output_shape(self, input_shape):
        """Returns the output shape of the `Dense`."""
        return self.dense.compute_output_shape(input_shape)

    def get_config(self):
        """Returns the config, with that of the `Dense` and its activation."""
        return {**super().get_config(), "dense": keras.saving.serialize_keras_object(self.dense)}

    @classmethod
    def from_config(cls, config):
        """Rebuilds the layer and the `Dense` inside."""
        return cls(keras.saving.deserialize_keras_object(config.pop("dense")), **config)


def _without_activation(dense: layers.Dense) -> layers.Dense:
    """The layer on the same variables; it is left as it is, since other models may call it meanwhile."""
    linear = object.__new__(type(dense))
    vars(linear).update(vars(dense))
    object.__setattr__(linear, "activation", None)  # past Keras, which would track it
    return linear


class _Logarithm(layers.Layer):
    """A layer that takes probabilities in the dtype that they have, and keeps their shape."""

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.supports_masking = True

    def compute_output_shape(self, input_shape):
        """Returns the shape of the probabilities."""
        return input_shape


@keras.saving.register_keras_serializable(package="keras_ls")
class LogProbabilities(_Logarithm):
    """Logarithm of probabilities, in float32 or wider; 0 counts as the smallest positive number of their dtype.

    The result is NaN below 0 and above 1.01, where inputs are not probabilities.
    """

    def call(self, inputs):
        """Returns log p."""
        probabilities, smallest = _probabilities(inputs)
        return ops.log(ops.maximum(probabilities, smallest))


@keras.saving.register_keras_serializable(package="keras_ls")
class LogOdds(_Logarithm):
    """log(p/(1 − p)) of probabilities, in float32 or wider; 0 counts as the smallest positive number of their dtype.

    A p of 1 counts as the smallest that is rounded to it: 17.3 in float32. The result is NaN below 0 and above 1.01,
    where inputs are not probabilities.
    """

    def call(self, inputs):
        """Returns log(p/(1 − p))."""
        probabilities, smallest = _probabilities(inputs)
        others = ops.maximum(1.0 - probabilities, rounded_off_one(keras.backend.standardize_dtype(inputs.dtype)))
        return ops.log(ops.maximum(probabilities, smallest)) - ops.log(others)


def _probabilities(inputs: Any) -> tuple[Any, float]:
    """Returns `inputs` in float32 or wider, NaN where they are not probabilities, and the substitute for 0."""
    dtype = keras.backend.standardize_dtype(inputs.dtype)
    wide = ops.cast(inputs, wide_dtype(dtype))
    return ops.where((wide >= 0) & (wide <= LARGEST_PROBABILITY), wide, np.nan), smallest_probability(dtype)
