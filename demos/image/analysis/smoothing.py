"""Networks trained once for each label smoothing and seed: planned, trained, and found again on disk."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from demos.image.data.common.images import ImageData
from demos.image.networks import building
from demos.image.recipes import Recipe
from demos.kit.options import Chosen, Machine
from demos.kit.runs import Run, device, open_run
from demos.kit.trials import History, Trial

Callbacks = Callable[[keras.Model, pathlib.Path], Sequence[keras.callbacks.Callback]]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that was decided before training starts."""

    options: Chosen  # the command line
    images: ImageData  # what is learned
    recipe: Recipe  # how
    run: Run  # where results go

    @property
    def networks(self) -> list[tuple[float, int]]:
        """Label smoothing and seed of each network."""
        return [(alpha, seed) for seed in self.options.seeds for alpha in self.options.label_smoothing]

    def describe(self) -> str:
        """The data, the network and the machine in a line."""
        images, recipe = self.images, self.recipe
        return (
            f"{images.name}: {len(images.x_train)} training and {len(images.x_test)} held-out images of "
            f"{'×'.join(map(str, images.x_train.shape[1:]))}, {images.num_classes} classes. {recipe.model}, "
            f"{recipe.steps} steps of {recipe.batch_size}, {keras.backend.backend()} on {device()}."
        )

    def title(self) -> str:
        """The data, the network and the number of seeds."""
        spread = " (mean ± s.d.)" if len(self.options.seeds) > 1 else ""
        return f"{self.images.name}, {self.recipe.model}, {seeds_in_words(self.options.seeds)}{spread}"

    def results(self, name: str, **parts: Any) -> dict[str, Any]:
        """What results.json of a demo holds, besides what `runs.publish` adds."""
        options = self.options
        common = {"label_smoothing": options.label_smoothing, "seeds": options.seeds, "title": self.title()}
        return {"experiment": f"demos.image.{name}", **common, **parts}


def prepare(options: Chosen, images: ImageData, recipe: Recipe, parent: str, **settings: Any) -> Experiment:
    """Opens the output directory, `parent`/DATASET-MODEL unless --out says so.

    Args:
        options: The command line.
        images: What is learned.
        recipe: How.
        parent: Where output directories are by default.
        **settings: What results depend on, in place of what the command line says.

    Raises:
        ValueError: If an earlier run there had other settings.
    """
    settings = {**options.settings(), **dataclasses.asdict(recipe), **settings}
    settings |= {"data": images.fingerprint(), "backend": keras.backend.backend()}
    out = output_directory(options, images, recipe, parent)
    return Experiment(options, images, recipe, open_run(out, settings, options.resume, options.defaults()))


def output_directory(options: Chosen, images: ImageData, recipe: Recipe, parent: str) -> pathlib.Path:
    """Where the command line wants its results."""
    return pathlib.Path(options.out or f"{parent}/{images.name}-{recipe.model}")


def name(alpha: float, seed: int) -> str:
    """The directory of a network in its run."""
    return f"alpha-{alpha!r}/seed-{seed}"


def trial(
    experiment: Experiment,
    alpha: float,
    seed: int,
    evaluate: Callable[[keras.Model, History], dict[str, Any]],
    fields: Mapping[str, Any],
    callbacks: Callbacks,
    x_train: Any = None,
) -> Trial:
    """The training of one network.

    Args:
        experiment: What it is part of.
        alpha: The label smoothing.
        seed: The seed of the weights and the order of the images.
        evaluate: The network and the history of its training to numbers.
        fields: What these are, as `records.read_json` takes it.
        callbacks: The network and its directory to the callbacks of the training.
        x_train: Training images in place of the data's; they need not be an array.
    """
    images, recipe, machine = experiment.images, experiment.recipe, experiment.options.read(Machine)
    x = images.x_train if x_train is None else x_train

    def build() -> tuple[keras.Model, keras.Model]:
        model = building.build(images.x_train, images.num_classes, recipe, machine.precision)
        building.compile_model(model, recipe, alpha, **machine.compilation())
        return model, model

    return Trial(
        name(alpha, seed),
        seed,
        {"label_smoothing": alpha, "seed": seed},
        build,
        lambda first_step: building.batches_of(x, images.y_train, recipe, seed, first_step),
        recipe.steps_per_epoch,
        recipe.epochs,
        evaluate,
        fields,
        callbacks,
        f"α={alpha:g} seed={seed}",
    )


def seeds_in_words(seeds: Sequence[int]) -> str:
    """How many seeds there are."""
    return "1 seed" if len(seeds) == 1 else f"{len(seeds)} seeds"
