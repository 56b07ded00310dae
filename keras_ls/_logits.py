"""The logits of a classifier, found from the layers that it ends in."""

import contextlib
from typing import Any

import keras
import numpy as np
from keras import layers, ops, tree

from keras_ls._arrays import smallest_probability
from keras_ls._backend import ONE_AT_A_TIME
from keras_ls._checks import shown
from keras_ls._outputs import check_output, of_output, output_model, single
from keras_ls._rows import LARGEST_PROBABILITY
from keras_ls._temperature import TemperatureScaling

# Layers that apply an `activation` last, and nothing after it.
_AFFINE = (layers.Dense, layers.EinsumDense, layers.Conv1D, layers.Conv2D, layers.Conv3D)


def logits_model(
    model: keras.Model, output: str | None = None, from_logits: bool | None = None, inputs: Any = None
) -> keras.Model:
    """Returns a functional model of the inputs of `model` that gives the logits of what `model` gives as probabilities.

    It shares the layers of `model`: training one trains the other. A linear last layer gives logits itself; a softmax,
    or a sigmoid over one unit, is taken off if it is a layer or sits in a `Dense`; from another layer with one of them
    inside, log p (or the log-odds of one unit) is taken. Logits (…, 1) are those of class 1 of two classes.

    Args:
        model: a Keras model.
        output: the name of its output, or None if it has one.
        from_logits: True if the output holds logits, False for probabilities, None to read it off the layers.
        inputs: a batch of inputs, for models that do not show theirs.

    Raises:
        ValueError: If the last layers do not say whether they give logits or probabilities and `from_logits` does not
            either, several sigmoid units make the model multi-label, or it has no such output.
    """
    check_model(model)
    with ONE_AT_A_TIME:
        if not _is_readable(model):
            if from_logits is None:
                raise ValueError(_unreadable(model, "is not functional, not built yet, or has a `call` of its own"))
            model = _functional(model, inputs, output)
        else:
            model = output_model(model, output)
        tensor = model.outputs[0]
        if from_logits is None:
            logits = _logits(tensor)
        elif from_logits:
            logits = tensor
        else:
            logits = _logits_of_probabilities(tensor)
    return keras.Model(_inputs(model), logits, name=f"{model.name}_logits")


def gives_logits(model: keras.Model, output: str | None = None) -> bool | None:
    """Says whether an output holds logits (True) or probabilities (False), None if the layers do not tell.

    Raises:
        ValueError: If several sigmoid units make the model multi-label, or it has no such output.
    """
    check_model(model)
    check_output(model, output)
    if not _is_readable(model):
        return None
    tensor = output_model(model, output).outputs[0]
    try:
        return _logits(tensor) is tensor
    except _Unreadable:
        return None


def check_model(model: Any) -> None:
    """Raises an error for anything but a Keras model."""
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a Keras model. Received: {shown(model)}.")


class _Unreadable(ValueError):
    """The last layers do not tell whether they give logits or probabilities."""


@keras.saving.register_keras_serializable(package="keras_ls")
class LinearHead(layers.Layer):
    """A `Dense` layer without its activation, on the same weights.

    Args:
        dense: the `keras.layers.Dense` whose kernel and bias are used.
        **kwargs: the arguments of every Keras layer.
    """

    def __init__(self, dense: layers.Dense, **kwargs):
        super().__init__(**kwargs)
        self.dense = dense
        self.supports_masking = True

    def build(self, input_shape):
        """Builds the `Dense` where a saved model is being loaded."""
        if not self.dense.built:
            self.dense.build(input_shape)

    def call(self, inputs):
        """Returns inputs · kernel + bias."""
        outputs = ops.matmul(inputs, self.dense.kernel)
        return outputs if self.dense.bias is None else ops.add(outputs, self.dense.bias)

    def compute_output_shape(self, input_shape):
        """The shape of what the `Dense` gives."""
        return self.dense.compute_output_shape(input_shape)

    def get_config(self):
        """The config holds the `Dense`, activation included."""
        return {**super().get_config(), "dense": keras.saving.serialize_keras_object(self.dense)}

    @classmethod
    def from_config(cls, config):
        """Rebuilds the layer and the `Dense` inside."""
        return cls(keras.saving.deserialize_keras_object(config.pop("dense")), **config)


