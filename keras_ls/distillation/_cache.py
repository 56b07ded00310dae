"""A teacher's logits in a `.npy` file that knows what they are the logits of.

At its path is always a complete file, or what was there before. Rows are computed into two files beside it, which an
interrupted computation leaves to the next: ``zt.npy.<identity>.part``, the array as far as it is known, and
``zt.npy.<identity>.log``, a line of JSON with a checksum for each batch of rows. The log is locked by the process that
adds to them, so that a second one waits and then finds the rows; other logits for the same path have other names.
"""

import contextlib
import glob
import json
import os
import secrets
import warnings
from collections.abc import Callable, Iterable, Iterator
from io import FileIO
from typing import Any

import numpy as np

from keras_ls._checks import shown
from keras_ls.distillation._format import marked_identity, read_complete, read_layout, write_header, write_trailer
from keras_ls.distillation._lock import LocksUnsupportedError, open_locked, remove_locked, try_open_locked
from keras_ls.distillation._sources import check_row_shape


def cache_path(path: Any) -> str:
    """The absolute path of the file that `path` names, links followed; its folder is made if it is missing.

    Raises:
        ValueError: If `path` is no path, cannot be written, or holds something that may not be replaced.
    """
    try:
        name = os.fsdecode(path)
        if not os.path.basename(name):
            raise IsADirectoryError("it names no file")
        name = os.path.realpath(name)
        if marked_identity(name) == "":
            os.makedirs(os.path.dirname(name), exist_ok=True)
    except (TypeError, ValueError, OSError) as error:  # ValueError: a null character
        raise _unwritable(path, error) from error
    _check_replaceable(name)
    return name


def load_or_compute(
    path: str,
    identity: str,
    num_rows: int,
    batches: Iterable[tuple[int, Any]],
    compute: Callable[[Any], np.ndarray],
) -> np.ndarray:
    """The rows that the file at `path` holds, or those that `compute` makes of `batches`, which are stored there.

    Args:
        path: what `cache_path` returned.
        identity: the 32 hexadecimal digits of `identity_of`.
        num_rows: number of rows in all batches.
        batches: pairs of the number of rows and a batch.
        compute: gives the rows of one batch.

    Returns:
        A read-only memory map.
    """
    found = read_complete(path, identity, num_rows).rows(0, num_rows)
    if found is not None:
        return found
    with _unfinished_rows(path, identity, num_rows) as unfinished:
        # While this process waited, another one may have written the file.
        stored = read_complete(path, identity, num_rows)
        found = stored.rows(0, num_rows)
        if found is not None:
            return found
        if stored.damage:
            # The caller of `teacher_logits`.
            warnings.warn(f"The file {path!r} is damaged {stored.damage} are computed again.", stacklevel=3)
        start = 0
        for size, batch in batches:
            stop = start + size
            if stop > unfinished.done:
                rows = stored.rows(start, stop)
                unfinished.add(start, compute(batch) if rows is None else rows)
            start = stop
        found = unfinished.publish(path, identity)
    _remove_abandoned(path)
    return found


