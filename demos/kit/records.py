"""JSON files of a run: written as a whole or not at all, checked when they are read back."""

import json
import math
import os
import pathlib
import re
from collections.abc import Callable
from typing import Any, BinaryIO

from demos.kit import devices, locks
from demos.kit.errors import DamagedFile

LARGEST_FILE = 1 << 28  # bytes; the records of the longest runs have a few million
# How names of unfinished files end: with the number of the process. The rows of a teacher's logits, which keras_ls
# continues with, have 32 digits there.
LEFTOVER = re.compile(r"\.(\d{1,10})\.part(\.\w+)?$")


def read_json(path: pathlib.Path, fields: Any = dict) -> Any:
    """The value in a JSON file of a run.

    `fields` is what it must hold: a type; a dict of names and what stands there; a list of one entry, for lists of any
    length; or a tuple of alternatives, of which None stands for null. It is a ValueError if there is no such file, and
    a DamagedFile if it is anything else.
    """
    try:
        size = path.stat().st_size
        check_file(path)
        if size > LARGEST_FILE:
            raise DamagedFile(f"{path} is damaged: it has {size:,} bytes.")
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path.parent} is not the directory of a run: {path.name} is missing.") from None
    except DamagedFile:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is damaged: {error}.") from error
    problem = _problem(value, fields, "")
    if problem:
        raise DamagedFile(f"{path} is damaged: {problem}.")
    return value


def check_file(path: pathlib.Path) -> None:
    """Raises DamagedFile for what has no end or no content of its own, such as a device, a pipe or a directory."""
    if not path.is_file():
        raise DamagedFile(f"{path} is damaged: it is not a regular file.")


def _problem(value: Any, fields: Any, place: str) -> str | None:
    """What is wrong with a value, or None."""
    if isinstance(fields, tuple):
        problems = [_problem(value, kind, place) for kind in fields]
        return None if None in problems else problems[0]
    kind: Any = type(fields) if isinstance(fields, dict | list) else fields
    allowed: Any = {None: type(None), float: int | float}.get(kind, kind)
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        return f"{place or 'the whole'} is {str(value)[:40]!r}, not {getattr(kind, '__name__', 'null')}"
    if isinstance(fields, list):
        return next((p for entry in value if (p := _problem(entry, fields[0], place))), None)
    for name, entry in fields.items() if isinstance(fields, dict) else ():
        if name not in value:
            return f"it lacks {name!r}"
        if problem := _problem(value[name], entry, name):
            return problem
    return None


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a file as a whole or not at all; null stands for numbers that JSON does not have."""
    value = to_json(value)
    text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # names of files that are not UTF-8 can only be escaped
        text = json.dumps(value, indent=1, allow_nan=False)
    write_text(path, f"{text}\n")


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a file as a whole or not at all, in UTF-8."""
    write(path, lambda file: file.write(text.encode("utf-8", "backslashreplace")))


def write(path: pathlib.Path, save: Callable[[BinaryIO], Any]) -> None:
    """Lets `save` write into a file, which appears as `write_as` says."""

    def to_file(temporary: pathlib.Path) -> None:
        with open(temporary, "wb") as file:
            save(file)

    write_as(path, to_file)


def write_as(path: pathlib.Path, save: Callable[[pathlib.Path], Any]) -> None:
    """Lets `save` write a file, which appears as a whole or not at all, even if another run writes it, too.

    `save` takes the path of a file that has the suffix of `path`. Of several processes of a run the first one writes.
    """
    if not devices.is_first_process():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part{path.suffix}")
    try:
        save(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # else a power cut may leave the name without the content
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_leftovers(out: pathlib.Path) -> None:
    """Deletes what processes that were killed while they wrote left in the directory of a run.

    Directories of other runs in it, which have locks of their own, are left alone.
    """
    for folder, folders, names in os.walk(out):
        folders[:] = [name for name in folders if not os.path.lexists(os.path.join(folder, name, locks.NAME))]
        for name in names:
            left = LEFTOVER.search(name)
            # demos.reproduce writes there how long the demo runs, and a sweep measures networks meanwhile.
            if left and int(left[1]) != os.getppid() and not _is_alive(int(left[1])):
                pathlib.Path(folder, name).unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # where signal 0 ends a process
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # of another user
        pass
    return True


def to_json(value: Any) -> Any:
    """The value as it reads back from JSON: lists for tuples, None for numbers that are not finite."""
    if isinstance(value, dict):
        return {str(key): to_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
