"""How much two classes' logits say about the training example, while networks train: the paper's Figure 6."""

import argparse
import dataclasses
import math
import pathlib
import sys
import time
import warnings
from typing import Any

import keras
import numpy as np

import keras_ls
from demos import cli, records
from demos.cli import execute
from demos.image import arguments, datasets, training
from demos.image.augment import Augment, crop_and_flip, noisy
from demos.image.runs import JIT_COMPILE

EPILOG = """
Each network is trained on all classes. Every few steps the difference of two classes' logits is sampled 5 times for up
to 300 training images of each of the two, augmented at random as in training, and keras_ls.MutualInformation estimates
what it says about the image: log N nats if it tells all N images apart, log 2 if it keeps nothing but their class.

The augmentation is random crops and flips where the network is trained with them (AlexNet and ResNet on CIFAR do, and
--augment says so), else fresh noise on the pixels. The digits have about 90 training images a class; their own noise
(--noise) was added once, before any augmentation. The paper's figure is --dataset cifar10 --model resnet.
"""
# What may change when a run is resumed: it says what to run or show, not how a network is trained.
FREE_SETTINGS = {"label_smoothing", "seeds", "out", "resume", "data_dir", "steps_per_execution", "jit_compile"}
DIGITS_STEPS = 3_000
AUGMENT_NOISE = 0.1
MEASUREMENTS = 200
EXAMPLES_PER_CLASS = 300  # of keras_ls.MutualInformation, and the paper's


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that was decided before training starts.

    Attributes:
        options: the command line.
        data: what is learned.
        recipe: how.
        augment: images and a generator to augmented images.
        classes: the two ids.
        num_examples: N, images of both that are measured.
        out: where results go.
        settings: everything that a result depends on besides α and the seed.
    """

    options: argparse.Namespace
    data: datasets.ImageData
    recipe: training.Recipe
    augment: Augment
    classes: tuple[int, int]
    num_examples: int
    out: pathlib.Path
    settings: dict[str, Any]


class AugmentedImages:
    """Images that are augmented when a batch of them is taken; what is drawn depends on the seed and the batch alone.

    Args:
        images: (N, height, width, channels).
        augment: the augmentation.
        seed: integer of at least 0.
    """

    def __init__(self, images: np.ndarray, augment: Augment, seed: int):
        self.images, self.augment, self.seed, self.shape = images, augment, seed, images.shape

    def __len__(self):
        return len(self.images)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The images `rows`, in an order that comes only once in training, augmented."""
        return self.augment(self.images[rows], np.random.default_rng([self.seed, *rows.tolist()]))


def main(argv: list[str] | None = None) -> int:
    """Runs the demo; returns the exit status (2 for bad arguments or data, 1 for training that diverged)."""
    return execute(make_parser(), argv, plan, run)


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.Parser(
        prog="python -m demos.image.information",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        conflict_handler="resolve",  # the digits are trained longer than in the other demos: --steps comes twice
    )
    arguments.add_data_arguments(parser)
    add = parser.add_argument_group("what to compare and measure").add_argument
    add(
        "--label-smoothing",
        type=cli.fraction,
        nargs="+",
        default=[0.0, 0.1],
        metavar="α",
        help="0 has hard targets (default: 0 0.1)",
    )
    add("--seeds", type=cli.seed, nargs="+", default=[0, 1, 2], metavar="N", help="one run each (default: 0 1 2)")
    add(
        "--classes",
        nargs=2,
        metavar="CLASS",
        help="names or ids (default: 4 9 of the digits and MNIST, airplane and dog of CIFAR-10, else the first two)",
    )
    add(
        "--augment-noise",
        type=cli.positive,
        metavar="X",
        help="s.d. of the noise drawn anew for each batch, as a fraction of full scale, where images are not cropped "
        f"and flipped (default: {AUGMENT_NOISE})",
    )
    add(
        "--measure-every",
        type=cli.count,
        metavar="N",
        help=f"steps between two measurements, and two checkpoints (default: {MEASUREMENTS} in a run)",
    )
    arguments.add_training_arguments(parser)
    parser.add_argument(
        "--steps",
        type=cli.count,
        metavar="N",
        help=f"updates of the weights (default: {DIGITS_STEPS:,} for the digits; else MLP 10,000, AlexNet 20,000, "
        "ResNet 64,000)",
    )
    arguments.add_running_arguments(parser, out="runs/information/DATASET-MODEL")
    return parser


