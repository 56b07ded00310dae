"""What callbacks that measure share: when they do it, what stands in `logs` and what TensorBoard gets."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_ls._checks import check_count
from keras_ls._processes import is_first_process
from keras_ls.callbacks._tensorboard import BackgroundWriter, prepare_log_dir


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one measurement gave.

    Attributes:
        values: numbers by name: TensorBoard's scalars and, if the callback adds to them, entries of `logs`.
        figures: functions that draw a matplotlib `Figure`, by the name of TensorBoard's image. They are called only if
            there is a `log_dir`.
    """

    values: Mapping[str, float]
    figures: Mapping[str, Callable[[], Any]] = dataclasses.field(default_factory=dict)


class MeasuringCallback(keras.callbacks.Callback):
    """Measures after every `freq`-th epoch, adds the latest values to `logs`, and writes event files.

    A subclass defines `_prepare`, which raises `ValueError` for what does not fit the model, and `_measure`. It checks
    its own arguments before it calls `super().__init__`, which makes the folder. There is one event file per training,
    written on another thread; an error there is raised after the next measurement, or when training ends. Of several
    processes all measure, since each takes part in every prediction, and the first writes.

    A training that goes on (its first epoch is not epoch 0) has values from the start, so that callbacks that monitor
    them find them: those that this object measured last on the same model, else a measurement before the first epoch.

    Args:
        freq: number of epochs from one measurement to the next, at least 1.
        log_dir: folder for TensorBoard, or None.

    Raises:
        ValueError: If `freq` is not a count or `log_dir` cannot be written.
    """

    adds_to_logs = True

    def __init__(self, freq: int, log_dir: Any):
        super().__init__()
        self.freq = check_count("freq", freq)
        self.log_dir = None if log_dir is None else prepare_log_dir(log_dir)
        self._writer: BackgroundWriter | None = None
        self._latest: dict[str, float] = {}
        self._begun = False

    def set_model(self, model):
        """Sets the model that is about to train; values of another one are dropped."""
        if model is not self.model:
            self._latest = {}
        super().set_model(model)

    def on_train_begin(self, logs=None):
        """Raises `ValueError` for what does not fit the model, and begins an event file."""
        self._begun = False
        self._prepare()
        if self.log_dir is not None and is_first_process():
            self._writer = BackgroundWriter(self.log_dir)

    def on_epoch_begin(self, epoch, logs=None):
        """Sees to the values that a training starts with."""
        if self._begun:
            return
        self._begun = True
        if epoch == 0:
            self._latest = {}
        elif self.adds_to_logs and not self._latest and not self._is_due(epoch):
            # Not for TensorBoard: an earlier training may have written this very state.
            self._latest = dict(self._measure(epoch - 1).values)

    def on_epoch_end(self, epoch, logs=None):
        """Measures if it is time to, and adds the latest values to `logs`."""
        is_due = self._is_due(epoch)
        if is_due:
            measurement = self._measure(epoch)
            self._latest = dict(measurement.values)
            if self._writer is not None:
                figures = {name: draw() for name, draw in measurement.figures.items()}
                self._writer.write(epoch, measurement.values, figures)
        if logs is not None and self.adds_to_logs:
            # Between measurements what Keras has just measured under the same name is newer.
            logs.update({name: value for name, value in self._latest.items() if is_due or name not in logs})

    def on_train_end(self, logs=None):
        """Waits until the event file is written."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _is_due(self, epoch: int) -> bool:
        return (epoch + 1) % self.freq == 0

    def _prepare(self) -> None:
        raise NotImplementedError

    def _measure(self, epoch: int) -> Measurement:
        """Measures `self.model` as it is after `epoch`, counted from 0; random generators stay as they were."""
        raise NotImplementedError
