"""The paper's three image networks: the layers below the last one, and the arguments of that one.

Its fully connected network for MNIST; AlexNet, the network of TensorFlow's CIFAR-10 tutorial, with its initial values;
and the residual network that He et al. (2016) trained on CIFAR: 3 stages of 16, 32 and 64 filters. Where it halves the
size, Keras pads on one side: a block then looks one pixel beside its shortcut, where He et al. pad on both.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from demos.image.recipes import Recipe
from demos.kit import devices

Body = tuple[Any, dict[str, Any]]


def mlp(x: Any, recipe: Recipe, decay: keras.Regularizer | None) -> Body:
    """The body of the fully connected network."""

    def initializer():
        return keras.initializers.RandomNormal(stddev=0.03)

    x = layers.Flatten()(x)
    for width in recipe.hidden:
        x = layers.Dense(width, activation="relu", kernel_initializer=initializer(), kernel_regularizer=decay)(x)
        x = layers.Dropout(recipe.dropout)(x) if recipe.dropout else x
    return x, {"kernel_initializer": initializer(), "kernel_regularizer": decay}


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


def alexnet(x: Any, recipe: Recipe, decay: keras.Regularizer | None) -> Body:
    """The body of AlexNet; only the two dense layers decay."""

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


@keras.saving.register_keras_serializable(package="keras_ls.demos")
class PaddedShortcut(layers.Layer):
    """The shortcut without parameters: every other row and column, new channels filled with zeros."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters

    def call(self, inputs):
        """(N, height, width, channels) to (N, ⌈height/2⌉, ⌈width/2⌉, filters)."""
        missing = self.filters - inputs.shape[-1]
        return ops.pad(inputs[:, ::2, ::2], [[0, 0], [0, 0], [0, 0], [missing // 2, missing - missing // 2]])


def resnet(x: Any, recipe: Recipe, decay: keras.Regularizer | None) -> Body:
    """The body of the residual network."""
    blocks, rest = divmod(recipe.depth - 2, 6)
    if rest or blocks < 1:
        raise ValueError(
            f"`depth` must be 6·n + 2 with n of at least 1: 20, 32, 44, 56. Received: depth={recipe.depth}."
        )

    def convolution(x, filters, strides=1):
        settings = {"use_bias": False, "kernel_initializer": "he_normal", "kernel_regularizer": decay}
        x = layers.Conv2D(filters, 3, strides, padding="same", **settings)(x)
        # Its statistics are those of the whole batch: of TensorFlow's replicas each would take its own otherwise.
        synchronized = devices.engine().strategy is not None
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, synchronized=synchronized)(x)

    x = layers.ReLU()(convolution(x, 16))
    for filters in (16, 32, 64):
        for _ in range(blocks):
            shrinks = x.shape[-1] != filters
            shortcut = PaddedShortcut(filters)(x) if shrinks else x
            x = layers.ReLU()(convolution(x, filters, 2 if shrinks else 1))
            x = layers.ReLU()(layers.Add()([convolution(x, filters), shortcut]))
    x = layers.GlobalAveragePooling2D()(x)
    return x, {"kernel_initializer": "he_normal", "kernel_regularizer": decay}
