"""The NumPy side of predictions and labels: any tensor as an array, labels checked against predictions."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ls._checks import shown


def to_numpy(name: str, values: Any) -> np.ndarray:
    """Returns tensors, arrays and lists as one array of numbers in their own dtype (bfloat16 included).

    Big-endian arrays come back in the machine's byte order.

    Raises:
        ValueError: If `values`, the argument called `name`, is not an array of numbers.
    """
    try:
        array = as_array(values)
    except ValueError:  # ragged lists and tensors
        array = np.asarray(None)
    except (TypeError, NotImplementedError, RuntimeError) as error:  # of another framework's tensor, or a symbolic one
        raise ValueError(f"`{name}` must be an array of real numbers. Received: {shown(values)} ({error}).") from error
    if array.dtype.kind in "OSUMmc" or (array.dtype.kind == "V" and "float" not in str(array.dtype)):
        raise ValueError(f"`{name}` must be an array of real numbers. Received: {shown(values)}.")
    return array


def as_array(values: Any) -> np.ndarray:
    """A tensor, array or list as a NumPy array in native byte order; an error if NumPy cannot make one."""
    if hasattr(values, "ragged_rank"):  # which Keras fills up with zeros
        raise ValueError("a ragged tensor")
    if ops.is_tensor(values):
        array = ops.convert_to_numpy(values)
    else:
        try:
            array = np.asarray(values)
        except (TypeError, RuntimeError):  # PyTorch's tensors that need a gradient, are in bfloat16 or on a GPU
            if not isinstance(values, (list, tuple)):
                raise
            array = np.asarray([as_array(value) for value in values])
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def taken(x: Any, index: np.ndarray | slice) -> Any:
    """The examples at `index`, an array (n,) or a slice, of an array or of a list or dict of arrays."""
    return tree.map_structure(lambda leaf: leaf[index], x)


def prediction_rows(name: str, values: Any, label_shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Returns predictions (..., K), which must not be empty, as a NumPy array in their own dtype.

    Predictions (N,) whose labels, of `label_shape`, are (N,) or (N, 1) are of two classes and come back as (N, 1).
    """
    array = to_numpy(name, values)
    if array.ndim < 1 or array.size == 0:
        raise ValueError(f"`{name}` must hold at least one prediction (..., K). Received shape: {array.shape}.")
    if array.ndim == 1 and label_shape in (array.shape, (len(array), 1)):
        array = array[:, None]
    return array if "float" in str(array.dtype) else array.astype("float64")


