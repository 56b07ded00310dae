"""Trials as processes: each command goes on where an earlier one was stopped, and results are kept when all end."""

import contextlib
import importlib
import os
import pathlib
import platform
import shlex
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from demos.kit import records
from demos.kit.options import Output
from demos.reproduce.experiment import Trial

SECONDS_BETWEEN_NOTES = 30.0
CLOCK = "clock.json"
# What a results.json and a kept result must hold, as `records.read_json` takes it.
RESULTS = {
    **{"experiment": str, "title": str, "pictures": [str], "settings": dict},
    **{"trials": [{"seed": int}], "provenance": {"device": str, "versions": dict}},
}
KEPT = {"commands": [str], "seconds": float, "machine": str, "results": [RESULTS]}
# What names places of one machine, and lists of texts; of histories the end is kept.
PLACES, TEXTS, HISTORY = ("from_run", "data_dir"), "examples", "history"
DIGITS = 7


class Step(NamedTuple):
    """A command of a trial."""

    module: str
    arguments: list[str]  # with those that say where it reads and writes
    folder: pathlib.Path  # where it writes


def steps(trial: Trial, work: pathlib.Path) -> Iterator[Step]:
    """The commands of a trial in folders of their own; what trials have in common at their beginning is run once."""
    first = folder = None
    said = ""
    for module, arguments in trial.commands():
        said += f"{shlex.join([module, *arguments])}\n"
        if folder is None or "--resume" not in arguments:
            folder = work / f"{module.removeprefix('demos.')}-{zlib.crc32(said.encode()):08x}"
        if "--from" in arguments and first is not None:
            place = arguments.index("--from") + 1
            arguments = [*arguments[:place], str(first), *arguments[place + 1 :]]
        first = first or folder
        yield Step(module, [*arguments, "--out", str(folder), *["--resume"] * _can_resume(module)], folder)


def run(trial: Trial, work: pathlib.Path, kept: pathlib.Path) -> int:
    """Runs a trial and keeps its results; returns the status of the first command that failed, or 0."""
    found: dict[pathlib.Path, str] = {}
    for step in steps(trial, work):
        print(f"\n{trial.label}: python -m {shlex.join([step.module, *step.arguments])}", flush=True)
        status = run_command([sys.executable, "-m", step.module, *step.arguments], step.folder / CLOCK)
        if status:
            return status
        found[step.folder] = step.module
    results = [small(records.read_json(_results_file(*each), RESULTS)) for each in found.items()]
    seconds = sum(records.read_json(folder / CLOCK, {"seconds": float})["seconds"] for folder in found)
    said = [f"python -m {shlex.join([module, *arguments])}" for module, arguments in trial.commands()]
    facts = {"experiment": trial.experiment.name, "scale": trial.scale, "trial": trial.name, "commands": said}
    spent = {"seconds": round(seconds, 1), "machine": machine()}
    records.write_json(kept, {**facts, **spent, "results": results})
    return 0


def run_command(command: list[str], clock: pathlib.Path) -> int:
    """Runs a command, which ends with this process; `clock` is told how long it runs, sessions before included."""
    before = records.read_json(clock, {"seconds": float})["seconds"] if clock.exists() else 0.0
    start, status = time.monotonic(), None
    with subprocess.Popen(command) as process:
        try:
            while status is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    status = process.wait(SECONDS_BETWEEN_NOTES)
                records.write_json(clock, {"seconds": before + time.monotonic() - start})
        except BaseException:
            process.terminate()
            raise
    return status


def machine() -> str:
    """The processor that this process runs on."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def _can_resume(module: str) -> bool:
    """Whether a demo has --resume; those without train nothing."""
    groups = importlib.import_module(module).COMMAND.groups
    return any(issubclass(group.fields, Output) for group in groups)


def _results_file(folder: pathlib.Path, module: str) -> pathlib.Path:
    named = folder / f"{module.rpartition('.')[2]}.json"
    return named if named.exists() else folder / "results.json"


def small(value: Any) -> Any:
    """What is kept of results: nothing long, no places of one machine, and digits that mean something."""
    if isinstance(value, dict):
        left = {
            name: entry
            for name, entry in value.items()
            if name not in PLACES and not (name == TEXTS and isinstance(entry, list))
        }
        return {name: small(entry[-1:] if name == HISTORY else entry) for name, entry in left.items()}
    if isinstance(value, list):
        return [small(entry) for entry in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
