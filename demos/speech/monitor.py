"""What TensorBoard shows of a training: curves, attention, calibration, transcripts."""

import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_ls
from demos.kit.measures import calibration, curve_from_json
from demos.speech import evaluation, pictures
from demos.speech.evaluation import Split
from demos.speech.layers import encoded_lengths
from demos.speech.search import Searcher
from demos.speech.tokens import END, START

TEXTS, ATTENTION = 8, 2


class Monitor(keras.callbacks.Callback):
    """Writes the logs of each epoch; every `freq` epochs and after the last, what the model does on held-out speech.

    Nothing is chosen by it. After each look the logs hold "val_accuracy", "val_nll", "val_ece" and "val_wer".

    Args:
        searcher: of the recogniser, used greedily.
        split: a few utterances of the development split.
        log_dir: where event files go.
        epochs: of the training.
        freq: epochs between two looks.
    """

    def __init__(self, searcher: Searcher, split: Split, log_dir: pathlib.Path, epochs: int, freq: int):
        super().__init__()
        self.searcher, self.split = searcher, split
        self.log_dir, self.epochs, self.freq = str(log_dir), epochs, freq
        self.writer: Any = None

    def on_train_begin(self, logs=None):
        """Opens the event file."""
        self.writer = tf.summary.create_file_writer(self.log_dir)

    def on_epoch_end(self, epoch, logs=None):
        """Writes curves, and pictures and texts where it is time."""
        logs = {} if logs is None else logs
        with self.writer.as_default(step=epoch + 1):
            if (epoch + 1) % self.freq == 0 or epoch + 1 == self.epochs:
                logs.update(self._look())
            tf.summary.scalar("learning_rate", self.model.optimizer.learning_rate)
            for name, value in logs.items():
                tf.summary.scalar(name, value)

    def on_train_end(self, logs=None):
        """Closes the event file."""
        self.writer.close()

    def _look(self) -> dict[str, float]:
        logits, labels = evaluation.next_tokens(self.searcher, self.split)
        if not np.isfinite(logits).all():  # the checkpoint that follows refuses to go on
            return {}
        numbers = calibration(logits, labels)
        texts = self.split.transcribe(self.searcher)
        diagram = keras_ls.reliability_diagram(curve_from_json(numbers["curve"]))
        tf.summary.image("next-token reliability", pictures.pixels(diagram.figure))
        rows = zip(self.split.features.transcripts[:TEXTS], texts, strict=False)
        lines = [f"| {reference} | {text} |" for reference, text in rows]
        tf.summary.text("transcripts", "\n".join(["| said | recognised |", "|---|---|", *lines]))
        for i in range(min(ATTENTION, len(self.split.features))):
            tf.summary.image(f"attention/{i}", pictures.pixels(self._attention(i)))
        return {
            "val_accuracy": float(np.mean(logits.argmax(-1) == labels)),
            "val_nll": numbers["nll"],
            "val_ece": numbers["ece"],
            "val_wer": self.split.error_rates(texts)[0],
        }

    def _attention(self, i: int):
        """The picture of an utterance of the split, given its correct tokens."""
        features, ids = self.split.features, self.split.token_ids[i]
        frames = features[i]
        length = int(encoded_lengths(len(frames)))
        inputs = {
            "features": frames[None],
            "num_frames": np.array([len(frames)], "int32"),
            "tokens": np.array([[START, *ids]], "int32"),
        }
        weights = keras.ops.convert_to_numpy(self.searcher.model.attention(inputs))[0, :, :length]
        names = [self.searcher.tokens.decode([token]) or ("end" if token == END else " ") for token in [*ids, END]]
        return pictures.attention_picture(weights, names, features.transcripts[i])
