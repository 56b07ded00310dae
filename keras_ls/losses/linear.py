"""Smoothed cross-entropy of a linear output layer, without its logits in memory; importable from `keras_ls.losses`."""

from typing import Any

import keras
from keras import ops

from keras_ls._backend import get_mask, set_mask
from keras_ls._checks import check_count, check_fraction, check_ignore_class, compatible_shapes
from keras_ls._labels import class_ids, labels_to_tensor, numbers_to_tensor, spread_over
from keras_ls.losses._linear_chunks import STATISTICS, Smoothing, no_rows_seen, results, with_classes
from keras_ls.losses._linear_passes import ByClasses, ByExamples, Examples, Layer
from keras_ls.losses.functional import checked_prior, smoothed_sparse_categorical_crossentropy

# Logits that are held at a time unless the caller says otherwise: 16 MB in float32.
_CHUNK = 2**22
# Above it, blocks are of classes: the gradient of so large a kernel is to be written once rather than added to.
_MANY_CLASSES = 2**14
# Smaller blocks cost more for what is added up over blocks than for their logits.
_FEWEST_CLASSES, _FEWEST_EXAMPLES = 1024, 512
# Classes of a block where the number of examples is not known until the graph runs.
_CLASSES_FOR_ANY_NUMBER = 2048


def linear_smoothed_crossentropy(
    features: Any,
    kernel: Any,
    bias: Any,
    labels: Any,
    label_smoothing: float = 0.1,
    prior: Any = None,
    ignore_class: int | None = None,
    chunk_size: int | None = None,
) -> Any:
    """Smoothed cross-entropy of ``softmax(features·kernel + bias)`` that never holds all logits: for many classes.

    It is `smoothed_sparse_categorical_crossentropy` of the logits ``features·kernel + bias``, in value, in the
    gradients of features, kernel and bias, and in what it refuses. Logits are computed a block at a time, and again in
    the backward pass, so that neither they nor their gradient are whole in memory where they exceed one block: what
    is needed beside the gradients is a few blocks. Blocks are of examples or, above 16,384 classes, of classes.

    The gradient is a custom one, in reverse mode. Without a gradient, only the forward pass is computed.

    Args:
        features: What the output layer is given, (…, D).
        kernel: The weights of the output layer, (D, K).
        bias: Its bias (K,), or None.
        labels: Class ids in [0, K), integers or floats that hold integers: (…,) or (…, 1).
        label_smoothing: α, in [0, 1).
        prior: u, K non-negative numbers, normalised here; None is the uniform 1/K.
        ignore_class: A label, in [0, K) or not, whose positions have loss 0 and gradient 0 and are left out of the
            mean that a Keras loss takes.
        chunk_size: The number of examples in a block or, above 16,384 classes, of classes; None chooses blocks of
            about 16 MB, but of at least 512 examples or 1,024 classes (2,048 where a graph does not know how many
            examples come), and a single one where all logits are known to be no more than that.

    Returns:
        One loss per example, in nats: (…,), in the dtype that the logits would have (computed in float32 or wider).

    Raises:
        ValueError: If α, the prior, `ignore_class` or `chunk_size` is not allowed, the shapes cannot match, an argument
            does not hold numbers, or a label whose value can be read (eagerly) is neither in [0, K) nor
            `ignore_class`. In a compiled graph such a label's loss and gradient are NaN.
        NotImplementedError: If a second derivative is asked for on PyTorch where the logits come in blocks.

    Reference:
        Müller et al. 2019, section 1.1; for the computation, Wijmans et al. 2024, "Cut Your Losses in Large-Vocabulary
        Language Models".

    Example:
    >>> import numpy as np, keras_ls
    >>> features, kernel = np.array([[2.0, 1.0]], "float32"), np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], "float32")
    >>> loss = keras_ls.linear_smoothed_crossentropy(features, kernel, None, np.array([1]), label_smoothing=0.1)
    >>> round(float(loss[0]), 4)
    0.5076
    """
    features, layer = _checked(features, kernel, bias)
    wide, _ = linear_loss_and_statistics(
        features,
        layer.kernel,
        layer.bias,
        labels,
        label_smoothing,
        prior,
        ignore_class,
        chunk_size,
        with_statistics=False,
    )
    losses = ops.cast(wide, features.dtype)
    if get_mask(wide) is not None:
        set_mask(losses, get_mask(wide))
    return losses


