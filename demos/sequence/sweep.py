"""Temperature, beam width and length penalty swept over, for all networks of a run: text scores and calibration."""

import contextlib
import dataclasses
import functools
import itertools
import json
import pathlib
import shlex
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import keras_ls
from demos.kit import cli, measures, records, smoothing
from demos.kit.errors import DamagedFile
from demos.kit.measures import Column, by_smoothing, calibration
from demos.kit.options import Chosen
from demos.kit.pictures import network_name
from demos.kit.runs import Run, lock, provenance, publish
from demos.sequence import monitor
from demos.sequence.earlier import Trained, trained_networks
from demos.sequence.evaluation import Split, measured, next_tokens
from demos.sequence.options import SWEEP_RULE
from demos.sequence.search import Searcher
from demos.sequence.tokenizers import Tokens
from demos.sequence.training import Data

CALIBRATION = ("ece", "nll")
NEXT_TOKENS = "next_tokens"  # their reliability; sweeps of earlier versions lack it
# Measures that are not written in capitals.
HEADINGS = {"chrf": "chrF", "length_ratio": "length"}
AGAINST = ("temperature", "beam_width", "length_penalty")
# The options of what is swept over; a demo may leave out the last.
SWEPT = ("temperatures", "beam_widths", "length_penalties")
Search = Callable[[int, float, float], list[str]]  # width, temperature and length penalty to the texts of a split
# Holds what was measured of each network until all are, so that a sweep that was stopped goes on.
MEASURED = "measured"
LOCK = ".sweep.lock"  # not that of the run, in which more networks may be trained meanwhile
KEPT = {"depends": dict, "trial": {"label_smoothing": float, "seed": int, "temperature": dict}}


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The networks of a run, and what they are measured on."""

    options: Chosen  # the command line
    networks: list[tuple[Trained, Any]]
    data: Data  # what they were trained on

    @property
    def out(self) -> pathlib.Path:
        """Where results go."""
        return pathlib.Path(self.options.out or self.options.run)

    def kept(self, trained: Trained) -> tuple[pathlib.Path, dict[str, Any]]:
        """Where what is measured of a network is kept until all are, and what it depends on."""
        depends = records.to_json({**self.options.settings(), "network": trained.result, **provenance()})
        name = f"{trained.folder.parent.name}-{trained.folder.name}"
        return self.out / MEASURED / f"{name}-{checksum(depends)}.json", depends

    @property
    def split(self) -> Split:
        """What is measured on."""
        return self.data.splits[self.options.split]


def plan(
    options: Chosen,
    kind: Any,
    fields: dict[str, Any],
    read_tokens: Callable[[pathlib.Path], Tokens],
    load: Callable[[pathlib.Path, Any], Data],
) -> Sweep:
    """Loads the networks, of the class or classes `kind`, and then, in their tokens, what they were trained on.

    `fields` are as `trained_networks` takes them.
    """
    for name in SWEPT:
        if hasattr(options, name):
            setattr(options, name, sorted(set(getattr(options, name))))
    out = pathlib.Path(options.run)
    trained = trained_networks(out, fields)
    tokens = read_tokens(out)
    networks = [(each, each.load(kind, tokens)) for each in trained]
    planned = Sweep(options, networks, load(out, tokens))
    lock(planned.out, LOCK)
    return planned


def run(
    planned: Sweep, more: Callable[[Searcher, Search, dict[str, Any]], dict[str, Any]] = lambda *_: {}
) -> list[dict[str, Any]]:
    """Sweeps with each network, or finds what an earlier command measured; `more` makes further numbers of it."""
    options, found, trials = planned.options, planned.data, []
    examples = len(planned.split.references)
    print(f"{found.name}: {examples} examples of the {options.split} split, {models(len(planned.networks))}.")
    for trained, network in planned.networks:
        label = f"{network_name(trained.label_smoothing)}, seed {trained.seed}"
        kept, depends = planned.kept(trained)
        earlier = records.read_json(kept, KEPT) if kept.exists() else {}
        if earlier.get("depends") == depends:
            print(f"{label}: measured before", flush=True)
            trials.append(earlier["trial"])
            continue
        searcher = Searcher(network, found.tokens, found.max_tokens)
        search = functools.cache(functools.partial(planned.split.search, searcher))  # each way once
        swept = sweep(searcher, search, planned.split, options, label, trained.result["temperature"])
        facts = {"label_smoothing": trained.label_smoothing, "seed": trained.seed, **swept}
        trials.append(records.to_json({**facts, **more(searcher, search, facts)}))
        records.write_json(kept, {"depends": depends, "trial": trials[-1]})
    return trials


def checksum(values: Any) -> str:
    """Eight characters that other values would most likely not have."""
    return f"{zlib.crc32(json.dumps(records.to_json(values)).encode()):08x}"


def models(number: int) -> str:
    """So many models, in words."""
    return f"{number} model{'s' if number > 1 else ''}"


def publish_results(
    planned: Sweep, demo: str, parts: dict[str, Any], table: Any, figure: Any, pictures: Sequence[str] = ()
) -> None:
    """Writes the results of a demo, its table and its pictures.

    Of the pictures those of the sweep are first, then come those of `pictures` that trials have numbers for, and what
    `reliabilities` gives is last. They are shown in TensorBoard, too. The JSON file of an earlier sweep that had other
    options, or with --out was of other networks, is renamed; its table and pictures are written over.
    """
    options, trials, name = planned.options, parts["trials"], demo.rpartition(".")[2]
    networks = [trained.result for trained, _ in planned.networks]
    pictures = [picture for picture in pictures if all(trial.get(picture) for trial in trials)]
    series = of_trials(trials)["series"]
    results = {
        "experiment": demo,
        "title": f"{planned.data.name}, {options.split} split, {models(len(trials))}",
        "evaluation": SWEEP_RULE.format(split=options.split),
        **parts,
        "summary": [],
        "series": series,
        "pictures": [f"{name}.png" for name in (*series, *pictures, *[NEXT_TOKENS] * _has_curves(trials))],
    }
    # Another training may have taken the place of the one that an earlier sweep was of.
    source = {"from_run": str(pathlib.Path(options.run).resolve()), "checksum_of_networks": checksum(networks)}
    run = Run(planned.out, {**options.settings(), **(source if options.out else {}), "data": planned.data.fingerprint})
    set_aside(run.out / f"{name}.json", records.to_json(run.settings))
    results = publish(run, results, table, figure, f"{name}.txt", f"{name}.json", networks)
    monitor.show([run.out / picture for picture in results["pictures"]], run.out / name)
    for trained, _ in planned.networks:
        planned.kept(trained)[0].unlink(missing_ok=True)


def set_aside(path: pathlib.Path, settings: dict[str, Any]) -> None:
    """Renames the results of an earlier sweep, which took long to measure, unless it had the same settings."""
    if not path.exists():
        return
    with contextlib.suppress(DamagedFile):
        if records.read_json(path, {"settings": dict})["settings"] == settings:
            return
    places = (path.with_stem(f"{path.stem}.{number}") for number in itertools.count(1))
    place = next(place for place in places if not place.exists())
    path.rename(place)
    again = f"python -m demos.redraw {shlex.quote(str(place))} --out DIR draws its pictures in a directory of their own"
    print(f"Note: what an earlier sweep found is now {place.name}; {again}.", flush=True)


def of_trials(sweeps: list[dict[str, Any]]) -> dict[str, Any]:
    """The series of swept networks."""
    return {"series": {against: curves(sweeps, against) for against in AGAINST if against in sweeps[0]}}


def sweep(searcher: Searcher, search: Search, split: Split, options: Any, label: str, fitted: float) -> dict[str, Any]:
    """Scores of texts and calibration of a model against temperature, and the scores against the rest.

    Also the curves of its next tokens, as they are and at the `fitted` temperature, and of how many examples they are.

    The `temperatures` and `length_penalties` of the options are tried with their `beam_width`, all but the temperatures
    at temperature 1. `search` finds the texts of `split`; lines of progress begin with `label`.
    """
    beam_width, length_penalty = options.beam_width, options.length_penalty
    logits, labels = next_tokens(searcher, split)

    @functools.cache  # what is usual belongs to all three sweeps
    def scores(temperature: float, width: int, penalty: float) -> dict[str, float]:
        found = split.text_scores(search(width, temperature, penalty))
        name, score = next(iter(found.items()))
        where = f"T = {temperature:g}, width {width}" + f", length penalty {penalty:g}" * (penalty != length_penalty)
        print(f"{label}: {where}: {name.upper()} {100 * score:.2f} %", flush=True)
        return found

    swept: dict[str, list[dict[str, float]]] = {against: [] for against in AGAINST}
    for temperature in options.temperatures:
        numbers = calibration(logits / temperature, labels)
        of_tokens = {name: numbers[name] for name in CALIBRATION}
        found = scores(temperature, beam_width, length_penalty)
        swept["temperature"].append({"temperature": temperature, **found, **of_tokens})
    for width in options.beam_widths:
        swept["beam_width"].append({"beam_width": width, **scores(1.0, width, length_penalty)})
    for penalty in getattr(options, "length_penalties", ()):
        swept["length_penalty"].append({"length_penalty": penalty, **scores(1.0, beam_width, penalty)})
    at = zip(smoothing.CURVES, (1.0, fitted), strict=True)
    return {
        **{against: _as_lists(rows) for against, rows in swept.items() if rows},
        NEXT_TOKENS: {name: calibration(logits / t, labels)["curve"] for name, t in at},
        "measured_examples": len(measured(split, searcher.tokens.size)),
    }


def curves(sweeps: list[dict[str, Any]], against: str) -> dict[str, dict[str, Any]]:
    """The sweeps as `keras_ls.beam_temperature_curves` takes them: one line per α, over its seeds."""
    names = smoothing.legend(sweeps)
    return {
        names[alpha]: {
            key: values if key == against else [each[against][key] for each in group]
            for key, values in group[0][against].items()
        }
        for alpha, group in by_smoothing(sweeps).items()
    }


def tables(sweeps: list[dict[str, Any]]) -> list[str]:
    """`table` against everything that was swept over."""
    return [table(sweeps, against) for against in AGAINST if against in sweeps[0]]


def figures(series: dict[str, Any], percent: Sequence[str]) -> list[Any]:
    """Figure 4 against everything that was swept over; the measures called `percent` are shown so."""
    return [
        keras_ls.beam_temperature_curves(lines, against=against, percent=percent) for against, lines in series.items()
    ]


def reliabilities(results: dict[str, Any]) -> list[Any]:
    """Figure 3, or nothing of sweeps of earlier versions."""
    if not _has_curves(results["trials"]):
        return []
    curves = smoothing.pooled_curves([trial | trial[NEXT_TOKENS] for trial in results["trials"]])
    return [smoothing.reliability({**results, "series": curves})]


def _has_curves(trials: list[dict[str, Any]]) -> bool:
    return all(NEXT_TOKENS in trial for trial in trials)


def table(sweeps: list[dict[str, Any]], against: str) -> str:
    """Means ± standard deviations over the seeds as text, a row per temperature or width; scores in percent."""
    lines = curves(sweeps, against)
    x = next(iter(lines.values()))[against]
    columns = [[against.replace("_", " "), *(f"{value:g}" for value in x)]]
    for name, quantities in lines.items():
        for key, of_seeds in quantities.items():
            if key == against:
                continue
            is_score = key not in CALIBRATION
            title = f"{name}: {HEADINGS.get(key, key.upper())}{' %' if is_score else ''}"
            column = Column(title, key, *((2, 100) if is_score else (4,)))
            found = (measures.mean_and_sd(values) for values in zip(*of_seeds, strict=True))
            columns.append([title, *(measures.shown(number, column) for number in found)])
    return cli.aligned([list(row) for row in zip(*columns, strict=True)])


def _as_lists(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    return {name: [row[name] for row in rows] for name in rows[0]}
