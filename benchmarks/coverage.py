"""How often the intervals of a diagnosis hold the truth, by simulation from known calibration.

    python -m benchmarks.coverage                       # 1,000 draws of 500 and 5,000 examples; the latter: 6 minutes
    python -m benchmarks.coverage --draws 100 --sizes 500
    python -m benchmarks.coverage --json FILE           # writes the numbers, too

Logits are normal, labels are drawn from their softmax, and predictions are the logits times T, so that T is the
temperature that fits best. The truth of everything else is measured on a million examples.
"""

import argparse
import pathlib
from typing import Any

import numpy as np

import keras_ls
from benchmarks import page
from demos.kit import records

NAMES = ("accuracy", "nll", "brier", "temperature", "aurc", "ece", "ece_equal_mass", "classwise_ece", "excess_aurc")
TEMPERATURES = (1.0, 1.5, 3.0)


def draw(
    seed: object, size: int, temperature: float, classes: int, spread: float, steps: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) labels and (N, K) logits, or (N, steps) and (N, steps, K) of sequences.

    The steps of a sequence have much of their logits in common, and the chance that draws their labels.
    """
    rng = np.random.default_rng(seed)
    logits = spread * rng.normal(size=(size, 1, classes))
    if steps > 1:
        logits = logits + rng.normal(size=(size, steps, classes))
    labels, logits = (logits + rng.gumbel(size=(size, 1, classes))).argmax(-1), temperature * logits
    return (labels, logits) if steps > 1 else (labels[:, 0], logits[:, 0])


def coverage(
    draws: int,
    size: int,
    temperature: float,
    classes: int = 10,
    spread: float = 2.5,
    num_truth: int = 1_000_000,
    num_resamples: int = 200,
    steps: int = 1,
) -> dict[str, float]:
    """The share of draws whose 95 % interval holds the truth, by the names of estimates.

    "biased" is the share of draws whose plug-in ECE is above the truth.
    """
    y, z = draw(0, num_truth // steps, temperature, classes, spread, steps)
    truth = _values(keras_ls.diagnose_predictions(y, z, num_resamples=1, from_logits=True))
    truth["temperature"] = temperature
    held = dict.fromkeys((*NAMES, "biased"), 0)
    for number in range(draws):
        y, z = draw([1, number], size, temperature, classes, spread, steps)
        found = keras_ls.diagnose_predictions(y, z, num_resamples=num_resamples, from_logits=True).estimates
        for name in NAMES:
            held[name] += found[name].low <= truth[name] <= found[name].high
        held["biased"] += found["ece"].value > truth["ece"]
    return {name: count / draws for name, count in held.items()}


def _values(diagnosis: keras_ls.Diagnosis) -> dict[str, float]:
    return {name: estimate.value for name, estimate in diagnosis.estimates.items()}


def heading() -> str:
    """The head of the table."""
    return f"| examples | T | {' | '.join(NAMES)} | plug-in ECE above the truth |\n|" + " --- |" * (len(NAMES) + 3)


def line(found: dict[str, Any]) -> str:
    """One size and temperature as a line of the table, in %."""
    steps = f" × {found['steps']}" if found["steps"] > 1 else ""
    cells = " | ".join(f"{100 * share:.1f}" for share in found["coverage"].values())
    return f"| {found['examples']:,}{steps} | {found['temperature']:g} | {cells} |"


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.coverage", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=1000, help="number of draws (default: 1000)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 5000], help="examples (default: 500 5000)")
    parser.add_argument("--classes", type=int, default=10, help="number of classes (default: 10)")
    parser.add_argument("--spread", type=float, default=2.5, help="standard deviation of logits (default: 2.5)")
    parser.add_argument("--steps", type=int, default=1, help="predictions per example, a sequence (default: 1)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the numbers there, too")
    args = parser.parse_args()
    print(heading())
    rows = []
    for size in args.sizes:
        for temperature in TEMPERATURES:
            found = coverage(args.draws, size, temperature, args.classes, args.spread, steps=args.steps)
            rows.append({"examples": size, "steps": args.steps, "temperature": temperature, "coverage": found})
            print(line(rows[-1]), flush=True)
    if args.json:
        facts = {"draws": args.draws, "classes": args.classes, "spread": args.spread, "machine": page.machine("cpu")}
        records.write_json(args.json, {**facts, "rows": rows})


if __name__ == "__main__":
    main()
