"""Inputs without labels, read batch by batch in their order, and a fingerprint of them."""

import hashlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ls._predictions import check_dataset, one_pass


class Inputs:
    """Arrays, or a dataset that gives the same batches each time that it is read.

    Args:
        x: an array, or a list or dict of arrays (anything with a shape that can be sliced); or a dataset of inputs or
            of (inputs, labels).
        batch_size: rows a batch of arrays.

    Raises:
        ValueError: where `x` is neither, is empty, or holds arrays of different length.
    """

    def __init__(self, x: Any, batch_size: int):
        self.x, self.batch_size = x, batch_size
        leaves = tree.flatten(x)
        self.is_dataset = not (leaves and all(getattr(leaf, "shape", ()) for leaf in leaves))
        if self.is_dataset:
            if x is None or isinstance(x, (list, tuple, dict, str)):
                raise ValueError(f"`x` must be arrays or a dataset of batches. Received: {type(x).__name__}.")
            check_dataset(x)
            return
        lengths = {leaf.shape[0] for leaf in leaves}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(
                f"The arrays of `x` must hold examples, as many each. Received lengths: {sorted(lengths)}."
            )

    def batches(self) -> Iterator[tuple[int, Any]]:
        """Pairs of the number of rows and a nest of NumPy arrays, in order."""
        if self.is_dataset:
            nests = (keras.utils.unpack_x_y_sample_weight(batch)[0] for batch in one_pass(self.x))
        else:
            length = len(tree.flatten(self.x)[0])
            slices = (slice(at, at + self.batch_size) for at in range(0, length, self.batch_size))
            nests = (tree.map_structure(lambda leaf, rows=rows: leaf[rows], self.x) for rows in slices)
        for nest in nests:
            arrays = tree.map_structure(_array, nest)
            yield len(tree.flatten(arrays)[0]), arrays

    def fingerprint(self) -> "Fingerprint":
        """The fingerprint of all batches, which takes one pass."""
        result = Fingerprint()
        for rows, batch in self.batches():
            result.update(rows, batch)
        return result


class Fingerprint:
    """Number and digest of the rows seen so far, whatever batches they came in."""

    def __init__(self):
        self.rows = 0
        self._leaves: list[Any] = []

    def update(self, rows: int, batch: Any) -> None:
        """Adds a batch, a nest of arrays."""
        arrays = tree.flatten(batch)
        if not self.rows:
            self._leaves = [hashlib.blake2b(f"{array.dtype} {array.shape[1:]}".encode()) for array in arrays]
        for digest, array in zip(self._leaves, arrays, strict=True):
            update_digest(digest, array)
        self.rows += rows

    def digest(self) -> str:
        """The digest as text."""
        return " ".join([str(self.rows), *(leaf.hexdigest() for leaf in self._leaves)])


def update_digest(digest: Any, array: np.ndarray) -> None:
    """Adds an array's values to a digest."""
    if array.dtype.hasobject:  # strings: memory holds their addresses
        digest.update(repr(array.tolist()).encode())
    else:
        digest.update(np.ascontiguousarray(array).reshape(-1).view("uint8"))


def _array(leaf: Any) -> np.ndarray:
    return ops.convert_to_numpy(leaf) if ops.is_tensor(leaf) else np.asarray(leaf)
