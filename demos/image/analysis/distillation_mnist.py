"""The MNIST experiment of the paper's section 4: do better teachers, trained with smoothing, have worse students?"""

import dataclasses
import itertools
from typing import Any

import numpy as np

from demos.image.analysis import teachers
from demos.image.analysis.students import Network, Teaching, Trainings
from demos.image.data.common.images import ImageData
from demos.image.recipes import Recipe
from demos.kit import cli
from demos.kit.epochs import in_epochs
from demos.kit.errors import Diverged
from demos.kit.seeds import of_data

SELECTION_SEED = 1906
MOMENTUM, HEAD_RATE = 0.9, 0.1
BATCH_SIZE = 100
SHIFT = 2
BETA = 0.6


@dataclasses.dataclass(frozen=True)
class Kind:
    """One of the kinds of networks that are compared."""

    name: str  # the name of its row and directory
    paper: float | None  # the test error in %; None if the paper has none
    role: str  # "teacher" or "student", which have their grids
    teacher: str = ""  # the kind that it learns from; "" for none
    smoothed: bool = False  # whether its targets are
    dropout: bool = False  # whether it is trained with dropout


KINDS = (
    Kind("hard teacher", 0.67, "teacher", dropout=True),
    Kind("smoothed teacher", 0.59, "teacher", smoothed=True),
    Kind("student alone", None, "student"),
    Kind("student of the hard teacher", 0.74, "student", "hard teacher"),
    Kind("student of the smoothed teacher", 0.91, "student", "smoothed teacher"),
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The networks, how long they are trained, and what the rest is chosen from."""

    steps: int = 60_000  # updates of each network; 60,000 are 100 epochs
    label_smoothing: float = 0.1  # α of the smoothed teacher
    hidden: tuple[int, ...] = (1200, 1200)  # widths of a teacher's hidden layers
    student_hidden: tuple[int, ...] = (800, 800)  # widths of a student's hidden layers
    selection_steps: int = 10_000  # updates of each candidate
    # Candidates for the learning rates of both teachers, as the paper's: of averaged momentum
    teacher_rates: tuple[float, ...] = (1.0, 0.3)
    student_rates: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03)  # candidates for the learning rates of all students
    dropout: tuple[float, ...] = (0.2, 0.5)  # candidates for the rate of dropout of the teacher with hard targets

    def fixed(self) -> dict[str, Any]:
        """What a run cannot go on without: the candidates may change."""
        names = ("steps", "label_smoothing", "hidden", "student_hidden", "selection_steps")
        return {**{name: getattr(self, name) for name in names}, "beta": BETA}

    def candidates(self, kind: Kind) -> list[tuple[float, float]]:
        """Pairs of learning rate and dropout."""
        rates = self.teacher_rates if kind.role == "teacher" else self.student_rates
        return list(itertools.product(rates, self.dropout if kind.dropout else (0.0,)))

    def network(
        self,
        trainings: Trainings,
        kind: Kind,
        choice: tuple[float, float],
        seed: int,
        teacher: Network | None,
        steps: int,
    ) -> Network:
        """A network of one kind; its directory's name holds all that may change from one run to the next."""
        rate, dropout = choice
        is_teacher = kind.role == "teacher"
        recipe = Recipe(
            steps=steps,
            batch_size=BATCH_SIZE,
            # The paper's momentum is averaged, m ← 0.9·m + 0.1·g: with Keras's m ← 0.9·m + g its rate is a tenth.
            learning_rate=rate * (1 - MOMENTUM),
            head_rate=HEAD_RATE,
            momentum=MOMENTUM,
            shift=SHIFT if is_teacher else 0,
            dropout=dropout,
            hidden=self.hidden if is_teacher else self.student_hidden,
        )
        settings = f"rate-{rate:g}" + (f"-dropout-{dropout:g}" if kind.dropout else "")
        if teacher is not None:
            settings += f"-of-{teacher.name.split('/')[1]}"
        return Network(
            name=f"{kind.name.replace(' ', '-')}/{settings}/seed-{seed}",
            recipe=in_epochs(recipe, len(trainings.images.x_train), "images", trainings.machine.steps_per_execution),
            seed=seed,
            label_smoothing=self.label_smoothing if kind.smoothed else 0.0,
            teaching=None if teacher is None else Teaching(teacher, beta=BETA, matching="squared_logits"),
            teaches=is_teacher,
            may_diverge=True,
        )


def held_out_part(images: ImageData) -> ImageData:
    """A sixth of the training images in place of the test images, which no choice may see."""
    held_out, rest = np.split(of_data().permutation(len(images.x_train)), [len(images.x_train) // 6])
    x, y = images.x_train, images.y_train
    return dataclasses.replace(images, x_train=x[rest], y_train=y[rest], x_test=x[held_out], y_test=y[held_out])


def select(trainings: Trainings, settings: Settings) -> dict[str, dict[str, Any]]:
    """Trains all candidates on part of the training images and takes the best of each kind on the rest.

    Returns:
        For each kind its "rate" and "dropout", and the "candidates" with their errors in % (None if one diverged).

    Raises:
        demos.kit.errors.Diverged: If every candidate of a kind did.
    """
    chosen: dict[str, dict[str, Any]] = {}
    best_networks: dict[str, Network] = {}
    for kind in KINDS:
        pairs, teacher = settings.candidates(kind), best_networks.get(kind.teacher)
        networks = [
            settings.network(trainings, kind, pair, SELECTION_SEED, teacher, settings.selection_steps) for pair in pairs
        ]
        errors = [_error(result) for result in trainings.results(networks)]
        best = min(range(len(pairs)), key=lambda i: (errors[i] is None, errors[i]))
        if errors[best] is None:
            raise Diverged(f"Every training of the {kind.name} diverged: give lower rates.")
        best_networks[kind.name] = networks[best]
        rate, dropout = pairs[best]
        candidates = [{"rate": r, "dropout": d, "error": error} for (r, d), error in zip(pairs, errors, strict=True)]
        chosen[kind.name] = {"rate": rate, "dropout": dropout, "candidates": candidates}
        print(f"Chosen for the {kind.name}: rate {rate:g}, dropout {dropout:g}", flush=True)
    return chosen


def run(selection: Trainings, final: Trainings, settings: Settings, seeds: list[int]) -> dict[str, Any]:
    """Chooses each kind's settings, then trains every kind on all training images, for each seed.

    Returns:
        For results.json "selection", as `select` gives it; "trials", the results of the trainings; "summary"; and
        "teachers", as `teachers.summarize` gives it, without those that diverged.
    """
    print("Selection on held-out training digits", flush=True)
    chosen = select(selection, settings)
    networks: list[tuple[str, Network]] = []
    for seed in seeds:
        of_seed: dict[str, Network] = {}
        for kind in KINDS:
            pair = (chosen[kind.name]["rate"], chosen[kind.name]["dropout"])
            teacher = of_seed.get(kind.teacher)
            of_seed[kind.name] = settings.network(final, kind, pair, seed, teacher, settings.steps)
        networks += of_seed.items()
    results = final.results([network for _, network in networks])
    measures: dict[str, list[dict[str, float | None]]] = {}
    for (kind_name, network), result in zip(networks, results, strict=True):
        if network.teaches and result["accuracy"] is not None:
            measures.setdefault(kind_name, []).append(final.measures(network))
    summaries = {"summary": summarize(chosen, results), "teachers": teachers.summarize(measures)}
    return {"selection": chosen, "trials": results, **summaries, "series": {}, "pictures": []}


def summarize(chosen: dict[str, dict[str, Any]], results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per kind: settings, the error in % of each seed (None if it diverged), mean, sample s.d., paper."""
    rows = []
    for kind in KINDS:
        errors = [_error(r) for r in results if r["name"].startswith(kind.name.replace(" ", "-") + "/")]
        valid = [error for error in errors if error is not None]
        rows.append(
            {
                "arm": kind.name,
                "rate": chosen[kind.name]["rate"],
                "dropout": chosen[kind.name]["dropout"],
                "errors": errors,
                "mean": float(np.mean(valid)) if valid else None,
                "sd": float(np.std(valid, ddof=1)) if len(valid) > 1 else None,
                "paper": kind.paper,
            }
        )
    return rows


def table(results: dict[str, Any]) -> str:
    """The summary as text."""
    cells = [["network", "rate", "dropout", "test error %", "of each seed", "paper"]]
    for row in results["summary"]:
        mean = "diverged" if row["mean"] is None else f"{row['mean']:.3f}"
        mean += "" if row["sd"] is None else f" ± {row['sd']:.3f}"
        each = " ".join("diverged" if error is None else f"{error:.2f}" for error in row["errors"])
        paper = "" if row["paper"] is None else f"{row['paper']:.2f}"
        cells.append([row["arm"], f"{row['rate']:g}", f"{row['dropout']:g}", mean, each, paper])
    return cli.aligned(cells)


def _error(result: dict[str, Any]) -> float | None:
    return None if result["accuracy"] is None else 100 * (1 - result["accuracy"])
