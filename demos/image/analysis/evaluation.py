"""What a trained network is measured by, with temperatures that never saw the images they are judged on."""

from typing import Any

import keras
import numpy as np

import keras_ls
from demos.image.data.common.images import ImageData
from demos.image.networks import building
from demos.kit import measures
from demos.kit.seeds import of_data

COLUMNS = (
    measures.Column("accuracy %", "accuracy", 2, 100),
    measures.Column("NLL", "nll", 4),
    measures.Column("ECE", "ece", 4),
    measures.Column("temperature", "temperature", 3),
    measures.Column("ECE scaled", "ece_scaled", 4),
)
MEASURES = ("accuracy", "nll", "ece", "temperature", "nll_scaled", "ece_scaled")
# What `evaluate` gives, as `records.read_json` takes it.
FIELDS = {**dict.fromkeys(MEASURES, float), "curve": measures.CURVE, "curve_scaled": measures.CURVE}


def evaluate_network(model: keras.Model, images: ImageData) -> dict[str, Any]:
    """What `evaluate` says of a trained network on the held-out images."""
    return evaluate(building.predict(model, images.x_test), images.y_test)


def evaluate(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Accuracy, NLL (nats) and ECE (15 bins), before and after temperature scaling, with their reliability curves.

    Args:
        logits: (N, K) of the held-out images, N of at least 2.
        labels: (N,) class ids.

    Returns:
        The numbers of `MEASURES`, "temperatures" (of the two halves) and the curves "curve" and "curve_scaled" as
        dicts that `demos.kit.measures.curve_from_json` turns back.
    """
    halves = np.array_split(of_data().permutation(len(labels)), 2)
    scaled = np.empty_like(logits)
    temperatures = []
    for mine, other in (halves, halves[::-1]):
        scaling = keras_ls.TemperatureScaling().fit(logits[other], labels[other])
        temperatures.append(float(keras.ops.convert_to_numpy(scaling.temperature)))
        scaled[mine] = logits[mine] / temperatures[-1]
    before, after = (measures.calibration(z, labels) for z in (logits, scaled))
    return {
        "accuracy": float(np.mean(logits.argmax(-1) == labels)),
        "nll": before["nll"],
        "ece": before["ece"],
        "temperature": float(np.mean(temperatures)),
        "nll_scaled": after["nll"],
        "ece_scaled": after["ece"],
        "temperatures": temperatures,
        "curve": before["curve"],
        "curve_scaled": after["curve"],
    }