def linear_loss_and_statistics(
    features: Any,
    kernel: Any,
    bias: Any,
    labels: Any,
    label_smoothing: float = 0.1,
    prior: Any = None,
    ignore_class: int | None = None,
    chunk_size: int | None = None,
    with_statistics: bool = True,
    mask: Any = None,
) -> tuple[Any, dict[str, Any]]:
    """`linear_smoothed_crossentropy`, and what the same pass over the logits tells of each prediction.

    Args:
        features: As for `linear_smoothed_crossentropy`, like what follows.
        kernel: (D, K).
        bias: (K,) or None.
        labels: (…,) or (…, 1).
        label_smoothing: α.
        prior: u or None.
        ignore_class: A label that does not count, or None.
        chunk_size: The size of a block, or None.
        with_statistics: Whether statistics are computed.
        mask: (…,) or (…, 1), where features and labels count, or None. Elsewhere they may hold anything.

    Returns:
        The losses (…,), and statistics (…,) through which no gradient flows, both in float32 or wider: "nll", −log p
        of the label; "confidence", the largest probability; "hit", 1 where the first class of that probability is the
        label, else 0. All are 0 where the label is ignored.

    Raises:
        ValueError: As `linear_smoothed_crossentropy`.
    """
    alpha, ignore_class = check_fraction("label_smoothing", label_smoothing), check_ignore_class(ignore_class)
    if chunk_size is not None:
        chunk_size = check_count("chunk_size", chunk_size)
    features, layer = _checked(features, kernel, bias)
    labels = _matched(labels_to_tensor(labels, "labels"), features.shape[:-1])
    smoothing = Smoothing(alpha, checked_prior(prior, layer.kernel.shape[1]), layer.kernel.shape[1])

    if mask is not None:
        mask = ops.cast(spread_over("mask", mask, labels), "bool")
        labels = ops.where(mask, labels, ops.zeros_like(labels))
    shape = ops.shape(features)[:-1]
    ids, kept, valid = class_ids(ops.reshape(labels, (-1,)), smoothing.num_classes, ignore_class, name="labels")
    rows = ops.reshape(features, (-1, features.shape[-1]))
    if mask is not None:
        counts = ops.reshape(mask, (-1,))
        kept = counts if kept is None else ops.logical_and(kept, counts)
    if kept is not None:  # what does not count may be NaN
        rows = ops.where(ops.expand_dims(kept, -1), rows, 0.0)
    examples = Examples(rows, ids, kept)
    size = _size(rows.shape[0], smoothing.num_classes, chunk_size)
    if size is None:
        columns = _at_once(examples, layer, smoothing, with_statistics)
    else:
        by = ByClasses if smoothing.num_classes > _MANY_CLASSES else ByExamples
        columns = _in_blocks(examples, layer, by(smoothing, size, with_statistics))
    if valid is not None:
        factor = ops.where(valid, ops.cast(1.0, columns[0].dtype), float("nan"))
        columns = [column * factor for column in columns]
    losses, *statistics = (ops.reshape(column, shape) for column in columns)
    if kept is not None:
        set_mask(losses, ops.reshape(kept, shape))
    return losses, dict(zip(STATISTICS[1:], map(ops.stop_gradient, statistics), strict=False))


