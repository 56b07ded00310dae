"""The `EmbeddingProjector` callback: penultimate activations for TensorBoard's Embedding Projector."""

import contextlib
import math
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_ls._arrays import as_array, hard_labels, taken, to_numpy
from keras_ls._checks import check_count, check_string, shown
from keras_ls._models.head import Forward
from keras_ls._models.inputs import input_arrays, number_of_examples
from keras_ls._models.outputs import of_output
from keras_ls._processes import is_first_process
from keras_ls.callbacks._class_probabilities import outputs_are_logits, top_class
from keras_ls.callbacks._passes import Activations, Source
from keras_ls.callbacks._probe import probe_for
from keras_ls.callbacks._projector import ProjectorFolder
from keras_ls.callbacks._sprite import check_images, sprite_sheet, to_pixels
from keras_ls.callbacks._tensorboard import prepare_log_dir

UNKNOWN = "unknown"
BATCH_SIZE = 256


class EmbeddingProjector(keras.callbacks.Callback):
    """Writes penultimate activations for TensorBoard's Embedding Projector.

    The projector shows each example as a point, and tells its label, the model's prediction (the id of its most
    probable class), its confidence (that class's probability) and whether it is correct (1) or not (0); points can be
    coloured and searched by each of these, and drawn as their images. At first they are labelled by their label. A
    model with one output unit is of two classes: its output is the probability of class 1 (the sigmoid of its last
    `Dense`) or the logit.

    The folder `log_dir` is one run of TensorBoard, whose embeddings are called `epoch_0001`, `epoch_0002`, …, counted
    from 1 as Keras shows them. Those that an earlier training wrote there stay, unless one of the same number takes
    their place. Give every run, and every set of examples, a folder of its own: the projector then offers them side by
    side.

    A running TensorBoard reads the list of embeddings when a run appears. In a folder that holds nothing else the
    callback's run appears when its first embedding is complete; to see what comes later, or where other callbacks write
    to the same folder, start TensorBoard again.

    Args:
        x: inputs, an array or a list or dict of arrays, as `model.predict` takes them. If the model has an output per
            time step (N, T), every step that its mask keeps is a point.
        log_dir: folder for TensorBoard.
        labels: class ids (N,) or (N, 1), one row per example (N, K) whose largest entry is the class, or strings (N,)
            to show as they are; with (N, T) in place of (N,) for time steps; 0 and 1 for a binary model. Whether a
            prediction is correct is `unknown` for strings, and so is the label for None. With `output` also the dict by
            outputs that `fit` takes.
        images: (N, H, W), (N, H, W, 1) or (N, H, W, 3), or None. uint8 is shown as it is, floats in [0, 1] times 255;
            values of any other range are mapped to it linearly, the smallest of all to black and the largest to white.
            The projector multiplies them by the colour of their point: a light background shows it best.
        freq: number of epochs from one embedding to the next, at least 1; None for one, when training ends
            (of the weights that `EarlyStopping` restores, if that stands before it in the list).
        max_examples: if there are more examples, or time steps, this many are drawn at random, always the same.
        output: the name of one output, if the model has several.

    Raises:
        ValueError: Here, or when training begins if that needs the model: if labels or images do not match `x`, an id
            is outside [0, K), a string has tabs or line breaks, `images` holds no images, `log_dir` cannot be written,
            `freq` or `max_examples` is below 1, the last layer with weights is not a `Dense`, the model gives neither
            the logits of that `Dense` nor probabilities (a sigmoid of each of several units, as for several labels per
            example, is neither), has several outputs and none is named, or preprocesses its inputs in `predict`.

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
        0       0           0.576117    1
        1       1           0.576117    1
        2       2           0.576117    1
        0       0           0.333333    1

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
        output: str | None = None,
    ):
        super().__init__()
        self.freq = None if freq is None else check_count("freq", freq)
        self.max_examples = check_count("max_examples", max_examples)
        self.output = None if output is None else check_string("output", output)
        arrays = input_arrays("x", x)
        count = number_of_examples(arrays)
        chosen = _drawn(count, self.max_examples)
        self._x, self._count = arrays if len(chosen) == count else taken(arrays, chosen), len(chosen)
        self._source, self._rows = Source(x, self.output), chosen
        labels = of_output(labels, self.output, None)
        self._labels = None if labels is None else _check_labels(labels, count)[chosen]
        self._sprite: tuple[bytes, tuple[int, int]] | None = None
        if images is not None:
            self._sprite = sprite_sheet(to_pixels(check_images(images, count)[chosen]))
        self.log_dir = prepare_log_dir(log_dir)
        self._folder = ProjectorFolder(self.log_dir) if is_first_process() else None
        self._forward: Callable[[int], Forward] | None = None
        self._epoch, self._gives_logits = 0, False

    def on_train_begin(self, logs=None):
        """Raises `ValueError` for labels and outputs that do not fit the model."""
        self._epoch, probe = 0, probe_for(self.model, self._x, self.output)
        # As many as a batch of the passes to come, so that nothing is compiled twice.
        run = probe.forward(taken(self._x, np.arange(min(self._count, BATCH_SIZE))), BATCH_SIZE)
        if self._sprite is not None and run.outputs.ndim > 2:
            raise ValueError("`images` must be None if the model has an output per time step.")
        if run.mask is not None:
            # Only a whole pass tells which time steps, and so which labels, count.
            run = probe.forward(self._x, BATCH_SIZE)
        self._forward = lambda epoch: probe.forward(self._x, BATCH_SIZE)
        if run.mask is None and run.outputs.ndim == 2 and self.freq is not None:
            width = run.activations.shape[-1]
            inputs = Activations(self.model, self._source, self._rows, self._x, probe, width, self._is_due)
            self._forward = inputs.forward
        if run.activations.shape[:-1] != run.outputs.shape[:-1]:
            raise ValueError(
                "`model` must give one prediction per row of what its last Dense is given. Received: "
                f"{run.outputs.shape} outputs of {run.activations.shape} activations, as with pooling after the Dense."
            )
        self._gives_logits = outputs_are_logits(_flat(run.activations), _flat(run.outputs), run.head)
        places = self._places(run)
        if not len(places):
            raise ValueError("`x` must hold at least one time step that counts.")
        self._label_columns(run, places)

    def on_epoch_end(self, epoch, logs=None):
        """Writes if it is time to."""
        self._epoch = epoch + 1
        if self._is_due(epoch):
            self._write()

    def on_train_end(self, logs=None):
        """Writes once, without `freq`."""
        if self.freq is None and self._epoch > 0:
            self._write()
        self._forward = None

    def _is_due(self, epoch: int) -> bool:
        return self.freq is not None and (epoch + 1) % self.freq == 0

    def _write(self) -> None:
        assert self._forward is not None  # on_train_begin came first
        run = self._forward(self._epoch - 1)
        places = self._places(run)
        points = _flat(run.activations)[places]
        if not np.isfinite(points).all():
            message = f"No embedding of epoch {self._epoch} is written: the projector cannot show NaN or infinities."
            warnings.warn(message, stacklevel=2)
            return
        outputs = _flat(run.outputs)[places]
        # Training moves first weights at which it cannot be told, such as zeros, and may round where it could.
        with contextlib.suppress(ValueError):
            self._gives_logits = outputs_are_logits(points, outputs, run.head)
        predictions, confidence = top_class(outputs, self._gives_logits)
        ids, texts = self._label_columns(run, places)
        broken = np.isnan(confidence)
        correct = [UNKNOWN] * len(texts)
        if ids is not None:
            # Digits, not words: the projector labels points by the first column that is not all numbers.
            correct = np.where((ids == predictions) & ~broken, "1", "0").tolist()
        columns = {
            "label": texts,
            "prediction": np.where(broken, "nan", predictions.astype(str)).tolist(),
            "confidence": [f"{value:.6f}" for value in confidence.tolist()],
            "correct": correct,
        }
        if self._folder is not None:
            self._folder.add(f"epoch_{self._epoch:04d}", points, columns, self._sprite)

    def _places(self, run: Forward) -> np.ndarray:
        """Which of all examples, or time steps, are points, counted through all of them."""
        steps = math.prod(run.outputs.shape[1:-1])
        places = np.arange(self._count * steps) if run.mask is None else np.flatnonzero(run.mask)
        return places[_drawn(len(places), self.max_examples)]

    def _label_columns(self, run: Forward, places: np.ndarray) -> tuple[np.ndarray | None, list[str]]:
        """Class ids of the points, None if they are not known, and what to show as their labels."""
        if self._labels is None:
            return None, [UNKNOWN] * len(places)
        shape = (self._count, *run.outputs.shape[1:])
        rows = self._labels.shape == shape and shape[-1] > 1 and self._labels.dtype.kind != "U"
        if not rows and self._labels.shape not in (shape[:-1], (*shape[:-1], 1)):
            raise ValueError(
                f"`labels` must hold one label per prediction. Received: shape {self._labels.shape}, and predictions "
                f"of shape {shape}."
            )
        chosen = (_flat(self._labels) if rows else self._labels.reshape(-1))[places]
        if chosen.dtype.kind == "U":
            return None, chosen.tolist()
        ids = hard_labels("labels", chosen, (len(places), max(2, shape[-1])))
        return ids, ids.astype(str).tolist()


def _flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, array.shape[-1])


def _drawn(count: int, limit: int) -> np.ndarray:
    """At most `limit` of `count` indices, in their order, always the same."""
    return np.sort(np.random.default_rng(0).permutation(count)[:limit])


def _check_labels(labels: Any, count: int) -> np.ndarray:
    """Returns `labels`, one per example, as numbers or strings that a table can hold."""
    try:
        array = as_array(labels)
    except ValueError:  # ragged lists
        array = np.empty(0)
    if array.ndim == 0 or len(array) != count:
        raise ValueError(
            f"`labels` must hold one label per example of `x` ({count}). Received: labels={shown(labels)} of shape "
            f"{array.shape}."
        )
    return _check_texts(array) if array.dtype.kind in "OSU" else to_numpy("labels", array)


def _check_texts(array: np.ndarray) -> np.ndarray:
    texts = [_text(label) for label in array.reshape(-1).tolist()]
    return np.array(texts, dtype=str).reshape(array.shape)


def _text(label: Any) -> str:
    text = label.decode(errors="replace") if isinstance(label, bytes) else label
    if not isinstance(text, str) or any(sign in text for sign in "\t\n\r"):
        raise ValueError(
            f"`labels` must be numbers, or strings without tabs and line breaks. Received: {shown(label)}."
        )
    return text.encode(errors="replace").decode()  # what UTF-8 cannot hold, as of names of files, becomes "?"
