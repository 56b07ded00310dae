"""The recogniser of Chorowski and Jaitly 2017: bidirectional LSTM encoder, LSTM decoder with attention."""

import keras
from keras import layers, ops

from demos.sequence.attention import Attention
from demos.speech.networks.recogniser import Encoded, Recogniser


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

    def decode(self, tokens, memory, training=False, with_logits=True):
        """Logits (B, U, V) of what follows each token (B, U), or what they come from, and the attention (B, U, S)."""
        lower = self.dropout(self.lower(self.embedding(tokens)), training=training)
        context, weights = self._look(lower, memory)
        upper = self.upper(ops.concatenate([lower, context], axis=-1))
        features = self._features(upper, context, training)
        return self.logits(features) if with_logits else features, weights[:, 0]

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
        return self.logits(self._features(upper, context)), {"lower": lower_state, "upper": upper_state}

    def _look(self, queries, memory):
        keys, values, mask = memory
        return self.cross_attention(queries, keys, values, ops.expand_dims(mask, 1))

    def _features(self, upper, context, training=False):
        return self.dropout(ops.concatenate([upper, context], axis=-1), training=training)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "encoder_layers": self.encoder_layers}
