"""One prediction pass for callbacks that measure the same inputs of the same model after the same epoch."""

import dataclasses
import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ls._arrays import taken
from keras_ls._models.head import Forward, Probe
from keras_ls._models.inputs import number_of_examples

# Numbers in the activations of a shared pass; where there are more, each callback makes a pass of its own.
_LARGEST = 2**26

_outputs: weakref.WeakKeyDictionary[keras.Model, weakref.WeakSet["Outputs"]] = weakref.WeakKeyDictionary()
_activations: weakref.WeakKeyDictionary[keras.Model, weakref.WeakSet["Activations"]] = weakref.WeakKeyDictionary()


class Source:
    """Inputs as the user gave them, known by identity and not kept alive.

    Args:
        x: an array or a list or dict of arrays.
        output: the name of the model's output that is asked for, or None.
    """

    def __init__(self, x: Any, output: str | None):
        self._output = output
        try:
            self._leaves = [weakref.ref(leaf) for leaf in tree.flatten(x)]
        except TypeError:  # such as a list of numbers
            self._leaves = []

    def __getstate__(self):
        """What can be pickled: a copy has no array in common with others."""
        return {**self.__dict__, "_leaves": []}

    def is_that_of(self, other: "Source") -> bool:
        """Says whether both are the same arrays and output."""
        if not self._leaves or len(self._leaves) != len(other._leaves) or self._output != other._output:
            return False
        pairs = zip(self._leaves, other._leaves, strict=True)
        return all(a() is not None and a() is b() for a, b in pairs)


@dataclasses.dataclass(eq=False)
class Outputs:
    """What a callback wants to know of all inputs: what the model gives. Shares its pass with `Activations`.

    Attributes:
        model: the model.
        source: what the inputs are known by.
        x: the inputs, arrays.
        is_due: says of an epoch whether the callback measures after it.
    """

    model: keras.Model
    source: Source
    x: Any
    is_due: Callable[[int], bool]
    _kept: tuple[int, list[float], Forward] | None = None

    def __post_init__(self):
        _outputs.setdefault(self.model, weakref.WeakSet()).add(self)

    def shared(self, epoch: int) -> np.ndarray | None:
        """(N, K) outputs, float32 or wider, or None if nobody else wants to know anything of these inputs now."""
        others = (other for other in _activations.get(self.model, ()) if self.serves(other, epoch))
        other = next(others, None)
        return None if other is None else self.run(other.probe, epoch).outputs

    def serves(self, other: "Activations", epoch: int) -> bool:
        """Says whether a pass after this epoch is for both."""
        due = self.is_due(epoch) and other.is_due(epoch)
        fits = number_of_examples(self.x) * other.width <= _LARGEST
        return due and fits and self.source.is_that_of(other.source)

    def run(self, probe: Probe, epoch: int) -> Forward:
        """A pass over all inputs, or what the last one gave if the model has not changed since."""
        state = _state(self.model)
        if self._kept is None or self._kept[:2] != (epoch, state):
            self._kept = epoch, state, probe.forward(self.x)
        return self._kept[2]

    def forget(self) -> None:
        """Lets go of the last pass."""
        self._kept = None


@dataclasses.dataclass(eq=False)
class Activations:
    """What a callback wants to know of some of the inputs: what the last `Dense` is given, and the outputs.

    Attributes:
        model: the model, which gives one prediction per example.
        source: what all the inputs are known by.
        rows: (n,) which of them are wanted.
        x: these, arrays.
        probe: what finds activations.
        width: numbers in the activations of one example.
        is_due: says of an epoch whether the callback measures after it.
    """

    model: keras.Model
    source: Source
    rows: np.ndarray
    x: Any
    probe: Probe
    width: int
    is_due: Callable[[int], bool]

    def __post_init__(self):
        _activations.setdefault(self.model, weakref.WeakSet()).add(self)

    def forward(self, epoch: int) -> Forward:
        """Activations and outputs of the wanted inputs."""
        for outputs in _outputs.get(self.model, ()):
            if outputs.serves(self, epoch):
                run = outputs.run(self.probe, epoch)
                return Forward(taken(run.activations, self.rows), taken(run.outputs, self.rows), None, run.head)
        return self.probe.forward(self.x)


def _state(model: keras.Model) -> list[float]:
    """A number for each of the model's variables: other callbacks may change or swap weights between two of ours."""
    return [float(np.sum(ops.convert_to_numpy(variable), dtype="float64")) for variable in model.variables]
