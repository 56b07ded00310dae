"""What smoothing does to a network's penultimate activations: the paper's Figure 1 as a grid, and its numbers."""

import argparse
import dataclasses
import logging
import pathlib
import sys
import textwrap
import warnings
from typing import Any

import keras
import numpy as np

import keras_ls
from demos import cli, records
from demos.image import arguments, clusters, runs
from demos.image.datasets import ImageData
from demos.image.earlier import EarlierRun, given

DIGITS_STEPS = 4_000
EPILOG = f"""
Each row of the picture is a triple of classes, each column training or held-out images of networks trained without or
with smoothing (those of the first seed). A point is an image's penultimate activations, projected onto the plane
through the templates (weights and bias in the last layer) of the three classes; a cross is a template. Each panel has
its own scale. In the table:

{textwrap.fill(clusters.RULE, 110)}

--from RUN takes the networks that `python -m demos.image.calibration --out RUN` trained, with their data and
settings, in place of training; without --seeds, all that it has. Settings that are not given are the paper's, as in
that demo, but {DIGITS_STEPS:,} steps for the digits: the effect grows with training.
"""
DIGIT_TRIPLES = [("0", "1", "2"), ("3", "5", "8")]
TRIPLES = {
    "digits": DIGIT_TRIPLES,
    "mnist": DIGIT_TRIPLES,
    "fashion_mnist": [("T-shirt/top", "Trouser", "Bag"), ("Sandal", "Sneaker", "Ankle boot")],
    "cifar10": [("airplane", "automobile", "bird")],
    "cifar100": [("beaver", "dolphin", "otter")],
}
PICTURES = 5
PROJECTED_IMAGES = 1_000

