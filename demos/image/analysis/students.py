"""Many small trainings: teachers, students alone, and students of teachers; and what teachers have left to teach.

That is γ, mutual information and the scatter of a trained teacher's clusters, side by side.
"""

import dataclasses
import math
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

import keras_ls
from demos.image import data
from demos.image.analysis import clusters, smoothing
from demos.image.analysis.information import AUGMENT_NOISE, EXAMPLES_PER_CLASS
from demos.image.data.common.augment import Augment, crop_and_flip, noisy, shift
from demos.image.data.common.images import ImageData
from demos.image.networks import building
from demos.image.recipes import Recipe
from demos.kit import checkpoints, cli, devices, records
from demos.kit.errors import DamagedFile
from demos.kit.options import Machine
from demos.kit.runs import Run
from demos.kit.seeds import of_data
from demos.kit.trials import History, Trial, run_trials

PREDICTION_BATCH = 250
LESSON = ("temperature", "beta", "matching")
MEASURES = {
    "gamma": "γ at T = 1",
    "mutual_information": "mutual information",
    "scatter_ratio": "within / between",
    "template_distance_cv": "distance cv",
}


@dataclasses.dataclass(frozen=True)
class Network:
    """A network that is trained once."""

    name: str  # its directory; with the settings of the whole run it says all that the result depends on
    recipe: Recipe  # how it is trained
    seed: int  # the seed of the initial weights, the order of the images, their augmentation, and dropout
    label_smoothing: float = 0.0  # α of the hard-target loss
    teacher: "Network | None" = None  # what it learns from besides labels
    temperature: float = 1.0  # T of the teacher
    beta: float = 1.0  # the share of the teacher in the loss
    matching: str = "cross_entropy"  # "cross_entropy" or "squared_logits"
    teaches: bool = False  # whether the trained network is kept, for students
    may_diverge: bool = False  # whether that is a result, and not an error

    def facts(self) -> dict[str, Any]:
        """What its result says of it."""
        lesson = self.teacher and {"teacher": self.teacher.name} | {name: getattr(self, name) for name in LESSON}
        return {
            "name": self.name,
            "network": self.recipe.model,
            "recipe": self.recipe.changes(),
            "seed": self.seed,
            "label_smoothing": self.label_smoothing,
            "lesson": lesson,
        }


@dataclasses.dataclass(frozen=True)
class Trainings:
    """Where networks are trained: what is on disk is not done again."""

    images: ImageData  # what they learn
    part: str  # the directory in the run
    run: Run  # the run
    machine: Machine  # how they are computed
    _logits: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def results(self, networks: Sequence[Network], later_steps: int = 0) -> list[dict[str, Any]]:
        """The results of all networks, in order; teachers come before their students."""
        labels = [f"[{i}/{len(networks)}] {network.name}" for i, network in enumerate(networks, 1)]
        return run_trials(map(self.trial, networks, labels), self.run, later_steps)

    def trial(self, network: Network, label: str) -> Trial:
        """The training of a network."""
        images, teacher = self.images, network.teacher
        recipe = network.recipe if teacher is None else whole_loss(network.recipe)
        # Where images are augmented the teacher must see the same ones as the student; else its logits are kept.
        is_live = recipe.augment or recipe.shift > 0

        def build() -> tuple[keras.Model, keras.Model]:
            loaded = None
            if teacher is not None:
                self.teacher_logits(teacher)
                devices.new_session()
                loaded = self._load(teacher) if is_live else None
                keras.utils.set_random_seed(network.seed)  # again: to load a network takes random numbers, too
            student = building.build(images.x_train, images.num_classes, recipe, self.machine.precision)
            model = student
            if teacher is not None:
                lesson = (network.temperature, network.beta)
                model = keras_ls.Distiller(loaded, student, *lesson, matching=network.matching)
            building.compile_model(model, recipe, network.label_smoothing, **self.machine.compilation())
            return model, student

        def batches(first_step: int) -> Any:
            targets: Any = images.y_train
            if teacher is not None and not is_live:
                targets = {"labels": targets, "teacher_logits": self.teacher_logits(teacher)}
            return building.batches_of(images.x_train, targets, recipe, network.seed, first_step)

        def evaluate(student: keras.Model | None, history: History) -> dict[str, Any]:
            gamma = self.gamma(network)
            if student is None:
                return {"gamma": gamma, "accuracy": None}
            found = smoothing.confidence(building.predict(student, images.x_test, PREDICTION_BATCH), images.y_test)
            print(f"{label} accuracy {100 * found['accuracy']:.2f} %", flush=True)
            return {"gamma": gamma, **found, "training_accuracy": history[-1]["accuracy"]}

        return Trial(
            name=f"{self.part}/{network.name}",
            seed=network.seed,
            facts=network.facts(),
            build=build,
            batches=batches,
            steps_per_epoch=recipe.steps_per_epoch,
            epochs=recipe.epochs,
            evaluate=evaluate,
            fields={"gamma": (float, None), "accuracy": (float, None) if network.may_diverge else float},
            label=label,
            keeps_network=network.teaches,
            may_diverge=network.may_diverge,
        )

    def gamma(self, network: Network) -> float:
        """The label smoothing that the targets amount to: α itself, or that of the teacher on the training images."""
        if network.teacher is None:
            return network.label_smoothing
        logits = self.teacher_logits(network.teacher)
        return keras_ls.equivalent_smoothing(logits, self.images.y_train, network.temperature)

    def summarize(self, trained: Iterable[tuple[str, Network]]) -> list[dict[str, Any]]:
        """Means of `measure` over seeds, a row for each name of trained teachers; None where a seed has none."""
        groups: dict[str, list[dict[str, float | None]]] = {}
        for name, teacher in trained:
            groups.setdefault(name, []).append(self._measured(teacher))
        # None is NaN as a float, and so is a mean with it.
        return [
            {"teacher": name, "seeds": len(group)}
            | {key: float(np.mean(np.array([entry[key] for entry in group], "float64"))) for key in MEASURES}
            for name, group in groups.items()
        ]

    def teacher_logits(self, teacher: Network) -> np.ndarray:
        """(N, K) logits of a trained teacher for the training images as they are, from disk if they lie there."""
        if teacher.name not in self._logits:
            devices.new_session()
            path = self.run.out / self.part / teacher.name / "teacher_logits.npy"
            with devices.scope():
                network = self._load(teacher)
                if path.exists():
                    records.check_file(path)
                try:
                    logits = keras_ls.teacher_logits(network, self.images.x_train, PREDICTION_BATCH, path)
                except ValueError as error:
                    raise DamagedFile(f"{path} cannot be used: {error}") from error
            self._logits[teacher.name] = np.array(logits)
        return self._logits[teacher.name]

    def _measured(self, teacher: Network) -> dict[str, Any]:
        """What `measure` gives for a trained teacher, from disk if it lies there and is of that very training."""
        folder = self.run.out / self.part / teacher.name
        path, fields = folder / "measures.json", dict.fromkeys(MEASURES, (float, None))
        depends = f"{zlib.crc32((folder / 'result.json').read_bytes()):08x}"
        if not path.exists() or records.read_json(path, fields).get("depends") != depends:
            logits = self.teacher_logits(teacher)
            devices.new_session()
            measured = measure(self._load(teacher), self.images, teacher.recipe, logits)
            records.write_json(path, {**measured, "depends": depends})
        devices.wait()
        return records.read_json(path, fields)

    def _load(self, teacher: Network) -> keras.Model:
        return checkpoints.load_network(self.run.out / self.part / teacher.name)


