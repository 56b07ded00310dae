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

# Generators that Keras made during a pass: what TensorFlow compiled draws from them, and does not keep them alive.
_made: list[Any] = []


@contextlib.contextmanager
def kept_random_state(*layers: keras.layers.Layer) -> Iterator[None]:
    """Restores the global random generators, so that predicting during training does not change the training.

    PyTorch draws from its generator for each pass over a data loader; datasets may draw from any generator. Those of
    `layers`, and the states of their stateful recurrent layers, are restored, too.
    """
    python, array = random.getstate(), np.random.get_state()
    torch = sys.modules.get("torch")
    state = torch.get_rng_state() if torch else None
    generator = global_generator()
    own = [] if generator is None else [generator.state]
    variables = [*own, *(state for layer in layers for state in _states(layer))]
    values = [np.array(ops.convert_to_numpy(variable.value)) for variable in variables]
    try:
        yield
    finally:
        if generator is None and (made := global_generator()) is not None:
            _made.append(made)
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
    layers = [layer for owner in owners for layer in _layers(owner)]
    states = list({id(state): state for layer in layers for state in _seeds(layer)}.values())
    # 31 bits, which seeds can hold on each backend.
    first, *others = (int(n) >> 1 for n in np.random.SeedSequence(seed).generate_state(1 + len(states)))
    with kept_random_state(*layers):
        set_global_generator(keras.random.SeedGenerator(first, name="keras_ls"))
        random.seed(first)
        np.random.seed(first)
        torch = sys.modules.get("torch")
        if torch:
            torch.default_generator.manual_seed(first)
        for state, start in zip(states, others, strict=True):
            state.assign(np.array([start, 0]))
        yield


def _seeds(layer: keras.layers.Layer) -> list[Any]:
    """The states of a layer's random generators."""
    return [variable for variable in layer.variables if variable.name == "seed_generator_state"]


def _states(layer: keras.layers.Layer) -> list[Any]:
    """What a pass in inference mode may change."""
    recurrent = [each for each in layer._flatten_layers() if getattr(each, "stateful", False)]
    states = [state for each in recurrent for state in keras.tree.flatten(getattr(each, "states", None) or [])]
    return [*_seeds(layer), *(state for state in states if hasattr(state, "assign"))]


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
