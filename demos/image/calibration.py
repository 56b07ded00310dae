"""Accuracy and calibration of hard and smoothed targets, side by side: the paper's Tables 2 and 3 and Figure 2."""

import argparse
import dataclasses
import json
import math
import os
import pathlib
import platform
import sys
import time
from typing import Any

import keras
import numpy as np

import keras_ls
from demos import cli
from demos.image import datasets, evaluation, models, training

EPILOG = f"""
How it is judged: {evaluation.RULE}

Settings that are not given are the paper's (appendix A), with the schedule scaled to --steps; the paper trains the
ResNet for 64,000 steps and AlexNet for 390,000. On CIFAR the 50,000 training images are split into 40,000 and 10,000
and results are on those 10,000, as in the paper; elsewhere they are on the data set's test images, and on 897 of the
1,797 digits. Smoothing calibrates a network that would be over-confident. The digits are too easy for that, hence the
noise: try --noise 0 to see smoothing make things worse.
"""
# Settings that may change when a run is resumed: they say what to run or show, not how a network is trained.
FREE_SETTINGS = (
    "label_smoothing",
    "seeds",
    "out",
    "resume",
    "data_dir",
    "calibration_freq",
    "steps_per_execution",
    "jit_compile",
)
CALIBRATION_EXAMPLES = 2_000
CALIBRATIONS = 10


