"""What callbacks that measure share: when they do it, what stands in `logs` and what TensorBoard gets."""

import dataclasses
import warnings
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
    written on another thread; an error there is raised after the next measurement, and is a warning when training ends.
    Of several processes all measure, since each takes part in every prediction, and the first writes.

    A training that goes on (its first epoch is not epoch 0) is also measured after its first epoch, for `logs` alone:
    callbacks that monitor them keep the first value that they find, with the weights of that moment.

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
        self._first: int | None = None

    def on_train_begin(self, logs=None):
        """Raises `ValueError` for what does not fit the model, and begins an event file."""
        self._latest, self._first = {}, None
        self._prepare()
        if self.log_dir is not None and is_first_process():
            self._writer = BackgroundWriter(self.log_dir)

    def on_epoch_end(self, epoch, logs=None):
        """Measures if it is time to, and adds the latest values to `logs`."""
        self._first = epoch if self._first is None else self._first
        is_due, goes_on = self._is_due(epoch), self.adds_to_logs and epoch == self._first > 0
        if is_due or goes_on:
            measurement = self._measure(epoch)
            self._latest = dict(measurement.values)
            if is_due and self._writer is not None:
                figures = {name: draw() for name, draw in measurement.figures.items()}
                self._writer.write(epoch, measurement.values, figures)
        if logs is not None and self.adds_to_logs:
            # Between measurements what Keras has just measured under the same name is newer.
            is_new = is_due or goes_on
            logs.update({name: value for name, value in self._latest.items() if is_new or name not in logs})

    def on_train_end(self, logs=None):
        """Waits until the event file is written."""
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except OSError as error:  # the callbacks behind this one may still have the best weights to restore
                warnings.warn(f"The last values are missing in {self.log_dir!r}: {error}.", stacklevel=2)

    def _is_due(self, epoch: int) -> bool:
        return (epoch + 1) % self.freq == 0

    def _prepare(self) -> None:
        raise NotImplementedError

    def _measure(self, epoch: int) -> Measurement:
        """Measures `self.model` as it is after `epoch`, counted from 0; random generators stay as they were."""
        raise NotImplementedError
