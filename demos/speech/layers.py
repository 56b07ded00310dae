"""What both recognisers are made of: time reduction, attention, positions; and what they have in common."""

from typing import Any, NamedTuple

import keras
from keras import layers, ops

from demos.speech.batches import REDUCTION
from demos.speech.features import NUM_MELS


class Encoded(NamedTuple):
    """The outputs of an encoder.

    Attributes:
        outputs: (B, S, D), S = ⌈T / 4⌉; meaningless where `mask` is false.
        mask: bool (B, S), true for what comes from the utterance.
    """

    outputs: Any
    mask: Any


def encoded_lengths(num_frames):
    """⌈frames / `REDUCTION`⌉: how many encoder outputs utterances have; integers or tensors of them."""
    return (num_frames + REDUCTION - 1) // REDUCTION


def valid(lengths, size):
    """A mask, bool (B, `size`): true at the first `lengths` (B,) places."""
    return ops.arange(size, dtype="int32") < ops.expand_dims(ops.cast(lengths, "int32"), -1)


def positions(size, units: int):
    """Sines and cosines of places 0 to `size` − 1, float32 (`size`, `units`) (Vaswani et al. 2017, section 3.5)."""
    rates = ops.exp(ops.arange(0, units, 2, dtype="float32") * (-9.21034 / units))  # 10000^(−2i/units)
    angles = ops.expand_dims(ops.arange(size, dtype="float32"), -1) * rates
    return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)


@keras.saving.register_keras_serializable(package="keras_ls.demos")
class TimeReduction(layers.Layer):
    """Two convolutions over time of stride 2, then layer normalisation: frames (B, T, 80) to an `Encoded`.

    Frames past an utterance's end count as zero in both, so that neither padding nor the rest of a batch changes what
    comes out.
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.convolutions = [
            layers.Conv1D(units, 5, strides=2, activation="relu", dtype=self.dtype_policy) for _ in range(2)
        ]
        self.norm = layers.LayerNormalization(dtype=self.dtype_policy)

    def build(self, input_shape=None):
        """Makes the weights."""
        self.convolutions[0].build((None, None, NUM_MELS))
        self.convolutions[1].build((None, None, self.units))
        self.norm.build((None, None, self.units))

    def call(self, features, num_frames):
        """(B, T, 80) and (B,) to an `Encoded` of ⌈T / 4⌉ outputs."""
        x, mask = features, valid(num_frames, ops.shape(features)[1])
        for convolution in self.convolutions:
            # Padded here, the same on both sides: "same" would pad by whether T is even.
            x = convolution(ops.pad(x * ops.expand_dims(ops.cast(mask, x.dtype), -1), [(0, 0), (2, 2), (0, 0)]))
            num_frames = (num_frames + 1) // 2
            mask = valid(num_frames, ops.shape(x)[1])
        return Encoded(self.norm(x), mask)


@keras.saving.register_keras_serializable(package="keras_ls.demos")
class Attention(layers.Layer):
    """Scaled dot-product attention with heads; keys and values are made once and kept by the caller.

    Args:
        query_units: width of the queries.
        memory_units: width of what is attended to.
        units: width of the context, shared out among the heads.
        heads: a divisor of `units`.
        **kwargs: the arguments of every Keras layer.

    Reference:
        Vaswani et al. 2017, section 3.2.
    """

    def __init__(self, query_units: int, memory_units: int, units: int, heads: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.query_units, self.memory_units, self.units, self.heads = query_units, memory_units, units, heads
        self.query, self.key, self.value, self.output_projection = (
            layers.Dense(units, dtype=self.dtype_policy, name=name) for name in ("query", "key", "value", "output")
        )

    def build(self, input_shape=None):
        """Makes the weights."""
        self.query.build((None, None, self.query_units))
        self.key.build((None, None, self.memory_units))
        self.value.build((None, None, self.memory_units))
        self.output_projection.build((None, None, self.units))

    def remember(self, memory):
        """(B, S, `memory_units`) to keys and values (B, S, heads, units / heads) for `call`."""
        return self._split(self.key(memory)), self._split(self.value(memory))

    def call(self, queries, keys, values, mask):
        """Queries (B, Q, `query_units`) look at keys and values where `mask` is true.

        Args:
            queries: (B, Q, `query_units`).
            keys: from `remember`.
            values: from `remember`.
            mask: bool, to broadcast to (B, Q, S).

        Returns:
            The context (B, Q, units) and the weights, float32 (B, heads, Q, S), each row with sum 1.
        """
        scores = ops.einsum("bqhd,bkhd->bhqk", self._split(self.query(queries)), keys)
        scores = ops.cast(scores, "float32") * (self.units // self.heads) ** -0.5
        weights = ops.softmax(ops.where(ops.expand_dims(mask, 1), scores, -1e9), axis=-1)
        context = ops.einsum("bhqk,bkhd->bqhd", ops.cast(weights, values.dtype), values)
        return self.output_projection(ops.reshape(context, (*ops.shape(context)[:2], self.units))), weights

    def _split(self, x):
        return ops.reshape(x, (*ops.shape(x)[:2], self.heads, self.units // self.heads))


class Recogniser(keras.Model):
    """An attention recogniser: features in, logits of the next token out.

    Call arguments:
        inputs: "features" (B, T, 80), log-mel; "num_frames" int (B,), those that are no padding; "tokens" int (B, U),
            the start token and the tokens before each place to predict.

    Returns:
        Logits float32 (B, U, V); of the first id, the start token, too, which never comes next.

    A subclass has `encode`, `remember`, `decode`, `initial_state` and `step`. Its weights exist once it is made.

    Args:
        vocabulary_size: V, start and end token included.
        units: width of the layers.
        dropout: share of activations dropped in training.
        **kwargs: the arguments of every Keras model.
    """

    def __init__(self, vocabulary_size: int, units: int, dropout: float, **kwargs):
        super().__init__(**kwargs)
        self.vocabulary_size, self.units, self.dropout_rate = vocabulary_size, units, dropout
        self.reduction = TimeReduction(units, dtype=self.dtype_policy)
        self.embedding = layers.Embedding(vocabulary_size, units, dtype=self.dtype_policy)
        self.dropout = layers.Dropout(dropout, dtype=self.dtype_policy)
        self.logits = layers.Dense(vocabulary_size, dtype="float32", name="logits")
        self.ctc_head = layers.Dense(vocabulary_size, dtype="float32", name="ctc")

    def call(self, inputs, training=False):
        """Logits of each next token, given the correct ones before it."""
        encoded = self.encode(inputs["features"], inputs["num_frames"], training)
        return self.decode(inputs["tokens"], self.remember(encoded), training)[0]

    def attention(self, inputs):
        """Where the decoder looks for each next token: float32 (B, U, S), rows with sum 1."""
        encoded = self.encode(inputs["features"], inputs["num_frames"])
        return self.decode(inputs["tokens"], self.remember(encoded))[1]

    def ctc_logits(self, encoded: Encoded):
        """Float32 (B, S, V) for the CTC loss; its blank is id 0, the start token, which no transcript holds."""
        return self.ctc_head(encoded.outputs)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "units": self.units,
            "dropout": self.dropout_rate,
        }
