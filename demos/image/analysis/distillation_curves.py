"""Figure 5 of the paper: accuracy of teachers and students against γ, the label smoothing that targets amount to."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

import keras_ls
from demos.image.analysis.students import Network, Trainings
from demos.image.data.common.images import ImageData
from demos.image.recipes import Recipe, paper_recipe
from demos.kit import cli, pictures
from demos.kit.epochs import in_epochs
from demos.kit.measures import grouped, mean_and_sd
from demos.kit.options import Chosen
from demos.kit.smoothing import seeds_in_words

DIGITS_SHIFT = 1
TEACHER, ALONE, OF_HARD = "teacher", "student alone", "student of the hard teacher, over T"
# What the paper says of each curve.
PAPER = {
    TEACHER: "rises to α = 0.6",
    ALONE: "the baseline",
    OF_HARD: "above the student alone",
    "student of smoothed teachers, T = 1": "no better than the student alone, sometimes worse",
}


class Figure5:
    """Teachers of several α, such students alone, and students of these teachers."""

    def __init__(self, options: Chosen, images: ImageData):
        if "smoothed_temperature" in options.given() and not any(options.label_smoothing):
            raise ValueError("--smoothed-temperature needs a --label-smoothing above 0.")
        self.options, self.images = options, images
        self.teacher, self.student = (
            in_epochs(recipe, len(images.x_train), "images", options.steps_per_execution)
            for recipe in recipes_of(options)
        )
        roles = {"teacher": self.teacher, "student": self.student}
        self.defaults: dict[str, Any] = {}
        self.settings = {role: [recipe.model, recipe.changes()] for role, recipe in roles.items()}
        names = (f"{network_name(recipe)} {role}" for role, recipe in roles.items())
        self.title = f"{images.name}: {', '.join(names)}, {seeds_in_words(options.seeds)}"

    def networks(self) -> list[Network]:
        """All networks, seed by seed, teachers first."""

        def alone(role: str, recipe: Recipe, alpha: float, seed: int) -> Network:
            return Network(f"{role}/alpha-{alpha:g}/seed-{seed}", recipe, seed, alpha, teaches=role == "teacher")

        def taught(by: Network, temperature: float) -> Network:
            name = f"student-of-alpha-{by.label_smoothing:g}/temperature-{temperature:g}/seed-{by.seed}"
            return Network(name, self.student, by.seed, teacher=by, temperature=temperature)

        networks: list[Network] = []
        alphas = self.options.label_smoothing
        # The hard teacher is needed for its students, whether or not it is asked for as a point.
        taught_by = sorted({*alphas, 0.0} if self.options.temperature else alphas)
        for seed in self.options.seeds:
            teachers = {alpha: alone("teacher", self.teacher, alpha, seed) for alpha in taught_by}
            networks += teachers.values()
            alone_alphas = self.options.alone_label_smoothing or alphas
            networks += [alone("student-alone", self.student, alpha, seed) for alpha in alone_alphas]
            networks += [taught(teachers[0.0], t) for t in self.options.temperature]
            for t in self.options.smoothed_temperature:
                networks += [taught(teachers[alpha], t) for alpha in alphas if alpha > 0]
        return networks

    def run(self, trainings_of: Callable[[ImageData, str], Trainings]) -> dict[str, Any]:
        """Trains all that is not yet trained; the summary has a point per curve and setting, over all seeds."""
        trainings = trainings_of(self.images, "networks")
        networks = self.networks()
        results = trainings.results(networks)
        return {
            "trials": results,
            **of_trials(results),
            "teachers": trainings.summarize((f"α = {n.label_smoothing:g}", n) for n in networks if n.teaches),
            "pictures": ["distillation.png", "distillation.pdf"],
        }


def of_trials(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The points of trained networks, a point per curve and setting, over all seeds, and what follows from them.

    Left out are seeds without some of the points of the one that has most, such as those trained in part so far.
    """
    places: dict[int, set[Any]] = {}
    for result in results:
        places.setdefault(result["seed"], set()).add(place_of(result))
    most = max(places.values(), key=len)
    seeds = [seed for seed, found in places.items() if found == most]
    results = [result for result in results if result["seed"] in seeds]
    points = [
        {
            "curve": curve,
            "label_smoothing": alpha,
            "temperature": temperature,
            "gamma": float(np.mean([result["gamma"] for result in group])),
            "gammas": [result["gamma"] for result in group],
            "accuracy": [result["accuracy"] for result in group],
        }
        for (curve, alpha, temperature), group in grouped(results, place_of).items()
    ]
    lines = curves(points).items()
    series = {name: {"gamma": gamma.tolist(), "accuracy": rows.tolist()} for name, (gamma, rows) in lines}
    return {"seeds": seeds, "summary": points, "margins": margins(points), "series": series}


def place_of(result: dict[str, Any]) -> tuple[str, float, float | None]:
    """The curve that a network is a point of, its α or its teacher's, and its teacher's temperature."""
    lesson = result["lesson"]
    if lesson is None:
        return TEACHER if result["name"].startswith("teacher/") else ALONE, result["label_smoothing"], None
    alpha, temperature = float(lesson["teacher"].split("/")[1].removeprefix("alpha-")), lesson["temperature"]
    return OF_HARD if alpha == 0 else f"student of smoothed teachers, T = {temperature:g}", alpha, temperature


