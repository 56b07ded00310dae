"""A cache of a teacher's logits: a `.npy` file that records which teacher and inputs they belong to.

The path always holds a complete file, or what was there before. Rows are first written to two files beside it, from
which the next computation continues after an interruption: ``zt.npy.<identity>.part``, the rows computed so far, and
``zt.npy.<identity>.log``, a line of JSON with a checksum for each batch of rows. The process that writes them locks the
log, so that a second process waits and then finds the rows; files of other logits for the same path have other names.
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
    """Returns the absolute path of the file `path`, with links resolved, and creates its folder if it is missing.

    Raises:
        ValueError: If `path` is not a path, cannot be written, or holds something that may not be replaced.
    """
    try:
        name = os.fsdecode(path)
        if not os.path.basename(name):
            raise IsADirectoryError("it names no file")
        if "://" in name:
            raise ValueError("it is a URL, and must be a file of this machine")
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
    """Returns the rows stored at `path`, or computes them from `batches` and stores them there.

    Args:
        path: the path that `cache_path` returned.
        identity: the 32 hexadecimal digits of `identity_of`.
        num_rows: number of rows in all batches.
        batches: pairs of the number of rows and a batch.
        compute: returns the rows of one batch.

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
        rows = None
        del stored  # Windows replaces no file that is mapped
        found = unfinished.publish(path, identity)
    _remove_abandoned(path)
    return found


class _UnfinishedRows:
    """The rows in an open pair of files, from the first one on without gaps.

    Args:
        log: the log, open and locked.
        num_rows: number of rows of the complete array.

    Attributes:
        done: the number of rows written.
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
        """Writes those of `rows`, which begin at row `start`, that are missing, then the line that records them."""
        if self.layout is None or not self.done:
            self.layout = write_header(self.part, (self.num_rows, *rows.shape[1:]), rows.dtype)
        check_row_shape(rows, self.layout.shape[1:])
        self.part.seek(self.layout.position(self.done))
        self.part.write(np.ascontiguousarray(rows[self.done - start :], self.layout.dtype).data)
        self.part.flush()
        stop = start + len(rows)
        checksum = self.layout.checksum(self.part, self.done, stop)
        # The line break ends a line that a full disk cut off.
        self.log.write(f"\n{json.dumps([self.done, stop, checksum])}".encode())
        self.done = stop

    def publish(self, path: str, identity: str) -> np.ndarray:
        """Moves the complete array to `path`, and returns it memory-mapped."""
        assert self.layout is not None
        assert self.done == self.num_rows
        write_trailer(self.part, self.layout, identity)
        _check_replaceable(path)
        # Mapped before it is renamed, since another teacher's logits may take that name at any moment.
        # (Windows cannot rename an open file.)
        array = None if os.name == "nt" else self.layout.rows(self.part, 0, self.num_rows)
        self.part.close()
        try:
            os.replace(self.part.name, path)
        except PermissionError as error:
            if os.name != "nt":
                raise _unwritable(path, error) from error
            raise ValueError(
                f"`path` must not be open. Received: path={shown(path)}, which an array of an earlier call may still "
                "map: delete that, and call again."
            ) from error
        if array is None:
            with open(path, "rb") as file:
                array = self.layout.rows(file, 0, self.num_rows)
        array.filename = path
        return array


@contextlib.contextmanager
def _unfinished_rows(path: str, identity: str, num_rows: int) -> Iterator[_UnfinishedRows]:
    """Opens the unfinished rows of that identity for `path`, once no other process writes to them.

    They are deleted afterwards, unless an interruption or an error leaves some for a later computation.
    """
    log_path, is_shared = f"{path}.{identity}.log", True
    try:
        try:
            log = open_locked(log_path)
        except LocksUnsupportedError:
            with contextlib.suppress(FileNotFoundError):
                os.remove(log_path)
            # A unique name, which no other process finds: if interrupted, these rows are lost.
            log, is_shared = FileIO(f"{path}.{identity}.{secrets.token_hex(8)}.log", "a+"), False
    except OSError as error:
        raise _unwritable(error.filename or path, error) from error
    with log:
        try:
            rows = _UnfinishedRows(log, num_rows)
        except OSError as error:  # what somebody else left
            raise _unwritable(error.filename or path, error) from error
        try:
            with rows.part:
                yield rows
        except BaseException:
            if not (is_shared and rows.done):
                _delete(log)
            raise
        _delete(log)


def _remove_abandoned(path: str) -> None:
    """Deletes unfinished files for `path` that no process writes to."""
    stem = glob.escape(path) + "." + 32 * "[0-9a-f]"
    for name in [*glob.glob(f"{stem}.log"), *glob.glob(f"{stem}.part")]:
        with contextlib.suppress(OSError):  # another process deletes it, or has it open on Windows
            log = try_open_locked(f"{name.rpartition('.')[0]}.log")
            if log is not None:
                _delete(log)


def _delete(log: FileIO) -> None:
    """Deletes a log that this process has locked, and the rows beside it."""
    with contextlib.suppress(OSError):
        os.remove(_part_of(log))
    remove_locked(log)


def _part_of(log: FileIO) -> str:
    return str(log.name).removesuffix("log") + "part"


def _check_replaceable(path: str) -> None:
    """Raises `ValueError` if `path` holds something other than a file of logits."""
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
    """Returns the error for a path where no file can be written."""
    reason = getattr(error, "strerror", None) or error  # which does not repeat the path
    return ValueError(f"`path` must be a file that can be written. Received: path={shown(path)} ({reason}).")
