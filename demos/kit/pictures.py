"""Pictures as files."""

import pathlib
from collections.abc import Iterable
from typing import Any


def save(figure: Any, paths: Iterable[pathlib.Path]) -> None:
    """Saves a matplotlib `Figure`, or one for each file, in the formats that the names of the files say."""
    paths = list(paths)
    for path, each in zip(paths, figure if isinstance(figure, list) else [figure] * len(paths), strict=True):
        each.savefig(path, bbox_inches="tight")


def network_name(label_smoothing: float) -> str:
    """What networks are called in legends."""
    return f"α = {label_smoothing:g}" if label_smoothing else "hard targets"
