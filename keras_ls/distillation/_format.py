"""The layout of a file of logits: a `.npy` array, followed by a trailer that readers of `.npy` ignore.

The trailer is JSON: one checksum for each 1,024 rows, and the identity of teacher and inputs. This last entry marks the
file as written by this package, even if the rest is damaged. Trailers of earlier versions hold only the mark.
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
        """Returns the position of the first byte of a row."""
        return self.offset + row * self.dtype.itemsize * math.prod(self.shape[1:])

    def rows(self, file: BinaryIO, start: int, stop: int) -> np.memmap:
        """Returns a read-only memory map of the rows from `start` to `stop`.

        Raises:
            ValueError: If the file ends before them.
        """
        return np.memmap(file, self.dtype, "r", self.position(start), (stop - start, *self.shape[1:]))

    def checksum(self, file: BinaryIO, start: int, stop: int) -> str:
        """Returns the checksum of these rows at this position."""
        place = json.dumps([self.dtype.str, self.shape[1:], start, stop])
        digest = hashlib.blake2b(place.encode(), digest_size=8)
        update_digest(digest, self.rows(file, start, stop))
        return digest.hexdigest()

    def block_checksums(self, file: BinaryIO) -> list[str]:
        """Returns the checksums of all blocks of 1,024 rows."""
        length = self.shape[0]
        return [self.checksum(file, start, min(length, start + _BLOCK_ROWS)) for start in range(0, length, _BLOCK_ROWS)]


@dataclasses.dataclass(frozen=True)
class StoredLogits:
    """The part of the requested logits that a file holds.

    Attributes:
        array: its memory-mapped rows, or None if no row can be trusted.
        damaged: indices of the blocks of rows whose checksum is wrong.
        damage: where the file is damaged, and what is lost; empty if it is intact or missing.
    """

    array: np.ndarray | None = None
    damaged: frozenset[int] = frozenset()
    damage: str = ""

    def rows(self, start: int, stop: int) -> np.ndarray | None:
        """Returns the rows from `start` to `stop`, or None if one of them is missing or may be damaged."""
        if self.array is None or not self.damaged.isdisjoint(range(start // _BLOCK_ROWS, -(-stop // _BLOCK_ROWS))):
            return None
        return self.array[start:stop]


def read_complete(path: str, identity: str, num_rows: int) -> StoredLogits:
    """Reads the file at `path` if it holds logits of that identity, and verifies every block."""
    if marked_identity(path) != identity:
        return StoredLogits()
    with open(path, "rb") as file:
        if _mark_of(file) != identity:  # replaced a moment ago
            return StoredLogits()
        layout = read_layout(file, num_rows)
        damaged = None if layout is None else _damaged_blocks(file, layout)
        if layout is None or damaged is None:
            return StoredLogits(damage="in its header or trailer; all rows")
        return StoredLogits(layout.rows(file, 0, num_rows), damaged, "in some rows; these" if damaged else "")


def marked_identity(path: str) -> str | None:
    """Returns the identity in a file with the mark, None for any other file, and "" if there is no file."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a FIFO would wait for its writer
            return None
    except FileNotFoundError:
        return ""
    with open(path, "rb") as file:
        return _mark_of(file)


def _mark_of(file: BinaryIO) -> str | None:
    file.seek(max(0, file.seek(0, os.SEEK_END) - 256))
    found = _MARK_AT_END.search(file.read())
    return found.group(1).decode() if found else None


def read_layout(file: BinaryIO, num_rows: int) -> Layout | None:
    """Returns the layout in a file's header, or None if it is damaged, missing, or of another number of rows."""
    file.seek(0)
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            return None
        shape, in_columns, dtype = np.lib.format.read_array_header_1_0(file)
    except Exception:  # NumPy parses the header as Python, and damage can raise any error of its parser
        return None
    # Files of earlier versions hold no other record of their dtype: a foreign byte order means damage.
    if in_columns or dtype.kind != "f" or not dtype.isnative or shape[:1] != (num_rows,) or min(shape) < 1:
        return None
    return Layout(shape, dtype, file.tell())


def write_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype) -> Layout:
    """Writes the header of an array, before its rows, and returns the layout."""
    file.seek(0)
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return Layout(shape, dtype, file.tell())


def write_trailer(file: BinaryIO, layout: Layout, identity: str) -> None:
    """Writes the trailer behind the rows, and ends the file there."""
    # The mark comes last, so that it is found without the header.
    text = json.dumps({"checksums": layout.block_checksums(file), _MARK: identity})
    file.seek(layout.position(layout.shape[0]))
    file.truncate()
    file.write(text.encode())
    file.flush()
    os.fsync(file.fileno())


def _damaged_blocks(file: BinaryIO, layout: Layout) -> frozenset[int] | None:
    """Returns the indices of blocks whose checksum is wrong, or None if the trailer is damaged."""
    end = layout.position(layout.shape[0])
    if (
        file.seek(0, os.SEEK_END) - end > 1024 + layout.shape[0]
    ):  # with a damaged shape, rows would be read as the trailer
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
