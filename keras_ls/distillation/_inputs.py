"""Inputs without labels, read batch by batch in order, and a fingerprint of them."""

import hashlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_ls._arrays import as_array, taken
from keras_ls._checks import shown
from keras_ls._models.inputs import check_dataset, number_of_examples, one_pass, signed


class Inputs:
    """Arrays, or a dataset that gives the same batches each time it is read.

    Args:
        x: an array, or a list or dict of arrays (anything with a shape that can be sliced); or a dataset of inputs or
            of (inputs, labels).
        batch_size: number of rows per batch of arrays.
        text: whether the inputs may be strings.

    Raises:
        ValueError: If `x` is neither, is empty, or holds arrays of different lengths.
    """

    def __init__(self, x: Any, batch_size: int, text: bool = False):
        self.x, self.batch_size, self.text = x, batch_size, text
        leaves = tree.flatten(x)
        self.is_dataset = not (leaves and all(getattr(leaf, "shape", ()) for leaf in leaves))
        if self.is_dataset:
            if x is None or isinstance(x, (list, tuple, dict, str, bytes, range)) or hasattr(x, "shape"):
                raise ValueError(
                    f"`x` must be arrays or a dataset of batches. Received: x={shown(x)} ({type(x).__name__})."
                )
            check_dataset(x)
            return
        lengths = {leaf.shape[0] for leaf in leaves}
        if len(lengths) != 1 or not all(isinstance(length, (int, np.integer)) and length for length in lengths):
            raise ValueError(
                "The arrays of `x` must hold the same number of examples, at least 1. "
                f"Received lengths: {sorted(lengths, key=str)}."
            )

    def batches(self) -> Iterator[tuple[int, Any]]:
        """Yields pairs of the number of rows and a nest of NumPy arrays, in order."""
        if self.is_dataset:
            nests = (keras.utils.unpack_x_y_sample_weight(batch)[0] for batch in one_pass(self.x))
        else:
            length = number_of_examples(self.x)
            nests = (taken(self.x, slice(at, at + self.batch_size)) for at in range(0, length, self.batch_size))
        for nest in nests:
            arrays = tree.map_structure(self._array, nest)
            yield num_rows(arrays), arrays

    def fingerprint(self) -> "Fingerprint":
        """Returns the fingerprint of all batches, which takes one pass."""
        result = Fingerprint()
        for rows, batch in self.batches():
            result.update(rows, batch)
        if not result.rows:
            raise ValueError("`x` must hold examples. Received a dataset without batches.")
        return result

    def batches_of(self, expected: "Fingerprint") -> Iterator[tuple[int, Any]]:
        """Yields the batches again, after comparing each with that of the earlier pass.

        Raises:
            ValueError: If a batch of the dataset differs.
        """
        if not self.is_dataset:
            yield from self.batches()
            return
        seen = Fingerprint()
        for rows, batch in self.batches():
            seen.update(rows, batch)
            if seen.prefixes[-1:] != expected.prefixes[len(seen.prefixes) - 1 : len(seen.prefixes)]:
                raise ValueError(_CHANGES)
            yield rows, batch
        if len(seen.prefixes) != len(expected.prefixes):
            raise ValueError(_CHANGES)

    def _array(self, leaf: Any) -> np.ndarray:
        try:
            array = as_array(leaf)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`x` must hold arrays. Received: {shown(leaf)} ({error}).") from error
        if not (self.text and _is_text(array)):
            try:
                keras.backend.standardize_dtype(array.dtype)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"`x` must hold numbers{' or strings' if self.text else ''}. Received: an array of {array.dtype}."
                ) from error
        return array


_CHANGES = (
    "`x` must give the same batches in the same order each time it is read. Received a dataset that changes "
    "(does it shuffle or augment?), so that logits could not be matched with it."
)


class Fingerprint:
    """Number and digest of the rows seen so far, independent of the sizes of their batches.

    Attributes:
        rows: the number of rows.
        prefixes: one short digest per batch, of all rows up to the end of the batch.
        structure: the keys that lead to each array; none for an array alone.
    """

    def __init__(self):
        self.rows = 0
        self.prefixes: list[bytes] = []
        self.structure: list[str] = []
        self._leaves: list[Any] = []
        self._holds_text: list[bool] = []

    def update(self, rows: int, batch: Any) -> None:
        """Adds a batch, a nest of arrays."""
        arrays = tree.flatten(batch)
        if not self.prefixes:
            self._leaves = [hashlib.blake2b(f"{array.dtype} {array.shape[1:]}".encode()) for array in arrays]
            self._holds_text = [array.dtype.hasobject for array in arrays]
            self.structure = [repr(path) for path, _ in tree.flatten_with_path(batch) if path]
        if len(arrays) != len(self._leaves):
            raise ValueError(
                f"The batches of `x` must hold the same arrays. Received: {len(arrays)} after {len(self._leaves)}."
            )
        prefix = hashlib.blake2b(digest_size=16)
        for digest, array in zip(self._leaves, arrays, strict=True):
            if array.dtype.hasobject:  # of all batches together the list that `update_digest` would see
                digest.update(f"{', ' if self.prefixes else '['}{repr(array.tolist())[1:-1]}".encode())
            else:
                update_digest(digest, array)
            prefix.update(f"{array.dtype} {array.shape} {digest.hexdigest()}".encode())
        self.rows += rows
        self.prefixes.append(prefix.digest())

    def digest(self) -> str:
        """Returns the digest as text."""
        leaves = [leaf.copy() for leaf in self._leaves]
        for leaf, holds_text in zip(leaves, self._holds_text, strict=True):
            if holds_text:
                leaf.update(b"]")
        return " ".join([str(self.rows), *(leaf.hexdigest() for leaf in leaves)])


def num_rows(batch: Any) -> int:
    """Returns the number of rows of a nest of arrays.

    Raises:
        ValueError: If it holds no arrays, or arrays without rows or of different lengths.
    """
    shapes = [array.shape for array in tree.flatten(batch)]
    if not shapes or not all(shapes) or len({shape[0] for shape in shapes}) != 1:
        raise ValueError(
            f"Each batch of `x` must hold arrays, with one row per example. Received: arrays of shape {shown(shapes)}."
        )
    return shapes[0][0]


def backend_arrays(batch: Any) -> Any:
    """Returns arrays in dtypes that the backend supports: PyTorch has no arithmetic for wide unsigned integers."""
    if keras.backend.backend() != "torch":
        return batch
    return tree.map_structure(lambda array: signed("x", array), batch)


def update_digest(digest: Any, array: np.ndarray) -> None:
    """Adds an array's values to a digest."""
    if array.dtype.hasobject:  # strings, of which memory holds only the addresses
        digest.update(repr(array.tolist()).encode())
    else:
        digest.update(np.ascontiguousarray(array).reshape(-1).view("uint8"))


def _is_text(array: np.ndarray) -> bool:
    if array.dtype.kind == "O":
        return all(isinstance(value, (str, bytes)) for value in array.flat)
    return array.dtype.kind in "SU"
