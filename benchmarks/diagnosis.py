"""How long a diagnosis of predictions takes, and how much memory beside them.

    python -m benchmarks.diagnosis                                            # 10,000 × 100, 1,000 resamples
    python -m benchmarks.diagnosis --examples 1000000 --classes 1000 --resamples 100 --memory-map logits.npy

Logits are normal with a standard deviation of 2.5, labels are drawn from their softmax at half of them. Memory is the
rise of the process's high-water mark during the call. Of a memory map it includes pages of the file, which the kernel
takes back when it needs them.
"""

import argparse
import pathlib
import statistics
import time

import numpy as np

import keras_ls
from benchmarks import harness, page
from demos.kit import records

BLOCK = 10_000


def draw(labels: np.ndarray, logits: np.ndarray) -> None:
    """Fills both, block by block."""
    rng = np.random.default_rng(0)
    for start in range(0, len(labels), BLOCK):
        rows = slice(start, start + BLOCK)
        logits[rows] = 2.5 * rng.standard_normal(logits[rows].shape, "float32")
        labels[rows] = (logits[rows] / 2 + rng.gumbel(size=logits[rows].shape)).argmax(-1)


def main() -> None:
    """Prints seconds and memory, round by round, and the diagnosis."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.diagnosis", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=10_000, help="number of examples (default: 10000)")
    parser.add_argument("--classes", type=int, default=100, help="number of classes (default: 100)")
    parser.add_argument("--resamples", type=int, default=1000, help="for intervals of rankings (default: 1000)")
    parser.add_argument("--rounds", type=int, default=1, help="number of diagnoses (default: 1)")
    parser.add_argument("--memory-map", type=pathlib.Path, metavar="FILE", help="keep the logits there, not in memory")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write time and memory there, too")
    args = parser.parse_args()
    shape, labels = (args.examples, args.classes), np.empty(args.examples, "int64")
    if args.memory_map is None:
        logits = np.empty(shape, "float32")
        draw(labels, logits)
    else:
        logits = np.lib.format.open_memmap(args.memory_map, "w+", "float32", shape)
        draw(labels, logits)
        logits.flush()
        logits = np.load(args.memory_map, mmap_mode="r")
    found: list[keras_ls.Diagnosis] = []
    seconds, megabytes = [], []

    def diagnose() -> None:
        found.append(keras_ls.diagnose_predictions(labels, logits, num_resamples=args.resamples, from_logits=True))

    for _ in range(args.rounds):
        start = time.perf_counter()
        megabytes.append(harness.peak_memory(diagnose) / 1e6)
        seconds.append(time.perf_counter() - start)
        print(f"{seconds[-1]:.2f} s, {megabytes[-1]:.0f} MB", flush=True)
    print(found[0])
    if args.json:
        measured = {"seconds": seconds, "median_seconds": statistics.median(seconds), "megabytes": megabytes}
        size = {"examples": args.examples, "classes": args.classes, "resamples": args.resamples}
        records.write_json(args.json, {**size, **measured, "machine": page.machine("cpu")})


if __name__ == "__main__":
    main()
