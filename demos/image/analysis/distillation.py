"""Students of hard and of smoothed teachers: what the distillation demo does."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import keras

from demos.image import data, recipes
from demos.image.analysis import distillation_curves, distillation_mnist, smoothing, teachers
from demos.image.analysis.students import Trainings
from demos.image.data.common.images import ImageData
from demos.image.recipes import Recipe, paper_recipe
from demos.kit.options import Chosen, Machine
from demos.kit.runs import Run, device, open_run, publish

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
ALPHAS = [0.0, 0.15, 0.3, 0.45, 0.6, 0.75]
DEFAULTS: dict[str, dict[str, list[Any]]] = {
    "digits": {"label_smoothing": ALPHAS, "temperature": [1.0, 2.0, 4.0, 8.0, 16.0], "seeds": [0, 1, 2]},
    "cifar10": {
        "label_smoothing": ALPHAS,
        "temperature": [1.0, 2.0, 3.0, 4.0, 8.0, 12.0, 16.0],
        "seeds": [0, 1, 2, 3, 4],
    },
    "mnist": {"label_smoothing": [0.1], "seeds": [0, 1, 2]},
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that was decided before training starts.

    Attributes:
        images: What is learned.
        run: Where results go.
        title: What is compared, in words.
        work: Trains what is missing; returns what results.json holds besides.
    """

    images: ImageData
    run: Run
    title: str
    seeds: list[int]
    work: Callable[[Callable[[str, ImageData], Trainings]], dict[str, Any]]
    machine: Machine


def plan(options: Chosen) -> Plan:
    """Loads the data and settles everything that can be wrong before training starts.

    Raises:
        ValueError: If arguments, data or an earlier run do not fit.
    """
    name = options.experiment
    for argument in sorted({argument for names in TAKES.values() for argument in names} - set(TAKES[name])):
        if getattr(options, argument) is not None:
            raise ValueError(f"--{argument.replace('_', '-')} is not an argument of --experiment {name}.")
    for argument, values in {**DEFAULTS[name], "smoothed_temperature": [1.0]}.items():
        setattr(options, argument, list(dict.fromkeys(getattr(options, argument) or values)))
    if name == "digits" and options.noise is None:
        options.noise = DIGITS_NOISE
    recipes.steps_per_execution(options)
    images = data.load(name, options.data_dir, options.noise or 0.0)
    title, fixed, work = (_plan_mnist if name == "mnist" else _plan_curves)(options, images)
    settings = {
        "experiment": name,
        **fixed,
        **({} if options.noise is None else {"noise": options.noise}),
        "precision": options.precision,
        "data": images.fingerprint(),
        "backend": keras.backend.backend(),
    }
    run = open_run(pathlib.Path(options.out or f"runs/distillation/{name}"), settings, options.resume)
    return Plan(images, run, title, options.seeds, work, options.read(Machine))


def run(plan: Plan) -> dict[str, Any]:
    """Trains what is missing and reports; returns what results.json holds."""
    images = plan.images
    print(
        f"{images.name}: {len(images.x_train)} training and {len(images.x_test)} held-out images, "
        f"{keras.backend.backend()} on {device()}.",
        flush=True,
    )
    results = plan.work(lambda part, seen: Trainings(seen, plan.run, part, plan.machine))
    common = {"experiment": "demos.image.distillation", "title": plan.title, "seeds": plan.seeds}
    return publish(plan.run, {**common, "legend": teachers.legend(images), **results}, table, figure)


def table(results: dict[str, Any]) -> str:
    """What was compared, and what the teachers have left to teach, as text."""
    part = distillation_mnist if results["settings"]["experiment"] == "mnist" else distillation_curves
    return f"{part.table(results)}\n\n{teachers.table(results['teachers'])}\n{results['legend']}"


def figure(results: dict[str, Any]) -> Any:
    """Figure 5."""
    return distillation_curves.figure(results)


def _plan_curves(options: Chosen, images: ImageData) -> tuple[str, dict[str, Any], Callable[..., dict[str, Any]]]:
    multiple = options.steps_per_execution
    teacher, student = (recipes.in_epochs(recipe, len(images.x_train), multiple) for recipe in _recipes(options))
    plan = distillation_curves.Plan(
        teacher,
        student,
        tuple(options.label_smoothing),
        tuple(options.temperature),
        tuple(options.smoothed_temperature),
        tuple(options.seeds),
    )
    fixed = {role: [recipe.model, recipe.changes()] for role, recipe in (("teacher", teacher), ("student", student))}
    seeds = smoothing.seeds_in_words(options.seeds)
    title = f"{images.name}: {_network_name(teacher)} teacher, {_network_name(student)} student, {seeds}"
    return title, fixed, lambda trainings: distillation_curves.run(trainings("networks", images), plan)


def _plan_mnist(options: Chosen, images: ImageData) -> tuple[str, dict[str, Any], Callable[..., dict[str, Any]]]:
    if len(options.label_smoothing) != 1 or options.label_smoothing[0] == 0:
        raise ValueError(f"--label-smoothing must be one α above 0. Received: {options.label_smoothing}.")
    settings = distillation_mnist.Settings(label_smoothing=options.label_smoothing[0])
    settings = _given(settings, options, steps="steps", hidden="hidden", student_hidden="student_hidden")
    grid = _given(
        distillation_mnist.Grid(),
        options,
        steps="selection_steps",
        teacher_rates="teacher_rates",
        student_rates="student_rates",
        dropout="dropout",
    )
    fixed = {**dataclasses.asdict(settings), "selection_steps": grid.steps, "beta": distillation_mnist.BETA}

    def work(trainings: Callable[[str, ImageData], Trainings]) -> dict[str, Any]:
        selection = trainings("selection", distillation_mnist.held_out_part(images))
        return distillation_mnist.run(selection, trainings("final", images), settings, grid, options.seeds)

    return f"{images.name}, {smoothing.seeds_in_words(options.seeds)}", fixed, work


def _recipes(options: Chosen) -> tuple[Recipe, Recipe]:
    """The recipes of teacher and student."""
    if options.experiment == "cifar10":
        augment = options.augment is not False
        teacher, student = (
            dataclasses.replace(paper_recipe(network, "cifar10"), augment=augment) for network in ("resnet", "alexnet")
        )
    else:
        teacher = dataclasses.replace(paper_recipe("mlp", "digits"), shift=DIGITS_SHIFT if options.augment else 0)
        student = dataclasses.replace(teacher, hidden=())
    teacher = _given(teacher, options, steps="steps", hidden="hidden", depth="depth")
    teacher = _given(teacher, options, steps="teacher_steps")
    return teacher, _given(student, options, steps="steps", hidden="student_hidden")


def _given(settings: Any, options: Chosen, **names: str) -> Any:
    """A dataclass with the options of these names, if they were given, in place of its fields."""
    given = {field: getattr(options, name) for field, name in names.items() if getattr(options, name) is not None}
    return dataclasses.replace(settings, **{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})


def _network_name(recipe: Recipe) -> str:
    """What a network is called in titles: an MLP without hidden layers is linear."""
    return "linear" if recipe.model == "mlp" and not recipe.hidden else recipe.model
