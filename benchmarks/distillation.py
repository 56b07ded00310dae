"""Time of a training step of a student alone, distilled from cached logits, distilled live, and in Keras's Distiller.

    python benchmarks/distillation.py                     # ResNet-56 teacher, AlexNet student, batches of 128
    python benchmarks/distillation.py --rounds 31 --out distillation.json

All cases run in one process on TensorFlow, on the same random batch of 32 x 32 colour images of 10 classes. Each round
takes one step of every case, starting with another one each time, so that a machine whose speed drifts drifts for all.
Times are medians of the rounds, with the fastest beside them; ratios are medians of the rounds' ratios.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

PLAIN, CACHED, LIVE, KERAS = "student alone", "Distiller, cached logits", "Distiller, live teacher", "Keras's Distiller"
# What is compared, with what, and the most that it may take.
BOUNDS = [(CACHED, PLAIN, 1.15), (CACHED, KERAS, 0.6), (LIVE, KERAS, 1.05)]


def steps(batch_size, depth):
    """A function for each case that takes one training step, optimizer and metric included."""
    import keras
    import numpy as np

    from demos.image.networks.building import build
    from demos.image.recipes import Recipe
    from keras_ls.distillation import Distiller, teacher_logits

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (batch_size, 32, 32, 3)).astype("uint8"), rng.integers(0, 10, batch_size)
    teacher, frozen_teacher = (build(x, 10, Recipe("resnet", depth=depth)) for _ in range(2))
    cached = {"labels": y, "teacher_logits": teacher_logits(teacher, x)}
    matching = keras.distillation.LogitsDistillation(3.0, keras.losses.KLDivergence())

    def student():
        return build(x, 10, Recipe("alexnet"))

    cases = {
        PLAIN: (student(), y),
        CACHED: (Distiller(None, student(), temperature=3.0, beta=0.5, temperature_squared=True), cached),
        LIVE: (Distiller(teacher, student(), temperature=3.0, beta=0.5, temperature_squared=True), y),
        # It freezes its teacher in place.
        KERAS: (keras.distillation.Distiller(frozen_teacher, student(), matching, student_loss_weight=0.5), y),
    }

    def step(model, targets):
        model.compile(
            keras.optimizers.SGD(0.01),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        return lambda: model.train_on_batch(x, targets)

    return {name: step(*case) for name, case in cases.items()}


def measure(cases, rounds, warm_up=3):
    """Seconds of every case, one a round."""
    seconds = {name: [] for name in cases}
    names = list(cases)
    for index in range(-warm_up, rounds):
        first = index % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            cases[name]()
            if index >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main():
    """Prints the times and the ratios beside their bounds and, with --out, writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=128, help="images in the batch (default: 128)")
    parser.add_argument("--depth", type=int, default=56, help="layers of the teacher, 6n + 2 (default: 56)")
    parser.add_argument("--rounds", type=int, default=21, help="steps of each case (default: 21)")
    parser.add_argument("--out", help="also write the numbers to this JSON file")
    args = parser.parse_args()
    seconds = measure(steps(args.batch_size, args.depth), args.rounds)
    print(f"ResNet-{args.depth} to AlexNet, batches of {args.batch_size}, {os.cpu_count()} cores, {args.rounds} rounds")
    for name, times in seconds.items():
        print(f"{name:<28}{1e3 * statistics.median(times):>8.0f} ms a step, fastest {1e3 * min(times):.0f} ms")
    ratios = []
    for case, peer, bound in BOUNDS:
        ratio = statistics.median(a / b for a, b in zip(seconds[case], seconds[peer], strict=True))
        ratios.append({"case": case, "peer": peer, "ratio": ratio, "bound": bound})
        print(f"{case} / {peer}: {ratio:.2f} (at most {bound:.2f}: {'yes' if ratio <= bound else 'NO'})")
    if args.out:
        with open(args.out, "w") as file:
            json.dump({"settings": vars(args), "seconds": seconds, "ratios": ratios}, file, indent=2)


if __name__ == "__main__":
    main()
