"""Measures what is named, or everything, and writes the numbers and the page.

    python -m benchmarks                         # every subject
    python -m benchmarks losses metrics          # two of them
    python -m benchmarks losses --quick          # small sizes and one round: whether it runs
    python -m benchmarks --page                  # docs/benchmarks.md again, from the numbers on disk

Each case runs in a process of its own, and the rounds go around all cases of a backend, so that a machine whose speed
drifts drifts for all. Leave the machine alone meanwhile.
"""

import argparse
import json
import pathlib

from benchmarks import harness, page
from demos.kit import records

SUBJECTS = (
    "losses",
    "fused_output",
    "metrics",
    "temperature",
    "beam_search",
    "callbacks",
    "distillation",
    "image_training",
    "translation",
    "information",
    "imports",
)
RESULTS = pathlib.Path(__file__).parent / "results"
PAGE = pathlib.Path(__file__).parent.parent / "docs" / "benchmarks.md"


def main() -> None:
    """Runs the subjects, each of whose numbers are written when it ends."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"any of {', '.join(SUBJECTS)} (default: all)")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where to compute (default: cpu)")
    parser.add_argument("--rounds", type=int, default=7, help="how often each case is timed (default: 7)")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round, nothing written")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page")
    args = parser.parse_args()
    if unknown := sorted(set(args.names) - set(SUBJECTS)):
        parser.error(f"NAME must be among {', '.join(SUBJECTS)}. Received: {' '.join(unknown)}.")
    if args.rounds < 1:
        parser.error(f"--rounds must be at least 1. Received: {args.rounds}.")
    for name in () if args.page else args.names or SUBJECTS:
        results = harness.measure(name, args.device, args.quick, 1 if args.quick else args.rounds)
        results["command"] = f"python -m benchmarks {name} --device {args.device} --rounds {args.rounds}"
        results["machine"] = page.machine(args.device)
        print(page.section(name, results), flush=True)
        if not args.quick:
            text = json.dumps(results, indent=1, allow_nan=False)
            records.write_text(RESULTS / f"{name}-{args.device}.json", f"{text}\n")
    if not args.quick:
        records.write_text(PAGE, page.page(RESULTS))


if __name__ == "__main__":
    main()