Triple = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that was decided before anything is trained or loaded.

    Attributes:
        experiment: the networks.
        triples: ids of three classes each.
        earlier: the run that trained the networks, or None where this one does.
    """

    experiment: runs.Experiment
    triples: list[Triple]
    earlier: EarlierRun | None

    def networks(self) -> pathlib.Path:
        """Where the networks lie."""
        return self.experiment.out if self.earlier is None else self.earlier.path


def main(argv: list[str] | None = None) -> int:
    """Runs the demo; returns the exit status (2 for bad arguments or data, 1 for training that diverged)."""
    # Each network is compiled anew to show its activations; TensorFlow takes that for a mistake.
    logging.getLogger("tensorflow").addFilter(lambda record: "retracing" not in record.getMessage())
    parser = make_parser()
    return cli.execute(parser, argv, lambda options: plan(options, given(parser, argv)), run)


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.Parser(
        prog="python -m demos.image.projection",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_data_arguments(parser)
    add = parser.add_argument_group("what to show").add_argument
    add(
        "--classes",
        nargs="+",
        action="append",
        metavar="NAME",
        help="three classes by name, a row of the picture; may be repeated (default: the paper's for CIFAR, one or two "
        "rows elsewhere)",
    )
    add(
        "--examples-per-class",
        type=cli.count,
        default=100,
        metavar="N",
        help="points of each class and panel (default: 100)",
    )
    add(
        "--label-smoothing",
        type=cli.fraction,
        nargs="+",
        default=[0.0, 0.1],
        metavar="α",
        help="0 has hard targets (default: 0 0.1)",
    )
    add("--seeds", type=cli.seed, nargs="+", default=[0, 1, 2], metavar="N", help="one network each (default: 0 1 2)")
    add("--from", dest="from_run", metavar="RUN", help="an output directory of demos.image.calibration")
    arguments.add_training_arguments(parser, DIGITS_STEPS)
    arguments.add_running_arguments(parser, out="runs/projection/DATASET-MODEL")
    return parser


def plan(options: argparse.Namespace, on_command_line: set[str]) -> Plan:
    """Loads the data and settles everything that can be wrong before training starts.

    Args:
        options: the command line.
        on_command_line: the names of the options that stand there.

    Raises:
        ValueError: where arguments, data or an earlier run do not fit.
    """
    options.label_smoothing = list(dict.fromkeys(options.label_smoothing))
    if options.from_run is None:
        if options.dataset == "digits" and options.steps is None:
            options.steps = DIGITS_STEPS
        data = runs.load_data(options)
        triples = choose_triples(options, data)
        return Plan(runs.prepare(options, data, "runs/projection"), triples, None)
    earlier = EarlierRun(options.from_run)
    earlier.settle(options, on_command_line)
    earlier.choose(options, on_command_line)
    data = runs.load_data(options)
    earlier.check_data(data)
    triples = choose_triples(options, data)
    earlier.check_networks(options, data, triples)
    out = runs.output_directory(options, data, "runs/projection")
    if out.resolve() in (earlier.path.resolve(), *earlier.path.resolve().parents):
        raise ValueError(f"--out must not be the directory of --from, nor hold it. Received: {out}.")
    settings = {**earlier.settings, "from_run": str(earlier.path.resolve())}
    records.open_directory(out, settings, options.resume)
    return Plan(runs.Experiment(options, data, earlier.recipe(), out, settings), triples, earlier)


def choose_triples(options: argparse.Namespace, data: ImageData) -> list[Triple]:
    """The ids of the classes of each row; says where there are fewer images than asked for.

    Raises:
        ValueError: where a name is not known, a row has not three different classes, or a class has no images.
    """
    names = data.class_names
    rows = options.classes or TRIPLES.get(options.dataset, [])
    if not options.classes and (not rows or not {name for row in rows for name in row} <= set(names)):
        rows = list(dict.fromkeys((names[:3], names[-3:])))
    for row in rows:
        unknown = [name for name in row if name not in names]
        if unknown:
            raise ValueError(f"--classes must be known ones: {', '.join(names)}. Received: {', '.join(unknown)}.")
        if len(row) != 3 or len(set(row)) != 3:
            raise ValueError(f"--classes must be three different classes. Received: {', '.join(row)}.")
    triples = [tuple(names.index(name) for name in row) for row in rows]
    for part, (_, labels) in clusters.parts(data).items():
        counts = {k: int(np.sum(labels == k)) for k in sorted({k for triple in triples for k in triple})}
        if 0 in counts.values():
            missing = ", ".join(names[k] for k, count in counts.items() if not count)
            raise ValueError(f"--classes must have {part} images in {data.name}. Received: {missing}, without any.")
        few = [f"{names[k]} ({count})" for k, count in counts.items() if count < options.examples_per_class]
        if few:
            asked = f"{options.examples_per_class} {part} images"
            print(f"Note: there are fewer than {asked} of {', '.join(few)}; all of them are shown.")
    return triples


def run(plan: Plan) -> dict[str, Any]:
    """Trains or loads, measures, draws and reports; returns what results.json holds."""
    experiment, options, out = plan.experiment, plan.experiment.options, plan.experiment.out
    print(experiment.describe(), flush=True)
    networks, columns = [], {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Class \d+ has \d+ examples, fewer")  # said when it was planned
        for seed in options.seeds:
            for alpha in options.label_smoothing:
                model, accuracy = network(plan, alpha, seed)
                numbers = clusters.measure(model, experiment.data)
                print(f"α={alpha:g} seed={seed}: accuracy {accuracy:.4f}, {clusters.line(numbers)}", flush=True)
                networks.append({"label_smoothing": alpha, "seed": seed, "accuracy": accuracy, "statistics": numbers})
                if seed == options.seeds[0]:
                    columns.update(project(plan, model, alpha))
    summary = clusters.summarize(networks)
    report = {
        "settings": experiment.settings,
        "label_smoothing": options.label_smoothing,
        "seeds": options.seeds,
        "classes": [[experiment.data.class_names[k] for k in triple] for triple in plan.triples],
        "examples_per_class": options.examples_per_class,
        "statistics": clusters.RULE,
        **records.provenance(),
        "summary": summary,
        "runs": networks,
    }
    records.write_json(out / "results.json", clusters.to_json(report))
    table = clusters.table(summary)
    draw(plan, columns)
    text = f"{caption(experiment)}\n\n{table}\n"
    (out / "projection.txt").write_text(text, encoding="utf-8")
    print(f"\n{text}")
    print(f"Results: {out / 'results.json'}, table: {out / 'projection.txt'}")
    print(f"Picture: {out / 'projection.png'} and .pdf\ntensorboard --logdir {out}")
    return report


def network(plan: Plan, alpha: float, seed: int) -> tuple[keras.Model, float]:
    """A network, trained here or before, and its accuracy on held-out images; TensorBoard gets to see it."""
    experiment = plan.experiment
    folder = runs.directory(experiment.out, alpha, seed)
    if plan.earlier is None:

        def watch(experiment: runs.Experiment, folder: pathlib.Path) -> keras.callbacks.Callback:
            return plane_callback(plan, folder, max(1, experiment.recipe.epochs // PICTURES))

        result = runs.train_and_evaluate(experiment, alpha, seed, watch)
    else:
        result = runs.read_result(plan.earlier.path, alpha, seed)
    model = keras.models.load_model(runs.directory(plan.networks(), alpha, seed) / "model.keras", compile=False)
    callbacks = [projector_callback(plan, folder)]
    if plan.earlier is not None:
        callbacks.append(plane_callback(plan, folder, 1))
    show(callbacks, model, experiment.recipe.epochs)
    return model, result["accuracy"]


def plane_callback(plan: Plan, folder: pathlib.Path, freq: int) -> keras.callbacks.Callback:
    """Draws the first triple's training images for TensorBoard."""
    options, data = plan.experiment.options, plan.experiment.data
    return keras_ls.PenultimateProjection(
        data.x_train,
        data.y_train,
        plan.triples[0],
        folder,
        freq=freq,
        examples_per_class=options.examples_per_class,
        class_names=data.class_names,
    )


