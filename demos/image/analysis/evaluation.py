"""What a trained network is measured by, with temperatures that never saw the images they are judged on."""

from typing import Any

import keras
import numpy as np

import keras_ls
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


def evaluate(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Accuracy, NLL (nats) and ECE (15 bins), before and after temperature scaling, with their reliability curves.

    Of `logits` (N, K) and class ids (N,) of held-out images, N of at least 2: the numbers of `MEASURES`, the
    "temperatures" of the two halves, and "curve" and "curve_scaled" for JSON.
    """
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
