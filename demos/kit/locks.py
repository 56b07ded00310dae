"""Locks that one process holds at a time; the system lets go of them when it ends, however it does."""

import errno
import functools
import os
import pathlib

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"  # of the file in the directory of a run
UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)  # of file systems without locks


def take(path: pathlib.Path, wait: bool) -> int:
    """Locks a file, which is made where it is missing; returns what `os.close` lets go of.

    While another process has the lock, it waits for it, or raises BlockingIOError. Where there are no locks, as on
    Windows and on some file systems, it only says so.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if fcntl is None:
            _say_that_there_are_none(path.parent)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException as error:
        if not isinstance(error, OSError) or error.errno not in UNSUPPORTED:
            os.close(descriptor)
            raise
        _say_that_there_are_none(path.parent)
    return descriptor


@functools.cache  # once is enough
def _say_that_there_are_none(folder: pathlib.Path) -> None:
    print(f"Note: files cannot be locked in {folder}: let no other process work there meanwhile.", flush=True)
