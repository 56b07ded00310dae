"""What networks that read an input and write tokens have alike: what training, a search and pictures ask them for."""

from typing import Any, NamedTuple

import keras


class Encoded(NamedTuple):
    """The outputs of an encoder."""

    outputs: Any  # (B, S, D); meaningless where `mask` is false
    mask: Any  # bool (B, S), true for what comes from the input


class EncoderDecoder(keras.Model):
    """A network from the inputs that `sources` names to logits of the next token.

    One more input is "tokens", int (B, U): the start token and the tokens before each place to predict. The outputs are
    float32 (B, U, V), with a logit for the start token, too, which never comes next. V is `vocabulary_size`.

    A subclass has `sources`, `memory(inputs, training)`, `decoded(tokens, memory, training)` to the decoder's outputs
    and its attention, `logits(outputs)` with its weights as `head()`, and for a search `max_tokens(inputs)`,
    `initial_state` and `step`.
    """

    memory: Any
    decoded: Any
    logits: Any

    def __init__(self, vocabulary_size: int, units: int, dropout: float, **kwargs):
        super().__init__(**kwargs)
        self.vocabulary_size, self.units, self.dropout_rate = vocabulary_size, units, dropout

    def call(self, inputs, training=False):
        """Logits of each next token, given the correct ones before it."""
        return self.logits(self.penultimate(inputs, training))

    def penultimate(self, inputs, training=False):
        """The decoder's outputs (B, U, D), which the logits are made of."""
        return self.decoded(inputs["tokens"], self.memory(inputs, training), training)[0]

    def attention(self, inputs):
        """Where the decoder looks for each next token: float32 (B, U, S), rows with sum 1."""
        return self.decoded(inputs["tokens"], self.memory(inputs))[1]

    def get_config(self):
        """The constructor's arguments that all have."""
        sizes = {"vocabulary_size": self.vocabulary_size, "units": self.units, "dropout": self.dropout_rate}
        return {**super().get_config(), **sizes}
