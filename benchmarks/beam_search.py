"""Beam search beside greedy decoding of as many rows, and KerasHub's sampler, on a small GRU decoder in Keras."""

import numpy as np

from benchmarks import backends
from benchmarks.harness import Bound, Case, Prepared, Subject

START, END = 1, 0
OURS, GREEDY, KERASHUB = "keras_ls", "greedy decoder", "KerasHub"
WIDTHS = {1_000: 8, 8_000: 8, 32_000: 4}  # by the size of the vocabulary


def prepare(case, batch, steps, units):
    """Compiles a decoder's search; its sequences never end, so that all searches call it as often."""
    import keras

    vocabulary, jit = case.options["vocabulary"], case.options.get("jit", True)
    width = WIDTHS[vocabulary]
    decoder = make_decoder(vocabulary, units)
    states = np.random.default_rng(1).standard_normal((batch, units)).astype("float32")
    searches = {OURS: beam_search, GREEDY: greedy_search, KERASHUB: kerashub_search}
    search = backends.compiled(lambda state: searches[case.options["search"]](decoder, state, width, steps), jit)
    state = keras.ops.convert_to_tensor(states)
    return Prepared(
        lambda: backends.ready(search(state)), facts=lambda tokens: {"mean log p": log_prob(decoder, states, tokens)}
    )


def make_decoder(vocabulary, units):
    """The step function of a random decoder with peaked distributions that never ends a sequence."""
    import keras

    rng = np.random.default_rng(0)
    embedding, cell = keras.layers.Embedding(vocabulary, units), keras.layers.GRUCell(units)
    head = keras.layers.Dense(vocabulary)
    for layer, size in ((embedding, vocabulary), (cell, units), (head, units)):
        layer.build((None, size))
        # NumPy's numbers: the same decoder on every backend.
        layer.set_weights([rng.standard_normal(weight.shape) / weight.shape[0] ** 0.5 for weight in layer.weights])
    head.set_weights([8.0 * head.get_weights()[0], -1e9 * np.eye(vocabulary)[END]])

    def decoder(tokens, state):
        output, state = cell(embedding(tokens), state)
        return head(output), state

    return decoder


def beam_search(decoder, state, width, steps):
    """Ours; the best tokens (B, steps) of each element, as of all searches."""
    import keras_ls.decoding

    size = state.shape[0]
    return keras_ls.decoding.beam_search(decoder, [state], size, START, END, steps, width).tokens[:, 0]


def greedy_search(decoder, state, width, steps):
    """The most probable token at each step of B·W rows, for which the decoder works as much as for beams of width W."""
    from keras import ops

    def proceed(step, last, tokens, state):
        logits, (state,) = decoder(last, [state])
        last = ops.cast(ops.argmax(logits, axis=-1), "int32")
        tokens = ops.where(ops.arange(steps, dtype="int32") == step, ops.expand_dims(last, -1), tokens)
        return step + 1, last, tokens, state

    rows = state.shape[0] * width
    tokens = ops.full((rows, steps), START, dtype="int32")
    first = (ops.convert_to_tensor(0, dtype="int32"), tokens[:, 0], tokens, ops.repeat(state, width, axis=0))
    return ops.while_loop(lambda step, *_: step < steps, proceed, first)[2][::width]


def kerashub_search(decoder, state, width, steps):
    """KerasHub's sampler, whose prompt is the start token."""
    import keras_hub
    from keras import ops

    def following(prompt, cache, index):
        logits, (cache,) = decoder(ops.take(prompt, index - 1, axis=1), [cache])
        return logits, None, cache

    prompt = ops.full((state.shape[0], steps + 1), START, dtype="int32")
    mask = ops.broadcast_to(ops.arange(steps + 1) == 0, prompt.shape)
    sampler = keras_hub.samplers.BeamSampler(num_beams=width)
    return sampler(following, prompt, cache=state, index=1, mask=mask)[:, 1:]


def log_prob(decoder, states, tokens):
    """The mean log p of sequences (B, steps) under the decoder, in float64."""
    from keras import ops

    tokens = ops.convert_to_numpy(tokens)
    total, state, last = 0.0, [ops.convert_to_tensor(states)], np.full(len(tokens), START, "int32")
    for column in tokens.T:
        logits, state = decoder(ops.convert_to_tensor(last), state)
        logits = ops.convert_to_numpy(logits).astype("float64")
        logits -= logits.max(-1, keepdims=True)
        total += (logits[np.arange(len(column)), column] - np.log(np.exp(logits).sum(-1))).mean()
        last = column
    return float(total)


def cases():
    """By vocabulary: TensorFlow's two compilers at all three, JAX and PyTorch at the middle one."""
    modes = [("tf.function", "tensorflow", {"jit": False}), ("XLA", "tensorflow", {}), ("JAX", "jax", {})]
    for mode, backend, options in [*modes, ("PyTorch", "torch", {})]:
        for vocabulary in WIDTHS if backend == "tensorflow" else [8_000]:
            for search in (OURS, GREEDY, KERASHUB):
                name = f"{search}, {mode}, V = {vocabulary:,}"
                yield Case(name, backend, {**options, "vocabulary": vocabulary, "search": search})


def bounds():
    """Against the greedy decoder and KerasHub, on TensorFlow."""
    for mode, at_most in (("tf.function", 1.8), ("XLA", 1.5)):
        for size in (f"{mode}, V = {vocabulary:,}" for vocabulary in WIDTHS):
            yield Bound(f"{OURS}, {size}", at_most, f"{GREEDY}, {size}")
            yield Bound(f"{OURS}, {size}", 1.0, f"{KERASHUB}, {size}")


SUBJECT = Subject(
    title="Beam search",
    about="Search with a GRU decoder, beams of 8 (4 at V = 32,000). The greedy decoder takes the most probable token "
    "of as many rows, batch times width, without a score. KerasHub's sampler ranks hypotheses that ended with open "
    "ones; here none ends. “mean log p” is the decoder's of the sequences found, in float64.",
    prepare=prepare,
    size={"batch": 32, "steps": 40, "units": 128},
    quick={"batch": 2, "steps": 3, "units": 8},
    cases=tuple(cases()),
    bounds=tuple(bounds()),
)
