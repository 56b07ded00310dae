"""The inputs of a classifier's last layer, and its template for each class."""

from typing import Any

import keras
import numpy as np

from keras_ls._arrays import widened
from keras_ls._backend import ONE_AT_A_TIME
from keras_ls._checks import shown
from keras_ls._models.head import Probe, check_built, dense_of, find_head


def class_templates(model_or_layer: Any) -> np.ndarray:
    """Returns the template of each class: its column of the last kernel, with its bias appended.

    The logit of class k is then the inner product of its template w_k and the penultimate activations with a 1
    appended, xᵀw_k. Where there is no bias a 0 is appended.

    Args:
        model_or_layer: a built `keras.Model` with one output whose last layer with weights is a `Dense`, or that layer.
            Pass the layer, `model.get_layer(name)`, if the model has several outputs, or is a subclassed model that
            does not show which `Dense` is its last.

    Returns:
        (K, D + 1), float32 or wider.

    Raises:
        ValueError: If the model or layer is not built, the model has several outputs, or the last layer with weights
            is not a `Dense`, or is quantized.

    Example:
        >>> import keras, keras_ls
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
        >>> print(keras_ls.class_templates(model).shape)
        (3, 5)

    Reference:
        Müller, Kornblith and Hinton 2019, section 2.
    """
    if isinstance(model_or_layer, keras.Model):
        check_built(model_or_layer, "model_or_layer")
        dense = find_head(model_or_layer)
    else:
        dense = dense_of(model_or_layer)
        if dense is None or not dense.built:
            kind = shown(model_or_layer) if dense is None else "a Dense that is not built"
            raise ValueError(f"`model_or_layer` must be a built keras.Model or Dense layer. Received: {kind}.")
    return templates_of(dense)


def penultimate_activations(model: keras.Model, x: Any, batch_size: int = 256, output: str | None = None) -> np.ndarray:
    """Returns the inputs of a model's last `Dense` layer, in inference mode.

    Costs one forward pass. The model, its optimizer and its `trainable` flags stay unchanged. Several threads may use
    the same model; their passes take turns.

    Args:
        model: a built Sequential, functional or subclassed `keras.Model` whose last layer with weights, on the way to
            the output, is a `Dense`, whatever follows it (an activation, a softmax, a temperature). It may have a
            single unit, as binary classifiers do. Where outputs of several layers with weights are added or multiplied
            in the end, the one that ran last is taken, which alone does not give the logits.
        x: inputs as `model.predict` takes them: an array, a list or dict of arrays, or a dataset. A dataset that
            shuffles gives its rows in an order that no other pass over it has.
        batch_size: number of examples in a batch, for arrays.
        output: the name of one output, if the model has several.

    Returns:
        (N, D), float32 or wider; (N, T, D) if the `Dense` is applied to each step of a sequence.

    Raises:
        ValueError: If the model is not built, preprocesses its inputs in `predict` (as KerasHub's tasks do), has
            several outputs and none is named, or ends in another layer with weights, such as a 1×1 convolution before
            a pooling, or in a quantized `Dense`; or if `x` is neither arrays nor a dataset.

    Example:
        >>> import keras, keras_ls, numpy as np
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.ReLU(), keras.layers.Dense(3)])
        >>> x = np.array([[1.0, -2.0, 3.0, -4.0]], "float32")
        >>> print(keras_ls.penultimate_activations(model, x).tolist())
        [[1.0, 0.0, 3.0, 0.0]]

    Reference:
        Müller, Kornblith and Hinton 2019, section 2.
    """
    return Probe(model, output, with_outputs=False).forward(x, batch_size).activations


def templates_of(dense: Any) -> np.ndarray:
    """The columns of the kernel, each with its bias appended, (K, D + 1), float32 or wider."""
    with ONE_AT_A_TIME:
        kernel = keras.ops.convert_to_numpy(widened(dense.kernel))
        bias = np.zeros(kernel.shape[1]) if dense.bias is None else keras.ops.convert_to_numpy(widened(dense.bias))
    return np.concatenate([kernel.T, bias[:, None].astype(kernel.dtype)], axis=1)
