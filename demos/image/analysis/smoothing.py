"""Image networks trained once for each label smoothing and seed: described, trained and measured.

The temperatures that their logits are scaled with never saw the images they are judged on.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

import keras_ls
from demos.image.data.common.images import ImageData
from demos.image.networks import building
from demos.image.recipes import Recipe
from demos.kit import measures
from demos.kit.options import Machine
from demos.kit.runs import device
from demos.kit.seeds import of_data
from demos.kit.smoothing import Comparison
from demos.kit.trials import History, Trial, run_trials

Callbacks = Callable[[keras.Model, pathlib.Path], Sequence[keras.callbacks.Callback]]
COLUMNS = (measures.Column("accuracy %", "accuracy", 2, 100), *measures.COLUMNS, measures.RANKING)
MEASURES = ("accuracy", *measures.SCALED)
# What `evaluate` gives, as `records.read_json` takes it.
FIELDS = {**dict.fromkeys(MEASURES, float), "curve": measures.CURVE, "curve_scaled": measures.CURVE}


def describe(images: ImageData, recipe: Recipe, shown: str | None = None) -> str:
    """The data, the network and the machine in a line; `shown` stands in place of the numbers of images."""
    sizes = (
        f"{len(images.x_train)} training and {len(images.x_test)} held-out images of "
        f"{'×'.join(map(str, images.x_train.shape[1:]))}, {images.num_classes} classes"
    )
    return (
        f"{images.name}: {shown or sizes}. {recipe.model}, {recipe.steps} steps of {recipe.batch_size}, "
        f"{keras.backend.backend()} on {device()}."
    )


def train(comparison: Comparison, callbacks: Callbacks) -> list[dict[str, Any]]:
    """Trains each network; the results are its accuracy and calibration on the held-out images."""
    images = comparison.data

    def judge(model: keras.Model | None, history: History) -> dict[str, Any]:
        return evaluate(building.predict(model, images.x_test), images.y_test)

    judged: dict[str, Any] = {"evaluate": judge, "fields": FIELDS, "callbacks": callbacks}
    return run_trials([trial(comparison, *each, **judged) for each in comparison.networks], comparison.run)


def trial(comparison: Comparison, alpha: float, seed: int, x_train: Any = None, **judged: Any) -> Trial:
    """The training of one network, on `x_train` if given, else on the data; `judged` are further fields of `Trial`."""
    images, recipe, machine = comparison.data, comparison.recipe, comparison.options.read(Machine)
    x = images.x_train if x_train is None else x_train

    def build() -> tuple[keras.Model, keras.Model]:
        model = building.build(images.x_train, images.num_classes, recipe, machine.precision)
        building.compile_model(model, recipe, alpha, **machine.compilation())
        return model, model

    def batches(first_step: int) -> Any:
        return building.batches_of(x, images.y_train, recipe, seed, first_step)

    return comparison.trial(alpha, seed, build=build, batches=batches, **judged)


def evaluate(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Accuracy, NLL (nats) and ECE (15 bins), before and after temperature scaling, with their reliability curves.

    Of `logits` (N, K) and class ids (N,) of held-out images, N of at least 2: the numbers of `MEASURES`, the
    "temperatures" of the two halves, "curve" and "curve_scaled" for JSON, and what `measures.diagnosis` gives.
    """
    return {**_calibration(logits, labels), **measures.diagnosis(logits, labels)}


def confidence(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Of what `evaluate` gives the "accuracy", the "ece" and the "temperature": whether a network is too sure."""
    found = _calibration(logits, labels)
    return {name: found[name] for name in ("accuracy", "ece", "temperature")}


def _calibration(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    halves = np.array_split(of_data().permutation(len(labels)), 2)
    scaled = np.empty_like(logits)
    temperatures = []
    for mine, other in (halves, halves[::-1]):
        scaling = keras_ls.TemperatureScaling().fit(logits[other], labels[other])
        temperatures.append(float(keras.ops.convert_to_numpy(scaling.temperature)))
        scaled[mine] = logits[mine] / temperatures[-1]
    return {
        "accuracy": float(np.mean(logits.argmax(-1) == labels)),
        **measures.calibration(logits, labels),
        **{f"{name}_scaled": value for name, value in measures.calibration(scaled, labels).items()},
        "temperature": float(np.mean(temperatures)),
        "temperatures": temperatures,
    }
