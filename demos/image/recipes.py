"""How the image networks are trained: the paper's settings, and the options that replace them."""

import dataclasses
from typing import Any

from demos.image import data, networks
from demos.kit import devices
from demos.kit.cli import Command
from demos.kit.epochs import in_epochs, settle_steps_per_execution
from demos.kit.options import Chosen, Group, Machine, Output, option
from demos.kit.values import count, fraction, not_negative, number, positive

# The depths that the ResNet can have.
depth = number(int, lambda n: n >= 8 and n % 6 == 2, "must be 6·n + 2: 8, 14, 20, …, 56, …")
HIDDEN = "1200 1200; 200 200 for the digits and tables"
DECAY = "divide the rate by 10 after these fractions of the steps; with none it falls linearly to 0"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A network and how it is trained. The defaults are what the networks have in common."""

    model: str = option("mlp", "the network", choices=networks.NAMES)
    depth: int = option(56, "depth of the ResNet, 6·n + 2", depth, metavar="N")
    hidden: tuple[int, ...] = option((1200, 1200), "widths of the MLP's hidden layers", count, shown=HIDDEN)
    steps: int = option(10_000, "updates of the weights", count)
    batch_size: int = option(128, "images per update", count, shown="128, and 50 for the digits and tables")
    learning_rate: float = option(0.1, "learning rate at the first step", positive)
    decay_at: tuple[float, ...] = option((), DECAY, fraction, shown="none; AlexNet 1/3 2/3; ResNet 1/2 3/4", nargs="*")
    head_rate: float = option(1.0, "factor on the last layer's rate", positive, shown="0.1 for the MLP, else 1")
    momentum: float = option(0.0, "momentum of SGD", fraction, shown="0.9; AlexNet 0")
    nesterov: bool = option(False, "whether the momentum is Nesterov's", shown="the ResNet's is")
    weight_decay: float = option(
        0.0, "X of the ½·X·‖w‖² in the loss", not_negative, shown="AlexNet 0.04, ResNet 0.0001"
    )
    clipnorm: float = option(0.0, "bound on the gradient's norm; 0 has none", not_negative, shown="0; ResNet 1")
    loss_scale: float = option(1.0, "factor on the cross-entropy", positive, shown="3 on CIFAR, else 1")
    augment: bool = option(False, "crop and flip training images at random", shown="AlexNet and ResNet on CIFAR do")
    steps_per_epoch: int = 1  # updates of the weights between two checkpoints, a divisor of `steps`
    shift: int = 0  # pixels by which training images are shifted at random at most
    dropout: float = 0.0  # the share of the outputs of each hidden layer of the MLP that is dropped

    @property
    def epochs(self) -> int:
        """The number of epochs."""
        return self.steps // self.steps_per_epoch

    def changes(self) -> dict[str, Any]:
        """The steps, and what is not a default: fields that are added later do not make an earlier run another one."""
        values = {field.name: (getattr(self, field.name), field.default) for field in dataclasses.fields(self)[1:]}
        return {name: value for name, (value, default) in values.items() if name == "steps" or value != default}


# What the paper's networks do not have in common. Where the paper asks for more steps than two cores can do (AlexNet:
# 390,000) they are the demo's own. The MLP's rate in the paper is 1 with averaged momentum, m ← 0.9·m + 0.1·g, which is
# 0.1 with Keras's v ← 0.9·v − rate·g, except that there each gradient keeps the rate of its own step.
PAPER: dict[str, dict[str, Any]] = {
    "mlp": {"momentum": 0.9, "head_rate": 0.1},
    "alexnet": {"steps": 20_000, "decay_at": (1 / 3, 2 / 3), "weight_decay": 0.04},
    "resnet": {"steps": 64_000, "decay_at": (1 / 2, 3 / 4), "momentum": 0.9, "nesterov": True}
    | {"weight_decay": 1e-4, "clipnorm": 1.0},
}
# Steps of each demo on the digits, which are not in the paper.
DIGITS_STEPS = {"calibration": 1_000, "projection": 4_000, "information": 3_000}


def paper_recipe(model: str, dataset: str) -> Recipe:
    """The settings of the paper's appendix A for `model`, and those that training on the data set needs."""
    known = data.get(dataset)
    return Recipe(model, **{**PAPER[model], **known.recipe, "augment": known.crops and model != "mlp"})


def chosen_in_epochs(options: Chosen, num_images: int, demo: str) -> Recipe:
    """As `chosen`, in epochs of about a pass over the images; a ValueError if a batch has more than there are."""
    return in_epochs(chosen(options, demo), num_images, "images", settle_steps_per_execution(options))


def chosen(options: Chosen, demo: str) -> Recipe:
    """The paper's settings, with those that were given in their place; a ValueError if they do not fit together."""
    given = options.given(Recipe)
    recipe = paper_recipe(given.get("model", Recipe.model), options.dataset)
    for name, model in (("depth", "resnet"), ("hidden", "mlp")):
        if name in given and recipe.model != model:
            raise ValueError(f"--{name} is for --model {model}. Received: --model {recipe.model}.")
    if options.dataset == "digits":
        recipe = dataclasses.replace(recipe, steps=DIGITS_STEPS[demo])
    recipe = dataclasses.replace(recipe, **given)
    if recipe.nesterov and not recipe.momentum:
        raise ValueError("--nesterov needs a --momentum above 0.")
    if list(recipe.decay_at) != sorted(set(recipe.decay_at)):
        raise ValueError(f"--decay-at must rise. Received: {list(recipe.decay_at)}.")
    return recipe


def command(name: str, texts: tuple[str | None, str], title: str, fields: type) -> Command:
    """The command of a demo that trains one network for each label smoothing and seed.

    `texts` are what it shows and what its help ends with; `title` is the heading of its own options, the `fields` of a
    dataclass.
    """
    steps = f"{DIGITS_STEPS[name]:,} for the digits, 1,000 for tables; else MLP 10,000, AlexNet 20,000, ResNet 64,000"
    groups = (
        Group("data", data.Options),
        Group(title, fields),
        Group("network and training", Recipe, settled_later=True, shown={"steps": steps}),
        Group("running", Machine),
        devices.GROUP,
        Group("output", Output, shown={"out": f"runs/{name}/DATASET-MODEL"}),
    )
    return Command(f"demos.image.{name}", texts[0] or "", texts[1], groups, f"demos.image.analysis.{name}")
