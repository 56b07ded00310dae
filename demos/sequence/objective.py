"""The loss of next tokens, with every kind of smoothing, and how networks are trained with it."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

import keras_ls
from demos.sequence.model import EncoderDecoder
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


class WarmUpThenInverseSquareRoot(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises in a line to `peak`, then falls with the square root of the step (Vaswani et al. 2017)."""

    def __init__(self, peak: float, warmup_steps: int):
        self.peak, self.warmup_steps = peak, warmup_steps

    def __call__(self, step):
        """The rate of a step, counted from 0."""
        step = ops.cast(step, "float32") + 1.0
        return self.peak * ops.minimum(step / self.warmup_steps, ops.sqrt(self.warmup_steps / step))

    def get_config(self):
        """The constructor's arguments."""
        return {"peak": self.peak, "warmup_steps": self.warmup_steps}


def fused_loss(loss: Any, labels, features, kernel, bias=None):
    """The mean of `loss`, a smoothed Keras loss of integer labels, without the logits features · kernel + bias.

    Labels are (…,), −1 where there is none; features (…, D); the kernel (D, V).
    """
    losses = keras_ls.linear_smoothed_crossentropy(
        features, kernel, bias, labels, loss.label_smoothing, loss.prior, loss.ignore_class
    )
    return ops.divide_no_nan(ops.sum(losses), ops.sum(ops.cast(labels != IGNORED, losses.dtype)))


def _labelled(labels, outputs):
    """The labels (M,) that there are, and their outputs (M, D)."""
    import tensorflow as tf

    is_labelled = labels != IGNORED
    return tf.boolean_mask(labels, is_labelled), tf.boolean_mask(outputs, is_labelled)


class TokenObjective(keras.Model):
    """A network that predicts next tokens, and what it is trained for: the loss of the next tokens.

    On TensorFlow without XLA there are logits where there are labels alone, none of padding. With
    `fused_output` the loss is computed without the logits in memory, from the network's `penultimate` outputs and its
    `head`; then the accuracy is not, and `loss` must be a Keras loss of integer labels.
    """

    def __init__(self, network: EncoderDecoder, loss: Any, fused_output: bool = False):
        super().__init__()
        self.network, self.token_loss, self.fused_output = network, loss, fused_output
        # In place of Keras's own mean, which counts rows without labels, too.
        self.mean_loss = keras.metrics.Mean("loss")
        self.accuracy: Any = None if fused_output else keras.metrics.Mean("accuracy")
        self.built = True

    def call(self, inputs, training=False):
        """The decoder's outputs (B, U, D)."""
        return self.network.penultimate(inputs, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss of a batch."""
        return self.counted(self.loss_of_tokens(y, y_pred), y)

    def loss_of_tokens(self, labels: Any, outputs: Any) -> Any:
        """The mean loss of a batch with labels (B, U), −1 where there is none, from the decoder's outputs."""
        if self._may_drop_rows():
            labels, outputs = _labelled(labels, outputs)
        if self.fused_output:
            return fused_loss(self.token_loss, labels, outputs, *self.network.head())
        logits = self.network.logits(outputs)
        # Not argmax, which Keras makes of several passes over the logits on TensorFlow.
        own = ops.take_along_axis(logits, ops.expand_dims(ops.maximum(labels, 0), -1), axis=-1)[..., 0]
        is_right = own >= ops.max(logits, axis=-1)
        self.accuracy.update_state(is_right, sample_weight=labels != IGNORED)
        return self.token_loss(labels, logits)

    def _may_drop_rows(self) -> bool:
        """Whether the number of rows may depend on the labels, and the loss of each on its own label alone."""
        has_any_shape = keras.backend.backend() == "tensorflow" and not self.jit_compile
        return has_any_shape and isinstance(self.token_loss, keras.losses.Loss)

    def counted(self, loss: Any, labels: Any) -> Any:
        """The loss of a batch, which counts in the mean of the epoch for as many rows as have labels."""
        has_labels = ops.cast(ops.any(labels != IGNORED, axis=-1), "float32")
        self.mean_loss.update_state(loss, sample_weight=ops.sum(has_labels))
        return loss
