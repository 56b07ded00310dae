"""A cache of logits that several processes compute together: the first one writes, all take part in predictions."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from keras_ls._checks import shown
from keras_ls._processes import is_first_process, said_by_first_process
from keras_ls.distillation._cache import load_or_compute
from keras_ls.distillation._format import read_complete

# What the first process says in place of the number of a batch.
_DONE, _FAILED = -1, -2


def load_or_compute_together(
    path: str, identity: str, num_rows: int, batches: Iterable[tuple[int, Any]], compute: Callable[[Any], np.ndarray]
) -> np.ndarray:
    """Does what `load_or_compute` does, which takes the same arguments, in all processes at once.

    Raises:
        ValueError: If a process does not find the file that the first one wrote.
        RuntimeError: If the first process met an error.
    """
    run = _lead if is_first_process() else _follow
    return run(path, identity, num_rows, batches, compute)


def _lead(path, identity, num_rows, batches, compute):
    """Says which batches are missing, and writes them."""
    state: dict[str, int | None] = {"to say": _FAILED}

    def compute_with_others(numbered):
        number, batch = numbered
        said_by_first_process(number)
        state["to say"] = None  # an error in a prediction is met by all
        rows = compute(batch)
        state["to say"] = _FAILED
        return rows

    numbered = ((rows, (number, batch)) for number, (rows, batch) in enumerate(batches))
    try:
        found = load_or_compute(path, identity, num_rows, numbered, compute_with_others)
        state["to say"] = _DONE
    finally:
        outcome = state["to say"]
        if outcome is not None:
            said_by_first_process(outcome)
    return found


def _follow(path, identity, num_rows, batches, compute):
    """Takes part in the predictions that the first process asks for, and reads its file."""
    numbered = enumerate(batches)
    while (wanted := said_by_first_process(0)) >= 0:
        compute(next(batch for number, (_, batch) in numbered if number == wanted))
    if wanted == _FAILED:
        raise RuntimeError("The process that writes the teacher's logits met an error, which it has raised.")
    found = read_complete(path, identity, num_rows).rows(0, num_rows)
    if found is None:
        raise ValueError(
            "`path` must lie in a folder that all processes see. Received: "
            f"path={shown(path)}, which the first process wrote and this one does not find."
        )
    return found
