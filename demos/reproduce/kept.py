"""What trials kept, read back: the results of each experiment at a scale, and the rows that numbers are taken from."""

import dataclasses
import pathlib
import sys
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from demos.kit import drawing, records
from demos.kit.errors import DamagedFile
from demos.reproduce import running
from demos.reproduce.experiment import Experiment, Trial, trials

# How networks may differ from those whose hard targets they are compared with
OF_SMOOTHING = ("smoothing_kind",)


@dataclasses.dataclass
class Found:
    """What there is of an experiment at a scale."""

    experiment: Experiment
    scale: str
    kept: list[dict[str, Any]] = dataclasses.field(default_factory=list)  # of the trials that ended
    missing: list[Trial] = dataclasses.field(default_factory=list)  # that did not
    compared: list[dict[str, Any]] = dataclasses.field(default_factory=list)  # of `experiment.hard_targets`

    def rows(self) -> Iterator[dict[str, Any]]:
        """What results say of each network, and of each seed, with the demo that says it and the run's settings."""
        yield from self.own_rows()
        results = [each for kept in self.compared for each in kept["results"]]
        yield from (row for row in rows_of_networks(results) if row["label_smoothing"] == 0)

    def own_rows(self) -> Iterator[dict[str, Any]]:
        """The same of the experiment's own networks."""
        results = [each for kept in self.kept for each in kept["results"]]
        yield from rows_of_networks(results)
        of_demos: dict[str, list[dict[str, Any]]] = {}
        for each in results:
            if "margins" in each:
                of_demos.setdefault(each["experiment"], []).append(each)
        for demo, found in of_demos.items():
            # Together, since the γ of all seeds say which points count.
            all_seeds = drawing.of_networks(found, self.experiment.name)
            for curve, margin in all_seeds["margins"].items():
                for seed, value in zip(all_seeds["seeds"], margin["each"], strict=True):
                    yield {"curve": curve, "seed": seed, "margin": value, "demo": demo}
                for point in margin["at"]:
                    of_point = {"curve": curve, "demo": demo, "temperature": point["temperature"]}
                    for seed, value in zip(all_seeds["seeds"], point["each"], strict=True):
                        yield of_point | {"seed": seed, "margin_there": value}

    def drawn(self, demo: str) -> list[dict[str, Any]]:
        """The results of a demo, after those of hard targets that are another experiment's."""
        others = [results for kept in self.compared for results in kept["results"] if results["experiment"] == demo]
        hard = [each | {"trials": [row for row in each["trials"] if row["label_smoothing"] == 0]} for each in others]
        return [*(each for each in hard if each["trials"]), *self.of_demo(demo)]

    def of_demo(self, demo: str) -> list[dict[str, Any]]:
        """The results of a demo, one for each trial."""
        return [results for kept in self.kept for results in kept["results"] if results["experiment"] == demo]


def rows_of_networks(results: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What results say of each network, with the demo that says it and the run's settings."""
    for each in results:
        yield from (each["settings"] | row | {"demo": each["experiment"]} for row in each["trials"])


def path_of(trial: Trial, results: pathlib.Path) -> pathlib.Path:
    """Where the results of a trial are kept."""
    return results / trial.scale / trial.experiment.name / f"{trial.name}.json"


def kept_of(trial: Trial, results: pathlib.Path) -> dict[str, Any] | None:
    """What was kept of a trial; None if nothing was, or only what other commands gave than it has now."""
    path = path_of(trial, results)
    if not path.exists():
        return None
    kept = records.read_json(path, running.KEPT)
    if kept["commands"] != trial.said():
        return None
    if {each["experiment"] for each in kept["results"]} != {module for module, _ in trial.commands()}:
        raise DamagedFile(f"{path} is damaged: its results are not those of the experiment's demos.")
    return kept


def usable(trial: Trial, results: pathlib.Path) -> dict[str, Any] | None:
    """As `kept_of`; None if it is damaged, too, which is said."""
    try:
        return kept_of(trial, results)
    except DamagedFile as error:
        print(f"What was kept of {trial.label} cannot be used: {error}", file=sys.stderr, flush=True)
        return None


def read(results: pathlib.Path, scale: str, only: Collection[str]) -> list[Found]:
    """What was kept of all experiments at a scale, in the order of their names."""
    found: dict[str, Found] = {}
    kept_at: dict[pathlib.Path, dict[str, Any] | None] = {}
    first: dict[tuple[str, str], tuple[pathlib.Path, dict[str, Any]]] = {}
    for trial in trials(scale, only):
        there = found.setdefault(trial.experiment.name, Found(trial.experiment, scale))
        kept = kept_at[path_of(trial, results)] = usable(trial, results)
        if kept is None:
            there.missing.append(trial)
            continue
        there.kept.append({**kept, "trial": trial.name, "arguments": trial.arguments})
        path = path_of(trial, results)
        check_alike(*first.setdefault((trial.experiment.name, trial.kind), (path, kept)), path, kept)
    for there in found.values():
        for trial in trials(scale, [there.experiment.hard_targets]):
            path = path_of(trial, results)
            kept = kept_at[path] if path in kept_at else usable(trial, results)
            if kept is not None:
                there.compared.append(kept)
                if (alike := first.get((there.experiment.name, trial.kind))) is not None:
                    check_alike(*alike, path_of(trial, results), kept, OF_SMOOTHING)
    return [found[name] for name in sorted(found)]


def check_alike(
    path: pathlib.Path,
    kept: dict[str, Any],
    other_path: pathlib.Path,
    other: dict[str, Any],
    but: Collection[str] = (),
) -> None:
    """It is a DamagedFile if the settings of two kept trials, which ought to be alike but for some, are not."""
    others = {each["experiment"]: each for each in other["results"]}
    for one in kept["results"]:
        another = others.get(one["experiment"], one)
        # Settings of some results lack the backend.
        there, here = ({**each["settings"], "backend": each["provenance"].get("backend")} for each in (one, another))
        for name in (there.keys() & here.keys()) - set(but):
            if there[name] != here[name]:
                raise DamagedFile(
                    f"{other_path} is of other networks than {path}: its {name} is {here[name]}, not {there[name]}. "
                    "Delete one of them, and run it again."
                )
