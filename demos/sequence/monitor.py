"""What TensorBoard shows of a training: curves, calibration, texts."""

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_ls
from demos.kit import devices, pictures
from demos.kit.measures import calibration, curve_from_json
from demos.sequence.evaluation import Split, next_tokens
from demos.sequence.search import Searcher
from demos.sequence.tokenizers import END, IGNORED

TEXTS, ATTENTION = 8, 2


class Monitor(keras.callbacks.Callback):
    """Writes the logs of each epoch; once in `every` and after the last, what the model does on held-out examples.

    Nothing is chosen by it. After each look, and only then, the logs hold "val_accuracy", "val_nll", "val_ece" and the
    one of the split's `text_scores` that is called `score`.
    """

    def __init__(self, searcher: Searcher, split: Split, log_dir: pathlib.Path, epochs: int, every: int, score: str):
        super().__init__()
        self.searcher, self.split = searcher, split
        self.log_dir, self.epochs, self.every, self.score = str(log_dir), epochs, every, score
        self.writer: Any = None

    def on_train_begin(self, logs=None):
        """Opens the event file, in the process that writes."""
        is_first = devices.is_first_process()
        self.writer = tf.summary.create_file_writer(self.log_dir) if is_first else tf.summary.create_noop_writer()

    def on_epoch_end(self, epoch, logs=None):
        """Writes curves, and pictures and texts if it is time."""
        logs = {} if logs is None else logs
        with self.writer.as_default(step=epoch + 1):
            if (epoch + 1) % self.every == 0 or epoch + 1 == self.epochs:
                logs.update(self._look())
            tf.summary.scalar("learning_rate", self.model.optimizer.learning_rate)
            for name, value in logs.items():
                tf.summary.scalar(name, value)

    def on_train_end(self, logs=None):
        """Closes the event file."""
        self.writer.close()

    def _look(self) -> dict[str, float]:
        logits, labels = next_tokens(self.searcher, self.split)
        if not np.isfinite(logits).all():  # the checkpoint that follows refuses to go on
            return {}
        numbers = calibration(logits, labels)
        texts = self.split.search(self.searcher)
        diagram = keras_ls.reliability_diagram(curve_from_json(numbers["curve"]))
        for name, figure in {"next-token reliability": diagram.figure, **self._attention()}.items():
            tf.summary.image(name, pixels(figure))
        rows = zip(self.split.references[:TEXTS], texts, strict=False)
        lines = [f"| {reference} | {text} |" for reference, text in rows]
        tf.summary.text("texts", "\n".join(["| correct | found |", "|---|---|", *lines]))
        return {
            "val_accuracy": float(np.mean(logits.argmax(-1) == labels)),
            "val_nll": numbers["nll"],
            "val_ece": numbers["ece"],
            f"val_{self.score}": self.split.text_scores(texts)[self.score],
        }

    def _attention(self) -> dict[str, Any]:
        """Where the model looks in a few examples, given their correct tokens."""
        x, y, places = next(iter(self.split.batches()))
        weights = keras.ops.convert_to_numpy(self.searcher.model.attention(x))
        figures = {}
        for i, place in enumerate(np.asarray(places)[:ATTENTION]):
            labels = np.asarray(y)[i]
            ids = labels[labels != IGNORED]
            names = [self.searcher.tokens.decode([token]) or ("end" if token == END else " ") for token in ids]
            shown = weights[i, : len(ids)], names, self.split.inputs(place), self.split.references[place]
            figures[f"attention/{i}"] = attention_picture(*shown)
        return figures


def attention_picture(
    weights: np.ndarray, labels: Sequence[str], inputs: Sequence[str] | np.ndarray, title: str = ""
) -> Any:
    """A matplotlib `Figure` of where the decoder looks, (U, S), for each of the U next tokens.

    `inputs` names what it looks at, or has the time of each in seconds; it may be shorter than S.
    """
    from matplotlib.figure import Figure

    in_time, count = isinstance(inputs, np.ndarray), len(inputs)
    size = (min(12.0, 3.0 + (0.05 if in_time else 0.14) * count), min(16.0, 1.2 + 0.14 * len(labels)))
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    ax = figure.add_subplot()
    end = float(inputs[-1]) * count / max(1, count - 1) if in_time else count
    image = ax.imshow(
        weights[:, :count],
        aspect="auto",
        interpolation="nearest",
        cmap="Greys",
        vmin=0,
        vmax=1,
        extent=(0, end, len(labels) - 0.5, -0.5),
    )
    ax.set_yticks(range(len(labels)), [_shown(label) for label in labels], fontsize=7)
    ax.set(xlabel="Time (seconds)" if in_time else "Input", ylabel="Next token")
    if not in_time:
        ax.set_xticks(np.arange(count) + 0.5, [_shown(name) for name in inputs], fontsize=7, rotation=90)
    figure.colorbar(image, label="Attention weight", aspect=40)
    ax.set_title(pictures.plain(title), fontsize=9)
    return figure


def _shown(name: str) -> str:
    return name.replace(" ", "␣").replace("$", r"\$")


def show(pictures: Iterable[pathlib.Path], log_dir: pathlib.Path) -> None:
    """Writes PNG files, by their names, for TensorBoard."""
    with tf.summary.create_file_writer(str(log_dir)).as_default(step=0) as writer:
        for path in pictures:
            tf.summary.image(path.stem, tf.io.decode_png(path.read_bytes())[None])
        writer.close()


def pixels(figure: Any) -> np.ndarray:
    """A figure as uint8 (1, height, width, 4), what `tf.summary.image` takes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    with pictures.quiet_about_glyphs():
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[None]
