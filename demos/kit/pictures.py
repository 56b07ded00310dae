"""Pictures as files."""

import functools
import pathlib
from collections.abc import Iterable
from typing import Any

from demos.kit import records


def save(figure: Any, paths: Iterable[pathlib.Path]) -> None:
    """Saves a matplotlib `Figure`, or one for each file, whole or not at all, in the formats that the names say."""
    paths = list(paths)
    for path, each in zip(paths, figure if isinstance(figure, list) else [figure] * len(paths), strict=True):
        format = path.suffix.removeprefix(".")
        records.write(path, functools.partial(each.savefig, format=format, bbox_inches="tight"))


def plain(title: str) -> str:
    """A title in which matplotlib takes dollar signs for themselves, not for the ends of a formula."""
    return title.replace("$", r"\$")


def network_name(label_smoothing: float) -> str:
    """What networks are called in legends."""
    return f"α = {label_smoothing:g}" if label_smoothing else "hard targets"
