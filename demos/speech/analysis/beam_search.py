"""Temperature and beam width swept over for every recogniser of a run: what demos.speech.beam_search does."""

import pathlib
from typing import Any

import keras_ls
from demos.kit import cli
from demos.kit.options import Chosen
from demos.kit.pictures import network_name
from demos.kit.runs import Run, publish
from demos.sequence import sweep, tokenizers
from demos.sequence.earlier import Trained, trained_networks
from demos.sequence.search import Searcher
from demos.speech.analysis import PACKAGES, RULE, data, earlier
from demos.speech.networks.recognisers import Recogniser

Planned = tuple[Chosen, list[tuple[Trained, Recogniser]], data.Data]
SWEPT = ("temperatures", "beam_widths", "beam_width", "length_penalty", "split")
PERCENT = ("wer", "cer")


def plan(options: Chosen) -> Planned:
    """Finds the networks of the run and its data, which must be what they were trained on."""
    cli.optional("jiwer", PACKAGES["jiwer"], extra="speech")
    for name in ("temperatures", "beam_widths"):
        setattr(options, name, sorted(set(getattr(options, name))))
    out = pathlib.Path(options.run)
    trained = trained_networks(out, {})
    tokens = tokenizers.read(out / "tokens.json")
    networks = [(each, each.load(earlier.RECOGNISERS, tokens)) for each in trained]
    of_run = earlier.read_options(out)
    for name in ("data_dir", "cache_dir", "workers"):
        if getattr(options, name) is not None:
            setattr(of_run, name, getattr(options, name))
    found = data.load(of_run, tokens, of_run.data)
    pathlib.Path(options.out or out).mkdir(parents=True, exist_ok=True)
    return options, networks, found


def run(planned: Planned) -> None:
    """Sweeps and draws."""
    options, networks, found = planned
    split = found.splits[options.split]
    print(f"{found.name}: {len(split.features)} utterances of the {options.split} split, {len(networks)} models.")
    how = (options.temperatures, options.beam_widths, options.beam_width, options.length_penalty)
    trials = []
    for trained, network in networks:
        alpha, seed = trained.label_smoothing, trained.seed
        searcher = Searcher(network, found.tokens, found.max_tokens)
        swept = sweep.sweep(searcher, split, *how, f"{network_name(alpha)}, seed {seed}")
        trials.append({"label_smoothing": alpha, "seed": seed, **swept})
    results = {
        "experiment": "demos.speech.beam_search",
        "title": f"{found.name}, {options.split} split, {len(networks)} models",
        "evaluation": RULE,
        "trials": trials,
        "summary": [],
        "series": {against: sweep.curves(trials, against) for against in sweep.AGAINST},
        "pictures": [f"{against}.png" for against in sweep.AGAINST],
    }
    settings = {**{name: getattr(options, name) for name in SWEPT}, "data": found.fingerprint}
    out = pathlib.Path(options.out or options.run)
    publish(Run(out, settings), results, table, figure, "beam_search.txt", "beam_search.json")


def table(results: dict[str, Any]) -> str:
    """The means over the seeds: one table against temperature, one against the width of the beam."""
    return "\n\n".join(sweep.table(results["trials"], against) for against in sweep.AGAINST)


def figure(results: dict[str, Any]) -> list[Any]:
    """Figure 4, once against temperature and once against the width of the beam."""
    return [
        keras_ls.beam_temperature_curves(results["series"][against], against=against, percent=PERCENT)
        for against in sweep.AGAINST
    ]
