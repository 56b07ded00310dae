"""What temperature, beam width and length do to trained translators: what demos.translation.calibration does."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from demos.kit.options import Chosen
from demos.sequence import lists, sweep, tokens_in_plane
from demos.sequence.search import Searcher
from demos.sequence.sweep import Sweep
from demos.translation.analysis import RULE, data, earlier, significance
from demos.translation.network import Translator

PERCENT = ("bleu", "chrf", "length_ratio")


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that was decided before measuring starts."""

    sweep: Sweep
    classes: list[int]  # the ids of the tokens that are drawn


def plan(options: Chosen) -> Plan:
    """Finds the networks of the run and its data, which must be what they were trained on."""
    data.sacrebleu()
    out = pathlib.Path(options.run)
    tokens = earlier.tokens(out)
    planned = sweep.plan(options, Translator, tokens, lambda: earlier.read_data(out, tokens, options.data_dir))
    labels = np.concatenate(planned.split.token_ids)
    return Plan(planned, tokens_in_plane.choose(labels, tokens, options.tokens))


def run(plan: Plan) -> None:
    """Measures and draws."""
    translations: dict[int, list[tuple[dict[str, float], list[str]]]] = {}  # of each seed

    def measure(searcher: Searcher, trial: dict[str, Any]) -> dict[str, Any]:
        options, split = plan.sweep.options, plan.sweep.split
        of_temperature = trial["temperature"]
        best = of_temperature["temperature"][int(np.argmax(of_temperature["bleu"]))]
        for temperature in dict.fromkeys((best, 1.0)):
            texts = split.search(searcher, options.beam_width, temperature, options.length_penalty)
            how = {"label_smoothing": trial["label_smoothing"], "temperature": temperature}
            translations.setdefault(trial["seed"], []).append((how, texts))
        return {
            "lists": lists.measure(searcher, split, options.n_best, options.temperatures),
            "tokens": tokens_in_plane.measure(searcher.model, split, plan.sweep.data.tokens, plan.classes),
        }

    trials = sweep.run(plan.sweep, measure)
    compared = significance.by_seed(translations, plan.sweep.split.references)
    parts = {"evaluation": RULE, "trials": trials, "significance": compared}
    sweep.publish_results(
        plan.sweep, "demos.translation.calibration", parts, table, figure, ("lists.png", "tokens.png")
    )


def table(results: dict[str, Any]) -> str:
    """The means over the seeds: tables against temperature, width and penalty; the lists; the tokens' clusters."""
    trials = results["trials"]
    compared = significance.table(results["significance"])
    return "\n\n".join([*sweep.tables(trials), compared, lists.table(trials), tokens_in_plane.table(trials)])


def figure(results: dict[str, Any]) -> list[Any]:
    """Figure 4 against temperature, width and penalty; the reliability of lists; Figure 7."""
    trials = results["trials"]
    return [*sweep.figures(results["series"], PERCENT), lists.figure(trials), tokens_in_plane.figure(trials)]
