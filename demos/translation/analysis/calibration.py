"""What temperature, beam width and length do to trained translators: what demos.translation.calibration does."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

import keras_ls
from demos.kit.options import Chosen
from demos.kit.pictures import network_name
from demos.kit.runs import Run, publish
from demos.sequence import lists, sweep, tokens_in_plane
from demos.sequence.earlier import Trained, trained_networks
from demos.sequence.search import Searcher
from demos.translation.analysis import RULE, data, earlier
from demos.translation.analysis.data import Sentences
from demos.translation.network import Translator

SWEPT = ("temperatures", "beam_widths", "length_penalties", "beam_width", "length_penalty", "n_best", "split")
AGAINST = (*sweep.AGAINST, "length_penalty")
PERCENT = ("bleu", "chrf")


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that was decided before measuring starts."""

    options: Chosen  # the command line
    networks: list[tuple[Trained, Translator]]
    data: data.Data  # what they were trained on
    classes: list[int]  # the ids of the tokens that are drawn


def plan(options: Chosen) -> Plan:
    """Finds the networks of the run and its data, which must be what they were trained on."""
    data.sacrebleu()
    for name in ("temperatures", "beam_widths", "length_penalties"):
        setattr(options, name, sorted(getattr(options, name)))
    out = pathlib.Path(options.run)
    tokens = earlier.tokens(out)
    networks = [(each, each.load(Translator, tokens)) for each in trained_networks(out, {})]
    found = earlier.read_data(out, tokens, options.data_dir)
    labels = np.concatenate(found.splits[options.split].target_ids)
    classes = tokens_in_plane.choose(labels, tokens, options.tokens)
    pathlib.Path(options.out or out).mkdir(parents=True, exist_ok=True)
    return Plan(options, networks, found, classes)


def run(plan: Plan) -> None:
    """Measures and draws."""
    options, split = plan.options, plan.data.splits[plan.options.split]
    print(f"{plan.data.name}: {len(split.references)} sentences of {options.split}, {len(plan.networks)} models.")
    trials = [measure(plan, *each, split) for each in plan.networks]
    results = {
        "experiment": "demos.translation.calibration",
        "title": f"{plan.data.name}, {options.split} split, {len(plan.networks)} models",
        "evaluation": RULE,
        "trials": trials,
        "summary": [],
        "series": {against: sweep.curves(trials, against) for against in AGAINST},
        "pictures": [*(f"{against}.png" for against in AGAINST), "lists.png", "tokens.png"],
    }
    settings = {**{name: getattr(options, name) for name in SWEPT}, "data": plan.data.fingerprint}
    out = pathlib.Path(options.out or options.run)
    publish(Run(out, settings), results, table, figure, "calibration.txt", "calibration.json")


def measure(plan: Plan, trained: Trained, network: Translator, split: Sentences) -> dict[str, Any]:
    """All numbers of a network."""
    options, alpha = plan.options, trained.label_smoothing
    searcher = Searcher(network, plan.data.tokens, plan.data.max_length)
    label = f"{network_name(alpha)}, seed {trained.seed}"
    widths = (options.temperatures, options.beam_widths, options.beam_width, options.length_penalty)
    return {
        "label_smoothing": alpha,
        "seed": trained.seed,
        **sweep.sweep(searcher, split, *widths, label),
        "length_penalty": by_penalty(searcher, split, options, label),
        "lists": lists.measure(searcher, split, options.n_best, options.temperatures),
        "tokens": tokens_in_plane.measure(network, split, plan.data.tokens, plan.classes),
    }


def by_penalty(searcher: Searcher, split: Sentences, options: Chosen, label: str) -> dict[str, list[float]]:
    """BLEU, chrF and the translations' length over the references', against the length penalty."""
    rows = []
    for penalty in options.length_penalties:
        texts = split.search(searcher, options.beam_width, 1.0, penalty)
        ratio = data.bleu().corpus_score(texts, [split.references]).ratio
        rows.append({"length_penalty": penalty, **split.error_rates(texts), "length_ratio": ratio})
        print(f"{label}: length penalty {penalty:g}: BLEU {100 * rows[-1]['bleu']:.2f}", flush=True)
    return {key: [row[key] for row in rows] for key in rows[0]}


def table(results: dict[str, Any]) -> str:
    """The means over the seeds: tables against temperature, width and penalty; the lists; the tokens' clusters."""
    trials = results["trials"]
    swept = [sweep.table(trials, against) for against in AGAINST]
    return "\n\n".join([*swept, lists.table(trials), tokens_in_plane.table(trials)])


def figure(results: dict[str, Any]) -> list[Any]:
    """Figure 4 against temperature, width and penalty; the reliability of lists; Figure 7."""
    curves = [
        keras_ls.beam_temperature_curves(results["series"][against], against=against, percent=PERCENT)
        for against in AGAINST
    ]
    return [*curves, lists.figure(results["trials"]), tokens_in_plane.figure(results["trials"])]
