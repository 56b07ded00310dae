"""The MNIST experiment of the paper's section 4: do better teachers, trained with smoothing, have worse students?"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from demos.image.analysis.students import Network, Trainings
from demos.image.data.common.images import ImageData
from demos.image.recipes import Recipe
from demos.kit import cli
from demos.kit.epochs import epoch_length, in_epochs
from demos.kit.errors import Diverged
from demos.kit.measures import mean_and_sd
from demos.kit.options import Chosen
from demos.kit.seeds import of_data
from demos.kit.smoothing import seeds_in_words

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


class MnistExperiment:
    """Settings are chosen on part of the training images; then every kind is trained on all of them, for each seed."""

    def __init__(self, options: Chosen, images: ImageData):
        if len(options.label_smoothing) != 1 or options.label_smoothing[0] == 0:
            raise ValueError(f"--label-smoothing must be one α above 0. Received: {options.label_smoothing}.")
        self.options, self.images, self.label_smoothing = options, images, options.label_smoothing[0]
        self.title = f"{images.name}, {seeds_in_words(options.seeds)}"
        # What a run cannot go on without: the candidates may change.
        fixed = {name: getattr(options, name) for name in ("steps", "hidden", "student_hidden", "selection_steps")}
        in_epochs(Recipe(batch_size=BATCH_SIZE), len(held_out_part(images).x_train), "images")  # refuses too few
        parts = (options.selection_steps, held_out_part(images)), (options.steps, images)
        passes = [(steps, len(part.x_train) // BATCH_SIZE) for steps, part in parts]
        lengths = [epoch_length(*each, options.steps_per_execution)[0] for each in passes]
        self.defaults = {"steps_per_epoch": lengths}  # runs of earlier versions do not name theirs
        self.settings = {**fixed, "label_smoothing": self.label_smoothing, "beta": BETA, **self.defaults}

    def candidates(self, kind: Kind) -> list[tuple[float, float]]:
        """Pairs of learning rate and dropout."""
        rates = self.options.teacher_rates if kind.role == "teacher" else self.options.student_rates
        return list(itertools.product(rates, self.options.dropout if kind.dropout else [0.0]))

    def network(
        self, kind: Kind, pair: tuple[float, float], teacher: Network | None, seed: int, steps: int, num_images: int
    ) -> Network:
        """A network of one kind; its directory's name holds all that may change from one run to the next."""
        rate, dropout = pair
        is_teacher = kind.role == "teacher"
        recipe = Recipe(
            steps=steps,
            batch_size=BATCH_SIZE,
            # The paper's momentum is averaged, m ← 0.9·m + 0.1·g: with Keras's, which is a sum, its rate is a tenth.
            learning_rate=rate * (1 - MOMENTUM),
            head_rate=HEAD_RATE,
            momentum=MOMENTUM,
            shift=SHIFT if is_teacher else 0,
            dropout=dropout,
            hidden=tuple(self.options.hidden if is_teacher else self.options.student_hidden),
        )
        settings = f"rate-{rate:g}" + (f"-dropout-{dropout:g}" if kind.dropout else "")
        if teacher is not None:
            settings += f"-of-{teacher.name.split('/')[1]}"
        return Network(
            name=f"{_folder(kind)}/{settings}/seed-{seed}",
            recipe=in_epochs(recipe, num_images, "images", self.options.steps_per_execution),
            seed=seed,
            label_smoothing=self.label_smoothing if kind.smoothed else 0.0,
            teacher=teacher,
            beta=BETA,
            matching="squared_logits",
            teaches=is_teacher,
            may_diverge=True,
        )

    def select(self, trainings: Trainings, later_steps: int) -> dict[str, dict[str, Any]]:
        """Trains all candidates on part of the training images and takes the best of each kind on the rest.

        Errors are in %, and None where a training diverged; it raises Diverged if every candidate of a kind did.
        """
        chosen: dict[str, dict[str, Any]] = {}
        best_networks: dict[str, Network] = {}
        steps, num_images = self.options.selection_steps, len(trainings.images.x_train)
        later_steps += steps * sum(len(self.candidates(kind)) for kind in KINDS)
        for kind in KINDS:
            pairs, teacher = self.candidates(kind), best_networks.get(kind.teacher)
            networks = [self.network(kind, pair, teacher, SELECTION_SEED, steps, num_images) for pair in pairs]
            later_steps -= steps * len(networks)
            errors = [_error(result) for result in trainings.results(networks, later_steps)]
            best = min(range(len(pairs)), key=lambda i: (errors[i] is None, errors[i]))
            if errors[best] is None:
                raise Diverged(f"Every training of the {kind.name} diverged: give lower rates.")
            best_networks[kind.name] = networks[best]
            rate, dropout = pairs[best]
            candidates = [{"rate": r, "dropout": d, "error": e} for (r, d), e in zip(pairs, errors, strict=True)]
            chosen[kind.name] = {"rate": rate, "dropout": dropout, "candidates": candidates}
            print(f"Chosen for the {kind.name}: rate {rate:g}, dropout {dropout:g}", flush=True)
        return chosen

    def run(self, trainings_of: Callable[[ImageData, str], Trainings]) -> dict[str, Any]:
        """Chooses each kind's settings, then trains every kind on all training images, for each seed."""
        images, seeds, steps = self.images, self.options.seeds, self.options.steps
        print("Selection on held-out training digits", flush=True)
        chosen = self.select(trainings_of(held_out_part(images), "selection"), steps * len(seeds) * len(KINDS))
        networks: list[Network] = []
        for seed in seeds:
            of_seed: dict[str, Network] = {}
            for kind in KINDS:
                pair = (chosen[kind.name]["rate"], chosen[kind.name]["dropout"])
                teacher = of_seed.get(kind.teacher)
                of_seed[kind.name] = self.network(kind, pair, teacher, seed, steps, len(images.x_train))
            networks += of_seed.values()
        final = trainings_of(images, "final")
        results = final.results(networks)
        finished = [
            (kind.name, network)
            for network, kind, result in zip(networks, KINDS * len(seeds), results, strict=True)
            if network.teaches and result["accuracy"] is not None
        ]
        summaries = {"summary": summarize(chosen, results), "teachers": final.summarize(finished)}
        return {"selection": chosen, "trials": results, **summaries, "series": {}, "pictures": []}


