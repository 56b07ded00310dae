"""Draws the pictures of a results.json again, and prints its table; nothing is trained or measured."""

import pathlib
from typing import Any

from demos.__main__ import demos
from demos.kit import cli, drawing, pictures, records
from demos.kit.errors import DamagedFile

FIELDS = {"experiment": str, "title": str, "pictures": [str]}


def main(argv: list[str] | None = None) -> int:
    """Draws; returns the exit status (2 for a file that is no results.json)."""
    parser = cli.Parser(prog="python -m demos.redraw", description=__doc__)
    parser.add_argument("file", help="a results.json that a demo wrote, or the directory that holds it")
    parser.add_argument("--out", metavar="DIR", help="directory for the pictures (default: that of the file)")
    return cli.execute(parser, argv, plan, run)


def plan(options: Any) -> tuple[pathlib.Path, pathlib.Path, dict[str, Any]]:
    """The file, the directory of its pictures, and what it holds."""
    path = pathlib.Path(options.file)
    if path.is_dir():
        path /= "results.json"
    results = records.read_json(path, FIELDS)
    if results["experiment"] not in demos():
        raise DamagedFile(f"{path} is of no demo that is here: {results['experiment']!r}.")
    out = pathlib.Path(options.out) if options.out else path.parent
    out.mkdir(parents=True, exist_ok=True)
    return path, out, results


def run(planned: tuple[pathlib.Path, pathlib.Path, dict[str, Any]]) -> None:
    """Draws the pictures and prints the table."""
    path, out, results = planned
    text, figure = drawing.shown([results], path)
    files = [out / pathlib.Path(name).name for name in results["pictures"]]
    pictures.save(figure, files)
    print(f"{results['title']}\n\n{text}\n", *(f"Picture: {file}" for file in files), sep="\n")


if __name__ == "__main__":
    raise SystemExit(main())
