"""Which of several processes this one is, and what the first tells the others."""

import keras
import numpy as np


def is_first_process() -> bool:
    """Says whether this process is the one that writes files, of those that JAX or PyTorch runs together."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.process_index() == 0
    if backend == "torch":
        import torch

        distributed = torch.distributed  # without most of its names where PyTorch is built without it
        return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0
    return True


def said_by_first_process(number: int) -> int:
    """The number that the first of several processes passes here; all of them must call."""
    if keras.backend.backend() == "torch":
        import torch

        # NCCL only sends tensors that are on a GPU.
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        said = torch.tensor([number], device=device)
        torch.distributed.broadcast(said, src=0)
        return int(said)
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))
