"""Class ids: turned into tensors, matched to predictions in shape, checked in value, split from ignored positions."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops, tree

from keras_ls._arrays import to_numpy
from keras_ls._backend import is_concrete
from keras_ls._checks import check_axis, compatible_shapes, shown

MASKED = -(2**31)  # an ignored class for positions under a mask, which every dtype that labels get can hold


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


def numbers_to_tensor(values, name: str):
    """Turns an array, list or tensor of real numbers into a tensor that the backend can compute with.

    Dtypes stay as they are where the backend has arithmetic for them. Arrays may have any byte order; lists of Python
    floats take Keras's floatx; PyTorch's uint16, uint32 and uint64 become int64.

    Args:
        values: An array, a nested list, a number, a tensor, or a list of tensors.
        name: What the caller calls the argument.

    Raises:
        ValueError: If `values` does not hold real numbers.
    """
    if isinstance(values, keras.KerasTensor):
        raise ValueError(
            f"`{name}` must hold numbers: use symbolic tensors in the `call` of a layer. "
            f"Received: {name}={shown(values)}."
        )
    if not _holds_tensors(values):
        is_array = isinstance(values, (np.ndarray, np.generic))
        values = _portable(to_numpy(name, values))
        if not is_array and values.dtype == "float64":
            values = values.astype(keras.config.floatx())
    try:
        tensor = _tensor(values)
        if hasattr(tensor, "ragged_rank"):  # which Keras would fill up with zeros
            raise ValueError
        if hasattr(tensor, "read_value"):  # a tf.Variable, which lacks what `keras.ops` asks of a tensor
            tensor = tensor.read_value()
        dtype = keras.backend.standardize_dtype(tensor.dtype)
    except (TypeError, ValueError):
        dtype = "unknown"
    if not dtype.startswith(("float", "bfloat", "int", "uint", "bool")):
        raise ValueError(f"`{name}` must be an array of real numbers. Received: {name}={shown(values)}.")
    if keras.backend.backend() == "torch" and dtype in ("uint16", "uint32", "uint64"):
        return _signed(tensor)
    return tensor


def labels_to_tensor(labels, name: str):
    """Turns labels of any kind into a tensor of int32, int64, float32 or float64, which `class_ids` can check.

    A label that is no class never becomes one on the way. Integers that the backend's widest integer dtype cannot hold
    (int32 on JAX by default, else int64) become floats of about the same size in an array, and the largest integer in
    a tensor. Booleans, small integers and half precision are widened, so that they can be compared with K and with an
    ignored class.

    Args:
        labels: Class ids or one-hot rows: an array, a nested list, a number, a tensor, or a list of tensors.
        name: What the caller calls the argument.

    Raises:
        ValueError: If `labels` does not hold real numbers.
    """
    if not _holds_tensors(labels):
        labels = to_numpy(name, labels)
        limits = np.iinfo(_widest_integer())
        if (
            labels.dtype.kind in "iu"
            and labels.size
            and not limits.min <= int(labels.min()) <= int(labels.max()) <= limits.max
        ):
            labels = labels.astype("float64")
    labels = numbers_to_tensor(labels, name)
    dtype = keras.backend.standardize_dtype(labels.dtype)
    if dtype in ("int32", "int64", "float32", "float64"):
        return labels
    if dtype in ("uint32", "uint64"):
        return _signed(labels)
    return ops.cast(labels, "float32" if "float" in dtype else "int32")


def match_label_shape(y_true, y_pred, axis: int = -1):
    """Returns `y_true` in the shape of `y_pred` less `axis`, taking off a 1 at the end (or at `axis`).

    Raises:
        ValueError: If the static shapes cannot match.
    """
    axis = check_axis(axis, y_pred.shape, "y_pred")
    rank = len(y_pred.shape)
    wanted = tuple(size for i, size in enumerate(y_pred.shape) if i != axis)
    given = tuple(y_true.shape)
    if len(given) == rank:
        for squeezed in (rank - 1, axis):
            if given[squeezed] == 1 and compatible_shapes(given[:squeezed] + given[squeezed + 1 :], wanted):
                return ops.squeeze(y_true, axis=squeezed)
    if not compatible_shapes(given, wanted):
        raise ValueError(
            "`y_true` must hold one class id per prediction: the shape of `y_pred` without its class axis, "
            "or that with a trailing 1. "
            f"Received: y_true.shape={given}, y_pred.shape={tuple(y_pred.shape)}, axis={axis}."
        )
    return y_true


def class_ids(labels, num_classes, ignore_class: int | None = None, name: str = "y_true") -> ClassIds:
    """Turns labels (integers, or floats that hold integers) into ids that can index.

    Raises:
        ValueError: If a value that can be read now is neither in [0, num_classes) nor `ignore_class`.
    """
    numbers = labels_to_tensor(labels, name)
    kept = None if ignore_class is None else ops.not_equal(numbers, ignore_class)
    valid = ops.logical_and(ops.greater_equal(numbers, 0), ops.less(numbers, num_classes))
    if "float" in str(numbers.dtype):
        valid = ops.logical_and(valid, ops.equal(ops.floor(numbers), numbers))
    if kept is not None:
        valid = ops.logical_or(valid, ops.logical_not(kept))
    if is_concrete(valid):  # not the labels: a constant of a compiled graph can be read, but nothing computed from it
        if not bool(ops.all(valid)):
            flags = ops.convert_to_numpy(valid)
            wrong = np.unique(ops.convert_to_numpy(numbers)[~flags])[:5]
            ignored = "" if ignore_class in (None, MASKED) else f" or ignore_class={ignore_class}"
            raise ValueError(
                f"`{name}` must hold integers in [0, {int(num_classes)}){ignored}. Received: {_as_integers(wrong)}."
            )
        valid = None
    usable = [flag for flag in (kept, valid) if flag is not None]
    for flag in usable:
        numbers = ops.where(flag, numbers, ops.zeros_like(numbers))
    ids = ops.cast(numbers, "int32")
    return ClassIds(ids, kept, valid)


def spread_over(name, given, positions):
    """`given` broadcast to the shape of `positions`, from the left if it has fewer dimensions; a trailing 1 may go."""
    given = numbers_to_tensor(given, name)
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


def gather_labels(rows, ids):
    """(N, K) and (N,) to (N,): each row's entry at its id."""
    return ops.squeeze(ops.take_along_axis(rows, ops.expand_dims(ids, -1), axis=-1), axis=-1)


