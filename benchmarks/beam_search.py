"""Time of the compiled beam search beside plain Python searches of the same model, a small GRU decoder in Keras.

    python benchmarks/beam_search.py                        # batch 32, width 8, 30 tokens, up to 40 steps
    KERAS_BACKEND=jax python benchmarks/beam_search.py --out beam.json

All searches call the same compiled step of the decoder (PyTorch: eager) and look at the same continuations.
"plain" keeps each hypothesis in Python and calls the step for each alone; "batched step" calls it once a step for all
hypotheses of the batch and keeps only the bookkeeping in Python. Searches take turns in rounds, so that a machine
whose speed drifts drifts for all; times are medians, ratios are medians of the rounds' ratios. The results are
compared, too.
"""

import argparse
import json
import os
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_ls.decoding

START, END = 1, 0


def compiled(fn, jit=False):
    """`fn` as the backend compiles it; as it is on PyTorch."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(fn, jit_compile=jit, reduce_retracing=True)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(fn)
    return fn


def make_decoder(vocabulary, units, seed=0):
    """The step function of a random decoder with peaked distributions, most of whose sequences end."""
    rng = np.random.default_rng(seed)
    embedding, cell = keras.layers.Embedding(vocabulary, units), keras.layers.GRUCell(units)
    head = keras.layers.Dense(vocabulary)
    for layer, width in ((embedding, vocabulary), (cell, units), (head, units)):
        layer.build((None, width))
        # NumPy's numbers: the same decoder on every backend.
        layer.set_weights([rng.standard_normal(weight.shape) / weight.shape[0] ** 0.5 for weight in layer.weights])
    head.set_weights([8.0 * head.get_weights()[0], np.eye(vocabulary)[END]])

    def step(tokens, state):
        output, state = cell(embedding(tokens), state)
        return head(output), state

    return step


def extend(live, log_probs, width, max_length, finished):
    """One element's open (log p, tokens, …) after a step (H, V): the ends go to `finished`, the best others stay."""
    totals = np.array([item[0] for item in live])[:, None] + log_probs
    vocabulary = log_probs.shape[1]
    still_open = []
    for place in np.argsort(-totals, axis=None, kind="stable")[: 2 * width - 1]:
        parent, token = divmod(int(place), vocabulary)
        item = (float(totals[parent, token]), [*live[parent][1], token], parent)
        if token == END or len(item[1]) == max_length:
            finished.append(item)
        elif len(still_open) < width:
            still_open.append(item)
    best = max((item[0] for item in finished), default=-np.inf)
    return [] if still_open and still_open[0][0] <= best else still_open


