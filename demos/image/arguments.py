"""The command-line arguments of the image demos: data, network and training, and how to run."""

import argparse
import dataclasses
from typing import Any

import keras

from demos import cli
from demos.image import datasets, models
from demos.image.training import Recipe, in_epochs, paper_recipe


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `datasets.load` takes."""
    add = parser.add_argument_group("data").add_argument
    add("--dataset", choices=datasets.NAMES, default="digits")
    add(
        "--data-dir",
        help=f"where NAME.npz lies (Keras's form), else ${datasets.DIRECTORY_VARIABLE} is looked at, then "
        "keras.datasets; with --dataset folder it holds train/CLASS/* and test/CLASS/*",
    )
    add(
        "--noise",
        type=cli.not_negative,
        metavar="X",
        help="s.d. of the Gaussian noise added to the pixels once, as a fraction of full scale "
        f"(default: {datasets.DIGITS_NOISE} for the digits, else 0)",
    )
    add(
        "--image-size",
        type=cli.count,
        default=32,
        metavar="N",
        help="height and width to which images from folders are resized (default: 32)",
    )


def add_training_arguments(parser: argparse.ArgumentParser, digits_steps: int = 1_000) -> None:
    """Adds the network and each field of `Recipe` that a user may set; `digits_steps` is for the help alone."""
    add = parser.add_argument_group("network and training").add_argument
    add("--model", choices=models.MODELS, default="mlp")
    add("--depth", type=depth, metavar="N", help="of the ResNet: 6·n + 2 (default: 56)")
    add(
        "--hidden",
        type=cli.count,
        nargs="+",
        metavar="N",
        help="widths of the MLP's hidden layers (default: 1200 1200)",
    )
    add(
        "--steps",
        type=cli.count,
        metavar="N",
        help=f"updates of the weights (default: {digits_steps:,} for the digits; else MLP 10,000, AlexNet 20,000, "
        "ResNet 64,000)",
    )
    add("--batch-size", type=cli.count, metavar="N", help="(default: 128, and 50 for the digits)")
    add("--learning-rate", type=cli.positive, metavar="X", help="at the first step (default: 0.1)")
    add(
        "--decay-at",
        type=cli.fraction,
        nargs="*",
        metavar="FRACTION",
        help="divide the rate by 10 after these fractions of the steps; with none it falls linearly to 0",
    )
    add("--head-rate", type=cli.positive, metavar="X", help="factor on the learning rate of the last layer")
    add("--momentum", type=cli.fraction, metavar="X", help="of SGD")
    add("--nesterov", action=argparse.BooleanOptionalAction, help="whether the momentum is Nesterov's")
    add("--weight-decay", type=cli.not_negative, metavar="X", help="X of the ½·X·‖w‖² in the loss")
    add("--clipnorm", type=cli.not_negative, metavar="X", help="bound on the norm of the whole gradient; 0 has none")
    add(
        "--loss-scale", type=cli.positive, metavar="X", help="factor on the cross-entropy (default: 3 on CIFAR, else 1)"
    )
    add(
        "--augment",
        action=argparse.BooleanOptionalAction,
        help="crop and flip training images at random (default: AlexNet and ResNet on CIFAR do)",
    )


def add_running_arguments(parser: argparse.ArgumentParser, out: str) -> None:
    """Adds how to run: precision, compilation, where results go."""
    add = parser.add_argument_group("running").add_argument
    add("--precision", choices=("float32", "mixed_bfloat16"), default="float32")
    add(
        "--steps-per-execution",
        type=cli.count,
        default=1,
        metavar="N",
        help="steps in one call: faster on a GPU (default: 1)",
    )
    add("--jit-compile", choices=("auto", "yes", "no"), default="auto", help="XLA (default: Keras decides)")
    add("--out", help=f"directory for results, checkpoints and logs (default: {out})")
    add(
        "--resume",
        action="store_true",
        help="go on with what lies in --out, each unfinished run from its last epoch; without it an earlier run there "
        "is moved aside",
    )


def make_recipe(arguments: argparse.Namespace, num_images: int) -> Recipe:
    """The paper's settings, with those that were given in their place.

    Args:
        arguments: with what the functions above add. `steps_per_execution` becomes 1 on PyTorch, with a note.
        num_images: for training.

    Raises:
        ValueError: where the settings do not fit together.
    """
    settle_steps_per_execution(arguments)
    recipe = paper_recipe(arguments.model, arguments.dataset)
    names = [field.name for field in dataclasses.fields(recipe)]
    given: dict[str, Any] = {name: getattr(arguments, name, None) for name in names}
    given = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items() if v is not None}
    recipe = dataclasses.replace(recipe, **given)
    if recipe.nesterov and not recipe.momentum:
        raise ValueError("--nesterov needs a --momentum above 0.")
    if list(recipe.decay_at) != sorted(set(recipe.decay_at)):
        raise ValueError(f"--decay-at must rise. Received: {list(recipe.decay_at)}.")
    return settle_epochs(recipe, num_images, arguments.steps_per_execution)


def settle_steps_per_execution(arguments: argparse.Namespace) -> None:
    """Makes `steps_per_execution` 1 on PyTorch, with a note."""
    if arguments.steps_per_execution > 1 and keras.backend.backend() == "torch":
        print("Note: Keras takes --steps-per-execution 1 alone on PyTorch; 1 is used.")
        arguments.steps_per_execution = 1


def settle_epochs(recipe: Recipe, num_images: int, steps_per_execution: int) -> Recipe:
    """The recipe with its epochs; a note says where they take more steps than were asked for.

    Raises:
        ValueError: where a batch is more than there are images.
    """
    if recipe.batch_size > num_images:
        raise ValueError(
            f"--batch-size must be at most the number of training images ({num_images}). Received: {recipe.batch_size}."
        )
    settled = in_epochs(recipe, num_images, steps_per_execution)
    if settled.steps != recipe.steps:
        print(
            f"Note: {recipe.steps} steps are rounded up to {settled.steps}, "
            f"{settled.epochs} epochs of {settled.steps_per_epoch}."
        )
    return settled


def depth(text: str) -> int:
    """A depth that the ResNet can have."""
    return cli.checked(int, text, lambda n: n >= 8 and n % 6 == 2, "must be 6·n + 2: 20, 32, 44, 56")
