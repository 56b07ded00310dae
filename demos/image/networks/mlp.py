"""The paper's fully connected network for MNIST."""

from typing import Any

import keras
from keras import layers

from demos.image.recipes import Recipe


def body(x: Any, recipe: Recipe, decay: keras.Regularizer | None) -> tuple[Any, dict[str, Any]]:
    """The layers below the last one, and the arguments of that one."""

    def initializer():
        return keras.initializers.RandomNormal(stddev=0.03)

    x = layers.Flatten()(x)
    for width in recipe.hidden:
        x = layers.Dense(width, activation="relu", kernel_initializer=initializer(), kernel_regularizer=decay)(x)
        x = layers.Dropout(recipe.dropout)(x) if recipe.dropout else x
    return x, {"kernel_initializer": initializer(), "kernel_regularizer": decay}
