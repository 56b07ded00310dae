"""The last `Dense` of a classifier, found by watching a forward pass, which works for any kind of model."""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import layers, ops, tree

from keras_ls._arrays import widened
from keras_ls._backend import ONE_AT_A_TIME, output_spec
from keras_ls._checks import check_count, shown
from keras_ls._labels import spread_over
from keras_ls._models.data import check_row_count
from keras_ls._models.devices import BatchRunner, on_devices_of
from keras_ls._models.inputs import check_ends, check_fits, check_no_preprocessor, input_arrays, is_dataset
from keras_ls._models.layers import AfterLogits, LinearHead
from keras_ls._models.outputs import has_own_call, mask_of_positions, output_model, single, symbolic_inputs
from keras_ls._models.random_state import kept_random_state
from keras_ls._models.tracing import TRACED_SIZES, count_tracings_apart, having, symbol

GIVE_THE_LAYER = "Give the last Dense of one of them instead: model.get_layer(name)."


@dataclasses.dataclass(frozen=True)
class Forward:
    """The results of one forward pass.

    Attributes:
        activations: (N, D), or (N, T, D) for sequences: the inputs of the last `Dense`, float32 or wider.
        outputs: (N, K) or (N, T, K): the outputs of the model, float32 or wider.
        mask: (N, …), one per row of activations, False where it does not count; None if the model masks nothing.
        head: the `Dense`.
    """

    activations: np.ndarray
    outputs: np.ndarray
    mask: np.ndarray | None
    head: layers.Dense


class Probe:
    """Runs a model in inference mode and records the inputs of its last `Dense`. Compiled once for repeated use.

    The model, its optimizer, its random state and its `trainable` flags stay unchanged. Several threads may use the
    same model; their passes take turns.

    Args:
        model: a built `keras.Model` whose last layer with weights, on the way to the output, is a `Dense`.
        output: the name of the output, or None if there is only one.
        with_outputs: whether outputs are wanted; if not, `Forward.outputs` has one class of each row alone.

    Raises:
        ValueError: If the model is not built, preprocesses its inputs in `predict`, or has no such output; or, at
            the first pass, if it ends in another layer than a `Dense`.
    """

    def __init__(self, model: keras.Model, output: str | None = None, with_outputs: bool = True):
        check_built(model)
        check_no_preprocessor(model)
        with on_devices_of(model):
            self._watching = _WatchingModel(output_model(model, output), model, with_outputs)
        self._runner = BatchRunner(self._watching)

    def forward(self, x: Any, batch_size: int = 256) -> Forward:
        """Runs one pass over `x`, an array, a list or dict of arrays, or a dataset, as `model.predict` takes them."""
        batch_size = check_count("batch_size", batch_size)
        arrays = None if is_dataset(x) else input_arrays("x", x)
        if arrays is not None:
            check_fits("x", arrays, self._watching.model)
        with ONE_AT_A_TIME, kept_random_state(self._watching.model):
            if arrays is None:
                check_ends("x", x)
                found = self._runner.dataset(x)
            else:
                found = self._runner.in_equal_batches(arrays, batch_size)
                check_row_count(found["outputs"], arrays)
        return Forward(found["activations"], found["outputs"], found.get("mask"), self._watching.record.head())


def find_head(model: keras.Model) -> layers.Dense:
    """Returns the last `Dense` of a built model, found without data.

    Raises:
        ValueError: If the model has no `Dense`, ends in another layer with weights, has several outputs, or is a
            subclassed model that does not show the order of its layers.
    """
    single(getattr(model, "outputs", None) or [None], advice=GIVE_THE_LAYER)
    inputs = _symbolic_inputs(model)
    for size in TRACED_SIZES if inputs is not None else ():
        record = _Record()
        try:
            with ONE_AT_A_TIME:
                outputs = _trace(model, inputs, size, record)
        except Exception:  # whatever the layers and the backend raise
            continue
        single(outputs, advice=GIVE_THE_LAYER)
        return record.head()
    last = [layer for layer in _in_order(model) if _counts(layer)][-1]
    dense = [layer for layer in _all_layers(model) if isinstance(layer, layers.Dense)]
    if dense != [last]:
        raise ValueError(
            f"`model` must show its last Dense. Received: {model.name!r}, which cannot be traced without data, with "
            f"{len(dense)} Dense layers, and a {type(last).__name__} that was made last; give the layer instead."
        )
    return last


def dense_of(layer: Any) -> layers.Dense | None:
    """Returns the `Dense` that `layer` is, or applies unchanged, or None.

    Raises:
        ValueError: If it is quantized, and its kernel therefore scaled.
    """
    if isinstance(layer, layers.TimeDistributed):
        layer = layer.layer
    if isinstance(layer, LinearHead):
        layer = layer.dense
    if not isinstance(layer, layers.Dense):
        return None
    if layer.quantization_mode is not None:
        raise ValueError(f"The last Dense must not be quantized. Received: {layer.quantization_mode} {layer.name!r}.")
    return layer


def check_built(model: Any, name: str = "model") -> None:
    """Raises `ValueError` unless `model`, the argument called `name`, is a built Keras model with weights."""
    if not isinstance(model, keras.Model) or not model.built or not model.weights:
        kind = "one that is not built" if isinstance(model, keras.Model) else shown(model)
        raise ValueError(f"`{name}` must be a built keras.Model: call or fit it first. Received: {kind}.")


