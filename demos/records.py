"""What a run of a demo leaves behind: settings that a resumed run must match, JSON files, what it ran on."""

import importlib
import json
import os
import pathlib
import platform
import sys
from typing import Any

import keras
import numpy as np

import keras_ls


def open_directory(out: pathlib.Path, settings: dict[str, Any], resume: bool) -> None:
    """Makes `out` ready for a run with these settings.

    With `resume`, an earlier run there must have had the same settings. Without it, an earlier run is moved aside:
    nothing that took hours is written over.

    Raises:
        ValueError: where the settings differ; the message names each difference.
    """
    path = out / "settings.json"
    settings = json.loads(json.dumps(settings))  # as they read back: tuples are lists
    if path.exists() and not resume:
        aside = next(p for i in range(1, sys.maxsize) if not (p := out.with_name(f"{out.name}.{i}")).exists())
        out.rename(aside)
        print(f"Note: the earlier run in {out} is now in {aside}.")
    if not path.exists():
        write_json(path, settings)
        return
    earlier = read_json(path)
    differences = [
        f"{name} was {earlier.get(name)!r}, now {settings.get(name)!r}"
        for name in sorted({*earlier, *settings})
        if earlier.get(name) != settings.get(name)
    ]
    if differences:
        raise ValueError(f"--resume needs the settings that {out} was started with: {'; '.join(differences)}.")


class DamagedFile(ValueError):
    """A file of an earlier run is not what was written; the message is one line that names it."""


def read_json(path: pathlib.Path) -> Any:
    """The value in a JSON file of a run.

    Raises:
        ValueError: where it is not there.
        DamagedFile: where it is corrupt.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path.parent} is no directory of a run: {path.name} is missing.") from None
    except ValueError as error:
        raise DamagedFile(f"{path} is corrupt: {error}") from error


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a file as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def provenance() -> dict[str, Any]:
    """Backend, device and versions that numbers come from."""
    backend = keras.backend.backend()
    return {
        "backend": backend,
        "device": device(),
        "versions": {
            "python": platform.python_version(),
            "keras_ls": keras_ls.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
            backend: importlib.import_module(backend).__version__,
        },
    }


def device() -> str:
    """The name of the device that the backend computes on."""
    backend = keras.backend.backend()
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
    return f"CPU ({os.cpu_count()} cores)"
