"""The `EmbeddingProjector` callback: penultimate activations for TensorBoard's Embedding Projector."""

import math
import warnings
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ls._arrays import hard_labels, log_softmax, taken, to_numpy
from keras_ls._checks import check_count
from keras_ls._head import Forward, Probe
from keras_ls.callbacks._inputs import probe_for
from keras_ls.callbacks._projector import ProjectorFolder
from keras_ls.callbacks._sprite import check_images, sprite_sheet, to_pixels
from keras_ls.callbacks._tensorboard import check_installed, prepare_log_dir
from keras_ls.projection import class_templates

UNKNOWN = "unknown"
# How far from 1 the sum of a float16 or bfloat16 softmax may be, and its logits from those in float32.
HALF_PRECISION = 2e-2


class EmbeddingProjector(keras.callbacks.Callback):
    """Writes penultimate activations for TensorBoard's Embedding Projector.

    The projector shows each example as a point, and tells its label, the model's prediction (the id of its most
    probable class), its confidence (that class's probability) and whether the two agree; points can be coloured and
    searched by each of these, and drawn as their images. The folder `log_dir` is one run of TensorBoard, whose
    embeddings are called `epoch_0001`, `epoch_0002`, …, counted from 1 as Keras shows them. Those that an earlier
    training wrote there stay, unless one of the same number takes their place. Give every run, and every set of
    examples, a folder of its own: the projector then offers them side by side.

    A running TensorBoard reads the list of embeddings when a run appears. In a folder that holds nothing else the
    callback's run appears when its first embedding is complete; to see what comes later, or where other callbacks write
    to the same folder, start TensorBoard again.

    Args:
        x: inputs, an array or a list or dict of arrays, as `model.predict` takes them. Where the model has an output a
            time step (N, T), every step that its mask keeps is a point.
        log_dir: folder for TensorBoard.
        labels: class ids (N,) or (N, 1), one row an example (N, K) whose largest entry is the class, or strings (N,)
            to show as they are; with (N, T) in place of (N,) for time steps. Whether a prediction is correct is
            `unknown` for strings, and so is the label for None.
        images: (N, H, W), (N, H, W, 1) or (N, H, W, 3), or None. uint8 is shown as it is, floats in [0, 1] times 255;
            values of any other range are mapped to it linearly, the smallest of all to black and the largest to white.
            The projector multiplies them by the colour of their point: a light background shows it best.
        freq: number of epochs from one embedding to the next, at least 1; None for one, when training ends.
        max_examples: where there are more examples, or time steps, this many are drawn at random, always the same.

    Raises:
        ValueError: here, or when training begins where that needs the model: for labels or images that do not match
            `x`, ids outside [0, K), strings with tabs or line breaks, images that are none, a `log_dir` that cannot be
            written, `freq` or `max_examples` below 1, a model whose last layer with weights is no `Dense`, or that
            gives neither the logits of that `Dense` nor probabilities.
        ImportError: where tensorboard is absent, or Pillow for images.

    Example:
        >>> import numpy as np, keras, keras_ls, pathlib, tempfile
        >>> x, y = np.eye(4, dtype="float32"), np.array([0, 1, 2, 0])
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, kernel_initializer="identity")])
        >>> model.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> with tempfile.TemporaryDirectory() as log_dir:
        ...     projector = keras_ls.EmbeddingProjector(x, log_dir, labels=y, images=x.reshape(4, 2, 2))
        ...     history = model.fit(x, y, callbacks=[projector], verbose=0)
        ...     print((pathlib.Path(log_dir) / "projector/epoch_0001_metadata.tsv").read_text())
        label   prediction  confidence  correct
        0       0           0.576117    true
        1       1           0.576117    true
        2       2           0.576117    true
        0       0           0.333333    true

    Reference:
        https://www.tensorflow.org/tensorboard/tensorboard_projector_plugin
    """

    def __init__(
        self,
        x: Any,
        log_dir: Any,
        labels: Any = None,
        images: Any = None,
        freq: int | None = None,
        max_examples: int = 10000,
    ):
        super().__init__()
        self.freq = None if freq is None else check_count("freq", freq)
        self.max_examples = check_count("max_examples", max_examples)
        count = _length(x)
        chosen = _drawn(count, self.max_examples)
        self._x, self._count = taken(x, chosen), len(chosen)
        self._labels = None if labels is None else _check_labels(labels, count)[chosen]
        self._sprite: tuple[bytes, tuple[int, int]] | None = None
        if images is not None:
            check_installed("images", "pillow")
            self._sprite = sprite_sheet(to_pixels(check_images(images, count)[chosen]))
        check_installed("log_dir", "tensorboard")
        self.log_dir = prepare_log_dir(log_dir)
        self._folder = ProjectorFolder(self.log_dir)
        self._probe: Probe | None = None
        self._epoch = 0

    def on_train_begin(self, logs=None):
        """Looks for labels and outputs that do not fit."""
        self._epoch, self._probe = 0, probe_for(self.model, self._x)
        run = self._probe.forward(taken(self._x, np.arange(1)))
        if self._sprite is not None and run.outputs.ndim > 2:
            raise ValueError("`images` must be None where the model has an output a time step.")
        if run.mask is not None:
            run = self._probe.forward(self._x)  # only a whole pass tells which time steps, and so which labels, count
        _probabilities(_flat(run.activations), _flat(run.outputs), run.head)
        self._label_columns(run, self._places(run))

    def on_epoch_end(self, epoch, logs=None):
        """Writes where it is time to."""
        self._epoch = epoch + 1
        if self.freq is not None and self._epoch % self.freq == 0:
            self._write()

    def on_train_end(self, logs=None):
        """Writes once, without `freq`."""
        if self.freq is None:
            self._write()

    def _write(self) -> None:
        assert self._probe is not None
        run = self._probe.forward(self._x)
        places = self._places(run)
        points = _flat(run.activations)[places]
        if not np.isfinite(points).all():
            message = f"No embedding of epoch {self._epoch} is written: the projector cannot show NaN or infinities."
            warnings.warn(message, stacklevel=2)
            return
        probabilities = _probabilities(points, _flat(run.outputs)[places], run.head)
        ids, texts = self._label_columns(run, places)
        predictions, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
        broken = np.isnan(confidence)
        correct = [UNKNOWN] * len(texts)
        if ids is not None:
            correct = np.where((ids == predictions) & ~broken, "true", "false").tolist()
        columns = {
            "label": texts,
            "prediction": np.where(broken, "nan", predictions.astype(str)).tolist(),
            "confidence": [f"{value:.6f}" for value in confidence.tolist()],
            "correct": correct,
        }
        self._folder.add(f"epoch_{self._epoch:04d}", points, columns, self._sprite)

    def _places(self, run: Forward) -> np.ndarray:
        """Which of all examples, or time steps, are points, counted through all of them."""
        steps = math.prod(run.outputs.shape[1:-1])
        places = np.arange(self._count * steps) if run.mask is None else np.flatnonzero(run.mask)
        return places[_drawn(len(places), self.max_examples)]

    def _label_columns(self, run: Forward, places: np.ndarray) -> tuple[np.ndarray | None, list[str]]:
        """Class ids of the points, None where they are not known, and what to show as their labels."""
        if self._labels is None:
            return None, [UNKNOWN] * len(places)
        shape = (self._count, *run.outputs.shape[1:])
        rows = self._labels.shape == shape and self._labels.dtype.kind != "U"
        if not rows and self._labels.shape not in (shape[:-1], (*shape[:-1], 1)):
            raise ValueError(
                f"`labels` must hold one label a prediction. Received: shape {self._labels.shape}, and predictions of "
                f"shape {shape}."
            )
        chosen = (_flat(self._labels) if rows else self._labels.reshape(-1))[places]
        if chosen.dtype.kind == "U":
            return None, chosen.tolist()
        ids = hard_labels("labels", chosen, (len(places), shape[-1]))
        return ids, ids.astype(str).tolist()


