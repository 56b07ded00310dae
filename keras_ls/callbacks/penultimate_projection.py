"""The `PenultimateProjection` callback: the paper's three-class picture, epoch by epoch."""

import dataclasses
import math
import textwrap
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_ls._arrays import hard_labels, taken
from keras_ls._checks import check_count, check_string, shown
from keras_ls._models.head import Forward, Probe
from keras_ls._models.outputs import of_output
from keras_ls.callbacks._base import Measurement, MeasuringCallback
from keras_ls.callbacks._passes import Activations, Source
from keras_ls.callbacks._probe import probe_for
from keras_ls.callbacks._tensorboard import check_log_dir
from keras_ls.projection.activations import templates_of
from keras_ls.projection.clusters import ClusterStatistics, cluster_statistics
from keras_ls.projection.collapse import neural_collapse
from keras_ls.projection.plane import (
    EXAMPLES_PER_CLASS,
    Projection,
    check_classes,
    check_in_range,
    check_labels,
    check_steps,
    drawn,
    projected,
)


class PenultimateProjection(MeasuringCallback):
    """Draws the penultimate activations of three classes in the plane of their templates while a model trains.

    After every `freq`-th epoch TensorBoard gets, at that epoch's step,

    - the image `projection/plane`, as `class_projection` draws it;
    - the scalars `projection/within`, `projection/between`, `projection/ratio`, `projection/template_distance` and
      `projection/template_distance_cv`: `cluster_statistics` of the same points and templates in that plane;
    - the scalars `collapse/variability`, `collapse/cdnv` and so on: `neural_collapse` of the same examples, in the
      whole space of their activations.

    The same examples are shown each time. If the weights are NaN or three templates lie on a line there is no plane:
    the image is left out, with a warning, and the scalars of the plane are NaN.

    Args:
        x: inputs, an array or a list or dict of arrays, as `model.predict` takes them.
        y: class ids (N,) or (N, 1), or one-hot (N, K); for models with an output per time step (N, T), of which masked
            steps are left out. With `output` also the dict by outputs that `fit` takes.
        classes: the three classes: ids in [0, K), or names if `class_names` is given.
        log_dir: folder for TensorBoard, one for each such callback, since the names in it are fixed.
        freq: number of epochs from one picture to the next, at least 1.
        examples_per_class: at most this many of each class are drawn at random, always the same; all of them if a class
            has fewer (with a warning if you gave another number than the default).
        class_names: the names of all K classes, or None for the ids.
        output: the name of one output, if the model has several.

    Raises:
        ValueError: Here, or when training begins if that needs the model: if `classes` are not three different known
            classes, `y` does not match `x` or holds no example of a class, `log_dir` cannot be written, `freq` or
            `examples_per_class` is below 1, the last layer with weights is not a `Dense` of at least three units, the
            number of `class_names` is not that of the classes, the model has several outputs and none is named, or it
            preprocesses its inputs in `predict`.

    Example:
        >>> import numpy as np, keras, keras_ls, tempfile
        >>> x, y = np.eye(4, dtype="float32"), np.array([0, 1, 2, 0])
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> with tempfile.TemporaryDirectory() as log_dir:
        ...     callback = keras_ls.PenultimateProjection(
        ...         x, y, ["cat", "dog", "fox"], log_dir, examples_per_class=1, class_names=["cat", "dog", "fox"]
        ...     )
        ...     history = model.fit(x, y, callbacks=[callback], verbose=0)
        >>> callback.classes
        (0, 1, 2)

    Reference:
        Müller, Kornblith and Hinton 2019, section 2 and Figure 1.
    """

    adds_to_logs = False

    def __init__(
        self,
        x: Any,
        y: Any,
        classes: Sequence[int | str],
        log_dir: Any,
        freq: int = 1,
        examples_per_class: int = EXAMPLES_PER_CLASS,
        class_names: Sequence[str] | None = None,
        output: str | None = None,
    ):
        self.examples_per_class = check_count("examples_per_class", examples_per_class)
        self.class_names = None if class_names is None else _check_names(class_names)
        self.classes = check_classes(_ids(classes, self.class_names))
        self.output = None if output is None else check_string("output", output)
        self._x, self._labels = check_labels(x, of_output(y, self.output, None))
        self._source, self._rows = Source(x, self.output), np.empty(0, int)
        if self._labels.ndim == 1:
            (self._rows,) = self._drawn(self._labels)
            self._x, self._labels = taken(self._x, self._rows), self._labels[self._rows]
        self._shown: _Shown | None = None
        super().__init__(freq, check_log_dir(log_dir))

    def _prepare(self) -> None:
        """Finds classes and labels that do not fit the model."""
        probe = probe_for(self.model, self._x, self.output)
        run = probe.forward(self._x)
        check_in_range(self.classes, run.head)
        if self.class_names is not None and len(self.class_names) != run.head.units:
            raise ValueError(
                f"`class_names` must name all {run.head.units} classes. Received: {len(self.class_names)} names."
            )
        self._shown = self._choose(probe, run)

    def on_train_end(self, logs=None):
        """Waits until the event file is written."""
        self._shown = None
        super().on_train_end(logs)

    def _drawn(self, labels: np.ndarray, mask: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
        return drawn(labels, self.classes, self.examples_per_class, 0, mask, EXAMPLES_PER_CLASS)

    def _choose(self, probe: Probe, run: Forward) -> "_Shown":
        one_hot = self._labels.ndim == 2 and self._labels.shape == run.outputs.shape
        labels = hard_labels("y", self._labels, run.outputs.shape) if one_hot else self._labels
        check_steps(labels, run)
        if labels.ndim == 1:
            rows, x, width = self._rows, self._x, run.activations.shape[-1]
            if one_hot:
                (rows,) = self._drawn(labels)
                x, labels = taken(x, rows), labels[rows]
            inputs = Activations(self.model, self._source, rows, x, probe, width, self._is_due)
            return _Shown(inputs.forward, (np.arange(len(labels)),), labels)
        # Only the model knows which time steps count.
        places = self._drawn(labels, run.mask)
        examples, first = np.unique(places[0], return_inverse=True)
        x = taken(self._x, examples)
        return _Shown(lambda epoch: probe.forward(x), (first, *places[1:]), labels[places])

    def _measure(self, epoch: int) -> Measurement:
        assert self._shown is not None  # _prepare came first
        activations, run = self._shown.activations(epoch)
        labels, templates, figures = self._shown.labels, templates_of(run.head), {}
        values = dict.fromkeys((field.name for field in dataclasses.fields(ClusterStatistics)), math.nan)
        try:
            projection = projected(run.head, activations, labels, self.classes)
        except ValueError as error:
            warnings.warn(f"There is no picture of epoch {epoch + 1}: {error}", stacklevel=2)
        else:
            if self.class_names is not None:
                names = tuple(self.class_names[k] for k in self.classes)
                projection = dataclasses.replace(projection, class_names=names)
            values = dataclasses.asdict(cluster_statistics(activations, labels, templates[list(self.classes)]))
            figures["projection/plane"] = lambda: _picture(projection)
        collapse = dataclasses.asdict(neural_collapse(activations, labels, templates))
        scalars = {f"projection/{name}": value for name, value in values.items()}
        return Measurement(scalars | {f"collapse/{name}": value for name, value in collapse.items()}, figures)


@dataclasses.dataclass(frozen=True)
class _Shown:
    """What gives a pass over the inputs that hold what is shown, where in their activations that is, and its labels."""

    forward: Callable[[int], Forward]
    places: tuple[np.ndarray, ...]
    labels: np.ndarray

    def activations(self, epoch: int) -> tuple[np.ndarray, Forward]:
        """Those of the examples (N, D), and the pass that they are of."""
        run = self.forward(epoch)
        return run.activations[self.places], run


def _picture(projection: Projection) -> Any:
    from keras_ls.plots import class_projection

    return class_projection(projection).figure


def _are_several(values: Any) -> bool:
    return not isinstance(values, (str, bytes, keras.KerasTensor)) and np.iterable(values)


def _check_names(class_names: Any) -> list[str]:
    names = [str(name) for name in class_names] if _are_several(class_names) else []
    if not names or len(set(names)) != len(names):
        raise ValueError(f"`class_names` must be different names, one per class. Received: {shown(class_names)}.")
    return names


def _ids(classes: Any, names: list[str] | None) -> Any:
    """`classes` with names replaced by ids."""
    if not _are_several(classes):
        raise ValueError(f"`classes` must be three different classes. Received: classes={shown(classes)}.")
    if not any(isinstance(name, str) for name in classes):
        return classes
    return [_id(name, names) if isinstance(name, str) else name for name in classes]


def _id(name: str, names: list[str] | None) -> int:
    if names is None:
        raise ValueError(f"`classes` must be ids if `class_names` is not given. Received: {shown(name)}.")
    if name not in names:
        known = textwrap.shorten(", ".join(names), 200, placeholder=" …")
        raise ValueError(f"`classes` must be ids or known names: {known}. Received: {shown(name)}.")
    return names.index(name)
