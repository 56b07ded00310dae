"""Is the list of texts that a beam holds calibrated? Its probabilities against which of them is the best."""

from typing import Any

import numpy as np

import keras_ls
from demos.kit import cli, measures, smoothing
from demos.kit.pictures import network_name
from demos.sequence.evaluation import Split
from demos.sequence.search import Searcher


def measure(searcher: Searcher, split: Split, size: int, temperatures: list[float]) -> dict[str, Any]:
    """ECE and NLL of lists of at most `size` texts against temperature, and the reliability "curve" at 1.

    A list predicts which of its texts has the highest `split.quality` with softmax(log p / T); of equals each gets its
    share of the weight. "first_is_best" is how often the most probable text is the best, counted in the same way.
    """
    logits, best, weight = [], [], []
    for x, _, places in split.batches():
        for place, found in zip(places, searcher.hypotheses(x, size, 1.0, 0.0, size), strict=True):
            quality = np.array([split.quality(hypothesis.text, int(place)) for hypothesis in found])
            highest = np.flatnonzero(quality == quality.max())
            row = np.full(size, -np.inf)
            row[: len(found)] = [hypothesis.score for hypothesis in found]
            logits += [row] * len(highest)
            best += highest.tolist()
            weight += [1 / len(highest)] * len(highest)
    rows, labels, weights = np.array(logits), np.array(best), np.array(weight)
    numbers: dict[str, Any] = {"temperature": temperatures, "ece": [], "nll": []}
    for temperature in temperatures:
        scaled = rows / temperature
        curve = keras_ls.reliability_curve(labels, scaled, from_logits=True, sample_weight=weights)
        numbers["ece"].append(curve.ece())
        # By hand, since the metric takes no −inf, which stands where a list is shorter.
        losses = np.logaddexp.reduce(scaled, axis=1) - scaled[np.arange(len(labels)), labels]
        numbers["nll"].append(float(np.average(losses, weights=weights)))
    at_one = keras_ls.reliability_curve(labels, rows, from_logits=True, sample_weight=weights)
    first = float(weights[labels == 0].sum() / weights.sum())
    return {**numbers, "curve": measures.curve_to_json(at_one), "first_is_best": first}


def table(trials: list[dict[str, Any]]) -> str:
    """One row per network and temperature."""
    rows = [["lists of", "seed", "temperature", "ECE", "NLL", "first is best %"]]
    for trial in trials:
        of = trial["lists"]
        for temperature, ece, nll in zip(of["temperature"], of["ece"], of["nll"], strict=True):
            cells = [f"{temperature:g}", f"{ece:.4f}", f"{nll:.4f}", f"{100 * of['first_is_best']:.2f}"]
            rows.append([network_name(trial["label_smoothing"]), str(trial["seed"]), *cells])
    return cli.aligned(rows)


def figure(trials: list[dict[str, Any]]) -> Any:
    """How often the first text of a list is the best, against its probability; a line for each label smoothing."""
    groups, names = measures.by_smoothing(trials).items(), smoothing.legend(trials)
    pooled = {names[alpha]: measures.pool(each["lists"]["curve"] for each in group) for alpha, group in groups}
    axes = keras_ls.reliability_diagram(pooled)
    axes.set_title("the best of a list")
    return axes.figure
