"""Reproduces the tables and figures of "When Does Label Smoothing Help?", and compares our results with its claims."""

import argparse
import dataclasses
import functools
import pathlib
import signal
import sys
import tempfile
from typing import NamedTuple

from demos.kit import cli
from demos.kit.options import Chosen, Group, Output, option
from demos.kit.runs import open_run
from demos.kit.values import count
from demos.reproduce import estimate, report, running
from demos.reproduce.experiment import SCALES, TITLES, Trial, names, trials
from demos.reproduce.kept import kept_of, path_of, usable

EPILOG = f"""
scales:
{chr(10).join(f"  {name:<6} {about}" for name, about in SCALES.items())}

Each experiment is a file of demos/reproduce/experiments. It is cut into trials, and what a trial measured is kept as a
small JSON file when it ends. The report is made of these files, so that they can come from different days and machines.
--resume goes on with the trials in --out that have no result yet; without it they are moved aside with what is there,
results that lie in --out included, and all is trained anew. Trials with results in another directory, which --results
names, are not run again.
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """What is run."""

    only: tuple[str, ...] = option(
        (),
        f"tables and figures ({', '.join(TITLES)}) or experiments, which --list names",
        shown="all",
        choices=(*TITLES, *names()),
        metavar="NAME",
        unique=True,
    )
    scale: str = option("smoke", "see below", choices=SCALES)
    trials: int | None = option(None, "run at most N trials that have no result yet", count)
    jobs: int = option(1, "trials to run at a time; of several each writes its output to a file in work/", count)
    results: str | None = option(
        None, "directory where results of trials are kept and looked for", shown="results in --out", metavar="DIR"
    )
    list: bool = option(False, "list the trials and exit", action="store_true")
    report_only: bool = option(False, "write the report from the results there are; run nothing", action="store_true")


GROUPS = (Group("what to run", Options), Group("output", Output, shown={"out": "runs/reproduce/SCALE"}))


class Plan(NamedTuple):
    """What is to be done."""

    options: Chosen
    only: tuple[str, ...]
    out: pathlib.Path
    results: pathlib.Path
    trials: list[Trial]  # at the scale


def parser() -> cli.Parser:
    """The command line."""
    formatter = argparse.RawDescriptionHelpFormatter
    made = cli.Parser("python -m demos.reproduce", description=__doc__, epilog=EPILOG, formatter_class=formatter)
    for group in GROUPS:
        group.add_to(made)
    return made


def main(argv: list[str] | None = None) -> int:
    """Runs, and writes the report; returns the exit status (1 if a trial failed, 2 for bad arguments)."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the demo at work is ended, too
    return cli.execute(parser(), argv, plan, run)


def plan(given: argparse.Namespace) -> Plan:
    """Finds the trials, and takes hold of the output directory where something is run."""
    options = Chosen(GROUPS, vars(given))
    only, scale = options.only or tuple(TITLES), options.scale
    out = pathlib.Path(options.out or f"runs/reproduce/{scale}")
    results = pathlib.Path(options.results or out / "results")
    found = trials(scale, only)
    if not found:
        at = [name for name in SCALES if trials(name, only)]
        raise ValueError(f"--only {' '.join(only)} is not at --scale {scale}, but at {' and '.join(at) or 'none'}.")
    alone = "--report-only" if options.report_only else "--list"
    idle = [name for name in ("list", "trials", "jobs", "resume") if name in options.given() and f"--{name}" != alone]
    if idle and (options.report_only or options.list):
        raise ValueError(f"--{idle[0]} does nothing with {alone}: leave it out.")
    if options.report_only and not any(path_of(trial, results).exists() for trial in found):
        raise ValueError(f"--report-only needs results of --scale {scale} in {results}, where there are none.")
    if not options.list and not options.report_only:
        if options.results:
            check_writable(results)
        open_run(out, {"scale": scale}, options.resume)
    return Plan(options, only, out, results, found)


def check_writable(results: pathlib.Path) -> None:
    """Refuses a directory in which nothing could be kept, before hours are spent on it."""
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=results):
            pass
    except OSError as error:
        raise ValueError(f"--results {results} cannot be written: {error.strerror}.") from error


def run(plan: Plan) -> int:
    """Does it; a trial that fails leaves the others alone."""
    failed: list[str] = []
    if not plan.options.report_only:
        todo = [trial for trial in plan.trials if usable(trial, plan.results) is None]
        if plan.options.list:
            list_trials(plan, todo)
            return 0
        todo, kept = todo[: plan.options.trials], functools.partial(path_of, results=plan.results)
        announce(todo, plan)
        failed = running.run_all(todo, plan.out / "work", kept, plan.options.jobs)
    for path in report.write(plan.results, plan.options.scale, plan.only, plan.out):
        print(f"Report: {path}")
    if failed:
        print(f"Failed: {', '.join(failed)}. The same command with --resume tries again.", file=sys.stderr)
    return int(bool(failed))


def list_trials(plan: Plan, todo: list[Trial]) -> None:
    """Prints all trials, with what they take, and which are there."""
    rows = [["trial", "minutes", "on", "state"]]
    there = are_there(todo, plan.out / "work")
    for trial in plan.trials:
        minutes, machine = minutes_of(trial, there), trial.setting.machine
        kept = None if trial in todo else kept_of(trial, plan.results)
        if kept is not None:
            minutes, machine = kept["seconds"] / 60, kept["machine"]
        took = ["", ""] if minutes is None else [f"{minutes:.0f}", machine]
        rows.append([trial.label, *took, "to do" if trial in todo else "there"])
    print(cli.aligned(rows))


def announce(todo: list[Trial], plan: Plan) -> None:
    """Says what is to come and how long it takes: where nobody has run it, as short runs tell."""
    print(f"{len(todo)} trials to do at the scale {plan.options.scale}, in {plan.out}.", flush=True)
    there = are_there(todo, plan.out / "work")
    known = [minutes for trial in todo if (minutes := minutes_of(trial, there)) is not None]
    if known:
        print(f"About {sum(known):g} minutes in all on the machines that --list names.")
    told: dict[str, float | str] = {}  # of first commands, which several trials may have in common
    for trial in (trial for trial in todo if trial.setting.minutes is None):
        first = trial.setting.commands.partition("\n")[0]
        if trial.label in there:
            print(f"{trial.label}: no training, its networks are there by then", flush=True)
            continue
        if first not in told:
            told[first] = estimate.hours(trial)
        hours = told[first]
        about = f"about {hours:.1f} hours here" if isinstance(hours, float) else f"no estimate: {hours}"
        print(f"{trial.label}: {about}", flush=True)


def are_there(todo: list[Trial], work: pathlib.Path) -> set[str]:
    """The labels of trials whose networks were trained before, or are by those that come before them."""
    found, trained = set(), set()
    for trial in todo:
        step = next(running.steps(trial, work))
        if tuple(step.arguments) in trained or running.has_ended(step, trial):
            found.add(trial.label)
        trained.add(tuple(step.arguments))
    return found


def minutes_of(trial: Trial, there: set[str]) -> float | None:
    """What a trial takes, about; None if nobody knows."""
    setting = trial.setting
    return setting.minutes if trial.label not in there or setting.once_trained is None else setting.once_trained


if __name__ == "__main__":
    raise SystemExit(main())
