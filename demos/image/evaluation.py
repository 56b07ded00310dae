"""What a trained network is measured by, with temperatures that never saw the images they are judged on."""

import math
from typing import Any

import keras
import numpy as np

import keras_ls
from demos import cli
from demos.image.datasets import DATA_SEED

NUM_BINS = 15
# The rule that --help and results.json state.
RULE = (
    "The held-out images are cut into two halves at random. Each half is scaled with the temperature that was fitted "
    "on the other one, so every number is over all held-out images and no temperature is judged on its own data. "
    "The temperature shown is the mean of the two."
)
MEASURES = ("accuracy", "nll", "ece", "temperature", "nll_scaled", "ece_scaled")


def evaluate(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Accuracy, NLL (nats) and ECE (15 bins), before and after temperature scaling, with their reliability curves.

    Args:
        logits: (N, K) of the held-out images, N of at least 2.
        labels: (N,) class ids.

    Returns:
        The numbers of `MEASURES`, "temperatures" (of the two halves) and the curves "curve" and "curve_scaled" as
        dicts that `curve_from_json` turns back.
    """
    halves = np.array_split(np.random.default_rng(DATA_SEED).permutation(len(labels)), 2)
    scaled = np.empty_like(logits)
    temperatures = []
    for mine, other in (halves, halves[::-1]):
        scaling = keras_ls.TemperatureScaling().fit(logits[other], labels[other])
        temperatures.append(float(keras.ops.convert_to_numpy(scaling.temperature)))
        scaled[mine] = logits[mine] / temperatures[-1]
    curves = [keras_ls.reliability_curve(labels, z, num_bins=NUM_BINS, from_logits=True) for z in (logits, scaled)]
    return {
        "accuracy": float(np.mean(logits.argmax(-1) == labels)),
        "nll": _nll(logits, labels),
        "ece": float(curves[0].ece()),
        "temperature": float(np.mean(temperatures)),
        "nll_scaled": _nll(scaled, labels),
        "ece_scaled": float(curves[1].ece()),
        "temperatures": temperatures,
        "curve": curve_to_json(curves[0]),
        "curve_scaled": curve_to_json(curves[1]),
    }


def summarize(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and sample standard deviation (None for one run) over the seeds, for each label smoothing."""
    summary = []
    for alpha in dict.fromkeys(run["label_smoothing"] for run in runs):
        group = [run for run in runs if run["label_smoothing"] == alpha]
        row: dict[str, Any] = {"label_smoothing": alpha, "seeds": len(group)}
        for measure in MEASURES:
            values = [run[measure] for run in group]
            deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
            row[measure] = {"mean": float(np.mean(values)), "sd": deviation}
        for name in ("curve", "curve_scaled"):
            row[name] = curve_to_json(pool([curve_from_json(run[name]) for run in group]))
        summary.append(row)
    return summary


def table(summary: list[dict[str, Any]]) -> str:
    """The summary as a table of text, one row for each label smoothing."""
    rows = [["α", "accuracy %", "NLL", "ECE", "temperature", "ECE scaled"]]
    for row in summary:
        rows.append(
            [
                f"{row['label_smoothing']:g}",
                _mean_and_deviation(row["accuracy"], 2, 100),
                _mean_and_deviation(row["nll"], 4),
                _mean_and_deviation(row["ece"], 4),
                _mean_and_deviation(row["temperature"], 3),
                _mean_and_deviation(row["ece_scaled"], 4),
            ]
        )
    return cli.aligned(rows)


def pool(curves: list[keras_ls.ReliabilityCurve]) -> keras_ls.ReliabilityCurve:
    """The reliability curve of all examples behind several curves of equal bins."""
    count = np.sum([c.count for c in curves], axis=0)
    with np.errstate(invalid="ignore"):  # 0/0 in an empty bin is the NaN that marks it
        confidence, accuracy = (
            np.sum([np.nan_to_num(getattr(c, name)) * c.count for c in curves], axis=0) / count
            for name in ("confidence", "accuracy")
        )
    return keras_ls.ReliabilityCurve(curves[0].bin_edges, confidence, accuracy, count)


def curve_to_json(curve: keras_ls.ReliabilityCurve) -> dict[str, list[float | None]]:
    """Lists of numbers, None in empty bins (JSON has no NaN)."""

    def numbers(values):
        return [None if math.isnan(value) else float(value) for value in np.asarray(values)]

    return {name: numbers(getattr(curve, name)) for name in ("bin_edges", "confidence", "accuracy", "count")}


def curve_from_json(lists: dict[str, list[float | None]]) -> keras_ls.ReliabilityCurve:
    """What `curve_to_json` was given."""
    return keras_ls.ReliabilityCurve(**{name: np.array(values, "float64") for name, values in lists.items()})


def _nll(logits, labels) -> float:
    metric = keras_ls.NegativeLogLikelihood(from_logits=True)
    metric.update_state(labels, logits)
    return float(metric.result())


def _mean_and_deviation(number: dict[str, float | None], digits: int, factor: float = 1.0) -> str:
    mean = number["mean"] or 0.0
    text = f"{mean * factor:.{digits}f}"
    return text if number["sd"] is None else f"{text} ± {number['sd'] * factor:.{digits}f}"
