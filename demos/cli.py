"""What the command lines of the demos share: arguments checked as they are read, errors of one line."""

import argparse
import importlib
import io
import math
import sys
from collections.abc import Callable
from typing import Any

from demos.checkpoints import Diverged
from demos.records import DamagedFile


class MissingExtra(ImportError):
    """An optional package that a demo needs is not installed."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, without the usage in front."""

    def error(self, message):
        """Prints `message` as one line and exits with status 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def print_what_can_be() -> None:
    """Makes characters that a terminal's encoding lacks (α on some) question marks instead of errors."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def execute(parser: Parser, argv: list[str] | None, plan: Callable[..., Any], run: Callable[..., Any]) -> int:
    """Plans and runs a demo.

    Returns:
        The exit status: 2 for bad arguments or data, 1 for training that diverged or a damaged file of an earlier run.
    """
    print_what_can_be()
    options = parser.parse_args(argv)
    try:
        try:
            planned = plan(options)
        except (ValueError, OSError, MissingExtra) as error:
            parser.error(" ".join(str(error).split()))
        run(planned)
    except (Diverged, DamagedFile) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    except KeyboardInterrupt:
        hint = " The same command with --resume goes on from here." if hasattr(options, "resume") else ""
        parser.exit(130, f"\nInterrupted.{hint}\n")
    return 0


def optional(module: str, purpose: str, extra: str = "demos"):
    """Imports `module`, which the package's `extra` installs, or raises a `MissingExtra` that says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f'{purpose} needs {module.partition(".")[0]}: pip install -e ".[{extra}]" ({error})'
        ) from error


def count(text: str) -> int:
    """An integer of at least 1."""
    return checked(int, text, lambda n: n >= 1, "must be an integer of at least 1")


def seed(text: str) -> int:
    """An integer in [0, 2**32), what NumPy takes as a seed."""
    return checked(int, text, lambda n: 0 <= n < 2**32, "must be an integer in [0, 2**32)")


def fraction(text: str) -> float:
    """A number in [0, 1)."""
    return checked(float, text, lambda x: 0 <= x < 1, "must be in [0, 1)")


def positive(text: str) -> float:
    """A finite number above 0."""
    return checked(float, text, lambda x: 0 < x < math.inf, "must be a finite number above 0")


def temperature(text: str) -> float:
    """A number in [0.01, 100]: beyond, logits overflow, or all tokens are alike."""
    return checked(float, text, lambda x: 0.01 <= x <= 100, "must be in [0.01, 100]")


def not_negative(text: str) -> float:
    """A finite number of at least 0."""
    return checked(float, text, lambda x: 0 <= x < math.inf, "must be a finite number of at least 0")


def checked(convert, text, allowed, rule):
    """`convert(text)`, which must be `allowed`; `rule` says in words what is."""
    try:
        value = convert(text)
        if not allowed(value):  # also so for NaN
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"{rule}. Received: {text!r}") from None
    return value


def aligned(rows: list[list[str]]) -> str:
    """Rows of cells, the header first, as lines of text with the cells of a column below each other."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
