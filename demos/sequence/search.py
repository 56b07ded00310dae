"""Beam search with a model that writes tokens, compiled once for each width."""

import functools
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

import keras_ls
from demos.sequence.tokenizers import END, START, Tokens

TOKENS = tf.TensorSpec((None, None), tf.int32)
TEMPERATURE = tf.TensorSpec((), tf.float32)


class Hypothesis(NamedTuple):
    """A text and its score: log p / tokens**length_penalty, in nats."""

    text: str
    score: float


class Searcher:
    """Finds the most probable texts of inputs, and predicts next tokens.

    Whatever is compiled takes any batch size, length and temperature. The results for an input do not depend on the
    rest of its batch.

    Args:
        model: The model. `sources` names its inputs, with (shape, dtype) of each; `memory(inputs)` is what the decoder
            reads of them; `max_tokens(inputs)` bounds each text; `initial_state` and `step` are its decoder.
        tokens: What turns ids into text.
        max_length: The most tokens that any text may have.
    """

    def __init__(self, model: Any, tokens: Tokens, max_length: int):
        self.model, self.tokens, self.max_length = model, tokens, int(max_length)
        self.inputs = {name: tf.TensorSpec(*source) for name, source in model.sources.items()}
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
        search = self._compiled(beam_width, length_penalty, num_results)
        given = {name: tf.convert_to_tensor(inputs[name], spec.dtype) for name, spec in self.inputs.items()}
        sequences, lengths, scores = search(given, tf.convert_to_tensor(temperature, tf.float32))
        rows = zip(sequences.numpy(), lengths.numpy(), scores.numpy(), strict=True)
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
        return self._predict({name: tf.convert_to_tensor(value) for name, value in x.items()}).numpy()

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
        signature = [{**self.inputs, "tokens": TOKENS}]
        return tf.function(self.model, input_signature=signature, autograph=False).get_concrete_function()

    def _compile(self, beam_width, length_penalty, num_results):
        model = self.model

        @tf.function(input_signature=[self.inputs, TEMPERATURE], autograph=False)
        def search(inputs, temperature):
            memory, max_lengths = model.memory(inputs), model.max_tokens(inputs)
            size = tf.shape(max_lengths)[0]
            not_start = tf.where(tf.range(model.vocabulary_size) != START, 0.0, -math.inf)

            def step(tokens, state):
                logits, state = model.step(tokens, state, memory)
                return logits + not_start, state

            state = model.initial_state(size, self.max_length)
            how = (self.max_length, beam_width, temperature, length_penalty, num_results)
            result = keras_ls.beam_search(step, state, size, START, END, *how, max_lengths=max_lengths)
            return result.tokens, result.lengths, result.scores

        return search.get_concrete_function()
