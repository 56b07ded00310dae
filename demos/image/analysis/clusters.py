"""How tight and how far apart a network's classes are, as numbers: of each network, over seeds, and as a table."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

import keras_ls
from demos.image.analysis import MEASURED_IMAGES
from demos.image.data.common.images import ImageData
from demos.kit import cli, measures
from demos.kit.seeds import of_data

# In the span of the templates' differences, as `keras_ls.cluster_statistics` calls them.
IN_SPAN = ("within", "between", "ratio", "template_distance", "template_distance_cv")
# In the whole space, as `keras_ls.neural_collapse` calls them.
COLLAPSE = ("variability", "cdnv", "means_angle", "self_duality")
MEASURES = {
    "within": "within",
    "between": "between",
    "ratio": "ratio",
    "whole_space_ratio": "ratio, whole space",
    "template_distance": "template distance",
    "template_distance_cv": "distance cv",
    "variability": "variability",
    "cdnv": "cdnv",
    "means_angle": "angle",
    "self_duality": "self-duality",
}


def parts(data: ImageData) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images and labels by the name of the part."""
    return {"training": (data.x_train, data.y_train), "held-out": (data.x_test, data.y_test)}


def measure(model: keras.Model, data: ImageData, triples: Sequence[Sequence[int]] = ()) -> dict[str, dict[str, Any]]:
    """The numbers of `MEASURES` for each part of the data, and "first_two_over_others" of each triple of classes."""
    drawn = [np.sort(of_data().permutation(len(x))[:MEASURED_IMAGES]) for x, _ in parts(data).values()]
    chosen = [(x[rows], y[rows]) for (x, y), rows in zip(parts(data).values(), drawn, strict=True)]
    # One call for both: each compiles the network.
    activations = keras_ls.penultimate_activations(model, np.concatenate([x for x, _ in chosen]))
    templates = keras_ls.class_templates(model)
    numbers = {}
    rows_of_parts = np.split(activations, [len(drawn[0])])
    for part, rows, (_, labels) in zip(parts(data), rows_of_parts, chosen, strict=True):
        span = keras_ls.cluster_statistics(rows, labels, templates)
        whole = keras_ls.cluster_statistics(rows, labels)
        collapse = keras_ls.neural_collapse(rows, labels, templates)
        numbers[part] = {
            **{name: getattr(span, name) for name in IN_SPAN},
            "whole_space_ratio": whole.ratio,
            **{name: getattr(collapse, name) for name in COLLAPSE},
            "first_two_over_others": [
                first_two_over_others([rows[labels == k].mean(axis=0) for k in ids])
                if set(ids) <= set(labels)
                else None
                for ids in triples
            ],
        }
    return numbers


def first_two_over_others(means: Sequence[np.ndarray]) -> float:
    """The distance of the first two of three points over the mean of the other two; 1 if all are equally distant.

    NaN if all three are one point, as where a network has died.
    """
    first, *others = (math.dist(*pair) for pair in itertools.combinations(means, 2))
    return first / (sum(others) / 2) if any(others) else math.nan


def summarize(networks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and sample standard deviation (None for one network) over the seeds, for each part and label smoothing."""
    return [
        {"examples": part, **row}
        for part in networks[0]["statistics"]
        for row in measures.summarize([network | network["statistics"][part] for network in networks], MEASURES)
    ]


def table(summary: list[dict[str, Any]]) -> str:
    """The summary as a table of text, one row for each part and label smoothing."""
    there = {name: heading for name, heading in MEASURES.items() if name in summary[0]}  # earlier results have fewer
    rows = [["images", "α", *there.values()]]
    for row in summary:
        rows.append([row["examples"], f"{row['label_smoothing']:g}", *(_shown(**row[name]) for name in there)])
    return cli.aligned(rows)


def _shown(mean: float | None, sd: float | None) -> str:
    """Three significant digits, and as many decimals of the deviation."""
    if mean is None:
        return "NaN"
    digits = max(0, 2 - math.floor(math.log10(abs(mean)))) if mean and math.isfinite(mean) else 2
    return f"{mean:.{digits}f}" if sd is None else f"{mean:.{digits}f} ± {sd:.{digits}f}"
