"""Labels, predictions, weights and masks brought into one form: rows, and what of them counts."""

import functools
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_ls._backend import get_mask, is_concrete
from keras_ls._labels import class_ids, labels_to_tensor, match_label_shape, numbers_to_tensor, spread_over
from keras_ls._rows import LARGEST_PROBABILITY


class Examples(NamedTuple):
    """A batch as plain rows.

    Attributes:
        ids: (N,) int32 class ids that can index.
        rows: (N, K) predictions, K ≥ 2.
        weight: (N,), 0 where a position does not count.
        is_valid: (N,) bool, False where a label, or a prediction of one unit, must make the result NaN; None if none.
        is_one_unit: whether `rows` come from predictions of one unit, which `is_valid` has dealt with.
        from_logits: whether `rows` holds logits.
        edge_dtype: the dtype that rounds the edges of bins, as `reliability_curve` says.
    """

    ids: Any
    rows: Any
    weight: Any
    is_valid: Any
    is_one_unit: bool
    from_logits: bool
    edge_dtype: str

    def masked(self, values, rows_are_checked: bool = False):
        """Values (N, …) with 0 where nothing counts and NaN where a label or row is not valid.

        Args:
            values: what a row's prediction gives.
            rows_are_checked: whether `values` is NaN already where a row is not valid.
        """
        shape = (-1,) + (1,) * (len(values.shape) - 1)
        is_valid = self.is_valid
        if not (rows_are_checked or self.is_one_unit):
            checked = are_valid(self.rows, self.from_logits)
            is_valid = checked if is_valid is None else is_valid & checked
        if is_valid is not None:
            values = ops.where(ops.reshape(is_valid, shape), values, np.nan)
        return ops.where(ops.reshape(self.weight, shape) != 0, values, 0.0)

    def probabilities(self):
        """(N, K) probabilities."""
        return ops.softmax(self.rows, axis=-1) if self.from_logits else self.rows


def are_valid(rows, from_logits: bool):
    """(…, K) to (…,) bool: are logits finite, or probabilities within 0 and 1.01? NaN is neither."""
    in_range = ops.isfinite(rows) if from_logits else (rows >= 0) & (rows <= LARGEST_PROBABILITY)
    return ops.all(in_range, axis=-1)


def hard_labelled(
    y_true, y_pred, sample_weight=None, ignore_class=None, dtype="float32", from_logits=False
) -> Examples:
    """Brings labels, predictions, sample weights and the mask that `y_pred` may carry into the form of `Examples`.

    Args:
        y_true: Class ids (…,) or (…, 1), integers or floats holding integers; or one-hot (…, K), of which the
            largest entry is the class.
        y_pred: Predictions (…, K); (…, 1) are those of class 1 of two classes, whose labels are ids.
        sample_weight: None, or weights that broadcast to (…,), from the left if they have fewer dimensions. A negative
            one makes the result NaN.
        ignore_class: A label whose positions do not count.
        dtype: Dtype of `rows` and `weight`.
        from_logits: Whether `y_pred` holds logits. Probabilities below 0 or above 1.01 are not valid.

    Raises:
        ValueError: If shapes cannot match, there are fewer than 2 dimensions, and, where values can be read (eagerly),
            if a label is bad or a one-hot row holds several ones (a multi-label target).
    """
    mask = get_mask(y_pred)
    y_pred = numbers_to_tensor(y_pred, "y_pred")
    _check_predictions(y_pred)
    given = keras.backend.standardize_dtype(y_pred.dtype)
    is_narrow = given in ("float16", "bfloat16") and not from_logits and y_pred.shape[-1] > 1
    y_pred = ops.cast(y_pred, dtype)
    labels, one_hot = _labels(y_true, y_pred)
    is_one_unit = y_pred.shape[-1] == 1
    flags = [are_valid(y_pred, from_logits)] if is_one_unit else []
    y_pred = _two_columns(y_pred, from_logits)
    num_classes, positions = y_pred.shape[-1], y_pred[..., 0]
    weight = ops.ones_like(positions)
    if sample_weight is not None:
        weight = ops.cast(spread_over("sample_weight", sample_weight, positions), dtype)
        weight = ops.where(weight >= 0, weight, np.nan)
    if mask is not None:
        weight = ops.where(ops.cast(spread_over("mask", mask, positions), "bool"), weight, 0.0)
    if one_hot is not None:
        mass = ops.sum(one_hot, axis=-1)
        weight = ops.where(mass != 0, weight, 0.0)
        flags += [ops.isfinite(mass), _marks_one(one_hot, weight)]
        if one_hot.shape[-1] is None:  # labels (…, 1) would pass for rows of one class
            flags.append(ops.logical_and(ops.isfinite(mass), ops.shape(one_hot)[-1] == num_classes))
    labels, weight, *flags = (ops.reshape(each, (-1,)) for each in (labels, weight, *flags))

    labels = ops.where(weight != 0, labels, ops.zeros_like(labels))  # padding may hold any number
    ids, kept, valid = class_ids(labels, num_classes, ignore_class)
    if kept is not None:
        weight = ops.where(kept, weight, 0.0)
    if valid is not None:
        flags.append(valid)
    is_valid = functools.reduce(ops.logical_and, flags) if flags else None
    rows = ops.reshape(y_pred, (-1, num_classes))
    return Examples(ids, rows, weight, is_valid, is_one_unit, from_logits, given if is_narrow else "float32")


def _labels(y_true, y_pred):
    """Class labels in the shape of `y_pred` without its class axis and, if they came as one-hot rows, these."""
    labels, one_hot = labels_to_tensor(y_true, "y_true"), None
    num_classes = y_pred.shape[-1]
    if num_classes > 1 and len(labels.shape) == len(y_pred.shape) and labels.shape[-1] in (None, num_classes):
        one_hot = ops.cast(labels, y_pred.dtype)
        labels = ops.cast(ops.argmax(one_hot, axis=-1), "int32")
    return match_label_shape(labels, y_pred), one_hot


def _marks_one(one_hot, weight):
    """(…,) bool, False where a row that counts holds several ones, which is an error if values can be read now."""
    marks_one = (ops.sum(ops.cast(one_hot == 1, "int32"), axis=-1) <= 1) | (weight == 0)
    if is_concrete(marks_one) and not ops.convert_to_numpy(marks_one).all():
        raise ValueError(
            "Each one-hot row of `y_true` must mark one class. Received a row with several ones, as a multi-label "
            "classifier has: measure each of its classes alone, as a binary classifier (…, 1)."
        )
    return marks_one


def _two_columns(y_pred, from_logits):
    """(…, K) as they are; (…, 1) as the probabilities 1 − p and p, or the logits 0 and z, of two classes."""
    if y_pred.shape[-1] != 1:
        return y_pred
    # A p that rounding left above 1 is valid, and 1 − p must be, too.
    other = ops.zeros_like(y_pred) if from_logits else ops.maximum(1.0 - y_pred, 0.0)
    return ops.concatenate([other, y_pred], axis=-1)


def _check_predictions(y_pred):
    shape = tuple(y_pred.shape)
    if len(shape) < 2 or shape[-1] is None:
        raise ValueError(
            "`y_pred` must be (…, K), or (…, 1) for a binary classifier, with at least 2 dimensions and K known. "
            f"Received: y_pred.shape={shape}."
        )
