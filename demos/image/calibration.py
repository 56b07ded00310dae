"""Accuracy and calibration of hard and smoothed targets, side by side: the paper's Tables 2 and 3 and Figure 2."""

import argparse
import pathlib
import sys
import textwrap
from typing import Any

import keras
import numpy as np

import keras_ls
from demos import cli, measures, records
from demos.image import arguments, datasets, evaluation, runs

EPILOG = f"""
{textwrap.fill(evaluation.RULE, 110)}

Settings that are not given are the paper's (appendix A), with the schedule scaled to --steps. The paper trains the
ResNet for 64,000 steps and AlexNet for 390,000. On CIFAR the training images are split into 40,000 and 10,000 and
results are on those 10,000, as in the paper; elsewhere they are on the data set's test images, and on 897 of the
1,797 digits.

Smoothing calibrates a network that would be over-confident. The digits are too easy for that, hence the noise: with
--noise 0 smoothing makes the network under-confident, and its ECE worse.
"""
MONITORED_IMAGES = 2_000
MEASUREMENTS = 10


def main(argv: list[str] | None = None) -> int:
    """Runs the demo; returns the exit status (2 for bad arguments or data, 1 for training that diverged)."""
    return cli.execute(make_parser(), argv, plan, run)


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.Parser(
        prog="python -m demos.image.calibration",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_data_arguments(parser)
    add = parser.add_argument_group("what to compare").add_argument
    add(
        "--label-smoothing",
        type=cli.fraction,
        nargs="+",
        default=[0.0, 0.05, 0.1],
        metavar="α",
        help="0 has hard targets (default: 0 0.05 0.1)",
    )
    add("--seeds", type=cli.seed, nargs="+", default=[0, 1, 2], metavar="N", help="one run each (default: 0 1 2)")
    add(
        "--calibration-freq",
        type=cli.count,
        metavar="N",
        help=f"epochs between two measurements for TensorBoard, on at most {MONITORED_IMAGES} held-out images "
        f"(default: about {MEASUREMENTS} in a run)",
    )
    arguments.add_training_arguments(parser)
    arguments.add_running_arguments(parser, out="runs/calibration/DATASET-MODEL")
    return parser


def plan(options: argparse.Namespace) -> runs.Experiment:
    """Loads the data and settles everything that can be wrong before training starts.

    Raises:
        ValueError: where arguments, data or an earlier run do not fit.
    """
    return runs.prepare(options, runs.load_data(options), "runs/calibration")


def run(experiment: runs.Experiment) -> dict[str, Any]:
    """Trains, evaluates and reports; returns what results.json holds."""
    options, out = experiment.options, experiment.out
    print(experiment.describe(), flush=True)
    results = [
        runs.train_and_evaluate(experiment, alpha, seed, monitor)
        for seed in options.seeds
        for alpha in options.label_smoothing
    ]
    summary = evaluation.summarize(results)
    report = {
        "settings": experiment.settings,
        "label_smoothing": options.label_smoothing,
        "seeds": options.seeds,
        "evaluation": evaluation.RULE,
        **records.provenance(),
        "summary": summary,
        "runs": results,
    }
    records.write_json(out / "results.json", report)
    title = experiment.title()
    draw(summary, out / "reliability.png", title)
    print(f"\n{title}{' (mean ± s.d.)' if len(options.seeds) > 1 else ''}\n\n{evaluation.table(summary)}\n")
    print(f"Results: {out / 'results.json'}\nReliability diagrams: {out / 'reliability.png'}")
    print(f"tensorboard --logdir {out}", flush=True)
    return report


def monitor(experiment: runs.Experiment, directory: pathlib.Path) -> keras.callbacks.Callback:
    """Measures calibration on some of the held-out images now and then, for TensorBoard; nothing is chosen by it."""
    data = experiment.data
    rows = np.random.default_rng(datasets.DATA_SEED).permutation(len(data.x_test))[:MONITORED_IMAGES]
    return keras_ls.Calibration(
        data.x_test[rows],
        data.y_test[rows],
        num_bins=measures.NUM_BINS,
        from_logits=True,
        log_dir=str(directory),
        freq=experiment.options.calibration_freq or max(1, experiment.recipe.epochs // MEASUREMENTS),
    )


def draw(summary: list[dict[str, Any]], path: pathlib.Path, title: str) -> None:
    """Draws Figure 2: hard targets, the same after temperature scaling, and smoothed targets, over all seeds."""
    curves = {}
    for row in summary:
        hard = row["label_smoothing"] == 0
        curves["hard targets" if hard else f"α = {row['label_smoothing']:g}"] = measures.curve_from_json(row["curve"])
        if hard:
            scaled = f"hard targets, T = {row['temperature']['mean']:.2f}"
            curves[scaled] = measures.curve_from_json(row["curve_scaled"])
    axes = keras_ls.reliability_diagram(curves)
    axes.set_title(title)
    axes.figure.savefig(path, bbox_inches="tight")


if __name__ == "__main__":
    sys.exit(main())
