"""Accuracy and calibration of hard and smoothed targets, side by side: the paper's Tables 2 and 3 and Figure 2."""

import argparse
import dataclasses
import json
import math
import pathlib
import sys
import textwrap
import time
from typing import Any

import keras
import numpy as np

import keras_ls
from demos import cli, records
from demos.image import arguments, datasets, evaluation, training

EPILOG = f"""
{textwrap.fill(evaluation.RULE, 110)}

Settings that are not given are the paper's (appendix A), with the schedule scaled to --steps. The paper trains the
ResNet for 64,000 steps and AlexNet for 390,000. On CIFAR the training images are split into 40,000 and 10,000 and
results are on those 10,000, as in the paper; elsewhere they are on the data set's test images, and on 897 of the
1,797 digits.

Smoothing calibrates a network that would be over-confident. The digits are too easy for that, hence the noise: with
--noise 0 smoothing makes the network under-confident, and its ECE worse.
"""
# What may change when a run is resumed: it says what to run or show, not how a network is trained.
FREE_SETTINGS = {
    "label_smoothing",
    "seeds",
    "out",
    "resume",
    "data_dir",
    "calibration_freq",
    "steps_per_execution",
    "jit_compile",
}
JIT_COMPILE: dict[str, bool | str] = {"auto": "auto", "yes": True, "no": False}
MONITORED_IMAGES = 2_000
MEASUREMENTS = 10


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that was decided before training starts.

    Attributes:
        options: the command line.
        data: what is learned.
        recipe: how.
        out: where results go.
        settings: everything that a result depends on besides α and the seed.
    """

    options: argparse.Namespace
    data: datasets.ImageData
    recipe: training.Recipe
    out: pathlib.Path
    settings: dict[str, Any]


def main(argv: list[str] | None = None) -> int:
    """Runs the demo; returns the exit status (2 for bad arguments or data, 1 for training that diverged)."""
    cli.print_what_can_be()
    parser = make_parser()
    options = parser.parse_args(argv)
    try:
        experiment = plan(options)
    except (ValueError, OSError, cli.MissingExtra) as error:
        parser.error(" ".join(str(error).split()))
    try:
        run(experiment)
    except training.Diverged as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "\nInterrupted. The same command with --resume goes on from here.\n")
    return 0


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


def plan(options: argparse.Namespace) -> Experiment:
    """Loads the data and settles everything that can be wrong before training starts.

    Raises:
        ValueError: where arguments, data or an earlier run do not fit.
    """
    cli.optional("matplotlib", "The reliability diagram")
    for name in ("label_smoothing", "seeds"):
        setattr(options, name, list(dict.fromkeys(getattr(options, name))))
    if options.noise is None:
        options.noise = datasets.DIGITS_NOISE if options.dataset == "digits" else 0.0
    data = datasets.load(options.dataset, options.data_dir, options.noise, options.image_size)
    if len(data.x_test) < 2:
        raise ValueError("Temperature scaling needs at least 2 held-out images, half of them to fit. Received: 1.")
    recipe = arguments.make_recipe(options, len(data.x_train))
    settings = {
        **{name: value for name, value in vars(options).items() if name not in FREE_SETTINGS},
        **dataclasses.asdict(recipe),
        "data": data.fingerprint(),
        "backend": keras.backend.backend(),
    }
    out = pathlib.Path(options.out or f"runs/calibration/{data.name}-{options.model}")
    records.open_directory(out, settings, options.resume)
    return Experiment(options, data, recipe, out, settings)


def run(experiment: Experiment) -> dict[str, Any]:
    """Trains, evaluates and reports; returns what results.json holds."""
    options, data, recipe, out = experiment.options, experiment.data, experiment.recipe, experiment.out
    print(
        f"{data.name}: {len(data.x_train)} training and {len(data.x_test)} held-out images of "
        f"{'×'.join(map(str, data.x_train.shape[1:]))}, {data.num_classes} classes. {options.model}, "
        f"{recipe.steps} steps of {recipe.batch_size}, {keras.backend.backend()} on {records.device()}.",
        flush=True,
    )
    runs = [train_and_evaluate(experiment, alpha, seed) for seed in options.seeds for alpha in options.label_smoothing]
    summary = evaluation.summarize(runs)
    results = {
        "settings": experiment.settings,
        "label_smoothing": options.label_smoothing,
        "seeds": options.seeds,
        "evaluation": evaluation.RULE,
        **records.provenance(),
        "summary": summary,
        "runs": runs,
    }
    records.write_json(out / "results.json", results)
    seeds = "1 seed" if len(options.seeds) == 1 else f"{len(options.seeds)} seeds"
    title = f"{data.name}, {options.model}, {seeds}"
    draw(summary, out / "reliability.png", title)
    print(f"\n{title}{' (mean ± s.d.)' if len(options.seeds) > 1 else ''}\n\n{evaluation.table(summary)}\n")
    print(f"Results: {out / 'results.json'}\nReliability diagrams: {out / 'reliability.png'}")
    print(f"tensorboard --logdir {out}", flush=True)
    return results


def train_and_evaluate(experiment: Experiment, alpha: float, seed: int) -> dict[str, Any]:
    """One run, or what is left of it to do: its numbers."""
    options, data = experiment.options, experiment.data
    directory = experiment.out / f"alpha-{alpha!r}" / f"seed-{seed}"
    path, checkpoint = directory / "result.json", directory / "checkpoint.npz"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    start = time.monotonic()
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = training.make_model(
        options.model,
        data,
        experiment.recipe,
        alpha,
        options.precision,
        options.steps_per_execution,
        JIT_COMPILE[options.jit_compile],
    )
    history = training.train(
        model, data, experiment.recipe, seed, checkpoint, (monitor(experiment, directory),), f"α={alpha:g} seed={seed}"
    )
    logits = np.asarray(model.predict(data.x_test, batch_size=500, verbose=0), "float32")
    result = {
        "label_smoothing": alpha,
        "seed": seed,
        **evaluation.evaluate(logits, data.y_test),
        "seconds": time.monotonic() - start,
        **records.provenance(),
        "history": [{k: v if math.isfinite(v) else None for k, v in epoch.items()} for epoch in history],
    }
    model.save(directory / "model.keras")
    records.write_json(path, result)
    checkpoint.unlink()
    return result


def monitor(experiment: Experiment, directory: pathlib.Path) -> keras.callbacks.Callback:
    """Measures calibration on some of the held-out images now and then, for TensorBoard; nothing is chosen by it."""
    data = experiment.data
    rows = np.random.default_rng(datasets.DATA_SEED).permutation(len(data.x_test))[:MONITORED_IMAGES]
    return keras_ls.Calibration(
        data.x_test[rows],
        data.y_test[rows],
        num_bins=evaluation.NUM_BINS,
        from_logits=True,
        log_dir=str(directory),
        freq=experiment.options.calibration_freq or max(1, experiment.recipe.epochs // MEASUREMENTS),
    )


def draw(summary: list[dict[str, Any]], path: pathlib.Path, title: str) -> None:
    """Draws Figure 2: hard targets, the same after temperature scaling, and smoothed targets, over all seeds."""
    curves = {}
    for row in summary:
        hard = row["label_smoothing"] == 0
        curves["hard targets" if hard else f"α = {row['label_smoothing']:g}"] = evaluation.curve_from_json(row["curve"])
        if hard:
            scaled = f"hard targets, T = {row['temperature']['mean']:.2f}"
            curves[scaled] = evaluation.curve_from_json(row["curve_scaled"])
    axes = keras_ls.reliability_diagram(curves)
    axes.set_title(title)
    axes.figure.savefig(path, dpi=150, bbox_inches="tight")


if __name__ == "__main__":
    sys.exit(main())
