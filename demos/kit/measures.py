"""What demos measure of predictions, in a form that JSON holds, and how it is summed up over seeds."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

import keras_ls
from demos.kit import cli
from demos.kit.records import to_json

NUM_BINS = 15
# A reliability curve in a JSON file, as `records.read_json` takes it.
CURVE = {"bin_edges": [float], "confidence": [(float, None)], "accuracy": [(float, None)], "count": [float]}


class Column(NamedTuple):
    """A measure in a table: its heading, its name, decimals, and a factor on it."""

    heading: str
    measure: str
    digits: int
    factor: float = 1


# Measures of calibration before and after temperature scaling, and those of them that tables show.
SCALED = ("nll", "ece", "temperature", "nll_scaled", "ece_scaled")
COLUMNS = (
    Column("NLL", "nll", 4),
    Column("ECE", "ece", 4),
    Column("temperature", "temperature", 3),
    Column("ECE scaled", "ece_scaled", 4),
)
# What ranking by confidence costs; results of earlier versions lack it.
RANKING = Column("excess AURC", "excess_aurc", 4)
RESAMPLES = 200


def calibration(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """NLL in nats ("nll"), ECE ("ece") and the reliability "curve", for JSON, of logits (N, K) and class ids (N,)."""
    metric = keras_ls.NegativeLogLikelihood(from_logits=True)
    metric.update_state(labels, logits)
    curve = keras_ls.reliability_curve(labels, logits, num_bins=NUM_BINS, from_logits=True)
    return {"nll": float(metric.result()), "ece": float(curve.ece()), "curve": curve_to_json(curve)}


def diagnosis(logits: np.ndarray, labels: np.ndarray, ignore_class: int | None = None) -> dict[str, Any]:
    """What `keras_ls.diagnose_predictions` finds, for JSON: "excess_aurc", and all of it as "diagnosis".

    That holds "num_classes", the "estimates" with their 95 % limits, and the verdicts of the "findings" by topic.
    """
    found = keras_ls.diagnose_predictions(
        labels, logits, NUM_BINS, num_resamples=RESAMPLES, ignore_class=ignore_class, from_logits=True
    )
    estimates = {name: dataclasses.asdict(estimate) for name, estimate in found.estimates.items()}
    verdicts = {finding.topic: finding.verdict for finding in found.findings}
    return {
        "excess_aurc": estimates["excess_aurc"]["value"],
        "diagnosis": to_json({"num_classes": found.num_classes, "estimates": estimates, "findings": verdicts}),
    }


def curve_to_json(curve: keras_ls.ReliabilityCurve) -> dict[str, list[float | None]]:
    """Lists of numbers, None in empty bins (JSON has no NaN)."""
    return to_json({name: np.asarray(getattr(curve, name), "float64").tolist() for name in CURVE})


def curve_from_json(lists: dict[str, list[float | None]]) -> keras_ls.ReliabilityCurve:
    """What `curve_to_json` was given."""
    return keras_ls.ReliabilityCurve(**{name: np.array(values, "float64") for name, values in lists.items()})


def projection_to_json(projection: keras_ls.Projection) -> dict[str, list[Any]]:
    """Lists of numbers and of names."""
    return {name: np.asarray(value).tolist() for name, value in dataclasses.asdict(projection).items()}


def projection_from_json(lists: dict[str, list[Any]]) -> keras_ls.Projection:
    """What `projection_to_json` was given."""
    points, labels, templates = (np.array(lists[name]) for name in ("points", "labels", "templates_2d"))
    return keras_ls.Projection(points, labels, templates, tuple(lists["class_names"]), tuple(lists["classes"]))


def pool(curves: Iterable[dict[str, list[float | None]]]) -> keras_ls.ReliabilityCurve:
    """The reliability curve of all examples behind several curves of equal bins, from JSON."""
    parts = [curve_from_json(curve) for curve in curves]
    count = np.sum([part.count for part in parts], axis=0)
    with np.errstate(invalid="ignore"):  # 0/0 in an empty bin is the NaN that marks it
        confidence, accuracy = (
            np.sum([np.nan_to_num(getattr(part, name)) * part.count for part in parts], axis=0) / count
            for name in ("confidence", "accuracy")
        )
    return keras_ls.ReliabilityCurve(parts[0].bin_edges, confidence, accuracy, count)


def grouped(results: Iterable[dict[str, Any]], key: Callable[[dict[str, Any]], Any]) -> dict[Any, list[dict[str, Any]]]:
    """Results by their key, in the order of their first."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    return groups


def by_smoothing(results: Iterable[dict[str, Any]]) -> dict[float, list[dict[str, Any]]]:
    """Results of several seeds by their label smoothing."""
    return grouped(results, lambda result: result["label_smoothing"])


def summarize(results: Iterable[dict[str, Any]], measures: Iterable[str]) -> list[dict[str, Any]]:
    """`mean_and_sd` over the seeds of each measure that all results have, a row for each label smoothing."""
    results = list(results)
    there = [name for name in measures if all(name in result for result in results)]
    return [
        {"label_smoothing": alpha, "seeds": len(group)}
        | {name: mean_and_sd([result[name] for result in group]) for name in there}
        for alpha, group in by_smoothing(results).items()
    ]


def mean_and_sd(values: Sequence[float | None]) -> dict[str, float | None]:
    """The "mean" and the sample standard deviation "sd", None for one value; NaN if a value is None, as JSON has it."""
    numbers = np.asarray(values, "float64")
    deviation = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None
    return {"mean": float(np.mean(numbers)), "sd": deviation}


def table(summary: list[dict[str, Any]], columns: Sequence[Column]) -> str:
    """What `summarize` gave as a table of text, a row for each label smoothing, without the measures that it lacks."""
    columns = [column for column in columns if column.measure in summary[0]]
    rows = [["α", *(column.heading for column in columns)]]
    rows += [[f"{row['label_smoothing']:g}", *(shown(row[c.measure], c) for c in columns)] for row in summary]
    return cli.aligned(rows)


def shown(number: dict[str, float | None], column: Column) -> str:
    """What `mean_and_sd` gave as a table's cell."""
    return " ± ".join(f"{v * column.factor:.{column.digits}f}" for v in number.values() if v is not None)
