"""The MNIST experiment of the paper's section 4: do better teachers, trained with smoothing, have worse students?"""

import dataclasses
import itertools
from typing import Any

import numpy as np

from demos.checkpoints import Diverged
from demos.image import datasets, teachers
from demos.image.experiments import Bench, Job, Lesson
from demos.image.training import Recipe, in_epochs

SELECTION_SEED = 1906
MOMENTUM, HEAD_RATE = 0.9, 0.1
BATCH_SIZE = 100
SHIFT = 2
BETA = 0.6


@dataclasses.dataclass(frozen=True)
class Arm:
    """One of the networks that are compared.

    Attributes:
        name: of its row and directory.
        teacher: the arm that it learns from; "" for none.
        paper: test error in %; None where the paper has none.
        kind: "teacher" or "student", which have their grids.
        smoothed: whether its targets are.
        dropout: whether it is trained with dropout.
    """

    name: str
    paper: float | None
    kind: str
    teacher: str = ""
    smoothed: bool = False
    dropout: bool = False


ARMS = (
    Arm("hard teacher", 0.67, "teacher", dropout=True),
    Arm("smoothed teacher", 0.59, "teacher", smoothed=True),
    Arm("student alone", None, "student"),
    Arm("student of the hard teacher", 0.74, "student", "hard teacher"),
    Arm("student of the smoothed teacher", 0.91, "student", "smoothed teacher"),
)


@dataclasses.dataclass(frozen=True)
class Grid:
    """What each arm's settings are chosen from. Rates are the paper's: of momentum in averaged form.

    Attributes:
        teacher_rates: learning rates of both teachers.
        student_rates: learning rates of all students.
        dropout: of the teacher with hard targets.
        steps: updates of each candidate.
    """

    teacher_rates: tuple[float, ...] = (1.0, 0.3)
    student_rates: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03)
    dropout: tuple[float, ...] = (0.2, 0.5)
    steps: int = 10_000

    def candidates(self, arm: Arm) -> list[tuple[float, float]]:
        """Pairs of learning rate and dropout."""
        rates = self.teacher_rates if arm.kind == "teacher" else self.student_rates
        return list(itertools.product(rates, self.dropout if arm.dropout else (0.0,)))


@dataclasses.dataclass(frozen=True)
class Arms:
    """The networks and how long they are trained.

    Attributes:
        steps: updates of each network; 60,000 are 100 epochs.
        label_smoothing: α of the smoothed teacher.
        hidden: widths of a teacher's hidden layers.
        student_hidden: those of a student's.
    """

    steps: int = 60_000
    label_smoothing: float = 0.1
    hidden: tuple[int, ...] = (1200, 1200)
    student_hidden: tuple[int, ...] = (800, 800)

    def job(self, arm: Arm, rate: float, dropout: float, seed: int, teacher: Job | None, steps: int) -> Job:
        """The training of one arm; its directory's name holds all that may change from one run to the next."""
        is_teacher = arm.kind == "teacher"
        recipe = Recipe(
            steps,
            batch_size=BATCH_SIZE,
            # The paper's momentum is averaged, m ← 0.9·m + 0.1·g: with Keras's m ← 0.9·m + g its rate is a tenth.
            learning_rate=rate * (1 - MOMENTUM),
            head_rate=HEAD_RATE,
            momentum=MOMENTUM,
            shift=SHIFT if is_teacher else 0,
            dropout=dropout,
            hidden=self.hidden if is_teacher else self.student_hidden,
        )
        settings = f"rate-{rate:g}" + (f"-dropout-{dropout:g}" if arm.dropout else "")
        if teacher is not None:
            settings += f"-of-{teacher.name.split('/')[1]}"
        return Job(
            name=f"{arm.name.replace(' ', '-')}/{settings}/seed-{seed}",
            network="mlp",
            recipe=recipe,
            seed=seed,
            label_smoothing=self.label_smoothing if arm.smoothed else 0.0,
            lesson=None if teacher is None else Lesson(teacher, beta=BETA, matching="squared_logits"),
            teaches=is_teacher,
            may_diverge=True,
        )


