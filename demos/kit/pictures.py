"""Pictures as files."""

import pathlib
from collections.abc import Iterable
from typing import Any


def save(figure: Any, paths: Iterable[pathlib.Path]) -> None:
    """Saves a matplotlib `Figure` in the formats that the names of the files say."""
    for path in paths:
        figure.savefig(path, bbox_inches="tight")


def network_name(label_smoothing: float) -> str:
    """What networks are called in legends."""
    return f"α = {label_smoothing:g}" if label_smoothing else "hard targets"
