"""Encoders and decoders of Transformer blocks; the decoder keeps keys and values while searching."""

from typing import Any

from keras import layers, ops

from demos.sequence.attention import Block, positions
from demos.sequence.model import Encoded, EncoderDecoder


class Transformer(EncoderDecoder):
    """What networks with an encoder and a decoder of blocks do alike.

    A subclass calls `make_blocks`, and has the layer `dropout` and the function `embedding` of tokens.
    """

    dropout: Any
    embedding: Any

    def make_blocks(self, encoder_layers: int, decoder_layers: int, heads: int) -> None:
        """Makes the blocks of the encoder and of the decoder, with normalisation after each stack."""
        policy, sizes = self.dtype_policy, (self.units, heads, self.dropout_rate)
        self.heads = heads
        self.encoder = [Block(*sizes, dtype=policy) for _ in range(encoder_layers)]
        self.decoder = [Block(*sizes, with_memory=True, dtype=policy) for _ in range(decoder_layers)]
        self.encoder_norm, self.decoder_norm = (layers.LayerNormalization(dtype=policy) for _ in range(2))

    def encode_vectors(self, x, mask, training=False) -> Encoded:
        """The encoder's outputs for vectors (B, S, units), of which those count where `mask` (B, S) is true."""
        x = self.dropout(x + ops.cast(positions(ops.shape(x)[1], self.units), x.dtype), training=training)
        for block in self.encoder:
            x, _ = block(x, *block.remember_own(x), ops.expand_dims(mask, 1), training=training)
        return Encoded(self.encoder_norm(x), mask)

    def remember(self, encoded: Encoded):
        """What the decoder reads of an input: keys, values and mask for each block."""
        mask = ops.expand_dims(encoded.mask, 1)
        return [(*block.cross_attention.remember(encoded.outputs), mask) for block in self.decoder]

    def decoded(self, tokens, memory, training=False):
        """The decoder's outputs (B, U, units) after each of the tokens (B, U), and the last attention (B, U, S)."""
        places = ops.arange(ops.shape(tokens)[1], dtype="int32")
        is_earlier = ops.expand_dims(ops.expand_dims(places, 0) <= ops.expand_dims(places, 1), 0)
        x = self.embedding(tokens)
        x = self.dropout(x + ops.cast(positions(ops.shape(tokens)[1], self.units), x.dtype), training=training)
        for block, of_block in zip(self.decoder, memory, strict=True):
            x, weights = block(x, *block.remember_own(x), is_earlier, of_block, training=training)
        return self.decoder_norm(x), ops.mean(weights, axis=1)

    def initial_state(self, batch_size, max_length: int):
        """The state of a search that has seen nothing: how many tokens it saw, room for keys and values of all."""
        shape = (batch_size, self.heads, max_length, self.units // self.heads)
        rooms = [ops.zeros(shape, dtype=self.compute_dtype)] * len(self.decoder)
        return {"position": ops.zeros((batch_size,), dtype="int32"), "keys": rooms, "values": rooms}

    def step(self, tokens, state, memory):
        """Logits (B·W, V) of what follows the last tokens (B·W,), W per input of `memory`, and the new state."""
        max_length = state["keys"][0].shape[2]
        place = state["position"][0]  # the same in all rows
        is_earlier = ops.reshape(ops.arange(max_length, dtype="int32") <= place, (1, 1, max_length))
        x = ops.expand_dims(self.embedding(tokens), 1)
        x = x + ops.cast(ops.take(positions(max_length, self.units), place, axis=0), x.dtype)
        here = (0, 0, place, 0)
        new = {"position": state["position"] + 1, "keys": [], "values": []}
        for block, of_block, keys, values in zip(self.decoder, memory, state["keys"], state["values"], strict=True):
            key, value = block.remember_own(x)
            new["keys"].append(ops.slice_update(keys, here, key))
            new["values"].append(ops.slice_update(values, here, value))
            x, _ = block(x, new["keys"][-1], new["values"][-1], is_earlier, of_block)
        return self.logits(self.decoder_norm(x))[:, 0], new
