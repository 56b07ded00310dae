"""Labels, predictions, weights and masks brought into one form: rows, and what of them counts."""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_ls._backend import get_mask
from keras_ls._labels import class_ids, match_label_shape


class Examples(NamedTuple):
    """A batch as plain rows.

    Attributes:
        ids: (N,) int32 class ids that can index.
        rows: (N, K) predictions.
        weight: (N,), 0 where a position does not count.
        sound: (N,) bool, False where a position that counts must make the result NaN.
    """

    ids: Any
    rows: Any
    weight: Any
    sound: Any

    def settled(self, values):
        """Values (N, …) with 0 where nothing counts and NaN where a row is not sound."""
        shape = (-1,) + (1,) * (len(values.shape) - 1)
        values = ops.where(ops.reshape(self.sound, shape), values, np.nan)
        return ops.where(ops.reshape(self.weight, shape) != 0, values, 0.0)

    def probabilities(self, from_logits):
        """(N, K) probabilities."""
        return ops.softmax(self.rows, axis=-1) if from_logits else self.rows


def hard_labelled(y_true, y_pred, sample_weight=None, ignore_class=None, dtype="float32") -> Examples:
    """Brings labels, predictions, sample weights and the mask that `y_pred` may carry into the form of `Examples`.

    Args:
        y_true: Class ids (…,) or (…, 1), integers or floats holding integers; or one-hot (…, K), of which the
            largest entry is the class.
        y_pred: Predictions (…, K), K ≥ 2.
        sample_weight: None, or weights that broadcast to (…,), from the left where they have fewer dimensions.
        ignore_class: A label whose positions do not count.
        dtype: Dtype of `rows` and `weight`.

    Raises:
        ValueError: for shapes that cannot match, fewer than 2 dimensions or classes, or a bad label (eagerly).
    """
    mask = get_mask(y_pred)
    y_pred = ops.cast(ops.convert_to_tensor(y_pred), dtype)
    _check_predictions(y_pred)
    num_classes, positions = y_pred.shape[-1], y_pred[..., 0]
    weight = ops.ones_like(positions)
    if sample_weight is not None:
        weight = ops.cast(_spread("sample_weight", sample_weight, positions), dtype)
    if mask is not None:
        weight = ops.where(ops.cast(_spread("mask", mask, positions), "bool"), weight, 0.0)

    labels, mass = _labels_and_mass(y_true, y_pred)
    sound = ops.all(ops.isfinite(y_pred), axis=-1)
    if mass is not None:
        weight = ops.where(mass != 0, weight, 0.0)
        sound = ops.logical_and(sound, ops.isfinite(mass))
    labels, weight, sound = (ops.reshape(each, (-1,)) for each in (labels, weight, sound))

    labels = ops.where(weight != 0, labels, ops.zeros_like(labels))  # padding may hold any number
    ids, kept, valid = class_ids(labels, num_classes, ignore_class)
    if kept is not None:
        weight = ops.where(kept, weight, 0.0)
    if valid is not None:
        sound = ops.logical_and(sound, valid)
    return Examples(ids, ops.reshape(y_pred, (-1, num_classes)), weight, sound)


def _labels_and_mass(y_true, y_pred):
    """Class labels in the shape of `y_pred` without its class axis and, from one-hot rows, what each row sums to."""
    labels, mass = ops.convert_to_tensor(y_true), None
    if len(labels.shape) == len(y_pred.shape) and labels.shape[-1] in (None, y_pred.shape[-1]):
        one_hot = ops.cast(labels, y_pred.dtype)
        labels, mass = ops.argmax(one_hot, axis=-1), ops.sum(one_hot, axis=-1)
    return match_label_shape(labels, y_pred), mass


def _spread(name, given, positions):
    """`given` broadcast to `positions`' shape, from the left where it has fewer dimensions; a trailing 1 may go."""
    given = ops.convert_to_tensor(given)
    received, wanted = tuple(given.shape), tuple(positions.shape)
    if len(received) == len(wanted) + 1 and received[-1] == 1:
        given = ops.squeeze(given, axis=-1)
    while len(given.shape) < len(wanted):
        given = ops.expand_dims(given, -1)
    sizes = tuple(given.shape)
    if len(sizes) != len(wanted) or any(
        a not in (None, 1, b) and b is not None for a, b in zip(sizes, wanted, strict=True)
    ):
        raise ValueError(
            f"`{name}` must broadcast to the shape of `y_pred` without its class axis, {wanted}. "
            f"Received: shape {received}."
        )
    return ops.broadcast_to(given, ops.shape(positions))


def _check_predictions(y_pred):
    shape = tuple(y_pred.shape)
    if len(shape) < 2 or shape[-1] is None or shape[-1] < 2:
        raise ValueError(
            "`y_pred` must be (…, K) with at least 2 dimensions and K at least 2 and known "
            f"(one sigmoid output p is the two classes 1 − p and p). Received: y_pred.shape={shape}."
        )
