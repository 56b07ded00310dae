"""The logits of a classifier, found from its last layers."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
from keras import layers, tree

from keras_ls._backend import ONE_AT_A_TIME
from keras_ls._checks import shown
from keras_ls._models.devices import on_devices_of
from keras_ls._models.layers import SIGMOID, SOFTMAX, AfterLogits, LinearHead, LogOdds, LogProbabilities
from keras_ls._models.outputs import check_output, has_own_call, of_output, output_model, single, symbolic_inputs

# Layers that apply an `activation` last, and nothing after it.
_AFFINE = (layers.Dense, layers.EinsumDense, layers.Conv1D, layers.Conv2D, layers.Conv3D)


def logits_model(
    model: keras.Model, output: str | None = None, from_logits: bool | None = None, inputs: Any = None
) -> keras.Model:
    """Returns a functional model that maps the inputs of `model` to its logits.

    It shares the layers of `model`: training one trains the other. A linear last layer already gives logits; a softmax,
    or a sigmoid over one unit, is removed if it is a layer or the activation of a `Dense`. If another layer applies it,
    or a nested model or `TimeDistributed` that the graph also uses earlier, log p (or the log-odds of one unit) stands
    for logits. Logits (…, 1) are those of class 1 of two classes.

    Args:
        model: a Keras model.
        output: the name of its output, or None if there is only one.
        from_logits: True if the output holds logits, False for probabilities, None to tell from the layers.
        inputs: a batch of inputs, for models that do not show theirs.

    Raises:
        ValueError: If neither the last layers nor `from_logits` tell logits from probabilities, `from_logits` is True
            where they give probabilities, several sigmoid units make the model multi-label, it gives a number per
            example without a class axis, or has no such output.
    """
    check_model(model)
    given = model
    with ONE_AT_A_TIME:
        if not _is_readable(model):
            if from_logits is None:
                raise ValueError(_unreadable(model, "is not functional, not built yet, or has a `call` of its own"))
            model = _functional(model, inputs, output)
        else:
            model = output_model(model, output)
        tensor = model.outputs[0]
        if len(tensor.shape) < 2:
            raise ValueError(f"`model` must give predictions (N, …, K). Received: output of shape {tensor.shape}.")
        if from_logits is None:
            logits = _logits(tensor)
        elif from_logits:
            logits = tensor
            with contextlib.suppress(_Unreadable):
                if _logits(tensor) is not tensor:
                    raise ValueError(
                        "`from_logits` must be False for a model whose last layer gives probabilities. "
                        f"Received: from_logits=True and {given.name!r}."
                    )
        else:
            logits = _logits_of_probabilities(tensor)
    with on_devices_of(given):
        network = keras.Model(symbolic_inputs(model), logits, name=f"{model.name}_logits")
        if model.input_spec is None:  # of a Sequential, which may be called with inputs of any size
            network.input_spec = None
    if given.compiled:
        network.run_eagerly, network.jit_compile = given.run_eagerly, given.jit_compile
    return network


def gives_logits(model: keras.Model, output: str | None = None) -> bool | None:
    """Returns True if an output holds logits, False if probabilities, and None if the layers do not tell.

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
    """Raises `ValueError` unless `model` is a Keras model."""
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a Keras model. Received: {shown(model)}.")


class _Unreadable(ValueError):
    """The last layers do not tell whether they give logits or probabilities."""


def _logits(tensor: Any) -> Any:
    """Returns the symbolic logits behind `tensor`, an output of a model: `tensor` itself if it holds them."""
    operation, node_index, place = tensor._keras_history
    arguments = operation._inbound_nodes[node_index].arguments
    name = free_name(f"{operation.name}_logits", arguments.keras_tensors)
    found = _before_softmax(operation, tensor.shape, name, place)
    if found.where == "output":
        return tensor
    if found.where == "before":
        source = arguments.keras_tensors[0]
        logits = _logits(source)
        return tensor if logits is source else logits
    given = {name: value for name, value in arguments.kwargs.items() if name != "training"}
    # A second argument is a mask, which changes the result of the softmax.
    if found.where == "input" and sum(value is not None for value in tree.flatten((arguments.args, given))) == 1:
        return arguments.keras_tensors[0]
    # A wrapper in place of one that the graph has before, too, would save their common layers apart from each other.
    is_wrapper = not isinstance(operation, layers.Dense)
    if found.layer is None or (
        is_wrapper and any(each is operation for each in _operations_before(arguments.keras_tensors))
    ):
        return _logarithm(tensor)
    return found.layer(*arguments.args, **arguments.kwargs)


def free_name(name: str, tensors: Sequence[Any]) -> str:
    """Returns `name`, with a number behind it if the graph that leads to symbolic tensors has it already."""
    taken = {operation.name for operation in _operations_before(tensors)}
    return next(each for each in (name, *(f"{name}_{i}" for i in range(1, len(taken) + 1))) if each not in taken)


def _operations_before(tensors: Sequence[Any]) -> Iterator[Any]:
    """The operations of the graph that leads to symbolic tensors."""
    waiting, seen = list(tensors), set()
    while waiting:
        operation, node_index, _ = waiting.pop()._keras_history
        if (id(operation), node_index) not in seen:
            seen.add((id(operation), node_index))
            waiting += operation._inbound_nodes[node_index].arguments.keras_tensors
            yield operation


def _logits_of_probabilities(tensor: Any) -> Any:
    """Returns the symbolic logits behind probabilities, or their logarithm if the layers show none."""
    try:
        logits = _logits(tensor)
    except _Unreadable:
        logits = tensor
    return _logarithm(tensor) if logits is tensor else logits


