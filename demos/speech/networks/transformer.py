"""A Transformer recogniser, whose decoder keeps keys and values while searching."""

import keras
from keras import layers

from demos.sequence.transformer import Encoded, Transformer, make_blocks
from demos.speech.networks.recogniser import Recogniser


@keras.saving.register_keras_serializable(package="keras_ls.demos")
class TransformerRecogniser(Transformer, Recogniser):
    """Convolutional time reduction by 4, then an encoder and a decoder of Transformer blocks.

    It follows Vaswani et al. 2017, and Dong, Xu and Xu 2018 for speech. `units` is a multiple of 2 · `heads`.
    """

    def __init__(
        self, vocabulary_size: int, units=192, encoder_layers=4, decoder_layers=2, heads=4, dropout=0.1, **kwargs
    ):
        super().__init__(vocabulary_size, units, dropout, **kwargs)
        self.encoder_layers, self.decoder_layers, self.heads = encoder_layers, decoder_layers, heads
        policy = self.dtype_policy
        self.encoder = make_blocks(encoder_layers, units, heads, dropout, policy)
        self.decoder = make_blocks(decoder_layers, units, heads, dropout, policy, with_memory=True)
        self.encoder_norm, self.decoder_norm = (layers.LayerNormalization(dtype=policy) for _ in range(2))
        self.build()

    def encode(self, features, num_frames, training=False) -> Encoded:
        """An `Encoded` of ⌈T / 4⌉ outputs, of features (B, T, 80)."""
        reduced = self.reduction(features, num_frames)
        return self.encode_vectors(reduced.outputs, reduced.mask, training)

    def decode(self, tokens, memory, training=False, with_logits=True):
        """Logits (B, U, V) of what follows each token (B, U), or what they come from, and attention (B, U, S)."""
        outputs, attention = self.decoded(tokens, memory, training)
        return self.logits(outputs) if with_logits else outputs, attention

    def get_config(self):
        """The constructor's arguments."""
        sizes = {"encoder_layers": self.encoder_layers, "decoder_layers": self.decoder_layers, "heads": self.heads}
        return {**super().get_config(), **sizes}
