"""The loss of next tokens, with every kind of smoothing."""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

import keras_ls
from demos.sequence.tokenizers import IGNORED

# Shares of α that the tokens at distance 1 and 2 get together, on both sides.
NEIGHBOURHOOD = (0.7, 0.3)


def token_loss(
    kind: str, label_smoothing: float, vocabulary_size: int, labels: np.ndarray | None = None
) -> Callable[[Any, Any], Any]:
    """A function of labels (B, U), −1 where there is none, and logits (B, U, V): the mean cross-entropy in nats.

    Its `kind`, one of `SMOOTHING_KINDS`, spreads α evenly over all tokens; by how often each occurs in `labels`, all
    training labels with end tokens; or over the tokens before and after.
    """
    if kind != "neighbourhood":
        prior = None if kind == "uniform" else keras_ls.label_frequencies(labels, vocabulary_size)
        return keras_ls.SmoothedSparseCategoricalCrossentropy(
            label_smoothing, prior, from_logits=True, ignore_class=IGNORED
        )
    weights = [share * label_smoothing for share in NEIGHBOURHOOD]

    def loss(labels, logits):
        targets = keras_ls.neighbourhood_smoothed_targets(labels, vocabulary_size, weights, ignore_class=IGNORED)
        losses = keras_ls.smoothed_categorical_crossentropy(targets, logits, 0.0, from_logits=True)
        counts = ops.cast(labels != IGNORED, losses.dtype)
        return ops.sum(losses * counts) / ops.sum(counts)

    return loss
