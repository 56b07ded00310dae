"""Time and memory of the sparse smoothed loss with its gradient, beside Keras's and PyTorch's cross-entropy.

    python benchmarks/losses.py                 # 2048 x 32,000 float32 logits, label smoothing 0.1
    python benchmarks/losses.py --rows 64 --classes 50000 --repeats 21

Each implementation runs in a process of its own (so that peak memory is its own), and the rounds go around all of
them, so that a machine whose speed drifts drifts for all. Times are medians; ratios are medians of the rounds'
ratios. "Extra memory" is the rise of the peak resident size in a call over that before it, in units of the logits'
size; the gradient itself is 1 of it.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import threading
import time

CASES = {
    "keras_ls": "keras_ls, tf.function",
    "keras_ls xla": "keras_ls, tf.function(jit_compile=True)",
    "keras": "Keras CategoricalCrossentropy on a one-hot, tf.function",
    "keras xla": "Keras CategoricalCrossentropy on a one-hot, tf.function(jit_compile=True)",
    "torch": "PyTorch cross_entropy",
}


def tensorflow_step(num_classes, alpha, jit, ours):
    """How to make a tensor, and a function that computes the mean loss and its gradient in one compiled call."""
    import keras
    import tensorflow as tf

    import keras_ls

    if ours:
        loss = keras_ls.SmoothedSparseCategoricalCrossentropy(alpha, from_logits=True)
    else:
        dense = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=alpha)

        def loss(labels, logits):
            return dense(tf.one_hot(labels, num_classes), logits)

    @tf.function(jit_compile=jit)
    def step(logits, labels):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(labels, logits)
        return value, tape.gradient(value, logits)

    return tf.constant, lambda logits, labels: float(step(logits, labels)[0])


def torch_step(alpha):
    """The same in PyTorch, eagerly."""
    import torch

    def step(logits, labels):
        logits, labels = torch.as_tensor(logits).requires_grad_(True), torch.as_tensor(labels)
        logits.grad = None
        value = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=alpha)
        value.backward()
        return value.item()

    return torch.tensor, step


def resident_bytes():
    """Resident size of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class PeakMemory(threading.Thread):
    """Follows the resident size every millisecond: the kernel's own high-water mark cannot be reset everywhere."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak, self.running = 0, True

    def run(self):
        """Samples until `running` is taken away."""
        while self.running:
            self.peak = max(self.peak, resident_bytes())
            time.sleep(0.001)


def worker(case, pipe, rows, classes, alpha):
    """Builds one implementation, reports its value and memory, then times a call for each request."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import numpy as np

    rng = np.random.default_rng(0)
    logits = 3.0 * rng.standard_normal((rows, classes), dtype="float32")
    labels = rng.integers(0, classes, rows)
    try:
        if case == "torch":
            convert, step = torch_step(alpha)
        else:
            convert, step = tensorflow_step(classes, alpha, "xla" in case, "keras_ls" in case)
    except ImportError as error:
        pipe.send({"missing": str(error)})
        return
    size = logits.nbytes
    step(logits[:8], labels[:8])  # starts the libraries, whose own memory is not the loss's
    inputs = convert(logits), convert(labels)
    del logits
    before, memory = resident_bytes(), PeakMemory()
    memory.start()
    values = [step(*inputs) for _ in range(3)]
    memory.running = False
    memory.join()
    pipe.send({"loss": values[0], "extra_memory": (memory.peak - before) / size})
    while pipe.recv():
        start = time.perf_counter()
        step(*inputs)
        pipe.send(time.perf_counter() - start)


def measure(rows, classes, alpha, repeats):
    """Seconds (one a round), loss and extra memory of every case that can run here."""
    context = multiprocessing.get_context("spawn")
    pipes, results = {}, {}
    for case in CASES:
        pipe, other = context.Pipe()
        process = context.Process(target=worker, args=(case, other, rows, classes, alpha), daemon=True)
        process.start()
        other.close()
        first = pipe.recv()
        if "missing" in first:
            print(f"{CASES[case]}: left out, {first['missing']}", file=sys.stderr)
            continue
        pipes[case], results[case] = pipe, {**first, "seconds": []}
    for _ in range(repeats):
        for case, pipe in pipes.items():
            pipe.send(True)
            results[case]["seconds"].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(False)
    return results


def ratio(results, case, peer):
    """Median over the rounds of a case's time over its peer's; None where one did not run."""
    if case not in results or peer not in results:
        return None
    pairs = zip(results[case]["seconds"], results[peer]["seconds"], strict=True)
    return statistics.median(a / b for a, b in pairs)


def main():
    """Prints the table and, with --out, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2048, help="examples in the batch (default: 2048)")
    parser.add_argument("--classes", type=int, default=32_000, help="classes (default: 32000)")
    parser.add_argument("--label-smoothing", type=float, default=0.1, help="α (default: 0.1)")
    parser.add_argument("--repeats", type=int, default=15, help="rounds (default: 15)")
    parser.add_argument("--out", help="also write the numbers to this JSON file")
    args = parser.parse_args()
    results = measure(args.rows, args.classes, args.label_smoothing, args.repeats)
    print(f"{args.rows} x {args.classes} float32, label smoothing {args.label_smoothing}, {os.cpu_count()} cores")
    print(f"{'loss and gradient':<75}{'ms':>8}{'/ Keras':>9}{'/ PyTorch':>11}{'extra memory':>14}")
    for case, result in results.items():
        against = [ratio(results, case, "keras xla" if "xla" in case else "keras"), ratio(results, case, "torch")]
        shown = ["-" if value is None else f"{value:.2f}" for value in against]
        result.update(ratio_keras=against[0], ratio_torch=against[1])
        milliseconds = 1e3 * statistics.median(result["seconds"])
        print(f"{CASES[case]:<75}{milliseconds:>8.0f}{shown[0]:>9}{shown[1]:>11}{result['extra_memory']:>13.2f}x")
    if args.out:
        with open(args.out, "w") as file:
            json.dump({"settings": vars(args), "results": results}, file, indent=2)


if __name__ == "__main__":
    main()
