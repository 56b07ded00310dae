"""Values of variables, which JAX takes out of them for a step, and may delete."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
from keras import ops


@contextlib.contextmanager
def values_kept_on_error(variables: Callable[[], Iterable[Any]], model: keras.Model) -> Iterator[Callable[[], None]]:
    """Gives variables their values back where an error ends JAX steps of `model`, which had taken them out.

    After the first step these are that step's results. The function that it yields notes the values anew: a prediction
    meanwhile gives variables other arrays, and deletes those that they had.
    """
    if keras.backend.backend() != "jax":
        yield lambda: None
        return
    values: list[tuple[Any, Any]] = []

    def note() -> None:
        values[:] = [(variable, variable.value) for variable in variables()]

    note()
    before = getattr(model, "_jax_state", None)
    try:
        yield note
    except BaseException:
        if getattr(model, "_jax_state", None) is not before:  # else it is of an earlier call
            model.jax_state_sync()
        for variable, value in values:
            is_lost = variable._value is None or variable._value.is_deleted()
            if is_lost and not value.is_deleted():
                variable.assign(value)
        raise


def own_arrays(variables: Iterable[Any]) -> None:
    """Gives each of the variables that share an array one of its own, since JAX lets no step take an array twice."""
    seen = set()
    for variable in variables:
        if id(variable.value) in seen:
            variable.assign(ops.copy(variable.value))
        seen.add(id(variable.value))
