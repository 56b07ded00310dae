"""Text files that users bring."""

import os
import pathlib
import unicodedata

# What stands for a space: NUL, which is no character of a text, and SentencePiece's own mark of one.
_SPACES = {0: " ", 0x2581: " "}


def place(path: str | None) -> str | None:
    """The absolute path that a user's path stands for, if there is one."""
    return path and os.path.abspath(os.path.expanduser(path))  # a link has a name and a place of its own


def sentence(text: str) -> str:
    """A line's text in composed characters (Unicode's NFC), words a space apart."""
    return " ".join(unicodedata.normalize("NFC", text).translate(_SPACES).split())


def read_text(path: pathlib.Path) -> str:
    """A UTF-8 file, with or without a byte order mark; a ValueError names a file, or a line, that cannot be read.

    Ends of lines are as in the file.
    """
    try:
        return pathlib.Path(os.path.expanduser(path)).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path} line {line} is not UTF-8: {error.reason}.") from error
