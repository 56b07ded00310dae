"""The last `Dense` of a classifier, found by watching a forward pass: any kind of model shows it there."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import layers, ops, tree

from keras_ls._backend import get_mask, output_spec
from keras_ls._checks import check_count
from keras_ls._logits import LinearHead
from keras_ls._predictions import kept_random_state
from keras_ls._temperature import TemperatureScaling

GUESSED_SIZES = (32, 224)


@dataclasses.dataclass(frozen=True)
class Forward:
    """What one pass over some examples gave.

    Attributes:
        activations: (N, D), or (N, T, D) of sequences: what the last `Dense` was given, float32 or wider.
        outputs: (N, K) or (N, T, K): what the model gave, float32 or wider.
        mask: (N, T), False where a time step does not count, or None.
        head: the `Dense`.
    """

    activations: np.ndarray
    outputs: np.ndarray
    mask: np.ndarray | None
    head: layers.Dense


class Probe:
    """Runs a model in inference mode and keeps what its last `Dense` is given. Compiled once, used again and again.

    The model, its optimizer, its random state and which of its weights are trainable stay as they are.

    Args:
        model: a built `keras.Model` with one output whose last layer with weights is a `Dense`.

    Raises:
        ValueError: where the model is not built; at the first pass where it ends in something else than a `Dense`.
    """

    def __init__(self, model: keras.Model):
        check_built(model)
        self._watching = _WatchingModel(model)

    def forward(self, x: Any, batch_size: int = 256) -> Forward:
        """One pass over `x`, an array, a list or dict of arrays, or a dataset, as `model.predict` takes them."""
        check_count("batch_size", batch_size)
        with kept_random_state():
            found = self._watching.predict(x, batch_size=batch_size, verbose=0)
        return Forward(found["activations"], found["outputs"], found.get("mask"), self._watching.record.head())


def forward(model: keras.Model, x: Any, batch_size: int = 256) -> Forward:
    """`Probe(model).forward(x, batch_size)`, for a model that is asked once."""
    return Probe(model).forward(x, batch_size)


def find_head(model: keras.Model) -> layers.Dense:
    """Returns the last `Dense` of a built model, found without data.

    Raises:
        ValueError: where there is none, something else ends the model, it has several outputs, or a subclassed model
            does not show its order.
    """
    check_built(model)
    inputs = _symbolic_inputs(model)
    # Not every layer can be traced with sizes that are unknown, and not every one with those that are guessed.
    for size in (None, *GUESSED_SIZES) if inputs is not None else ():
        record = _Record()
        try:
            outputs = _trace(model, inputs, size, record)
        except Exception:  # whatever the layers and the backend raise
            continue
        _single(outputs)
        return record.head()
    dense = [layer for layer in _all_layers(model) if isinstance(layer, layers.Dense)]
    if len(dense) != 1:
        raise ValueError(
            f"`model` must show its last Dense. Received: {model.name!r}, which cannot be traced without data, with "
            f"{len(dense)} Dense layers; give the layer in its place."
        )
    return dense[0]


def dense_of(layer: Any) -> layers.Dense | None:
    """The `Dense` that `layer` is or applies as it is, or None.

    Raises:
        ValueError: where it is quantized, so that its kernel is in units of its own.
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


def check_built(model: Any) -> None:
    """Refuses what is no Keras model with weights."""
    if not isinstance(model, keras.Model) or not model.built or not model.weights:
        kind = "one that is not built" if isinstance(model, keras.Model) else type(model).__name__
        raise ValueError(f"`model` must be a built keras.Model: call or fit it first. Received: {kind}.")


class _WatchingModel(keras.Model):
    """Gives the penultimate activations, the outputs and the mask of another model, so that `predict` compiles it."""

    def __init__(self, model: keras.Model):
        super().__init__(name=f"{model.name}_watched")
        self.model = model
        self.record = _Record()

    def call(self, inputs):
        """Runs the other model in inference mode."""
        with _watched(self.model, self.record):
            outputs = _single(self.model(inputs, training=False))
        self.record.head()  # an error where there is none
        activations = self.record.inputs
        found = {"activations": _wide(activations), "outputs": _wide(outputs)}
        mask = get_mask(activations)
        if mask is not None and len(activations.shape) == 3:
            found["mask"] = mask
        self.record.inputs = None  # a compiler's symbol, of no use after
        return found


class _Record:
    """The layer with weights that ran last, and on what."""

    def __init__(self):
        self.layer: Any = None
        self.inputs: Any = None

    def head(self) -> layers.Dense:
        """That layer, which must be a `Dense`."""
        dense = dense_of(self.layer)
        if dense is None:
            last = "none" if self.layer is None else f"{self.layer.name!r} ({type(self.layer).__name__})"
            raise ValueError(
                "The last layer of `model` with weights must be a Dense, which gives one template a class. "
                f"Received: {last}."
            )
        return dense


@contextlib.contextmanager
def _watched(model: keras.Model, record: _Record) -> Iterator[None]:
    """Notes in `record` which layer with weights finishes last while the context lasts."""
    wrapped = [layer for layer in _all_layers(model) if _counts(layer)]

    def noting(layer, call):
        def wrapper(*args, **kwargs):
            result = call(*args, **kwargs)
            record.layer = layer
            record.inputs = args[0] if args else next(iter(kwargs.values()))
            return result

        return wrapper

    methods = [(layer, "call" if layer.quantization_mode is None else "quantized_call") for layer in wrapped]
    # Past Keras, which would track the attribute; each layer gets its own method back.
    for layer, method in methods:
        object.__setattr__(layer, method, noting(layer, getattr(layer, method)))
    try:
        yield
    finally:
        for layer, method in methods:
            object.__delattr__(layer, method)


def _counts(layer: Any) -> bool:
    """Says whether `layer` itself, not a layer inside it, computes with weights."""
    if isinstance(layer, (LinearHead, layers.TimeDistributed)):
        return True
    # What other wrappers keep for themselves (a norm, say) goes into the layer inside.
    if isinstance(layer, (layers.Wrapper, TemperatureScaling)):
        return False
    return bool(layer._trainable_variables or layer._non_trainable_variables)


def _all_layers(model: keras.Model) -> list[Any]:
    return list(dict.fromkeys(model._flatten_layers()))


def _symbolic_inputs(model: keras.Model) -> Any:
    """Symbolic inputs of `model`, or None where a subclassed model does not tell."""
    if getattr(model, "inputs", None):
        return model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    shape = (model.get_build_config() or {}).get("input_shape")
    if not shape or not all(size is None or isinstance(size, int) for size in shape):
        return None
    return keras.KerasTensor(shape)


def _trace(model: keras.Model, inputs: Any, size: int | None, record: _Record) -> Any:
    """The outputs of `model` for symbols like `inputs`, with `size` for each size that they leave open."""

    def sized(x):
        return keras.KerasTensor([size if given is None else given for given in x.shape], x.dtype)

    def run(x):
        with _watched(model, record):
            return model(x, training=False)

    return output_spec(run, tree.map_structure(sized, inputs))


def _single(outputs: Any) -> Any:
    flat = tree.flatten(outputs)
    if len(flat) != 1:
        raise ValueError(f"`model` must have one output. Received: {len(flat)} outputs.")
    return flat[0]


def _wide(x: Any) -> Any:
    half = keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16")
    return ops.cast(x, "float32") if half else x
