"""The NumPy side of predictions and labels: any tensor as an array, labels checked against predictions."""

import math
from typing import Any

import numpy as np
from keras import ops, tree


def to_numpy(name: str, values: Any) -> np.ndarray:
    """Returns tensors, arrays and lists as one array of numbers in their own dtype (bfloat16 included).

    Raises:
        ValueError: where `values`, the argument called `name`, is not an array of numbers.
    """
    try:
        array = ops.convert_to_numpy(values) if ops.is_tensor(values) else np.asarray(values)
    except (TypeError, ValueError):  # ragged lists
        array = np.asarray(None)
    if array.dtype.kind in "OSUMmc":
        raise ValueError(f"`{name}` must be an array of real numbers. Received: {type(values).__name__}.")
    return array


def taken(x: Any, index: np.ndarray) -> Any:
    """The examples at `index` (n,) of an array or a list or dict of arrays or tensors, as NumPy arrays."""
    return tree.map_structure(
        lambda leaf: (ops.convert_to_numpy(leaf) if ops.is_tensor(leaf) else np.asarray(leaf))[index], x
    )


def prediction_rows(name: str, values: Any) -> np.ndarray:
    """Returns predictions (..., K), which must not be empty, as a NumPy array in their own dtype."""
    array = to_numpy(name, values)
    if array.ndim < 1 or array.size == 0:
        raise ValueError(f"`{name}` must hold at least one prediction (..., K). Received shape: {array.shape}.")
    return array if "float" in str(array.dtype) else array.astype("float64")


def log_softmax(rows: np.ndarray) -> np.ndarray:
    """Log-softmax of (N, K) float64 logits; NaN where a row holds NaN, +inf, or −inf alone."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shifted = rows - rows.max(axis=-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def smallest_probability(dtype: str) -> float:
    """What stands for a probability that underflowed to 0 in `dtype`, so that it has a logarithm."""
    return 2.0**-24 if dtype == "float16" else 2.0**-126


def hard_labels(name: str, labels: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the class ids (N,), int64, of labels that belong to predictions of the given shape (..., K).

    Args:
        name: what the caller calls the argument.
        labels: class ids (...,) or (..., 1), or one row a prediction (..., K), whose largest entry is the class.
        shape: the predictions' shape.

    Raises:
        ValueError: where shapes do not match, or an id is not an integer in [0, K).
    """
    array = to_numpy(name, labels)
    if array.shape == shape:
        return _ids_of_rows(name, array.reshape(-1, shape[-1]))
    if array.shape not in (shape[:-1], (*shape[:-1], 1)):
        raise ValueError(
            f"`{name}` must hold one class id a prediction, or one row of class weights. "
            f"Received: shape {array.shape} for predictions of shape {shape}."
        )
    return checked_ids(name, array.reshape(math.prod(shape[:-1])), shape[-1])


def checked_ids(name: str, ids: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns `ids` (integers, or floats that hold integers) as int64, all in [0, num_classes)."""
    numbers = ids.astype("float64")
    valid = (numbers >= 0) & (numbers < num_classes) & (numbers == np.floor(numbers))  # also False for NaN
    if not valid.all():
        wrong = np.unique(numbers[~valid])[:5].tolist()
        raise ValueError(f"`{name}` must hold integers in [0, {num_classes}). Received: {wrong}.")
    return numbers.astype("int64")


def _ids_of_rows(name: str, rows: np.ndarray) -> np.ndarray:
    numbers = rows.astype("float64")
    if not (np.isfinite(numbers).all() and (numbers.max(axis=-1) > 0).all()):
        raise ValueError(f"Each row of `{name}` must be finite and mark one class. Received a row that does not.")
    return numbers.argmax(axis=-1)
