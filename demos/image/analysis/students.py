"""Many small trainings: teachers, students alone, and students of teachers."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

import keras_ls
from demos.image.analysis import teachers
from demos.image.data.common.images import ImageData
from demos.image.networks import building
from demos.image.recipes import Recipe
from demos.kit import checkpoints, records
from demos.kit.errors import DamagedFile
from demos.kit.options import Machine
from demos.kit.runs import Run
from demos.kit.trials import History, Trial, run_trials

PREDICTION_BATCH = 250


@dataclasses.dataclass(frozen=True)
class Teaching:
    """What a student learns from."""

    teacher: "Network"  # the network that teaches
    temperature: float = 1.0  # T of the teacher
    beta: float = 1.0  # the share of the teacher in the loss
    matching: str = "cross_entropy"  # "cross_entropy" or "squared_logits"


@dataclasses.dataclass(frozen=True)
class Network:
    """A network that is trained once."""

    name: str  # its directory; with the settings of the whole run it says all that the result depends on
    recipe: Recipe  # how it is trained
    seed: int  # the seed of the initial weights, the order of the images, their augmentation, and dropout
    label_smoothing: float = 0.0  # α of the hard-target loss
    teaching: Teaching | None = None  # None for a network that learns from labels alone
    teaches: bool = False  # whether the trained network is kept, for students
    may_diverge: bool = False  # whether that is a result, and not an error

    def facts(self) -> dict[str, Any]:
        """What its result says of it."""
        taught = self.teaching and {**dataclasses.asdict(self.teaching), "teacher": self.teaching.teacher.name}
        return {
            "name": self.name,
            "network": self.recipe.model,
            "recipe": self.recipe.changes(),
            "seed": self.seed,
            "label_smoothing": self.label_smoothing,
            "lesson": taught,
        }


@dataclasses.dataclass(frozen=True)
class Trainings:
    """Where networks are trained: what is on disk is not done again."""

    images: ImageData  # what they learn
    run: Run  # the run
    part: str  # the directory in it
    machine: Machine  # how they are computed
    _logits: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def results(self, networks: Sequence[Network]) -> list[dict[str, Any]]:
        """The results of all networks, in order; teachers come before their students."""
        labels = [f"[{i}/{len(networks)}] {network.name}" for i, network in enumerate(networks, 1)]
        return run_trials(map(self.trial, networks, labels), self.run)

    def trial(self, network: Network, label: str = "") -> Trial:
        """The training of a network."""
        recipe, teaching = network.recipe, network.teaching
        if teaching is not None:
            recipe = whole_loss(recipe)
        gamma: list[float] = []
        targets: list[Any] = []

        def build() -> tuple[keras.Model, keras.Model]:
            gamma.append(self._gamma(network))
            keras.utils.clear_session()
            teacher = self._live_teacher(network)
            keras.utils.set_random_seed(network.seed)  # again: to load a network takes random numbers, too
            model = student = self._build(network.recipe)
            targets.append(self.images.y_train)
            if teaching is not None:
                how = (teaching.temperature, teaching.beta)
                model = keras_ls.Distiller(teacher, student, *how, matching=teaching.matching)
                if teacher is None:
                    targets[0] = {"labels": targets[0], "teacher_logits": self.teacher_logits(teaching.teacher)}
            building.compile_model(model, recipe, network.label_smoothing, **self.machine.compilation())
            return model, student

        def evaluate(student: keras.Model | None, history: History) -> dict[str, Any]:
            accuracy = None if student is None else self._accuracy(student)
            if accuracy is not None:
                print(f"{label} accuracy {100 * accuracy:.2f} %", flush=True)
            return {"gamma": gamma[0], "accuracy": accuracy}

        return Trial(
            f"{self.part}/{network.name}",
            network.seed,
            network.facts(),
            build,
            lambda first: building.batches_of(self.images.x_train, targets[0], recipe, network.seed, first),
            recipe.steps_per_epoch,
            recipe.epochs,
            evaluate,
            {"gamma": (float, None), "accuracy": (float, None) if network.may_diverge else float},
            label=label,
            keeps_network=network.teaches,
            may_diverge=network.may_diverge,
        )

    def measures(self, teacher: Network) -> dict[str, float | None]:
        """What `teachers.measure` says of a trained teacher (None for NaN), from disk if it lies there."""
        path = self.run.out / self.part / teacher.name / "measures.json"
        if not path.exists():
            logits = self.teacher_logits(teacher)
            keras.utils.clear_session()
            records.write_json(path, teachers.measure(self._load(teacher), self.images, teacher.recipe, logits))
        return records.read_json(path, dict.fromkeys(teachers.MEASURES, (float, None)))

    def teacher_logits(self, teacher: Network) -> np.ndarray:
        """(N, K) logits of a trained teacher for the training images as they are, from disk if they lie there."""
        if teacher.name not in self._logits:
            keras.utils.clear_session()
            path = self.run.out / self.part / teacher.name / "teacher_logits.npy"
            network = self._load(teacher)
            if path.exists():
                records.check_file(path)
            try:
                logits = keras_ls.teacher_logits(network, self.images.x_train, PREDICTION_BATCH, path)
            except ValueError as error:
                raise DamagedFile(f"{path} cannot be used: {error}") from error
            self._logits[teacher.name] = np.array(logits)
        return self._logits[teacher.name]

    def _build(self, recipe: Recipe) -> keras.Model:
        return building.build(self.images.x_train, self.images.num_classes, recipe, self.machine.precision)

    def _live_teacher(self, network: Network) -> keras.Model | None:
        """The teacher itself where the student sees augmented images: it must see the same ones."""
        if network.teaching is None or not (network.recipe.augment or network.recipe.shift):
            return None
        return self._load(network.teaching.teacher)

    def _load(self, teacher: Network) -> keras.Model:
        return checkpoints.load_network(self.run.out / self.part / teacher.name)

    def _gamma(self, network: Network) -> float:
        """The label smoothing that the targets amount to: α itself, or that of the teacher on the training images."""
        if network.teaching is None:
            return network.label_smoothing
        logits = self.teacher_logits(network.teaching.teacher)
        return keras_ls.equivalent_smoothing(logits, self.images.y_train, network.teaching.temperature)

    def _accuracy(self, model: keras.Model) -> float:
        logits = building.predict(model, self.images.x_test, PREDICTION_BATCH)
        return float(np.mean(np.argmax(logits, axis=-1) == self.images.y_test))


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