def _holds_tensors(values) -> bool:
    """Says whether `values` is a tensor or a list of tensors, which may have no values yet."""
    leaves = tree.flatten(values) if isinstance(values, (list, tuple)) else [values]
    return any(ops.is_tensor(leaf) or isinstance(leaf, keras.Variable) for leaf in leaves)


def _portable(array: np.ndarray) -> np.ndarray:
    """`array` in a dtype that the backend takes."""
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype("float64")
    if array.dtype == "uint64" and keras.backend.backend() == "torch":
        return array.astype("int64" if array.size == 0 or int(array.max()) <= np.iinfo("int64").max else "float64")
    return array


def _tensor(values):
    """A tensor of `values`, in float32 where they are float64, which Apple's GPUs do not have."""
    try:
        return ops.convert_to_tensor(values)
    except TypeError:
        if getattr(values, "dtype", None) != "float64":
            raise
        return ops.convert_to_tensor(values, dtype="float32")


def _signed(tensor):
    """An unsigned tensor in the widest signed dtype; what that cannot hold is its largest number."""
    numbers = ops.cast(tensor, _widest_integer())
    return ops.where(numbers < 0, np.iinfo(_widest_integer()).max, numbers)


def _widest_integer() -> str:
    """int64, or int32 where JAX has no 64-bit numbers."""
    if keras.backend.backend() != "jax":
        return "int64"
    import jax

    return jax.numpy.result_type(int).name


def _as_integers(values: np.ndarray) -> list[int | float]:
    """Numbers for a message: integers without the point that labels have once a loss has cast them."""
    return [int(value) if np.isfinite(value) and value == np.floor(value) else float(value) for value in values]
