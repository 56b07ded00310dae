"""How much two classes' logits say about the training example, while networks train: what that demo does."""

import dataclasses
import math
import pathlib
from typing import Any

import keras
import numpy as np

import keras_ls
from demos.image import data, recipes
from demos.image.analysis import smoothing
from demos.image.data.common.augment import Augment, crop_and_flip, noisy
from demos.image.data.common.images import ImageData
from demos.image.networks import building
from demos.image.recipes import Recipe
from demos.kit import cli, measures, pictures
from demos.kit.epochs import check_batches, settle_steps_per_execution
from demos.kit.options import Chosen
from demos.kit.pictures import network_name
from demos.kit.runs import publish
from demos.kit.smoothing import Comparison, prepare, seeds_in_words
from demos.kit.trials import History, Trial, run_trials

AUGMENT_NOISE = 0.1
MEASUREMENTS = 200
EXAMPLES_PER_CLASS = 300  # of keras_ls.MutualInformation, and the paper's
FIELDS = {"accuracy": float, "steps": [int], "mutual_information": [(float, None)]}


@dataclasses.dataclass(frozen=True)
class Plan(Comparison):
    """All that was decided before training starts."""

    augment: Augment  # images and a generator to augmented images
    classes: tuple[int, int]  # the two ids
    num_examples: int  # N, images of both that are measured


