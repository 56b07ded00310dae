"""The smoothed losses as Keras losses."""

import copy
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ls._arrays import to_numpy, wide_dtype
from keras_ls._backend import get_mask, set_mask
from keras_ls._checks import (
    check_axis,
    check_count,
    check_dtype,
    check_flag,
    check_fraction,
    check_ignore_class,
    check_string,
    shown,
)
from keras_ls._labels import MASKED, labels_to_tensor, match_label_shape, numbers_to_tensor, spread_over
from keras_ls.losses.functional import (
    checked_prior,
    crossentropy_where,
    smoothed_sparse_categorical_crossentropy,
)


def _check_weights(given, wanted):
    """Raises `ValueError` if weights cannot be multiplied with losses, in Keras's way of matching the two."""
    sizes, positions = list(given), list(wanted)
    for longer, shorter in ((sizes, positions), (positions, sizes)):
        if len(longer) == len(shorter) + 1 and longer[-1] == 1:
            longer.pop()
    if any(
        a != b and 1 not in (a, b) and None not in (a, b) for a, b in zip(sizes[::-1], positions[::-1], strict=False)
    ):
        raise ValueError(
            "`sample_weight` must broadcast to the shape of the losses, that of `y_pred` without its class axis, "
            f"{tuple(wanted)}. Received: shape {tuple(given)}."
        )


def _spread(weights, wanted):
    """Weights that broadcast to losses of a shape, in that shape: Keras multiplies them by a mask in place."""
    if len(weights.shape) > len(wanted) == 1:
        wanted = (*wanted, 1)  # as Keras then shapes the losses
    elif len(weights.shape) > len(wanted):
        weights = ops.squeeze(weights, -1)
    if np.broadcast_shapes(tuple(weights.shape), wanted) != wanted:
        return weights  # Keras adds a 1 at the end
    return ops.copy(ops.broadcast_to(weights, wanted))


class _SmoothedLoss(keras.losses.Loss):
    """What both loss classes share: checked options, a complete config, and float32 under half precision."""

    def __init__(self, label_smoothing, prior, from_logits, axis, reduction, name, dtype):
        if reduction is not None:
            check_string("reduction", reduction)
        if name is not None:
            check_string("name", name)
        dtype = check_dtype(dtype)
        try:
            super().__init__(name=name, reduction=reduction, dtype=dtype)
        except ValueError:
            raise ValueError(
                "`reduction` must be one that keras.losses.Loss takes: 'sum_over_batch_size', 'sum', 'mean', "
                f"'mean_with_sample_weight', 'none' or None. Received: reduction={shown(reduction)}."
            ) from None
        self.label_smoothing = check_fraction("label_smoothing", label_smoothing)
        self._prior = checked_prior(prior)  # an array: it is checked in each call, which a list would make slow
        self.prior = None if prior is None else to_numpy("prior", prior).astype("float64").tolist()
        self.from_logits = check_flag("from_logits", from_logits)
        self.axis = check_count("axis", axis, minimum=-(2**31))

    def __call__(self, y_true, y_pred, sample_weight=None):
        """Loss of a batch, reduced and weighted as `keras.losses.Loss` does it, in the loss's dtype."""
        # Before Keras casts them, which it cannot do with every array.
        y_true, y_pred = labels_to_tensor(y_true, "y_true"), numbers_to_tensor(y_pred, "y_pred")
        if sample_weight is not None:
            # A copy: on PyTorch, Keras multiplies weights by the mask in place, before weighted metrics see them.
            sample_weight = ops.copy(numbers_to_tensor(sample_weight, "sample_weight"))
            shape = self._shape_of_losses(y_pred.shape)
            _check_weights(sample_weight.shape, shape)
            if keras.backend.backend() == "torch" and self._is_masked(y_pred):
                sample_weight = _spread(sample_weight, tuple(shape))
        return ops.cast(super().__call__(y_true, y_pred, sample_weight), self._dtype_policy.compute_dtype)

    def _is_masked(self, y_pred):
        return get_mask(y_pred) is not None

    def _shape_of_losses(self, shape):
        axis = check_axis(self.axis, shape, "y_pred")
        return (*shape[:axis], *shape[axis + 1 :])

    @property
    def dtype(self):
        """Dtype that inputs are cast to: float32, or float64 where that is the loss's own.

        Keras casts labels with the predictions: half precision would round class ids above 256, and lose the small
        differences that a loss is made of.
        """
        return wide_dtype(self._dtype_policy.compute_dtype)

    def get_config(self):
        """Every constructor argument, as plain JSON values."""
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
            "prior": self.prior,
            "from_logits": self.from_logits,
            "axis": self.axis,
            "dtype": self._dtype_policy.name,
        }