def plan(options: argparse.Namespace) -> Experiment:
    """Loads the data and settles everything that can be wrong before training starts.

    Raises:
        ValueError: where arguments, data or an earlier run do not fit.
    """
    for name in ("label_smoothing", "seeds"):
        setattr(options, name, list(dict.fromkeys(getattr(options, name))))
    if options.dataset == "digits":
        options.noise = datasets.DIGITS_NOISE if options.noise is None else options.noise
        options.steps = options.steps or DIGITS_STEPS
    data = datasets.load(options.dataset, options.data_dir, options.noise or 0.0, options.image_size)
    classes = choose_classes(options, data)
    recipe = measured_recipe(arguments.make_recipe(options, len(data.x_train)), options)
    if recipe.augment and options.augment_noise:
        raise ValueError("--augment-noise is for images that are not cropped and flipped; add --no-augment.")
    options.augment_noise = None if recipe.augment else options.augment_noise or AUGMENT_NOISE
    counts = [int(np.sum(data.y_train == k)) for k in classes]
    if 0 in counts:
        raise ValueError(f"--classes must have training images. Received: {counts} of the two.")
    settings = {
        **{name: value for name, value in vars(options).items() if name not in FREE_SETTINGS},
        **dataclasses.asdict(recipe),
        "classes": classes,
        "data": data.fingerprint(),
        "backend": keras.backend.backend(),
    }
    out = pathlib.Path(options.out or f"runs/information/{data.name}-{options.model}")
    records.open_directory(out, settings, options.resume)
    augment = crop_and_flip if recipe.augment else noisy(options.augment_noise)
    num_examples = sum(min(count, EXAMPLES_PER_CLASS) for count in counts)
    return Experiment(options, data, recipe, augment, classes, num_examples, out, settings)


def choose_classes(options: argparse.Namespace, data: datasets.ImageData) -> tuple[int, int]:
    """The ids of the two classes, given as names or ids."""
    given = options.classes or [str(k) for k in datasets.PAIRS.get(options.dataset, (0, 1))]
    ids = {name: k for k, name in enumerate(data.class_names)}
    for k in range(data.num_classes):
        ids.setdefault(str(k), k)
    first, second = (ids.get(name) for name in given)
    if first is None or second is None or first == second:
        names = ", ".join(data.class_names[:20])
        raise ValueError(f"--classes must be two different ones of {names}. Received: {' '.join(given)}.")
    return first, second


