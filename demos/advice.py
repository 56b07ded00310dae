"""Counts how often the diagnosis of hard-target networks predicts what label smoothing then does."""

import importlib
import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from demos.kit import cli, records
from demos.kit.errors import DamagedFile

RESULTS = {"title": str, "settings": dict, "trials": [{"label_smoothing": float, "seed": int}]}


class Run(NamedTuple):
    """Networks that were trained alike."""

    file: str  # the first that has some
    data: str  # what they learned
    trials: list[dict[str, Any]]  # their results


def main(argv: list[str] | None = None) -> int:
    """Counts; returns the exit status (2 for a file that cannot be used)."""
    parser = cli.Parser(prog="python -m demos.advice", description=__doc__)
    parser.add_argument(
        "files",
        nargs="+",
        help="results.json of demos that trained without and with label smoothing, or what demos.reproduce kept of "
        "them; runs that differ in their seeds alone are taken together, and label smoothing other than 0, 0.05 and "
        "0.1 is not looked at",
    )
    parser.add_argument("--out", metavar="FILE", default="advice.json", help="JSON of all rows (default: advice.json)")
    return cli.execute(parser, argv, plan, run)


def plan(options: Any) -> tuple[pathlib.Path, list[dict[str, Any]]]:
    """Where to, and the rows of all files."""
    advice = importlib.import_module("demos.reproduce.advice")
    rows = []
    for run in read(options.files):
        try:
            rows += [{"data": run.data, **row} for row in advice.outcomes(run.trials)]
        except (KeyError, TypeError) as error:
            raise DamagedFile(f"{run.file} is damaged: {type(error).__name__} {error}.") from error
        except ValueError as error:
            raise ValueError(f"{run.file} cannot be used: {error}.") from error
    return pathlib.Path(options.out), rows


def read(files: Sequence[str]) -> list[Run]:
    """The runs that files hold; those of the same settings are one."""
    found: dict[str, Run] = {}
    for file in files:
        path = pathlib.Path(file)
        if "results" in records.read_json(path):
            kept = records.read_json(path, {"trial": str, "results": [RESULTS]})
            if not kept["results"]:
                raise DamagedFile(f"{path} is damaged: it has no results.")
            results, data = kept["results"][0], named(kept["results"][0], kept["trial"])
        else:
            results, data = records.read_json(path, RESULTS), path.parent.name
        run = found.setdefault(json.dumps(results["settings"], sort_keys=True), Run(file, data, []))
        there = {(trial["label_smoothing"], trial["seed"]) for trial in run.trials}
        if any((trial["label_smoothing"], trial["seed"]) in there for trial in results["trials"]):
            raise ValueError(f"{file} has networks that {run.file} has, too.")
        run.trials.extend(results["trials"])
    return list(found.values())


def named(results: dict[str, Any], trial: str) -> str:
    """What the data of a kept trial are called: their name, and the trial's arguments that say more."""
    data = results["title"].partition(",")[0]
    more = re.sub(rf"^all$|dataset-{data}|seeds-\d+|label-smoothing(-[\d.]+)+", "", trial)
    return " ".join([data, *more.replace("-", " ").split()])


def run(planned: tuple[pathlib.Path, list[dict[str, Any]]]) -> None:
    """Writes the rows and prints the table."""
    out, rows = planned
    advice = importlib.import_module("demos.reproduce.advice")
    records.write_json(out, {"rule": advice.RULE, "rows": rows, "counts": advice.counts(rows)})
    print(f"{advice.table(rows)}\n\n{advice.RULE}\n\nResults: {out}")


if __name__ == "__main__":
    raise SystemExit(main())