def _probabilities(activations: np.ndarray, outputs: np.ndarray, head: keras.layers.Dense) -> np.ndarray:
    """(N, K) float64 probabilities from outputs that are logits or probabilities; NaN in rows that are not finite.

    Whether they are logits is not guessed from their range: logits (and log-probabilities) are, but for a constant in
    each row, what the last `Dense` gives.
    """
    rows = outputs.astype("float64")
    templates = class_templates(head).astype("float64")
    if rows.shape[1] != len(templates) or len(templates) < 2:
        raise ValueError(
            "`model` must give one logit or probability a class, of at least 2 classes. "
            f"Received: {rows.shape[1]} outputs of a Dense with {len(templates)} units."
        )
    rows[~np.isfinite(rows).all(axis=1)] = np.nan
    finite = ~np.isnan(rows[:, 0])
    logits = _centred(activations[finite].astype("float64") @ templates[:, :-1].T + templates[:, -1])
    difference, largest = np.abs(_centred(rows[finite]) - logits), np.abs(logits).max(initial=0.0)
    if difference.max(initial=0.0) <= HALF_PRECISION * largest:
        return np.exp(log_softmax(rows))
    if (rows[finite] < 0).any() or np.abs(rows[finite].sum(axis=1) - 1).max(initial=0.0) > HALF_PRECISION:
        raise ValueError(
            "`model` must give the logits of its last Dense or probabilities that sum to 1. Received: a model that "
            f"gives neither, such as {np.array2string(rows[finite][0], threshold=8, precision=3)}."
        )
    return rows


def _centred(rows: np.ndarray) -> np.ndarray:
    return rows - rows.mean(axis=1, keepdims=True)


def _flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, array.shape[-1])


def _drawn(count: int, limit: int) -> np.ndarray:
    """At most `limit` of `count` indices, in their order, always the same."""
    return np.sort(np.random.default_rng(0).permutation(count)[:limit])


def _length(x: Any) -> int:
    lengths: set[Any] = {leaf.shape[0] if getattr(leaf, "shape", ()) else None for leaf in tree.flatten(x)}
    if len(lengths) != 1 or not lengths.isdisjoint({None, 0}):
        raise ValueError(
            "`x` must be an array, or a list or dict of arrays of one length, that holds examples. "
            f"Received: {type(x).__name__} of lengths {sorted(map(str, lengths))}."
        )
    return int(lengths.pop())


def _check_labels(labels: Any, count: int) -> np.ndarray:
    """Returns `labels`, one an example, as numbers or strings that a table can hold."""
    array = ops.convert_to_numpy(labels) if ops.is_tensor(labels) else np.asarray(labels)
    array = _check_texts(array) if array.dtype.kind in "OSU" else to_numpy("labels", array)
    if array.ndim == 0 or len(array) != count:
        raise ValueError(f"`labels` must hold one label an example of `x` ({count}). Received: shape {array.shape}.")
    return array


def _check_texts(array: np.ndarray) -> np.ndarray:
    texts = [text.decode() if isinstance(text, bytes) else text for text in array.reshape(-1).tolist()]
    for text in texts:
        if not isinstance(text, str) or any(sign in text for sign in "\t\n\r"):
            raise ValueError(f"`labels` must be numbers, or strings without tabs and line breaks. Received: {text!r}.")
    return np.array(texts, dtype=str).reshape(array.shape)
