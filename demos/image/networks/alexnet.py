"""The paper's AlexNet: the network of TensorFlow's CIFAR-10 tutorial, with its initial values."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from demos.image.recipes import Recipe


@keras.saving.register_keras_serializable(package="keras_ls.demos")
class LocalResponseNormalization(layers.Layer):
    """x_c / (bias + alpha · Σ x_c'² over the channels within `depth_radius` of c)^beta, channels last.

    The arguments are those of `tf.nn.local_response_normalization`. The statistics are in float32.
    """

    def __init__(self, depth_radius=4, bias=1.0, alpha=0.001 / 9, beta=0.75, **kwargs):
        super().__init__(**kwargs)
        self.depth_radius, self.bias, self.alpha, self.beta = depth_radius, bias, alpha, beta

    def call(self, inputs):
        """Normalises `inputs` (..., channels)."""
        channel = np.arange(inputs.shape[-1])
        band = np.abs(channel[:, None] - channel) <= self.depth_radius
        x = ops.cast(inputs, "float32")
        neighbours = ops.matmul(ops.square(x), ops.convert_to_tensor(band.astype("float32")))
        # Four times as fast as a power, with its gradient, where TensorFlow runs on a CPU.
        factor = ops.exp(-self.beta * ops.log(self.bias + self.alpha * neighbours))
        return ops.cast(x * factor, inputs.dtype)


def body(x: Any, recipe: Recipe, decay: keras.Regularizer | None) -> tuple[Any, dict[str, Any]]:
    """The layers below the last one, and the arguments of that one; only the two dense layers decay."""

    def normal(stddev):
        return keras.initializers.TruncatedNormal(stddev=stddev)

    def convolution(x, bias):
        return layers.Conv2D(
            64, 5, padding="same", activation="relu", kernel_initializer=normal(0.05), bias_initializer=bias
        )(x)

    def dense(x, width):
        return layers.Dense(
            width,
            activation="relu",
            kernel_initializer=normal(0.04),
            bias_initializer=keras.initializers.Constant(0.1),
            kernel_regularizer=decay,
        )(x)

    x = convolution(x, "zeros")
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = LocalResponseNormalization()(x)
    x = convolution(x, keras.initializers.Constant(0.1))
    x = LocalResponseNormalization()(x)
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = dense(dense(layers.Flatten()(x), 384), 192)
    return x, {"kernel_initializer": normal(1 / 192)}
