"""How a recogniser is trained: the network, the losses, the optimizer."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from demos.sequence.objective import TokenObjective, token_loss
from demos.sequence.tokenizers import END, START
from demos.speech.networks.recipe import Recipe
from demos.speech.networks.recognisers import LSTMRecogniser, Recogniser, TransformerRecogniser, encoded_lengths


def build(recipe: Recipe, vocabulary_size: int, precision: str = "float32") -> Recogniser:
    """The recogniser of a recipe, with fresh weights."""
    sizes: dict[str, Any] = {"units": recipe.units, "encoder_layers": recipe.encoder_layers, "dropout": recipe.dropout}
    if recipe.model == "lstm":
        return LSTMRecogniser(vocabulary_size, **sizes, dtype=precision)
    sizes |= {"decoder_layers": recipe.decoder_layers, "heads": recipe.heads}
    return TransformerRecogniser(vocabulary_size, **sizes, dtype=precision)


def ctc_loss(labels, logits, num_outputs, xla=False):
    """The CTC loss (Graves et al. 2006) of a batch: the mean over utterances of −log p(transcript) / tokens, in nats.

    `labels` (B, U) are the tokens, the end token, which has no part here, and then −1; `logits` are (B, S, V), with the
    start token's id as the blank. The loss of an utterance is 0 if it has no token, or if its `num_outputs` of the
    encoder are too few for its transcript: CTC needs one per token, and one more between two equal tokens.
    """
    is_label = labels > END
    lengths = ops.sum(ops.cast(is_label, "int32"), axis=-1)
    repeats = ops.sum(ops.cast(is_label[:, 1:] & (labels[:, 1:] == labels[:, :-1]), "int32"), axis=-1)
    fits = (lengths > 0) & (lengths + repeats <= num_outputs)
    # The others get one token, which always fits, and no weight.
    lengths = ops.where(fits, lengths, 1)
    targets = ops.where(is_label & ops.expand_dims(fits, -1), labels, START)
    targets = ops.concatenate([ops.where(fits, labels[:, 0], END)[:, None], targets[:, 1:]], axis=1)
    if xla:  # which cannot compile TensorFlow's own, whose time does not grow with the square of the length
        losses = ops.ctc_loss(targets, logits, lengths, num_outputs, mask_index=START)
    else:
        sparse = tf.sparse.from_dense(targets)
        losses = tf.nn.ctc_loss(sparse, logits, None, num_outputs, logits_time_major=False, blank_index=START)
    return ops.mean(ops.where(fits, losses, 0.0) / ops.cast(lengths, losses.dtype))


class Objective(TokenObjective):
    """A recogniser and what it is trained for: the loss of the next tokens, and with a weight that of CTC.

    CTC on the encoder as an auxiliary loss is from Watanabe et al. 2017; a weight of 0 leaves it out.
    """

    def __init__(self, recogniser: Recogniser, loss: Any, ctc_weight: float, fused_output: bool = False):
        super().__init__(recogniser, loss, fused_output)
        self.ctc_weight = ctc_weight
        names = ("token_loss", "ctc_loss") if ctc_weight else ("token_loss",)
        self.means = [keras.metrics.Mean(name) for name in names]
        recogniser.ctc_head.trainable = bool(ctc_weight)

    def call(self, inputs, training=False):
        """The decoder's outputs, and the logits of CTC where it has weight."""
        network = self.network
        encoded = network.encode(inputs["features"], inputs["num_frames"], training)
        outputs, _ = network.decoded(inputs["tokens"], network.remember(encoded), training)
        return (outputs, network.ctc_logits(encoded)) if self.ctc_weight else (outputs,)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss of a batch."""
        losses = [self.loss_of_tokens(y, y_pred[0])]
        if self.ctc_weight:
            losses.append(ctc_loss(y, y_pred[1], encoded_lengths(x["num_frames"]), bool(self.jit_compile)))
        for mean, loss in zip(self.means, losses, strict=True):
            mean.update_state(loss)
        return self.counted(losses[0] + sum(self.ctc_weight * loss for loss in losses[1:]), y)


def make_objective(
    recogniser: Recogniser, recipe: Recipe, label_smoothing: float, labels, fused_output=False, **machine: Any
) -> Objective:
    """Compiles a recogniser for training as the recipe says; `labels` are all labels of the training data.

    `machine` has the arguments of `keras.Model.compile` that say how steps are run, by default without XLA.
    """
    loss = token_loss(recipe.smoothing_kind, label_smoothing, recogniser.vocabulary_size, labels)
    objective = Objective(recogniser, loss, recipe.ctc_weight, fused_output)
    warmup = min(recipe.warmup_steps, recipe.steps - 1)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else recipe.learning_rate,
        recipe.steps - warmup,
        warmup_target=recipe.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.Adam(schedule, global_clipnorm=recipe.clipnorm or None)
    if keras.backend.backend() == "jax":  # where nothing else compiles
        machine["jit_compile"] = True
    objective.compile(optimizer, **{"jit_compile": False, **machine})
    optimizer.build(objective.trainable_variables)
    return objective
