"""The layout of a file of logits: a `.npy` array, and behind it, where readers of `.npy` do not look, a trailer.

The trailer is JSON: one checksum for each 1,024 rows, and what the logits belong to. This last entry marks the file as
one of this package, which can be told even if the rest is damaged. Files of earlier versions hold the mark alone.
"""

import dataclasses
import hashlib
import json
import math
import os
import re
import stat
from typing import BinaryIO

import numpy as np

from keras_ls.distillation._inputs import update_digest

_BLOCK_ROWS = 1024
_MARK = "keras_ls.teacher_logits"
_MARK_AT_END = re.compile(rb'"keras_ls\.teacher_logits": "([0-9a-f]{32})"\}\s*\Z')


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where an array of rows lies in its file: the array's shape and dtype, and the position of its first byte."""

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int

    def position(self, row: int) -> int:
        """Position of the first byte of a row."""
        return self.offset + row * self.dtype.itemsize * math.prod(self.shape[1:])

    def rows(self, file: BinaryIO, start: int, stop: int) -> np.memmap:
        """A read-only memory map of the rows from `start` to `stop`; ValueError if the file ends before them."""
        return np.memmap(file, self.dtype, "r", self.position(start), (stop - start, *self.shape[1:]))

    def checksum(self, file: BinaryIO, start: int, stop: int) -> str:
        """The checksum of those rows in their place."""
        place = json.dumps([self.dtype.str, self.shape[1:], start, stop])
        digest = hashlib.blake2b(place.encode(), digest_size=8)
        update_digest(digest, self.rows(file, start, stop))
        return digest.hexdigest()

    def block_checksums(self, file: BinaryIO) -> list[str]:
        """The checksums of all blocks of 1,024 rows."""
        length = self.shape[0]
        return [self.checksum(file, start, min(length, start + _BLOCK_ROWS)) for start in range(0, length, _BLOCK_ROWS)]


@dataclasses.dataclass(frozen=True)
class StoredLogits:
    """What a file holds of the logits that are looked for.

    Attributes:
        array: its memory-mapped rows, or None if no row can be trusted.
        damaged: indices of the blocks of rows whose checksum is wrong.
        damage: where the file is damaged, and what is lost; empty if it is sound, or is not there.
    """

    array: np.ndarray | None = None
    damaged: frozenset[int] = frozenset()
    damage: str = ""

    def rows(self, start: int, stop: int) -> np.ndarray | None:
        """The rows from `start` to `stop`, or None if one of them is not there or may be damaged."""
        if self.array is None or not self.damaged.isdisjoint(range(start // _BLOCK_ROWS, -(-stop // _BLOCK_ROWS))):
            return None
        return self.array[start:stop]


def read_complete(path: str, identity: str, num_rows: int) -> StoredLogits:
    """Reads the file at `path`, if it holds logits of that identity, and verifies every block."""
    if marked_identity(path) != identity:
        return StoredLogits()
    with open(path, "rb") as file:
        layout = read_layout(file, num_rows)
        damaged = None if layout is None else _damaged_blocks(file, layout)
        if layout is None or damaged is None:
            return StoredLogits(damage="in its header or trailer; all rows")
        return StoredLogits(layout.rows(file, 0, num_rows), damaged, "in some rows; these" if damaged else "")


def marked_identity(path: str) -> str | None:
    """The identity in a file that carries the mark, None for any other, and empty if nothing is there."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a FIFO would wait for its writer
            return None
    except FileNotFoundError:
        return ""
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 256))
        found = _MARK_AT_END.search(file.read())
    return found.group(1).decode() if found else None


def read_layout(file: BinaryIO, num_rows: int) -> Layout | None:
    """The layout that a file's header gives, or None if it is damaged, of another number of rows, or not there."""
    file.seek(0)
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            return None
        shape, in_columns, dtype = np.lib.format.read_array_header_1_0(file)
    except Exception:  # NumPy evaluates the header as Python, and damage shows as any error of the parser's
        return None
    # Files of earlier versions have no other record of their dtype: in another order of bytes it is damaged.
    if in_columns or dtype.kind != "f" or not dtype.isnative or shape[:1] != (num_rows,) or min(shape) < 1:
        return None
    return Layout(shape, dtype, file.tell())


def write_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype) -> Layout:
    """Writes the header of an array whose rows follow, and returns its layout."""
    file.seek(0)
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return Layout(shape, dtype, file.tell())


def write_trailer(file: BinaryIO, layout: Layout, identity: str) -> None:
    """Writes what follows the rows, and ends the file there."""
    # The mark comes last, where it is found without the header.
    text = json.dumps({"checksums": layout.block_checksums(file), _MARK: identity})
    file.seek(layout.position(layout.shape[0]))
    file.truncate()
    file.write(text.encode())
    file.flush()
    os.fsync(file.fileno())


def _damaged_blocks(file: BinaryIO, layout: Layout) -> frozenset[int] | None:
    """Indices of the blocks whose checksum is wrong, or None if the trailer is damaged."""
    end = layout.position(layout.shape[0])
    if file.seek(0, os.SEEK_END) - end > 1024 + layout.shape[0]:  # a damaged shape takes rows for the trailer
        return None
    try:
        file.seek(end)
        trailer = json.loads(file.read())
        if list(trailer) == [_MARK]:  # written by an earlier version
            return frozenset()
        pairs = zip(layout.block_checksums(file), trailer["checksums"], strict=True)
        return frozenset(index for index, (found, stored) in enumerate(pairs) if found != stored)
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
