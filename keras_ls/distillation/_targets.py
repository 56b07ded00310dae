"""The targets of a distiller, with or without logits, and the sample weights of both."""

from typing import Any

import numpy as np
from keras import ops

from keras_ls._checks import shown
from keras_ls._labels import match_label_shape, spread_over


def split_targets(y: Any, outputs: Any = None) -> tuple[Any, Any]:
    """Splits targets into labels and cached logits, either of them None if missing.

    Labels may be in a dict like the student's `outputs`.
    """
    if not isinstance(y, dict):
        return y, None
    if isinstance(outputs, dict) and set(y) == set(outputs):
        return y, None
    if not y or not set(y) <= {"labels", "teacher_logits"}:
        raise ValueError(
            f"Targets in a dict must be named 'labels' and 'teacher_logits'. Received: {shown(sorted(y, key=str))}."
        )
    return y.get("labels"), y.get("teacher_logits")


def split_weights(sample_weight: Any, outputs: Any = None) -> tuple[Any, Any]:
    """Splits sample weights into those of labels and logits; Keras copies an array of them for each target.

    Raises:
        ValueError: If they are a dict with other names.
    """
    if isinstance(sample_weight, dict) and isinstance(outputs, dict) and set(sample_weight) == set(outputs):
        (sample_weight,) = sample_weight.values()  # by the name of the only output
    if not isinstance(sample_weight, dict):
        return sample_weight, sample_weight
    if not set(sample_weight) <= {"labels", "teacher_logits"}:
        raise ValueError(
            "Sample weights in a dict must be named 'labels' and 'teacher_logits'. "
            f"Received: {shown(sorted(sample_weight, key=str))}."
        )
    return sample_weight.get("labels"), sample_weight.get("teacher_logits")


def check_cached(cached, is_needed: bool) -> None:
    """Raises `ValueError` unless targets hold the teacher's logits exactly where they are needed."""
    if is_needed and cached is None:
        raise ValueError(
            "Targets must be {'labels': y, 'teacher_logits': zt} where `teacher` is None. "
            "Received: no 'teacher_logits'."
        )
    if not is_needed and cached is not None:
        raise ValueError("Targets may hold 'teacher_logits' only where `teacher` is None.")


def by_example(weight: Any, outputs: Any) -> Any:
    """Weights (N,) of outputs (N, T, K) as (N, T): Keras matches fewer dimensions from the right, with the steps.

    They are a copy, since on PyTorch Keras multiplies them by the mask in place.
    """
    if weight is None or not 0 < len(weight.shape) < len(outputs.shape) - 1:
        return weight
    return ops.copy(spread_over("sample_weight", weight, outputs[..., 0]))


def class_weights(class_weight: dict[int, float], labels, teacher_logits):
    """Returns the weight of each label's class.

    Labels are ids (…,) or (…, 1), or one row per prediction; the shape of the logits tells which. With logits (…, 1)
    they are always ids 0 and 1.
    """
    if labels is None or teacher_logits is None:
        raise ValueError("`class_weight` needs targets {'labels': y, 'teacher_logits': zt}.")
    num_classes = max(2, teacher_logits.shape[-1])
    if not all(key in range(num_classes) for key in class_weight):  # as floats, too, which ids may be
        raise ValueError(
            f"`class_weight` must name classes in [0, {num_classes}). Received: {shown(list(class_weight))}."
        )
    table = np.ones(num_classes, "float32")
    table[[int(key) for key in class_weight]] = list(class_weight.values())
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) == len(teacher_logits.shape) and labels.shape[-1] == num_classes:
        ids = ops.argmax(labels, axis=-1)
    else:
        # Smoothed labels of one sigmoid unit count as the nearer class, as in Keras.
        ids = ops.round(ops.cast(match_label_shape(labels, teacher_logits), "float32"))
    # Labels outside [0, K) are left to the loss, which reports or ignores them.
    return ops.take(ops.convert_to_tensor(table), ops.clip(ops.cast(ids, "int32"), 0, num_classes - 1), axis=0)
