"""Recognisers trained once for each label smoothing and seed: what demos.speech.train does."""

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from demos.kit import cli, measures, records, smoothing
from demos.kit.epochs import in_epochs
from demos.kit.options import Chosen, Machine
from demos.kit.runs import device, publish
from demos.kit.smoothing import Comparison
from demos.kit.trials import History, Trial, run_trials
from demos.sequence.search import Searcher
from demos.sequence.tokenizers import END
from demos.speech.analysis import PACKAGES, RULE, data, earlier, evaluation
from demos.speech.analysis.evaluation import Utterances
from demos.speech.analysis.monitor import SpeechMonitor
from demos.speech.corpora.batches import tensorflow_io, training_batches
from demos.speech.networks import objective, recipe

MONITORED_UTTERANCES, LOOKS = 48, 5
figure = smoothing.reliability


def plan(options: Chosen) -> Comparison:
    """Settles how networks are trained, makes the features, and opens the output directory."""
    recipe.settle(options)
    if options.fused_output and options.smoothing_kind == "neighbourhood":
        raise ValueError("--fused-output needs --smoothing-kind uniform or unigram. Received: neighbourhood.")
    for package, purpose in PACKAGES.items():
        cli.optional(package, purpose, extra="speech")
    if recipe.choose(options, 1).augment:
        tensorflow_io()
    found = data.load(options)
    for name, split in found.splits.items():
        if lines := split.features.skipped:
            print(f"Skipped {len(lines)} bad utterances of the {name} split, the first: {lines[0]}")
    train = found.splits["train"].features
    how = recipe.choose(options, len(train))
    settled = in_epochs(how, len(train), "utterances", options.steps_per_execution)
    utterances = {name: len(split.features) for name, split in found.splits.items()}
    comparison = smoothing.prepare(options, found, settled, "runs/speech", utterances=utterances)
    records.write_json(comparison.run.out / "tokens.json", found.tokens.to_json())
    earlier.write_features(comparison.run.out, train, options.data_dir)
    return comparison


def run(experiment: Comparison) -> dict[str, Any]:
    """Trains, evaluates and reports; returns what results.json holds."""
    found, how = experiment.data, experiment.recipe
    sizes = ", ".join(f"{len(split.features)} {name}" for name, split in found.splits.items())
    hours = found.splits["train"].features.num_frames.sum() / 360_000
    print(
        f"{found.name}: {sizes} utterances, {hours:.2f} h to train on, {found.tokens.size} tokens. "
        f"{how.model}, {how.steps} steps of {how.batch_size}, on {device()}.",
        flush=True,
    )

    @functools.lru_cache(maxsize=1)  # what a search compiles serves the monitor and the evaluation
    def find(network: keras.Model) -> Searcher:
        return Searcher(network, found.tokens, found.max_tokens)

    trials = run_trials([trial(experiment, *each, find) for each in experiment.networks], experiment.run)
    summary = measures.summarize(trials, evaluation.MEASURES)
    results = experiment.results(
        "demos.speech.train",
        evaluation=RULE,
        skipped={name: split.features.skipped for name, split in found.splits.items()},
        best_on_dev=evaluation.best_on_dev(summary),
        trials=trials,
        summary=summary,
        series=smoothing.pooled_curves(trials),
        pictures=["reliability.png"],
    )
    return publish(experiment.run, results, table, figure, "results.txt")


def trial(experiment: Comparison, alpha: float, seed: int, find: Callable[[keras.Model], Searcher]) -> Trial:
    """The training of one recogniser; `find` makes its `Searcher`."""
    options, found, how = experiment.options, experiment.data, experiment.recipe
    train = found.splits["train"]
    of_train = (train.features, train.token_ids, how.batch_size, seed)

    def build() -> tuple[keras.Model, keras.Model]:
        network = objective.build(how, found.tokens.size, options.precision)
        labels = np.concatenate([np.append(ids, END) for ids in train.token_ids])
        machine = options.read(Machine).compilation()
        return objective.make_objective(network, how, alpha, labels, options.fused_output, **machine), network

    def evaluate(network: keras.Model, history: History) -> dict[str, Any]:
        splits = found.splits["dev"], found.splits["test"]
        numbers = evaluation.evaluate(find(network), *splits, options.beam_width, options.length_penalty)
        return {**numbers, "parameters": network.count_params()}

    def callbacks(network: keras.Model, folder: pathlib.Path) -> Sequence[keras.callbacks.Callback]:
        freq = max(1, how.epochs // LOOKS)
        return [SpeechMonitor(find(network), first(found.splits["dev"]), folder, how.epochs, freq, "wer")]

    batches = functools.partial(training_batches, *of_train, augment=how.augment)
    judged: dict[str, Any] = {"evaluate": evaluate, "fields": {**evaluation.FIELDS, "parameters": int}}
    return experiment.trial(alpha, seed, build=build, batches=batches, callbacks=callbacks, **judged)


def first(split: Utterances) -> Utterances:
    """The first utterances of a split, for a look now and then."""
    beyond = {i: "" for i in range(MONITORED_UTTERANCES, len(split.features))}
    return Utterances(split.features.without(beyond, skip_bad=True), split.token_ids[:MONITORED_UTTERANCES])


def table(results: dict[str, Any]) -> str:
    """The means over the seeds, one row per label smoothing, and which is best on the development split."""
    text = measures.table(results["summary"], evaluation.columns(results["settings"]["beam_width"]))
    if len(results["summary"]) > 1:
        text += f"\n\nLowest WER on the development split: α = {results['best_on_dev']:g}."
    return text
