"""Rows of logits on their way into a file, in one that an interrupted computation leaves to the next.

Beside ``zt.npy`` lie ``zt.npy.<identity>.part``, the array as far as it is known, and ``zt.npy.<identity>.log``, a line
of JSON for each run of rows in it with their checksum. The log is locked by the process that adds to them, so that a
second one waits and then finds the rows; computations of other logits for the same path use other names.
"""

import contextlib
import glob
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from io import FileIO
from typing import Any

import numpy as np

from keras_ls.distillation._format import (
    BLOCK_ROWS,
    Layout,
    StoredLogits,
    checksum_of_rows,
    mapped,
    new_checksum,
    read_layout,
    write_header,
    write_trailer,
)
from keras_ls.distillation._lock import LocksUnsupportedError, open_locked, remove_locked, try_open_locked
from keras_ls.distillation._paths import check_replaceable, unwritable


@contextlib.contextmanager
def unfinished_rows(path: str, identity: str, num_rows: int) -> Iterator["UnfinishedRows"]:
    """Opens the rows of that identity which there are for `path`, once nobody else adds to them."""
    try:
        rows = _open_rows(path, identity, num_rows)
    except OSError as error:
        raise unwritable(path, error) from error
    with rows.log, rows.part:
        try:
            yield rows
        except Exception:
            if not (rows.is_shared and rows.is_done.any()):
                rows.remove()
            raise


class UnfinishedRows:
    """The rows that an open pair of files holds.

    Args:
        stem: the common part of both names.
        log: the log, open and locked.
        identity: what the logits belong to.
        num_rows: rows of the complete array.
        is_shared: whether later computations find the files.

    Attributes:
        is_done: (num_rows,), True for rows that have been computed.
    """

    def __init__(self, stem: str, log: FileIO, identity: str, num_rows: int, is_shared: bool):
        self.log, self.identity, self.num_rows, self.is_shared = log, identity, num_rows, is_shared
        self.is_done = np.zeros(num_rows, "bool")
        self.part = open(f"{stem}.part", "r+b" if os.path.exists(f"{stem}.part") else "w+b")  # noqa: SIM115
        self.layout: Layout | None = None
        layout = read_layout(self.part)
        if layout is not None and layout.shape[0] == num_rows:
            self.layout = layout
            self._verify(layout)
        if not self.is_done.any():
            self.layout = None
            self.part.truncate(0)
            self.log.truncate(0)

    def reuse(self, stored: StoredLogits) -> None:
        """Takes the sound rows of a complete file that is damaged elsewhere."""
        if stored.array is None:
            return
        for index, start in enumerate(range(0, self.num_rows, BLOCK_ROWS)):
            if index not in stored.damaged and not self.is_done[start : start + BLOCK_ROWS].all():
                self.add(start, stored.array[start : start + BLOCK_ROWS])

    def fill(self, batches: Iterable[tuple[int, Any]], compute: Callable[[Any], np.ndarray]) -> None:
        """Computes the rows that are missing, of all batches in their order."""
        start = 0
        for size, batch in batches:
            if not self.is_done[start : start + size].all():
                self.add(start, compute(batch))
            start += size

    def add(self, start: int, rows: np.ndarray) -> None:
        """Writes rows, the first of which is row `start`, and only then the line that says so."""
        if self.layout is None:
            self.layout = write_header(self.part, (self.num_rows, *rows.shape[1:]), rows.dtype)
        layout, stop = self.layout, start + len(rows)
        check_row_shape(rows, layout.shape[1:])
        data = np.ascontiguousarray(rows, layout.dtype).reshape(-1).view("uint8")
        self.part.seek(layout.position(start))
        self.part.write(data.data)
        self.part.flush()
        digest = new_checksum(layout, start, stop)
        digest.update(data)
        # A line that a full disk cut off ends at the next one.
        self.log.write(f"\n{json.dumps([start, stop, digest.hexdigest()])}".encode())
        self.is_done[start:stop] = True

    def publish(self, path: str) -> np.ndarray:
        """Gives the complete array its name, and returns it memory-mapped."""
        assert self.layout is not None
        assert self.is_done.all()
        write_trailer(self.part, self.layout, self.identity)
        self.part.flush()
        os.fsync(self.part.fileno())
        check_replaceable(path)
        # Mapped before it has its name: another teacher's logits may be given that at any moment.
        # (Windows renames no open file.)
        array = None if os.name == "nt" else mapped(self.part, self.layout)
        self.part.close()
        os.replace(self.part.name, path)
        if array is None:
            with open(path, "rb") as file:
                array = mapped(file, self.layout)
        array.filename = path
        remove_locked(self.log)
        return array

    def remove(self) -> None:
        """Deletes both files."""
        with contextlib.suppress(OSError):  # a full disk
            self.part.close()
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.part.name)
        remove_locked(self.log)

    def _verify(self, layout: Layout) -> None:
        """Marks the rows that the log knows as done, unless they are not what they were."""
        self.log.seek(0)
        for line in self.log.readall().split(b"\n"):
            try:
                start, stop, checksum = json.loads(line)
                is_range = type(start) is type(stop) is int and 0 <= start < stop <= self.num_rows
            except (TypeError, ValueError):  # cut off, or damaged
                continue
            if is_range and checksum_of_rows(self.part, layout, start, stop) == checksum:
                self.is_done[start:stop] = True


def _open_rows(path: str, identity: str, num_rows: int) -> UnfinishedRows:
    stem, is_shared = f"{path}.{identity}", True
    try:
        log = open_locked(f"{stem}.log")
    except LocksUnsupportedError:
        # A name of its own, which nobody else finds: once interrupted, these rows are lost.
        stem, is_shared = f"{stem}.{secrets.token_hex(8)}", False
        log = FileIO(f"{stem}.log", "a+")
    try:
        return UnfinishedRows(stem, log, identity, num_rows, is_shared)
    except BaseException:
        log.close()
        raise


def check_row_shape(rows: np.ndarray, expected: tuple[int, ...]) -> None:
    """Raises ValueError if rows of logits have another shape than those before."""
    if rows.shape[1:] != expected:
        raise ValueError(
            "`teacher` must give logits of one shape for all examples (do sequences differ in length?). "
            f"Its logits change their shape: {rows.shape[1:]} after {expected}."
        )


def remove_abandoned(path: str) -> None:
    """Deletes unfinished files for `path` that no process adds to."""
    named = re.compile(re.escape(path) + r"\.[0-9a-f]{32}\.(part|log)")
    stems = {name.rpartition(".")[0] for name in glob.glob(f"{glob.escape(path)}.*") if named.fullmatch(name)}
    for stem in stems:
        with contextlib.suppress(OSError):  # somebody else deletes it, or has it open on Windows
            log = try_open_locked(f"{stem}.log")
            if log is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.remove(f"{stem}.part")
                remove_locked(log)
