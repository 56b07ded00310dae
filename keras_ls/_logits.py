"""The logits of a classifier, found from the layers that it ends in."""

from typing import Any

import keras
from keras import layers, ops

from keras_ls._arrays import smallest_probability
from keras_ls._temperature import TemperatureScaling

# Layers that apply an `activation` last, and nothing after it.
_AFFINE = (layers.Dense, layers.EinsumDense, layers.Conv1D, layers.Conv2D, layers.Conv3D)


def logits_model(model: keras.Model) -> keras.Model:
    """Returns a functional model of the inputs of `model` whose softmax is what `model` gives as probabilities.

    It shares the layers of `model`: training one trains the other. A linear last layer gives logits itself; a softmax
    is taken off where it is a layer or sits in a `Dense`; from another layer with a softmax inside, log p is taken.

    Raises:
        ValueError: where the last layers do not say whether they give logits or probabilities.
    """
    logits = _logits(_single_output(model))
    return keras.Model(_inputs(model), logits, name=f"{model.name}_logits")


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
    """Logarithm of probabilities, in float32 or wider; 0 is taken as the smallest number that their dtype holds."""

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.supports_masking = True

    def call(self, inputs):
        """Returns log p."""
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        wide = ops.cast(inputs, "float64" if dtype == "float64" else "float32")
        return ops.log(ops.maximum(wide, smallest_probability(dtype)))

    def compute_output_shape(self, input_shape):
        """The shape of the probabilities."""
        return input_shape


def _logits(tensor: Any) -> Any:
    """The symbolic logits behind `tensor`, the symbolic output of a model: `tensor` itself where it holds them."""
    operation, node_index, _ = tensor._keras_history
    arguments = operation._inbound_nodes[node_index].arguments
    found = _before_softmax(operation, len(tensor.shape))
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
    return LogProbabilities(name=f"{operation.name}_log")(tensor)


def _before_softmax(layer: Any, rank: int) -> str | layers.Layer:
    """Where the logits of the output, of `rank` dimensions, of a last layer are.

    Returns:
        "output": there; "input": what it is given; "through": ask the layer before; "nowhere": only probabilities can
        be had; or a layer that gives them in its place.
    """
    if isinstance(layer, layers.TimeDistributed):
        found = _before_softmax(layer.layer, rank - 1)
        named = f"{layer.name}_logits"
        return layers.TimeDistributed(found, name=named) if isinstance(found, layers.Layer) else found
    if isinstance(layer, keras.Model):
        output = _single_output(layer)
        logits = _logits(output)
        return "output" if logits is output else keras.Model(_inputs(layer), logits, name=f"{layer.name}_logits")
    if isinstance(layer, TemperatureScaling):
        return "nowhere"
    if isinstance(layer, layers.Identity):
        return "through"
    # keras.ops.softmax of a symbolic tensor is an operation of that name.
    if isinstance(layer, layers.Softmax) or (not isinstance(layer, layers.Layer) and type(layer).__name__ == "Softmax"):
        if layer.axis in (-1, rank - 1):
            return "input"
    elif isinstance(layer, (layers.Activation, *_AFFINE)):
        return _before_activation(layer)
    raise ValueError(_unreadable(layer, "is none of them"))


def _before_activation(layer: layers.Layer) -> str | layers.Layer:
    function, bare = layer.activation, isinstance(layer, layers.Activation)
    if function in (None, keras.activations.linear):
        return "through" if bare else "output"
    if function is keras.activations.log_softmax:
        return "output"
    inner_layer = isinstance(function, layers.Softmax) and function.axis == -1
    if function is not keras.activations.softmax and not inner_layer:
        name = getattr(function, "__name__", type(function).__name__)
        raise ValueError(_unreadable(layer, f"has the activation {name!r}"))
    if bare:
        return "input"
    # Exactly a Dense: what a subclass or a quantized one computes is not known.
    plain = type(layer) is layers.Dense and layer.quantization_mode is None
    return LinearHead(layer, name=f"{layer.name}_logits", dtype=layer.dtype_policy) if plain else "nowhere"


def _inputs(model: keras.Model) -> Any:
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def _single_output(model: Any) -> Any:
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a Keras model. Received: {model!r:.200}.")
    outputs = getattr(model, "outputs", None)
    if not outputs:
        raise ValueError(_unreadable(model, "is not functional, or not built yet"))
    if len(outputs) != 1:
        raise ValueError(f"`model` must have one output. Received: {len(outputs)} outputs.")
    return outputs[0]


def _unreadable(layer: Any, reason: str) -> str:
    return (
        "`model` must be a built functional or Sequential model that ends in logits (a linear Dense or convolution) or "
        f"in a softmax over the last axis. Received: a model whose last part, {layer.name!r} ({type(layer).__name__}), "
        f"{reason}. Where that part gives logits, say so with a softmax after it: "
        "keras.Sequential([keras.Input(shape), model, keras.layers.Softmax()])."
    )
