"""The command `keras-ls diagnose`: a diagnosis of a saved model, or of the saved predictions of any framework."""

import argparse
import os
import pathlib
import sys
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_ls.diagnosis.diagnose import diagnose, diagnose_predictions
from keras_ls.diagnosis.report import Diagnosis

# What reading an archive raises that is damaged, encrypted, or compressed in an unknown way.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError)
_ARRAYS = ("x", "y", "x_train", "y_train", "logits", "probabilities", "labels", "sample_weight")
_DESCRIPTION = """Says whether label smoothing, more or less of it, or a temperature would help a classifier.

  keras-ls diagnose MODEL.keras DATA.npz     DATA holds x and y of held-out data and, optionally, sample_weight, x_train
                                             and y_train
  keras-ls diagnose DATA.npz                 DATA holds logits or probabilities, labels and, optionally, sample_weight
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; errors are one line on the standard error stream and give 2."""
    args = _parser().parse_args(arguments)
    try:
        diagnosis = _diagnosis(args)
        try:
            encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
            print(str(diagnosis).encode(encoding, "replace").decode(encoding), flush=True)  # a pipe on Windows has no α
        finally:
            if args.json:
                diagnosis.to_json(args.json)
            if args.html:
                diagnosis.to_html(args.html)
    except Exception as error:  # a model raises what its layers and the backend do
        kind = "" if isinstance(error, ValueError | OSError | ImportError | TypeError) else f"{type(error).__name__}: "
        print(f"keras-ls diagnose: {kind}{' '.join(str(error).split())}", file=sys.stderr)
        _let_go_of_output()
        return 2
    return 0


def _let_go_of_output() -> None:
    """Drops what can be written no more, a pipe's reader having left, say: Python would fail on it when it ends."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="keras-ls")
    commands = parser.add_subparsers(dest="command", required=True)
    diagnose_parser = commands.add_parser(
        "diagnose",
        usage="keras-ls diagnose [options] [MODEL.keras] DATA.npz",
        description=_DESCRIPTION,
        help="whether label smoothing or a temperature would help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = diagnose_parser.add_argument
    add(
        "files",
        metavar="[MODEL.keras] DATA.npz",
        nargs="+",
        help="a saved Keras model, which may be left out, and a file of arrays",
    )
    add("--html", metavar="PAGE", help="write a page with diagrams")
    add("--json", metavar="FILE", help="write all numbers as JSON")
    add("--num-bins", type=int, default=15, help="bins of calibration errors (default: 15)")
    add("--level", type=float, default=0.95, help="level of the intervals (default: 0.95)")
    add("--num-resamples", type=int, default=1000, help="resamples for the intervals of rankings (default: 1000)")
    add("--seed", type=int, default=0, help="seed of the random halves and resamples (default: 0)")
    add("--ignore-class", type=int, help="a label whose positions do not count")
    add("--output", help="the output of a model that has several")
    add(
        "--from-logits",
        action="store_true",
        help="the model gives logits; needed only if its last layers do not show it",
    )
    return parser


def _diagnosis(args: argparse.Namespace) -> Diagnosis:
    *models, file = args.files
    if len(models) > 1:
        raise ValueError(f"Give a model, or none, and one file of arrays. Received: {len(args.files)} files.")
    named = [pathlib.Path(each).resolve() for each in (args.html, args.json, *args.files) if each]
    if len(set(named)) < len(named):
        raise ValueError("--html and --json must be files of their own, and none of those that are read.")
    for path in (args.html, args.json):
        if path and not pathlib.Path(path).resolve().parent.is_dir():
            raise ValueError(f"There is no folder to write {path} in.")
        if path and pathlib.Path(path).is_dir():
            raise ValueError(f"{path} is a folder: give a file in it.")
    arrays = _arrays(file)
    names = ("num_bins", "level", "num_resamples", "seed", "ignore_class")
    asked: dict[str, Any] = {name: getattr(args, name) for name in names}
    asked["sample_weight"] = arrays.get("sample_weight")
    if models:
        _require(arrays, file, "x", "y")
        training: dict[str, Any] = {name: arrays.get(name) for name in ("x_train", "y_train")}
        model = _model(models[0])
        asked |= {"output": args.output, "from_logits": args.from_logits or None}
        return diagnose(model, arrays["x"], arrays["y"], **training, **asked)
    for flag, given in (("--output", args.output), ("--from-logits", args.from_logits)):
        if given:
            raise ValueError(f"{flag} needs a model.")
    kind = next((name for name in ("logits", "probabilities") if name in arrays), "logits or probabilities")
    from_logits = kind == "logits"
    _require(arrays, file, kind, "labels")
    predictions = arrays[kind]
    return diagnose_predictions(arrays["labels"], predictions, from_logits=from_logits, **asked)


def _arrays(file: str) -> dict[str, np.ndarray | None]:
    """The arrays of a file that a diagnosis may need, and None for all others that it holds."""
    if not zipfile.is_zipfile(file):
        if not pathlib.Path(file).is_file():
            raise ValueError(f"There is no file {file}.")
        raise ValueError(f"{file} must be an .npz file of arrays, as numpy.savez writes it.")
    try:
        with np.load(file, allow_pickle=False) as read:
            return {name: _array(file, name, read) if name in _ARRAYS else None for name in read.files}
    except _UNREADABLE as error:
        raise ValueError(f"{file} cannot be read: {error}") from error


def _array(file: str, name: str, read: Mapping[str, np.ndarray]) -> np.ndarray:
    try:
        array = read[name]
    except ValueError as error:  # of objects, such as None or what pandas has for texts
        raise ValueError(f"The array {name} of {file} cannot be read: {error}") from error
    if array.dtype.kind == "V":
        raise ValueError(f"The array {name} of {file} is of a dtype that .npz files lose, such as bfloat16: cast it.")
    return array


def _model(file: str) -> keras.Model:
    try:
        return keras.saving.load_model(file, compile=False)
    except _UNREADABLE as error:
        raise ValueError(f"{file} cannot be read as a Keras model: {error}") from error


def _require(arrays: Mapping[str, Any], file: str, *names: str) -> None:
    missing = [name for name in names if name not in arrays]
    if missing:
        held = ", ".join(sorted(arrays)) or "nothing"
        raise ValueError(f"{file} must hold the arrays {' and '.join(names)}. Received: {held}.")
