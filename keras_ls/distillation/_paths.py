"""Paths that a file of logits may be written to."""

import os
from typing import Any

from keras_ls._checks import shown
from keras_ls.distillation._format import marked_identity


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
        if not _is_there(name):
            folder = os.path.dirname(name)
            os.makedirs(folder, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError("no permission to write")
    except (TypeError, ValueError, OSError) as error:  # ValueError: a null character
        raise unwritable(path, error) from error
    check_replaceable(name)
    return name


def check_replaceable(path: str) -> None:
    """Raises ValueError if there is something at `path` that is not a file of logits."""
    try:
        if not _is_there(path) or marked_identity(path) is not None:
            return
    except OSError as error:
        raise unwritable(path, error) from error
    if os.path.isdir(path):
        kind = "a folder"
    else:
        kind = "another file, or a damaged one" if os.path.isfile(path) else "not a regular file"
    raise ValueError(
        "`path` must be a file that teacher_logits wrote, or one that does not exist yet: nothing else is replaced. "
        f"Received: path={shown(path)}, which is {kind}."
    )


def unwritable(path: Any, error: Exception) -> ValueError:
    """The error for a path where no file can be written."""
    reason = getattr(error, "strerror", None) or error  # which does not repeat the path
    return ValueError(f"`path` must be a file that can be written. Received: path={shown(path)} ({reason}).")


def _is_there(path: str) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True
