"""Class ids: matched to predictions in shape, checked in value, split from ignored positions."""

from typing import Any, NamedTuple

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
    ids = ops.cast(labels, "int32")
    kept = None if ignore_class is None else ops.not_equal(ids, ignore_class)
    valid = ops.logical_and(ops.greater_equal(ids, 0), ops.less(ids, num_classes))
    if "float" in str(labels.dtype):
        valid = ops.logical_and(valid, ops.equal(ops.cast(ids, labels.dtype), labels))
    if kept is not None:
        valid = ops.logical_or(valid, ops.logical_not(kept))
    if is_concrete(labels):
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
        ids = ops.where(flag, ids, 0)
    return ClassIds(ids, kept, valid)


def picked(rows, ids):
    """(N, K) and (N,) to (N,): each row's entry at its id."""
    return ops.squeeze(ops.take_along_axis(rows, ops.expand_dims(ids, -1), axis=-1), axis=-1)


def _compatible(given, wanted) -> bool:
    return len(given) == len(wanted) and all(
        a is None or b is None or a == b for a, b in zip(given, wanted, strict=True)
    )
