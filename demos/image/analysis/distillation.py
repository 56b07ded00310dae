"""Students of hard and of smoothed teachers: what the distillation demo does."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from demos.image import data, recipes
from demos.image.analysis import distillation_curves, distillation_mnist, smoothing, teachers
from demos.image.analysis.students import Trainings
from demos.image.data.common.images import ImageData
from demos.image.recipes import Recipe, paper_recipe
from demos.kit.epochs import in_epochs
from demos.kit.options import Chosen, Machine
from demos.kit.runs import Run, device, open_run, publish

# A title, what every training has in common, and what trains, given where networks are trained.
Planned = tuple[str, dict[str, Any], Callable[[Callable[[str, ImageData], Trainings]], dict[str, Any]]]
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
FIGURE = {"label_smoothing": [0.0, 0.15, 0.3, 0.45, 0.6, 0.75], "smoothed_temperature": [1.0]}
DEFAULTS: dict[str, dict[str, list[Any]]] = {
    "digits": {**FIGURE, "temperature": [1.0, 2.0, 4.0, 8.0, 16.0], "seeds": [0, 1, 2]},
    "cifar10": {**FIGURE, "temperature": [1.0, 2.0, 3.0, 4.0, 8.0, 12.0, 16.0], "seeds": [0, 1, 2, 3, 4]},
    "mnist": {"label_smoothing": [0.1], "seeds": [0, 1, 2]},
}


class Plan(NamedTuple):
    """All that was decided before training starts; `work` trains what is missing, for what results.json holds."""

    images: ImageData
    run: Run
    common: dict[str, Any]
    work: Callable[[], dict[str, Any]]


def plan(options: Chosen) -> Plan:
    """Loads the data and settles everything that can be wrong before training starts.

    Raises:
        ValueError: If arguments, data or an earlier run do not fit.
    """
    name = options.experiment
    for argument in sorted({argument for names in TAKES.values() for argument in names} - set(TAKES[name])):
        if getattr(options, argument) is not None:
            raise ValueError(f"--{argument.replace('_', '-')} is not an argument of --experiment {name}.")
    for argument, values in DEFAULTS[name].items():
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
    common = {"experiment": "demos.image.distillation", "title": title, "seeds": options.seeds}
    common["legend"] = teachers.legend(images)

    def trainings(part: str, seen: ImageData) -> Trainings:
        return Trainings(seen, run, part, options.read(Machine))

    return Plan(images, run, common, lambda: work(trainings))


def run(plan: Plan) -> dict[str, Any]:
    """Trains what is missing and reports; returns what results.json holds."""
    sizes = f"{len(plan.images.x_train)} training and {len(plan.images.x_test)} held-out images"
    print(f"{plan.images.name}: {sizes}, {keras.backend.backend()} on {device()}.", flush=True)
    return publish(plan.run, {**plan.common, **plan.work()}, table, figure)


def table(results: dict[str, Any]) -> str:
    """What was compared, and what the teachers have left to teach, as text."""
    part = distillation_mnist if results["settings"]["experiment"] == "mnist" else distillation_curves
    return f"{part.table(results)}\n\n{teachers.table(results['teachers'])}\n{results['legend']}"


def figure(results: dict[str, Any]) -> Any:
    """Figure 5."""
    return distillation_curves.figure(results)


def _plan_curves(options: Chosen, images: ImageData) -> Planned:
    multiple = options.steps_per_execution
    teacher, student = (in_epochs(recipe, len(images.x_train), "images", multiple) for recipe in _recipes(options))
    fixed = {role: [recipe.model, recipe.changes()] for role, recipe in (("teacher", teacher), ("student", student))}
    seeds = smoothing.seeds_in_words(options.seeds)
    title = f"{images.name}: {_network_name(teacher)} teacher, {_network_name(student)} student, {seeds}"

    def work(trainings: Callable[[str, ImageData], Trainings]) -> dict[str, Any]:
        return distillation_curves.run(trainings("networks", images), options, teacher, student)

    return title, fixed, work


def _plan_mnist(options: Chosen, images: ImageData) -> Planned:
    if len(options.label_smoothing) != 1 or options.label_smoothing[0] == 0:
        raise ValueError(f"--label-smoothing must be one α above 0. Received: {options.label_smoothing}.")
    settings = distillation_mnist.Settings(label_smoothing=options.label_smoothing[0])
    settings = _given(settings, options, **{name: name for name in ("steps", *OF_MLP, *OF_MNIST)})

    def work(trainings: Callable[[str, ImageData], Trainings]) -> dict[str, Any]:
        selection = trainings("selection", distillation_mnist.held_out_part(images))
        return distillation_mnist.run(selection, trainings("final", images), settings, options.seeds)

    return f"{images.name}, {smoothing.seeds_in_words(options.seeds)}", settings.fixed(), work


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
