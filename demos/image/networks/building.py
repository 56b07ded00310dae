"""Networks and optimizers as recipes say, ready to be trained."""

from typing import Any

import keras
import numpy as np
from keras import layers

import keras_ls
from demos.image.data.common.batches import Batches
from demos.image.networks import bodies
from demos.image.recipes import Recipe
from demos.kit import devices
from demos.kit.errors import Diverged

BODIES = {"mlp": bodies.mlp, "alexnet": bodies.alexnet, "resnet": bodies.resnet}
PREDICTION_BATCH = 500


def build(images: np.ndarray, num_classes: int, recipe: Recipe, precision: str = "float32") -> keras.Model:
    """Builds the network of a recipe, from uint8 images to float32 logits (N, K).

    `precision` is the dtype policy of all other layers. The network normalises each channel by the mean and standard
    deviation of the training images, (N, height, width, channels) uint8. The loss gets ½·weight_decay·‖w‖² for the
    kernels: all of the ResNet's and the MLP's, those of the two hidden dense layers of AlexNet.
    """
    if recipe.model not in BODIES:
        raise ValueError(f"`model` must be one of {', '.join(BODIES)}. Received: {recipe.model!r}.")
    policy, order = keras.config.dtype_policy(), keras.config.image_data_format()
    keras.config.set_dtype_policy(precision)
    keras.config.set_image_data_format("channels_last")  # as the images have it, whatever the user's keras.json says
    try:
        inputs = keras.Input(images.shape[1:], dtype="uint8", name="image")
        # A penalty of zero would still cost its sums at each step.
        decay = keras.regularizers.L2(recipe.weight_decay / 2) if recipe.weight_decay else None
        x, head = BODIES[recipe.model](_normalise(inputs, images), recipe, decay)
        logits = layers.Dense(num_classes, dtype="float32", name="logits", **head)(x)
        return keras.Model(inputs, logits, name=recipe.model)
    finally:
        keras.config.set_dtype_policy(policy)
        keras.config.set_image_data_format(order)


def compile_model(model: keras.Model, recipe: Recipe, label_smoothing: float, **compilation: Any) -> None:
    """Compiles a network, or a distiller of one, for training on hard (0) or smoothed targets as the recipe says."""
    model.compile(
        optimizer=make_optimizer(recipe),
        loss=keras_ls.SmoothedSparseCategoricalCrossentropy(label_smoothing, from_logits=True),
        loss_weights=recipe.loss_scale,
        metrics=["accuracy"],
        **compilation,
    )
    model.optimizer.build(model.trainable_variables)


def batches_of(x: Any, y: Any, recipe: Recipe, seed: int, first_step: int) -> Batches:
    """Endless training batches from a step on, augmented as the recipe says."""
    return Batches(x, y, recipe.batch_size, seed, recipe.augment, first_step, recipe.shift)


def predict(model: keras.Model, images: np.ndarray, batch_size: int = PREDICTION_BATCH) -> np.ndarray:
    """The logits of a trained network for images, float32 (N, K); raises Diverged if they are not finite."""
    logits = np.asarray(devices.predict(model, images, batch_size), "float32")
    if not np.isfinite(logits).all():
        raise Diverged("The trained network's logits are not finite: lower the learning rate.")
    return logits


def _normalise(inputs, images):
    axes = (0, 1, 2)
    mean, deviation = images.mean(axes, dtype="float64"), images.std(axes, dtype="float64")
    scale = 1 / np.maximum(deviation, 1.0)
    return layers.Rescaling(scale.tolist(), (-mean * scale).tolist(), dtype="float32", name="normalise")(inputs)


def make_optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    """SGD as the recipe says."""
    schedules = keras.optimizers.schedules
    if recipe.decay_at:
        boundaries = [round(fraction * recipe.steps) for fraction in recipe.decay_at]
        rates = [recipe.learning_rate * 0.1**i for i in range(len(boundaries) + 1)]
        schedule = schedules.PiecewiseConstantDecay(boundaries, rates)
    else:
        schedule = schedules.PolynomialDecay(recipe.learning_rate, recipe.steps, end_learning_rate=0.0)
    return HeadRateSGD(
        schedule,
        head_rate=recipe.head_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        global_clipnorm=recipe.clipnorm or None,
    )


@keras.saving.register_keras_serializable(package="keras_ls.demos")
class HeadRateSGD(keras.optimizers.SGD):
    """SGD with another learning rate for the layer called "logits".

    The factor is on that layer's gradient, which for SGD, momentum included, is the same thing.
    """

    def __init__(self, *args, head_rate=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.head_rate = head_rate
        self._factors: list[float] = []

    def build(self, variables):
        """Notes which of the variables are the last layer's."""
        super().build(variables)
        self._factors = [self.head_rate if "logits" in v.path.split("/") else 1.0 for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        """As SGD's, after the bound on the gradient's norm, which is that of the gradient as it is."""
        factor = self._factors[self._get_variable_index(variable)]
        super().update_step(gradient if factor == 1 else gradient * factor, variable, learning_rate)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "head_rate": self.head_rate}
