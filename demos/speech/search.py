"""Beam search with a recogniser, compiled once for each width."""

import functools
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from keras import ops

import keras_ls
from demos.speech.features import NUM_MELS
from demos.speech.layers import Recogniser, encoded_lengths
from demos.speech.tokens import END, START, Tokens

FEATURES = tf.TensorSpec((None, None, NUM_MELS), tf.float32)
NUM_FRAMES = tf.TensorSpec((None,), tf.int32)
TOKENS = tf.TensorSpec((None, None), tf.int32)
TEMPERATURE = tf.TensorSpec((), tf.float32)
# The commands' default: beams compare the mean log p of a token. Sums favour short texts, and smoothed models, whose
# best text loses α of every token, end at once.
LENGTH_PENALTY = 1.0


class Hypothesis(NamedTuple):
    """What an utterance may have said, and its score: log p / tokens**length_penalty, in nats."""

    text: str
    score: float


class Searcher:
    """Finds the most probable transcripts of utterances, of at most a token an encoder output; predicts next tokens.

    All is compiled with any batch size, number of frames and temperature, so that data of many lengths and a
    sweep over temperatures need no other. What comes out for an utterance does not depend on its batch.

    Args:
        model: the recogniser.
        tokens: turns ids to text.
        max_frames: the most frames an utterance may have.
    """

    def __init__(self, model: Recogniser, tokens: Tokens, max_frames: int):
        self.model, self.tokens = model, tokens
        self.max_length = int(encoded_lengths(max_frames)) + 1
        self._compiled = functools.cache(self._compile)

    def recognise(
        self,
        features,
        num_frames,
        beam_width: int = 1,
        temperature: float = 1.0,
        length_penalty: float = 0.0,
        num_results: int = 1,
    ) -> list[list[Hypothesis]]:
        """The best transcripts of a batch, best first.

        Args:
            features: (B, T, 80), zero past the end of an utterance.
            num_frames: (B,) frames of each.
            beam_width: 1 is greedy search.
            temperature: logits are divided by it.
            length_penalty: 0 compares log p, 1 its mean a token.
            num_results: hypotheses an utterance, at most `beam_width`.
        """
        search = self._compiled(beam_width, length_penalty, num_results)
        sequences, lengths, scores = search(
            tf.convert_to_tensor(features, tf.float32),
            tf.convert_to_tensor(num_frames, tf.int32),
            tf.convert_to_tensor(temperature, tf.float32),
        )
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

    def transcripts(
        self,
        batches: Iterable,
        size: int,
        beam_width: int = 1,
        temperature: float = 1.0,
        length_penalty: float = 0.0,
    ) -> list[str]:
        """The best transcript of each of `size` utterances, in their order.

        Args:
            batches: of (x, y, indices), from `evaluation_batches`.
            size: how many utterances they hold.
            beam_width: 1 is greedy search.
            temperature: logits are divided by it.
            length_penalty: 0 compares log p, 1 its mean a token.
        """
        texts = [""] * size
        for x, _, indices in batches:
            found = self.recognise(x["features"], x["num_frames"], beam_width, temperature, length_penalty)
            for i, hypotheses in zip(np.asarray(indices), found, strict=True):
                texts[int(i)] = hypotheses[0].text
        return texts

    @functools.cached_property
    def _predict(self):
        inputs = {"features": FEATURES, "num_frames": NUM_FRAMES, "tokens": TOKENS}
        return tf.function(self.model, input_signature=[inputs], autograph=False).get_concrete_function()

    def _compile(self, beam_width, length_penalty, num_results):
        model = self.model

        @tf.function(input_signature=[FEATURES, NUM_FRAMES, TEMPERATURE], autograph=False)
        def search(features, num_frames, temperature):
            memory = model.remember(model.encode(features, num_frames))
            size = ops.shape(features)[0]
            not_start = tf.where(tf.range(model.vocabulary_size) != START, 0.0, -math.inf)

            def step(tokens, state):
                logits, state = model.step(tokens, state, memory)
                return logits + not_start, state

            result = keras_ls.beam_search(
                step,
                model.initial_state(size, self.max_length),
                size,
                START,
                END,
                self.max_length,
                beam_width,
                temperature,
                length_penalty,
                num_results,
                max_lengths=encoded_lengths(num_frames) + 1,
            )
            return result.tokens, result.lengths, result.scores

        return search.get_concrete_function()
