"""The layout of a file of logits: a `.npy` array, and behind it, where readers of `.npy` do not look, a trailer.

The trailer is JSON: what the logits belong to, the array's shape and dtype once more, and one checksum for each
1,024 rows. Its last entry marks the file as one of this package, which can be told even if the rest is damaged. Files
of earlier versions hold the mark alone.
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

BLOCK_ROWS = 1024
_MARK = "keras_ls.teacher_logits"
_MARK_AT_END = re.compile(rb'"keras_ls\.teacher_logits": "([0-9a-f]{32})"\}\s*\Z')
_PIECE_BYTES = 2**17


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where an array lies in its file.

    Attributes:
        shape: the array's, rows first.
        dtype: the array's.
        offset: position of its first byte.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int

    @property
    def end(self) -> int:
        """Position after the last row."""
        return self.position(self.shape[0])

    @property
    def num_blocks(self) -> int:
        """Number of blocks of rows that have a checksum each."""
        return -(-self.shape[0] // BLOCK_ROWS)

    @property
    def description(self) -> list:
        """Shape and dtype as JSON has them."""
        return [list(self.shape), self.dtype.str]

    def position(self, row: int) -> int:
        """Position of the first byte of a row."""
        return self.offset + row * self.dtype.itemsize * math.prod(self.shape[1:])

    def block(self, index: int) -> tuple[int, int]:
        """First row of a block, and the row after its last one."""
        return index * BLOCK_ROWS, min(self.shape[0], (index + 1) * BLOCK_ROWS)


@dataclasses.dataclass(frozen=True)
class StoredLogits:
    """A complete file.

    Attributes:
        array: its memory-mapped rows, or None if its header or trailer is damaged, so that no row can be trusted.
        damaged: indices of the blocks of rows whose checksum is wrong.
    """

    array: np.ndarray | None = None
    damaged: tuple[int, ...] = ()

    @property
    def sound(self) -> np.ndarray | None:
        """The array if every row can be used, else None."""
        return None if self.damaged else self.array


def read_complete(path: str, identity: str, num_rows: int) -> StoredLogits | None:
    """The file at `path`, every block verified, or None unless it holds logits of that identity."""
    if marked_identity(path) != identity:
        return None
    with open(path, "rb") as file:
        layout = read_layout(file)
        trailer = None if layout is None else _read_trailer(file, layout)
        if layout is None or trailer is None or layout.shape[0] != num_rows:
            return StoredLogits()
        checksums = trailer.get("checksums", [])
        damaged = [i for i, checksum in enumerate(checksums) if checksum_of_block(file, layout, i) != checksum]
        return StoredLogits(mapped(file, layout), tuple(damaged))


def marked_identity(path: str) -> str | None:
    """The identity in a file that carries the mark; None for any other, and where there is none."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a FIFO would wait for its writer
            return None
    except FileNotFoundError:
        return None
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 256))
        found = _MARK_AT_END.search(file.read())
    return found.group(1).decode() if found else None


def read_layout(file: BinaryIO) -> Layout | None:
    """The layout that a file's header gives, or None if it is damaged or not there."""
    file.seek(0)
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            return None
        shape, in_columns, dtype = np.lib.format.read_array_header_1_0(file)
    except Exception:  # NumPy evaluates the header as Python, and damage shows as any error of the parser's
        return None
    layout = Layout(shape, dtype, file.tell())
    if in_columns or dtype.kind != "f" or not shape or any(length < 1 for length in shape):
        return None
    return layout


def write_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype) -> Layout:
    """Writes the header of an array whose rows follow, and returns its layout."""
    file.seek(0)
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return Layout(shape, dtype, file.tell())


def write_trailer(file: BinaryIO, layout: Layout, identity: str) -> None:
    """Writes what follows the rows, and ends the file there."""
    checksums = [checksum_of_block(file, layout, index) for index in range(layout.num_blocks)]
    # The mark comes last, where it is found without the header.
    text = json.dumps({"layout": layout.description, "checksums": checksums, _MARK: identity})
    file.seek(layout.end)
    file.truncate()
    file.write(text.encode())


def mapped(file: BinaryIO, layout: Layout) -> np.memmap:
    """The rows as a read-only memory map."""
    return np.memmap(file, layout.dtype, "r", layout.offset, layout.shape)


def checksum_of_block(file: BinaryIO, layout: Layout, index: int) -> str:
    """The checksum of one block of rows."""
    return checksum_of_rows(file, layout, *layout.block(index))


def checksum_of_rows(file: BinaryIO, layout: Layout, start: int, stop: int) -> str:
    """The checksum of the rows from `start` to `stop`, read piece by piece; empty if the file ends before them."""
    digest = new_checksum(layout, start, stop)
    left = layout.position(stop) - layout.position(start)
    file.seek(layout.position(start))
    while left:
        piece = file.read(min(left, _PIECE_BYTES))
        if not piece:
            return ""
        digest.update(piece)
        left -= len(piece)
    return digest.hexdigest()


def new_checksum(layout: Layout, start: int, stop: int):
    """A digest that is given the bytes of those rows."""
    place = json.dumps([layout.description[1], layout.shape[1:], start, stop])
    return hashlib.blake2b(place.encode(), digest_size=8)


def _read_trailer(file: BinaryIO, layout: Layout) -> dict | None:
    """The trailer, or None if it is damaged."""
    length = file.seek(0, os.SEEK_END) - layout.end
    if length > 1024 + 32 * layout.num_blocks:  # a damaged shape takes rows for the trailer
        return None
    file.seek(layout.end)
    try:
        trailer = json.loads(file.read())
    except (ValueError, OverflowError):
        return None
    if not isinstance(trailer, dict):
        return None
    if set(trailer) == {_MARK}:  # written by an earlier version
        return trailer
    checksums = trailer.get("checksums")
    if trailer.get("layout") != layout.description or not isinstance(checksums, list):
        return None
    return trailer if len(checksums) == layout.num_blocks else None
