"""The recognisers, an LSTM and a Transformer: time reduction, encoders, decoders, and what a search asks them for."""

from types import MappingProxyType

import keras
from keras import layers, ops

from demos.sequence.attention import Attention, valid
from demos.sequence.model import Encoded, EncoderDecoder
from demos.sequence.transformer import Transformer
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


class Recogniser(EncoderDecoder):
    """An attention recogniser: log-mel features in, logits of the next token out.

    Its inputs are "features" (B, T, 80); "num_frames", int (B,), without padding; and those of every `EncoderDecoder`.

    A subclass has `encode`, `remember`, `decoded`, `initial_state` and `step`, and builds itself when it is made.
    """

    # The inputs of the encoder, with the shape and type of each
    sources = MappingProxyType({"features": ((None, None, NUM_MELS), "float32"), "num_frames": ((None,), "int32")})

    def __init__(self, vocabulary_size: int, units: int, dropout: float, **kwargs):
        super().__init__(vocabulary_size, units, dropout, **kwargs)
        self.reduction = TimeReduction(units, dtype=self.dtype_policy)
        self.embedding = layers.Embedding(vocabulary_size, units, dtype=self.dtype_policy)
        self.dropout = layers.Dropout(dropout, dtype=self.dtype_policy)
        self.logits = layers.Dense(vocabulary_size, dtype="float32", name="logits")
        self.ctc_head = layers.Dense(vocabulary_size, dtype="float32", name="ctc")

    def build(self, input_shape=None):
        """Makes the weights, by calling every layer once."""
        encoded = self.encode(ops.zeros((1, 2 * REDUCTION, NUM_MELS)), ops.full((1,), 2 * REDUCTION, "int32"))
        self.logits(self.decoded(ops.zeros((1, 2), "int32"), self.remember(encoded))[0])
        self.ctc_logits(encoded)

    def memory(self, inputs, training=False):
        """What the decoder reads of a batch of inputs, made once for a search."""
        return self.remember(self.encode(inputs["features"], inputs["num_frames"], training))

    def max_tokens(self, inputs):
        """The most tokens (B,) that a search may find: one for each encoder output."""
        return encoded_lengths(inputs["num_frames"])

    def ctc_logits(self, encoded: Encoded):
        """Float32 (B, S, V) for the CTC loss; its blank is id 0, the start token, which no transcript holds."""
        return self.ctc_head(encoded.outputs)

    def head(self):
        """The kernel and the bias of the layer that makes the logits."""
        return self.logits.kernel, self.logits.bias


@keras.saving.register_keras_serializable(package="keras_ls.demos")
class LSTMRecogniser(Recogniser):
    """Convolutional time reduction by 4, bidirectional LSTMs, and a decoder of two LSTMs with attention between them.

    The lower LSTM reads the tokens before, its output looks at the encoder, and the upper one reads both. In Chorowski
    and Jaitly 2017, section 3.1, the context goes back into the LSTM that looks, step by step; here it goes up instead,
    so that a training step handles all tokens at once, in cuDNN's LSTM on a GPU.

    `units` is the width of each LSTM (of each direction in the encoder), of the embedding and of the attention.
    """

    def __init__(self, vocabulary_size: int, units=192, encoder_layers=1, dropout=0.1, **kwargs):
        super().__init__(vocabulary_size, units, dropout, **kwargs)
        self.encoder_layers = encoder_layers
        self.encoder = [
            layers.Bidirectional(self._lstm(f"encoder_{i}"), dtype=self.dtype_policy) for i in range(encoder_layers)
        ]
        self.lower, self.upper = self._lstm("lower"), self._lstm("upper")
        self.cross_attention = Attention(units, dtype=self.dtype_policy)
        self.build()

    def _lstm(self, name):
        return layers.LSTM(self.units, return_sequences=True, dtype=self.dtype_policy, name=name)

    def encode(self, features, num_frames, training=False) -> Encoded:
        """An `Encoded` of ⌈T / 4⌉ outputs, of features (B, T, 80)."""
        x, mask = self.reduction(features, num_frames)
        for layer in self.encoder:
            x = self.dropout(layer(x, mask=mask), training=training)
        return Encoded(x, mask)

    def remember(self, encoded: Encoded):
        """What the decoder reads of an utterance: keys, values and mask."""
        return *self.cross_attention.remember(encoded.outputs), encoded.mask

    def decoded(self, tokens, memory, training=False):
        """The decoder's outputs (B, U, 2 · units) after each of the tokens (B, U), and the attention (B, U, S)."""
        lower = self.dropout(self.lower(self.embedding(tokens)), training=training)
        context, weights = self._look(lower, memory)
        upper = self.upper(ops.concatenate([lower, context], axis=-1))
        return self._outputs(upper, context, training), weights[:, 0]

    def initial_state(self, batch_size, max_length: int):
        """The state of a search that has seen nothing: hidden and cell state of both LSTMs, (B, units) each."""
        zeros = ops.zeros((batch_size, self.units), dtype=self.compute_dtype)
        return {"lower": [zeros, zeros], "upper": [zeros, zeros]}

    def step(self, tokens, state, memory):
        """Logits (B·W, V) of what follows the last tokens (B·W,), W per utterance of `memory`, and the new state."""
        lower, lower_state = self.lower.cell(self.embedding(tokens), state["lower"])
        grouped = ops.reshape(lower, (ops.shape(memory[0])[0], -1, self.units))
        context = ops.reshape(self._look(grouped, memory)[0], (-1, self.units))
        upper, upper_state = self.upper.cell(ops.concatenate([lower, context], axis=-1), state["upper"])
        return self.logits(self._outputs(upper, context)), {"lower": lower_state, "upper": upper_state}

    def _look(self, queries, memory):
        keys, values, mask = memory
        return self.cross_attention(queries, keys, values, ops.expand_dims(mask, 1))

    def _outputs(self, upper, context, training=False):
        return self.dropout(ops.concatenate([upper, context], axis=-1), training=training)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "encoder_layers": self.encoder_layers}


@keras.saving.register_keras_serializable(package="keras_ls.demos")
class TransformerRecogniser(Transformer, Recogniser):
    """Convolutional time reduction by 4, then an encoder and a decoder of Transformer blocks.

    It follows Vaswani et al. 2017, and Dong, Xu and Xu 2018 for speech. `units` is a multiple of 2 · `heads`.
    """

    def __init__(
        self, vocabulary_size: int, units=192, encoder_layers=4, decoder_layers=2, heads=4, dropout=0.1, **kwargs
    ):
        super().__init__(vocabulary_size, units, dropout, **kwargs)
        self.encoder_layers, self.decoder_layers = encoder_layers, decoder_layers
        self.make_blocks(encoder_layers, decoder_layers, heads)
        self.build()

    def encode(self, features, num_frames, training=False) -> Encoded:
        """An `Encoded` of ⌈T / 4⌉ outputs, of features (B, T, 80)."""
        reduced = self.reduction(features, num_frames)
        return self.encode_vectors(reduced.outputs, reduced.mask, training)

    def get_config(self):
        """The constructor's arguments."""
        sizes = {"encoder_layers": self.encoder_layers, "decoder_layers": self.decoder_layers, "heads": self.heads}
        return {**super().get_config(), **sizes}
