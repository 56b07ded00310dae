"""Cross-entropy with smoothed labels, for one-hot and for integer targets.

With K classes, smoothing α and prior u, the target of an example of class y is (1 − α)·onehot(y) + α·u, and its
loss is the cross-entropy of the prediction under that target. For logits z and integer labels that is
``logsumexp(z) − (1 − α)·z_y − α·Σ_k u_k z_k``, which needs no K-wide target, and its gradient is
``softmax(z) − (1 − α)·onehot(y) − α·u``.
"""

import warnings

import keras
import numpy as np
from keras import ops

from keras_ls._arrays import to_numpy, wide_dtype, widened
from keras_ls._backend import is_concrete, set_mask
from keras_ls._checks import (
    check_axis,
    check_flag,
    check_fraction,
    check_ignore_class,
    check_prior_length,
    compatible_shapes,
    shown,
)
from keras_ls._labels import class_ids, labels_to_tensor, match_label_shape, numbers_to_tensor
from keras_ls.losses._closed_form import (
    logits_of_softmax,
    loss_of_logits,
    loss_of_probabilities,
    without_forbidden,
)


def smooth_labels(y_true, label_smoothing: float, prior=None, axis: int = -1):
    """Mixes targets with a prior: ``(1 − α)·y_true + α·u``.

    A binary classifier with one sigmoid unit has two classes but a single column of labels y, which this function
    would take for one class. Its smoothed targets are (1 − α)·y + α/2, the second column of
    ``smooth_labels([[1 − y, y]], α)``, and are what ``keras.losses.BinaryCrossentropy(label_smoothing=α)`` makes of y:
    use that loss on y as it is.

    Args:
        y_true: Targets (…, K, …), usually one-hot; integers are taken as floats.
        label_smoothing: α, in [0, 1). 0 returns the targets unchanged.
        prior: u, K non-negative numbers, normalised here; None is the uniform 1/K.
        axis: The class axis.

    Returns:
        Smoothed targets of `y_true`'s shape. A row that sums to s comes back with the sum (1 − α)·s + α.

    Raises:
        ValueError: If α is outside [0, 1), the prior is negative, all zero or not K long, or `y_true` does not hold
            numbers.

    Reference:
        Müller et al. 2019, section 1.1; a non-uniform u is the unigram smoothing of Pereyra et al. 2017.

    Example:
    >>> import numpy as np, keras_ls
    >>> smoothed = keras_ls.smooth_labels(np.array([[0.0, 1.0, 0.0, 0.0]]), 0.1)
    >>> [round(float(p), 3) for p in smoothed[0]]
    [0.025, 0.925, 0.025, 0.025]
    """
    alpha = check_fraction("label_smoothing", label_smoothing)
    y_true = _as_float(numbers_to_tensor(y_true, "y_true"))
    axis = check_axis(axis, y_true.shape, "y_true")
    return _smoothed(y_true, alpha, checked_prior(prior, y_true.shape[axis]), axis)


@keras.saving.register_keras_serializable(package="keras_ls")
def smoothed_categorical_crossentropy(
    y_true, y_pred, label_smoothing: float = 0.1, prior=None, from_logits: bool = False, axis: int = -1
):
    """Cross-entropy ``−Σ_k t_k log p_k`` against smoothed one-hot (or soft) targets t.

    With ``prior=None`` this is ``keras.losses.CategoricalCrossentropy(label_smoothing=α)``, and targets that do not
    sum to 1 are treated as that loss treats them on the same backend. There are three differences. K is the size of
    `axis` here, while Keras takes that of the last axis whatever `axis` is. A logit of −inf whose smoothed target is 0
    costs nothing here, while Keras's loss is NaN. Half precision is computed in float32 here.

    Args:
        y_true: Targets (…, K, …) of `y_pred`'s shape.
        y_pred: Probabilities, or logits with ``from_logits=True``. Logits are exact; probabilities are normalised
            and clipped to Keras's epsilon (1e-7), so that a hopeless prediction costs no more than 16.2 nats, but on
            TensorFlow those of a softmax in the same dtype are traced back to their logits, as in Keras's own losses. A
            logit of −inf gives an infinite loss unless its smoothed target is 0. K is at least 2; one sigmoid unit
            takes ``keras.losses.BinaryCrossentropy(label_smoothing=α)``.
        label_smoothing: α, in [0, 1).
        prior: u, K non-negative numbers, normalised here; None is the uniform 1/K.
        from_logits: Whether `y_pred` holds logits.
        axis: The class axis.

    Returns:
        One loss per sample, in nats: `y_pred`'s shape less `axis`, in its dtype (computed in float32 or wider).

    Raises:
        ValueError: If α, the prior or a flag is not allowed, the shapes differ, or an argument does not hold numbers.

    Reference:
        Müller et al. 2019, section 1.1.

    Example:
    >>> import numpy as np, keras_ls
    >>> loss = keras_ls.smoothed_categorical_crossentropy(
    ...     np.array([[0.0, 1.0]]), np.array([[0.0, 2.0]], "float32"), label_smoothing=0.1, from_logits=True)
    >>> round(float(loss[0]), 4)
    0.2269
    """
    return crossentropy_where(None, y_true, y_pred, label_smoothing, prior, from_logits, axis)


