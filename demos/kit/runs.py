"""The output directory of a run: one process at a time, always with the same settings, and its report."""

import collections
import contextlib
import dataclasses
import importlib
import os
import pathlib
import platform
import shlex
import sys
from collections.abc import Callable, Collection
from typing import Any

from demos.kit import devices, locks, pictures, records
from demos.kit.errors import DamagedFile
from demos.kit.options import CACHE_VARIABLE, DATA_VARIABLE

_locked: list[int] = []


@dataclasses.dataclass(frozen=True)
class Run:
    """A directory, and what all results in it have in common."""

    out: pathlib.Path  # the directory
    settings: dict[str, Any]  # everything that results depend on besides what tells its trainings apart
    # The settings of runs that were started before these were options
    defaults: dict[str, Any] = dataclasses.field(default_factory=dict)
    # Whether the directory says that its files were made with these settings, where they themselves do not
    is_known: bool = True

    def check(self, path: pathlib.Path, settings: dict[str, Any] | None) -> None:
        """Raises DamagedFile if a file says that it was made with other settings; None stands for a file without."""
        words = differences(settings or self.settings, self.settings, self.defaults)
        if not self.is_known and (settings is None or words):
            (self.out / "settings.json").unlink(missing_ok=True)  # it was written for this run, which ends here
        if settings is None and not self.is_known:
            raise DamagedFile(f"{path} does not say what settings it was made with, and settings.json was not there.")
        if words:
            raise DamagedFile(f"{path} was made with other settings: {words}.")


