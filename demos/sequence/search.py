"""Beam search with a model that writes tokens, compiled once for each width and for a few lengths."""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

import keras_ls
from demos.sequence.tokenizers import END, START, Tokens

TOKENS = ((None, None), "int32")
TEMPERATURE = ((), "float32")
LEAST_ROOM = 64  # tokens


class Hypothesis(NamedTuple):
    """A text and its score: log p / tokens**length_penalty, in nats."""

    text: str
    score: float


class Searcher:
    """Finds the most probable texts of inputs, and predicts next tokens.

    Whatever is compiled takes any batch size, input and temperature, and texts up to a length. The results for an input
    do not depend on the rest of its batch.

    Args:
        model: The model. `sources` names its inputs, with (shape, dtype) of each; `memory(inputs)` is what the decoder
            reads of them; `max_tokens(inputs)` bounds each text; `initial_state` and `step` are its decoder.
        tokens: What turns ids into text.
        max_length: The most tokens that any text may have.
    """

    def __init__(self, model: Any, tokens: Tokens, max_length: int):
        self.model, self.max_length = model, int(max_length)
        self.tokens: Any = tokens
        self.inputs = dict(model.sources)
        self._compiled = functools.cache(self._compile)

    def hypotheses(
        self,
        inputs: dict[str, Any],
        beam_width: int = 1,
        temperature: float = 1.0,
        length_penalty: float = 0.0,
        num_results: int = 1,
    ) -> list[list[Hypothesis]]:
        """At most `num_results` texts for each input of a batch, best first; width 1 is greedy search.

        Logits are divided by `temperature`; a `length_penalty` of 0 compares log p, 1 its mean per token.
        """
        given = {name: ops.convert_to_tensor(inputs[name], dtype) for name, (_, dtype) in self.inputs.items()}
        search = self._compiled(beam_width, length_penalty, num_results, self._room(given))
        found = search(given, ops.convert_to_tensor(temperature, "float32"))
        rows = zip(*map(ops.convert_to_numpy, found), strict=True)
        return [
            [
                Hypothesis(self.tokens.decode(ids[:length]), float(score))
                for ids, length, score in zip(*row, strict=True)
                if length
            ]
            for row in rows
        ]

    def logits(self, x) -> np.ndarray:
        """Logits (B, U, V) of each next token of a batch, given the correct ones before it."""
        given = {**self.inputs, "tokens": TOKENS}
        inputs = {name: ops.convert_to_tensor(x[name], dtype) for name, (_, dtype) in given.items()}
        return ops.convert_to_numpy(self._predict(inputs))

    def texts(self, batches: Iterable, size: int, *how: Any) -> list[str]:
        """The best text of each of `size` inputs, in their order, from batches of (x, y, places in that order).

        `how` is the width, temperature and length penalty of `hypotheses`.
        """
        texts = [""] * size
        for x, _, places in batches:
            for i, hypotheses in zip(np.asarray(places), self.hypotheses(x, *how), strict=True):
                texts[int(i)] = hypotheses[0].text
        return texts

    @functools.cached_property
    def _predict(self):
        return compiled(self.model, self.model.variables, {**self.inputs, "tokens": TOKENS})

    def _room(self, inputs):
        """The length that texts of a batch are given memory for, one of few, since each is compiled for."""
        longest, room = int(ops.max(self.model.max_tokens(inputs))), LEAST_ROOM
        while room < longest:
            room *= 2
        return min(room, self.max_length)

    def _compile(self, beam_width, length_penalty, num_results, room):
        model = self.model

        def search(inputs, temperature):
            memory, max_lengths = model.memory(inputs), ops.minimum(model.max_tokens(inputs), room)
            size = ops.shape(max_lengths)[0]
            # Log p is that among all tokens but the start token.
            not_start = ops.where(ops.arange(model.vocabulary_size) != START, 0.0, -math.inf)

            def step(tokens, state):
                logits, state = model.step(tokens, state, memory)
                return logits + not_start, state

            state = model.initial_state(size, room)
            how = (room, beam_width, temperature, length_penalty, num_results)
            result = keras_ls.beam_search(step, state, size, START, END, *how, max_lengths=max_lengths)
            return result.tokens, result.lengths, result.scores

        return compiled(search, model.variables, self.inputs, TEMPERATURE)


def compiled(function: Callable, variables: Sequence[Any], *signature: Any) -> Callable:
    """A function of tensors as the backend compiles it; on PyTorch as it is.

    `signature` has (shape, dtype) of each tensor. TensorFlow compiles once for all sizes that are None there, JAX once
    for each; `variables` are what the function reads, which training may change between two calls.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        specs = [
            {name: tf.TensorSpec(*spec) for name, spec in each.items()}
            if isinstance(each, dict)
            else tf.TensorSpec(*each)
            for each in signature
        ]
        return tf.function(function, input_signature=specs, autograph=False).get_concrete_function()
    if keras.backend.backend() != "jax":
        return function
    import jax

    def stateless(values, *arguments):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*arguments)

    jitted = jax.jit(stateless)
    return lambda *arguments: jitted([variable.value for variable in variables], *arguments)
