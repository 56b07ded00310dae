"""Trains attention recognisers on hard and on smoothed targets, and measures their words and their confidence.

Table 1 of the paper for speech: next-token accuracy, NLL and calibration, and word error rates of greedy and of beam
search, for each label smoothing.
"""

import argparse
import pathlib
import sys
import textwrap
from typing import Any

import keras

import keras_ls
from demos.kit import cli, measures, records
from demos.kit.cli import execute
from demos.kit.pictures import network_name
from demos.kit.runs import provenance
from demos.sequence.search import Searcher
from demos.speech.analysis import arguments, evaluation, runs
from demos.speech.analysis.evaluation import Utterances
from demos.speech.analysis.monitor import SpeechMonitor

EPILOG = f"""
{textwrap.fill(evaluation.RULE, 110)}

The default run makes its own corpus: sentences of numbers, dates, names and commands, spoken by eSpeak NG. Test
sentences and their voices' settings are in no other split. It takes about 5 minutes on two cores.
"""
MONITORED_UTTERANCES = 48
LOOKS = 5


def main(argv: list[str] | None = None) -> int:
    """Runs the demo; returns the exit status (2 for bad arguments or data, 1 for training that diverged)."""
    return execute(make_parser(), argv, runs.prepare, run)


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.Parser(
        prog="python -m demos.speech.train",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_arguments(parser)
    return parser


def run(experiment: runs.Experiment) -> dict[str, Any]:
    """Trains, evaluates and reports; returns what results.json holds."""
    options, out = experiment.options, experiment.out
    print(experiment.describe(), flush=True)
    results = [
        runs.train_and_evaluate(experiment, alpha, seed, monitor)
        for seed in options.seeds
        for alpha in options.label_smoothing
    ]
    summary = evaluation.summarize(results)
    best = evaluation.best_on_dev(summary)
    report = {
        "settings": experiment.settings,
        "label_smoothing": options.label_smoothing,
        "seeds": options.seeds,
        "evaluation": evaluation.RULE,
        "skipped": experiment.data.skipped,
        "best_on_dev": best,
        **provenance(),
        "summary": summary,
        "runs": results,
    }
    records.write_json(out / "results.json", report)
    draw(results, out / "reliability.png", experiment.title())
    spread = " (mean ± s.d.)" if len(options.seeds) > 1 else ""
    print(f"\n{experiment.title()}{spread}\n\n{evaluation.table(summary, options.beam_width)}\n")
    if len(summary) > 1:
        print(f"Lowest WER on the development split: α = {best:g}.")
    print(f"Results: {out / 'results.json'}\nReliability diagrams: {out / 'reliability.png'}")
    print(f"tensorboard --logdir {out}", flush=True)
    return report


def monitor(experiment: runs.Experiment, searcher: Searcher, folder: pathlib.Path) -> keras.callbacks.Callback:
    """Looks at some of the development split a few times in a training."""
    dev, epochs = experiment.data.splits["dev"], experiment.recipe.epochs
    beyond = {i: "" for i in range(MONITORED_UTTERANCES, len(dev.features))}
    some = Utterances(dev.features.without(beyond, skip_bad=True), dev.token_ids[:MONITORED_UTTERANCES])
    return SpeechMonitor(searcher, some, folder, epochs, max(1, epochs // LOOKS), "wer")


def draw(results: list[dict[str, Any]], path: pathlib.Path, title: str) -> None:
    """Draws the reliability of next-token predictions, over all seeds, before and after temperature scaling."""
    curves = {}
    for alpha, group in measures.by_smoothing(results).items():
        name = network_name(alpha)
        curves[name] = measures.pool(result["curve"] for result in group)
        if alpha == 0:
            curves[f"{name}, scaled"] = measures.pool(result["curve_scaled"] for result in group)
    axes = keras_ls.reliability_diagram(curves)
    axes.set_title(title)
    axes.figure.savefig(path, bbox_inches="tight")


if __name__ == "__main__":
    sys.exit(main())
