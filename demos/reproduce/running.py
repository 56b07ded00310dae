"""Trials as processes: each command goes on where an earlier one was stopped, and results are kept when all end."""

import contextlib
import dataclasses
import importlib
import os
import pathlib
import platform
import shlex
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NamedTuple

from demos.kit import devices, records
from demos.kit.errors import DamagedFile
from demos.kit.options import Output
from demos.reproduce.experiment import SMOOTHING, Trial

SECONDS_BETWEEN_NOTES = 30.0
CLOCK, CLOCK_FIELDS = "clock.json", {"seconds": float}
# What a results.json and a kept result must hold, as `records.read_json` takes it.
RESULTS = {
    **{"experiment": str, "title": str, "pictures": [str], "settings": dict},
    **{"trials": [{"seed": int}], "provenance": {"device": str, "versions": dict}},
}
KEPT = {"commands": [str], "seconds": float, "machine": str, "results": [RESULTS]}
# What names places of one machine or the networks of one trial, and lists of texts; of histories the end is kept.
PLACES, TEXTS, HISTORY = ("from_run", "data_dir", "checksum_of_networks"), "examples", "history"
DIGITS = 7
# Else the first of several commands on a GPU takes all of its memory, and each starts a thread on every core.
SHARED_GPU = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
THREADS = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")
_at_work: set[subprocess.Popen] = set()
_stopping = threading.Event()


class Step(NamedTuple):
    """A command of a trial."""

    module: str
    arguments: list[str]  # with those that say where it reads and writes
    folder: pathlib.Path  # where it writes
    clock: pathlib.Path  # is told how long it runs


def steps(trial: Trial, work: pathlib.Path) -> Iterator[Step]:
    """The commands of a trial in folders of their own; what trials have in common at their beginning is run once.

    Networks of a trial that only trains, or whose other commands pick some, lie beside those of other label smoothing.
    """
    first = folder = None
    said, commands = "", trial.commands()
    clock = f"{trial.experiment.name}-{trial.name}.{CLOCK}"
    lie_together = len(commands) == 1 or trial.setting.picks
    of_any = dataclasses.replace(trial, arguments=SMOOTHING.sub("", trial.arguments)).commands()
    for i, (module, arguments) in enumerate(commands):
        _, words = (of_any if lie_together and i == 0 else commands)[i]
        said += f"{shlex.join([module, *words])}\n"
        if folder is None or "--resume" not in arguments:
            folder = work / f"{module.removeprefix('demos.')}-{zlib.crc32(said.encode()):08x}"
        if "--from" in arguments and first is not None:
            place = arguments.index("--from") + 1
            arguments = [*arguments[:place], str(first), *arguments[place + 1 :]]
        first = first or folder
        arguments = [*arguments, "--out", str(folder), *["--resume"] * _can_resume(module)]
        yield Step(module, arguments, folder, folder / clock)


def has_ended(step: Step, trial: Trial) -> bool:
    """Whether a step of a trial came to its end, this trial's or another experiment's of the same networks."""
    for clock in step.folder.glob(f"*-{trial.name}.{CLOCK}"):
        with contextlib.suppress(DamagedFile):  # which is said when the trial is run
            if records.read_json(clock, CLOCK_FIELDS).get("ended"):
                return True
    return False


def run_all(trials: Sequence[Trial], work: pathlib.Path, kept: Callable[[Trial], pathlib.Path], jobs: int) -> list[str]:
    """Runs trials, `jobs` at a time, and keeps their results; returns the labels of those that failed.

    Of several at a time each writes into a file of its own. Those that begin in the same folder wait for each other.
    """
    failed = []
    _stopping.clear()

    def one_by_one(queue: Sequence[Trial]) -> None:
        for trial in queue:
            try:
                status = run(trial, work, kept(trial), jobs)
                problem = f"failed with status {status}" if status else ""
            except (ValueError, OSError) as error:
                problem = f"failed: {error}"
            if _stopping.is_set():
                return
            if problem:
                failed.append(trial.label)
                print(f"{trial.label} {problem.rstrip('.')}; the others go on.", file=sys.stderr, flush=True)
            elif jobs > 1:
                print(f"{trial.label}: done", flush=True)

    if jobs == 1:
        one_by_one(trials)
        return failed
    queues: dict[pathlib.Path, list[Trial]] = {}
    for trial in trials:
        queues.setdefault(next(steps(trial, work)).folder, []).append(trial)
    jobs = min(jobs, len(queues)) or 1  # what is not run beside others has all cores
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for done in as_completed([pool.submit(one_by_one, queue) for queue in queues.values()]):
                done.result()
        except BaseException:
            _stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(_at_work):
                process.terminate()
            raise
    return failed