@keras.saving.register_keras_serializable(package="keras_ls")
class LogProbabilities(layers.Layer):
    """Logarithm of probabilities, in float32 or wider; 0 is taken as the smallest number that their dtype holds.

    It is NaN below 0 and above 1.01, where `inputs` are no probabilities.
    """

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.supports_masking = True

    def call(self, inputs):
        """Returns log p."""
        probabilities, smallest = _probabilities(inputs)
        return ops.log(ops.maximum(probabilities, smallest))

    def compute_output_shape(self, input_shape):
        """The shape of the probabilities."""
        return input_shape


@keras.saving.register_keras_serializable(package="keras_ls")
class LogOdds(layers.Layer):
    """log(p/(1 − p)) of probabilities, in float32 or wider; 0 is taken as the smallest number that their dtype holds.

    1 − p is taken in the wider dtype: a float32 probability of 1 has log-odds of 87. They are NaN below 0 and above
    1.01, where `inputs` are no probabilities.
    """

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.supports_masking = True

    def call(self, inputs):
        """Returns log(p/(1 − p))."""
        probabilities, smallest = _probabilities(inputs)
        return ops.log(ops.maximum(probabilities, smallest)) - ops.log(ops.maximum(1.0 - probabilities, smallest))

    def compute_output_shape(self, input_shape):
        """The shape of the probabilities."""
        return input_shape


def _probabilities(inputs: Any) -> tuple[Any, float]:
    """`inputs` in float32 or wider, NaN where they are no probabilities, and what stands for a probability of 0."""
    dtype = keras.backend.standardize_dtype(inputs.dtype)
    wide = ops.cast(inputs, "float64" if dtype == "float64" else "float32")
    return ops.where((wide >= 0) & (wide <= LARGEST_PROBABILITY), wide, np.nan), smallest_probability(dtype)


def _logits(tensor: Any) -> Any:
    """The symbolic logits behind `tensor`, the symbolic output of a model: `tensor` itself where it holds them."""
    operation, node_index, place = tensor._keras_history
    arguments = operation._inbound_nodes[node_index].arguments
    found = _before_softmax(operation, tensor.shape, place)
    if found == "output":
        return tensor
    if found == "through":
        source = arguments.keras_tensors[0]
        logits = _logits(source)
        return tensor if logits is source else logits
    # A second tensor is a mask, and then the softmax changes more than its first one.
    if found == "input" and len(arguments.keras_tensors) == 1:
        return arguments.keras_tensors[0]
    if isinstance(found, layers.Layer):
        return found(*arguments.args, **arguments.kwargs)
    return _logarithm(tensor)


def _logits_of_probabilities(tensor: Any) -> Any:
    """The symbolic logits behind probabilities, by their logarithm if the layers show none."""
    try:
        logits = _logits(tensor)
    except _Unreadable:
        logits = tensor
    return _logarithm(tensor) if logits is tensor else logits


def _logarithm(tensor: Any) -> Any:
    layer = LogOdds if tensor.shape[-1] == 1 else LogProbabilities
    return layer(name=f"{tensor._keras_history[0].name}_log")(tensor)


def _before_softmax(layer: Any, shape: tuple[int | None, ...], place: int = 0) -> str | layers.Layer:
    """Where the logits of an output of a last layer, of the given shape and at the given place, are.

    Returns:
        "output": there; "input": what it is given; "through": ask the layer before; "nowhere": only probabilities can
        be had; or a layer that gives them in its place.
    """
    if isinstance(layer, layers.TimeDistributed):
        found = _before_softmax(layer.layer, (shape[0], *shape[2:]))
        named = f"{layer.name}_logits"
        return layers.TimeDistributed(found, name=named) if isinstance(found, layers.Layer) else found
    if isinstance(layer, keras.Model):
        if not _is_readable(layer):
            raise _Unreadable(_unreadable(layer, "is not functional, not built yet, or has a `call` of its own"))
        output = layer.outputs[place]
        logits = _logits(output)
        return "output" if logits is output else keras.Model(_inputs(layer), logits, name=f"{layer.name}_logits")
    if isinstance(layer, TemperatureScaling):
        return "nowhere"
    if isinstance(layer, layers.Identity):
        return "through"
    # keras.ops.softmax of a symbolic tensor is an operation of that name.
    kind = None if isinstance(layer, layers.Layer) else type(layer).__name__
    if isinstance(layer, layers.Softmax) or kind == "Softmax":
        if layer.axis in (-1, len(shape) - 1):
            _check_softmax(layer, shape)
            return "input"
    elif kind == "Sigmoid":
        _check_sigmoid(layer, shape)
        return "input"
    elif isinstance(layer, (layers.Activation, *_AFFINE)):
        return _before_activation(layer, shape)
    raise _Unreadable(_unreadable(layer, "is none of them"))


