"""How a translator is trained: the network, the loss, the optimizer."""

from typing import Any

import keras
import numpy as np

from demos.sequence.objective import TokenObjective, WarmUpThenInverseSquareRoot, token_loss
from demos.sequence.translator import Translator
from demos.translation.recipe import Recipe

# The width, the blocks of the encoder and of the decoder, the heads; the base is that of Vaswani et al. 2017.
SIZES = {"tiny": (128, 2, 4), "small": (256, 3, 4), "base": (512, 6, 8)}


def build(recipe: Recipe, vocabulary_size: int, precision: str = "float32") -> Translator:
    """The translator of a recipe, with fresh weights."""
    return Translator(vocabulary_size, *SIZES[recipe.size], recipe.dropout, dtype=precision)


def make_objective(
    network: Translator,
    recipe: Recipe,
    label_smoothing: float,
    labels: np.ndarray,
    fused_output: bool = False,
    **machine: Any,
) -> TokenObjective:
    """Compiles a translator for training as the recipe says; `labels` are all labels of the training data.

    `machine` has the arguments of `keras.Model.compile` that say how steps are run.
    """
    loss = token_loss(recipe.smoothing_kind, label_smoothing, network.vocabulary_size, labels)
    objective = TokenObjective(network, loss, fused_output)
    schedule = WarmUpThenInverseSquareRoot(recipe.learning_rate, min(recipe.warmup_steps, recipe.steps))
    optimizer = keras.optimizers.Adam(schedule, beta_2=0.98, global_clipnorm=recipe.clipnorm or None)
    objective.compile(optimizer, **machine)
    optimizer.build(objective.trainable_variables)
    return objective
