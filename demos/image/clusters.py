"""How tight and how far apart a network's classes are, as numbers: of each network, over seeds, and as a table."""

import math
from typing import Any

import keras
import numpy as np

import keras_ls
from demos import cli
from demos.image.datasets import DATA_SEED, ImageData
from demos.measures import mean_and_sd

PARTS = ("training", "held-out")
# The rule that --help and results.json state.
MEASURED_IMAGES = 10_000
RULE = (
    "Scatter is of the penultimate activations of all classes, mean squared distances in the span of the differences "
    "of the classes' templates, the paper's plane for all classes at once: within, of an image to the mean of its "
    "class; between, of that to the mean of all; ratio, within / between. Beside it stands the ratio in the whole "
    "space of the activations. Template distance is the mean over pairs of classes, distance cv their s.d. over "
    f"that mean (0 where all are equally distant). Of more than {MEASURED_IMAGES:,} images that many are drawn, always "
    "the same."
)
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
    summary = []
    for part in PARTS:
        for alpha in dict.fromkeys(network["label_smoothing"] for network in networks):
            group = [network["statistics"][part] for network in networks if network["label_smoothing"] == alpha]
            row: dict[str, Any] = {"examples": part, "label_smoothing": alpha, "seeds": len(group)}
            for name in MEASURES:
                row[name] = mean_and_sd([numbers[name] for numbers in group])
            summary.append(row)
    return summary


def table(summary: list[dict[str, Any]]) -> str:
    """The summary as a table of text, one row for each part and label smoothing."""
    rows = [["images", "α", *MEASURES.values()]]
    for row in summary:
        rows.append([row["examples"], f"{row['label_smoothing']:g}", *(_shown(row[name]) for name in MEASURES)])
    return cli.aligned(rows)


def to_json(value: Any) -> Any:
    """The same with None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: to_json(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [to_json(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _drawn(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = np.sort(np.random.default_rng(DATA_SEED).permutation(len(x))[:MEASURED_IMAGES])
    return x[rows], y[rows]


def _shown(number: dict[str, float | None]) -> str:
    """Three significant digits, and as many decimals of the deviation."""
    mean, deviation = number["mean"] or 0.0, number["sd"]
    digits = max(0, 2 - math.floor(math.log10(abs(mean)))) if mean and math.isfinite(mean) else 2
    return f"{mean:.{digits}f}" if deviation is None else f"{mean:.{digits}f} ± {deviation:.{digits}f}"
