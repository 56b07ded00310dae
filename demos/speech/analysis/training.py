"""Recognisers trained once for each label smoothing and seed: what demos.speech.train does."""

from typing import Any

import keras

from demos.kit import cli, devices, measures, smoothing
from demos.kit.epochs import in_epochs
from demos.kit.measures import Column
from demos.kit.options import Chosen
from demos.kit.runs import publish
from demos.kit.smoothing import Comparison
from demos.sequence import evaluation, tokenizers, training
from demos.speech.analysis import PACKAGES, RULE, data, earlier
from demos.speech.analysis.evaluation import MEASURES, SCORES, best_on_dev
from demos.speech.corpora.batches import tensorflow_io, training_batches
from demos.speech.networks import objective, recipe
from demos.speech.networks.recipe import Computing

figure = smoothing.reliability
MONITORED_UTTERANCES = 48
KIND = training.Kind(
    build=objective.build,
    make_objective=objective.make_objective,
    batches=lambda split, how, seed, step: training_batches(
        split.features, split.token_ids, how.batch_size, seed, step, how.augment
    ),
    first=lambda split: split.first(MONITORED_UTTERANCES),
    score="wer",
    scores=SCORES,
    computing=Computing,
)


def plan(options: Chosen) -> Comparison:
    """Settles how networks are trained, makes the features, and opens the output directory."""
    recipe.settle(options)
    training.check(options)
    if keras.backend.backend() == "torch":
        raise ValueError("KERAS_BACKEND must be tensorflow or jax to train on speech. Received: torch.")
    if options.fused_output and options.smoothing_kind == "neighbourhood":
        raise ValueError("--fused-output needs --smoothing-kind uniform or unigram. Received: neighbourhood.")
    for package, purpose in PACKAGES.items():
        cli.optional(package, purpose, extra="speech")
    how = recipe.choose(options, 1)
    devices.check(how)
    if how.augment:
        tensorflow_io()
    found = data.load(options)
    training.say_skipped(found, "utterances")
    train = found.splits["train"].features
    how = recipe.choose(options, len(train))
    settled = in_epochs(how, len(train), "utterances", options.steps_per_execution)
    utterances = {name: len(split.features) for name, split in found.splits.items()}
    comparison = smoothing.prepare(options, found, settled, "runs/speech", utterances=utterances)
    tokenizers.write(comparison.run.out / "tokens.json", found.tokens)
    earlier.write_features(comparison.run.out, train, options)
    return comparison


def run(experiment: Comparison) -> dict[str, Any]:
    """Trains, evaluates and reports; returns what results.json holds."""
    found = experiment.data
    hours = found.splits["train"].features.num_frames.sum() / 360_000
    trials = training.train(experiment, KIND, f"{experiment.recipe.batch_size} utterances of {hours:.2f} h")
    results = experiment.results(
        "demos.speech.train",
        evaluation=RULE,
        skipped=found.skipped,
        trials=trials,
        **of_trials(trials),
        pictures=["reliability.png"],
    )
    return publish(experiment.run, results, table, figure, "results.txt")


def of_trials(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """The summary, the series, and the choice by the development split, of trained networks."""
    summary = measures.summarize(trials, MEASURES)
    return {"best_on_dev": best_on_dev(summary), "summary": summary, "series": smoothing.pooled_curves(trials)}


def table(results: dict[str, Any]) -> str:
    """The means over the seeds, one row per label smoothing, and which is best on the development split."""
    columns = (
        *evaluation.TOKEN_COLUMNS,
        Column("greedy WER %", "greedy_wer", 2, 100),
        Column("CER %", "greedy_cer", 2, 100),
        Column(f"beam {results['settings']['beam_width']} WER %", "beam_wer", 2, 100),
        Column("CER %", "beam_cer", 2, 100),
        Column("dev WER %", "dev_beam_wer", 2, 100),
    )
    text = measures.table(results["summary"], columns)
    if len(results["summary"]) > 1:
        text += f"\n\nLowest WER on the development split: α = {results['best_on_dev']:g}."
    return text
