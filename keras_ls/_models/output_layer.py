"""The `Dense` that a classifier ends in, and passes that leave it out: any kind of model shows it while it runs."""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import layers, tree

from keras_ls._backend import ONE_AT_A_TIME, output_spec
from keras_ls._models.layers import SOFTMAX
from keras_ls._models.outputs import has_own_call, single
from keras_ls._models.tracing import TRACED_SIZES, having, symbol

_LOCK = threading.Lock()
# The layers that are left out now, what changes them back, and the list of each thread.
_LEFT_OUT: dict[layers.Layer, tuple[contextlib.ExitStack, dict[int, list[Any]]]] = {}
ADVICE = "The fused output needs a model that ends in a Dense layer without activation, a softmax aside."


@dataclasses.dataclass(frozen=True)
class OutputLayer:
    """The output layer of a classifier.

    Attributes:
        layer: the layer that the model calls: `dense`, or the `TimeDistributed` around it.
        dense: the `Dense` of K units.
        softmax: the layer after it that makes probabilities of its logits, or None.
    """

    layer: layers.Layer
    dense: layers.Dense
    softmax: layers.Layer | None

    @property
    def from_logits(self) -> bool:
        """Whether the model gives its logits, rather than their softmax."""
        return self.softmax is None and self.dense.activation not in SOFTMAX


def find_output_layer(model: keras.Model, inputs: Any) -> OutputLayer | None:
    """Finds the output layer of a built model for inputs like `inputs`, by tracing a training pass.

    Args:
        model: a built model.
        inputs: tensors, or symbols, of the shapes that it takes.

    Returns:
        The output layer, or None if the model cannot be traced with such inputs.

    Raises:
        ValueError: If the model does not end in one that can be fused.
    """
    for size in TRACED_SIZES:
        trace = _Trace(model)
        symbols = tree.map_structure(lambda x, size=size: symbol(x, size), inputs)
        with contextlib.suppress(Exception):  # whatever the layers and the backend raise
            with ONE_AT_A_TIME:
                output_spec(trace.run, symbols)
            return trace.output_layer()
        if trace.outputs is not None:  # the pass came to its end
            return trace.output_layer()
    return None


@contextlib.contextmanager
def left_out(output: OutputLayer) -> Iterator[list[Any]]:
    """Has the output layer give what it is given while the context lasts, in this thread; the list then holds that.

    The replicas of a strategy are threads that enter and leave in any order: the layer is changed by the first that
    enters, and changed back by the last that leaves.
    """
    found: list[Any] = []
    layer, thread = output.layer, threading.get_ident()
    with _LOCK:
        changed, lists = _LEFT_OUT.setdefault(layer, (contextlib.ExitStack(), {}))
        if not lists:
            changed.enter_context(having(layer, "call", _skipping(layer.call, lists)))
        lists[thread] = found
    try:
        yield found
    finally:
        with _LOCK:
            del lists[thread]
            if not lists:
                changed.close()
                del _LEFT_OUT[layer]


def _skipping(call: Callable[..., Any], lists: dict[int, list[Any]]) -> Callable[..., Any]:
    def skipping(inputs, *args, **kwargs):
        found = lists.get(threading.get_ident())
        if found is None:
            return call(inputs, *args, **kwargs)
        found.append(inputs)
        return inputs

    return skipping


