"""What a trained network is measured by, with temperatures that never saw the images they are judged on."""

from typing import Any

import keras
import numpy as np

import keras_ls
from demos import measures
from demos.image.datasets import DATA_SEED

# The rule that --help and results.json state.
RULE = (
    "The held-out images are cut into two halves at random. Each half is scaled with the temperature that was fitted "
    "on the other one, so every number is over all held-out images and no temperature is judged on its own data. "
    "The temperature shown is the mean of the two."
)
COLUMNS = (
    measures.Column("accuracy %", "accuracy", 2, 100),
    measures.Column("NLL", "nll", 4),
    measures.Column("ECE", "ece", 4),
    measures.Column("temperature", "temperature", 3),
    measures.Column("ECE scaled", "ece_scaled", 4),
)
MEASURES = ("accuracy", "nll", "ece", "temperature", "nll_scaled", "ece_scaled")


def evaluate(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Accuracy, NLL (nats) and ECE (15 bins), before and after temperature scaling, with their reliability curves.

    Args:
        logits: (N, K) of the held-out images, N of at least 2.
        labels: (N,) class ids.

    Returns:
        The numbers of `MEASURES`, "temperatures" (of the two halves) and the curves "curve" and "curve_scaled" as
        dicts that `demos.measures.curve_from_json` turns back.
    """
    halves = np.array_split(np.random.default_rng(DATA_SEED).permutation(len(labels)), 2)
    scaled = np.empty_like(logits)
    temperatures = []
    for mine, other in (halves, halves[::-1]):
        scaling = keras_ls.TemperatureScaling().fit(logits[other], labels[other])
        temperatures.append(float(keras.ops.convert_to_numpy(scaling.temperature)))
        scaled[mine] = logits[mine] / temperatures[-1]
    before, after = (measures.calibration(z, labels) for z in (logits, scaled))
    return {
        "accuracy": float(np.mean(logits.argmax(-1) == labels)),
        "nll": before["nll"],
        "ece": before["ece"],
        "temperature": float(np.mean(temperatures)),
        "nll_scaled": after["nll"],
        "ece_scaled": after["ece"],
        "temperatures": temperatures,
        "curve": before["curve"],
        "curve_scaled": after["curve"],
    }


def summarize(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The means over the seeds (`measures.summarize`) with the curves of all their images, for each label smoothing."""
    summary = measures.summarize(results, MEASURES)
    for row, group in zip(summary, measures.by_smoothing(results).values(), strict=True):
        for name in ("curve", "curve_scaled"):
            row[name] = measures.curve_to_json(measures.pool(result[name] for result in group))
    return summary


def table(summary: list[dict[str, Any]]) -> str:
    """The summary as a table of text, one row for each label smoothing."""
    return measures.table(summary, COLUMNS)