def log_softmax(logits):
    """(N, V) logits to log-probabilities."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def plain_search(step, states, width, max_length):
    """A hypothesis at a time; the best tokens and log p of each element."""
    results = []
    for element in range(len(states)):
        live, finished = [(0.0, [], states[element : element + 1])], []
        while live:
            rows, new_states = [], []
            for _, tokens, state in live:
                logits, (state,) = step(np.array(tokens[-1:] or [START], "int32"), [state])
                rows.append(keras.ops.convert_to_numpy(logits)[0])
                new_states.append(state)
            live = extend(live, log_softmax(np.array(rows)), width, max_length, finished)
            live = [(log_prob, tokens, new_states[parent]) for log_prob, tokens, parent in live]
        results.append(max(finished, key=lambda item: item[0])[:2])
    return results


def batched_step_search(step, states, width, max_length):
    """One call of the step for all hypotheses; Python keeps them."""
    size = len(states)
    live, finished = [[(0.0, [], 0)] for _ in range(size)], [[] for _ in range(size)]
    tokens = np.full((size * width,), START, "int32")
    state = np.repeat(states, width, axis=0)
    while any(live):
        logits, (state,) = step(tokens, [state])
        log_probs = log_softmax(keras.ops.convert_to_numpy(logits)).reshape(size, width, -1)
        rows = np.arange(size * width)
        for element in range(size):
            if not live[element]:
                continue
            open_rows = log_probs[element, : len(live[element])]
            live[element] = extend(live[element], open_rows, width, max_length, finished[element])
            for slot, (_, found, parent) in enumerate(live[element]):
                rows[element * width + slot] = element * width + parent
                tokens[element * width + slot] = found[-1]
        state = keras.ops.convert_to_numpy(state)[rows]
    return [max(items, key=lambda item: item[0])[:2] for items in finished]


def make_searches(args):
    """Searches by name, each a function that returns the best (log p, tokens) of each element."""
    step = make_decoder(args.vocabulary, args.units)
    states = np.random.default_rng(1).standard_normal((args.batch, args.units)).astype("float32")
    step_alone = compiled(step)

    def search(state):
        return keras_ls.decoding.beam_search(
            step, [state], args.batch, START, END, args.max_length, beam_width=args.width
        )

    def best_of(result):
        tokens, lengths, _, log_probs = (keras.ops.convert_to_numpy(field)[:, 0] for field in result)
        return [(p, row[:n].tolist()) for p, row, n in zip(log_probs, tokens, lengths, strict=True)]

    state, ours = keras.ops.convert_to_tensor(states), compiled(search)
    searches = {
        "keras_ls": lambda: best_of(ours(state)),
        "plain": lambda: plain_search(step_alone, states, args.width, args.max_length),
        "batched step": lambda: batched_step_search(step_alone, states, args.width, args.max_length),
    }
    if keras.backend.backend() == "tensorflow":
        with_xla = compiled(search, jit=True)
        searches["keras_ls, jit_compile=True"] = lambda: best_of(with_xla(state))
    return searches


def measure(searches, repeats):
    """Seconds of each search, one a round, after one that compiles; and how many of its results are the plain one's."""
    expected = searches["plain"]()
    results = {}
    for name, search in searches.items():
        same = [
            tokens == wanted[1] and abs(log_prob - wanted[0]) < 1e-3
            for (log_prob, tokens), wanted in zip(search(), expected, strict=True)
        ]
        results[name] = {"same_as_plain": int(sum(same)), "seconds": []}
    for _ in range(repeats):
        for name, search in searches.items():
            start = time.perf_counter()
            search()
            results[name]["seconds"].append(time.perf_counter() - start)
    lengths = [len(tokens) for _, tokens in expected]
    return results, {"mean": statistics.mean(lengths), "max": max(lengths)}


def main():
    """Prints the table and, with --out, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32, help="sequences decoded at once (default: 32)")
    parser.add_argument("--width", type=int, default=8, help="beam width (default: 8)")
    parser.add_argument("--vocabulary", type=int, default=30, help="tokens (default: 30)")
    parser.add_argument("--units", type=int, default=128, help="units of the decoder (default: 128)")
    parser.add_argument("--max-length", type=int, default=40, help="most tokens of a sequence (default: 40)")
    parser.add_argument("--repeats", type=int, default=7, help="rounds (default: 7)")
    parser.add_argument("--out", help="also write the numbers to this JSON file")
    args = parser.parse_args()
    results, lengths = measure(make_searches(args), args.repeats)
    print(
        f"{keras.backend.backend()}, batch {args.batch}, width {args.width}, {args.vocabulary} tokens, "
        f"{args.units} units, {os.cpu_count()} cores; best sequences of {lengths['mean']:.1f} tokens on average, "
        f"at most {lengths['max']}"
    )
    print(f"{'search':<30}{'ms':>10}{'plain / it':>13}{'same result':>14}")
    for name, result in results.items():
        pairs = zip(results["plain"]["seconds"], result["seconds"], strict=True)
        result["ratio"] = statistics.median(plain / ours for plain, ours in pairs)
        milliseconds = 1e3 * statistics.median(result["seconds"])
        same = f"{result['same_as_plain']}/{args.batch}"
        print(f"{name:<30}{milliseconds:>10.1f}{result['ratio']:>12.1f}x{same:>14}")
    if args.out:
        settings = {**vars(args), "backend": keras.backend.backend(), "cores": os.cpu_count()}
        with open(args.out, "w") as file:
            json.dump({"settings": settings, "lengths": lengths, "results": results}, file, indent=2)
    if any(result["same_as_plain"] < args.batch for result in results.values()):
        print("Note: searches differ where float32 decides between near equals.", file=sys.stderr)


if __name__ == "__main__":
    main()
