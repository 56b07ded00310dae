"""Networks trained once for each label smoothing and seed: what the demos that compare them have in common."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import keras

import keras_ls
from demos.kit import measures, pictures
from demos.kit.options import Chosen
from demos.kit.pictures import network_name
from demos.kit.runs import Run, check_apart, open_run
from demos.kit.trials import Trial

SPREAD = " (mean ± s.d.)"
CURVES = ("curve", "curve_scaled")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """All that was decided before training starts."""

    options: Chosen  # the command line
    data: Any  # what is learned; it has a name and a fingerprint
    recipe: Any  # how; it has a model, the name of the network
    run: Run  # where results go

    @property
    def networks(self) -> list[tuple[float, int]]:
        """Label smoothing and seed of each network."""
        return [(alpha, seed) for seed in self.options.seeds for alpha in self.options.label_smoothing]

    def trial(self, alpha: float, seed: int, **parts: Any) -> Trial:
        """The training of a network; `parts` are the fields of `Trial` in which demos differ."""
        facts = {"label_smoothing": alpha, "seed": seed}
        epochs = {"steps_per_epoch": self.recipe.steps_per_epoch, "epochs": self.recipe.epochs}
        return Trial(directory(alpha, seed), seed, facts, label=f"α={alpha:g} seed={seed}", **epochs, **parts)

    def results(self, demo: str, **parts: Any) -> dict[str, Any]:
        """What results.json of a demo holds, besides what `runs.publish` adds."""
        seeds = self.options.seeds
        title = f"{self.data.name}, {self.recipe.model}, {seeds_in_words(seeds)}{SPREAD * (len(seeds) > 1)}"
        common = {"title": title, "label_smoothing": self.options.label_smoothing, "seeds": seeds}
        return {"experiment": demo, **common, **parts}


def prepare(options: Chosen, data: Any, recipe: Any, parent: str, **settings: Any) -> Comparison:
    """Opens the output directory as `open_run` does; `settings` add to or replace those of options, recipe and data.

    The backend is among them, since each draws random numbers of its own; runs of earlier versions that do not name
    theirs may go on with any.
    """
    backend = {"backend": keras.backend.backend()}
    settings = {**options.settings(), **dataclasses.asdict(recipe), "data": data.fingerprint, **backend, **settings}
    out = output_directory(options, data, recipe, parent)
    run = open_run(out, settings, options.resume, options.defaults() | backend, options.free())
    return Comparison(options, data, recipe, run)


def output_directory(options: Chosen, data: Any, recipe: Any, parent: str) -> pathlib.Path:
    """Where the command line wants its results, apart from its data: `parent`/DATA-MODEL unless --out says so."""
    out = pathlib.Path(options.out or f"{parent}/{data.name}-{recipe.model}")
    if not options.resume:  # which moves nothing aside
        check_apart(out, {f"--{name}-dir": getattr(options, f"{name}_dir", None) for name in ("data", "cache")})
    return out


def directory(alpha: float, seed: int) -> str:
    """The directory of a network in its run."""
    return f"alpha-{alpha!r}/seed-{seed}"


def finished(out: pathlib.Path) -> list[tuple[float, int]]:
    """Label smoothing and seed of each network in a run that is trained and has its result, in order."""
    found = [path.parent for path in out.glob("alpha-*/seed-*/model.keras") if (path.parent / "result.json").is_file()]
    return sorted((float(p.parent.name.removeprefix("alpha-")), int(p.name.removeprefix("seed-"))) for p in found)


def seeds_in_words(seeds: Sequence[int]) -> str:
    """How many seeds there are."""
    return "1 seed" if len(seeds) == 1 else f"{len(seeds)} seeds"


def legend(trials: list[dict[str, Any]]) -> dict[float, str]:
    """What networks are called in legends, by α, with the number of their seeds where that of others differs."""
    seeds = {alpha: [each["seed"] for each in group] for alpha, group in measures.by_smoothing(trials).items()}
    alike = len(set(map(len, seeds.values()))) == 1
    return {alpha: network_name(alpha) + f", {seeds_in_words(each)}" * (not alike) for alpha, each in seeds.items()}


def pooled_curves(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The reliability curves of all seeds together, before and after temperature scaling, for JSON."""
    return [
        {"label_smoothing": alpha}
        | {name: measures.curve_to_json(measures.pool(each[name] for each in group)) for name in CURVES}
        for alpha, group in measures.by_smoothing(trials).items()
    ]


def reliability(results: dict[str, Any], scaled: str = "scaled") -> Any:
    """The picture of `pooled_curves`; that of hard targets is there after temperature scaling, too, called `scaled`.

    The calibration errors in its legend are those of pooled predictions, at most the mean of those of the seeds.
    """
    curves, names = {}, legend(results["trials"])
    for row in results["series"]:
        name = names[row["label_smoothing"]]
        curves[name] = measures.curve_from_json(row["curve"])
        if row["label_smoothing"] == 0:
            curves[f"{name}, {scaled}"] = measures.curve_from_json(row["curve_scaled"])
    axes = keras_ls.reliability_diagram(curves)
    pooled = ", predictions pooled" if len({trial["seed"] for trial in results["trials"]}) > 1 else ""
    axes.set_title(pictures.plain(results["title"].removesuffix(SPREAD) + pooled))
    return axes.figure
