"""The residual network that He et al. (2016) trained on CIFAR: 3 stages of 16, 32 and 64 filters."""

from typing import Any

import keras
from keras import layers, ops

from demos.image.recipes import Recipe


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


def body(x: Any, recipe: Recipe, decay: keras.Regularizer | None) -> tuple[Any, dict[str, Any]]:
    """The layers below the last one, and the arguments of that one."""
    blocks, rest = divmod(recipe.depth - 2, 6)
    if rest or blocks < 1:
        raise ValueError(
            f"`depth` must be 6·n + 2 with n of at least 1: 20, 32, 44, 56. Received: depth={recipe.depth}."
        )

    def convolution(x, filters, strides=1):
        settings = {"use_bias": False, "kernel_initializer": "he_normal", "kernel_regularizer": decay}
        x = layers.Conv2D(filters, 3, strides, padding="same", **settings)(x)
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)

    x = layers.ReLU()(convolution(x, 16))
    for filters in (16, 32, 64):
        for _ in range(blocks):
            shrinks = x.shape[-1] != filters
            shortcut = PaddedShortcut(filters)(x) if shrinks else x
            x = layers.ReLU()(convolution(x, filters, 2 if shrinks else 1))
            x = layers.ReLU()(layers.Add()([convolution(x, filters), shortcut]))
    x = layers.GlobalAveragePooling2D()(x)
    return x, {"kernel_initializer": "he_normal", "kernel_regularizer": decay}
