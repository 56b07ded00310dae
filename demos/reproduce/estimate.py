"""How long a trial would take here, from two short runs of its first command."""

import pathlib
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping

from demos.kit import records
from demos.reproduce.experiment import Trial

SHORT, LONG = 100, 400  # steps of each network in the two runs


def hours(trial: Trial) -> float | str:
    """Hours of the trial's updates, without measuring and searching, or why they cannot be told."""
    module, arguments = trial.commands()[0]
    updates = trial.setting.updates
    of_kinds = updates if isinstance(updates, Mapping) else {"": updates}
    seconds: list[list[float]] = []
    for steps in (SHORT, LONG):
        with tempfile.TemporaryDirectory() as folder:
            short = shlex.split(trial.setting.short.format(steps=steps))
            command = [sys.executable, "-m", module, *arguments, *short, "--out", f"{folder}/run"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                return (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
            found = [records.read_json(path, {"seconds": float}) for path in pathlib.Path(folder).rglob("result.json")]
            alike = [[each["seconds"] for each in found if each.get("name", "").startswith(kind)] for kind in of_kinds]
            seconds.append([statistics.mean(of_kind) for of_kind in alike])
    # The difference is of steps alone, since building, compiling and evaluating take as long in both. Where it is lost
    # in their noise, all of the longer run is a bound.
    in_all = 0.0
    for short, long, times in zip(*seconds, of_kinds.values(), strict=True):
        in_all += times * ((long - short) / (LONG - SHORT) if long > short else long / LONG)
    return in_all / 3600
