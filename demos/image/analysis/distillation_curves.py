"""Figure 5 of the paper: accuracy of teachers and students against γ, the label smoothing that targets amount to."""

from typing import Any

import numpy as np

import keras_ls
from demos.image.analysis import teachers
from demos.image.analysis.students import Network, Teaching, Trainings
from demos.image.recipes import Recipe
from demos.kit import cli
from demos.kit.options import Chosen

TEACHER, ALONE, OF_HARD = "teacher", "student alone", "student of the hard teacher, over T"
# What the paper says of each curve.
PAPER = {
    TEACHER: "rises to α = 0.6",
    ALONE: "the baseline",
    OF_HARD: "above the student alone",
    "smoothed": "no better than the student alone, sometimes worse",
}


def of_smoothed(temperature: float) -> str:
    """The name of the curve of smoothed teachers' students."""
    return f"student of smoothed teachers, T = {temperature:g}"


def networks_of(options: Chosen, teacher: Recipe, student: Recipe) -> list[tuple[str, Network]]:
    """All networks with the curves that they are points of, seed by seed, teachers first."""

    def alone(role: str, recipe: Recipe, alpha: float, seed: int) -> Network:
        return Network(f"{role}/alpha-{alpha:g}/seed-{seed}", recipe, seed, alpha, teaches=role == "teacher")

    def taught(of: Network, temperature: float) -> Network:
        name = f"student-of-alpha-{of.label_smoothing:g}/temperature-{temperature:g}/seed-{of.seed}"
        return Network(name, student, of.seed, teaching=Teaching(of, temperature))

    networks, alphas = [], options.label_smoothing
    for seed in options.seeds:
        # The hard teacher is needed for its students, whether or not it is asked for as a point.
        teachers = {alpha: alone("teacher", teacher, alpha, seed) for alpha in sorted({0.0, *alphas})}
        networks += [(TEACHER, each) for each in teachers.values()]
        networks += [(ALONE, alone("student-alone", student, alpha, seed)) for alpha in alphas]
        networks += [(OF_HARD, taught(teachers[0.0], t)) for t in options.temperature]
        for t in options.smoothed_temperature:
            networks += [(of_smoothed(t), taught(teachers[alpha], t)) for alpha in alphas if alpha > 0]
    return networks


def run(trainings: Trainings, options: Chosen, teacher: Recipe, student: Recipe) -> dict[str, Any]:
    """Trains all that is not yet trained.

    Returns:
        For results.json "trials", the results of the trainings; "summary", the points, one per curve and setting over
        all seeds; "margins"; "series", what the picture needs; and "teachers", as `teachers.summarize` gives it.
    """
    names, networks = zip(*networks_of(options, teacher, student), strict=True)
    results = trainings.results(networks)
    groups: dict[tuple[str, float, float | None], list[dict[str, Any]]] = {}
    measures: dict[str, list[dict[str, float | None]]] = {}
    for curve, network, result in zip(names, networks, results, strict=True):
        teaching = network.teaching
        alpha = network.label_smoothing if teaching is None else teaching.teacher.label_smoothing
        groups.setdefault((curve, alpha, None if teaching is None else teaching.temperature), []).append(result)
        if curve == TEACHER:
            measures.setdefault(f"α = {alpha:g}", []).append(trainings.measures(network))
    points = [
        {
            "curve": curve,
            "label_smoothing": alpha,
            "temperature": temperature,
            "gamma": float(np.mean([result["gamma"] for result in group])),
            "accuracy": [result["accuracy"] for result in group],
        }
        for (curve, alpha, temperature), group in groups.items()
    ]
    lines = curves(points).items()
    series = {name: {"gamma": gamma.tolist(), "accuracy": accuracy.tolist()} for name, (gamma, accuracy) in lines}
    summaries = {"summary": points, "margins": margins(points), "teachers": teachers.summarize(measures)}
    return {"trials": results, **summaries, "series": series, "pictures": ["distillation.png", "distillation.pdf"]}


def figure(results: dict[str, Any]) -> Any:
    """Figure 5: accuracy against γ, a line for each curve over the range of its seeds."""
    series = results["series"].items()
    lines = {name: (np.array(line["gamma"]), np.array(line["accuracy"])) for name, line in series}
    axes = keras_ls.distillation_curves(lines)
    axes.set_title(results["title"])
    return axes.figure


def table(results: dict[str, Any]) -> str:
    """The points, and what the paper says of each curve beside what came out."""
    points = results["summary"]
    return f"{cli.aligned(rows(points))}\n\n{cli.aligned(comparison(points))}"


def curves(points: list[dict[str, Any]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The points as `keras_ls.distillation_curves` takes them: γ (P,) and accuracy (seeds, P) of each curve."""
    return {
        name: (
            np.array([p["gamma"] for p in points if p["curve"] == name]),
            np.array([p["accuracy"] for p in points if p["curve"] == name]).T,
        )
        for name in dict.fromkeys(p["curve"] for p in points)
    }


def margins(points: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """How far the students of teachers are above the student alone at the same γ, in points of accuracy %.

    The student alone is interpolated between its α. Points with a γ beyond its largest α are left out.

    Returns:
        For each curve of taught students with such points: "points", how many, "mean" over them and seeds, and "sd",
        of the seeds' means (None for one seed).
    """
    by_name = curves(points)
    if ALONE not in by_name:
        return {}
    gamma_alone, alone = by_name[ALONE]
    order = np.argsort(gamma_alone)
    found = {}
    for name, (gamma, accuracy) in by_name.items():
        inside = (gamma >= gamma_alone.min()) & (gamma <= gamma_alone.max())
        if name in (TEACHER, ALONE) or not inside.any():
            continue
        baseline = np.array([np.interp(gamma[inside], gamma_alone[order], row[order]) for row in alone])
        each = 100 * (accuracy[:, inside] - baseline).mean(axis=1)
        deviation = float(each.std(ddof=1)) if len(each) > 1 else None
        found[name] = {"points": int(inside.sum()), "mean": float(each.mean()), "sd": deviation}
    return found


def rows(points: list[dict[str, Any]]) -> list[list[str]]:
    """The points as cells of text, the header first."""
    cells = [["curve", "α", "T", "γ", "accuracy %", "min", "max"]]
    for point in points:
        accuracy = 100 * np.array(point["accuracy"])
        temperature = "" if point["temperature"] is None else f"{point['temperature']:g}"
        numbers = [f"{number:.2f}" for number in (accuracy.mean(), accuracy.min(), accuracy.max())]
        cells.append([point["curve"], f"{point['label_smoothing']:g}", temperature, f"{point['gamma']:.3f}", *numbers])
    return cells


def comparison(points: list[dict[str, Any]]) -> list[list[str]]:
    """What the paper says of each curve beside what came out, as cells of text, the header first."""
    cells = [["curve", "the paper", "here"]]
    found = margins(points)
    for name, (gamma, accuracy) in curves(points).items():
        mean = 100 * accuracy.mean(axis=0)
        if name in (TEACHER, ALONE):
            best = int(mean.argmax())
            here = f"{mean[gamma.argmin()]:.2f} at α = {gamma.min():g}, best {mean[best]:.2f} at α = {gamma[best]:g}"
        elif name in found:
            margin = found[name]
            spread = "" if margin["sd"] is None else f" ± {margin['sd']:.2f}"
            here = f"{margin['mean']:+.2f}{spread} points from the student alone at the same γ; best {mean.max():.2f}"
        else:
            here = f"best {mean.max():.2f}"
        cells.append([name, PAPER.get(name, PAPER["smoothed"]), here])
    return cells
