"""The `Calibration` callback: calibration on held-out data, epoch by epoch."""

import math
from typing import Any

import keras
import numpy as np

from keras_ls._arrays import log_softmax, smallest_probability
from keras_ls._checks import check_count
from keras_ls._predictions import LabelledData
from keras_ls.calibration import ReliabilityCurve, TemperatureScaling, reliability_curve
from keras_ls.callbacks._tensorboard import EventWriter, check_installed, prepare_log_dir


class Calibration(keras.callbacks.Callback):
    """Measures calibration on held-out data while a model trains, and logs it.

    After every `freq`-th epoch the model predicts `x` in inference mode, and these enter the epoch's `logs`, each name
    with `prefix` in front:

    - `ece`: expected calibration error, top label, `num_bins` bins (`ReliabilityCurve.ece`), in [0, 1];
    - `nll`: mean −log p_y in nats, p clipped to [ε, 1 − ε] (Keras's epsilon) unless `from_logits`;
    - `temperature`: the T that `TemperatureScaling.fit` finds on the same data;
    - `ece_scaled`: the ECE of softmax(z/T), z being the logits or log p.

    `History` records them, and callbacks that stand after this one can watch them with `mode="min"`. The epochs between
    two measurements repeat the last values; before the first one there are none, as for Keras's `validation_freq`. A
    model that gives NaN or infinities has NaN here. Random generators are left as they were: training is the same with
    the callback and without it.

    Args:
        x: inputs, an array or a list or dict of arrays, as `model.predict` takes them; or a dataset of (inputs,
            labels): `tf.data.Dataset`, `keras.utils.PyDataset` or `torch.utils.data.DataLoader`. A dataset is read once
            a measurement, in whatever order it comes, and once when training begins, for its labels.
        y: class ids (N, ...) or (N, ..., 1), integers or floats that hold integers, or one row a prediction (N, ..., K)
            whose largest entry is the class. None where `x` is a dataset.
        num_bins: number of bins, at least 1.
        from_logits: whether the model gives logits instead of probabilities.
        log_dir: folder for TensorBoard, or None. It gets the values above as scalars and, as the image
            `{prefix}reliability_diagram`, the reliability diagram before and after temperature scaling, which needs
            matplotlib.
        freq: number of epochs from one measurement to the next, at least 1.
        temperature_scaling: whether to measure `temperature` and `ece_scaled` too.
        prefix: put before each name.

    Raises:
        ValueError: here for empty data, `x` and `y` of different length, a `log_dir` that cannot be written, `num_bins`
            or `freq` below 1; when training begins for labels outside [0, K), shapes that cannot match, and
            predictions outside [0, 1] without `from_logits`.
        ImportError: where `log_dir` is given and matplotlib or tensorboard is absent.

    Example:
        >>> import numpy as np, keras, keras_ls
        >>> x, y = np.array([[4.0, 0.0], [0.0, 4.0], [4.0, 0.0]]), np.array([0, 1, 1])
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, kernel_initializer="identity")])
        >>> model.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> callback = keras_ls.Calibration(x, y, from_logits=True)
        >>> history = model.fit(x, y, callbacks=[callback], verbose=0).history
        >>> print({name: round(values[0], 3) for name, values in history.items() if name.startswith("val_")})
        {'val_ece': 0.315, 'val_nll': 1.351, 'val_temperature': 5.771, 'val_ece_scaled': 0.0}

    Reference:
        Müller, Kornblith and Hinton 2019, section 3.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        num_bins: int = 15,
        from_logits: bool = False,
        log_dir: Any = None,
        freq: int = 1,
        temperature_scaling: bool = True,
        prefix: str = "val_",
    ):
        super().__init__()
        self.num_bins = check_count("num_bins", num_bins)
        self.freq = check_count("freq", freq)
        self.from_logits = from_logits
        self.temperature_scaling = temperature_scaling
        self.prefix = prefix
        self._data = LabelledData(x, y)
        self.log_dir = None if log_dir is None else prepare_log_dir(log_dir)
        if log_dir is not None:
            check_installed("log_dir", "tensorboard", "matplotlib")
        self._writer: EventWriter | None = None
        self._latest: dict[str, float] = {}

    def on_train_begin(self, logs=None):
        """Looks for labels, shapes and predictions that do not fit, and opens the event file."""
        self._latest = {}
        first, labels = self._data.check(self.model)
        reliability_curve(labels, first, self.num_bins, self.from_logits)  # refuses what are no probabilities
        self._close()
        if self.log_dir is not None:
            self._writer = EventWriter(self.log_dir)

    def on_epoch_end(self, epoch, logs=None):
        """Measures where it is time to, and adds the latest values to `logs`."""
        if (epoch + 1) % self.freq == 0:
            values, curves = self._measure()
            self._latest = {f"{self.prefix}{name}": value for name, value in values.items()}
            if self._writer is not None:
                self._write(self._writer, curves, epoch)
        if logs is not None:
            logs.update(self._latest)

    def on_train_end(self, logs=None):
        """Closes the event file."""
        self._close()

    def _measure(self) -> tuple[dict[str, float], dict[str, ReliabilityCurve]]:
        predictions, labels = self._data.predict(self.model)
        curve = reliability_curve(labels, predictions, self.num_bins, self.from_logits)
        values = {"ece": curve.ece(), "nll": _negative_log_likelihood(labels, predictions, self.from_logits)}
        curves = {"as trained": curve}
        if self.temperature_scaling:
            logits = _logits(predictions, self.from_logits)
            values["temperature"] = values["ece_scaled"] = math.nan
            # Otherwise no temperature makes the labels possible.
            if np.isfinite([values["ece"], values["nll"]]).all():
                temperature = float(TemperatureScaling().fit(logits, labels).temperature)
                scaled = reliability_curve(labels, logits / temperature, self.num_bins, from_logits=True)
                values["temperature"], values["ece_scaled"] = temperature, scaled.ece()
                curves[f"T = {temperature:.2f}"] = scaled
        return values, curves

    def _write(self, writer: EventWriter, curves: dict[str, ReliabilityCurve], epoch: int) -> None:
        from keras_ls.plots import reliability_diagram

        for name, value in self._latest.items():
            writer.scalar(name, value, epoch)
        writer.image(f"{self.prefix}reliability_diagram", reliability_diagram(curves).figure, epoch)
        writer.flush()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _logits(predictions: np.ndarray, from_logits: bool) -> np.ndarray:
    """(N, K) predictions to float64 logits whose softmax they are."""
    rows = predictions.astype("float64")
    return rows if from_logits else np.log(np.maximum(rows, smallest_probability(str(predictions.dtype))))


def _negative_log_likelihood(labels: np.ndarray, predictions: np.ndarray, from_logits: bool) -> float:
    rows = predictions.astype("float64")
    if from_logits:
        logs = log_softmax(rows)
    else:
        epsilon = keras.config.epsilon()
        logs = np.log(np.clip(rows, epsilon, 1 - epsilon))
        logs[~np.isfinite(rows).all(axis=-1)] = np.nan
    return float(-logs[np.arange(len(labels)), labels].mean())
