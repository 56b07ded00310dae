"""How the networks of the image demo are trained: the paper's settings, the optimizer, the training loop."""

import dataclasses
import pathlib
from typing import Any

import keras

import keras_ls
from demos import checkpoints
from demos.image import models
from demos.image.augment import Batches
from demos.image.datasets import ImageData


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained. The defaults are what the networks have in common.

    Attributes:
        steps: updates of the weights.
        steps_per_epoch: between two checkpoints, a divisor of `steps`.
        batch_size: images an update.
        learning_rate: at the first step, ...
        decay_at: ... divided by 10 after each of these fractions of the steps; () falls linearly to 0 instead.
        head_rate: factor on the learning rate of the last layer.
        momentum: of SGD; 0 has none.
        nesterov: whether the momentum is Nesterov's.
        weight_decay: of the ½·weight_decay·‖w‖² in the loss.
        clipnorm: bound on the norm of the whole gradient; 0 has none.
        loss_scale: factor on the cross-entropy.
        augment: whether training images are cropped and flipped at random.
        shift: pixels by which training images are shifted at random at most.
        dropout: share of the outputs of each hidden layer of the MLP that is dropped.
        depth: of the ResNet.
        hidden: widths of the MLP's hidden layers.
    """

    steps: int
    steps_per_epoch: int = 1
    batch_size: int = 128
    learning_rate: float = 0.1
    decay_at: tuple[float, ...] = ()
    head_rate: float = 1.0
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    clipnorm: float = 0.0
    loss_scale: float = 1.0
    augment: bool = False
    shift: int = 0
    dropout: float = 0.0
    depth: int = 56
    hidden: tuple[int, ...] = (1200, 1200)

    @property
    def epochs(self) -> int:
        """How many epochs the steps are."""
        return self.steps // self.steps_per_epoch


def paper_recipe(model: str, dataset: str) -> Recipe:
    """The settings of the paper's appendix A for `model`.

    Where the paper has none (the digits) or asks for more steps than two cores can do (AlexNet: 390,000), they are
    the demo's own.
    """
    if model == "alexnet":
        recipe = Recipe(20_000, decay_at=(1 / 3, 2 / 3), weight_decay=0.04)
    elif model == "resnet":
        recipe = Recipe(64_000, decay_at=(1 / 2, 3 / 4), momentum=0.9, nesterov=True, weight_decay=1e-4, clipnorm=1.0)
    else:
        # The paper's rate is 1 with averaged momentum, m ← 0.9·m + 0.1·g, which is 0.1 with Keras's m ← 0.9·m + g.
        recipe = Recipe(10_000, momentum=0.9, head_rate=0.1)
    if dataset.startswith("cifar"):
        recipe = dataclasses.replace(recipe, loss_scale=3.0, augment=model != "mlp")
    elif dataset == "digits":
        recipe = dataclasses.replace(recipe, steps=1_000, batch_size=50, hidden=(200, 200))
    return recipe


def in_epochs(recipe: Recipe, num_images: int, multiple: int = 1) -> Recipe:
    """The recipe with the epochs that `epoch_length` gives for `num_images` training images."""
    length, epochs = checkpoints.epoch_length(recipe.steps, num_images // recipe.batch_size, multiple)
    return dataclasses.replace(recipe, steps=length * epochs, steps_per_epoch=length)


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

    def apply(self, grads, trainable_variables=None):
        """Updates the variables, which must be those of `build`."""
        grads = [g if f == 1 else g * f for g, f in zip(grads, self._factors, strict=True)]
        return super().apply(grads, trainable_variables)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "head_rate": self.head_rate}


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


def make_model(
    name: str,
    data: ImageData,
    recipe: Recipe,
    label_smoothing: float,
    precision: str = "float32",
    steps_per_execution: int = 1,
    jit_compile: bool | str = "auto",
) -> keras.Model:
    """Builds and compiles the network for training on hard (0) or smoothed targets."""
    model = build(name, data, recipe, precision)
    compile_model(model, recipe, label_smoothing, steps_per_execution, jit_compile)
    return model


def build(name: str, data: ImageData, recipe: Recipe, precision: str = "float32") -> keras.Model:
    """Builds the network for these images."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        return models.build(
            name, data.x_train, data.num_classes, recipe.depth, recipe.hidden, recipe.weight_decay, recipe.dropout
        )
    finally:
        keras.config.set_dtype_policy(policy)


def compile_model(
    model: keras.Model,
    recipe: Recipe,
    label_smoothing: float,
    steps_per_execution: int = 1,
    jit_compile: bool | str = "auto",
) -> None:
    """Compiles a network, or a distiller of one, for training as the recipe says."""
    model.compile(
        optimizer=make_optimizer(recipe),
        loss=keras_ls.SmoothedSparseCategoricalCrossentropy(label_smoothing, from_logits=True),
        loss_weights=recipe.loss_scale,
        metrics=["accuracy"],
        steps_per_execution=steps_per_execution,
        jit_compile=jit_compile,
    )
    model.optimizer.build(model.trainable_variables)


def train(
    model: keras.Model,
    data: ImageData,
    recipe: Recipe,
    seed: int,
    checkpoint: pathlib.Path,
    callbacks: tuple[keras.callbacks.Callback, ...] = (),
    label: str = "",
    targets: Any = None,
) -> list[dict[str, Any]]:
    """Trains a compiled model, going on from `checkpoint` where that file exists.

    Args:
        model: from `make_model`.
        data: whose training part is used.
        recipe: steps, batches and augmentation.
        seed: of the order and the augmentation of the images.
        checkpoint: written after each epoch, as a whole or not at all.
        callbacks: run before the checkpoint is written, so that what they add to the logs is in the history.
        label: in front of each line of progress.
        targets: in place of the training labels, such as a dict of them and of a teacher's logits.

    Returns:
        The history: a dict of numbers an epoch.
    """
    y = data.y_train if targets is None else targets

    def batches(first_step):
        return Batches(data.x_train, y, recipe.batch_size, seed, recipe.augment, first_step, recipe.shift)

    return checkpoints.fit(model, batches, recipe.steps_per_epoch, recipe.epochs, checkpoint, callbacks, label)
