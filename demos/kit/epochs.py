"""Epochs of a length that fits: how many steps lie between two checkpoints."""

import dataclasses
import math
from typing import Any, TypeVar

from demos.kit import devices

Recipe = TypeVar("Recipe", bound=Any)

# Steps between two checkpoints where a pass over the data is shorter: a checkpoint costs as much as ten small steps.
SHORTEST_EPOCH = 100


def settle_steps_per_execution(options: Any) -> int:
    """Settles the steps in one call, and returns them: on PyTorch the options are changed to 1, with a note."""
    import keras

    if options.steps_per_execution > 1 and keras.backend.backend() == "torch":
        print("Note: On PyTorch Keras only takes --steps-per-execution 1, which is used.")
        options.steps_per_execution = 1
    return options.steps_per_execution


def in_epochs(recipe: Recipe, num_examples: int, examples: str, multiple: int = 1) -> Recipe:
    """A dataclass with `steps`, `batch_size` and `steps_per_epoch`, whose epochs are about a pass over the data.

    A note says where the epochs take more steps than `steps`. Raises ValueError as `check_batches` does.
    """
    check_batches(recipe, num_examples, examples)
    return in_passes(recipe, num_examples // recipe.batch_size, multiple)


def check_batches(recipe: Recipe, num_examples: int, examples: str) -> None:
    """Raises ValueError for a batch of more examples than there are, or that the devices do not divide.

    `examples` is what the data consist of, in the plural.
    """
    if recipe.batch_size > num_examples:
        raise ValueError(
            f"The batch size must be at most the number of training {examples} ({num_examples}). "
            f"Received: {recipe.batch_size}."
        )
    devices.check(recipe)


def in_passes(recipe: Recipe, pass_length: int, multiple: int = 1) -> Recipe:
    """As `in_epochs`, for a pass over the data of `pass_length` batches."""
    length, epochs = epoch_length(recipe.steps, pass_length, multiple)
    if length * epochs != recipe.steps:
        print(f"Note: {recipe.steps} steps are rounded up to {length * epochs}, {epochs} epochs of {length}.")
    return dataclasses.replace(recipe, steps=length * epochs, steps_per_epoch=length)


def epoch_length(steps: int, pass_length: int, multiple: int = 1) -> tuple[int, int]:
    """How many steps lie between two checkpoints, and how many of those epochs there are.

    An epoch is about a pass over the data of `pass_length` batches, divides `steps` and is a multiple of `multiple`,
    the steps that run in one call. Where no length between half a pass and two passes is both, it is a multiple, and
    the epochs together are a little more than `steps`.
    """
    target = min(steps, max(pass_length, SHORTEST_EPOCH))
    lengths = range(multiple, 2 * target + 1, multiple)
    fitting = [n for n in lengths if steps % n == 0 and 2 * n >= target]
    if fitting:
        length = min(fitting, key=lambda n: abs(n - target))
    else:
        length = math.ceil(steps / round(steps / target) / multiple) * multiple
    return length, math.ceil(steps / length)
