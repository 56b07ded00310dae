"""Priors and smoothed targets made of label sequences; importable from `keras_ls.losses`."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ls._arrays import checked_ids, to_numpy
from keras_ls._checks import check_count, check_ignore_class, shown
from keras_ls._labels import class_ids, labels_to_tensor


def label_frequencies(labels: Any, num_classes: int, ignore_class: int | None = None) -> np.ndarray:
    """Share of each class among the labels, the prior of unigram smoothing: ``u_k = n_k / Σ_j n_j``.

    Args:
        labels: Class ids of any shape, integers or floats that hold integers.
        num_classes: K.
        ignore_class: A label, in [0, K) or not, that is not counted, such as padding.

    Returns:
        u (K,), float64, with sum 1, for the losses' `prior`. A class that does not occur has 0: it is smoothed with
        nothing.

    Raises:
        ValueError: If a label is neither in [0, K) nor `ignore_class`, there is none to count, `labels` does not hold
            numbers, or another argument is not allowed.

    Reference:
        Pereyra et al. 2017 (unigram smoothing); Chorowski and Jaitly 2017.

    Example:
    >>> from keras_ls.losses import label_frequencies
    >>> label_frequencies([[0, 2, 2], [2, -1, -1]], num_classes=3, ignore_class=-1).tolist()
    [0.25, 0.0, 0.75]
    """
    num_classes = check_count("num_classes", num_classes)
    ignore_class = check_ignore_class(ignore_class)
    ids = to_numpy("labels", labels).reshape(-1)
    if ignore_class is not None:
        ids = ids[ids != ignore_class]
    if ids.size == 0:
        raise ValueError("`labels` must hold at least one label that is not ignored. Received none.")
    return np.bincount(checked_ids("labels", ids, num_classes), minlength=num_classes) / ids.size


def neighbourhood_smoothed_targets(
    labels: Any, num_classes: int, weights: Sequence[float], ignore_class: int | None = None
) -> Any:
    """Targets with mass on the labels before and after in the sequence: neighbourhood smoothing.

    At place t: ``(1 − Σ_d w_d)·onehot(y_t) + Σ_d w_d/2·(onehot(y_(t−d)) + onehot(y_(t+d)))``, where the mass of a
    neighbour that is outside the sequence or ignored returns to y_t. For `smoothed_categorical_crossentropy` (with
    ``label_smoothing=0``, unless a prior is to be mixed in, too). Give ignored places a sample weight of 0 there: their
    rows are zero, and so is their loss for logits, but its gradient is not on TensorFlow, which takes rows to sum to 1.

    Args:
        labels: Class ids (…, T), integers or floats that hold integers.
        num_classes: K.
        weights: w_d for the distances d = 1, 2, …: non-negative, with a sum below 1.
        ignore_class: A label, in [0, K) or not, such as padding. Its rows are zero, and it gets no mass.

    Returns:
        Targets (…, T, K) in Keras's floatx; each row sums to 1, or is zero where the label is ignored.

    Raises:
        ValueError: If `weights` is not a sequence of non-negative numbers with a sum below 1, `labels` has no dimension
            or does not hold numbers, or a label whose value can be read (eagerly) is neither in [0, K) nor
            `ignore_class`. In a compiled graph the rows that such a label takes part in are NaN.

    Reference:
        Chorowski and Jaitly 2017, section 3.2.

    Example:
    >>> from keras_ls.losses import neighbourhood_smoothed_targets
    >>> targets = neighbourhood_smoothed_targets([0, 1, 2, -1], num_classes=3, weights=[0.2], ignore_class=-1)
    >>> [[round(float(mass), 3) for mass in row] for row in targets]
    [[0.9, 0.1, 0.0], [0.1, 0.8, 0.1], [0.0, 0.1, 0.9], [0.0, 0.0, 0.0]]
    """
    num_classes = check_count("num_classes", num_classes)
    ignore_class = check_ignore_class(ignore_class)
    weights = _check_weights(weights)
    labels = labels_to_tensor(labels, "labels")
    rank = len(labels.shape)
    if rank == 0:
        raise ValueError("`labels` must hold sequences (…, T). Received a single number.")
    ids, kept, valid = class_ids(labels, num_classes, ignore_class, name="labels")
    rows = ops.one_hot(ids, num_classes, dtype=keras.config.floatx())
    if valid is not None:
        rows = ops.where(ops.expand_dims(valid, -1), rows, math.nan)
    if kept is not None:
        rows = ops.where(ops.expand_dims(kept, -1), rows, 0.0)

    length, reach = ops.shape(labels)[-1], len(weights)
    padded = ops.pad(rows, [(0, 0)] * (rank - 1) + [(reach, reach), (0, 0)])
    spread = ops.zeros_like(rows)
    for distance, weight in enumerate(weights, start=1):
        for start in (reach - distance, reach + distance):
            spread = spread + 0.5 * weight * padded[..., start : start + length, :]
    # A neighbour that is there has given its row, of sum 1: what the label keeps is what was not given.
    targets = spread + (1.0 - ops.sum(spread, axis=-1, keepdims=True)) * rows
    return targets if kept is None else ops.where(ops.expand_dims(kept, -1), targets, 0.0)


def _check_weights(weights: Any) -> list[float]:
    try:
        vector = to_numpy("weights", weights).astype("float64")
    except (TypeError, ValueError):
        vector = np.asarray(np.nan)
    each_fits = np.all((vector >= 0.0) & (vector < 1.0))  # which NaN does not, nor what overflows in a sum
    if vector.ndim != 1 or not (each_fits and math.fsum(vector) < 1.0):
        raise ValueError(
            "`weights` must be a sequence of non-negative numbers, one per distance, with a sum below 1. "
            f"Received: weights={shown(weights)}."
        )
    return vector.tolist()
