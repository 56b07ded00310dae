"""Students of hard and of smoothed teachers: what the distillation demo does."""

import functools
import pathlib
from typing import Any, NamedTuple

import keras
import numpy as np

from demos.image import data
from demos.image.analysis import distillation_curves, distillation_mnist, students
from demos.image.analysis.students import Trainings, legend, teachers_table
from demos.kit.epochs import settle_steps_per_execution
from demos.kit.options import Chosen, Machine
from demos.kit.runs import Run, check_apart, device, open_run, publish


class Plan(NamedTuple):
    """All that was decided before training starts."""

    options: Chosen  # the command line
    experiment: distillation_curves.Figure5 | distillation_mnist.MnistExperiment  # what is trained
    run: Run  # where results go


def plan(options: Chosen) -> Plan:
    """Loads the data and settles everything that can be wrong before training starts."""
    name = options.experiment
    options.settle("experiment")
    settle_steps_per_execution(options)
    images = data.load(name, options.data_dir, options.noise or 0.0)
    if options.train_images is not None:
        images = data.draw(images, options.train_images)
    pair = data.get(name).pair
    counts = [int(np.sum(images.y_train == k)) for k in pair]
    if 0 in counts:
        raise ValueError(f"{name} must have training images of the classes {pair}. Received: {counts} of them.")
    kind = distillation_mnist.MnistExperiment if name == "mnist" else distillation_curves.Figure5
    experiment = kind(options, images)
    settings = {
        "experiment": name,
        **experiment.settings,
        **{each: value for each in ("noise", "train_images") if (value := getattr(options, each)) is not None},
        "precision": options.precision,
        "data": images.fingerprint,
        "backend": keras.backend.backend(),
    }
    out = pathlib.Path(options.out or f"runs/distillation/{name}")
    if not options.resume:
        check_apart(out, {"--data-dir": options.data_dir})
    run = open_run(out, settings, options.resume, experiment.defaults)
    return Plan(options, experiment, run)


def run(plan: Plan) -> dict[str, Any]:
    """Trains what is missing and reports; returns what results.json holds."""
    options, images = plan.options, plan.experiment.images
    sizes = f"{len(images.x_train)} training and {len(images.x_test)} held-out images"
    print(f"{images.name}: {sizes}, {keras.backend.backend()} on {device()}.", flush=True)
    results = {
        "experiment": "demos.image.distillation",
        "title": plan.experiment.title,
        "seeds": options.seeds,
        "legend": legend(images, bool(options.augment) or options.experiment == "mnist"),
        **plan.experiment.run(functools.partial(Trainings, run=plan.run, machine=options.read(Machine))),
    }
    return publish(plan.run, results, table, figure)


def table(results: dict[str, Any]) -> str:
    """What was compared, and what the teachers have left to teach, as text."""
    part = distillation_mnist if results["settings"]["experiment"] == "mnist" else distillation_curves
    return f"{part.table(results)}\n\n{teachers_table(results['teachers'])}\n{results['legend']}"


def of_trials(results: list[dict[str, Any]]) -> dict[str, Any]:
    """What follows from trained networks of one of the experiments, over all seeds."""
    part = distillation_mnist if any(map(distillation_mnist.is_of, results)) else distillation_curves
    return part.of_trials(results)


def together(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The means over the teachers of several results, each of which knows those of its own."""
    return {"teachers": students.together([row for results in found for row in results["teachers"]])}


figure = distillation_curves.figure
