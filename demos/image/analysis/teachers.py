"""What a trained teacher has left to teach: γ, mutual information and the scatter of its clusters, side by side."""

import math
from typing import Any

import keras
import numpy as np

import keras_ls
from demos.image import data
from demos.image.analysis import clusters
from demos.image.data.common.augment import Augment, crop_and_flip, noisy, shift
from demos.image.data.common.images import ImageData
from demos.image.recipes import Recipe
from demos.kit import cli
from demos.kit.seeds import of_data

NOISE = 0.1
EXAMPLES_PER_CLASS = 300  # the paper's
MEASURES = {
    "gamma": "γ at T = 1",
    "mutual_information": "mutual information",
    "scatter_ratio": "within / between",
    "template_distance_cv": "distance cv",
}


def measure(model: keras.Model, images: ImageData, recipe: Recipe, logits: np.ndarray) -> dict[str, float]:
    """The numbers of `MEASURES`, all of training images, of which `logits` (N, K) are the teacher's.

    The mutual information is under the augmentation of its recipe, or noise of s.d. `NOISE` if it has none.
    """
    augment, generator = _augmentation(recipe), of_data()
    measured = (images.x_train, images.y_train, data.get(images.name).pair)
    information = keras_ls.logit_mutual_information(model, *measured, lambda batch: augment(batch, generator))
    scatter = clusters.measure(model, images)["training"]
    return {
        "gamma": keras_ls.equivalent_smoothing(logits, images.y_train),
        "mutual_information": information,
        "scatter_ratio": scatter["ratio"],
        "template_distance_cv": scatter["template_distance_cv"],
    }


def summarize(measures: dict[str, list[dict[str, float | None]]]) -> list[dict[str, Any]]:
    """Means over seeds, a row for each teacher's name; None where a seed has none."""
    # None is NaN as a float, and so is a mean with it.
    return [
        {"teacher": name, "seeds": len(group)}
        | {measure: float(np.mean(np.array([entry[measure] for entry in group], "float64"))) for measure in MEASURES}
        for name, group in measures.items()
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """The summary as a table of text."""
    cells = [["teacher", *MEASURES.values()]]
    for row in rows:
        cells.append([row["teacher"], *("" if row[name] is None else f"{row[name]:.3g}" for name in MEASURES)])
    return cli.aligned(cells)


def legend(images: ImageData) -> str:
    """What the mutual information may be at most, in a line."""
    pair = data.get(images.name).pair
    examples = sum(min(EXAMPLES_PER_CLASS, int(np.sum(images.y_train == k))) for k in pair)
    names = " and ".join(repr(images.class_names[k]) for k in pair)
    return (
        f"Mutual information of {names} in nats: log 2 = {math.log(2):.2f} where only the class is left, "
        f"log N = {math.log(examples):.2f} where every image is told apart."
    )


def _augmentation(recipe: Recipe) -> Augment:
    if recipe.shift:
        return lambda images, rng: shift(images, rng, recipe.shift)
    return crop_and_flip if recipe.augment else noisy(NOISE)
