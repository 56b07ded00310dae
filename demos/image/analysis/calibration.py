"""Accuracy and calibration of networks trained on hard and on smoothed targets: what the calibration demo does."""

import functools
import pathlib
from typing import Any

import keras

import keras_ls
from demos.image import data, recipes
from demos.image.analysis import HALVES, evaluation, smoothing
from demos.kit import measures
from demos.kit.options import Chosen
from demos.kit.pictures import network_name
from demos.kit.runs import publish
from demos.kit.seeds import of_data
from demos.kit.trials import run_trials

MONITORED_IMAGES = 2_000
MEASUREMENTS = 10
CURVES = ("curve", "curve_scaled")


def plan(options: Chosen) -> smoothing.Experiment:
    """Loads the data and settles everything that can be wrong before training starts.

    Raises:
        ValueError: If arguments, data or an earlier run do not fit.
    """
    images = data.load_chosen(options)
    recipe = recipes.choose(options, len(images.x_train))
    return smoothing.prepare(options, images, recipe, "runs/calibration")


def run(experiment: smoothing.Experiment) -> dict[str, Any]:
    """Trains, evaluates and reports; returns what results.json holds."""
    print(experiment.describe(), flush=True)

    def evaluate(model: keras.Model, history: Any) -> dict[str, Any]:
        return evaluation.evaluate_network(model, experiment.images)

    watch = functools.partial(monitor, experiment)
    trials = run_trials(
        [smoothing.trial(experiment, *each, evaluate, evaluation.FIELDS, watch) for each in experiment.networks],
        experiment.run,
    )
    series = [
        {"label_smoothing": alpha}
        | {name: measures.curve_to_json(measures.pool(each[name] for each in group)) for name in CURVES}
        for alpha, group in measures.by_smoothing(trials).items()
    ]
    results = experiment.results(
        "calibration",
        evaluation=HALVES,
        trials=trials,
        summary=measures.summarize(trials, evaluation.MEASURES),
        series=series,
        pictures=["reliability.png"],
    )
    return publish(experiment.run, results, table, figure)


def monitor(
    experiment: smoothing.Experiment, model: keras.Model, folder: pathlib.Path
) -> list[keras.callbacks.Callback]:
    """Measures calibration on some of the held-out images now and then, for TensorBoard; nothing is chosen by it."""
    images = experiment.images
    rows = of_data().permutation(len(images.x_test))[:MONITORED_IMAGES]
    freq = experiment.options.calibration_freq or max(1, experiment.recipe.epochs // MEASUREMENTS)
    held_out = (images.x_test[rows], images.y_test[rows])
    return [keras_ls.Calibration(*held_out, measures.NUM_BINS, from_logits=True, log_dir=str(folder), freq=freq)]


def table(results: dict[str, Any]) -> str:
    """The means over the seeds as text, one row per label smoothing."""
    return measures.table(results["summary"], evaluation.COLUMNS)


def figure(results: dict[str, Any]) -> Any:
    """Figure 2: hard targets, the same after temperature scaling, and smoothed targets, over all seeds."""
    curves = {}
    for row, means in zip(results["series"], results["summary"], strict=True):
        alpha = row["label_smoothing"]
        curves[network_name(alpha)] = measures.curve_from_json(row["curve"])
        if alpha == 0:
            scaled = f"{network_name(alpha)}, T = {means['temperature']['mean']:.2f}"
            curves[scaled] = measures.curve_from_json(row["curve_scaled"])
    axes = keras_ls.reliability_diagram(curves)
    axes.set_title(results["title"].removesuffix(" (mean ± s.d.)"))
    return axes.figure
