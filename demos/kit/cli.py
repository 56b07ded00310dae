"""The command line of a demo: quick help, a quiet start, errors of one line."""

import argparse
import contextlib
import dataclasses
import importlib
import io
import json
import logging
import os
import re
import signal
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from demos.kit import devices, runs
from demos.kit.errors import DamagedFile, Diverged, MissingExtra
from demos.kit.options import Chosen, Group

# What TensorFlow writes before its own settings are heard.
START_UP_NOTE = re.compile(r"[IWE]\d{4} |WARNING: All log messages before absl")
# Characters of a backend's own error that are shown: it may name each operation of a network.
LONGEST_ERROR = 300


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, without the usage in front."""

    def error(self, message: str) -> NoReturn:
        """Prints `message` as one line and exits with status 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


@dataclasses.dataclass(frozen=True)
class Command:
    """A demo as its users see it; what it does is imported after its arguments are read."""

    name: str  # the module that is run
    description: str  # what it shows
    epilog: str  # what the help ends with
    groups: tuple[Group, ...]  # its options
    # The module that does it: `plan(options)` settles everything that can be wrong, `run(planned)` does the rest (an
    # integer that it returns is the exit status); `table(results)` and `figure(results)` show what results.json holds,
    # and `of_trials(trials)` says what follows from all networks (`together(found)`, if it is there, what does not)
    work: str

    def parser(self) -> Parser:
        """The command line."""
        formatter = argparse.RawDescriptionHelpFormatter
        prog = f"python -m {self.name}"
        parser = Parser(prog, description=self.description, epilog=self.epilog, formatter_class=formatter)
        for group in self.groups:
            group.add_to(parser)
        return parser

    def choose(self, argv: list[str] | None) -> Chosen:
        """The options of a command line."""
        return Chosen(self.groups, vars(self.parser().parse_args(argv)))

    def main(self, argv: list[str] | None = None) -> int:
        """Runs the demo; returns 0, or the integer that `run` returned.

        Errors end in SystemExit: 2 for bad arguments or data, 1 for what fails later, 130 for Ctrl-C.
        """

        def plan(given: argparse.Namespace) -> Any:
            options = Chosen(self.groups, vars(given))
            work = self.load(options)
            return devices.in_turn(lambda: work.plan(options))

        return execute(self.parser(), argv, plan, lambda planned: self.load().run(planned))

    def load(self, options: Chosen | None = None) -> Any:
        """The module that does it, with the backend behind it, on the devices that options ask for."""
        with quiet_start():
            if devices.GROUP in self.groups and options is not None:
                devices.start(options)
            runs.device()
            with contextlib.suppress(ImportError):  # `fit` imports it on every backend
                importlib.import_module("tensorflow")
            try:
                return importlib.import_module(self.work)
            except ModuleNotFoundError as error:
                if (error.name or "demos").partition(".")[0] in ("demos", "keras_ls"):
                    raise
                raise MissingExtra(f"{self.name} needs {error.name}, which is not installed.") from error


def execute(parser: Parser, argv: list[str] | None, plan: Callable[[Any], Any], run: Callable[[Any], Any]) -> int:
    """Plans and runs a demo; errors are one line. Returns and exits as `Command.main` does."""
    resumes = any(action.dest == "resume" for action in parser._actions)
    hint = " The same command with --resume goes on from here." if resumes else ""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal's encoding lacks (α on some) is a question mark
            stream.reconfigure(errors="replace")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # imports, where Ctrl-C ends everything at once, are over
    try:
        try:
            options = parser.parse_args(argv)
            try:
                planned = plan(options)
            except BrokenPipeError:
                raise
            except (ValueError, OSError, MissingExtra) as error:
                parser.error(_one_line(error))
            status = run(planned)
        finally:
            if sys.stdout is not None:  # None if the process was started without one
                sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still to be flushed has nowhere to go
        parser.exit(1, f"{parser.prog}: nobody reads the output any more.{hint}\n")
    except (Diverged, DamagedFile, MissingExtra) as error:
        parser.exit(1, f"{parser.prog}: {_one_line(error)}\n")
    except (OSError, MemoryError) as error:
        parser.exit(1, f"{parser.prog}: {_one_line(error) or 'out of memory'}.{hint}\n")
    except KeyboardInterrupt:
        parser.exit(130, f"\nInterrupted.{hint}\n")
    except Exception as error:
        if not _is_exhausted(error):
            raise
        parser.exit(1, f"{parser.prog}: {_one_line(error)[:LONGEST_ERROR]}.{hint}\n")
    finally:
        runs.unlock()
        devices.stop()
    return status if isinstance(status, int) else 0


@contextlib.contextmanager
def quiet_start() -> Iterator[None]:
    """Keeps what the backend writes while it starts off the terminal, and makes Ctrl-C end the process at once.

    An interrupt in the middle of an import would come out as whatever error the imported code makes of it.
    """
    logging.getLogger("tensorflow").addFilter(_is_no_retracing)
    if "keras" in sys.modules or sys.stderr is None:  # None if the process was started without one
        yield
        return
    sys.stderr.flush()
    terminal = os.dup(2)

    def interrupted(*_: Any) -> NoReturn:
        os.write(terminal, b"\nInterrupted.\n")
        os._exit(130)

    signal.signal(signal.SIGINT, interrupted)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            log.seek(0)
            for line in log.read().decode(errors="replace").splitlines():
                if not START_UP_NOTE.match(line):
                    print(line, file=sys.stderr)


def _is_no_retracing(record: logging.LogRecord) -> bool:
    # Networks are compiled anew for each training and measurement; TensorFlow takes that for a mistake.
    return "retracing" not in record.getMessage()


def _is_exhausted(error: Exception) -> bool:
    """Whether memory or disk did not suffice for a backend, which says so with an error of its own."""
    own = ("ResourceExhaustedError", "OutOfMemoryError")  # of TensorFlow and PyTorch; JAX has one for everything
    return type(error).__name__ in own or "RESOURCE_EXHAUSTED" in str(error)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def json_line(value: Any) -> str:
    """A line of JSON; on a terminal that may lack its characters they are escaped."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf"
    return json.dumps(value, ensure_ascii=encoding[:3].lower() != "utf")


def optional(module: str, purpose: str, extra: str = "demos") -> Any:
    """Imports `module`, which the package's `extra` installs; if it is not there, MissingExtra says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtra(f'{purpose} needs {package}: pip install -e ".[{extra}]" ({error})') from error


def paragraph(text: str) -> str:
    """A text as lines of the width that the demos' help has."""
    return textwrap.fill(text, 110)


def aligned(rows: list[list[str]]) -> str:
    """Rows of cells, the header first, as lines of text with the cells of a column below each other."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