def held_out_part(data: datasets.ImageData) -> datasets.ImageData:
    """A sixth of the training images in place of the test images, which no choice may see."""
    order = np.random.default_rng(datasets.DATA_SEED).permutation(len(data.x_train))
    held_out, rest = np.split(order, [len(order) // 6])
    return dataclasses.replace(
        data,
        x_train=data.x_train[rest],
        y_train=data.y_train[rest],
        x_test=data.x_train[held_out],
        y_test=data.y_train[held_out],
    )


def select(bench: Bench, arms: Arms, grid: Grid) -> dict[str, dict[str, Any]]:
    """Trains all candidates on part of the training images and takes the best of each arm on the rest.

    Returns:
        For each arm its "rate" and "dropout", and the "candidates" with their errors in % (None where one diverged).

    Raises:
        Diverged: where every candidate of an arm did.
    """
    chosen: dict[str, dict[str, Any]] = {}
    best_jobs: dict[str, Job] = {}
    for arm in ARMS:
        pairs = grid.candidates(arm)
        teacher = best_jobs.get(arm.teacher)
        jobs = [arms.job(arm, *pair, SELECTION_SEED, teacher, grid.steps) for pair in pairs]
        jobs = [_with_epochs(bench, job) for job in jobs]
        results = bench.run_all(jobs)
        errors = [_error(result) for result in results]
        best = min(range(len(pairs)), key=lambda i: (errors[i] is None, errors[i]))
        if errors[best] is None:
            raise Diverged(f"Every training of the {arm.name} diverged: give lower rates.")
        best_jobs[arm.name] = jobs[best]
        chosen[arm.name] = {
            "rate": pairs[best][0],
            "dropout": pairs[best][1],
            "candidates": [
                {"rate": rate, "dropout": dropout, "error": error}
                for (rate, dropout), error in zip(pairs, errors, strict=True)
            ],
        }
        print(f"Chosen for the {arm.name}: rate {pairs[best][0]:g}, dropout {pairs[best][1]:g}", flush=True)
    return chosen


def train(bench: Bench, arms: Arms, chosen: dict[str, dict[str, Any]], seeds: list[int]) -> list[dict[str, Any]]:
    """Trains every arm on all training images, with the chosen settings, for each seed; returns the results."""
    return bench.run_all([job for jobs in _final_jobs(bench, arms, chosen, seeds) for job in jobs.values()])


def teacher_measures(bench: Bench, arms: Arms, chosen: dict[str, dict[str, Any]], seeds: list[int]):
    """What the trained teachers have left to teach, as `teachers.summarize` gives it; without those that diverged."""
    measures: dict[str, list[dict[str, float | None]]] = {}
    for jobs in _final_jobs(bench, arms, chosen, seeds):
        for arm in ARMS:
            if arm.kind == "teacher" and bench.run(jobs[arm.name])["accuracy"] is not None:
                measures.setdefault(arm.name, []).append(bench.measures(jobs[arm.name]))
    return teachers.summarize(measures)


def summarize(chosen: dict[str, dict[str, Any]], results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row an arm: the settings, the error in % of each seed (None where it diverged), mean, sample s.d., paper."""
    rows = []
    for arm in ARMS:
        errors = [_error(r) for r in results if r["name"].startswith(arm.name.replace(" ", "-") + "/")]
        valid = [error for error in errors if error is not None]
        rows.append(
            {
                "arm": arm.name,
                "rate": chosen[arm.name]["rate"],
                "dropout": chosen[arm.name]["dropout"],
                "errors": errors,
                "mean": float(np.mean(valid)) if valid else None,
                "sd": float(np.std(valid, ddof=1)) if len(valid) > 1 else None,
                "paper": arm.paper,
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """The summary as cells of text, the header first."""
    cells = [["network", "rate", "dropout", "test error %", "of each seed", "paper"]]
    for row in rows:
        mean = "diverged" if row["mean"] is None else f"{row['mean']:.3f}"
        mean += "" if row["sd"] is None else f" ± {row['sd']:.3f}"
        each = " ".join("diverged" if error is None else f"{error:.2f}" for error in row["errors"])
        paper = "" if row["paper"] is None else f"{row['paper']:.2f}"
        cells.append([row["arm"], f"{row['rate']:g}", f"{row['dropout']:g}", mean, each, paper])
    return cells


def _final_jobs(bench: Bench, arms: Arms, chosen: dict[str, dict[str, Any]], seeds: list[int]) -> list[dict[str, Job]]:
    """For each seed the training of every arm."""
    all_jobs: list[dict[str, Job]] = []
    for seed in seeds:
        jobs: dict[str, Job] = {}
        for arm in ARMS:
            settings = chosen[arm.name]
            job = arms.job(arm, settings["rate"], settings["dropout"], seed, jobs.get(arm.teacher), arms.steps)
            jobs[arm.name] = _with_epochs(bench, job)
        all_jobs.append(jobs)
    return all_jobs


def _with_epochs(bench: Bench, job: Job) -> Job:
    recipe = in_epochs(job.recipe, len(bench.data.x_train), bench.steps_per_execution)
    return dataclasses.replace(job, recipe=recipe)


def _error(result: dict[str, Any]) -> float | None:
    return None if result["accuracy"] is None else 100 * (1 - result["accuracy"])