def main(argv: list[str] | None = None) -> int:
    """Runs the demo; returns the exit status (2 for bad arguments or data, 1 for training that diverged)."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    try:
        run(arguments)
    except (ValueError, cli.MissingExtra) as error:
        parser.error(" ".join(str(error).split()))
    except training.Diverged as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    return 0


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Trains, evaluates and reports; returns what results.json holds."""
    cli.optional("matplotlib", "The reliability diagram")
    data = datasets.load(arguments.dataset, arguments.data_dir, arguments.noise, arguments.image_size)
    arguments.steps_per_execution = supported_steps_per_execution(arguments.steps_per_execution)
    recipe = make_recipe(arguments, data)
    out = pathlib.Path(arguments.out or f"runs/calibration/{data.name}-{arguments.model}")
    settings = all_settings(arguments, data, recipe)
    prepare(out, settings, arguments.resume)
    print(
        f"{data.name}: {len(data.x_train)} training and {len(data.x_test)} held-out images of {data.x_train.shape[1:]}, "
        f"{data.num_classes} classes. {arguments.model}, {recipe.steps} steps of {recipe.batch_size}, "
        f"{keras.backend.backend()} on {device()}.",
        flush=True,
    )
    runs = [
        train_and_evaluate(arguments, data, recipe, alpha, seed, out)
        for seed in arguments.seeds
        for alpha in arguments.label_smoothing
    ]
    summary = evaluation.summarize(runs)
    results = {
        "settings": settings,
        "label_smoothing": arguments.label_smoothing,
        "seeds": arguments.seeds,
        "evaluation": evaluation.RULE,
        "num_bins": evaluation.NUM_BINS,
        "summary": summary,
        "runs": runs,
    }
    write_json(out / "results.json", results)
    figure = draw(summary, out / "reliability.png", f"{data.name}, {arguments.model}")
    print(f"\n{data.name}, {arguments.model}: {len(arguments.seeds)} seeds, mean ± s.d.\n")
    print(evaluation.table(summary))
    print(f"\nResults: {out / 'results.json'}\nReliability diagrams: {figure}")
    print(f"tensorboard --logdir {out}", flush=True)
    return results


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.Parser(
        prog="python -m demos.image.calibration",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument_group("data").add_argument
    add("--dataset", choices=datasets.NAMES, default="digits")
    add(
        "--data-dir",
        help=f"where NAME.npz lies (Keras's form), else ${datasets.DIRECTORY_VARIABLE} is looked at, then "
        "keras.datasets; with --dataset folder it holds train/CLASS/* and test/CLASS/*",
    )
    add(
        "--noise",
        type=cli.not_negative,
        help="s.d. of the Gaussian noise added to the pixels once, as a fraction of full scale "
        f"(default: {datasets.DIGITS_NOISE} for the digits, else 0)",
    )
    add("--image-size", type=cli.count, default=32, help="height and width of images from folders (default: 32)")

    add = parser.add_argument_group("what to compare").add_argument
    add("--label-smoothing", type=cli.fraction, nargs="+", default=[0.0, 0.05, 0.1], metavar="α")
    add("--seeds", type=cli.seed, nargs="+", default=[0, 1, 2], metavar="SEED")

    add = parser.add_argument_group("network and training").add_argument
    add("--model", choices=models.MODELS, default="mlp")
    add("--depth", type=cli.count, help="of the ResNet: 6·n + 2 (default: 56)")
    add("--hidden", type=cli.count, nargs="+", help="widths of the MLP's hidden layers")
    add("--steps", type=cli.count, help="updates of the weights (default: 1,000 for the digits, else by model)")
    add("--batch-size", type=cli.count)
    add("--learning-rate", type=cli.positive)
    add("--head-rate", type=cli.positive, help="factor on the learning rate of the last layer")
    add("--momentum", type=cli.fraction)
    add("--nesterov", action=argparse.BooleanOptionalAction)
    add("--weight-decay", type=cli.not_negative, help="of ½·weight_decay·‖w‖² in the loss")
    add("--clipnorm", type=cli.not_negative, help="bound on the norm of the whole gradient; 0 for none")
    add("--loss-scale", type=cli.positive, help="factor on the cross-entropy (default: 3 on CIFAR, else 1)")
    add("--augment", action=argparse.BooleanOptionalAction, help="crop and flip training images at random")
    add("--precision", choices=("float32", "mixed_bfloat16"), default="float32")

    add = parser.add_argument_group("running").add_argument
    add("--steps-per-execution", type=cli.count, default=1, help="steps in one call: faster on a GPU (default: 1)")
    add("--jit-compile", choices=("auto", "yes", "no"), default="auto", help="XLA (default: Keras decides)")
    add(
        "--calibration-freq",
        type=cli.count,
        help=f"epochs between two measurements for TensorBoard, on {CALIBRATION_EXAMPLES} held-out images "
        f"(default: about {CALIBRATIONS} in a run)",
    )
    add("--out", help="directory for results, checkpoints and logs (default: runs/calibration/DATASET-MODEL)")
    add(
        "--resume",
        action="store_true",
        help="go on with what lies in --out, from the last epoch of each unfinished run; without it an earlier run in "
        "--out is moved aside",
    )
    return parser


def make_recipe(arguments: argparse.Namespace, data: datasets.ImageData) -> training.Recipe:
    """The paper's settings, with those that were given in their place."""
    recipe = training.paper_recipe(arguments.model, arguments.dataset, arguments.steps)
    names = (field.name for field in dataclasses.fields(recipe))
    given = {name: getattr(arguments, name, None) for name in names}
    given = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items() if v is not None}
    recipe = dataclasses.replace(recipe, **given)
    if recipe.clipnorm == 0:
        recipe = dataclasses.replace(recipe, clipnorm=None)
    if recipe.nesterov and not recipe.momentum:
        raise ValueError("--nesterov needs a --momentum above 0.")
    if recipe.batch_size > len(data.x_train):
        raise ValueError(
            f"--batch-size must be at most the number of training images ({len(data.x_train)}). "
            f"Received: {recipe.batch_size}."
        )
    length, epochs = training.epoch_length(
        recipe.steps, len(data.x_train) // recipe.batch_size, arguments.steps_per_execution
    )
    if length * epochs != recipe.steps:
        print(f"Note: {recipe.steps} steps are rounded up to {length * epochs}, {epochs} epochs of {length}.")
        recipe = dataclasses.replace(recipe, steps=length * epochs)
    return recipe


def supported_steps_per_execution(steps: int) -> int:
    """What the backend can do: PyTorch takes one step a call."""
    if steps > 1 and keras.backend.backend() == "torch":
        print("Note: Keras takes --steps-per-execution 1 alone on PyTorch; 1 is used.")
        return 1
    return steps


