"""Accuracy and calibration of networks trained on hard and on smoothed targets: what the calibration demo does."""

import functools
import pathlib
from typing import Any

import keras

import keras_ls
from demos.image import data, recipes
from demos.image.analysis import HALVES, smoothing
from demos.kit import measures
from demos.kit.options import Chosen
from demos.kit.runs import publish
from demos.kit.seeds import of_data
from demos.kit.smoothing import Comparison, pooled_curves, prepare, reliability

MONITORED_IMAGES = 2_000
MEASUREMENTS = 10


def plan(options: Chosen) -> Comparison:
    """Loads the data and settles everything that can be wrong before training starts."""
    images = data.load_chosen(options)
    recipe = recipes.chosen_in_epochs(options, len(images.x_train), "calibration")
    return prepare(options, images, recipe, "runs/calibration")


def run(comparison: Comparison) -> dict[str, Any]:
    """Trains, evaluates and reports; returns what results.json holds."""
    print(smoothing.describe(comparison.data, comparison.recipe), flush=True)
    trials = smoothing.train(comparison, functools.partial(monitor, comparison))
    results = comparison.results(
        "demos.image.calibration",
        evaluation=HALVES,
        trials=trials,
        **of_trials(trials),
        pictures=["reliability.png"],
    )
    return publish(comparison.run, results, table, figure)


def of_trials(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """The summary and the series of trained networks."""
    summary = measures.summarize(trials, (*smoothing.MEASURES, measures.RANKING.measure))
    return {"summary": summary, "series": pooled_curves(trials)}


def monitor(comparison: Comparison, model: keras.Model, folder: pathlib.Path) -> list[keras.callbacks.Callback]:
    """Measures calibration on some of the held-out images now and then, for TensorBoard; nothing is chosen by it."""
    images = comparison.data
    rows = of_data().permutation(len(images.x_test))[:MONITORED_IMAGES]
    freq = comparison.options.calibration_freq or max(1, comparison.recipe.epochs // MEASUREMENTS)
    held_out = (images.x_test[rows], images.y_test[rows])
    return [keras_ls.Calibration(*held_out, measures.NUM_BINS, from_logits=True, log_dir=str(folder), freq=freq)]


def table(results: dict[str, Any]) -> str:
    """The means over the seeds as text, one row per label smoothing."""
    return measures.table(results["summary"], smoothing.COLUMNS)


def figure(results: dict[str, Any]) -> Any:
    """Figure 2: hard targets, the same after temperature scaling, and smoothed targets, over all seeds."""
    hard = [means["temperature"]["mean"] for means in results["summary"] if means["label_smoothing"] == 0]
    return reliability(results, *(f"T = {temperature:.2f}" for temperature in hard))
