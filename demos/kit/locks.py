"""Locks that one process holds at a time; the system lets go of them when it ends, however it does."""

import os
import pathlib

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]


def take(path: pathlib.Path, wait: bool) -> int:
    """Locks a file, which is made where it is missing; returns what `os.close` lets go of.

    While another process has the lock, it waits for it, or raises BlockingIOError.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
