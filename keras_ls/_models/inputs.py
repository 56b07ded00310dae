"""Inputs of a model, as `model.predict` takes them: arrays, or a dataset of batches."""

import contextlib
import math
import types
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_ls._arrays import as_array
from keras_ls._backend import ONE_AT_A_TIME, output_spec
from keras_ls._checks import compatible_shapes, shown

# Shapes of examples that models are known to take.
_TRACED: weakref.WeakKeyDictionary[keras.Model, set[tuple[int, ...]]] = weakref.WeakKeyDictionary()


def is_dataset(x: Any) -> bool:
    """Returns whether `x` is a dataset of batches rather than an array, or a list or dict of arrays."""
    if hasattr(x, "shape") or isinstance(x, (list, tuple, Mapping, str, bytes, range, set, frozenset)):
        return False
    if hasattr(x, "__next__"):
        return isinstance(x, types.GeneratorType)  # Keras takes no other iterator
    return isinstance(x, keras.utils.PyDataset) or hasattr(x, "__iter__")


def known_length(dataset: Any) -> float | None:
    """How many batches a dataset says that it has: infinity if it is endless, None if it does not say."""
    if isinstance(dataset, keras.utils.PyDataset):
        return math.inf if dataset.num_batches is None else dataset.num_batches
    if not hasattr(dataset, "cardinality"):
        return None
    batches = int(dataset.cardinality())  # of tf.data: -1 if endless, -2 if unknown
    return {-1: math.inf, -2: None}.get(batches, batches)


def check_ends(name: str, dataset: Any) -> None:
    """Raises `ValueError` if a dataset is known to be endless."""
    if known_length(dataset) == math.inf:
        raise ValueError(f"`{name}` must be a dataset that ends. Received: an endless one.")


def input_arrays(name: str, x: Any) -> Any:
    """Returns `x`, an array or a list or dict of arrays or tensors, as NumPy arrays that every backend accepts.

    Big-endian arrays are returned in native byte order, unsigned integers of more than 8 bits (which PyTorch cannot
    compute with) as signed ones, and strings as objects of type str. Sparse matrices are returned unchanged.

    Args:
        name: the argument's name, for messages.
        x: the inputs, at least one example; all arrays have the same length.

    Raises:
        ValueError: If `x` is not of this form.
    """
    leaves = tree.flatten(x)
    if not leaves or not all(map(_is_array, leaves)):
        raise ValueError(f"`{name}` must be an array, or a list or dict of arrays. Received: {name}={shown(x)}.")
    lengths = sorted({int(leaf.shape[0]) for leaf in leaves})
    if len(lengths) > 1:
        raise ValueError(f"The arrays of `{name}` must be of the same length. Received: lengths {shown(lengths)}.")
    if lengths == [0]:
        raise ValueError(f"`{name}` must hold examples. Received: arrays of length 0.")
    arrays = tree.map_structure(lambda leaf: _as_array(name, leaf), x)
    for array in tree.flatten(arrays):
        texts = array.dtype.kind == "O" and isinstance(array.flat[0], str)
        if array.dtype.kind in "cMmO" and not texts:
            raise ValueError(f"`{name}` must hold real numbers or strings. Received: dtype {array.dtype}.")
    return arrays


def check_fits(name: str, arrays: Any, model: keras.Model) -> None:
    """Raises `ValueError` if a dict lacks an input of the model, or an array does not fit its input.

    Nothing is checked for models that do not show their inputs.
    """
    inputs, leaves = getattr(model, "inputs", None) or [], tree.flatten(arrays)
    if inputs and isinstance(arrays, Mapping):
        structure = None if isinstance(model, keras.Sequential) else model.input
        names = list(structure) if isinstance(structure, Mapping) else [tensor.name for tensor in inputs]
        if not set(names) <= set(arrays):
            raise ValueError(
                f"`{name}` must hold the inputs of {shown(model.name)} by their names, {shown(names)}. "
                f"Received: {shown(list(arrays))}."
            )
        # Others may be there as well.
        leaves = tree.flatten(
            {key: arrays[key] for key in names} if isinstance(structure, Mapping) else list(map(arrays.get, names))
        )
    if len(leaves) == len(inputs):
        for leaf, tensor in zip(leaves, inputs, strict=True):
            _check_one(name, leaf, tensor, model)


def _check_one(name: str, leaf: Any, tensor: keras.KerasTensor, model: keras.Model) -> None:
    """Raises `ValueError` if an array does not fit an input of the model."""
    if getattr(leaf, "dtype", None) == "O" and tensor.dtype != "string":
        raise ValueError(f"`{name}` must hold numbers for {shown(model.name)}. Received: strings.")
    wanted, given = tuple(tensor.shape), tuple(leaf.shape)
    if any(_fits(shape, wanted) for shape in _as_keras_reads(given)):
        return
    # Keras holds a Sequential to no size of its input, which may be that of the batch that happened to build it.
    if model.input_spec is not None or len(given) != len(wanted) or not _can_be_traced(model, given):
        raise ValueError(
            f"`{name}` must be of a shape that the model takes, {wanted}. Received: shape {shown(given)} for "
            f"{shown(model.name)}."
        )