class AugmentedImages:
    """Images (N, ...) that are augmented when a batch is taken; what is drawn depends on seed and batch alone."""

    def __init__(self, images: np.ndarray, augment: Augment, seed: int):
        self.images, self.augment, self.seed, self.shape = images, augment, seed, images.shape

    def __len__(self):
        return len(self.images)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The images `rows`, in an order that comes only once in training, augmented."""
        return self.augment(self.images[rows], np.random.default_rng([self.seed, *rows.tolist()]))


def plan(options: Chosen) -> Plan:
    """Loads the data and settles everything that can be wrong before training starts."""
    images = data.load_chosen(options)
    classes = choose_classes(options, images)
    recipe = measured_recipe(recipes.chosen(options, "information"), options)
    check_batches(recipe, len(images.x_train), "images")
    if recipe.augment and options.augment_noise:
        raise ValueError("--augment-noise is for images that are not cropped and flipped; add --no-augment.")
    noise = None if recipe.augment else options.augment_noise or AUGMENT_NOISE
    if noise is not None and recipe.batch_size < 2:
        raise ValueError("--batch-size must be at least 2 where noise is drawn for each batch. Received: 1.")
    counts = [int(np.sum(images.y_train == k)) for k in classes]
    if 0 in counts:
        raise ValueError(f"--classes must have training images. Received: {counts} of the two.")
    # Null stands for no noise on other data than the digits, as in runs of earlier versions.
    on_images = options.noise if options.noise or "noise" in options.given() else None
    settings = {"classes": classes, "augment_noise": noise, "noise": on_images}
    comparison = prepare(options, images, recipe, "runs/information", **settings)
    num_examples = sum(min(count, EXAMPLES_PER_CLASS) for count in counts)
    augment = crop_and_flip if noise is None else noisy(noise)
    return Plan(**vars(comparison), augment=augment, classes=classes, num_examples=num_examples)


def choose_classes(options: Chosen, images: ImageData) -> tuple[int, int]:
    """The ids of the two classes, given as names or ids."""
    if options.classes is None:
        return data.get(options.dataset).pair
    numbered = {str(k): k for k in range(images.num_classes)}
    ids = numbered | {name: k for k, name in enumerate(images.class_names)}
    first, second = (ids.get(name) for name in options.classes)
    if first is None or second is None or first == second:
        names = ", ".join(images.class_names[:20])
        raise ValueError(f"--classes must be two different ones of {names}. Received: {' '.join(options.classes)}.")
    return first, second


def measured_recipe(recipe: Recipe, options: Chosen) -> Recipe:
    """The recipe with an epoch from each measurement to the next; steps are rounded up to whole epochs."""
    multiple = settle_steps_per_execution(options)
    every = min(options.measure_every or max(1, recipe.steps // MEASUREMENTS), recipe.steps)
    every = math.ceil(every / multiple) * multiple
    epochs = math.ceil(recipe.steps / every)
    if epochs * every != recipe.steps:
        print(f"Note: {recipe.steps} steps are rounded up to {epochs * every}, {epochs} measurements {every} apart.")
    return dataclasses.replace(recipe, steps=epochs * every, steps_per_epoch=every)


def run(plan: Plan) -> dict[str, Any]:
    """Trains, measures and reports; returns what results.json holds."""
    images, recipe = plan.data, plan.recipe
    class_names = [images.class_names[k] for k in plan.classes]
    pair = " and ".join(map(repr, class_names))
    every = f"{plan.num_examples} of {pair} measured every {recipe.steps_per_epoch} steps"
    print(smoothing.describe(images, recipe, f"{len(images.x_train)} training images, {every}"), flush=True)
    trials = run_trials([trial(plan, *each) for each in plan.networks], plan.run)
    results = plan.results(
        "demos.image.information",
        class_names=class_names,
        num_examples=plan.num_examples,
        log_2=math.log(2),
        log_num_examples=math.log(plan.num_examples),
        trials=trials,
        **of_trials(trials),
        pictures=["information.png", "information.pdf"],
    )
    noise = plan.run.settings["augment_noise"]
    augmented = "crops and flips" if noise is None else f"noise {noise:g}"
    results["title"] = f"{images.name}, {pair}, {recipe.model}, {augmented}, {seeds_in_words(plan.options.seeds)}"
    return publish(plan.run, results, table, figure)


def trial(plan: Plan, alpha: float, seed: int) -> Trial:
    """The training of one network, measured before its first step and after each epoch."""
    images, recipe = plan.data, plan.recipe
    before_training = []

    def augment(batch: np.ndarray) -> np.ndarray:
        # keras_ls seeds NumPy's own generator for each measurement and puts it back.
        return plan.augment(batch, np.random.default_rng(np.random.randint(2**31)))

    measured = (images.x_train, images.y_train, plan.classes, augment)

    def callbacks(model: keras.Model, folder: pathlib.Path) -> list[keras.callbacks.Callback]:
        before_training.append(keras_ls.logit_mutual_information(model, *measured))
        return [keras_ls.MutualInformation(*measured, log_dir=str(folder))]

    def evaluate(model: keras.Model | None, history: History) -> dict[str, Any]:
        values = [*before_training, *(epoch["mutual_information"] for epoch in history)]
        return {
            **smoothing.confidence(building.predict(model, images.x_test), images.y_test),
            "steps": [epoch * recipe.steps_per_epoch for epoch in range(len(values))],
            "mutual_information": values,
            "training_accuracy": [epoch["accuracy"] for epoch in history],
            "loss": [epoch["loss"] for epoch in history],
        }

    x_train = images.x_train if recipe.augment else AugmentedImages(images.x_train, plan.augment, seed)
    return smoothing.trial(plan, alpha, seed, x_train, evaluate=evaluate, fields=FIELDS, callbacks=callbacks)


def of_trials(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """The summary and the series of trained networks."""
    series = [
        {"label_smoothing": alpha, "steps": group[0]["steps"], "values": [one["mutual_information"] for one in group]}
        for alpha, group in measures.by_smoothing(trials).items()
    ]
    return {"summary": summarize(trials), "series": series}


def summarize(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each label smoothing the mean curve over the seeds, its start, highest point and end, and the range there."""
    summary = []
    for alpha, group in measures.by_smoothing(trials).items():
        steps, values = group[0]["steps"], np.array([one["mutual_information"] for one in group], "float64")
        mean = values.mean(axis=0)
        peak = int(np.argmax(mean))
        row: dict[str, Any] = {"label_smoothing": alpha, "seeds": len(group), "peak_step": steps[peak]}
        row["accuracy"] = float(np.mean([one["accuracy"] for one in group]))
        for name, place in (("start", 0), ("peak", peak), ("end", -1)):
            there = values[:, place]
            row[name] = {"mean": float(mean[place]), "min": float(there.min()), "max": float(there.max())}
        summary.append(row)
    return summary


def table(results: dict[str, Any]) -> str:
    """The summary as text, one row per label smoothing, in nats."""
    rows = [["α", "start", "highest", "at step", "end", "end, all seeds", "held-out accuracy %"]]
    for row in results["summary"]:
        start, peak, end = (_shown(row[name]["mean"]) for name in ("start", "peak", "end"))
        span = f"{_shown(row['end']['min'])} to {_shown(row['end']['max'])}"
        accuracy = f"{100 * row['accuracy']:.2f}"
        rows.append([f"{row['label_smoothing']:g}", start, peak, str(row["peak_step"]), end, span, accuracy])
    limits = f"log 2 = {results['log_2']:.2f}, log N = {results['log_num_examples']:.2f}"
    return f"{cli.aligned(rows)}\n\nIn nats: {limits}"


def figure(results: dict[str, Any]) -> Any:
    """Figure 6: a line for each label smoothing over the range of its seeds."""
    curves = {
        network_name(line["label_smoothing"]): (np.array(line["steps"]), np.array(line["values"], "float64"))
        for line in results["series"]
    }
    axes = keras_ls.information_curves(curves, results["num_examples"])
    axes.set_title(pictures.plain(results["title"]))
    return axes.figure


def _shown(number: float | None) -> str:
    return "NaN" if number is None else f"{number:.2f}"