def top_log_odds(block: np.ndarray) -> np.ndarray:
    """(n,) log(p/(1 − p)) of the largest probability p of (n, K) logits, which tells apart what p rounds to 1."""
    highest = block.argmax(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        differences = block - block.max(-1, keepdims=True)
        differences[np.arange(len(block)), highest] = -np.inf
        second = differences.max(-1)  # what the others are measured by, else all of their exponentials can be 0
        others = np.exp(differences - np.where(np.isneginf(second), 0.0, second)[:, None]).sum(-1)
        return -second - np.log(others, where=~np.isneginf(second), out=np.zeros_like(second))


def log_softmax(rows: np.ndarray) -> np.ndarray:
    """Log-softmax of (N, K) float64 logits; NaN where a row holds NaN, +inf, or −inf alone."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shifted = rows - rows.max(axis=-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def widened(x: Any) -> Any:
    """A tensor in float32, or in float64 if it is in that."""
    dtype = wide_dtype(x.dtype)
    return x if dtype == keras.backend.standardize_dtype(x.dtype) else ops.cast(x, dtype)


def wide_dtype(dtype: Any) -> str:
    """What float64 and what everything else is computed in: float64 and float32."""
    return "float64" if keras.backend.standardize_dtype(dtype) == "float64" else "float32"


def smallest_probability(dtype: str) -> float:
    """What stands for a probability that underflowed to 0 in `dtype`, so that it has a logarithm."""
    return {"float16": 2.0**-24, "float64": 2.0**-1022}.get(dtype, 2.0**-126)


def rounded_off_one(dtype: str) -> float:
    """What stands for 1 − p where p was rounded to 1 in `dtype`: half of what the number below 1 lacks."""
    return {"float16": 2.0**-12, "bfloat16": 2.0**-9, "float64": 2.0**-54}.get(dtype, 2.0**-25)


def hard_labels(name: str, labels: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the class ids (N,), int64, of labels that belong to predictions of the given shape (..., K).

    The arguments and errors are those of `counted_labels`.
    """
    return counted_labels(name, labels, shape)[0]


def counted_labels(
    name: str,
    labels: Any,
    shape: tuple[int, ...],
    ignore_class: int | None = None,
    counts: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The class ids of labels that belong to predictions of the given shape (..., K), and which of them count.

    Args:
        name: what the caller calls the argument.
        labels: class ids (...,) or (..., 1), or one row per prediction (..., K), whose largest entry is the class. For
            predictions (..., 1), which are of two classes, always ids 0 and 1.
        shape: the predictions' shape.
        ignore_class: a label that does not count, or None.
        counts: (N,) bool, False where a position does not count whatever its label is, or None.

    Returns:
        Class ids (N,), int64, 0 where a position does not count; and (N,) bool, True where it does.

    Raises:
        ValueError: If shapes do not match, an id that counts is not an integer in [0, K), or a row that counts marks no
            class, or several (as the labels of a multi-label classifier do).
    """
    array = to_numpy(name, labels)
    total = math.prod(shape[:-1])
    counts = np.ones(total, bool) if counts is None else counts
    if array.shape == shape and shape[-1] > 1:
        ids = np.zeros(total, "int64")
        ids[counts] = _ids_of_rows(name, array.reshape(-1, shape[-1])[counts])
        if ignore_class is not None:
            counts = counts & (ids != ignore_class)
        return np.where(counts, ids, 0), counts
    if array.shape not in (shape[:-1], (*shape[:-1], 1)):
        raise ValueError(
            f"`{name}` must hold one class id per prediction, or one row of class weights. "
            f"Received: shape {array.shape} for predictions of shape {shape}."
        )
    flat = array.reshape(total)
    if ignore_class is not None:
        counts = counts & (flat != ignore_class)
    ids = np.zeros(total, "int64")
    ids[counts] = checked_ids(name, flat[counts], max(2, shape[-1]))
    return ids, counts


def spread_weights(name: str, given: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the weights (N,), float64, of predictions whose leading dimensions are `shape`; ones if `given` is None.

    Args:
        name: what the caller calls the argument.
        given: None, or an array of `shape` or of its leading dimensions, perhaps with a trailing 1.
        shape: the shape of the predictions less their class axis.

    Raises:
        ValueError: If shapes do not match, or weights are not finite or negative.
    """
    if given is None:
        return np.ones(math.prod(shape))
    weight = to_numpy(name, given).astype("float64")
    fits = weight.ndim < 2 or weight.shape == shape[: weight.ndim]
    if not fits and weight.shape[-1] == 1 and weight.shape[:-1] == shape[: weight.ndim - 1]:
        weight = weight[..., 0]
    if weight.shape != shape[: weight.ndim]:
        raise ValueError(
            f"`{name}` must have the leading dimensions of the predictions, {shape}. Received: shape {weight.shape}."
        )
    weight = np.broadcast_to(weight.reshape(weight.shape + (1,) * (len(shape) - weight.ndim)), shape).reshape(-1)
    with np.errstate(over="ignore"):
        is_finite = weight.sum() < np.inf  # False for NaN
    if not (is_finite and (weight >= 0).all()):
        raise ValueError(f"`{name}` must be finite and not negative, their sum included. Received: {shown(given)}.")
    return weight


def checked_ids(name: str, ids: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns `ids` (integers, or floats that hold integers) as int64, all in [0, num_classes)."""
    numbers = ids.astype("float64")
    valid = (numbers >= 0) & (numbers < num_classes) & (numbers == np.floor(numbers))  # also False for NaN
    if not valid.all():
        wrong = np.unique(numbers[~valid])[:5].tolist()
        raise ValueError(f"`{name}` must hold integers in [0, {num_classes}). Received: {wrong}.")
    return numbers.astype("int64")


def _ids_of_rows(name: str, rows: np.ndarray) -> np.ndarray:
    marks = np.isfinite(rows).all(axis=-1) & (rows.max(axis=-1, initial=0) > 0)
    if not marks.all():
        row = shown(rows[~marks][0])
        raise ValueError(
            f"Each row of `{name}` must be finite and mark one class. Received a row that does not: {row}."
        )
    if ((rows == 1).sum(axis=-1) > 1).any():
        raise ValueError(
            f"Each row of `{name}` must mark one class. Received a row with several ones, as a multi-label classifier "
            "has: measure each of its classes alone, as a binary classifier."
        )
    return rows.argmax(axis=-1)
