"""The few questions that each Keras backend answers in its own way."""

import keras


def is_concrete(x) -> bool:
    """Says whether the values of the tensor `x` can be read now (eagerly) rather than only traced."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return hasattr(x, "numpy")  # symbolic tensors have none
    if backend == "jax":
        import jax

        return not isinstance(x, jax.core.Tracer)
    if backend == "torch":
        import torch

        return not (torch.compiler.is_compiling() or x.device.type == "meta")
    return True