def measured_recipe(recipe: training.Recipe, options: argparse.Namespace) -> training.Recipe:
    """The recipe with an epoch from each measurement to the next; steps are rounded up to whole epochs."""
    multiple = options.steps_per_execution
    every = options.measure_every or max(1, recipe.steps // MEASUREMENTS)
    every = math.ceil(every / multiple) * multiple
    epochs = math.ceil(recipe.steps / every)
    if epochs * every != recipe.steps:
        print(f"Note: {recipe.steps} steps are rounded up to {epochs * every}, {epochs} measurements {every} apart.")
    return dataclasses.replace(recipe, steps=epochs * every, steps_per_epoch=every)


def run(experiment: Experiment) -> dict[str, Any]:
    """Trains, measures and reports; returns what results.json holds."""
    options, data, recipe, out = experiment.options, experiment.data, experiment.recipe, experiment.out
    pair = " and ".join(repr(data.class_names[k]) for k in experiment.classes)
    print(
        f"{data.name}: {len(data.x_train)} training images, {experiment.num_examples} of {pair} measured every "
        f"{recipe.steps_per_epoch} steps. {options.model}, {recipe.steps} steps of {recipe.batch_size}, "
        f"{keras.backend.backend()} on {records.device()}.",
        flush=True,
    )
    runs = [train_and_measure(experiment, alpha, seed) for seed in options.seeds for alpha in options.label_smoothing]
    summary = summarize(runs)
    results = {
        "settings": experiment.settings,
        "label_smoothing": options.label_smoothing,
        "seeds": options.seeds,
        "class_names": [data.class_names[k] for k in experiment.classes],
        "num_examples": experiment.num_examples,
        "log_2": math.log(2),
        "log_num_examples": math.log(experiment.num_examples),
        **records.provenance(),
        "summary": summary,
        "runs": runs,
    }
    records.write_json(out / "results.json", results)
    seeds = "1 seed" if len(options.seeds) == 1 else f"{len(options.seeds)} seeds"
    title = f"{data.name}, {pair}, {options.model}, {seeds}"
    draw(runs, experiment.num_examples, out, title)
    print(f"\n{title}, nats: log 2 = {math.log(2):.2f}, log N = {math.log(experiment.num_examples):.2f}\n")
    print(f"{table(summary)}\n")
    print(f"Results: {out / 'results.json'}\nCurves: {out / 'information.png'} and .pdf")
    print(f"tensorboard --logdir {out}", flush=True)
    return results


def train_and_measure(experiment: Experiment, alpha: float, seed: int) -> dict[str, Any]:
    """One run, or what is left of it to do: its numbers."""
    options, data, recipe = experiment.options, experiment.data, experiment.recipe
    directory = experiment.out / f"alpha-{alpha!r}" / f"seed-{seed}"
    path, checkpoint = directory / "result.json", directory / "checkpoint.npz"
    if path.exists():
        return records.read_json(path)
    start = time.monotonic()
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = training.make_model(
        options.model,
        data,
        recipe,
        alpha,
        options.precision,
        options.steps_per_execution,
        JIT_COMPILE[options.jit_compile],
    )

    def augment(images):
        # keras_ls seeds NumPy's own generator for each measurement and puts it back.
        return experiment.augment(images, np.random.default_rng(np.random.randint(2**31)))

    measured = (data.x_train, data.y_train, experiment.classes, augment)
    seen = data if recipe.augment else with_images(data, AugmentedImages(data.x_train, experiment.augment, seed))
    with warnings.catch_warnings():
        # The first line of output says how many there are.
        warnings.filterwarnings("ignore", "Class .* examples, fewer than examples_per_class")
        first = keras_ls.logit_mutual_information(model, *measured)
        monitor = keras_ls.MutualInformation(*measured, log_dir=str(directory))
        history = training.train(model, seen, recipe, seed, checkpoint, (monitor,), f"α={alpha:g} seed={seed}")
    values = [first, *(epoch["mutual_information"] for epoch in history)]
    logits = model.predict(data.x_test, batch_size=500, verbose=0)
    result = {
        "label_smoothing": alpha,
        "seed": seed,
        "accuracy": float(np.mean(logits.argmax(-1) == data.y_test)),
        "steps": [epoch * recipe.steps_per_epoch for epoch in range(len(values))],
        "mutual_information": [value if math.isfinite(value) else None for value in values],
        "training_accuracy": [epoch["accuracy"] for epoch in history],
        "loss": [epoch["loss"] for epoch in history],
        "seconds": time.monotonic() - start,
        **records.provenance(),
    }
    model.save(directory / "model.keras")
    records.write_json(path, result)
    checkpoint.unlink()
    return result


def with_images(data: datasets.ImageData, images: Any) -> datasets.ImageData:
    """The data with other training images, which need not be an array."""
    return dataclasses.replace(data, x_train=images)


def summarize(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each label smoothing the mean curve over the seeds, its start, highest point and end, and the range there."""
    summary = []
    for alpha in dict.fromkeys(run["label_smoothing"] for run in runs):
        group = [run for run in runs if run["label_smoothing"] == alpha]
        steps, values = curves_of(group)
        mean = values.mean(axis=0)
        peak = int(np.argmax(mean))
        row: dict[str, Any] = {"label_smoothing": alpha, "seeds": len(group), "peak_step": int(steps[peak])}
        row["accuracy"] = float(np.mean([run["accuracy"] for run in group]))
        for name, place in (("start", 0), ("peak", peak), ("end", -1)):
            numbers = (mean[place], values[:, place].min(), values[:, place].max())
            row[name] = dict(zip(("mean", "min", "max"), (finite(number) for number in numbers), strict=True))
        summary.append(row)
    return summary


def curves_of(runs: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Steps (S,) and values (R, S) of runs with the same settings, NaN where JSON has null."""
    return np.array(runs[0]["steps"]), np.array([run["mutual_information"] for run in runs], "float64")


def finite(number: float) -> float | None:
    """The number, or what JSON has for NaN."""
    return float(number) if math.isfinite(number) else None


def table(summary: list[dict[str, Any]]) -> str:
    """The summary as a table of text, one row for each label smoothing."""
    rows = [["α", "start", "highest", "at step", "end", "end, all seeds", "held-out accuracy %"]]
    for row in summary:
        start, peak, end = (show(row[name]["mean"]) for name in ("start", "peak", "end"))
        span = f"{show(row['end']['min'])} to {show(row['end']['max'])}"
        accuracy = f"{100 * row['accuracy']:.2f}"
        rows.append([f"{row['label_smoothing']:g}", start, peak, str(row["peak_step"]), end, span, accuracy])
    return cli.aligned(rows)


def show(number: float | None) -> str:
    """Two digits after the point."""
    return "NaN" if number is None else f"{number:.2f}"


def draw(runs: list[dict[str, Any]], num_examples: int, out: pathlib.Path, title: str) -> None:
    """Draws Figure 6: a line for each label smoothing over the range of its seeds."""
    curves = {}
    for alpha in dict.fromkeys(run["label_smoothing"] for run in runs):
        name = f"α = {alpha:g}" if alpha else "hard targets"
        curves[name] = curves_of([run for run in runs if run["label_smoothing"] == alpha])
    axes = keras_ls.information_curves(curves, num_examples)
    axes.set_title(title)
    for suffix in ("png", "pdf"):
        axes.figure.savefig(out / f"information.{suffix}", bbox_inches="tight")


if __name__ == "__main__":
    sys.exit(main())
