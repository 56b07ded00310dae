"""Training that can be killed and continued: checkpoints, lines of progress, saved networks."""

import json
import math
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from demos.kit import records
from demos.kit.errors import DamagedFile, Diverged
from demos.kit.runs import Run

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_CHECKPOINTS = 10.0  # at least: small networks have many epochs a second
# What callbacks measure has names that begin like this.
MEASURED = "val_"
History = list[dict[str, Any]]


class Checkpoint(keras.callbacks.Callback):
    """Keeps the history and saves all that is needed to go on: after an epoch, if the last time was seconds ago.

    `start` is when training began, on the clock `time.monotonic`; `sessions` say what it ran on until now.
    """

    def __init__(
        self,
        path: pathlib.Path,
        history: History,
        freq: int,
        settings: dict[str, Any],
        start: float,
        sessions: list[dict[str, Any]],
    ):
        super().__init__()
        self.path, self.history, self.freq, self.settings = path, history, freq, settings
        self.start, self.sessions = start, sessions
        self.first_epoch = len(history)
        self.saved = -math.inf

    def on_epoch_end(self, epoch, logs=None):
        """Writes the checkpoint."""
        numbers = {name: float(value) for name, value in (logs or {}).items()}
        # The network is looked at, too: a last step may break it and leave the mean loss of the epoch finite.
        loss = numbers["loss"]
        if not math.isfinite(loss) or not is_finite(self.model):
            what = f"The training loss is {loss}" if not math.isfinite(loss) else "The weights are no longer finite"
            raise Diverged(f"{what} after {epoch + 1} epochs: lower the learning rate, or bound the gradient's norm.")
        self.history.append({"epoch": epoch + 1, **self._as_without_a_break(epoch, numbers)})
        now, is_last = time.monotonic(), epoch + 1 == self.params["epochs"]
        if is_last or now - self.saved >= SECONDS_BETWEEN_CHECKPOINTS:
            save(self.path, self.model, epoch + 1, self.history, self.settings, now - self.start, self.sessions)
            self.saved = time.monotonic()

    def _as_without_a_break(self, epoch: int, numbers: dict[str, float]) -> dict[str, float]:
        """Repeats the measurement of before the break where a callback has none of its own yet."""
        if not self.first_epoch or (epoch + 1) // self.freq > self.first_epoch // self.freq:
            return numbers
        last = self.history[self.first_epoch - 1]
        repeated = {name: last[name] for name in numbers if name.startswith(MEASURED) and name in last}
        return {name: value for name, value in numbers.items() if not name.startswith(MEASURED)} | repeated


class Progress(keras.callbacks.Callback):
    """One line per epoch, but none within seconds of the last: small networks have many epochs a second."""

    def __init__(self, label: str, steps_per_epoch: int, epochs: int, later_steps: int):
        super().__init__()
        self.label, self.length, self.epochs, self.later_steps = label, steps_per_epoch, epochs, later_steps
        self.start = self.last = 0.0
        self.first_epoch: int | None = None

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock."""
        if self.first_epoch is None:
            self.first_epoch, self.start = epoch, time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        """Prints the line."""
        now, done = time.monotonic(), epoch + 1
        if now - self.last < SECONDS_BETWEEN_LINES and done < self.epochs:
            return
        self.last = now
        per_step = (now - self.start) / ((done - (self.first_epoch or 0)) * self.length)
        left = per_step * ((self.epochs - done) * self.length + self.later_steps)
        numbers = " ".join(f"{name} {value:.4f}" for name, value in (logs or {}).items())
        to_go = f"{_duration(left)} of training to go{' in all' * bool(self.later_steps)}"
        print(
            f"{self.label} epoch {done}/{self.epochs} step {done * self.length}: {numbers} "
            f"({per_step * 1e3:.1f} ms per step, {to_go})",
            flush=True,
        )


def save(
    path: pathlib.Path,
    model: keras.Model,
    epoch: int,
    history: History,
    settings: dict[str, Any] | None = None,
    seconds: float = 0.0,
    sessions: Sequence[dict[str, Any]] = (),
) -> None:
    """Writes the weights, the optimizer's state and all other arguments into one file, atomically."""
    arrays = {f"{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(_state(model))}
    facts = {"settings": settings, "seconds": seconds, "sessions": list(sessions)}
    state = json.dumps({"epoch": epoch, "history": history, **facts})
    records.write(path, lambda file: np.savez(file, state=np.array(state), **arrays))


def restore(path: pathlib.Path, model: keras.Model, run: Run | None = None) -> tuple[int, History]:
    """Sets `model` and its optimizer to what `save` wrote; returns (epochs done, history).

    It is a DamagedFile if the file cannot be read, or is of another network or of other settings.
    """
    arrays, state = _read(path)
    if run is not None:
        run.check(path, state["settings"])
    variables = {str(i): variable for i, variable in enumerate(_state(model))}
    if {name: array.shape for name, array in arrays.items()} != {n: tuple(v.shape) for n, v in variables.items()}:
        raise DamagedFile(f"{path} is of another network. Without it, training starts anew.")
    for name, variable in variables.items():
        variable.assign(arrays[name])
    return state["epoch"], state["history"]


def seconds_before(path: pathlib.Path) -> float:
    """How long a training took until its checkpoint was written; 0 if there is none, or one of an earlier version."""
    return _read(path)[1]["seconds"] if path.exists() else 0.0


def sessions_before(path: pathlib.Path) -> list[dict[str, Any]]:
    """The backends, devices and versions that a training has run on, as far as its checkpoint says."""
    return _read(path)[1]["sessions"] if path.exists() else []


def load_network(folder: pathlib.Path) -> keras.Model:
    """The network that a finished training left in a folder; a DamagedFile if it cannot be read."""
    path = folder / "model.keras"
    records.check_file(path)
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # zip, HDF5, JSON and Keras each have their own
        raise DamagedFile(f"{path} cannot be used: {error}") from error


def is_finite(model: keras.Model) -> bool:
    """Whether no weight is NaN or infinite."""
    arrays = (np.asarray(keras.ops.convert_to_numpy(variable)) for variable in model.variables)
    return all(np.isfinite(array).all() for array in arrays if array.dtype.kind == "f")


def _read(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays that `save` wrote, by their places, and the rest of it."""
    records.check_file(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        state = {"settings": None, "seconds": 0.0, "sessions": [], **json.loads(str(arrays.pop("state")))}
        state |= {"epoch": int(state["epoch"]), "history": list(state["history"]), "seconds": float(state["seconds"])}
        if [entry["epoch"] for entry in state["history"]] != list(range(1, state["epoch"] + 1)):
            raise ValueError("its history is not that of its epochs")
    except Exception as error:  # a broken file fails in many ways: zip, zlib, header, JSON, no archive at all
        raise DamagedFile(f"{path} is damaged: {error}. Without it, training starts anew.") from error
    return arrays, state


def _state(model: keras.Model) -> list[Any]:
    # The states of dropout's seed generators are among the variables, not among the weights.
    return [*model.variables, *model.optimizer.variables]


def _duration(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 36_000 else f"{seconds / 3600:.1f} h"
