"""What TensorBoard shows of a training: curves, calibration, texts."""

import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_ls
from demos.kit.measures import calibration, curve_from_json
from demos.sequence.evaluation import Split, next_tokens
from demos.sequence.search import Searcher

TEXTS = 8


class Monitor(keras.callbacks.Callback):
    """Writes the logs of each epoch; every `freq` epochs and after the last, what the model does on held-out examples.

    Nothing is chosen by it. After each look the logs hold "val_accuracy", "val_nll", "val_ece" and the error rate that
    the split calls `rate`.
    """

    def __init__(self, searcher: Searcher, split: Split, log_dir: pathlib.Path, epochs: int, freq: int, rate: str):
        super().__init__()
        self.searcher, self.split = searcher, split
        self.log_dir, self.epochs, self.freq, self.rate = str(log_dir), epochs, freq, rate
        self.writer: Any = None

    def on_train_begin(self, logs=None):
        """Opens the event file."""
        self.writer = tf.summary.create_file_writer(self.log_dir)

    def on_epoch_end(self, epoch, logs=None):
        """Writes curves, and pictures and texts if it is time."""
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

    def figures(self) -> dict[str, Any]:
        """Further pictures of a look, by their names."""
        return {}

    def _look(self) -> dict[str, float]:
        logits, labels = next_tokens(self.searcher, self.split)
        if not np.isfinite(logits).all():  # the checkpoint that follows refuses to go on
            return {}
        numbers = calibration(logits, labels)
        texts = self.split.search(self.searcher)
        diagram = keras_ls.reliability_diagram(curve_from_json(numbers["curve"]))
        for name, figure in {"next-token reliability": diagram.figure, **self.figures()}.items():
            tf.summary.image(name, pixels(figure))
        rows = zip(self.split.references[:TEXTS], texts, strict=False)
        lines = [f"| {reference} | {text} |" for reference, text in rows]
        tf.summary.text("texts", "\n".join(["| correct | found |", "|---|---|", *lines]))
        return {
            "val_accuracy": float(np.mean(logits.argmax(-1) == labels)),
            "val_nll": numbers["nll"],
            "val_ece": numbers["ece"],
            f"val_{self.rate}": self.split.error_rates(texts)[self.rate],
        }


def pixels(figure: Any) -> np.ndarray:
    """A figure as uint8 (1, height, width, 4), what `tf.summary.image` takes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[None]
