"""Translators trained once for each label smoothing and seed: what demos.translation.train does."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from demos.kit import measures, records, smoothing
from demos.kit.epochs import epoch_length
from demos.kit.measures import Column
from demos.kit.options import Chosen, Machine
from demos.kit.runs import device, open_run, publish
from demos.kit.smoothing import Comparison
from demos.kit.trials import History, Trial, run_trials
from demos.sequence import evaluation
from demos.sequence.monitor import Monitor
from demos.sequence.search import Searcher
from demos.sequence.tokenizers import END
from demos.translation import objective, recipe
from demos.translation.analysis import RULE, data
from demos.translation.analysis.data import Sentences
from demos.translation.corpora.files import Pairs

figure = smoothing.reliability
LOOKS, MONITORED_SENTENCES, EXAMPLES = 5, 50, 10
OF_TOKENS = ("token_accuracy", "nll", "ece", "temperature", "nll_scaled", "ece_scaled")
OF_TEXTS = ("greedy_bleu", "greedy_chrf", "beam_bleu", "beam_chrf", "beam_bleu_uncased")
MEASURES = (*OF_TOKENS, *OF_TEXTS, "dev_nll", "dev_ece", "dev_beam_bleu")
FIELDS = {
    **dict.fromkeys(MEASURES, float),
    **dict.fromkeys(smoothing.CURVES, measures.CURVE),
    "examples": [dict],
    "signature": str,
    "parameters": int,
}


def plan(options: Chosen) -> Comparison:
    """Settles how networks are trained, learns the tokens, and opens the output directory."""
    recipe.settle(options)
    data.sacrebleu()
    found = data.load(options)
    for split, lines in found.skipped.items():
        if lines:
            print(f"Left out {len(lines)} pairs of the {split} split, the first: {lines[0]}")
    how = recipe.choose(options)
    batches = len(data.training_plan(found.splits["train"], how.batch_tokens, 0, 0))
    length, epochs = epoch_length(how.steps, batches, options.steps_per_execution)
    if length * epochs != how.steps:
        print(f"Note: {how.steps} steps are rounded up to {length * epochs}, {epochs} epochs of {length}.")
    how = dataclasses.replace(how, steps=length * epochs, steps_per_epoch=length)
    settings = {**options.settings(), **dataclasses.asdict(how), "data": found.fingerprint}
    out = pathlib.Path(options.out or f"runs/translation/{found.name}-{how.size}")
    run = open_run(out, settings, options.resume, options.defaults(), options.free())
    records.write_json(out / "tokens.json", found.tokens.to_json())
    records.write_json(out / "data.json", {"data_dir": options.data_dir})
    return Comparison(options, found, how, run)


def run(experiment: Comparison) -> dict[str, Any]:
    """Trains, evaluates and reports; returns what results.json holds."""
    found, how = experiment.data, experiment.recipe
    sizes = ", ".join(f"{len(split.references)} {split_name}" for split_name, split in found.splits.items())
    print(
        f"{found.name}: {sizes} pairs, {found.tokens.size} tokens. {how.size}, {how.steps} steps of "
        f"{how.batch_tokens} tokens, {keras.backend.backend()} on {device()}.",
        flush=True,
    )

    @functools.lru_cache(maxsize=1)  # what a search compiles serves the monitor and the evaluation
    def find(network: keras.Model) -> Searcher:
        return Searcher(network, found.tokens, found.max_length)

    trials = run_trials([trial(experiment, *each, find) for each in experiment.networks], experiment.run)
    results = experiment.results(
        "demos.translation.train",
        evaluation=RULE,
        skipped=found.skipped,
        trials=trials,
        summary=measures.summarize(trials, MEASURES),
        series=smoothing.pooled_curves(trials),
        pictures=["reliability.png"],
    )
    return publish(experiment.run, results, table, figure)


def trial(experiment: Comparison, alpha: float, seed: int, find: Callable[[keras.Model], Searcher]) -> Trial:
    """The training of one translator; `find` makes its `Searcher`."""
    options, found, how = experiment.options, experiment.data, experiment.recipe
    train = found.splits["train"]
    machine = options.read(Machine)

    def build() -> tuple[keras.Model, keras.Model]:
        network = objective.build(how, found.tokens.size, machine.precision)
        labels = np.concatenate([np.append(ids, END) for ids in train.target_ids])
        return objective.make_objective(network, how, alpha, labels, **machine.compilation()), network

    def evaluate(network: keras.Model, history: History) -> dict[str, Any]:
        measured = measure(find(network), found.splits["dev"], found.splits["test"], options)
        return {**measured, "parameters": network.count_params()}

    def callbacks(network: keras.Model, folder: pathlib.Path) -> Sequence[keras.callbacks.Callback]:
        freq = max(1, how.epochs // LOOKS)
        return [Monitor(find(network), first(found.splits["dev"], found.tokens), folder, how.epochs, freq, "bleu")]

    return Trial(
        smoothing.directory(alpha, seed),
        seed,
        {"label_smoothing": alpha, "seed": seed},
        build,
        functools.partial(data.training_batches, train, how.batch_tokens, seed),
        how.steps_per_epoch,
        how.epochs,
        evaluate,
        FIELDS,
        callbacks,
        f"α={alpha:g} seed={seed}",
    )


def measure(searcher: Searcher, dev: Sentences, test: Sentences, options: Chosen) -> dict[str, Any]:
    """The numbers of `FIELDS`, with a few translations as "examples" and sacrebleu's "signature"."""
    how = (options.beam_width, 1.0, options.length_penalty)
    greedy, beam = test.search(searcher), test.search(searcher, *how)
    uncased, cased = data.bleu(lowercase=True), data.bleu()
    rows = zip(test.sources, test.references, greedy, beam, strict=True)
    return {
        **evaluation.evaluate_tokens(searcher, dev, test),
        **{f"greedy_{key}": value for key, value in test.error_rates(greedy).items()},
        **{f"beam_{key}": value for key, value in test.error_rates(beam).items()},
        "beam_bleu_uncased": uncased.corpus_score(beam, [test.references]).score / 100,
        "dev_beam_bleu": dev.error_rates(dev.search(searcher, *how))["bleu"],
        "examples": [
            dict(zip(("source", "reference", "greedy", "beam"), row, strict=True)) for row in list(rows)[:EXAMPLES]
        ],
        "signature": str(cased.get_signature()) if cased.corpus_score(beam, [test.references]) else "",
    }


def first(split: Sentences, tokens: Any) -> Sentences:
    """The first sentences of a split, for a look now and then."""
    some = slice(MONITORED_SENTENCES)
    return Sentences(Pairs(split.sources[some], list(split.references)[some], []), tokens)


def columns(beam_width: int) -> tuple[Column, ...]:
    """The columns of the table of a run."""
    return (
        Column("tokens %", "token_accuracy", 2, 100),
        Column("NLL", "nll", 4),
        Column("ECE", "ece", 4),
        Column("temperature", "temperature", 3),
        Column("ECE scaled", "ece_scaled", 4),
        Column("greedy BLEU", "greedy_bleu", 2, 100),
        Column(f"beam {beam_width} BLEU", "beam_bleu", 2, 100),
        Column("uncased", "beam_bleu_uncased", 2, 100),
        Column("chrF", "beam_chrf", 2, 100),
        Column("dev BLEU", "dev_beam_bleu", 2, 100),
    )


def table(results: dict[str, Any]) -> str:
    """The means over the seeds as text, one row per label smoothing."""
    return measures.table(results["summary"], columns(results["settings"]["beam_width"]))
