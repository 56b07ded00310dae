"""How tight and how far apart a network's classes are, as numbers: of each network, over seeds, and as a table."""

import math
from typing import Any

import keras
import numpy as np

import keras_ls
from demos.image.analysis import MEASURED_IMAGES
from demos.image.data.common.images import ImageData
from demos.kit import cli
from demos.kit.measures import by_smoothing, mean_and_sd
from demos.kit.seeds import of_data

PARTS = ("training", "held-out")
MEASURES = {
    "within": "within",
    "between": "between",
    "ratio": "ratio",
    "whole_space_ratio": "ratio, whole space",
    "template_distance": "template distance",
    "template_distance_cv": "distance cv",
}


def parts(data: ImageData) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images and labels by the name of the part."""
    return dict(zip(PARTS, ((data.x_train, data.y_train), (data.x_test, data.y_test)), strict=True))


def measure(model: keras.Model, data: ImageData) -> dict[str, dict[str, float]]:
    """The numbers of `MEASURES` for each part of the data."""
    chosen = {name: _drawn(x, y) for name, (x, y) in parts(data).items()}
    # One call for both: each compiles the network.
    activations = keras_ls.penultimate_activations(model, np.concatenate([x for x, _ in chosen.values()]))
    first = len(chosen[PARTS[0]][0])
    templates = keras_ls.class_templates(model)
    numbers = {}
    for (name, (_, labels)), rows in zip(chosen.items(), (activations[:first], activations[first:]), strict=True):
        span = keras_ls.cluster_statistics(rows, labels, templates)
        numbers[name] = {
            "within": span.within,
            "between": span.between,
            "ratio": span.ratio,
            "whole_space_ratio": keras_ls.cluster_statistics(rows, labels).ratio,
            "template_distance": span.template_distance,
            "template_distance_cv": span.template_distance_cv,
        }
    return numbers


def line(numbers: dict[str, dict[str, float]]) -> str:
    """The ratio of each part, for progress."""
    return ", ".join(f"{part} ratio {numbers[part]['ratio']:.3g}" for part in PARTS)


def summarize(networks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and sample standard deviation (None for one network) over the seeds, for each label smoothing and part."""
    summary: list[dict[str, Any]] = []
    for part in PARTS:
        for alpha, group in by_smoothing(networks).items():
            numbers = [network["statistics"][part] for network in group]
            row = {"examples": part, "label_smoothing": alpha, "seeds": len(group)}
            summary.append(row | {name: mean_and_sd([each[name] for each in numbers]) for name in MEASURES})
    return summary


def table(summary: list[dict[str, Any]]) -> str:
    """The summary as a table of text, one row for each part and label smoothing."""
    rows = [["images", "α", *MEASURES.values()]]
    for row in summary:
        rows.append([row["examples"], f"{row['label_smoothing']:g}", *(_shown(row[name]) for name in MEASURES)])
    return cli.aligned(rows)


def _drawn(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = np.sort(of_data().permutation(len(x))[:MEASURED_IMAGES])
    return x[rows], y[rows]


def _shown(number: dict[str, float | None]) -> str:
    """Three significant digits, and as many decimals of the deviation."""
    if number["mean"] is None:
        return "NaN"
    mean, deviation = number["mean"], number["sd"]
    digits = max(0, 2 - math.floor(math.log10(abs(mean)))) if mean and math.isfinite(mean) else 2
    return f"{mean:.{digits}f}" if deviation is None else f"{mean:.{digits}f} ± {deviation:.{digits}f}"