def run(trial: Trial, work: pathlib.Path, kept: pathlib.Path, jobs: int = 1) -> int:
    """Runs a trial, one of `jobs`, and keeps its results; returns the status of the first command that failed, or 0."""
    found: dict[pathlib.Path, str] = {}
    planned = list(steps(trial, work))
    log = work / f"{trial.experiment.name}-{trial.name}.log" if jobs > 1 else None
    for step in planned:
        where = f" > {log}" if log else ""
        print(f"\n{trial.label}: python -m {shlex.join([step.module, *step.arguments])}{where}", flush=True)
        status = run_command([sys.executable, "-m", step.module, *step.arguments], step.clock, log, jobs)
        if status:
            return status
        found[step.folder] = step.module
    results = [small(records.read_json(_results_file(*each), RESULTS)) for each in found.items()]
    clocks = {step.clock for step in planned}
    times = [records.read_json(clock, CLOCK_FIELDS) for clock in sorted(clocks)]
    seconds = sum(told["seconds"] for told in times)
    facts = {"experiment": trial.experiment.name, "scale": trial.scale, "trial": trial.name, "commands": trial.said()}
    commits = dict.fromkeys(commit for told in times for commit in told.get("code", []))
    spent = {"seconds": round(seconds, 1), "machine": machine(jobs), "code": ", ".join(commits) or None}
    records.write_json(kept, {**facts, **spent, "results": results})
    return 0


def run_command(command: list[str], clock: pathlib.Path, log: pathlib.Path | None = None, jobs: int = 1) -> int:
    """Runs a command, which ends with this process.

    `clock` is told how long it runs, the commit of the code, sessions before included, and whether it came to its end.
    One of several `jobs` writes into `log`, and has its share of the cores.
    """
    told: dict[str, Any] = records.read_json(clock, CLOCK_FIELDS) if clock.exists() else {"seconds": 0.0}
    before, commits = told["seconds"], [*told.get("code", [])]
    if (commit := code()) not in (None, *commits):
        commits.append(commit)
    start, status = time.monotonic(), None
    with contextlib.ExitStack() as stack:
        output: dict[str, Any] = {}
        if log:
            log.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(log, "ab"))
            threads = dict.fromkeys(THREADS, str(max(1, devices.cores() // jobs)))
            output = {"stdout": file, "stderr": subprocess.STDOUT, "env": threads | os.environ | SHARED_GPU}
        process = stack.enter_context(subprocess.Popen(command, **output))
        _at_work.add(process)
        stack.callback(_at_work.discard, process)
        try:
            if _stopping.is_set():
                process.terminate()
            while status is None:
                try:
                    status = process.wait(SECONDS_BETWEEN_NOTES)
                except subprocess.TimeoutExpired:
                    pass
                finally:
                    spent = {"seconds": before + time.monotonic() - start, "code": commits}
                    records.write_json(clock, spent | {"ended": status == 0})
        except BaseException:
            process.terminate()
            raise
    return status


def machine(jobs: int = 1) -> str:
    """The processor that this process runs on, and the cores that each of so many jobs has."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores, share = os.cpu_count() or 1, max(1, devices.cores() // jobs)
    shown = f"{cores}" if share == cores else f"{share} of {cores}"
    return f"{names[0] if names else platform.processor() or platform.machine()}, {shown} cores"


def code() -> str | None:
    """The commit of the checkout, followed by "-dirty" if files have changed since; None outside a checkout."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(describe, cwd=pathlib.Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


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
