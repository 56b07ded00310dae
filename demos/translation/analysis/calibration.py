"""What temperature, beam width and length do to trained translators: what demos.translation.calibration does."""

import collections
import functools
from typing import Any

import numpy as np

from demos.kit.options import Chosen
from demos.sequence import lists, sweep, tokens_in_plane
from demos.sequence.search import Searcher
from demos.sequence.sweep import Sweep
from demos.sequence.translator import Translator
from demos.translation.analysis import earlier, scores

PERCENT = ("bleu", "chrf", "length_ratio")
TEXTS = "texts"  # what a network found at its best temperature, and at 1


def plan(options: Chosen) -> tuple[Sweep, list[int]]:
    """Finds the networks of the run and its data, which must be what they were trained on, and the tokens to draw."""
    scores.sacrebleu()
    load = functools.partial(earlier.read_data, data_dir=options.data_dir)
    planned = sweep.plan(options, Translator, {"dev_beam_bleu": float}, earlier.tokens, load)
    labels = np.concatenate(planned.split.token_ids)
    return planned, tokens_in_plane.choose(labels, planned.data.tokens, options.tokens)


def run(plan: tuple[Sweep, list[int]]) -> None:
    """Measures and draws."""
    planned, classes = plan

    def measure(searcher: Searcher, search: sweep.Search, trial: dict[str, Any]) -> dict[str, Any]:
        options, split = planned.options, planned.split
        names = ("bleu", "chrf", "temperature")  # BLEU is 0 for all where sentences are short
        tried = zip(*map(trial["temperature"].get, names), strict=True)
        best = max(tried, key=lambda row: (*row[:2], -abs(np.log(row[2]))))[-1]  # of equals the one nearest to 1
        temperatures = dict.fromkeys((best, 1.0))
        return {
            TEXTS: {t: search(options.beam_width, t, options.length_penalty) for t in temperatures},
            "lists": lists.measure(searcher, split, options.n_best, options.temperatures),
            "tokens": tokens_in_plane.measure(searcher.model, split, planned.data.tokens, classes),
        }

    trials = sweep.run(planned, measure)
    translations = collections.defaultdict(list)  # of each seed
    for trial in trials:
        for temperature, texts in trial.pop(TEXTS).items():
            how = {"label_smoothing": trial["label_smoothing"], "temperature": float(temperature)}
            translations[trial["seed"]].append((how, texts))
    compared = scores.by_seed(translations, planned.split.references)
    parts = {"trials": trials, "significance": compared, "signatures": scores.signatures()}
    sweep.publish_results(planned, "demos.translation.calibration", parts, table, figure, ("lists", "tokens"))


of_trials = sweep.of_trials


def table(results: dict[str, Any]) -> str:
    """The means over the seeds: tables against temperature, width and penalty; the lists; the tokens' clusters."""
    trials, compared = results["trials"], scores.table(results["significance"])
    return "\n\n".join([*sweep.tables(trials), compared, lists.table(trials), tokens_in_plane.table(trials)])


def figure(results: dict[str, Any]) -> list[Any]:
    """Figure 4 against temperature, width and penalty; the reliability of lists; Figures 7 and 3."""
    trials, drawn = results["trials"], sweep.figures(results["series"], PERCENT)
    return [*drawn, lists.figure(trials), *tokens_in_plane.figures(trials), *sweep.reliabilities(results)]