def _size(num_examples, num_classes, chunk_size):
    """How many examples or classes a block has, or None where all logits are one block."""
    many = num_classes > _MANY_CLASSES
    if chunk_size is None:
        if many and num_examples is None:
            return _CLASSES_FOR_ANY_NUMBER
        if many:
            chunk_size = max(_CHUNK // max(num_examples, 1), _FEWEST_CLASSES)
        else:
            chunk_size = max(_CHUNK // num_classes, _FEWEST_EXAMPLES)
    whole = num_classes if many else num_examples
    return None if num_examples == 0 or (whole is not None and whole <= chunk_size) else chunk_size


def _at_once(examples, layer, smoothing, with_statistics):
    """(N,) losses, and statistics if asked for, of logits that are whole in memory."""
    logits = layer.logits(examples.features)
    ids, (alpha, prior) = examples.ids, smoothing[:2]
    # Any negative id would do for what does not count.
    labels, ignored = (ids, None) if examples.kept is None else (ops.where(examples.kept, ids, -1), -1)
    losses = smoothed_sparse_categorical_crossentropy(labels, logits, alpha, prior, True, ignored)
    if not with_statistics:
        return [losses]
    logits = ops.stop_gradient(logits)
    rows = with_classes(no_rows_seen(logits, True), logits, ids, 0, 0.0)
    return [losses, *ops.unstack(results(rows, ids, 0.0, examples.kept), len(STATISTICS), axis=-1)[1:]]


def _in_blocks(examples, layer, by):
    """(N,) losses, and statistics if asked for, with the gradients of features, kernel and bias."""
    weights = [each for each in layer if each is not None]
    # All as arguments: JAX takes no gradient of a compiled function through what a custom one holds by closure.
    given = [examples.features, *weights, *(each for each in examples[1:] if each is not None)]

    @ops.custom_gradient
    def loss(features, *tensors):
        kernel, bias = (*tensors[: len(weights)], None)[:2]
        own = Examples(features, *(*tensors[len(weights) :], None)[:2])
        columns, shift, total = by.forward(own, Layer(kernel, bias))

        def gradient(*args, upstream=None):
            _check_no_second_derivative()
            upstream = args[-1] if upstream is None else upstream  # only PyTorch passes it by name
            upstream = ops.cast(upstream if len(upstream.shape) == 1 else upstream[:, 0], shift.dtype)
            if own.kept is not None:
                upstream = ops.where(own.kept, upstream, 0.0)
            found = by.backward(own, Layer(kernel, bias), shift, total, upstream)
            slopes = [
                ops.cast(slope, tensor.dtype)
                for slope, tensor in zip(found, (features, kernel, bias), strict=True)
                if slope is not None
            ]
            return *slopes, *([None] * (len(given) - len(slopes)))

        return columns, gradient

    columns = loss(*given)
    return [columns] if len(columns.shape) == 1 else ops.unstack(columns, len(STATISTICS), axis=-1)


def _check_no_second_derivative() -> None:
    """An error where PyTorch is about to differentiate the gradient: to it `shift` and `total` are constants there."""
    if keras.backend.backend() == "torch":
        import torch

        if torch.is_grad_enabled():
            raise NotImplementedError(
                "PyTorch cannot differentiate the gradient of `linear_smoothed_crossentropy` where the logits come in "
                "blocks. A `chunk_size` of all examples (of all classes where there are many) makes them one block."
            )


def _checked(features, kernel, bias):
    """Features and layer as float tensors of one dtype whose shapes match."""
    features, kernel = numbers_to_tensor(features, "features"), numbers_to_tensor(kernel, "kernel")
    bias = None if bias is None else numbers_to_tensor(bias, "bias")
    if len(kernel.shape) != 2 or None in kernel.shape or 0 in kernel.shape:
        raise ValueError(f"`kernel` must be (D, K), both known and above 0. Received: shape {tuple(kernel.shape)}.")
    depth, num_classes = kernel.shape
    if len(features.shape) == 0 or features.shape[-1] != depth:
        raise ValueError(
            f"`features` must be (…, {depth}), as `kernel` is {tuple(kernel.shape)}. "
            f"Received: shape {tuple(features.shape)}."
        )
    if bias is not None and tuple(bias.shape) != (num_classes,):
        raise ValueError(f"`bias` must be ({num_classes},) or None. Received: shape {tuple(bias.shape)}.")
    tensors = [each for each in (features, kernel, bias) if each is not None]
    dtype = keras.backend.result_type(*(keras.backend.standardize_dtype(each.dtype) for each in tensors))
    if "float" not in dtype:
        dtype = keras.config.floatx()
    features, kernel = ops.cast(features, dtype), ops.cast(kernel, dtype)
    return features, Layer(kernel, None if bias is None else ops.cast(bias, dtype))


def _matched(labels, positions):
    """`labels` in the shape of the positions, a trailing 1 taken off."""
    given = tuple(labels.shape)
    if len(given) == len(positions) + 1 and given[-1] == 1 and compatible_shapes(given[:-1], positions):
        return ops.squeeze(labels, axis=-1)
    if not compatible_shapes(given, positions):
        raise ValueError(
            "`labels` must hold one class id per example: the shape of `features` without its last axis, or that with "
            f"a trailing 1. Received: labels.shape={given}, features without the last axis {tuple(positions)}."
        )
    return labels
