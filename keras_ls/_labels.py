"""Class ids: matched to predictions in shape, checked in value, split from ignored positions."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_ls._backend import is_concrete
from keras_ls._checks import check_axis


class ClassIds(NamedTuple):
    """Class ids that can index safely.

    Attributes:
        ids: int32, in [0, K) wherever an example counts and is valid; 0 elsewhere.
        kept: bool of the same shape, False where the label is `ignore_class`; None when none is ignored.
        valid: bool of the same shape, False where a label is no class; None when the values were checked.
    """

    ids: Any
    kept: Any | None
    valid: Any | None


def match_label_shape(y_true, y_pred, axis: int = -1):
    """Returns `y_true` in the shape of `y_pred` less `axis`, taking off a 1 at the end (or at `axis`).

    Raises:
        ValueError: where the static shapes cannot match.
    """
    axis = check_axis(axis, y_pred.shape, "y_pred")
    rank = len(y_pred.shape)
    wanted = tuple(size for i, size in enumerate(y_pred.shape) if i != axis)
    given = tuple(y_true.shape)
    if len(given) == rank:
        for squeezed in (rank - 1, axis):
            if given[squeezed] == 1 and _compatible(given[:squeezed] + given[squeezed + 1 :], wanted):
                return ops.squeeze(y_true, axis=squeezed)
    if not _compatible(given, wanted):
        raise ValueError(
            "`y_true` must hold one class id a prediction: the shape of `y_pred` without its class axis, "
            "or that with a trailing 1. "
            f"Received: y_true.shape={given}, y_pred.shape={tuple(y_pred.shape)}, axis={axis}."
        )
    return y_true


def class_ids(labels, num_classes, ignore_class: int | None = None, name: str = "y_true") -> ClassIds:
    """Turns labels (integers, or floats that hold integers) into ids that can index.

    Raises:
        ValueError: where a value that can be read now is neither in [0, num_classes) nor `ignore_class`.
    """
    labels = ops.convert_to_tensor(labels)
    numbers = _comparable(labels)
    kept = None if ignore_class is None else ops.not_equal(numbers, ignore_class)
    valid = ops.logical_and(ops.greater_equal(numbers, 0), ops.less(numbers, num_classes))
    if "float" in str(numbers.dtype):
        valid = ops.logical_and(valid, ops.equal(ops.floor(numbers), numbers))
    if kept is not None:
        valid = ops.logical_or(valid, ops.logical_not(kept))
    if is_concrete(valid):  # not the labels: a constant of a compiled graph can be read, but nothing computed from it
        flags = ops.convert_to_numpy(valid)
        if not flags.all():
            wrong = np.unique(ops.convert_to_numpy(labels)[~flags])[:5]
            ignored = "" if ignore_class is None else f" or ignore_class={ignore_class}"
            raise ValueError(
                f"`{name}` must hold integers in [0, {int(num_classes)}){ignored}. Received: {wrong.tolist()}."
            )
        valid = None
    usable = [flag for flag in (kept, valid) if flag is not None]
    for flag in usable:
        numbers = ops.where(flag, numbers, ops.zeros_like(numbers))
    ids = ops.cast(numbers, "int32")
    return ClassIds(ids, kept, valid)


def picked(rows, ids):
    """(N, K) and (N,) to (N,): each row's entry at its id."""
    return ops.squeeze(ops.take_along_axis(rows, ops.expand_dims(ids, -1), axis=-1), axis=-1)


def _comparable(labels):
    """Labels in a dtype that holds them, K and `ignore_class`: int32 would wrap some, and half precision round K."""
    dtype = keras.backend.standardize_dtype(labels.dtype)
    if dtype in ("int64", "float32", "float64"):
        return labels
    return ops.cast(labels, "float32" if "float" in dtype else "int64" if dtype in ("uint32", "uint64") else "int32")


def _compatible(given, wanted) -> bool:
    return len(given) == len(wanted) and all(
        a is None or b is None or a == b for a, b in zip(given, wanted, strict=True)
    )
