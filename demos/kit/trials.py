"""One training from its seed to its result, done once: what is on disk is read, what was interrupted goes on."""

import dataclasses
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras

from demos.kit import checkpoints, devices, records
from demos.kit.checkpoints import History
from demos.kit.errors import DamagedFile, Diverged
from demos.kit.runs import Run, provenance


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training."""

    name: str  # its directory in the run: with the settings of the run it says all that the result depends on
    seed: int  # the seed of the weights, the order of the examples, and all else that is random
    facts: Mapping[str, Any]  # what the result says of the training: label smoothing, a teacher's name and so on
    # Makes the compiled model that is trained, and the network in it that is kept, after everything random is seeded
    build: Callable[[], tuple[keras.Model, keras.Model]]
    batches: Callable[[int], Any]  # the step to begin with to the endless batches from there
    steps_per_epoch: int  # updates of the weights between two checkpoints
    epochs: int  # the number of epochs
    # The trained network, or None if it diverged, and the history to the numbers of the result
    evaluate: Callable[[keras.Model | None, History], dict[str, Any]]
    fields: Mapping[str, Any]  # what these numbers are, as `records.read_json` takes it
    # The network and its directory to the callbacks of the training
    callbacks: Callable[[keras.Model, pathlib.Path], Sequence[keras.callbacks.Callback]] = lambda *_: ()
    label: str = ""  # what stands in front of lines of progress
    keeps_network: bool = True  # whether the trained network is saved
    may_diverge: bool = False  # whether that is a result, and not an error

    def is_done(self, run: Run) -> bool:
        """Whether there is a result, good or damaged."""
        return os.path.lexists(run.out / self.name / "result.json")


def run_trials(trials: Iterable[Trial], run: Run, later_steps: int = 0) -> list[dict[str, Any]]:
    """The results of all trials, in order. What follows takes `later_steps`, for the estimate of the time left."""
    trials = list(trials)
    steps = [0 if trial.is_done(run) else trial.steps_per_epoch * trial.epochs for trial in trials]
    return [run_trial(trial, run, sum(steps[i + 1 :], later_steps)) for i, trial in enumerate(trials)]


def run_trial(trial: Trial, run: Run, later_steps: int = 0) -> dict[str, Any]:
    """The result of a trial; its directory gets `result.json` and, if it keeps the network, `model.keras`.

    It raises Diverged if it diverges and may not, and DamagedFile if a file of an earlier run cannot be used.
    """
    folder = run.out / trial.name
    if trial.is_done(run):
        result = read_result(trial, run)
        if devices.is_first_process():  # left by a kill between writing the result and removing this
            (folder / "checkpoint.npz").unlink(missing_ok=True)
        return result
    start = time.monotonic() - checkpoints.seconds_before(folder / "checkpoint.npz")  # as without a break
    here = provenance()
    elsewhere = [each for each in checkpoints.sessions_before(folder / "checkpoint.npz") if each != here]
    devices.new_session()
    keras.utils.set_random_seed(trial.seed)
    with devices.scope():
        model, network = trial.build()
    history: History = []
    try:
        with devices.scope():
            history = fit(trial, run, model, network, later_steps, start)
        numbers = trial.evaluate(network, history)
    except Diverged as error:
        if not trial.may_diverge:
            raise
        print(f"{trial.label} diverged: {error}", flush=True)
        numbers = trial.evaluate(None, history)
    if trial.keeps_network:
        records.write_as(folder / "model.keras", network.save)
    result = {**trial.facts, **numbers, "seconds": time.monotonic() - start, **here}
    if elsewhere:
        result["earlier_sessions"] = elsewhere
    records.write_json(folder / "result.json", {**result, "settings": run.settings, "history": history})
    if devices.is_first_process():
        (folder / "checkpoint.npz").unlink(missing_ok=True)
    devices.wait()
    return read_result(trial, run)


def fit(
    trial: Trial,
    run: Run,
    model: keras.Model,
    network: keras.Model,
    later_steps: int = 0,
    start: float | None = None,
) -> History:
    """Trains a compiled model, whose optimizer is built, going on from the trial's checkpoint if there is one.

    Callbacks run before an epoch's checkpoint is written, so that what they add to the logs is in the history, which is
    returned. It raises Diverged if the loss or the weights are no longer finite, and DamagedFile if the checkpoint
    cannot be used, such as one with other settings than those of `run`. The trial began at `start`, or else now.
    """
    path, callbacks = run.out / trial.name / "checkpoint.npz", trial.callbacks(network, run.out / trial.name)
    epoch, history = checkpoints.restore(path, model, run) if path.exists() else (0, [])
    if epoch < trial.epochs:
        freq = max([1, *(getattr(callback, "freq", 1) for callback in callbacks)])
        start = time.monotonic() if start is None else start
        here, sessions = provenance(), checkpoints.sessions_before(path)
        sessions += [] if here in sessions else [here]
        progress = checkpoints.Progress(trial.label, trial.steps_per_epoch, trial.epochs, later_steps)
        model.fit(
            devices.part_of(trial.batches(epoch * trial.steps_per_epoch)),
            initial_epoch=epoch,
            epochs=trial.epochs,
            steps_per_epoch=trial.steps_per_epoch,
            shuffle=False,
            verbose=0,
            callbacks=[
                *callbacks,
                progress,
                checkpoints.Checkpoint(path, history, freq, run.settings, start, sessions),
            ],
        )
    return history


def read_result(trial: Trial, run: Run) -> dict[str, Any]:
    """The result of a finished trial, without its run's settings; a DamagedFile if it is damaged or of another."""
    path = run.out / trial.name / "result.json"
    result = records.read_json(path, dict(trial.fields))
    run.check(path, result.pop("settings", None))
    for name, value in records.to_json(dict(trial.facts)).items():
        if name in result and result[name] != value:
            raise DamagedFile(f"{path} is of another training: its {name} is {result[name]!r}, not {value!r}.")
    return result
