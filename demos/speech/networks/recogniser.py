"""What both recognisers have in common: time reduction, and what a search and a training ask for."""

from types import MappingProxyType

import keras
from keras import layers, ops

from demos.sequence.attention import valid
from demos.sequence.transformer import Encoded
from demos.speech.sound.features import NUM_MELS, REDUCTION


def encoded_lengths(num_frames):
    """⌈frames / `REDUCTION`⌉: how many encoder outputs utterances have; integers or tensors of them."""
    return (num_frames + REDUCTION - 1) // REDUCTION


@keras.saving.register_keras_serializable(package="keras_ls.demos")
class TimeReduction(layers.Layer):
    """Two convolutions over time of stride 2, then layer normalisation: frames (B, T, 80) to an `Encoded`.

    Frames past an utterance's end count as zero in both, so that neither padding nor the rest of a batch changes the
    outputs.
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.convolutions = [
            layers.Conv1D(units, 5, strides=2, activation="relu", dtype=self.dtype_policy) for _ in range(2)
        ]
        self.norm = layers.LayerNormalization(dtype=self.dtype_policy)

    def call(self, features, num_frames):
        """(B, T, 80) and (B,) to an `Encoded` of ⌈T / 4⌉ outputs."""
        x, mask = features, valid(num_frames, ops.shape(features)[1])
        for convolution in self.convolutions:
            # Padded here, the same on both sides: "same" would pad by whether T is even.
            x = convolution(ops.pad(x * ops.expand_dims(ops.cast(mask, x.dtype), -1), [(0, 0), (2, 2), (0, 0)]))
            num_frames = (num_frames + 1) // 2
            mask = valid(num_frames, ops.shape(x)[1])
        return Encoded(self.norm(x), mask)


class Recogniser(keras.Model):
    """An attention recogniser: log-mel features in, logits of the next token out.

    Its inputs are "features" (B, T, 80); "num_frames", int (B,), without padding; "tokens", int (B, U): the start token
    and the tokens before each place to predict. Its outputs are float32 (B, U, V), with a logit for the start token,
    too, which never comes next. V is `vocabulary_size`, with the start and the end token.

    A subclass has `encode`, `remember`, `decode`, `initial_state` and `step`, and builds itself when it is made.
    """

    # The inputs of the encoder, with the shape and type of each
    sources = MappingProxyType({"features": ((None, None, NUM_MELS), "float32"), "num_frames": ((None,), "int32")})

    def __init__(self, vocabulary_size: int, units: int, dropout: float, **kwargs):
        super().__init__(**kwargs)
        self.vocabulary_size, self.units, self.dropout_rate = vocabulary_size, units, dropout
        self.reduction = TimeReduction(units, dtype=self.dtype_policy)
        self.embedding = layers.Embedding(vocabulary_size, units, dtype=self.dtype_policy)
        self.dropout = layers.Dropout(dropout, dtype=self.dtype_policy)
        self.logits = layers.Dense(vocabulary_size, dtype="float32", name="logits")
        self.ctc_head = layers.Dense(vocabulary_size, dtype="float32", name="ctc")

    def build(self, input_shape=None):
        """Makes the weights, by calling every layer once."""
        encoded = self.encode(ops.zeros((1, 2 * REDUCTION, NUM_MELS)), ops.full((1,), 2 * REDUCTION, "int32"))
        self.decode(ops.zeros((1, 2), "int32"), self.remember(encoded))
        self.ctc_logits(encoded)

    def call(self, inputs, training=False):
        """Logits of each next token, given the correct ones before it."""
        encoded = self.encode(inputs["features"], inputs["num_frames"], training)
        return self.decode(inputs["tokens"], self.remember(encoded), training)[0]

    def attention(self, inputs):
        """Where the decoder looks for each next token: float32 (B, U, S), rows with sum 1."""
        encoded = self.encode(inputs["features"], inputs["num_frames"])
        return self.decode(inputs["tokens"], self.remember(encoded))[1]

    def memory(self, inputs):
        """What the decoder reads of a batch of inputs, made once for a search."""
        return self.remember(self.encode(inputs["features"], inputs["num_frames"]))

    def max_tokens(self, inputs):
        """The most tokens (B,) that a search may find: one for each encoder output."""
        return encoded_lengths(inputs["num_frames"])

    def ctc_logits(self, encoded: Encoded):
        """Float32 (B, S, V) for the CTC loss; its blank is id 0, the start token, which no transcript holds."""
        return self.ctc_head(encoded.outputs)

    def get_config(self):
        """The constructor's arguments."""
        sizes = {"vocabulary_size": self.vocabulary_size, "units": self.units, "dropout": self.dropout_rate}
        return {**super().get_config(), **sizes}