def whole_loss(recipe: Recipe) -> Recipe:
    """The same training without a factor on the cross-entropy, for losses that have other terms.

    With SGD, a factor c on all but the penalties is the learning rate times c with the penalties over c; a bound on
    the gradient's norm is divided by c, too.
    """
    scale = recipe.loss_scale
    return dataclasses.replace(
        recipe,
        learning_rate=recipe.learning_rate * scale,
        weight_decay=recipe.weight_decay / scale,
        clipnorm=recipe.clipnorm / scale,
        loss_scale=1.0,
    )


def measure(model: keras.Model, images: ImageData, recipe: Recipe, logits: np.ndarray) -> dict[str, float]:
    """The numbers of `MEASURES`, all of training images, of which `logits` (N, K) are the teacher's.

    The mutual information is under the augmentation of its recipe, or noise of s.d. `AUGMENT_NOISE` if it has none.
    """
    augment, generator = _augmentation(recipe), of_data()
    measured = (images.x_train, images.y_train, data.get(images.name).pair)
    information = keras_ls.logit_mutual_information(model, *measured, lambda batch: augment(batch, generator))
    scatter = clusters.measure(model, images)["training"]
    return {
        "gamma": keras_ls.equivalent_smoothing(logits, images.y_train),
        "mutual_information": information,
        "scatter_ratio": scatter["ratio"],
        "template_distance_cv": scatter["template_distance_cv"],
    }


def together(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What `Trainings.summarize` would have given of all the seeds that its rows, of several runs, are of."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["teacher"], []).append(row)
    found = []
    for name, group in groups.items():
        seeds = [row["seeds"] for row in group]
        means = {
            key: None if None in (values := [row[key] for row in group]) else float(np.average(values, weights=seeds))
            for key in MEASURES
        }
        found.append({"teacher": name, "seeds": sum(seeds), **means})
    return found


def teachers_table(rows: list[dict[str, Any]]) -> str:
    """What `Trainings.summarize` gave as a table of text."""
    cells = [["teacher", *MEASURES.values()]]
    for row in rows:
        cells.append([row["teacher"], *("" if row[name] is None else f"{row[name]:.3g}" for name in MEASURES)])
    return cli.aligned(cells)


def legend(images: ImageData, is_augmented: bool) -> str:
    """What the mutual information of teachers may be at most, and under what it is measured, in a line."""
    pair = data.get(images.name).pair
    examples = sum(min(EXAMPLES_PER_CLASS, int(np.sum(images.y_train == k))) for k in pair)
    names = " and ".join(repr(images.class_names[k]) for k in pair)
    drawn = "under the training's augmentation" if is_augmented else f"under noise of s.d. {AUGMENT_NOISE:g}"
    return (
        f"Mutual information of {names} in nats, {drawn}: log 2 = {math.log(2):.2f} where only the class is left, "
        f"log N = {math.log(examples):.2f} where every image is told apart."
    )


def _augmentation(recipe: Recipe) -> Augment:
    if recipe.shift:
        return lambda images, rng: shift(images, rng, recipe.shift)
    return crop_and_flip if recipe.augment else noisy(AUGMENT_NOISE)