def differences(earlier: dict[str, Any], now: dict[str, Any], defaults: dict[str, Any] | None = None) -> str:
    """In words, which settings are not as they were; `defaults` stand where one side has none."""
    then, now = {**(defaults or {}), **earlier}, {**(defaults or {}), **now}
    names = [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
    return "; ".join(f"{name} was {then.get(name)!r}, now {now.get(name)!r}" for name in names)


def open_run(
    out: pathlib.Path,
    settings: dict[str, Any],
    resume: bool,
    defaults: dict[str, Any] | None = None,
    free: Collection[str] = (),
) -> Run:
    """Takes hold of a directory until the process, or the demo, ends.

    With `resume`, an earlier run there must have had the same settings. Without it, an earlier run is moved aside:
    nothing that took hours is written over. Settings that are `free` may differ in runs that still have them. It is a
    ValueError if the others differ (the message names each difference), or if another process works there.
    """
    path = out / "settings.json"
    if devices.is_first_process():
        _take(out, resume)
    elif not os.path.lexists(path):
        raise ValueError(f"--out must be a directory that all processes see, with what process 0 wrote: {out}.")
    is_known = os.path.lexists(path)
    run = Run(out, records.to_json(settings), records.to_json(defaults or {}), is_known)
    if is_known:
        earlier = {name: value for name, value in records.read_json(path).items() if name not in free}
        words = differences(earlier, run.settings, run.defaults)
        if words:
            raise ValueError(f"--resume needs the settings that the run was started with, {path}: {words}.")
    else:
        records.write_json(path, settings)
    return run


def check_apart(out: pathlib.Path, places: dict[str, str | None]) -> None:
    """Raises ValueError for an output directory that holds data, which a later run would move aside with it.

    `places` has the options that say where data lie; the environment may say it, too.
    """
    named = places | {f"${name}": os.environ.get(name) for name in (DATA_VARIABLE, CACHE_VARIABLE)}
    for name, given in named.items():
        place = pathlib.Path(given or os.devnull).expanduser().resolve()
        if given and out.resolve() in (place, *place.parents):
            raise ValueError(f"--out must not be the directory of {name}, nor hold it. Received: {out}.")


def _take(out: pathlib.Path, resume: bool) -> None:
    """Locks a directory; moves an earlier run in it aside unless it goes on, without what a kill left unfinished."""
    lock(out)
    if not os.path.lexists(out / "settings.json"):
        if resume:
            print(f"Note: there is no run in {out} to go on with; one begins there.", flush=True)
        return
    if resume:
        records.remove_leftovers(out)
    elif not out.name:
        raise ValueError(f"--out must not be a directory that has no name, with an earlier run in it. Received: {out}.")
    elif out.is_symlink():  # it would be renamed itself, and the new run would lie elsewhere
        raise ValueError(f"--out must not be a link to a directory with an earlier run in it. Received: {out}.")
    else:
        others = [path for path in out.rglob(".*lock") if path != out / locks.NAME]
        for path in others:  # of who reads the run, or works in a directory inside it
            lock(path.parent, path.name)
        for _ in others:
            os.close(_locked.pop())
        aside = next(p for i in range(1, sys.maxsize) if not (p := out.with_name(f"{out.name}.{i}")).exists())
        if locks.fcntl is None:  # Windows moves no directory that has an open file in it
            os.close(_locked.pop())
        try:
            out.rename(aside)
        except OSError as error:
            raise ValueError(
                f"The earlier run in {out} cannot be moved to {aside} ({error.strerror}): give --resume, or another "
                "--out."
            ) from error
        print(f"Note: the earlier run in {out} is now in {aside}.")
        lock(out)


def lock(out: pathlib.Path, name: str = locks.NAME) -> None:
    """Makes sure that no other process works in a directory, which is made if it is missing.

    It is a ValueError if one does. Locks of different names are for work that may go on there at the same time.
    """
    out.mkdir(parents=True, exist_ok=True)
    try:
        _locked.append(locks.take(out / name, wait=False))
    except BlockingIOError:
        raise ValueError(f"Another run is at work in {out}: wait for it, or give another --out.") from None


def unlock() -> None:
    """Lets go of all directories."""
    while _locked:
        os.close(_locked.pop())


def publish(
    run: Run,
    results: dict[str, Any],
    table: Callable[[dict[str, Any]], str],
    figure: Callable[[dict[str, Any]], Any],
    text_file: str | None = None,
    file: str = "results.json",
    networks: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Writes the results and the pictures, prints the table, and returns the results.

    The results are "experiment" (the demo's module), "title", "trials", "summary", "series" and "pictures" (names of
    files), and whatever else the demo states; settings, data and provenance are added. `table` makes text of them,
    `figure` the picture or a list of one for each file. `text_file` is the name of a file that gets the table, too.
    `networks` are the results of the networks where the trials do not say what trained them.
    """
    common = {"settings": run.settings, "data": run.settings.get("data"), "provenance": provenance()}
    results = records.to_json({**results, **common})
    _keep_other_results(run.out / file, results["experiment"])
    records.write_json(run.out / file, results)
    if results["pictures"]:
        pictures.save(figure(results), [run.out / name for name in results["pictures"]])
    text = f"{results['title']}\n\n{table(results)}\n{mixture(networks or results['trials'])}"
    print(f"\n{text}")
    print(f"Results: {run.out / file}")
    if text_file:
        records.write_text(run.out / text_file, text)
    for name in results["pictures"]:
        print(f"Picture: {run.out / name}")
    if any(run.out.rglob("events.out.*")):
        print(f"tensorboard --logdir {shlex.quote(str(run.out))}", flush=True)
    return results


def _keep_other_results(path: pathlib.Path, experiment: str) -> None:
    """Renames a file of results of another demo, which was given the same networks, after that demo."""
    with contextlib.suppress(ValueError, DamagedFile):  # missing, or nothing to keep
        other = records.read_json(path, {"experiment": str})["experiment"]
        if devices.is_first_process() and other != experiment:
            kept = path.with_name(f"{other.rpartition('.')[2]}.json")
            path.replace(kept)
            path.with_name(f"{experiment.rpartition('.')[2]}.json").unlink(missing_ok=True)  # what this once kept
            print(f"Note: the results of {other} are now in {kept}.")


def mixture(networks: list[dict[str, Any]]) -> str:
    """A line of text that says what networks were trained with, as their results do, where that differs; else none."""

    def named(network: dict[str, Any]) -> dict[str, str]:
        backend, versions = network["backend"], {name: f"{name} {v}" for name, v in network["versions"].items()}
        return {"backend": versions.pop(backend, backend), "device": network["device"], **versions}

    sessions = [each for network in networks for each in (network, *network.get("earlier_sessions", []))]
    rows = [named(session) for session in sessions if "versions" in session]
    names = dict.fromkeys(name for row in rows for name in row)
    counts = [collections.Counter(row.get(name, f"unknown {name}") for row in rows) for name in names]
    parts = [", ".join(f"{value} ({n})" for value, n in count.items()) for count in counts if len(count) > 1]
    return f"\nNetworks were trained with {'; '.join(parts)}.\n" if parts else ""


def provenance() -> dict[str, Any]:
    """Backend, device and versions that numbers come from."""
    keras = importlib.import_module("keras")
    backend = keras.backend.backend()
    packages = ("keras_ls", "keras", "numpy", backend)
    versions = {name: importlib.import_module(name).__version__ for name in packages}
    return {"backend": backend, "device": device(), "versions": {"python": platform.python_version(), **versions}}


def device() -> str:
    """The name of the device that the backend computes on, and how many of them if there are several."""
    number = devices.engine().number
    return f"{number} × {_name_of_device()}" if number > 1 else _name_of_device()


def _name_of_device() -> str:
    backend = importlib.import_module("keras").backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if gpus:
            return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    elif backend == "jax":
        import jax

        if jax.default_backend() != "cpu":
            return jax.devices()[0].device_kind
    elif backend == "torch":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name(0)
    number = devices.cores()
    return f"CPU ({number} core{'s' if number > 1 else ''})"
