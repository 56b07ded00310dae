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

RANK_TOLERANCE = 1e-6
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
    "means_distance_cv": "means' distance cv",
    "distances_correlation": "correlation",
    "variability": "variability",
    "cdnv": "cdnv",
    "means_angle": "angle",
    "self_duality": "self-duality",
}


def parts(data: ImageData) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images and labels by the name of the part."""
    return {"training": (data.x_train, data.y_train), "held-out": (data.x_test, data.y_test)}


def measure(model: keras.Model, data: ImageData, triples: Sequence[Sequence[int]] = ()) -> dict[str, dict[str, Any]]:
    """The numbers of `MEASURES` for each part of the data, and "first_two_over_others" of each triple of classes.

    The latter are of the class means in the whole space, and once more as the logits see them, "in_span".
    """
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
        classes = np.unique(labels)
        means = np.stack([rows[labels == k].mean(axis=0, dtype="float64") for k in classes])
        seen = in_span(means, templates)
        distances, of_templates = pair_distances(seen), pair_distances(templates[classes])
        numbers[part] = {
            **{name: getattr(span, name) for name in IN_SPAN},
            "means_distance_cv": _ratio(np.std(distances), np.mean(distances)),
            "distances_correlation": _ratio(
                np.mean((distances - np.mean(distances)) * (of_templates - np.mean(of_templates))),
                np.std(distances) * np.std(of_templates),
            ),
            "whole_space_ratio": whole.ratio,
            **{name: getattr(collapse, name) for name in COLLAPSE},
            "first_two_over_others": of_triples(triples, classes, means),
            "first_two_over_others_in_span": of_triples(triples, classes, seen),
        }
    return numbers


def in_span(rows: np.ndarray, templates: np.ndarray) -> np.ndarray:
    """Coordinates of activations (N, D) in the span of the differences of templates (K, D + 1): what the logits see."""
    if not np.isfinite(templates).all():  # of a broken network
        return np.full((len(rows), 1), np.nan)
    differences = templates - templates.mean(axis=0)
    _, sizes, directions = np.linalg.svd(differences, full_matrices=False)
    extended = np.pad(rows, ((0, 0), (0, 1)), constant_values=1.0)
    return extended @ directions[sizes > RANK_TOLERANCE * sizes[0]].T


def pair_distances(points: np.ndarray) -> np.ndarray:
    """The distances of all pairs of points (N, D), in the order of `itertools.combinations`."""
    return np.array([math.dist(*pair) for pair in itertools.combinations(points, 2)])


def of_triples(triples: Sequence[Sequence[int]], classes: np.ndarray, means: np.ndarray) -> list[float | None]:
    """`first_two_over_others` of the means of each triple of classes; None if one of them is not there."""
    of_class = dict(zip(classes.tolist(), means, strict=True))
    return [
        first_two_over_others([of_class[k] for k in ids]) if set(ids) <= of_class.keys() else None for ids in triples
    ]


def first_two_over_others(means: Sequence[np.ndarray]) -> float:
    """The distance of the first two of three points over the mean of the other two; 1 if all are equally distant.

    NaN if all three are one point, as where a network has died.
    """
    first, *others = (math.dist(*pair) for pair in itertools.combinations(means, 2))
    return first / (sum(others) / 2) if any(others) else math.nan


def _ratio(value: float, size: float) -> float:
    """NaN where the size is 0, as where all classes are one point."""
    return float(value / size) if size else math.nan


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
