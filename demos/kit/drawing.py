"""The table and the pictures of results, by the demo that they are of; nothing is trained or measured."""

import importlib
import re
from typing import Any

from demos.kit.errors import DamagedFile


def shown(results: dict[str, Any], path: Any) -> tuple[str, Any]:
    """The table of a results.json, and its `Figure`, a list of one for each picture, or None if it has no pictures.

    What lacks something is a DamagedFile, which names `path`.
    """
    work = importlib.import_module(results["experiment"]).COMMAND.load()
    try:
        return work.table(results), work.figure(results) if results["pictures"] else None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DamagedFile(f"{path} is damaged: {type(error).__name__} {error}.") from error


def merged(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Several results of one demo and setting, of different networks, as one; a single one stays as it is."""
    first, *others = found
    if not others:
        return first
    trials = [trial for results in found for trial in results["trials"]]
    work = importlib.import_module(first["experiment"]).COMMAND.load()
    title = re.sub(r", [^,]*$", f", {len(trials)} networks", first["title"])
    return {**first, "title": title, "trials": trials, **work.of_trials(trials)}