def crossentropy_where(counts, y_true, y_pred, label_smoothing, prior, from_logits, axis):
    """`smoothed_categorical_crossentropy`, finite where `counts`, bool of the losses' shape or None, is False."""
    alpha = check_fraction("label_smoothing", label_smoothing)
    from_logits = check_flag("from_logits", from_logits)
    y_pred = _as_float(numbers_to_tensor(y_pred, "y_pred"))
    axis = check_axis(axis, y_pred.shape, "y_pred")
    y_pred, from_logits = _traced_back(y_pred, from_logits)
    y_true = numbers_to_tensor(y_true, "y_true")
    _check_same_shape(y_true, y_pred)
    if counts is not None:
        counts = ops.expand_dims(counts, axis)
        y_true, y_pred = ops.where(counts, y_true, ops.zeros_like(y_true)), ops.where(counts, y_pred, 1.0)
    prior = checked_prior(prior, y_pred.shape[axis])
    _warn_of_one_class("smoothed_categorical_crossentropy", y_pred.shape, axis)
    dtype = keras.backend.standardize_dtype(y_pred.dtype)
    y_pred = widened(y_pred)
    targets = _smoothed(ops.cast(y_true, y_pred.dtype), alpha, prior, axis)
    least = alpha / (y_pred.shape[axis] or 1) if prior is None else (alpha * prior).min()
    if from_logits and least < np.finfo("float32").tiny:  # a target may be 0
        y_pred = without_forbidden(y_pred, targets)
    return ops.cast(ops.categorical_crossentropy(targets, y_pred, from_logits=from_logits, axis=axis), dtype)


@keras.saving.register_keras_serializable(package="keras_ls")
def smoothed_sparse_categorical_crossentropy(
    y_true,
    y_pred,
    label_smoothing: float = 0.1,
    prior=None,
    from_logits: bool = False,
    ignore_class: int | None = None,
    axis: int = -1,
):
    """Cross-entropy against smoothed targets, for integer labels: ``logsumexp(z) − (1 − α)·z_y − α·Σ_k u_k z_k``.

    No K-wide target is built. For logits the gradient is the closed form ``softmax(z) − (1 − α)·onehot(y) − α·u``;
    under float16 and bfloat16 everything is computed in float32. JAX and TensorFlow differentiate the loss in reverse
    and in forward mode (``jax.jvp``, ``jax.hessian``, ``tf.autodiff.ForwardAccumulator``), PyTorch in reverse mode
    only, to any order, through ``torch.autograd`` but not ``torch.func``.

    Args:
        y_true: Class ids in [0, K), integers or floats that hold integers: `y_pred`'s shape less `axis`, or that
            with a trailing 1.
        y_pred: Probabilities, or logits with ``from_logits=True``. Logits are exact; probabilities are normalised
            and clipped to Keras's epsilon (1e-7), but on TensorFlow those of a softmax in the same dtype are traced
            back to their logits, as in Keras's own losses. (Of others, Keras's sparse loss clips before it normalises
            on TensorFlow: it is larger by up to about 1e-7·K nats, and another where rows do not sum to 1.) A logit of
            −inf gives an infinite loss unless its smoothed target is 0. K is at least 2; one sigmoid unit takes
            ``keras.losses.BinaryCrossentropy(label_smoothing=α)``.
        label_smoothing: α, in [0, 1).
        prior: u, K non-negative numbers, normalised here; None is the uniform 1/K.
        from_logits: Whether `y_pred` holds logits.
        ignore_class: A label, in [0, K) or not. Positions with this label have loss 0 and gradient 0 and are left out
            of the mean that the loss class takes (``_keras_mask`` is set as Keras's own sparse loss sets it).
        axis: The class axis.

    Returns:
        One loss per sample, in nats: `y_pred`'s shape less `axis`, in its dtype.

    Raises:
        ValueError: If α, the prior, a flag or `ignore_class` is not allowed, the shapes cannot match, an argument does
            not hold numbers, or a label whose value can be read (eagerly) is neither in [0, K) nor `ignore_class`.
            In a compiled graph such a label's loss and gradient are NaN.

    Reference:
        Müller et al. 2019, section 1.1.

    Example:
    >>> import numpy as np, keras_ls
    >>> loss = keras_ls.smoothed_sparse_categorical_crossentropy(
    ...     np.array([1, -1]), np.array([[0.0, 2.0], [5.0, 0.0]], "float32"),
    ...     label_smoothing=0.1, from_logits=True, ignore_class=-1)
    >>> [round(float(value), 4) for value in loss]
    [0.2269, 0.0]
    """
    alpha = check_fraction("label_smoothing", label_smoothing)
    from_logits = check_flag("from_logits", from_logits)
    ignore_class = check_ignore_class(ignore_class)
    y_pred = _as_float(numbers_to_tensor(y_pred, "y_pred"))
    axis = check_axis(axis, y_pred.shape, "y_pred")
    y_pred, from_logits = _traced_back(y_pred, from_logits)
    labels = match_label_shape(labels_to_tensor(y_true, "y_true"), y_pred, axis)
    prior = checked_prior(prior, y_pred.shape[axis])
    _warn_of_one_class("smoothed_sparse_categorical_crossentropy", y_pred.shape, axis)

    classes_last = ops.moveaxis(y_pred, axis, -1)
    num_classes = ops.shape(classes_last)[-1]
    shape = ops.shape(classes_last)[:-1]
    ids, kept, valid = class_ids(ops.reshape(labels, (-1,)), num_classes, ignore_class)
    rows = ops.reshape(classes_last, (-1, num_classes))
    losses = (loss_of_logits if from_logits else loss_of_probabilities)(rows, ids, alpha, prior, kept)
    if valid is not None:
        losses = losses * ops.where(valid, ops.cast(1.0, losses.dtype), np.nan)  # NaN in the gradient, too
    losses = ops.reshape(losses, shape)
    if kept is not None:
        set_mask(losses, ops.reshape(kept, shape))
    return losses


