"""Training that can be killed and continued: epochs of a length that fits, checkpoints, lines of progress."""

import json
import math
import os
import pathlib
import time
import zipfile
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from demos.records import DamagedFile

# Steps between two checkpoints where a pass over the data is shorter: a checkpoint costs as much as ten small steps.
SHORTEST_EPOCH = 100
SECONDS_BETWEEN_LINES = 5.0


class Diverged(RuntimeError):
    """The training loss is no longer a finite number."""


def epoch_length(steps: int, pass_length: int, multiple: int = 1) -> tuple[int, int]:
    """How many steps lie between two checkpoints, and how many of those epochs there are.

    An epoch is about a pass over the data, divides `steps` and is a multiple of `multiple`. Where no length between
    half a pass and two passes is both, it is a multiple, and the epochs together are a little more than `steps`.

    Args:
        steps: of the training.
        pass_length: batches in the training data.
        multiple: steps that run in one call (`steps_per_execution`).

    Returns:
        (steps an epoch, epochs).
    """
    target = min(steps, max(pass_length, SHORTEST_EPOCH))
    lengths = range(multiple, 2 * target + 1, multiple)
    fitting = [n for n in lengths if steps % n == 0 and 2 * n >= target]
    if fitting:
        length = min(fitting, key=lambda n: abs(n - target))
    else:
        length = math.ceil(steps / round(steps / target) / multiple) * multiple
    return length, math.ceil(steps / length)


def fit(
    model: keras.Model,
    batches: Callable[[int], Any],
    steps_per_epoch: int,
    epochs: int,
    checkpoint: pathlib.Path,
    callbacks: tuple[keras.callbacks.Callback, ...] = (),
    label: str = "",
) -> list[dict[str, Any]]:
    """Trains a compiled model, going on from `checkpoint` where that file exists.

    Args:
        model: whose optimizer is built.
        batches: the step to begin with to the endless batches from there.
        steps_per_epoch: updates of the weights between two checkpoints.
        epochs: in all.
        checkpoint: written after each epoch, as a whole or not at all.
        callbacks: run before the checkpoint is written, so that what they add to the logs is in the history.
        label: in front of each line of progress.

    Returns:
        The history: a dict of numbers an epoch.

    Raises:
        Diverged: where the loss is no longer finite.
    """
    epoch, history = restore(checkpoint, model) if checkpoint.exists() else (0, [])
    if epoch < epochs:
        model.fit(
            batches(epoch * steps_per_epoch),
            initial_epoch=epoch,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            shuffle=False,
            verbose=0,
            callbacks=[*callbacks, Progress(label, steps_per_epoch, epochs), Checkpoint(checkpoint, history)],
        )
    return history


class Checkpoint(keras.callbacks.Callback):
    """Keeps the history and saves all that is needed to go on, after each epoch."""

    def __init__(self, path: pathlib.Path, history: list[dict[str, Any]]):
        super().__init__()
        self.path, self.history = path, history

    def on_epoch_end(self, epoch, logs=None):
        """Writes the checkpoint."""
        numbers = {name: float(value) for name, value in (logs or {}).items()}
        if not math.isfinite(numbers["loss"]):
            raise Diverged(
                f"The training loss is {numbers['loss']} after {epoch + 1} epochs: "
                "lower --learning-rate or set --clipnorm."
            )
        self.history.append({"epoch": epoch + 1, **numbers})
        save(self.path, self.model, epoch + 1, self.history)


class Progress(keras.callbacks.Callback):
    """One line an epoch, but none within seconds of the last: small networks have many epochs a second."""

    def __init__(self, label: str, steps_per_epoch: int, epochs: int):
        super().__init__()
        self.label, self.length, self.epochs = label, steps_per_epoch, epochs
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
        numbers = " ".join(f"{name} {value:.4f}" for name, value in (logs or {}).items())
        print(
            f"{self.label} epoch {done}/{self.epochs} step {done * self.length}: {numbers} "
            f"({per_step * 1e3:.1f} ms a step, {per_step * (self.epochs - done) * self.length:.0f} s to go)",
            flush=True,
        )


def save(path: pathlib.Path, model: keras.Model, epoch: int, history: list[dict[str, Any]]) -> None:
    """Writes the weights, the optimizer's state, the epoch and the history into one file, atomically."""
    arrays = {f"{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(_state(model))}
    state = json.dumps({"epoch": epoch, "history": history})
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    with open(temporary, "wb") as file:
        np.savez(file, state=np.array(state), **arrays)
    os.replace(temporary, path)


def restore(path: pathlib.Path, model: keras.Model) -> tuple[int, list[dict[str, Any]]]:
    """Sets `model` and its optimizer to what `save` wrote; returns (epochs done, history).

    Raises:
        ValueError: where it is of another network.
        demos.records.DamagedFile: where it cannot be read.
    """
    variables = _state(model)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DamagedFile(f"{path} is corrupt: {error}. Without it, training starts anew.") from error
    if len(arrays) != len(variables) + 1:
        raise ValueError(f"{path} is of another network.")
    for i, variable in enumerate(variables):
        variable.assign(arrays[str(i)])
    state = json.loads(str(arrays["state"]))
    return state["epoch"], state["history"]


def _state(model: keras.Model) -> list[Any]:
    # The states of dropout's seed generators are among the variables, not among the weights.
    return [*model.variables, *model.optimizer.variables]