@keras.saving.register_keras_serializable(package="keras_ls")
class SmoothedCategoricalCrossentropy(_SmoothedLoss):
    """Cross-entropy against smoothed one-hot (or soft) targets; see `smoothed_categorical_crossentropy`.

    Args:
        label_smoothing: α, in [0, 1).
        prior: K non-negative numbers, normalised here; None is the uniform prior.
        from_logits: Whether predictions are logits (exact) rather than probabilities (clipped).
        axis: The class axis.
        reduction: As in `keras.losses.Loss`: "sum_over_batch_size", "sum", "mean", "mean_with_sample_weight",
            "none" or None.
        name: Name of the loss.
        dtype: Dtype of the result; None is Keras's floatx. The computation is in float32 or wider.

    Raises:
        ValueError: If an argument is not allowed; at the first call, if shapes differ.

    Example:
    >>> import keras, keras_ls
    >>> model = keras.Sequential([keras.layers.Dense(3)])
    >>> model.compile(loss=keras_ls.SmoothedCategoricalCrossentropy(0.1, from_logits=True))
    """

    def __init__(
        self,
        label_smoothing: float = 0.1,
        prior=None,
        from_logits: bool = False,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "smoothed_categorical_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(label_smoothing, prior, from_logits, axis, reduction, name, dtype)
        self._counts: Any = None

    def __call__(self, y_true, y_pred, sample_weight=None):
        """Loss of a batch, in which neither targets nor predictions are looked at where these are masked."""
        given = get_mask(y_pred)
        if given is None:
            return super().__call__(y_true, y_pred, sample_weight)
        counting = copy.copy(self)
        axis = check_axis(self.axis, y_pred.shape, "y_pred")
        counting._counts = ops.cast(spread_over("mask", given, ops.take(y_pred, 0, axis=axis)), "bool")
        set_mask(y_pred, counting._counts)  # Keras would match its last dimensions, not its first, with the losses'
        try:
            return super(SmoothedCategoricalCrossentropy, counting).__call__(y_true, y_pred, sample_weight)
        finally:
            set_mask(y_pred, given)

    def call(self, y_true, y_pred):
        """One loss per sample."""
        return crossentropy_where(
            self._counts, y_true, y_pred, self.label_smoothing, self._prior, self.from_logits, self.axis
        )


@keras.saving.register_keras_serializable(package="keras_ls")
class SmoothedSparseCategoricalCrossentropy(_SmoothedLoss):
    """Cross-entropy against smoothed targets, for integer labels; see `smoothed_sparse_categorical_crossentropy`.

    Labels outside [0, K) raise an error only where their values can be read: on PyTorch in `fit`, too, on TensorFlow
    and JAX there only with ``run_eagerly=True``. If the loss of `fit` is NaN, call the loss once, eagerly, on the
    labels of a batch or on all of them, as in the second example: predictions of 0 will do, and the error names the
    wrong labels.

    Args:
        label_smoothing: α, in [0, 1).
        prior: K non-negative numbers, normalised here; None is the uniform prior.
        from_logits: Whether predictions are logits (exact) rather than probabilities (clipped).
        ignore_class: A label. Positions with this label cost nothing and do not count in the mean.
        axis: The class axis.
        reduction: As in `keras.losses.Loss`: "sum_over_batch_size", "sum", "mean", "mean_with_sample_weight",
            "none" or None.
        name: Name of the loss.
        dtype: Dtype of the result; None is Keras's floatx. The computation is in float32 or wider, so that class
            ids above 256 survive a bfloat16 loss.

    Raises:
        ValueError: If an argument is not allowed; at the first call, if shapes cannot match.

    Example:
    >>> import keras, keras_ls, numpy as np
    >>> model = keras.Sequential([keras.layers.Dense(3)])
    >>> loss = keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, from_logits=True)
    >>> model.compile(loss=loss)

    >>> y_train = np.array([0, 2, 3, 1])  # three classes, and a label that is none of them
    >>> loss(y_train, np.zeros((len(y_train), 3)))
    Traceback (most recent call last):
    ValueError: `y_true` must hold integers in [0, 3). Received: [3].
    """

    def __init__(
        self,
        label_smoothing: float = 0.1,
        prior=None,
        from_logits: bool = False,
        ignore_class: int | None = None,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "smoothed_sparse_categorical_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(label_smoothing, prior, from_logits, axis, reduction, name, dtype)
        self.ignore_class = check_ignore_class(ignore_class)

    def __call__(self, y_true, y_pred, sample_weight=None):
        """Loss of a batch, in which labels where the predictions are masked are never looked at."""
        given = mask = get_mask(y_pred)
        if mask is None:
            return super().__call__(y_true, y_pred, sample_weight)
        y_true = match_label_shape(labels_to_tensor(y_true, "y_true"), y_pred, self.axis)
        mask = ops.cast(spread_over("mask", mask, y_true), "bool")
        # As ignored, whose losses are 0 whatever the predictions: 0 times infinity would be NaN.
        ignoring = copy.copy(self)
        if self.ignore_class is None:
            ignoring.ignore_class = MASKED
        y_true = ops.where(mask, y_true, ops.full_like(y_true, ignoring.ignore_class))
        set_mask(y_pred, mask)  # Keras combines it with that of ignored labels
        try:
            return super(SmoothedSparseCategoricalCrossentropy, ignoring).__call__(y_true, y_pred, sample_weight)
        finally:
            set_mask(y_pred, given)

    def _is_masked(self, y_pred):
        return self.ignore_class is not None or super()._is_masked(y_pred)

    def call(self, y_true, y_pred):
        """One loss per sample."""
        return smoothed_sparse_categorical_crossentropy(
            y_true, y_pred, self.label_smoothing, self._prior, self.from_logits, self.ignore_class, self.axis
        )

    def get_config(self):
        """Every constructor argument, as plain JSON values."""
        return {**super().get_config(), "ignore_class": self.ignore_class}
