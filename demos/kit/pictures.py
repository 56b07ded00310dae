"""Pictures as files."""

import contextlib
import functools
import pathlib
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from demos.kit import records


def save(figure: Any, paths: Iterable[pathlib.Path]) -> None:
    """Saves a matplotlib `Figure`, or one for each file, whole or not at all, in the formats that the names say."""
    paths = list(paths)
    for path, each in zip(paths, figure if isinstance(figure, list) else [figure] * len(paths), strict=True):
        format = path.suffix.removeprefix(".")
        with quiet_about_glyphs():
            records.write(path, functools.partial(each.savefig, format=format, bbox_inches="tight"))


@contextlib.contextmanager
def quiet_about_glyphs() -> Iterator[None]:
    """Lets characters that the font lacks be boxes without a warning for each of them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


def plain(title: str) -> str:
    """A title in which matplotlib takes dollar signs for themselves, not for the ends of a formula."""
    return title.replace("$", r"\$")


def network_name(label_smoothing: float) -> str:
    """What networks are called in legends."""
    return f"α = {label_smoothing:g}" if label_smoothing else "hard targets"
