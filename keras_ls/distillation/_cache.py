"""A teacher's logits in a `.npy` file that knows what they are the logits of.

After the array, where readers of `.npy` do not look, the file holds its identity. It is written row by row under a
name that holds the identity too, and gets its own name when it is complete: what lies under that is never half a file,
and an interrupted one goes on after the rows that it has.
"""

import glob
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

import keras
import numpy as np
from keras import ops

from keras_ls.distillation._inputs import update_digest

_MARK = "keras_ls.teacher_logits"


def teacher_digest(teacher: keras.Model) -> str:
    """What tells one teacher from another: its weights and its layers, whatever these are called."""
    digest = hashlib.blake2b(_architecture(teacher).encode())
    for variable in teacher.weights:
        array = ops.convert_to_numpy(variable)
        digest.update(f"{variable.dtype} {array.shape}".encode())
        update_digest(digest, array)
    return digest.hexdigest()


def identity_of(*parts: str) -> str:
    """One short digest of several texts."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def read(path: str, identity: str) -> np.ndarray | None:
    """The memory-mapped array of a complete file of that identity, or None."""
    try:
        array = np.load(path, mmap_mode="r")
        with open(path, "rb") as file:
            file.seek(array.offset + array.nbytes)
            found = json.loads(file.read(4096))
    except (OSError, ValueError, EOFError, AttributeError):  # not there, no `.npy`, cut off, or somebody else's
        return None
    return array if found == {_MARK: identity} else None


def write(path: str, identity: str, total: int, batches: Iterable[tuple[int, Any]], compute: Callable[[Any], Any]):
    """Writes the rows that `compute` makes of `batches`, `total` of them, going on where an interrupted run ended."""
    part = f"{path}.{identity}.part"
    for stale in glob.glob(f"{glob.escape(path)}.*.part"):
        if stale != part:
            os.remove(stale)
    with open(part, "a+b"):
        pass  # now it exists, and can be opened for reading and writing anywhere in it
    with open(part, "r+b") as file:
        rows = _Rows(file, total)
        start = 0
        for size, batch in batches:
            if start + size > rows.done:
                rows.add(start, compute(batch))
            start += size
        file.truncate(file.seek(rows.end))
        file.write(json.dumps({_MARK: identity}).encode())
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


class _Rows:
    """The array part of an open file: how many rows it has, and where the next ones go."""

    def __init__(self, file: BinaryIO, total: int):
        self.file, self.total, self.done = file, total, 0
        self.offset = self.row_bytes = 0
        self.shape: tuple[int, ...] | None = None
        try:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        except ValueError:  # nothing yet, or a header that was cut off
            return
        self._lay_out(shape[1:], dtype)
        self.done = min(total, (file.seek(0, os.SEEK_END) - self.offset) // self.row_bytes)

    @property
    def end(self) -> int:
        """Position after the last row."""
        return self.offset + self.total * self.row_bytes

    def add(self, start: int, rows: np.ndarray) -> None:
        """Writes those of `rows`, the first of which is row `start`, that the file does not have."""
        if self.shape is None:
            header = {"descr": rows.dtype.str, "fortran_order": False, "shape": (self.total, *rows.shape[1:])}
            self.file.seek(0)
            np.lib.format.write_array_header_1_0(self.file, header)
            self._lay_out(rows.shape[1:], rows.dtype)
        if rows.shape[1:] != self.shape:
            raise ValueError(f"The teacher's logits change their shape: {rows.shape[1:]} after {self.shape}.")
        self.file.seek(self.offset + self.done * self.row_bytes)
        self.file.write(np.ascontiguousarray(rows[self.done - start :]).tobytes())
        self.file.flush()
        self.done = start + len(rows)

    def _lay_out(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.offset, self.shape = self.file.tell(), shape
        self.row_bytes = dtype.itemsize * math.prod(shape)


def _architecture(model: keras.Model) -> str:
    layers = list(model._flatten_layers())
    try:
        config = keras.saving.serialize_keras_object(model)
        text = json.dumps(
            [config["class_name"], config["config"]], sort_keys=True, default=lambda value: str(type(value))
        )
    except (NotImplementedError, TypeError, ValueError):  # a subclass that says nothing about itself
        text = json.dumps([[type(layer).__qualname__, layer.dtype_policy.name] for layer in layers])
    # Keras numbers the layers that a process makes: names say nothing.
    for index, layer in enumerate(layers):
        text = text.replace(json.dumps(layer.name), f'"#{index}"')
    return text
