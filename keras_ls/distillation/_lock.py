"""Locks on files, held by one process at a time and released when that process ends, however it ends."""

import contextlib
import errno
import os
import time
import warnings
import weakref
from io import FileIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Error numbers for a lock that another process holds.
_HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
# Windows locks bytes, also against reading, hence one far behind any content.
_LOCKED_BYTE = 2**30
_SECONDS_BETWEEN_TRIES = 0.1

_open_files: "weakref.WeakSet[FileIO]" = weakref.WeakSet()


class LocksUnsupportedError(OSError):
    """The file system does not support locks."""


def open_locked(path: str) -> FileIO:
    """Opens a file for reading and appending, unbuffered, once no other process holds its lock.

    The file is created if it is missing. Closing it releases the lock; `remove_locked` also deletes it.

    Raises:
        LocksUnsupportedError: If files cannot be locked there.
        OSError: If the file cannot be opened.
    """
    tries = 0
    while (file := try_open_locked(path)) is None:
        tries += 1
        if tries == 2:  # the first time, it may have been deleted a moment ago
            warnings.warn(f"Another computation holds {path!r}: waiting until it ends.", stacklevel=2)
        time.sleep(_SECONDS_BETWEEN_TRIES)
    return file


def try_open_locked(path: str) -> FileIO | None:
    """Like `open_locked`, but without waiting: None if another process holds the lock, or has just deleted the file."""
    file, is_held = FileIO(path, "a+"), False
    try:
        with contextlib.suppress(FileNotFoundError):
            is_held = _lock(file.fileno()) and os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    finally:
        if not is_held:
            file.close()
    if not is_held:
        return None
    _open_files.add(file)
    return file


def remove_locked(file: FileIO) -> None:
    """Deletes a file that `open_locked` opened, and closes it."""
    if os.name == "nt":  # which cannot delete an open file
        file.close()
    with contextlib.suppress(OSError):  # nor one that another process waits for
        os.remove(str(file.name))
    file.close()


def _lock(descriptor: int) -> bool:
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise LocksUnsupportedError(*error.args) from error
    return True


def _close_inherited() -> None:
    """Closes the copies in a forked child (a data loader's worker, say), which would outlive the parent's locks."""
    for file in list(_open_files):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)