class _Trace:
    """A pass through a model, with what each layer was given and gave."""

    def __init__(self, model: keras.Model):
        self.model, self.outputs = model, None
        self._calls: list[tuple[Any, list[Any], Any]] = []  # layer, the tensors that it was given, its result
        self._losses: list[int] = []  # after how many calls a loss was added

    def run(self, inputs):
        """Runs the model as in training; Keras may trace it twice."""
        self._calls.clear()
        self._losses.clear()
        with contextlib.ExitStack() as stack:
            for layer in dict.fromkeys(self.model._flatten_layers()):
                stack.enter_context(having(layer, "add_loss", self._noting_losses(layer.add_loss)))
                if isinstance(layer, layers.TimeDistributed) or not layer._layers:
                    stack.enter_context(having(layer, "call", self._noting(layer, layer.call)))
                if _is_softmax(layer) or _is_identity(layer):  # else it is given a copy where its dtype is another
                    stack.enter_context(having(layer, "autocast", False))
            self.outputs = self.model(inputs, training=True)
        return self.outputs

    def output_layer(self) -> OutputLayer:
        """What gave the output; an error where that cannot be fused."""
        output = single(self.outputs, advice="Train one of them alone.")
        layer, given = self._source(output)
        softmax = None
        if _is_softmax(layer):
            softmax = layer
            if len(given) > 1:
                raise ValueError(f"{ADVICE} Received: {softmax.name!r} with a mask of classes.")
            layer, given = self._source(given[0])
        dense = layer.layer if isinstance(layer, layers.TimeDistributed) else layer
        check_dense(self.model, layer, dense)
        is_fine = (None, keras.activations.linear, *(SOFTMAX if softmax is None else ()))
        if dense.activation not in is_fine:
            activation = getattr(dense.activation, "__name__", type(dense.activation).__name__)
            raise ValueError(f"{ADVICE} Received: {dense.name!r} with the activation {activation!r}.")
        times = sum(each is layer for each, _, _ in self._calls)
        if times > 1:
            raise ValueError(f"{ADVICE} Received: {dense.name!r}, which the model calls {times} times.")
        if self._losses and self._losses[-1] > next(i for i, (each, *_) in enumerate(self._calls) if each is layer):
            raise ValueError(
                f"{ADVICE} Received: {self.model.name!r}, which adds a loss after it: there are no logits for it. Add "
                "it before, if it needs none."
            )
        return OutputLayer(layer, dense, softmax)

    def _source(self, tensor: Any) -> tuple[Any, list[Any]]:
        """The layer that gave a tensor, and the tensors that it was given."""
        for layer, given, result in self._calls:
            if result is tensor and not any(each is tensor for each in given):
                return layer, given
        raise ValueError(
            f"{ADVICE} Received: {self.model.name!r}, whose output is not what its last layer gives as it is."
        )

    def _noting(self, layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*args, **kwargs):
            result = call(*args, **kwargs)
            given = tree.flatten((args, kwargs))
            self._calls.append((layer, [each for each in given if keras.ops.is_tensor(each)], result))
            return result

        return noting

    def _noting_losses(self, add_loss: Callable[[Any], None]) -> Callable[[Any], None]:
        def noting(loss):
            self._losses.append(len(self._calls))
            add_loss(loss)

        return noting


def check_dense(model: keras.Model, layer: Any, dense: Any) -> None:
    """Raises `ValueError` if the last layer of a model, or the one in its `TimeDistributed`, cannot be fused."""
    reason = None
    if type(dense) is not layers.Dense:
        reason = f"{layer.name!r} ({type(layer).__name__}) last"
    elif dense.quantization_mode is not None:
        reason = f"{dense.name!r}, which is quantized"
    elif dense.units == 1:
        reason = f"{dense.name!r} of one unit, for which `keras.losses.BinaryCrossentropy` is quick already"
    elif any(w is not layer and isinstance(w, layers.Wrapper) and w.layer is dense for w in model._flatten_layers()):
        reason = f"{dense.name!r} in another layer, which may change its kernel in each step"
    elif dense.activity_regularizer is not None or layer.activity_regularizer is not None:
        reason = f"{dense.name!r} with an `activity_regularizer`, which needs its output"
    if reason is not None:
        raise ValueError(f"{ADVICE} Received: {model.name!r}, which has {reason}.")


def _is_identity(layer: Any) -> bool:
    """Whether a layer gives what it is given, at most in another dtype, as models end in under mixed precision."""
    is_linear = isinstance(layer, layers.Activation) and layer.activation is keras.activations.linear
    is_linear = (is_linear or isinstance(layer, layers.Identity)) and not has_own_call(layer)
    return layer.activity_regularizer is None and is_linear


def _is_softmax(layer: Any) -> bool:
    if layer.activity_regularizer is not None or has_own_call(layer):
        return False
    if isinstance(layer, layers.Softmax):
        return layer.axis == -1
    return isinstance(layer, layers.Activation) and layer.activation in SOFTMAX