def projector_callback(plan: Plan, folder: pathlib.Path) -> keras.callbacks.Callback:
    """Writes activations of held-out images for TensorBoard's projector."""
    data = plan.experiment.data
    # A folder of its own, so that a running TensorBoard finds it when it is complete.
    return keras_ls.EmbeddingProjector(
        data.x_test, folder / "activations", labels=data.y_test, images=data.x_test, max_examples=PROJECTED_IMAGES
    )


def show(callbacks: list[keras.callbacks.Callback], model: keras.Model, epochs: int) -> None:
    """Lets callbacks see a trained model as at the end of its training."""
    for callback in callbacks:
        callback.set_model(model)
        callback.on_train_begin()
        callback.on_epoch_end(epochs - 1)
        callback.on_train_end()


def project(plan: Plan, model: keras.Model, alpha: float) -> dict[str, list[keras_ls.Projection]]:
    """A network's columns of the picture: a projection for each triple."""
    data, options = plan.experiment.data, plan.experiment.options
    columns = {}
    for part, (x, y) in clusters.parts(data).items():
        column = []
        for ids in plan.triples:
            projection = keras_ls.project_classes(model, x, y, ids, options.examples_per_class)
            names = tuple(data.class_names[k] for k in ids)
            column.append(dataclasses.replace(projection, class_names=names))
        columns[f"{part}, {f'α = {alpha:g}' if alpha else 'hard targets'}"] = column
    return columns


def draw(plan: Plan, columns: dict[str, list[keras_ls.Projection]]) -> None:
    """Writes the grid as PNG and PDF."""
    experiment = plan.experiment
    rows = [{title: column[i] for title, column in columns.items()} for i in range(len(plan.triples))]
    figure = keras_ls.projection_grid(rows)
    figure.suptitle(f"{experiment.data.name}, {experiment.options.model}, seed {experiment.options.seeds[0]}")
    for kind in ("png", "pdf"):
        figure.savefig(experiment.out / f"projection.{kind}", bbox_inches="tight")


def caption(experiment: runs.Experiment) -> str:
    """What the table is of."""
    return f"{experiment.title()}{' (mean ± s.d.)' if len(experiment.options.seeds) > 1 else ''}"


if __name__ == "__main__":
    sys.exit(main())