def _logarithm(tensor: Any) -> Any:
    layer = LogOdds if tensor.shape[-1] == 1 else LogProbabilities
    return layer(name=free_name(f"{tensor._keras_history[0].name}_log", [tensor]))(tensor)


class _Source(NamedTuple):
    """Where to find the logits of a layer's output.

    Attributes:
        where: "output": in that output; "input": in the layer's input; "before": depends on the layer before; "layer":
            in the output of `layer`, which takes its place; "nowhere": only probabilities are available.
        layer: the layer for "layer", else None.
    """

    where: str
    layer: layers.Layer | None = None


def _before_softmax(layer: Any, shape: tuple[int | None, ...], name: str, place: int = 0) -> _Source:
    """Returns where the logits of a last layer's output, of the given shape and position, are found.

    `name` is for the layer that takes its place.
    """
    if isinstance(layer, layers.TimeDistributed):
        found = _before_softmax(layer.layer, (shape[0], *shape[2:]), f"{layer.layer.name}_logits")
        if found.layer is None:
            return found
        return _Source("layer", layers.TimeDistributed(found.layer, name=name))
    if isinstance(layer, keras.Model):
        if not _is_readable(layer):
            raise _Unreadable(_unreadable(layer, "is not functional, not built yet, or has a `call` of its own"))
        output = layer.outputs[place]
        logits = _logits(output)
        if logits is output:
            return _Source("output")
        return _Source("layer", keras.Model(symbolic_inputs(layer), logits, name=name))
    if isinstance(layer, AfterLogits):
        return _Source("nowhere")
    if isinstance(layer, (layers.Identity, layers.Softmax, layers.Activation, *_AFFINE)) and has_own_call(layer):
        raise _Unreadable(_unreadable(layer, "has a `call` of its own"))
    if isinstance(layer, layers.Identity):
        return _Source("before")
    # keras.ops.softmax of a symbolic tensor is an operation of that name.
    kind = None if isinstance(layer, layers.Layer) else type(layer).__name__
    if isinstance(layer, layers.Softmax) or kind == "Softmax":
        if layer.axis in (-1, len(shape) - 1):
            _check_softmax(layer, shape)
            return _Source("input")
    elif kind == "Sigmoid":
        _check_sigmoid(layer, shape)
        return _Source("input")
    elif isinstance(layer, (layers.Activation, *_AFFINE)):
        return _before_activation(layer, shape, name)
    raise _Unreadable(_unreadable(layer, "is none of them"))


def _before_activation(layer: layers.Layer, shape: tuple[int | None, ...], name: str) -> _Source:
    function, bare = layer.activation, isinstance(layer, layers.Activation)
    if function in (None, keras.activations.linear):
        return _Source("before" if bare else "output")
    if function is keras.activations.log_softmax:
        _check_softmax(layer, shape)
        return _Source("output")
    if function in SIGMOID:
        _check_sigmoid(layer, shape)
    elif function in SOFTMAX or (isinstance(function, layers.Softmax) and function.axis == -1):
        _check_softmax(layer, shape)
    else:
        called = getattr(function, "__name__", type(function).__name__)
        raise _Unreadable(_unreadable(layer, f"has the activation {called!r}"))
    if bare:
        return _Source("input")
    # Only a plain Dense: a subclass or a quantized one may compute something else.
    plain = type(layer) is layers.Dense and layer.quantization_mode is None
    if not plain:
        return _Source("nowhere")
    return _Source("layer", LinearHead(layer, name=name, dtype=layer.dtype_policy))


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
    """Returns whether a model's symbolic outputs are what it computes, which its own `call` may change."""
    return bool(getattr(model, "outputs", None)) and not has_own_call(model)


def _functional(model: keras.Model, inputs: Any, output: str | None) -> keras.Model:
    """Returns a functional model with one output around a model whose structure only a call shows."""
    names = check_output(model, output)

    def called(rank_alone: bool) -> keras.Model:
        def symbol(leaf):
            shape = [None if rank_alone else size for size in leaf.shape[1:]]
            return keras.Input(shape, dtype=_input_dtype(leaf))

        symbols = tree.map_structure(symbol, inputs)
        return keras.Model(symbols, single(of_output(model(symbols), output, names)), name=model.name)

    if not model.built:
        model(inputs, training=False)
    # Sequences may then have any length, but not every layer can be traced with unknown sizes.
    with contextlib.suppress(Exception):
        network = called(rank_alone=True)
        if network.output_shape[-1] is not None:
            return network
    return called(rank_alone=False)


def _input_dtype(leaf: Any) -> str:
    """The dtype of a model's inputs of which `leaf` holds some, as `fit` and `predict` would read it."""
    dtype = "string" if leaf.dtype == object else keras.backend.standardize_dtype(leaf.dtype)
    if "float" in dtype:
        return keras.config.floatx()
    return "int32" if dtype == "int64" and keras.backend.backend() == "jax" else dtype


def _unreadable(layer: Any, reason: str) -> str:
    return (
        "`model` must be a built functional or Sequential model that ends in logits (a linear Dense or convolution), "
        "in a softmax over the last axis or in one sigmoid unit. Received: a model whose last part, "
        f"{layer.name!r} ({type(layer).__name__}), {reason}. If it gives logits, say so: from_logits=True if that is "
        "an argument, else keras.Sequential([keras.Input(shape), model, keras.layers.Softmax()]). For probabilities "
        "that is from_logits=False, or keras.layers.Lambda(keras.ops.log) before that Softmax."
    )
