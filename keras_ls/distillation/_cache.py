"""A teacher's logits in a `.npy` file that knows what they are the logits of.

At its path is always a complete file, or what was there before: rows are computed into files beside it
(`_unfinished`), which survive an interruption and get its name when they are complete.
"""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from keras_ls.distillation._format import StoredLogits, read_complete
from keras_ls.distillation._unfinished import remove_abandoned, unfinished_rows


def load_or_compute(
    path: str,
    identity: str,
    num_rows: int,
    batches: Iterable[tuple[int, Any]],
    compute: Callable[[Any], np.ndarray],
) -> np.ndarray:
    """The rows that the file at `path` holds, or those that `compute` makes of `batches`, which are stored there.

    Args:
        path: what `cache_path` returned.
        identity: the 32 hexadecimal digits of `identity_of`.
        num_rows: number of rows in all batches.
        batches: pairs of the number of rows and a batch.
        compute: gives the rows of one batch.

    Returns:
        A read-only memory map.
    """
    stored = read_complete(path, identity, num_rows)
    if stored is not None and stored.sound is not None:
        return stored.sound
    with unfinished_rows(path, identity, num_rows) as rows:
        # While this process waited another one may have written it.
        stored = read_complete(path, identity, num_rows)
        if stored is not None and stored.sound is not None:
            rows.remove()
            return stored.sound
        if stored is not None:
            _warn(path, stored)
            rows.reuse(stored)
        rows.fill(batches, compute)
        found = rows.publish(path)
    remove_abandoned(path)
    return found


def _warn(path: str, stored: StoredLogits) -> None:
    parts = "in its header or trailer; all rows" if stored.array is None else "in some rows; these"
    # The caller of `teacher_logits`.
    warnings.warn(f"The file {path!r} is damaged {parts} are computed again.", stacklevel=4)
