"""A Transformer from tokens to tokens of one vocabulary, whose embedding is also the output layer."""

from types import MappingProxyType

import keras
from keras import layers, ops

from demos.sequence.attention import valid
from demos.sequence.tokenizers import END
from demos.sequence.transformer import Transformer

# The most tokens of a translation: these for each source token, and these besides.
GROWTH, ROOM = 2, 10


@keras.saving.register_keras_serializable(package="keras_ls.demos")
class Translator(Transformer):
    """An encoder and a decoder of Transformer blocks (Vaswani et al. 2017; pre-norm, Xiong et al. 2020).

    Its inputs are "sources", int (B, S): the tokens of a sentence and the end token, then anything; "num_sources", int
    (B,): how many of them count; and those of every `EncoderDecoder`. `units` is a multiple of 2 · `heads`.
    """

    # The inputs of the encoder, with the shape and type of each
    sources = MappingProxyType({"sources": ((None, None), "int32"), "num_sources": ((None,), "int32")})

    def __init__(self, vocabulary_size: int, units=256, blocks=3, heads=4, dropout=0.1, **kwargs):
        # Its layers have the policy; the logits take the vectors of tokens as they are.
        super().__init__(vocabulary_size, units, dropout, autocast=False, **kwargs)
        self.blocks, policy = blocks, self.dtype_policy
        scale = keras.initializers.RandomNormal(stddev=units**-0.5)
        self.table = layers.Embedding(vocabulary_size, units, embeddings_initializer=scale, dtype=policy)
        self.make_blocks(blocks, blocks, heads)
        self.dropout = layers.Dropout(dropout, dtype=policy)
        self.build()

    def build(self, input_shape=None):
        """Makes the weights, by calling every layer once."""
        self.decoded(ops.zeros((1, 2), "int32"), self.memory({"sources": [[END] * 2], "num_sources": [2]}))

    @property
    def token_vectors(self):
        """The vector of each token, (V, units), for input and output."""
        return self.table.embeddings

    def embedding(self, tokens):
        """Vectors of tokens, of about the length of the positions'."""
        return self.table(tokens) * self.units**0.5

    def logits(self, outputs):
        """Float32 logits (…, V) of the decoder's outputs (…, units): their products with every token's vector."""
        vectors = ops.transpose(ops.cast(self.token_vectors, "float32"))
        return ops.matmul(ops.cast(outputs, "float32"), vectors)  # in half precision likely tokens would tie

    def head(self):
        """The kernel (units, V) that the decoder's outputs are multiplied by for logits, and no bias."""
        return ops.transpose(self.token_vectors), None

    def memory(self, inputs, training=False):
        """What the decoder reads of a batch of inputs, made once for a search."""
        sources = ops.convert_to_tensor(inputs["sources"])
        mask = valid(ops.convert_to_tensor(inputs["num_sources"]), ops.shape(sources)[1])
        return self.remember(self.encode_vectors(self.embedding(sources), mask, training))

    def max_tokens(self, inputs):
        """The most tokens (B,) that a search may find."""
        return GROWTH * inputs["num_sources"] + ROOM

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "blocks": self.blocks, "heads": self.heads}