def recipes_of(options: Chosen) -> tuple[Recipe, Recipe]:
    """The recipes of teacher and student."""
    if options.experiment == "cifar10":
        teacher, student = (
            dataclasses.replace(paper_recipe(network, "cifar10"), augment=options.augment)
            for network in ("resnet", "alexnet")
        )
    else:
        teacher = dataclasses.replace(paper_recipe("mlp", "digits"), shift=DIGITS_SHIFT if options.augment else 0)
        # The only layer of a linear student is no last layer of a deep network.
        student = teacher if options.student_hidden else dataclasses.replace(teacher, head_rate=1.0)
    steps = options.teacher_steps or options.steps
    teacher = _with_given(teacher, steps=steps, hidden=options.hidden, depth=options.depth, clipnorm=options.clipnorm)
    return teacher, _with_given(student, steps=options.steps, hidden=options.student_hidden)


def _with_given(recipe: Recipe, **values: Any) -> Recipe:
    given = {name: value for name, value in values.items() if value is not None}
    changes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    return dataclasses.replace(recipe, **changes)


def network_name(recipe: Recipe) -> str:
    """What a network is called in titles: an MLP without hidden layers is linear."""
    return "linear" if recipe.model == "mlp" and not recipe.hidden else recipe.model


def figure(results: dict[str, Any]) -> Any:
    """Figure 5: accuracy against γ, a line for each curve over the range of its seeds."""
    axes = keras_ls.distillation_curves(curves(results["summary"]))
    axes.set_title(pictures.plain(results["title"]))
    return axes.figure


def table(results: dict[str, Any]) -> str:
    """The points, and what the paper says of each curve beside what came out."""
    cells = [["curve", "α", "T", "γ", "accuracy %", "min", "max"]]
    for point in results["summary"]:
        accuracy = 100 * np.array(point["accuracy"])
        temperature = "" if point["temperature"] is None else f"{point['temperature']:g}"
        numbers = [f"{number:.2f}" for number in (accuracy.mean(), accuracy.min(), accuracy.max())]
        cells.append([point["curve"], f"{point['label_smoothing']:g}", temperature, f"{point['gamma']:.3f}", *numbers])
    return f"{cli.aligned(cells)}\n\n{cli.aligned(comparison(results['summary']))}"


def curves(points: list[dict[str, Any]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The points as `keras_ls.distillation_curves` takes them: γ (P,) and accuracy (seeds, P) of each curve."""
    return {
        name: (np.array([p["gamma"] for p in line]), np.array([p["accuracy"] for p in line]).T)
        for name, line in grouped(points, lambda point: point["curve"]).items()
    }


def margins(points: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """How far the students of teachers are above the student alone at the same γ, in points of accuracy %.

    Each seed has a γ of its own (but in results of earlier versions), at which its student alone is interpolated
    between its α. Points with a γ beyond the largest α are left out. Each curve of taught students with others has
    "points", how many, the "mean" over them and seeds, "each", the seeds' means, "sd", their deviation (None for one
    seed), and "at", the seeds' margins at each point.
    """
    by_name, by_curve = curves(points), grouped(points, lambda point: point["curve"])
    if ALONE not in by_name:
        return {}
    gamma_alone, alone = by_name[ALONE]
    order = np.argsort(gamma_alone)
    found = {}
    for name, (gamma, accuracy) in by_name.items():
        gammas = np.array(
            [point.get("gammas", [g] * len(accuracy)) for point, g in zip(by_curve[name], gamma, strict=True)]
        ).T
        inside = ((gammas >= gamma_alone.min()) & (gammas <= gamma_alone.max())).all(axis=0)
        if name in (TEACHER, ALONE) or not inside.any():
            continue
        baseline = np.array(
            [np.interp(own, gamma_alone[order], row[order]) for own, row in zip(gammas[:, inside], alone, strict=True)]
        )
        above = 100 * (accuracy[:, inside] - baseline)
        each = above.mean(axis=1)
        there = [point for point, is_inside in zip(by_curve[name], inside, strict=True) if is_inside]
        at = [
            {"temperature": point["temperature"], "label_smoothing": point["label_smoothing"], "each": column.tolist()}
            for point, column in zip(there, above.T, strict=True)
        ]
        found[name] = {"points": len(there), "each": each.tolist(), **mean_and_sd(each), "at": at}
    return found


def comparison(points: list[dict[str, Any]]) -> list[list[str]]:
    """What the paper says of each curve beside what came out, as cells of text, the header first."""
    cells = [["curve", "the paper", "here"]]
    found = margins(points)
    for name, (gamma, accuracy) in curves(points).items():
        mean = 100 * accuracy.mean(axis=0)
        best = int(mean.argmax())
        if name in (TEACHER, ALONE):
            here = f"{mean[gamma.argmin()]:.2f} at α = {gamma.min():g}, best {mean[best]:.2f} at α = {gamma[best]:g}"
        elif name in found:
            margin = found[name]
            spread = "" if margin["sd"] is None else f" ± {margin['sd']:.2f}"
            there, total = margin["points"], len(gamma)
            some = f" ({there} of {total} markers; the rest lie outside that curve's range)" if there < total else ""
            apart = f"{margin['mean']:+.2f}{spread} percentage points from the student alone at the same γ{some}"
            here = f"{apart}; best {mean[best]:.2f}"
        else:
            here = f"best {mean[best]:.2f}"
        cells.append([name, PAPER.get(name, ""), here])
    return cells