class _UnfinishedRows:
    """The rows that an open pair of files holds, without gaps from the first one on.

    Args:
        log: the log, open and held.
        num_rows: rows of the complete array.

    Attributes:
        done: the number of rows that are there.
    """

    def __init__(self, log: FileIO, num_rows: int):
        self.log, self.num_rows, self.done = log, num_rows, 0
        part = _part_of(log)
        self.part = open(part, "r+b" if os.path.exists(part) else "w+b")  # noqa: SIM115
        self.layout = read_layout(self.part, num_rows)
        if self.layout is None:
            return
        log.seek(0)
        for line in log.readall().split(b"\n"):
            with contextlib.suppress(TypeError, ValueError):  # the line, or its rows, were cut off or damaged
                start, stop, checksum = json.loads(line)
                if start == self.done < stop <= num_rows and self.layout.checksum(self.part, start, stop) == checksum:
                    self.done = stop

    def add(self, start: int, rows: np.ndarray) -> None:
        """Writes those of `rows`, the first of which is row `start`, that are not there; then the line that says so."""
        if self.layout is None or not self.done:
            self.layout = write_header(self.part, (self.num_rows, *rows.shape[1:]), rows.dtype)
        check_row_shape(rows, self.layout.shape[1:])
        self.part.seek(self.layout.position(self.done))
        self.part.write(np.ascontiguousarray(rows[self.done - start :], self.layout.dtype).data)
        self.part.flush()
        stop = start + len(rows)
        checksum = self.layout.checksum(self.part, self.done, stop)
        # A line that a full disk cut off ends at the next one.
        self.log.write(f"\n{json.dumps([self.done, stop, checksum])}".encode())
        self.done = stop

    def publish(self, path: str, identity: str) -> np.ndarray:
        """Gives the complete array its name, and returns it memory-mapped."""
        assert self.layout is not None
        assert self.done == self.num_rows
        write_trailer(self.part, self.layout, identity)
        _check_replaceable(path)
        # Mapped before it has its name: another teacher's logits may be given that at any moment.
        # (Windows renames no open file.)
        array = None if os.name == "nt" else self.layout.rows(self.part, 0, self.num_rows)
        self.part.close()
        os.replace(self.part.name, path)
        if array is None:
            with open(path, "rb") as file:
                array = self.layout.rows(file, 0, self.num_rows)
        array.filename = path
        return array


@contextlib.contextmanager
def _unfinished_rows(path: str, identity: str, num_rows: int) -> Iterator[_UnfinishedRows]:
    """Opens the rows of that identity which there are for `path`, once nobody else adds to them.

    Afterwards they are deleted, unless an interruption or an error leaves some to a later computation.
    """
    log_path, is_shared = f"{path}.{identity}.log", True
    try:
        try:
            log = open_locked(log_path)
        except LocksUnsupportedError:
            with contextlib.suppress(FileNotFoundError):
                os.remove(log_path)
            # A name of its own, which nobody else finds: once interrupted, these rows are lost.
            log, is_shared = FileIO(f"{path}.{identity}.{secrets.token_hex(8)}.log", "a+"), False
    except OSError as error:
        raise _unwritable(path, error) from error
    with log:
        rows = _UnfinishedRows(log, num_rows)
        try:
            with rows.part:
                yield rows
        except BaseException:
            if not (is_shared and rows.done):
                _delete(log)
            raise
        _delete(log)


def _remove_abandoned(path: str) -> None:
    """Deletes unfinished files for `path` that no process adds to."""
    stem = glob.escape(path) + "." + 32 * "[0-9a-f]"
    for name in [*glob.glob(f"{stem}.log"), *glob.glob(f"{stem}.part")]:
        with contextlib.suppress(OSError):  # somebody else deletes it, or has it open on Windows
            log = try_open_locked(f"{name.rpartition('.')[0]}.log")
            if log is not None:
                _delete(log)


def _delete(log: FileIO) -> None:
    """Deletes a log that this process holds, and the rows beside it."""
    with contextlib.suppress(OSError):
        os.remove(_part_of(log))
    remove_locked(log)


def _part_of(log: FileIO) -> str:
    return str(log.name).removesuffix("log") + "part"


def _check_replaceable(path: str) -> None:
    """Raises ValueError if there is something at `path` that is not a file of logits."""
    if marked_identity(path) is not None:
        return
    if os.path.isdir(path):
        kind = "a folder"
    else:
        kind = "another file, or a damaged one" if os.path.isfile(path) else "not a regular file"
    raise ValueError(
        "`path` must be a file that teacher_logits wrote, or one that does not exist yet: nothing else is replaced. "
        f"Received: path={shown(path)}, which is {kind}."
    )


def _unwritable(path: Any, error: Exception) -> ValueError:
    """The error for a path where no file can be written."""
    reason = getattr(error, "strerror", None) or error  # which does not repeat the path
    return ValueError(f"`path` must be a file that can be written. Received: path={shown(path)} ({reason}).")
