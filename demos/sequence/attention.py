"""Attention and what it needs: masks of lengths, positions, Transformer blocks that keep keys and values."""

from typing import Any

import keras
from keras import layers, ops


def valid(lengths, size):
    """A mask, bool (B, `size`): true at the first `lengths` (B,) places."""
    return ops.arange(size, dtype="int32") < ops.expand_dims(ops.cast(lengths, "int32"), -1)


def positions(size, units: int):
    """Sines and cosines of places 0 to `size` − 1, float32 (`size`, `units`) (Vaswani et al. 2017, section 3.5)."""
    rates = ops.exp(ops.arange(0, units, 2, dtype="float32") * (-9.21034 / units))  # 10000^(−2i/units)
    angles = ops.expand_dims(ops.arange(size, dtype="float32"), -1) * rates
    return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)


@keras.saving.register_keras_serializable(package="keras_ls.demos")
class Attention(layers.Layer):
    """Scaled dot-product attention (Vaswani et al. 2017, section 3.2); the caller keeps the keys and values.

    `units` is the width of the context, which the heads share equally.
    """

    def __init__(self, units: int, heads: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.units, self.heads = units, heads
        self.query, self.key, self.value, self.output_projection = (
            layers.Dense(units, dtype=self.dtype_policy, name=name) for name in ("query", "key", "value", "output")
        )

    def remember(self, memory):
        """Keys and values, (B, heads, S, units / heads) each, of a memory (B, S, D)."""
        return self._split(self.key(memory)), self._split(self.value(memory))

    def call(self, queries, keys, values, mask):
        """Lets queries (B, Q, D) look at what `remember` gave, where `mask`, broadcast to (B, Q, S), is true.

        Returns:
            The context (B, Q, units) and the weights, float32 (B, heads, Q, S), each row with sum 1.
        """
        scores = ops.einsum("bhqd,bhkd->bhqk", self._split(self.query(queries)), keys)
        scores = ops.cast(scores, "float32") * (self.units // self.heads) ** -0.5
        weights = ops.softmax(ops.where(ops.expand_dims(mask, 1), scores, -1e9), axis=-1)
        context = ops.transpose(ops.matmul(ops.cast(weights, values.dtype), values), (0, 2, 1, 3))
        return self.output_projection(ops.reshape(context, (*ops.shape(context)[:2], self.units))), weights

    def _split(self, x):
        heads = ops.reshape(x, (*ops.shape(x)[:2], self.heads, self.units // self.heads))
        return ops.transpose(heads, (0, 2, 1, 3))  # here, so that no step of a search moves what is kept


@keras.saving.register_keras_serializable(package="keras_ls.demos")
class Block(layers.Layer):
    """Self-attention, attention to a memory if there is one, and two dense layers, each added to its input.

    Each is preceded by normalisation (Xiong et al. 2020), which trains without a long warm-up.
    """

    def __init__(self, units: int, heads: int, dropout: float, with_memory: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.units, policy = units, self.dtype_policy
        self.self_attention = Attention(units, heads, dtype=policy)
        self.cross_attention: Any = Attention(units, heads, dtype=policy) if with_memory else None
        self.hidden = layers.Dense(4 * units, activation="relu", dtype=policy)
        self.output_projection = layers.Dense(units, dtype=policy)
        self.self_norm, self.hidden_norm = (layers.LayerNormalization(dtype=policy) for _ in range(2))
        self.cross_norm: Any = layers.LayerNormalization(dtype=policy) if with_memory else None
        self.dropout = layers.Dropout(dropout, dtype=policy)

    def remember_own(self, x):
        """Keys and values of inputs (B, Q, units) for self-attention."""
        return self.self_attention.remember(self.self_norm(x))

    def call(self, x, keys, values, mask, memory=None, training=False):
        """Outputs (B, Q, units) of inputs (B, Q, units), and the weights of the attention to `memory`, if there is one.

        Self-attention looks at `keys` and `values` where `mask` (B or 1, Q or 1, S) is true.
        """
        own, weights = self.self_attention(self.self_norm(x), keys, values, mask)
        x = x + self.dropout(own, training=training)
        if self.cross_attention is not None:
            shape = ops.shape(x)
            # In a search the W hypotheses of an example are queries side by side of one memory.
            queries = ops.reshape(self.cross_norm(x), (ops.shape(memory[0])[0], -1, self.units))
            context, weights = self.cross_attention(queries, *memory)
            x = x + self.dropout(ops.reshape(context, shape), training=training)
        hidden = self.output_projection(self.dropout(self.hidden(self.hidden_norm(x)), training=training))
        return x + self.dropout(hidden, training=training), weights
