"""What a diagnosis of networks trained on hard targets says that label smoothing would do, and what it did."""

import collections
from collections.abc import Sequence
from typing import Any

from demos.kit import cli
from demos.kit.measures import by_smoothing
from demos.reproduce import verdict

LOWER, HIGHER, SAME = "lower", "higher", "no difference"
MEASURES = {"ece": "ECE", "nll_scaled": "NLL scaled", "excess_aurc": "excess AURC"}
# What is counted: other label smoothing that results have is left out.
ALPHAS = (0.05, 0.1)
# Chosen on the digits: accuracies of hard-target networks above which smoothing improved what a temperature leaves and
# the ranking of errors, and below which it made the former worse.
ACCURATE, INACCURATE = 0.8, 0.65
RULE = (
    "Predicted from hard-target networks alone, by the majority of seeds. ECE: lower where the temperature is above 1 "
    "and the ECE above 2α(accuracy − 1/K), else higher. "
    f"NLL scaled: lower where the accuracy is above {ACCURATE}, higher where it is below {INACCURATE}, else no "
    f"difference. Excess AURC: lower where the accuracy is above {INACCURATE}, else no difference. The rule was chosen "
    "on the digits. Seen: lower or higher where the 95 % t-interval of the differences between networks of the same "
    "seed excludes 0. They are measured on the held-out data that the prediction was made from, so that chance favours "
    'hits near a limit of the rule. "No difference" means that none could be shown.'
)


def outcomes(trials: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was predicted and what was seen, for each of `ALPHAS` and measure, of the results of networks.

    An α with fewer than two seeds that hard targets have, too, is left out. It is a ValueError if none is left, or if
    there are results without a diagnosis.
    """
    groups = by_smoothing(trials)
    hard = groups.get(0.0, [])
    seeds = {trial["seed"] for trial in hard}
    groups = {
        alpha: groups[alpha]
        for alpha in ALPHAS
        if len(seeds & {trial["seed"] for trial in groups.get(alpha, ())}) >= verdict.FEWEST_SEEDS
    }
    lacking = [trial for group in (hard, *groups.values()) for trial in group if "diagnosis" not in trial]
    if not groups or lacking:
        raise ValueError(
            "there must be networks of hard targets and of label smoothing by "
            f"{' or '.join(f'{alpha:g}' for alpha in ALPHAS)}, of two seeds at least, each with a diagnosis"
        )
    rows = []
    for alpha, smoothed in groups.items():
        predicted = predict([trial["diagnosis"] for trial in hard], alpha)
        for measure in MEASURES:
            seen = compare(hard, smoothed, measure)
            rows.append({"label_smoothing": alpha, "measure": measure, "predicted": predicted[measure], **seen})
    return rows


def predict(hard: Sequence[dict[str, Any]], alpha: float) -> dict[str, str]:
    """The outcome for each measure that the diagnoses of hard-target networks, one per seed, lead to expect."""
    of_seeds = [_of_one(diagnosis, alpha) for diagnosis in hard]
    return {measure: _majority([outcomes[measure] for outcomes in of_seeds]) for measure in MEASURES}


def _of_one(diagnosis: dict[str, Any], alpha: float) -> dict[str, str]:
    values = {name: estimate["value"] for name, estimate in diagnosis["estimates"].items()}
    accuracy = values["accuracy"]
    largest_shift = 2 * alpha * (accuracy - 1 / diagnosis["num_classes"])
    calibrates = values["temperature"] > 1 and values["ece"] > largest_shift
    return {
        "ece": LOWER if calibrates else HIGHER,
        "nll_scaled": LOWER if accuracy > ACCURATE else HIGHER if accuracy < INACCURATE else SAME,
        "excess_aurc": LOWER if accuracy > INACCURATE else SAME,
    }


def _majority(outcomes: Sequence[str]) -> str:
    (most, count), *others = collections.Counter(outcomes).most_common()
    return SAME if any(other == count for _, other in others) else most


def compare(hard: Sequence[dict[str, Any]], smoothed: Sequence[dict[str, Any]], measure: str) -> dict[str, Any]:
    """The mean "difference" of networks of the same seed, its limits "low" and "high", and the outcome "seen"."""
    of_hard = {trial["seed"]: trial[measure] for trial in hard}
    found = verdict.interval([t[measure] - of_hard[t["seed"]] for t in smoothed if t["seed"] in of_hard])
    half_width = found.half_width or 0.0
    low, high = found.mean - half_width, found.mean + half_width
    seen = LOWER if high < 0 else HIGHER if low > 0 else SAME
    return {"difference": found.mean, "low": low, "high": high, "seen": seen}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows of `outcomes`, each with the "data" it is of, as a table of text, and how many predictions came true."""
    cells = [["data", "α", "measure", "predicted", "seen", "difference", "95 % interval", ""]]
    for row in rows:
        difference, low, high = (f"{row[name]:+.4f}" for name in ("difference", "low", "high"))
        hit = "hit" if row["predicted"] == row["seen"] else "miss"
        said = [MEASURES[row["measure"]], row["predicted"], row["seen"], difference, f"{low} to {high}", hit]
        cells.append([row["data"], f"{row['label_smoothing']:g}", *said])
    return cli.aligned(cells) + "\n\n" + "\n".join(counts(rows))


def counts(rows: Sequence[dict[str, Any]]) -> list[str]:
    """How many predictions of each measure came true, beside those of one outcome for all."""
    lines = []
    for measure, name in MEASURES.items():
        of_measure = [row for row in rows if row["measure"] == measure]
        hits = sum(row["predicted"] == row["seen"] for row in of_measure)
        always = {outcome: sum(row["seen"] == outcome for row in of_measure) for outcome in (LOWER, HIGHER, SAME)}
        others = ", ".join(f'always "{outcome}" {count}' for outcome, count in always.items())
        lines.append(f"{name}: {hits} of {len(of_measure)} predictions came true; {others}.")
    return lines