def _smoothed(targets, alpha, prior, axis):
    """(1 − α)·targets + α·u, of checked arguments."""
    if alpha == 0.0:
        return targets
    if prior is None:
        # Half precision does not hold every K.
        share = alpha / ops.cast(ops.shape(targets)[axis], wide_dtype(targets.dtype))
        return (1.0 - alpha) * targets + ops.cast(share, targets.dtype)
    shape = [-1 if i == axis else 1 for i in range(len(targets.shape))]
    return (1.0 - alpha) * targets + ops.convert_to_tensor((alpha * prior).reshape(shape), dtype=targets.dtype)


def _as_float(tensor):
    if "float" in keras.backend.standardize_dtype(tensor.dtype):
        return tensor
    return ops.cast(tensor, keras.config.floatx())


def checked_prior(prior, num_classes=None):
    """`prior` as a float64 vector that sums to 1, or None."""
    if prior is None:
        return None
    if ops.is_tensor(prior) and not is_concrete(prior):
        raise ValueError("`prior` must be numbers that are known now. Received: a tensor of a compiled graph.")
    vector = to_numpy("prior", prior).astype("float64")
    if vector.ndim != 1 or vector.size == 0:
        raise ValueError(f"`prior` must be a vector, one number per class. Received shape: {vector.shape}.")
    total = vector.sum()
    if not (np.all(vector >= 0) and 0 < total < np.inf):
        raise ValueError(f"`prior` must be finite, non-negative and not all zero. Received: prior={shown(prior)}.")
    check_prior_length(vector, num_classes)
    return vector / total


def _check_same_shape(y_true, y_pred):
    given, wanted = tuple(y_true.shape), tuple(y_pred.shape)
    if not compatible_shapes(given, wanted):
        raise ValueError(
            "`y_true` must have the shape of `y_pred` (for integer labels there is the sparse loss). "
            f"Received: y_true.shape={given}, y_pred.shape={wanted}."
        )


def _traced_back(y_pred, from_logits):
    """`y_pred`, or the logits that a softmax made it of if these are known; and whether it is logits."""
    logits = logits_of_softmax(y_pred)
    if logits is None:
        return y_pred, from_logits
    if from_logits:
        warnings.warn(
            "`from_logits=True` was given, but `y_pred` comes from a softmax, whose logits are used instead.",
            stacklevel=3,
        )
    if logits_of_softmax(logits) is not None:  # of two softmaxes Keras would trace back the other, too
        logits = ops.copy(logits)
    return logits, True


def _warn_of_one_class(name, shape, axis):
    """Warns, as Keras does, where the loss is 0 whatever the prediction, and the only label is 0."""
    if shape[axis] == 1:
        warnings.warn(
            f"In loss {name}, expected `y_pred` to have more than one class on axis {axis}: over one class the loss is "
            "always 0, and 0 is the only label. For one sigmoid unit use "
            "`keras.losses.BinaryCrossentropy(label_smoothing=...)`, which is the smoothed loss of its two classes. "
            f"Received: y_pred.shape={tuple(shape)}.",
            SyntaxWarning,
            stacklevel=3,
        )
