"""Many small trainings, each with a directory of its own: teachers, students alone, and students of teachers."""

import dataclasses
import logging
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

import keras_ls
from demos import records
from demos.checkpoints import Diverged
from demos.image import clusters, teachers, training
from demos.image.datasets import ImageData
from demos.image.training import Recipe

PREDICTION_BATCH = 250


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What a student learns from.

    Attributes:
        teacher: the training whose network teaches.
        temperature: T of the teacher.
        beta: share of the teacher in the loss.
        matching: "cross_entropy" or "squared_logits".
    """

    teacher: "Job"
    temperature: float = 1.0
    beta: float = 1.0
    matching: str = "cross_entropy"


@dataclasses.dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        name: of its directory; with the settings of the whole run it says all that the result depends on.
        network: one of `models.MODELS`.
        recipe: how it is trained.
        seed: of the initial weights, the order of the images, their augmentation, and dropout.
        label_smoothing: α of the hard-target loss.
        lesson: None for a network that learns from labels alone.
        teaches: whether the trained network is kept, for students.
        may_diverge: whether that is a result, and not an error.
    """

    name: str
    network: str
    recipe: Recipe
    seed: int
    label_smoothing: float = 0.0
    lesson: Lesson | None = None
    teaches: bool = False
    may_diverge: bool = False


class Bench:
    """Where jobs are done, each once: what is on disk is not done again."""

    def __init__(
        self,
        data: ImageData,
        out: pathlib.Path,
        precision: str = "float32",
        steps_per_execution: int = 1,
        jit_compile: bool | str = "auto",
    ):
        self.data, self.out, self.precision = data, out, precision
        self.steps_per_execution, self.jit_compile = steps_per_execution, jit_compile
        self._logits: dict[str, np.ndarray] = {}

    def run_all(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        """The results of all jobs, in order; teachers come before their students."""
        # TensorFlow warns of functions that are compiled again and again, as those of many networks are.
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        return [self.run(job, f"[{i}/{len(jobs)}] {job.name}") for i, job in enumerate(jobs, 1)]

    def run(self, job: Job, label: str = "") -> dict[str, Any]:
        """The result of a job, or of what is left of it to do.

        Raises:
            Diverged: where the job may not.
        """
        directory = self.out / job.name
        path, checkpoint = directory / "result.json", directory / "checkpoint.npz"
        if path.exists():
            return records.read_json(path)
        start = time.monotonic()
        gamma = self._gamma(job)
        keras.utils.clear_session()
        teacher = self._live_teacher(job)
        keras.utils.set_random_seed(job.seed)
        student = training.build(job.network, self.data, job.recipe, self.precision)
        history: list[dict[str, Any]] = []
        accuracy = None
        try:
            history = self._train(job, student, teacher, checkpoint, label)
            accuracy = self._accuracy(student)
        except Diverged as error:
            if not job.may_diverge:
                raise
            print(f"{label} diverged: {error}", flush=True)
        if job.teaches:
            student.save(directory / "model.keras")
        result = {
            **_description(job),
            "gamma": gamma,
            "accuracy": accuracy,
            "seconds": time.monotonic() - start,
            **records.provenance(),
            "history": history,
        }
        records.write_json(path, result)
        checkpoint.unlink(missing_ok=True)
        if accuracy is not None:
            print(f"{label} accuracy {100 * accuracy:.2f} % ({result['seconds']:.0f} s)", flush=True)
        return result

    def measures(self, teacher: Job) -> dict[str, float | None]:
        """What `teachers.measure` says of a trained teacher (None for NaN), from disk where it lies there."""
        path = self.out / teacher.name / "measures.json"
        if not path.exists():
            logits = self.teacher_logits(teacher)
            keras.utils.clear_session()
            measures = teachers.measure(self._load(teacher), self.data, teacher.recipe, logits)
            records.write_json(path, clusters.to_json(measures))
        return records.read_json(path)

    def teacher_logits(self, teacher: Job) -> np.ndarray:
        """(N, K) logits of a trained teacher for the training images as they are, from disk where they lie there."""
        if teacher.name not in self._logits:
            keras.utils.clear_session()
            path = self.out / teacher.name / "teacher_logits.npy"
            logits = keras_ls.teacher_logits(self._load(teacher), self.data.x_train, PREDICTION_BATCH, path)
            self._logits[teacher.name] = np.array(logits)
        return self._logits[teacher.name]

    def _train(self, job: Job, student, teacher, checkpoint, label) -> list[dict[str, Any]]:
        recipe, model, targets, lesson = job.recipe, student, None, job.lesson
        if lesson is not None:
            model = keras_ls.Distiller(teacher, student, lesson.temperature, lesson.beta, matching=lesson.matching)
            recipe = whole_loss(recipe)
            if teacher is None:
                targets = {"labels": self.data.y_train, "teacher_logits": self.teacher_logits(lesson.teacher)}
        training.compile_model(model, recipe, job.label_smoothing, self.steps_per_execution, self.jit_compile)
        return training.train(model, self.data, recipe, job.seed, checkpoint, label=label, targets=targets)

    def _live_teacher(self, job: Job) -> keras.Model | None:
        """The teacher itself where the student sees augmented images: it must see the same ones."""
        if job.lesson is None or not (job.recipe.augment or job.recipe.shift):
            return None
        return self._load(job.lesson.teacher)

    def _load(self, teacher: Job) -> keras.Model:
        return keras.models.load_model(self.out / teacher.name / "model.keras", compile=False)

    def _gamma(self, job: Job) -> float:
        """The label smoothing that the targets amount to: α itself, or that of the teacher on the training images."""
        if job.lesson is None:
            return job.label_smoothing
        logits = self.teacher_logits(job.lesson.teacher)
        return keras_ls.equivalent_smoothing(logits, self.data.y_train, job.lesson.temperature)

    def _accuracy(self, model: keras.Model) -> float:
        logits = model.predict(self.data.x_test, batch_size=PREDICTION_BATCH, verbose=0)
        return float(np.mean(np.argmax(logits, axis=-1) == self.data.y_test))


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


def changed_fields(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe is not a default: fields that are added later do not make an earlier run another one."""
    defaults = {field.name: field.default for field in dataclasses.fields(recipe)}
    return {name: value for name, value in dataclasses.asdict(recipe).items() if value != defaults[name]}


def _description(job: Job) -> dict[str, Any]:
    lesson = job.lesson
    taught = {} if lesson is None else {**dataclasses.asdict(lesson), "teacher": lesson.teacher.name}
    return {
        "name": job.name,
        "network": job.network,
        "recipe": changed_fields(job.recipe),
        "seed": job.seed,
        "label_smoothing": job.label_smoothing,
        "lesson": taught or None,
    }
