"""Random generators, restored after a prediction."""

import contextlib
import functools
import inspect
import random
import sys
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ls._backend import global_generator, set_global_generator


@contextlib.contextmanager
def kept_random_state(model: keras.Model | None = None) -> Iterator[None]:
    """Restores the global random generators, so that predicting during training does not change the training.

    PyTorch draws from its generator for each pass over a data loader; datasets may draw from any generator. Those of
    the layers of `model`, and the states of its stateful recurrent layers, are restored, too.
    """
    python, array = random.getstate(), np.random.get_state()
    torch = sys.modules.get("torch")
    state = torch.get_rng_state() if torch else None
    generator = global_generator()
    variables = [*([] if generator is None else [generator.state]), *([] if model is None else _states(model))]
    values = _copied(variables)
    try:
        yield
    finally:
        set_global_generator(generator)
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        random.setstate(python)
        np.random.set_state(array)
        if torch:
            torch.set_rng_state(state)


@contextlib.contextmanager
def seeded(seed: int, owners: list[Any]) -> Iterator[None]:
    """Seeds random generators within the context, and restores them afterwards.

    These are the generators of the process (Python, NumPy, PyTorch on the CPU, Keras without a seed) and of layers:
    those in `owners`, and those to which functions in `owners` refer.
    """
    seeds = [state for owner in owners for layer in _layers(owner) for state in _seeds(layer)]
    states = list({id(state): state for state in seeds}.values())
    kept = _copied(states)
    # 31 bits, which seeds can hold on each backend.
    first, *others = (int(n) >> 1 for n in np.random.SeedSequence(seed).generate_state(1 + len(states)))
    with kept_random_state():
        set_global_generator(keras.random.SeedGenerator(first, name="keras_ls"))
        random.seed(first)
        np.random.seed(first)
        torch = sys.modules.get("torch")
        if torch:
            torch.default_generator.manual_seed(first)
        for state, start in zip(states, others, strict=True):
            state.assign(np.array([start, 0]))
        try:
            yield
        finally:
            for state, value in zip(states, kept, strict=True):
                state.assign(value)


def _copied(variables: list[Any]) -> list[np.ndarray]:
    return [np.array(ops.convert_to_numpy(variable.value)) for variable in variables]


def _seeds(layer: keras.layers.Layer) -> list[Any]:
    """The states of a layer's random generators."""
    return [variable for variable in layer.variables if variable.name == "seed_generator_state"]


def _states(model: keras.Model) -> list[Any]:
    """What a model's pass in inference mode may change."""
    recurrent = [layer for layer in model._flatten_layers() if getattr(layer, "stateful", False)]
    states = [state for layer in recurrent for state in keras.tree.flatten(getattr(layer, "states", None) or [])]
    return [*_seeds(model), *(state for state in states if hasattr(state, "assign"))]


def _layers(owner: Any) -> list[keras.layers.Layer]:
    """A layer, or those that a function or callable object refers to, also in a list or dict."""
    if isinstance(owner, functools.partial):
        return [layer for part in (owner.func, *owner.args, *owner.keywords.values()) for layer in _layers(part)]
    held = [owner, getattr(owner, "__self__", None)]
    if not isinstance(owner, keras.layers.Layer):
        held += [part for each in held for part in getattr(each, "__dict__", {}).values()]
    with contextlib.suppress(TypeError, ValueError):  # not a Python function, or with cells not yet filled
        used = inspect.getclosurevars(owner)
        held += [*used.nonlocals.values(), *used.globals.values()]
    held += [part for each in held if isinstance(each, (list, tuple)) for part in each]
    held += [part for each in held if isinstance(each, dict) for part in each.values()]
    return [each for each in held if isinstance(each, keras.layers.Layer)]
