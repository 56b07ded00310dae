"""A Transformer recogniser, whose decoder keeps keys and values while searching."""

import keras
from keras import layers, ops

from demos.sequence.attention import Block, positions
from demos.speech.networks.recogniser import Encoded, Recogniser


@keras.saving.register_keras_serializable(package="keras_ls.demos")
class TransformerRecogniser(Recogniser):
    """Convolutional time reduction by 4, then an encoder and a decoder of Transformer blocks.

    It follows Vaswani et al. 2017, and Dong, Xu and Xu 2018 for speech. `units` is a multiple of 2 · `heads`.
    """

    def __init__(
        self, vocabulary_size: int, units=192, encoder_layers=4, decoder_layers=2, heads=4, dropout=0.1, **kwargs
    ):
        super().__init__(vocabulary_size, units, dropout, **kwargs)
        self.encoder_layers, self.decoder_layers, self.heads = encoder_layers, decoder_layers, heads
        policy = self.dtype_policy
        self.encoder = [Block(units, heads, dropout, dtype=policy) for _ in range(encoder_layers)]
        self.decoder = [Block(units, heads, dropout, True, dtype=policy) for _ in range(decoder_layers)]
        self.encoder_norm, self.decoder_norm = (layers.LayerNormalization(dtype=policy) for _ in range(2))
        self.build()

    def encode(self, features, num_frames, training=False) -> Encoded:
        """An `Encoded` of ⌈T / 4⌉ outputs, of features (B, T, 80)."""
        x, mask = self.reduction(features, num_frames)
        x = self.dropout(x + ops.cast(positions(ops.shape(x)[1], self.units), x.dtype), training=training)
        for block in self.encoder:
            x, _ = block(x, *block.remember_own(x), ops.expand_dims(mask, 1), training=training)
        return Encoded(self.encoder_norm(x), mask)

    def remember(self, encoded: Encoded):
        """What the decoder reads of an utterance: keys, values and mask for each block."""
        mask = ops.expand_dims(encoded.mask, 1)
        return [(*block.cross_attention.remember(encoded.outputs), mask) for block in self.decoder]

    def decode(self, tokens, memory, training=False, with_logits=True):
        """Logits (B, U, V) of what follows each token (B, U), or what they come from, and attention (B, U, S)."""
        places = ops.arange(ops.shape(tokens)[1], dtype="int32")
        is_earlier = ops.expand_dims(ops.expand_dims(places, 0) <= ops.expand_dims(places, 1), 0)
        x = self.embedding(tokens)
        x = self.dropout(x + ops.cast(positions(ops.shape(tokens)[1], self.units), x.dtype), training=training)
        for block, of_block in zip(self.decoder, memory, strict=True):
            x, weights = block(x, *block.remember_own(x), is_earlier, of_block, training=training)
        features = self.decoder_norm(x)
        return self.logits(features) if with_logits else features, ops.mean(weights, axis=1)

    def initial_state(self, batch_size, max_length: int):
        """The state of a search that has seen nothing: how many tokens it saw, room for keys and values of all."""
        shape = (batch_size, max_length, self.heads, self.units // self.heads)
        room = ops.zeros(shape, dtype=self.compute_dtype)
        rooms = [room] * self.decoder_layers
        return {"position": ops.zeros((batch_size,), dtype="int32"), "keys": rooms, "values": rooms}

    def step(self, tokens, state, memory):
        """Logits (B·W, V) of what follows the last tokens (B·W,), W per utterance of `memory`, and the new state."""
        max_length = state["keys"][0].shape[1]
        place = ops.expand_dims(state["position"], -1)  # the same in all rows
        is_here = ops.reshape(ops.arange(max_length, dtype="int32") == place, (-1, max_length, 1, 1))
        is_earlier = ops.expand_dims(ops.arange(max_length, dtype="int32") <= place, 1)
        x = ops.expand_dims(self.embedding(tokens), 1)
        x = x + ops.cast(ops.take(positions(max_length, self.units), place, axis=0), x.dtype)
        new = {"position": state["position"] + 1, "keys": [], "values": []}
        for block, of_block, keys, values in zip(self.decoder, memory, state["keys"], state["values"], strict=True):
            key, value = block.remember_own(x)
            new["keys"].append(ops.where(is_here, key, keys))
            new["values"].append(ops.where(is_here, value, values))
            x, _ = block(x, new["keys"][-1], new["values"][-1], is_earlier, of_block)
        return self.logits(self.decoder_norm(x))[:, 0], new

    def get_config(self):
        """The constructor's arguments."""
        sizes = {"encoder_layers": self.encoder_layers, "decoder_layers": self.decoder_layers, "heads": self.heads}
        return {**super().get_config(), **sizes}
