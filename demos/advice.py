"""Counts how often the diagnosis of hard-target networks predicts what label smoothing then does."""

import importlib
import pathlib
from typing import Any

from demos.kit import cli, records
from demos.kit.errors import DamagedFile

FIELDS = {"trials": [{"label_smoothing": float, "seed": int}]}


def main(argv: list[str] | None = None) -> int:
    """Counts; returns the exit status (2 for a file that cannot be used)."""
    parser = cli.Parser(prog="python -m demos.advice", description=__doc__)
    parser.add_argument("files", nargs="+", help="results.json of demos that trained without and with label smoothing")
    parser.add_argument("--out", metavar="FILE", default="advice.json", help="JSON of all rows (default: advice.json)")
    return cli.execute(parser, argv, plan, run)


def plan(options: Any) -> tuple[pathlib.Path, list[dict[str, Any]]]:
    """Where to, and the rows of all files."""
    advice = importlib.import_module("demos.reproduce.advice")
    rows = []
    for name in options.files:
        path = pathlib.Path(name)
        results = records.read_json(path, FIELDS)
        try:
            found = advice.outcomes(results)
        except (KeyError, TypeError) as error:
            raise DamagedFile(f"{path} is damaged: {type(error).__name__} {error}.") from error
        except ValueError as error:
            raise ValueError(f"{path} cannot be used: {error}.") from error
        rows += [{"data": path.parent.name, **row} for row in found]
    return pathlib.Path(options.out), rows


def run(planned: tuple[pathlib.Path, list[dict[str, Any]]]) -> None:
    """Writes the rows and prints the table."""
    out, rows = planned
    advice = importlib.import_module("demos.reproduce.advice")
    records.write_json(out, {"rule": advice.RULE, "rows": rows, "counts": advice.counts(rows)})
    print(f"{advice.table(rows)}\n\n{advice.RULE}\n\nResults: {out}")


if __name__ == "__main__":
    raise SystemExit(main())