class _WatchingModel(keras.Model):
    """Returns the penultimate activations, outputs and mask of another model, so that `predict` compiles it."""

    def __init__(self, model: keras.Model, given: keras.Model, with_outputs: bool):
        """`given` is what the caller compiled, of which `model` may be one output."""
        # No cast of the inputs: the model's own `predict` makes none before its first layer.
        super().__init__(name=f"{model.name}_watched", dtype=model.dtype_policy, autocast=False)
        self.model = model
        self.record = _Record()
        self.with_outputs = with_outputs
        if given.compiled:
            self.run_eagerly, self.jit_compile = given.run_eagerly, given.jit_compile
        count_tracings_apart(self)

    def call(self, inputs):
        """Runs the other model in inference mode."""
        with _watched(self.model, self.record):
            outputs = single(self.model(inputs, training=False), advice="Make a functional model of one of them.")
        self.record.head()  # an error where there is none
        activations = self.record.inputs
        # Those of many classes are far larger than the activations; the first class tells how many rows there are.
        kept = outputs if self.with_outputs or len(outputs.shape) < 2 else outputs[..., :1]
        found = {"activations": widened(activations), "outputs": widened(kept)}
        mask = mask_of_positions(activations) if len(activations.shape) > 2 else None
        if mask is not None:
            found["mask"] = ops.cast(spread_over("mask", mask, activations[..., 0]), "bool")
        self.record.forget()  # symbols of the compiled function, of no use outside it
        return found


class _Record:
    """The layer with weights that ran last, its inputs and its result."""

    def __init__(self):
        self.layer: Any = None
        self.forget()

    def forget(self) -> None:
        """Drops the tensors."""
        self.inputs: Any = None
        self.result: Any = None

    def head(self) -> layers.Dense:
        """Returns that layer, which must be a `Dense`."""
        dense = dense_of(self.layer)
        if dense is None:
            last = "none" if self.layer is None else f"{self.layer.name!r} ({type(self.layer).__name__})"
            raise ValueError(
                "The last layer of `model` with weights must be a Dense, which gives one template per class. "
                f"Received: {last}."
            )
        return dense


@contextlib.contextmanager
def _watched(model: keras.Model, record: _Record) -> Iterator[None]:
    """Records which layer with weights finishes last in this thread within the context, or that of the model's graph.

    A nested model runs all of its outputs, in an order that says nothing of which of them is used.
    """
    thread = threading.get_ident()  # another one may predict with the same layers

    def noting(layer, call):
        def wrapper(*args, **kwargs):
            result = call(*args, **kwargs)
            # A block with weights of its own may end in another layer, whose result it hands on.
            if threading.get_ident() == thread and (record.result is None or result is not record.result):
                record.layer, record.result = layer, result
                record.inputs = args[0] if args else next(iter(kwargs.values()))
            return result

        return wrapper

    with contextlib.ExitStack() as stack:
        for layer in _all_layers(model):  # JAX would compute what is recorded in a trace of its own
            stack.enter_context(having(layer, "_remat_mode", None))
        last = _last_of_graph(model)
        for layer in filter(_counts, _all_layers(model) if last is None else [last]):
            method = "call" if layer.quantization_mode is None else "quantized_call"
            stack.enter_context(having(layer, method, noting(layer, getattr(layer, method))))
        yield


def _last_of_graph(model: keras.Model) -> Any:
    """The last layer with weights on the way to the one output; None unless a chain of single layers leads there."""
    if has_own_call(model) or len(getattr(model, "outputs", None) or ()) != 1:
        return None
    (tensor,) = model.outputs
    while hasattr(tensor, "_keras_history"):
        operation, node_index, place = tensor._keras_history
        if isinstance(operation, keras.Model):
            if has_own_call(operation) or not getattr(operation, "outputs", None):
                return None
            tensor = operation.outputs[place]
            continue
        if isinstance(operation, layers.Layer):
            is_one = isinstance(operation, (layers.TimeDistributed, LinearHead)) or not operation._layers
            if not is_one or _counts(operation):
                return operation if is_one else None
        given = operation._inbound_nodes[node_index].input_tensors
        if len(given) != 1:
            return None
        (tensor,) = given
    return None


def _counts(layer: Any) -> bool:
    """Says whether `layer` itself, not a layer inside it, computes with weights."""
    if isinstance(layer, LinearHead):
        return True
    if isinstance(layer, layers.TimeDistributed):
        return any(map(_counts, layer.layer._flatten_layers()))
    # The weights of other wrappers (a norm, say) act on the layer inside.
    if isinstance(layer, (layers.Wrapper, AfterLogits)):
        return False
    return bool(layer._trainable_variables or layer._non_trainable_variables)


def _all_layers(model: keras.Model) -> list[Any]:
    return list(dict.fromkeys(model._flatten_layers()))


def _in_order(layer: Any) -> Iterator[Any]:
    """A layer, and then the layers inside it as they were made; Keras lists inner ones backwards."""
    yield layer
    for inner in layer._layers:
        yield from _in_order(inner)


def _symbolic_inputs(model: keras.Model) -> Any:
    """Returns symbolic inputs of `model`, or None if a subclassed model does not show them."""
    if getattr(model, "inputs", None):
        return symbolic_inputs(model)
    shape = (model.get_build_config() or {}).get("input_shape")
    if not shape or not all(size is None or isinstance(size, int) for size in shape):
        return None
    return keras.KerasTensor(shape)


def _trace(model: keras.Model, inputs: Any, size: int | None, record: _Record) -> Any:
    """Returns the outputs of `model` for symbols like `inputs`, with `size` in place of each unknown size."""

    def run(x):
        with _watched(model, record):
            return model(x, training=False)

    return output_spec(run, tree.map_structure(lambda x: symbol(x, size), inputs))