def held_out_part(images: ImageData) -> ImageData:
    """A sixth of the training images in place of the test images, which no choice may see."""
    held_out, rest = np.split(of_data().permutation(len(images.x_train)), [len(images.x_train) // 6])
    x, y = images.x_train, images.y_train
    return dataclasses.replace(images, x_train=x[rest], y_train=y[rest], x_test=x[held_out], y_test=y[held_out])


def is_of(result: dict[str, Any]) -> bool:
    """Whether a result is of a network of this experiment."""
    return result["name"].startswith(tuple(f"{_folder(kind)}/rate-" for kind in KINDS))


def of_trials(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The summary of trained networks, of all seeds."""
    chosen = {}
    for kind in KINDS:
        recipe = next(result["recipe"] for result in results if result["name"].startswith(f"{_folder(kind)}/"))
        chosen[kind.name] = {"rate": recipe["learning_rate"] / (1 - MOMENTUM), "dropout": recipe.get("dropout", 0.0)}
    return {"summary": summarize(chosen, results), "series": {}}


def summarize(chosen: dict[str, dict[str, Any]], results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per kind: settings, the error in % of each seed (None if it diverged), mean, sample s.d., paper."""
    rows = []
    for kind in KINDS:
        errors = [_error(r) for r in results if r["name"].startswith(f"{_folder(kind)}/")]
        valid = [error for error in errors if error is not None]
        rows.append(
            {
                "arm": kind.name,
                **{name: chosen[kind.name][name] for name in ("rate", "dropout")},
                "errors": errors,
                **(mean_and_sd(valid) if valid else {"mean": None, "sd": None}),
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


def _folder(kind: Kind) -> str:
    return kind.name.replace(" ", "-")


def _error(result: dict[str, Any]) -> float | None:
    return None if result["accuracy"] is None else 100 * (1 - result["accuracy"])
