"""Networks of an earlier run, taken as they are: the run's settings, its data and its models, checked on the way."""

import dataclasses
import pathlib
from typing import Any

import keras_ls
from demos.image import data
from demos.image.data.common.images import ImageData
from demos.image.recipes import Recipe
from demos.kit import checkpoints, records, runs
from demos.kit.options import Chosen
from demos.kit.smoothing import directory, finished

SETTINGS = {"dataset": str, "noise": (float, None), "model": str, "steps": int, "data": dict}


class EarlierRun:
    """The output directory of a demo that trains one network for each label smoothing and seed.

    All methods, the constructor included, raise ValueError if what they look at does not fit.
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
        """Sets options to what the run has: its data, its recipe, and all seeds that each label smoothing finished."""
        for name in sorted(self.settings.keys() & options.settings().keys() - {"from_run"}):
            mine, theirs = getattr(options, name), self.settings[name]
            if name in options.given() and mine != theirs:
                option = "--" + name.replace("_", "-")
                raise ValueError(f"{option} {mine} does not fit {self.path}, which has {theirs}; leave it out.")
            setattr(options, name, theirs)
        found, alphas = finished(self.path), options.label_smoothing
        if "seeds" not in options.given():
            common = set.intersection(*({seed for a, seed in found if a == alpha} for alpha in alphas))
            options.seeds = sorted(common)
        wanted = {(alpha, seed) for alpha in alphas for seed in options.seeds}
        if not wanted or not wanted <= set(found):
            held = ", ".join(f"α={alpha:g} seed={seed}" for alpha, seed in found) or "no network at all"
            asked = f"α={' '.join(f'{alpha:g}' for alpha in alphas)}"
            seeds = f" with seeds {' '.join(map(str, options.seeds))}" if options.seeds else ""
            raise ValueError(f"{self.path} lacks networks for {asked}{seeds}. It holds: {held}.")

    def load(self, options: Chosen) -> tuple[ImageData, Recipe]:
        """What the networks were trained on, and how."""
        images = data.load_chosen(options)
        differences = runs.differences(self.settings["data"], images.fingerprint)
        if differences:
            raise ValueError(f"{self.path} was trained on other data than is here: {differences}.")
        names = {field.name for field in dataclasses.fields(Recipe)}
        return images, Recipe(**{name: value for name, value in self.settings.items() if name in names})

    def check_network(self, alpha: float, seed: int, num_classes: int, triples: list[tuple[int, ...]]) -> None:
        """Looks for the result of a network, and for the planes in it that are asked for."""
        self.result(alpha, seed)
        folder = self.path / directory(alpha, seed)
        templates = keras_ls.class_templates(checkpoints.load_network(folder))
        try:
            if len(templates) != num_classes:
                raise ValueError(f"it has {len(templates)} classes, the data {num_classes}")
            for ids in triples:
                keras_ls.ClassPlane(templates[list(ids)])
        except ValueError as error:
            raise ValueError(f"{folder / 'model.keras'} cannot be used: {error}") from error

    def result(self, alpha: float, seed: int) -> dict[str, Any]:
        """The result of a network, its accuracy on held-out images among it."""
        return records.read_json(self.path / directory(alpha, seed) / "result.json", {"accuracy": float})
