"""Files that one process at a time may hold, with locks that end with their process, however it ends."""

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

# What the systems say of a lock that somebody else holds.
_HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
# Windows locks bytes, against reading too: one far behind any content.
_LOCKED_BYTE = 2**30
_SECONDS_BETWEEN_TRIES = 0.1

_open_files: "weakref.WeakSet[FileIO]" = weakref.WeakSet()


class LocksUnsupportedError(OSError):
    """The file system, or the operating system, has no locks."""


def open_locked(path: str) -> FileIO:
    """Opens a file for reading and appending, unbuffered, and waits until nobody else holds it.

    The file is created if it is missing. Closing it gives it back; `remove_locked` also deletes it.

    Raises:
        LocksUnsupportedError: If files cannot be locked there.
        OSError: If the file cannot be opened.
    """
    warned = False
    while True:
        file = try_open_locked(path)
        if file is not None:
            return file
        if not warned:
            warnings.warn(f"Another computation holds {path!r}: waiting until it ends.", stacklevel=2)
            warned = True
        time.sleep(_SECONDS_BETWEEN_TRIES)


def try_open_locked(path: str) -> FileIO | None:
    """What `open_locked` does, without waiting: None if somebody else holds the file."""
    while True:
        file = FileIO(path, "a+")
        try:
            if not _lock(file.fileno()):
                file.close()
                return None
            # Its last holder may have deleted it after it was opened here.
            if _is_at(file, path):
                _open_files.add(file)
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def remove_locked(file: FileIO) -> None:
    """Deletes a file that `open_locked` opened, and closes it."""
    path = str(file.name)
    if os.name == "nt":  # which deletes no open file, nor one that somebody waits for
        file.close()
        with contextlib.suppress(OSError):
            os.remove(path)
        return
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)
    file.close()


def _lock(descriptor: int) -> bool:
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except ImportError as error:
        raise LocksUnsupportedError(str(error)) from error
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise LocksUnsupportedError(*error.args) from error
    return True


def _is_at(file: FileIO, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _close_inherited() -> None:
    """Closes a forked child's copies (a data loader's workers, say), which would keep the locks beyond the parent."""
    for file in list(_open_files):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)
