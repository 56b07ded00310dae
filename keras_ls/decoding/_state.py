"""Nests of tensors that a step function hands from step to step: repeated, packed, reordered, checked."""

from typing import Any

import keras
from keras import ops, tree

from keras_ls._checks import compatible_shapes, shown
from keras_ls._labels import numbers_to_tensor


def repeat_state(initial_state: Any, batch_size: Any, count: int) -> tuple[list[tuple], tuple]:
    """Paths and tensors of a state of leading dimension B, each tensor repeated to leading dimension B·count.

    Raises:
        ValueError: If a leaf does not hold numbers, or has no leading dimension B.
    """
    named = _named_tensors("initial_state", initial_state)
    for path, tensor in named.items():
        if len(tensor.shape) == 0 or (isinstance(batch_size, int) and tensor.shape[0] not in (None, batch_size)):
            raise ValueError(
                f"`initial_state` must hold tensors with leading dimension `batch_size` ({shown(batch_size)}). "
                f"Received: shape {tuple(tensor.shape)}{_place(path)}."
            )
    return list(named), tuple(ops.repeat(ops.stop_gradient(tensor), count, axis=0) for tensor in named.values())


def pack_state(template: Any, tensors: tuple) -> Any:
    """`tensors`, in the order of `repeat_state`, in the structure of `template`."""
    left = iter(tensors)
    leaves = [None if leaf is None else next(left) for leaf in tree.flatten(template)]
    return tree.pack_sequence_as(template, leaves)


def reorder_state(state: Any, paths: list[tuple], before: tuple, rows: Any) -> tuple:
    """Takes the given rows of each tensor of a new state, which must match the tensors `before` at `paths`.

    `rows` is None where each row stays what it is.

    Raises:
        ValueError: If structure, shapes or kinds of numbers changed.
    """
    named = _named_tensors("step_fn", state)
    if set(named) != set(paths):
        raise ValueError(
            "`step_fn` must return a state of the structure of `initial_state`. "
            f"Received: tensors at {_places(named)}, initially at {_places(paths)}."
        )
    tensors = tuple(
        _unchanged_kind(path, old, ops.stop_gradient(named[path])) for path, old in zip(paths, before, strict=True)
    )
    return tensors if rows is None else tuple(ops.take(tensor, rows, axis=0) for tensor in tensors)


def _unchanged_kind(path: tuple, old: Any, new: Any) -> Any:
    """Casts `new` to the dtype of `old`, from which it may differ in width only."""
    dtypes = [keras.backend.standardize_dtype(tensor.dtype) for tensor in (old, new)]
    if not compatible_shapes(old.shape, new.shape) or _kind(dtypes[0]) != _kind(dtypes[1]):
        raise ValueError(
            "`step_fn` must return a state of unchanged shapes and kinds of numbers. "
            f"Received: {dtypes[1]} {tuple(new.shape)} after {dtypes[0]} {tuple(old.shape)}{_place(path)}."
        )
    new = ops.cast(new, dtypes[0])
    # TensorFlow's loop wants sizes that it once knew, whatever the step says of them.
    sizes = [-1 if size is None else size for size in old.shape]
    return new if None not in new.shape or sizes.count(-1) > 1 else ops.reshape(new, sizes)


def _kind(dtype: str) -> str:
    """float, int or bool."""
    return dtype.rstrip("0123456789").removeprefix("b").removeprefix("u") if dtype != "bool" else dtype


def _named_tensors(name: str, state: Any) -> dict[tuple, Any]:
    """The tensors of a nest by their paths, without leaves that are None."""
    return {path: _leaf(name, path, leaf) for path, leaf in tree.flatten_with_path(state) if leaf is not None}


def _leaf(name: str, path: tuple, leaf: Any) -> Any:
    try:
        return numbers_to_tensor(leaf, name)
    except ValueError:
        subject = "hold" if name == "initial_state" else "return a state of"
        raise ValueError(
            f"`{name}` must {subject} tensors of numbers. Received: {shown(leaf)}{_place(path)}."
        ) from None


def _place(path: tuple) -> str:
    return f" at {'/'.join(map(str, path))}" if path else ""


def _places(paths: Any) -> str:
    return shown(sorted("/".join(map(str, path)) for path in paths))
