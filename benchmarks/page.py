"""The page of all results, made from their files alone."""

import importlib
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
from typing import Any

from benchmarks import harness
from demos.reproduce.running import code

PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "scipy", "optax", "torchmetrics", "netcal", "probmetrics")
PACKAGES += ("keras-hub",)
HEAD = """# Benchmarks

Written by `python -m benchmarks` from `benchmarks/results/`; every number stands below the command that measured it.
`pip install -e ".[benchmarks,demos,translation]"` installs what it measures, the peers included. Cases take turns, each
in a process of its own; times are medians of the rounds, ratios medians of the rounds' ratios. Memory is the rise of
the process's high-water mark, which the kernel keeps, during one call.

The second table of a subject has the bounds that we set ourselves. *reached* is what was measured, *at most* the bound,
and the last column says whether it *holds* or was *missed*. The measures *time* and *memory* are ratios to the case
compared with (memory without such a case is in the unit of the first table), *beyond* compares only the memory above
one such unit, (memory − 1) / (memory of the other case − 1), and *seconds* is a difference.
"""


def machine(device: str) -> dict[str, Any]:
    """Where numbers come from: processor, cores, versions."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    found = {"processor": _processor(), "cores": os.cpu_count(), "python": platform.python_version()}
    return {**found, "device": device, "versions": versions, "code": code()}


def subject(name: str) -> harness.Subject:
    """The subject of a file of this folder."""
    return importlib.import_module(f"benchmarks.{name}").SUBJECT


def page(results: pathlib.Path) -> str:
    """The whole page."""
    sections = [
        section(file.stem.rpartition("-")[0], json.loads(file.read_text("utf-8")))
        for file in sorted(results.glob("*.json"))
    ]
    return "\n".join([HEAD, *(sections or ["No results have been kept yet.\n"])])


def section(name: str, results: dict[str, Any]) -> str:
    """One subject as Markdown."""
    about = subject(name)
    size = ", ".join(f"{key} {_count(value)}" for key, value in results["size"].items())
    where = results["machine"]
    versions = ", ".join(f"{package} {version}" for package, version in where["versions"].items())
    commit = f"; commit {where['code']}" if where.get("code") else ""
    lines = [
        f"## {about.title}",
        "",
        f"{about.about} {f'Sizes: {size}.' if size else ''}".strip(),
        "",
        f"    {results['command']}",
        "",
    ]
    lines += [f"{where['processor']}, {where['cores']} cores, Python {where['python']}; {versions}{commit}.", ""]
    lines += [*_cases(results, about.unit), ""]
    for table in (_bounds(results["bounds"]), _growth(results["growth"], about.unit)):
        lines += [*table, ""] if table else []
    lines += [about.notes, ""] if about.notes else []
    return "\n".join(lines)


def _cases(results: dict[str, Any], unit: str) -> list[str]:
    measured = {name: case for name, case in results["cases"].items() if "seconds" in case}
    facts = list(dict.fromkeys(key for case in measured.values() for key in case["facts"]))
    rows = [["case", "median", "fastest", *([f"memory (× {unit})"] if unit else []), *facts]]
    for name, case in measured.items():
        row = [name, _time(statistics.median(case["seconds"])), _time(min(case["seconds"]))]
        row += [f"{case['memory']:.2f}"] if unit else []
        rows.append(row + [f"{case['facts'][key]:.6g}" if key in case["facts"] else "" for key in facts])
    missing = [f"Left out: {name} ({case['missing']})." for name, case in results["cases"].items() if "missing" in case]
    return [*_table(rows), *(["", *missing] if missing else [])]


def _bounds(bounds: list[dict[str, Any]]) -> list[str]:
    rows = [["case", "compared with", "measure", "reached", "at most", ""]]
    for bound in bounds:
        reached, at_most = bound["reached"], bound["at_most"]
        verdict = "not measured" if reached is None else "holds" if reached <= at_most else "missed"
        unit = " s" if bound["measure"] == "seconds" else " ×"
        shown = "" if reached is None else f"{reached:.2f}{unit}"
        rows.append([bound["case"], bound["peer"], bound["measure"], shown, f"{at_most:.2f}{unit}", verdict])
    return _table(rows) if bounds else []


def _growth(growth: list[dict[str, Any]], unit: str) -> list[str]:
    rows = [["case", "size", "median", *([f"memory (× {unit})"] if unit else [])]]
    for point in growth:
        row = [point["case"], f"{point['size']} {_count(point['value'])}", _time(point["seconds"])]
        rows.append(row + ([f"{point['memory']:.2f}"] if unit else []))
    return _table(rows) if growth else []


def _table(rows: list[list[str]]) -> list[str]:
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return [head, "|" + " --- |" * len(rows[0]), *body]


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def _processor() -> str:
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"
