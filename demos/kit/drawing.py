"""The table and the pictures of results, by the demo that they are of; nothing is trained or measured."""

import contextlib
import importlib
import re
from collections.abc import Iterator
from typing import Any

from demos.kit.errors import DamagedFile

OF_EACH = ("significance",)  # rows of single networks that results may have


def shown(found: list[dict[str, Any]], path: Any) -> tuple[str, Any]:
    """The table of what results.json files of a demo hold together, and its pictures.

    The files are of different networks with the same setting. The pictures are a `Figure`, a list of one for each, or
    None if there are none. What lacks something is a DamagedFile, which names `path`.
    """
    results, work = together(found, path), _work(found)
    with _damage_named(path):
        return work.table(results), work.figure(results) if results["pictures"] else None


def picture(found: list[dict[str, Any]], name: str, path: Any) -> Any:
    """The `Figure` of one picture, by its name; else as `shown`."""
    names = found[0]["pictures"]
    if name not in names:
        raise DamagedFile(f"{path} is damaged: it has no picture {name!r}.")
    results = together(found, path)
    with _damage_named(path):
        figure = _work(found).figure(results)
    return figure[names.index(name)] if isinstance(figure, list) else figure


def together(found: list[dict[str, Any]], path: Any) -> dict[str, Any]:
    """What one results.json of all their networks would hold of these and their pictures; else as `shown`."""
    if len(found) == 1:
        return found[0]
    with _damage_named(path):
        of_all = of_networks(found, path)
        if "seeds" in of_all:  # without those that are trained in part
            found = [each for each in found if all(trial["seed"] in of_all["seeds"] for trial in each["trials"])]
        trials = [trial for results in found for trial in results["trials"]]
        count = len({trial["seed"] for trial in trials})
        title = re.sub(r", [^,]*$", f", {count} seed{'s' * (count > 1)}", found[0]["title"])
        rows = {name: [row for results in found for row in results[name]] for name in OF_EACH if name in found[0]}
        if hasattr(work := _work(found), "together"):  # what does not follow from rows of networks
            rows |= work.together(found)
    return {**found[0], "title": title, "trials": trials, **rows, **of_all}


def of_networks(found: list[dict[str, Any]], path: Any) -> dict[str, Any]:
    """What follows from the networks of results.json files of a demo, together; else as `shown`."""
    work = _work(found)
    with _damage_named(path):
        return work.of_trials([trial for results in found for trial in results["trials"]])


def _work(found: list[dict[str, Any]]) -> Any:
    return importlib.import_module(found[0]["experiment"]).COMMAND.load()


@contextlib.contextmanager
def _damage_named(path: Any) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DamagedFile(f"{path} is damaged: {type(error).__name__} {error}.") from error
