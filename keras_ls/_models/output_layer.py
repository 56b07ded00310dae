"""The `Dense` that a classifier ends in, and passes that leave it out: any kind of model shows it while it runs."""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import layers, tree

from keras_ls._backend import ONE_AT_A_TIME, output_spec
from keras_ls._models.outputs import single

ADVICE = "The fused output needs a model that ends in a Dense layer without activation, a softmax aside."
_SIZES = (None, 32, 224)  # for what the inputs leave open, where a layer cannot be traced without


@dataclasses.dataclass(frozen=True)
class OutputLayer:
    """The output layer of a classifier.

    Attributes:
        layer: the layer that the model calls: `dense`, or the `TimeDistributed` around it.
        dense: the `Dense` of K units.
        from_logits: whether the model gives its logits, rather than their softmax.
    """

    layer: layers.Layer
    dense: layers.Dense
    from_logits: bool


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
    for size in _SIZES:
        trace = _Trace(model)
        symbols = tree.map_structure(lambda x, size=size: _symbol(x, size), inputs)
        with contextlib.suppress(Exception):  # whatever the layers and the backend raise
            with ONE_AT_A_TIME:
                output_spec(trace.run, symbols)
            return trace.output_layer()
        if trace.outputs is not None:  # the pass came to its end
            return trace.output_layer()
    return None


@contextlib.contextmanager
def left_out(output: OutputLayer) -> Iterator[list[Any]]:
    """Has the output layer give what it is given while the context lasts, in this thread; the list then holds that."""
    found: list[Any] = []
    thread, call = threading.get_ident(), output.layer.call

    def skipping(inputs, *args, **kwargs):
        if threading.get_ident() != thread:
            return call(inputs, *args, **kwargs)
        found.append(inputs)
        return inputs

    with _replaced(output.layer, skipping):
        yield found


class _Trace:
    """A pass through a model, with what each layer was given and gave."""

    def __init__(self, model: keras.Model):
        self.model, self.outputs = model, None
        self._calls: list[tuple[Any, Any, Any]] = []  # layer, its first argument, its result

    def run(self, inputs):
        """Runs the model as in training; Keras may trace it twice."""
        self._calls.clear()
        with contextlib.ExitStack() as stack:
            for layer in dict.fromkeys(self.model._flatten_layers()):
                if isinstance(layer, layers.TimeDistributed) or not layer._layers:
                    stack.enter_context(_replaced(layer, self._noting(layer, layer.call)))
            self.outputs = self.model(inputs, training=True)
        return self.outputs

    def output_layer(self) -> OutputLayer:
        """What gave the output; an error where that cannot be fused."""
        output = single(self.outputs, advice="Train one of them alone.")
        layer, given = self._source(output)
        from_logits = True
        if _is_softmax(layer):
            from_logits = False
            layer, given = self._source(given)
        dense = layer.layer if isinstance(layer, layers.TimeDistributed) else layer
        _check(self.model, layer, dense)
        if dense.activation is keras.activations.softmax and from_logits:
            from_logits = False
        elif dense.activation not in (None, keras.activations.linear):
            raise ValueError(f"{ADVICE} Received: {dense.name!r} with the activation {dense.activation.__name__!r}.")
        times = sum(each is layer for each, _, _ in self._calls)
        if times > 1:
            raise ValueError(f"{ADVICE} Received: {dense.name!r}, which the model calls {times} times.")
        return OutputLayer(layer, dense, from_logits)

    def _source(self, tensor: Any) -> tuple[Any, Any]:
        """The layer that gave a tensor, and what it was given."""
        for layer, given, result in self._calls:
            if result is tensor and given is not tensor:
                return layer, given
        raise ValueError(
            f"{ADVICE} Received: {self.model.name!r}, whose output is not what its last layer gives as it is."
        )

    def _noting(self, layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*args, **kwargs):
            result = call(*args, **kwargs)
            self._calls.append((layer, args[0] if args else next(iter(kwargs.values()), None), result))
            return result

        return noting


def _check(model: keras.Model, layer: Any, dense: Any) -> None:
    reason = None
    if type(dense) is not layers.Dense:
        reason = f"{layer.name!r} ({type(layer).__name__}) last"
    elif dense.quantization_mode is not None:
        reason = f"{dense.name!r}, which is quantized"
    elif dense.units == 1:
        reason = f"{dense.name!r} of one unit, for which `keras.losses.BinaryCrossentropy` is quick already"
    elif dense.activity_regularizer is not None or layer.activity_regularizer is not None:
        reason = f"{dense.name!r} with an `activity_regularizer`, which needs its output"
    if reason is not None:
        raise ValueError(f"{ADVICE} Received: {model.name!r}, which has {reason}.")


def _is_softmax(layer: Any) -> bool:
    if layer.activity_regularizer is not None:
        return False
    if isinstance(layer, layers.Softmax):
        return layer.axis == -1
    return isinstance(layer, layers.Activation) and layer.activation is keras.activations.softmax


def _symbol(x: Any, size: int | None) -> Any:
    shape = [size if given is None else given for given in x.shape]
    return keras.KerasTensor(shape, keras.backend.standardize_dtype(x.dtype))


@contextlib.contextmanager
def _replaced(layer: Any, call: Callable[..., Any]) -> Iterator[None]:
    """The layer with another `call`, past Keras, which would track the attribute."""
    object.__setattr__(layer, "call", call)
    try:
        yield
    finally:
        object.__delattr__(layer, "call")
