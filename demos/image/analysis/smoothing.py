"""Image networks trained once for each label smoothing and seed: planned, described and trained."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras

from demos.image.analysis import evaluation
from demos.image.data.common.images import ImageData
from demos.image.networks import building
from demos.image.recipes import Recipe
from demos.kit.options import Chosen, Machine
from demos.kit.runs import device, open_run
from demos.kit.smoothing import Comparison, directory
from demos.kit.trials import History, Trial, run_trials

Callbacks = Callable[[keras.Model, pathlib.Path], Sequence[keras.callbacks.Callback]]


def prepare(options: Chosen, images: ImageData, recipe: Recipe, parent: str, **settings: Any) -> Comparison:
    """Opens the output directory of a run; `settings` stand in place of what the command line says.

    Raises:
        ValueError: If an earlier run there had other settings.
    """
    settings = {**options.settings(), **dataclasses.asdict(recipe), **settings}
    settings |= {"data": images.fingerprint(), "backend": keras.backend.backend()}
    out = output_directory(options, images, recipe, parent)
    return Comparison(options, images, recipe, open_run(out, settings, options.resume, options.defaults()))


def output_directory(options: Chosen, images: ImageData, recipe: Recipe, parent: str) -> pathlib.Path:
    """Where the command line wants its results: `parent`/DATASET-MODEL unless --out says so."""
    return pathlib.Path(options.out or f"{parent}/{images.name}-{recipe.model}")


def describe(images: ImageData, recipe: Recipe, shown: str | None = None) -> str:
    """The data, the network and the machine in a line; `shown` stands in place of the numbers of images."""
    sizes = (
        f"{len(images.x_train)} training and {len(images.x_test)} held-out images of "
        f"{'×'.join(map(str, images.x_train.shape[1:]))}, {images.num_classes} classes"
    )
    return (
        f"{images.name}: {shown or sizes}. {recipe.model}, {recipe.steps} steps of {recipe.batch_size}, "
        f"{keras.backend.backend()} on {device()}."
    )


def train(comparison: Comparison, callbacks: Callbacks) -> list[dict[str, Any]]:
    """Trains each network; the results are its accuracy and calibration on the held-out images."""
    images = comparison.data

    def evaluate(model: keras.Model | None, history: History) -> dict[str, Any]:
        return evaluation.evaluate(building.predict(model, images.x_test), images.y_test)

    judged: dict[str, Any] = {"evaluate": evaluate, "fields": evaluation.FIELDS, "callbacks": callbacks}
    return run_trials([trial(comparison, *each, **judged) for each in comparison.networks], comparison.run)


def trial(comparison: Comparison, alpha: float, seed: int, x_train: Any = None, **judged: Any) -> Trial:
    """The training of one network, on `x_train` if given, else on the data; `judged` are further fields of `Trial`."""
    images, recipe, machine = comparison.data, comparison.recipe, comparison.options.read(Machine)
    x = images.x_train if x_train is None else x_train

    def build() -> tuple[keras.Model, keras.Model]:
        model = building.build(images.x_train, images.num_classes, recipe, machine.precision)
        building.compile_model(model, recipe, alpha, **machine.compilation())
        return model, model

    return Trial(
        name=directory(alpha, seed),
        seed=seed,
        facts={"label_smoothing": alpha, "seed": seed},
        build=build,
        batches=lambda first_step: building.batches_of(x, images.y_train, recipe, seed, first_step),
        steps_per_epoch=recipe.steps_per_epoch,
        epochs=recipe.epochs,
        label=f"α={alpha:g} seed={seed}",
        **judged,
    )
