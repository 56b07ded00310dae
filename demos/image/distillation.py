"""Students of hard and of smoothed teachers: the paper's Figure 5 and its MNIST experiment (section 4)."""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import keras

import keras_ls
from demos import cli, records
from demos.image import arguments, datasets, runs, teachers
from demos.image import distillation_figure as figure
from demos.image import distillation_mnist as mnist
from demos.image.experiments import Bench, changed_fields
from demos.image.training import Recipe, paper_recipe

NETWORKS = ("resnet", "alexnet")
CIFAR_STEPS = " and ".join(f"{paper_recipe(network, 'cifar10').steps:,}" for network in NETWORKS)
EPILOG = f"""
digits   Figure 5 on 900 digits with some noise: an MLP of 2×200 teaches a linear student. Minutes.
cifar10  Figure 5 as in the paper, ResNet-56 to AlexNet, with 40,000 training and 10,000 held-out images. The paper
         takes 64,000 and 390,000 steps, the demo {CIFAR_STEPS} where --steps does not say otherwise. Images are
         augmented.
mnist    Two teachers of 2×1200 on shifted digits, their students of 2×800 (β = {mnist.BETA}, squared logits, no shifts,
         from cached logits), and such a student alone. The paper leaves gaps: each network's learning rate, and the
         hard teacher's dropout, are chosen on 10,000 of the training digits from candidates trained for
         --selection-steps on the other 50,000; then all are trained on the 60,000 and judged on the test digits.

Where images are augmented the teacher runs at each step of its student, to see what the student sees; elsewhere its
logits are computed once and read from disk.

In figure 5 students learn from the teacher alone (β = 1, T for the teacher, 1 for the student). γ is measured on the
training images; where nothing is said, results are on held-out ones and every setting is the paper's or the demo's own.
Under the results stands what the teachers have left to teach, all of training images: γ, the mutual information of two
classes' logits (under the augmentation, or noise of s.d. {teachers.NOISE} of full scale), and how tight the classes'
clusters are in the span of the templates' differences.
Each training lies in --out as a directory of its own: --resume adds seeds, α and T to those that are there.
"""
# At the 0.4 of the calibration demo the noise bounds all networks alike, and teachers teach what they learnt by heart.
DIGITS_NOISE = 0.2
DIGITS_SHIFT = 1
OF_FIGURE = ("label_smoothing", "temperature", "smoothed_temperature", "teacher_steps")
OF_MNIST = ("selection_steps", "teacher_rates", "student_rates", "dropout")
OF_MLP = ("hidden", "student_hidden")
# The arguments that an experiment takes besides those of all.
TAKES = {
    "digits": (*OF_FIGURE, *OF_MLP, "augment", "noise"),
    "cifar10": (*OF_FIGURE, "augment", "depth"),
    "mnist": ("label_smoothing", *OF_MNIST, *OF_MLP),
}
DEFAULTS: dict[str, dict[str, list[Any]]] = {
    "digits": {
        "label_smoothing": [0.0, 0.15, 0.3, 0.45, 0.6, 0.75],
        "temperature": [1.0, 2.0, 4.0, 8.0, 16.0],
        "seeds": [0, 1, 2],
    },
    "cifar10": {
        "label_smoothing": [0.0, 0.15, 0.3, 0.45, 0.6, 0.75],
        "temperature": [1.0, 2.0, 3.0, 4.0, 8.0, 12.0, 16.0],
        "seeds": [0, 1, 2, 3, 4],
    },
    "mnist": {"label_smoothing": [0.1], "seeds": [0, 1, 2]},
}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that was decided before training starts.

    Attributes:
        options: the command line.
        data: what is learned.
        out: where results go.
        settings: what every training in `out` has in common.
        run: trains what is missing; returns what results.json holds besides.
    """

    options: argparse.Namespace
    data: datasets.ImageData
    out: pathlib.Path
    settings: dict[str, Any]
    run: Callable[["Experiment"], dict[str, Any]]

    def bench(self, part: str, data: datasets.ImageData) -> Bench:
        """Where jobs are done: in a directory `part`."""
        options = self.options
        jit_compile = runs.JIT_COMPILE[options.jit_compile]
        return Bench(data, self.out / part, options.precision, options.steps_per_execution, jit_compile)


def main(argv: list[str] | None = None) -> int:
    """Runs the demo; returns the exit status (2 for bad arguments or data, 1 for training that diverged)."""
    return cli.execute(make_parser(), argv, plan, run)


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.Parser(
        prog="python -m demos.image.distillation",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--experiment", choices=tuple(TAKES), default="digits", help="see below (default: digits)")
    parser.add_argument("--data-dir", help=f"where NAME.npz lies, else ${datasets.DIRECTORY_VARIABLE} is looked at")
    parser.add_argument("--noise", type=cli.not_negative, metavar="X", help=f"of the digits (default: {DIGITS_NOISE})")
    add = parser.add_argument_group("what to compare").add_argument
    add(
        "--seeds",
        type=cli.seed,
        nargs="+",
        metavar="N",
        help="one of every network each (default: 0 1 2; CIFAR: 0 to 4)",
    )
    add("--label-smoothing", type=cli.fraction, nargs="+", metavar="α", help="of teachers and students alone "
        "(default: 0 0.15 0.3 0.45 0.6 0.75); mnist takes one, the smoothed teacher's (default: 0.1)")  # fmt: skip
    add("--temperature", type=cli.positive, nargs="+", metavar="T", help="of the hard teacher (default: 1 2 4 8 16; "
        "CIFAR: 1 2 3 4 8 12 16)")  # fmt: skip
    add("--smoothed-temperature", type=cli.positive, nargs="+", metavar="T", help="of smoothed teachers (default: 1)")
    add = parser.add_argument_group("networks and training").add_argument
    add("--steps", type=cli.count, metavar="N", help="updates of each network (default: the epilog's)")
    add("--teacher-steps", type=cli.count, metavar="N", help="of the teachers, where they are not --steps")
    add("--hidden", type=cli.count, nargs="+", metavar="N", help="widths of the MLP teacher's hidden layers")
    add("--student-hidden", type=cli.count, nargs="*", metavar="N", help="those of the student; none: it is linear")
    add(
        "--augment",
        action=argparse.BooleanOptionalAction,
        help="shift training images by up to a pixel (digits; default: no), or crop and flip them (CIFAR; default: "
        "yes), at random",
    )
    add("--depth", type=arguments.depth, metavar="N", help="of the ResNet: 6·n + 2 (default: 56)")
    grid = mnist.Grid()
    add = parser.add_argument_group("mnist: candidates").add_argument
    add("--selection-steps", type=cli.count, metavar="N", help=f"of each (default: {grid.steps:,})")
    add("--teacher-rates", type=cli.positive, nargs="+", metavar="X", help=f"(default: {_listed(grid.teacher_rates)})")
    add("--student-rates", type=cli.positive, nargs="+", metavar="X", help=f"(default: {_listed(grid.student_rates)})")
    add("--dropout", type=cli.fraction, nargs="+", metavar="X", help=f"(default: {_listed(grid.dropout)})")
    arguments.add_running_arguments(parser, out="runs/distillation/EXPERIMENT")
    return parser


def plan(options: argparse.Namespace) -> Experiment:
    """Loads the data and settles everything that can be wrong before training starts.

    Raises:
        ValueError: where arguments, data or an earlier run do not fit.
    """
    name = options.experiment
    for argument in sorted({argument for names in TAKES.values() for argument in names} - set(TAKES[name])):
        if getattr(options, argument) is not None:
            raise ValueError(f"--{argument.replace('_', '-')} is not an argument of --experiment {name}.")
    for argument, values in {**DEFAULTS[name], "smoothed_temperature": [1.0]}.items():
        setattr(options, argument, list(dict.fromkeys(getattr(options, argument) or values)))
    if name == "digits" and options.noise is None:
        options.noise = DIGITS_NOISE
    arguments.settle_steps_per_execution(options)
    data = datasets.load(name, options.data_dir, options.noise or 0.0)
    fixed, run = (_plan_mnist if name == "mnist" else _plan_figure)(options, data)
    settings = {
        "experiment": name,
        **fixed,
        **({} if options.noise is None else {"noise": options.noise}),
        "precision": options.precision,
        "data": data.fingerprint(),
        "backend": keras.backend.backend(),
    }
    out = pathlib.Path(options.out or f"runs/distillation/{name}")
    records.open_directory(out, settings, options.resume)
    return Experiment(options, data, out, settings, run)


def run(experiment: Experiment) -> None:
    """Trains what is missing, prints the tables and writes results.json."""
    data = experiment.data
    print(
        f"{data.name}: {len(data.x_train)} training and {len(data.x_test)} held-out images, "
        f"{keras.backend.backend()} on {records.device()}.",
        flush=True,
    )
    results = experiment.run(experiment)
    path = experiment.out / "results.json"
    fixed = {"settings": experiment.settings, "seeds": experiment.options.seeds, **records.provenance()}
    records.write_json(path, {**fixed, **results})
    print(f"Results: {path}", flush=True)


def _plan_figure(options, data):
    recipes = _recipes(options)
    teacher, student = (
        (network, arguments.settle_epochs(recipe, len(data.x_train), options.steps_per_execution))
        for network, recipe in recipes
    )
    plan = figure.Plan(
        teacher,
        student,
        tuple(options.label_smoothing),
        tuple(options.temperature),
        tuple(options.smoothed_temperature),
        tuple(options.seeds),
    )
    fixed = {
        role: [network, changed_fields(recipe)]
        for role, (network, recipe) in zip(("teacher", "student"), (teacher, student), strict=True)
    }

    def run(experiment: Experiment) -> dict[str, Any]:
        bench = experiment.bench("networks", data)
        points, results = figure.run(bench, plan)
        measures = figure.teacher_measures(bench, plan)
        seeds = f"{len(plan.seeds)} seed{'s' * (len(plan.seeds) > 1)}"
        title = f"{data.name}: {_network_name(*teacher)} teacher, {_network_name(*student)} student, {seeds}"
        print(f"\n{title}\n\n{cli.aligned(figure.table(points))}\n\n{cli.aligned(figure.comparison(points))}\n")
        print(f"{teachers.table(measures)}\n{teachers.legend(data)}\n")
        axes = keras_ls.distillation_curves(figure.curves(points))
        axes.set_title(title)
        for suffix in ("png", "pdf"):
            path = experiment.out / f"distillation.{suffix}"
            axes.figure.savefig(path, bbox_inches="tight")
            print(f"Picture: {path}")
        return {"points": points, "margins": figure.margins(points), "teachers": measures, "runs": results}

    return fixed, run


def _plan_mnist(options, data):
    if len(options.label_smoothing) != 1 or options.label_smoothing[0] == 0:
        raise ValueError(f"--label-smoothing must be one α above 0. Received: {options.label_smoothing}.")
    arms = _given(mnist.Arms(label_smoothing=options.label_smoothing[0]), options, ("steps", *OF_MLP))
    names = {"selection_steps": "steps"}
    grid = _given(mnist.Grid(), options, OF_MNIST, names)
    fixed = {**dataclasses.asdict(arms), "selection_steps": grid.steps, "beta": mnist.BETA}

    def run(experiment: Experiment) -> dict[str, Any]:
        print("Selection on held-out training digits", flush=True)
        chosen = mnist.select(experiment.bench("selection", mnist.held_out_part(data)), arms, grid)
        final = experiment.bench("final", data)
        results = mnist.train(final, arms, chosen, options.seeds)
        measures = mnist.teacher_measures(final, arms, chosen, options.seeds)
        rows = mnist.summarize(chosen, results)
        print(f"\n{cli.aligned(mnist.table(rows))}\n\n{teachers.table(measures)}\n{teachers.legend(data)}\n")
        return {"selection": chosen, "summary": rows, "teachers": measures, "runs": results}

    return fixed, run


def _recipes(options: argparse.Namespace) -> list[tuple[str, Recipe]]:
    """Network and recipe of teacher and student."""
    if options.experiment == "cifar10":
        augment = options.augment is not False
        recipes = [(name, dataclasses.replace(paper_recipe(name, "cifar10"), augment=augment)) for name in NETWORKS]
    else:
        recipe = dataclasses.replace(paper_recipe("mlp", "digits"), shift=DIGITS_SHIFT if options.augment else 0)
        recipes = [("mlp", recipe), ("mlp", dataclasses.replace(recipe, hidden=()))]
    (teacher, t), (student, s) = recipes
    t = _given(t, options, ("steps", "hidden", "depth"))
    t = _given(t, options, ("teacher_steps",), {"teacher_steps": "steps"})
    s = _given(s, options, ("steps", "student_hidden"), {"student_hidden": "hidden"})
    return [(teacher, t), (student, s)]


def _given(
    settings: Any, options: argparse.Namespace, names: tuple[str, ...], fields: dict[str, str] | None = None
) -> Any:
    """A dataclass with those of the named arguments that were given in place of its fields."""
    given = {
        (fields or {}).get(name, name): getattr(options, name) for name in names if getattr(options, name) is not None
    }
    return dataclasses.replace(settings, **{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})


def _network_name(network: str, recipe: Recipe) -> str:
    """What a network is called in titles: an MLP without hidden layers is linear."""
    return "linear" if network == "mlp" and not recipe.hidden else network


def _listed(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


if __name__ == "__main__":
    sys.exit(main())
