"""Networks trained once for each label smoothing and seed: planned, trained, resumed, and found again on disk."""

import argparse
import dataclasses
import math
import pathlib
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from demos import records
from demos.image import arguments, datasets, evaluation, training

# What may change when a run is resumed: it says what to run or show, not how a network is trained.
FREE_SETTINGS = {
    "label_smoothing",
    "seeds",
    "out",
    "resume",
    "data_dir",
    "calibration_freq",
    "classes",
    "examples_per_class",
    "steps_per_execution",
    "jit_compile",
}
JIT_COMPILE: dict[str, bool | str] = {"auto": "auto", "yes": True, "no": False}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that was decided before training starts.

    Attributes:
        options: the command line.
        data: what is learned.
        recipe: how.
        out: where results go.
        settings: everything that a result depends on besides α and the seed.
    """

    options: argparse.Namespace
    data: datasets.ImageData
    recipe: training.Recipe
    out: pathlib.Path
    settings: dict[str, Any]

    def describe(self) -> str:
        """The data, the network and the machine in a line."""
        data, recipe = self.data, self.recipe
        return (
            f"{data.name}: {len(data.x_train)} training and {len(data.x_test)} held-out images of "
            f"{'×'.join(map(str, data.x_train.shape[1:]))}, {data.num_classes} classes. {self.options.model}, "
            f"{recipe.steps} steps of {recipe.batch_size}, {keras.backend.backend()} on {records.device()}."
        )

    def title(self) -> str:
        """The data, the network and the number of seeds."""
        seeds = "1 seed" if len(self.options.seeds) == 1 else f"{len(self.options.seeds)} seeds"
        return f"{self.data.name}, {self.options.model}, {seeds}"


Watch = Callable[[Experiment, pathlib.Path], keras.callbacks.Callback]


def load_data(options: argparse.Namespace) -> datasets.ImageData:
    """Loads the data set that the command line names; `options.noise` becomes a number."""
    if options.noise is None:
        options.noise = datasets.DIGITS_NOISE if options.dataset == "digits" else 0.0
    data = datasets.load(options.dataset, options.data_dir, options.noise, options.image_size)
    if len(data.x_test) < 2:
        raise ValueError("Temperature scaling needs at least 2 held-out images, half of them to fit. Received: 1.")
    return data


def prepare(options: argparse.Namespace, data: datasets.ImageData, parent: str) -> Experiment:
    """Settles how networks are trained, and opens the output directory, `parent`/DATASET-MODEL unless --out says so.

    Raises:
        ValueError: where arguments, data or an earlier run do not fit.
    """
    for name in ("label_smoothing", "seeds"):
        setattr(options, name, list(dict.fromkeys(getattr(options, name))))
    recipe = arguments.make_recipe(options, len(data.x_train))
    settings = {
        **{name: value for name, value in vars(options).items() if name not in FREE_SETTINGS},
        **dataclasses.asdict(recipe),
        "data": data.fingerprint(),
        "backend": keras.backend.backend(),
    }
    out = output_directory(options, data, parent)
    records.open_directory(out, settings, options.resume)
    return Experiment(options, data, recipe, out, settings)


def output_directory(options: argparse.Namespace, data: datasets.ImageData, parent: str) -> pathlib.Path:
    """Where the command line wants its results."""
    return pathlib.Path(options.out or f"{parent}/{data.name}-{options.model}")


def directory(out: pathlib.Path, alpha: float, seed: int) -> pathlib.Path:
    """Where one network of a run in `out` lies, with its result and logs."""
    return out / f"alpha-{alpha!r}" / f"seed-{seed}"


def read_result(out: pathlib.Path, alpha: float, seed: int) -> dict[str, Any]:
    """The numbers of a network that was trained to its end."""
    return records.read_json(directory(out, alpha, seed) / "result.json")


def train_and_evaluate(experiment: Experiment, alpha: float, seed: int, watch: Watch) -> dict[str, Any]:
    """One network, or what is left of it to train: its numbers; `model.keras` and `result.json` lie in its directory.

    Args:
        experiment: what is trained.
        alpha: label smoothing.
        seed: of the weights and the order of the images.
        watch: the experiment and the directory to a callback; not asked where there is nothing left to train.
    """
    options, data = experiment.options, experiment.data
    folder = directory(experiment.out, alpha, seed)
    path, checkpoint = folder / "result.json", folder / "checkpoint.npz"
    if path.exists():
        return read_result(experiment.out, alpha, seed)
    start = time.monotonic()
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = training.make_model(
        options.model,
        data,
        experiment.recipe,
        alpha,
        options.precision,
        options.steps_per_execution,
        JIT_COMPILE[options.jit_compile],
    )
    callbacks = (watch(experiment, folder),)
    history = training.train(model, data, experiment.recipe, seed, checkpoint, callbacks, f"α={alpha:g} seed={seed}")
    logits = np.asarray(model.predict(data.x_test, batch_size=500, verbose=0), "float32")
    result = {
        "label_smoothing": alpha,
        "seed": seed,
        **evaluation.evaluate(logits, data.y_test),
        "seconds": time.monotonic() - start,
        **records.provenance(),
        "history": [{k: v if math.isfinite(v) else None for k, v in epoch.items()} for epoch in history],
    }
    model.save(folder / "model.keras")
    records.write_json(path, result)
    checkpoint.unlink()
    return result
