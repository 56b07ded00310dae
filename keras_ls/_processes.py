"""Which of several processes this one is, and what the first tells the others."""

import keras
import numpy as np


def is_first_process() -> bool:
    """Says whether this process is the one that writes files, of those that JAX runs together."""
    if keras.backend.backend() != "jax":
        return True
    import jax

    return jax.process_index() == 0


def said_by_first_process(number: int) -> int:
    """The number that the first of JAX's processes passes here; all of them must call."""
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))
