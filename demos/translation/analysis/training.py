"""Translators trained once for each label smoothing and seed: what demos.translation.train does."""

from typing import Any

from demos.kit import measures, records, smoothing, texts
from demos.kit.epochs import in_passes, settle_steps_per_execution
from demos.kit.measures import Column
from demos.kit.options import Chosen
from demos.kit.runs import publish
from demos.kit.smoothing import Comparison
from demos.sequence import evaluation, tokenizers, training
from demos.translation import objective, recipe
from demos.translation.analysis import RULE, data, scores

figure = smoothing.reliability
SCORES = ("greedy_bleu", "greedy_chrf", "beam_bleu", "beam_chrf", "dev_beam_bleu")
MONITORED_SENTENCES = 50
KIND = training.Kind(
    build=objective.build,
    make_objective=objective.make_objective,
    batches=lambda split, how, seed, step: data.training_batches(split, how.batch_tokens, seed, step),
    first=lambda split: split.part(range(min(MONITORED_SENTENCES, len(split.references)))),
    score="chrf",  # BLEU is 0 where sentences are short
    scores=SCORES,
)


def plan(options: Chosen) -> Comparison:
    """Settles how networks are trained, learns the tokens, and opens the output directory."""
    options.settle("corpus")
    training.check(options)
    scores.sacrebleu()
    found = data.load(options)
    training.say_skipped(found, "pairs")
    how = options.read(recipe.Recipe)
    batches = len(data.training_plan(found.splits["train"], how.batch_tokens, 0, 0))
    how = in_passes(how, batches, settle_steps_per_execution(options))
    comparison = smoothing.prepare(options, found, how, "runs/translation")
    tokenizers.write(comparison.run.out / "tokens.json", found.tokens)
    records.write_json(comparison.run.out / "data.json", {"data_dir": texts.place(options.data_dir)})
    return comparison


def run(experiment: Comparison) -> dict[str, Any]:
    """Trains, evaluates and reports; returns what results.json holds."""
    found = experiment.data
    trials = training.train(experiment, KIND, f"{experiment.recipe.batch_tokens} tokens")
    results = experiment.results(
        "demos.translation.train",
        evaluation=RULE,
        skipped=found.skipped,
        trials=trials,
        **of_trials(trials),
        significance=scores.by_seed(beams(experiment), found.splits["test"].references),
        signatures=scores.signatures(),
        pictures=["reliability.png"],
    )
    return publish(experiment.run, results, table, figure)


def of_trials(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """The summary and the series of trained networks."""
    summary = measures.summarize(trials, (*evaluation.OF_TOKENS, *SCORES))
    return {"summary": summary, "series": smoothing.pooled_curves(trials)}


def beams(experiment: Comparison) -> dict[int, list[tuple[dict[str, float], list[str]]]]:
    """What the beams of all networks found in the test split, by seed."""
    options = experiment.options
    return {
        seed: [({"label_smoothing": a}, training.texts(experiment, a, seed)) for a in sorted(options.label_smoothing)]
        for seed in options.seeds
    }


def table(results: dict[str, Any]) -> str:
    """The means over the seeds, one row per label smoothing; then each network's BLEU and chrF with intervals."""
    columns = (
        *evaluation.TOKEN_COLUMNS,
        Column("greedy BLEU", "greedy_bleu", 2, 100),
        Column(f"beam {results['settings']['beam_width']} BLEU", "beam_bleu", 2, 100),
        Column("chrF", "beam_chrf", 2, 100),
        Column("dev BLEU", "dev_beam_bleu", 2, 100),
    )
    means = measures.table(results["summary"], columns)
    return f"{means}\n\n{scores.table(results['significance'])}"