def signed(name: str, array: np.ndarray) -> np.ndarray:
    """Unsigned integers of more than 8 bits, with which PyTorch cannot compute, as signed ones; all else as it is.

    Raises:
        ValueError: If one is 2^63 or more.
    """
    if array.dtype.kind != "u" or array.dtype.itemsize == 1:
        return array
    if array.size and int(array.max()) > np.iinfo("int64").max:
        raise ValueError(f"`{name}` must hold integers below 2^63. Received: {array.max()}.")
    return array.astype("int32" if array.dtype.itemsize == 2 else "int64")


def number_of_examples(arrays: Any) -> int:
    """Returns the number of examples in what `input_arrays` returned."""
    return tree.flatten(arrays)[0].shape[0]


def one_pass(dataset: Any) -> Iterator[Any]:
    """Yields the batches of a dataset once."""
    if not isinstance(dataset, keras.utils.PyDataset):
        yield from dataset
        return
    dataset.on_epoch_begin()
    for index in range(dataset.num_batches):
        yield dataset[index]
    dataset.on_epoch_end()


def _as_keras_reads(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Returns `shape`, and the shapes that Keras may turn it into by adding or removing a trailing 1."""
    return [shape, (*shape, 1), *([shape[:-1]] if shape[-1] == 1 else [])]


def _can_be_traced(model: keras.Model, shape: tuple[int, ...]) -> bool:
    """Returns whether all layers of a model with one input take one of that shape, whatever the size of the batch."""
    known = _TRACED.setdefault(model, set())
    if shape[1:] not in known:
        with ONE_AT_A_TIME, contextlib.suppress(Exception):
            output_spec(lambda x: model(x, training=False), keras.KerasTensor(shape, model.inputs[0].dtype))
            known.add(shape[1:])
    return shape[1:] in known


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    """Returns whether all sizes but the first agree."""
    return compatible_shapes(shape[1:], wanted[1:]) and len(shape) == len(wanted)


def _is_array(leaf: Any) -> bool:
    return bool(getattr(leaf, "shape", ())) and not isinstance(leaf, keras.KerasTensor)


def _as_array(name: str, leaf: Any) -> Any:
    try:
        array = as_array(leaf)
    except ValueError as error:
        raise ValueError(f"`{name}` must hold arrays. Received: {shown(leaf)} ({error}).") from error
    if array.shape != tuple(leaf.shape):  # a sparse matrix, which NumPy treats as a single object
        return leaf
    if array.dtype.kind == "S" or (array.dtype.kind == "O" and array.size and isinstance(array.flat[0], bytes)):
        array = np.char.decode(array.astype("S"), "utf-8")
    if array.dtype.kind == "U":
        return array.astype(object)  # `predict` takes no other strings
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype("float64")
    return signed(name, array)


def check_no_preprocessor(model: Any, name: str = "model") -> None:
    """Raises `ValueError` if a model preprocesses its inputs in `predict`, as KerasHub's tasks do.

    Its network expects other inputs than its users give, and would silently compute with those.

    Raises:
        ValueError: If the model has a `preprocessor`.
    """
    if getattr(model, "preprocessor", None) is not None:
        raise ValueError(
            f"`{name}` must not preprocess its inputs. Received: {model.name!r}, which has a `preprocessor`. Give what "
            f"the network itself takes: x = model.preprocessor(x), then model.preprocessor = None."
        )


def check_dataset(x: Any, names: tuple[str, str] = ("x", "y")) -> None:
    """Checks that `x` is a dataset that ends, can be read repeatedly, and is not known to be empty.

    Args:
        x: what was given.
        names: what the caller calls it, and the labels that would otherwise have to come with it.

    Raises:
        ValueError: If `x` is something else.
    """
    if x is None or isinstance(x, (list, tuple, dict, str, bytes, range)) or hasattr(x, "shape"):
        raise ValueError(
            f"`{names[1]}` must be given if `{names[0]}` is not a dataset. "
            f"Received: {names[0]} of type {type(x).__name__}."
        )
    is_known = isinstance(x, keras.utils.PyDataset) or hasattr(x, "cardinality")
    if not is_known and (hasattr(x, "__next__") or not hasattr(x, "__iter__")):
        raise ValueError(
            f"`{names[0]}` must be an array or a dataset that can be read repeatedly. "
            f"Received: {type(x).__name__} (a generator can be read only once)."
        )
    check_ends(names[0], x)
    if known_length(x) == 0:
        raise ValueError(f"`{names[0]}` must hold examples. Received a dataset without batches.")
