"""Networks of an earlier run, taken as they are: the run's settings, its data and its models, checked on the way."""

import argparse
import dataclasses
import json
import pathlib
from typing import Any

import keras

import keras_ls
from demos.image import runs, training
from demos.image.datasets import ImageData


def given(parser: argparse.ArgumentParser, argv: list[str] | None) -> set[str]:
    """The names of the options that stand on the command line."""
    absent: list[Any] = []  # a list, which options that may be repeated copy and add to
    names = vars(parser.parse_args(argv))
    values = vars(parser.parse_args(argv, argparse.Namespace(**dict.fromkeys(names, absent))))
    return {name for name, value in values.items() if value is not absent}


class EarlierRun:
    """The output directory of a demo that trains one network for each label smoothing and seed.

    Args:
        path: the directory.

    Raises:
        ValueError: where it is none.
    """

    def __init__(self, path: str):
        self.path = pathlib.Path(path)
        try:
            self.settings: dict[str, Any] = json.loads((self.path / "settings.json").read_text(encoding="utf-8"))
            missing = [name for name in ("dataset", "noise", "model", "steps", "data") if name not in self.settings]
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(
                f"--from must be an output directory of demos.image.calibration, with settings.json in it. "
                f"Received: {path} ({error})."
            ) from error
        if missing:
            raise ValueError(f"{path}/settings.json is of another demo: it lacks {', '.join(missing)}.")

    def settle(self, options: argparse.Namespace, given: set[str]) -> None:
        """Sets the options that say what a network is trained on, and how, to the run's.

        Raises:
            ValueError: where one of those `given` on the command line is another.
        """
        names = self.settings.keys() & vars(options).keys() - runs.FREE_SETTINGS - {"from_run"}
        for name in sorted(names):
            mine, theirs = getattr(options, name), self.settings[name]
            if name in given and mine != theirs:
                option = "--" + name.replace("_", "-")
                raise ValueError(f"{option} {mine} does not fit {self.path}, which has {theirs}; leave it out.")
            setattr(options, name, theirs)

    def recipe(self) -> training.Recipe:
        """How the networks were trained."""
        names = {field.name for field in dataclasses.fields(training.Recipe)}
        return training.Recipe(**{name: value for name, value in self.settings.items() if name in names})

    def check_data(self, data: ImageData) -> None:
        """Refuses data that the networks were not trained on."""
        now, then = data.fingerprint(), self.settings["data"]
        differences = [f"{key} was {then.get(key)}, is {value}" for key, value in now.items() if then.get(key) != value]
        if differences:
            raise ValueError(f"{self.path} was trained on other data than is here: {'; '.join(differences)}.")

    def choose(self, options: argparse.Namespace, given: set[str]) -> None:
        """Makes `options.seeds`, unless given, all that the run finished for each label smoothing.

        Raises:
            ValueError: where a network that is asked for is not there.
        """
        found = self._networks()
        if "seeds" not in given:
            common = set.intersection(*({s for a, s in found if a == alpha} for alpha in options.label_smoothing))
            options.seeds = sorted(common)
        options.seeds = list(dict.fromkeys(options.seeds))
        wanted = {(alpha, seed) for alpha in options.label_smoothing for seed in options.seeds}
        if not wanted or not wanted <= found:
            held = ", ".join(f"α={alpha:g} seed={seed}" for alpha, seed in sorted(found)) or "no network at all"
            asked = f"α={' '.join(f'{alpha:g}' for alpha in options.label_smoothing)}"
            seeds = f" with seeds {' '.join(map(str, options.seeds))}" if options.seeds else ""
            raise ValueError(f"{self.path} lacks networks for {asked}{seeds}. It holds: {held}.")

    def check_networks(self, options: argparse.Namespace, data: ImageData, triples: list[tuple[int, ...]]) -> None:
        """Loads each network and looks for the planes that are asked for."""
        for alpha in options.label_smoothing:
            for seed in options.seeds:
                path = runs.directory(self.path, alpha, seed) / "model.keras"
                try:
                    templates = keras_ls.class_templates(keras.models.load_model(path, compile=False))
                    if len(templates) != data.num_classes:
                        raise ValueError(f"it has {len(templates)} classes, the data {data.num_classes}")
                    for ids in triples:
                        keras_ls.ClassPlane(templates[list(ids)])
                except Exception as error:  # a broken file fails in many ways: zip, HDF5, JSON, an unknown layer
                    raise ValueError(f"{path} cannot be used: {error}") from error

    def _networks(self) -> set[tuple[float, int]]:
        found = set()
        for path in self.path.glob("alpha-*/seed-*/model.keras"):
            if (path.parent / "result.json").is_file():
                alpha, seed = (folder.name.partition("-")[2] for folder in (path.parent.parent, path.parent))
                found.add((float(alpha), int(seed)))
        return found
