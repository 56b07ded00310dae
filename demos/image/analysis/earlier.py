"""Networks of an earlier run, taken as they are: the run's settings, its data and its models, checked on the way."""

import dataclasses
import pathlib
from typing import Any

import keras_ls
from demos.image.analysis import smoothing
from demos.image.data.common.images import ImageData
from demos.image.recipes import Recipe
from demos.kit import checkpoints, records, runs
from demos.kit.options import Chosen

SETTINGS = {"dataset": str, "noise": (float, None), "model": str, "steps": int, "data": dict}


class EarlierRun:
    """The output directory of a demo that trains one network for each label smoothing and seed.

    Args:
        path: The directory.

    Raises:
        ValueError: If it is none.
    """

    def __init__(self, path: str):
        self.path = pathlib.Path(path)
        settings = self.path / "settings.json"
        try:
            self.settings: dict[str, Any] = records.read_json(settings)
        except ValueError as error:
            raise ValueError(
                f"--from must be an output directory of demos.image.calibration, with settings.json in it. "
                f"Received: {path} ({error})"
            ) from error
        missing = [name for name in SETTINGS if name not in self.settings]
        if missing:
            raise ValueError(f"{settings} is of another demo: it lacks {', '.join(missing)}.")
        records.read_json(settings, SETTINGS)

    def settle(self, options: Chosen) -> None:
        """Sets the options that say what a network is trained on, and how, to the run's.

        Raises:
            ValueError: If one of those given on the command line is another.
        """
        for name in sorted(self.settings.keys() & options.settings().keys() - {"from_run"}):
            mine, theirs = getattr(options, name), self.settings[name]
            if name in options.given() and mine != theirs:
                option = "--" + name.replace("_", "-")
                raise ValueError(f"{option} {mine} does not fit {self.path}, which has {theirs}; leave it out.")
            setattr(options, name, theirs)

    def recipe(self) -> Recipe:
        """How the networks were trained."""
        names = {field.name for field in dataclasses.fields(Recipe)}
        return Recipe(**{name: value for name, value in self.settings.items() if name in names})

    def check_data(self, images: ImageData) -> None:
        """Refuses data that the networks were not trained on."""
        differences = runs.differences(self.settings["data"], images.fingerprint())
        if differences:
            raise ValueError(f"{self.path} was trained on other data than is here: {differences}.")

    def choose(self, options: Chosen) -> None:
        """Makes `options.seeds`, unless given, all that the run finished for each label smoothing.

        Raises:
            ValueError: If a network that is asked for is not there.
        """
        found = self._networks()
        if "seeds" not in options.given():
            common = set.intersection(*({s for a, s in found if a == alpha} for alpha in options.label_smoothing))
            options.seeds = sorted(common)
        wanted = {(alpha, seed) for alpha in options.label_smoothing for seed in options.seeds}
        if not wanted or not wanted <= found:
            held = ", ".join(f"α={alpha:g} seed={seed}" for alpha, seed in sorted(found)) or "no network at all"
            asked = f"α={' '.join(f'{alpha:g}' for alpha in options.label_smoothing)}"
            seeds = f" with seeds {' '.join(map(str, options.seeds))}" if options.seeds else ""
            raise ValueError(f"{self.path} lacks networks for {asked}{seeds}. It holds: {held}.")

    def check_networks(self, options: Chosen, images: ImageData, triples: list[tuple[int, ...]]) -> None:
        """Loads each network and looks for the planes that are asked for."""
        for alpha in options.label_smoothing:
            for seed in options.seeds:
                folder = self.path / smoothing.name(alpha, seed)
                self.accuracy(alpha, seed)
                templates = keras_ls.class_templates(checkpoints.load_network(folder))
                try:
                    if len(templates) != images.num_classes:
                        raise ValueError(f"it has {len(templates)} classes, the data {images.num_classes}")
                    for ids in triples:
                        keras_ls.ClassPlane(templates[list(ids)])
                except ValueError as error:
                    raise ValueError(f"{folder / 'model.keras'} cannot be used: {error}") from error

    def accuracy(self, alpha: float, seed: int) -> float:
        """The accuracy of a network on held-out images."""
        return records.read_json(self.path / smoothing.name(alpha, seed) / "result.json", {"accuracy": float})[
            "accuracy"
        ]

    def _networks(self) -> set[tuple[float, int]]:
        found = set()
        for path in self.path.glob("alpha-*/seed-*/model.keras"):
            if (path.parent / "result.json").is_file():
                alpha, seed = (folder.name.partition("-")[2] for folder in (path.parent.parent, path.parent))
                found.add((float(alpha), int(seed)))
        return found