def all_settings(arguments, data: datasets.ImageData, recipe: training.Recipe) -> dict[str, Any]:
    """Everything that a result depends on besides α and the seed, and what it was computed with."""
    command_line = {name: value for name, value in vars(arguments).items() if name not in FREE_SETTINGS}
    checksum = int(data.x_train[:: max(1, len(data.x_train) // 100)].sum(dtype="int64"))
    return {
        **command_line,
        **dataclasses.asdict(recipe),
        "noise": datasets.DIGITS_NOISE
        if arguments.noise is None and arguments.dataset == "digits"
        else arguments.noise or 0.0,
        "data": {
            "training_images": len(data.x_train),
            "held_out_images": len(data.x_test),
            "image_shape": list(data.x_train.shape[1:]),
            "classes": data.num_classes,
            "checksum": checksum,
        },
        "steps_per_epoch": training.epoch_length(
            recipe.steps, len(data.x_train) // recipe.batch_size, arguments.steps_per_execution
        )[0],
        "backend": keras.backend.backend(),
    }


def prepare(out: pathlib.Path, settings: dict[str, Any], resume: bool) -> None:
    """Makes `out` ready: checks that it can be resumed, or moves what an earlier run left there aside."""
    path = out / "settings.json"
    settings = json.loads(json.dumps(settings))
    if resume and path.exists():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        differing = [
            f"{name} was {earlier.get(name)!r}, now {settings.get(name)!r}"
            for name in sorted({*earlier, *settings})
            if earlier.get(name) != settings.get(name)
        ]
        if differing:
            raise ValueError(f"--resume needs the settings that {out} was started with: {'; '.join(differing)}.")
        return
    if path.exists():
        aside = next(p for i in range(1, sys.maxsize) if not (p := out.with_name(f"{out.name}.{i}")).exists())
        out.rename(aside)
        print(f"Note: the earlier run in {out} is now in {aside}.")
    write_json(path, settings)


def train_and_evaluate(arguments, data, recipe, alpha: float, seed: int, out: pathlib.Path) -> dict[str, Any]:
    """One run, or what is left of it to do: its numbers."""
    directory = out / f"alpha-{alpha:g}" / f"seed-{seed}"
    result_path, checkpoint = directory / "result.json", directory / "checkpoint.npz"
    if result_path.exists():
        return json.loads(result_path.read_text(encoding="utf-8"))
    start = time.monotonic()
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = training.make_model(
        arguments.model,
        data,
        recipe,
        alpha,
        arguments.precision,
        arguments.steps_per_execution,
        {"auto": "auto", "yes": True, "no": False}[arguments.jit_compile],
    )
    length, epochs = training.epoch_length(
        recipe.steps, len(data.x_train) // recipe.batch_size, arguments.steps_per_execution
    )
    monitor = keras_ls.Calibration(
        data.x_test[:CALIBRATION_EXAMPLES],
        data.y_test[:CALIBRATION_EXAMPLES],
        num_bins=evaluation.NUM_BINS,
        from_logits=True,
        log_dir=str(directory),
        freq=arguments.calibration_freq or max(1, epochs // CALIBRATIONS),
    )
    history = training.train(
        model,
        data,
        recipe,
        seed,
        checkpoint,
        arguments.steps_per_execution,
        (monitor,),
        label=f"α={alpha:g} seed={seed}",
    )
    logits = np.asarray(model.predict(data.x_test, batch_size=500, verbose=0), "float32")
    result = {
        "label_smoothing": alpha,
        "seed": seed,
        **evaluation.evaluate(logits, data.y_test),
        "seconds": time.monotonic() - start,
        "device": device(),
        "versions": versions(),
        "history": [{k: v if math.isfinite(v) else None for k, v in epoch.items()} for epoch in history],
    }
    model.save(directory / "model.keras")
    write_json(result_path, result)
    checkpoint.unlink()
    return result


def draw(summary: list[dict[str, Any]], path: pathlib.Path, title: str) -> pathlib.Path:
    """Draws Figure 2: hard targets, the same after temperature scaling, and smoothed targets, over all seeds."""
    import matplotlib.pyplot as plt

    curves = {}
    for row in summary:
        name = "hard targets" if row["label_smoothing"] == 0 else f"α = {row['label_smoothing']:g}"
        curves[name] = evaluation.curve_from_json(row["curve"])
        if row["label_smoothing"] == 0:
            curves[f"hard targets, T = {row['temperature']['mean']:.2f}"] = evaluation.curve_from_json(
                row["curve_scaled"]
            )
    axes = keras_ls.plots.reliability_diagram(curves)
    axes.set_title(title)
    axes.figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(axes.figure)
    return path


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a file as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def versions() -> dict[str, str]:
    """Versions of what the numbers come from."""
    backend = keras.backend.backend()
    return {
        "python": platform.python_version(),
        "keras_ls": keras_ls.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        backend: __import__(backend).__version__,
    }


def device() -> str:
    """The name of the device that the backend computes on."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if gpus:
            return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    elif backend == "jax":
        import jax

        if jax.default_backend() != "cpu":
            return jax.devices()[0].device_kind
    elif backend == "torch":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name(0)
    return f"CPU ({os.cpu_count()} cores)"


if __name__ == "__main__":
    sys.exit(main())