def _before_activation(layer: layers.Layer, shape: tuple[int | None, ...]) -> str | layers.Layer:
    function, bare = layer.activation, isinstance(layer, layers.Activation)
    if function in (None, keras.activations.linear):
        return "through" if bare else "output"
    if function is keras.activations.log_softmax:
        _check_softmax(layer, shape)
        return "output"
    if function is keras.activations.sigmoid:
        _check_sigmoid(layer, shape)
    elif function is keras.activations.softmax or (isinstance(function, layers.Softmax) and function.axis == -1):
        _check_softmax(layer, shape)
    else:
        name = getattr(function, "__name__", type(function).__name__)
        raise _Unreadable(_unreadable(layer, f"has the activation {name!r}"))
    if bare:
        return "input"
    # Exactly a Dense: what a subclass or a quantized one computes is not known.
    plain = type(layer) is layers.Dense and layer.quantization_mode is None
    return LinearHead(layer, name=f"{layer.name}_logits", dtype=layer.dtype_policy) if plain else "nowhere"


def _check_softmax(layer: Any, shape: tuple[int | None, ...]) -> None:
    if shape[-1] == 1:
        raise ValueError(
            f"`model` must not end in a softmax over one unit, which is the constant 1. Received: {layer.name!r}. "
            "A binary classifier has one unit with a sigmoid, or two with a softmax."
        )


def _check_sigmoid(layer: Any, shape: tuple[int | None, ...]) -> None:
    if shape[-1] != 1:
        raise ValueError(
            f"`model` must give one distribution over its classes. Received: {layer.name!r}, {shape[-1]} sigmoids: "
            "a multi-label classifier. Take each class as a binary classifier of its own, "
            "keras.Model(model.input, model.output[..., k:k + 1]), with from_logits=False."
        )


def _is_readable(model: keras.Model) -> bool:
    """Says whether the symbolic outputs of a model are what it computes, which a `call` of its own may change."""
    # Code that was run by `exec` may have no module.
    own_call = not (type(model).call.__module__ or "").startswith(("keras.", "keras_ls."))
    return bool(getattr(model, "outputs", None)) and not own_call


def _functional(model: keras.Model, inputs: Any, output: str | None) -> keras.Model:
    """A functional model, of one output, around one that only a call shows."""
    names = check_output(model, output)

    def called(rank_alone: bool) -> keras.Model:
        def symbol(leaf):
            shape = [None if rank_alone else size for size in leaf.shape[1:]]
            return keras.Input(shape, dtype=keras.backend.standardize_dtype(leaf.dtype))

        symbols = tree.map_structure(symbol, inputs)
        return keras.Model(symbols, single(of_output(model(symbols), output, names)), name=model.name)

    if not model.built:
        model(inputs, training=False)
    # Sequences may then be of any length, but not every layer can be traced with sizes that are unknown.
    with contextlib.suppress(Exception):
        network = called(rank_alone=True)
        if network.output_shape[-1] is not None:
            return network
    return called(rank_alone=False)


def _inputs(model: keras.Model) -> Any:
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def _unreadable(layer: Any, reason: str) -> str:
    return (
        "`model` must be a built functional or Sequential model that ends in logits (a linear Dense or convolution), "
        "in a softmax over the last axis or in one sigmoid unit. Received: a model whose last part, "
        f"{layer.name!r} ({type(layer).__name__}), {reason}. If it gives logits, say so: from_logits=True if that is "
        "an argument, else keras.Sequential([keras.Input(shape), model, keras.layers.Softmax()])."
    )
