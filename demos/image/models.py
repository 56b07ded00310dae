"""The paper's three image networks: they take uint8 images and give float32 logits."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

MODELS = ("mlp", "alexnet", "resnet")


@keras.saving.register_keras_serializable(package="keras_ls.demos")
class LocalResponseNormalization(layers.Layer):
    """x_c / (bias + alpha · Σ x_c'² over the channels within `depth_radius` of c)^beta, channels last.

    The arguments are those of `tf.nn.local_response_normalization`. The statistics are in float32.
    """

    def __init__(self, depth_radius=4, bias=1.0, alpha=0.001 / 9, beta=0.75, **kwargs):
        super().__init__(**kwargs)
        self.depth_radius, self.bias, self.alpha, self.beta = depth_radius, bias, alpha, beta

    def call(self, inputs):
        """Normalises `inputs` (..., channels)."""
        channel = np.arange(inputs.shape[-1])
        band = np.abs(channel[:, None] - channel) <= self.depth_radius
        x = ops.cast(inputs, "float32")
        neighbours = ops.matmul(ops.square(x), ops.convert_to_tensor(band.astype("float32")))
        # Four times as fast as a power, with its gradient, where TensorFlow runs on a CPU.
        factor = ops.exp(-self.beta * ops.log(self.bias + self.alpha * neighbours))
        return ops.cast(x * factor, inputs.dtype)

    def compute_output_shape(self, input_shape):
        """Returns `input_shape`."""
        return input_shape

    def get_config(self):
        """Returns the constructor's arguments."""
        own = {"depth_radius": self.depth_radius, "bias": self.bias, "alpha": self.alpha, "beta": self.beta}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="keras_ls.demos")
class PaddedShortcut(layers.Layer):
    """The shortcut without parameters: every other row and column, new channels filled with zeros."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters

    def call(self, inputs):
        """(N, height, width, channels) to (N, ⌈height/2⌉, ⌈width/2⌉, filters)."""
        missing = self.filters - inputs.shape[-1]
        return ops.pad(inputs[:, ::2, ::2], [[0, 0], [0, 0], [0, 0], [missing // 2, missing - missing // 2]])

    def compute_output_shape(self, input_shape):
        """Returns the shape with halved height and width and `filters` channels."""
        n, height, width, _ = input_shape
        return (n, *(None if size is None else (size + 1) // 2 for size in (height, width)), self.filters)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "filters": self.filters}


def build(
    name: str,
    images: np.ndarray,
    num_classes: int,
    depth: int = 56,
    hidden: Sequence[int] = (1200, 1200),
    weight_decay: float = 0.0,
    dropout: float = 0.0,
) -> keras.Model:
    """Builds a network for images like these.

    Args:
        name: one of `MODELS`.
        images: (N, height, width, channels) uint8 training images. The network normalises each channel by their
            mean and standard deviation.
        num_classes: K.
        depth: layers of the ResNet, 6·n + 2.
        hidden: widths of the MLP's hidden layers.
        weight_decay: the loss gets ½·weight_decay·‖w‖² for the kernels: all of the ResNet's and the MLP's, those
            of the two hidden dense layers of AlexNet.
        dropout: share of the outputs of each hidden layer of the MLP that is dropped in training.

    Returns:
        A model from uint8 images to float32 logits (N, K), whatever the dtype policy.
    """
    inputs = keras.Input(images.shape[1:], dtype="uint8", name="image")
    x = _normalise(inputs, images)
    # A penalty of zero would still cost its sums at each step.
    decay = keras.regularizers.L2(weight_decay / 2) if weight_decay else None
    if name == "mlp":
        x, head = _mlp(x, hidden, decay, dropout)
    elif name == "alexnet":
        x, head = _alexnet(x, decay)
    elif name == "resnet":
        x, head = _resnet(x, depth, decay)
    else:
        raise ValueError(f"`name` must be one of {', '.join(MODELS)}. Received: {name!r}.")
    logits = layers.Dense(num_classes, dtype="float32", name="logits", **head)(x)
    return keras.Model(inputs, logits, name=name)


def _normalise(inputs, images):
    axes = (0, 1, 2)
    mean, deviation = images.mean(axes, dtype="float64"), images.std(axes, dtype="float64")
    scale = 1 / np.maximum(deviation, 1.0)
    return layers.Rescaling(scale.tolist(), (-mean * scale).tolist(), dtype="float32", name="normalise")(inputs)


def _mlp(x, hidden, decay, dropout):
    """The paper's fully connected network for MNIST."""

    def initializer():
        return keras.initializers.RandomNormal(stddev=0.03)

    x = layers.Flatten()(x)
    for width in hidden:
        x = layers.Dense(width, activation="relu", kernel_initializer=initializer(), kernel_regularizer=decay)(x)
        x = layers.Dropout(dropout)(x) if dropout else x
    return x, {"kernel_initializer": initializer(), "kernel_regularizer": decay}


def _alexnet(x, decay):
    """The network of TensorFlow's CIFAR-10 tutorial, with its initial values."""

    def normal(stddev):
        return keras.initializers.TruncatedNormal(stddev=stddev)

    def convolution(x, bias):
        return layers.Conv2D(
            64, 5, padding="same", activation="relu", kernel_initializer=normal(0.05), bias_initializer=bias
        )(x)

    def dense(x, width):
        return layers.Dense(
            width,
            activation="relu",
            kernel_initializer=normal(0.04),
            bias_initializer=keras.initializers.Constant(0.1),
            kernel_regularizer=decay,
        )(x)

    x = convolution(x, "zeros")
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = LocalResponseNormalization()(x)
    x = convolution(x, keras.initializers.Constant(0.1))
    x = LocalResponseNormalization()(x)
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = dense(dense(layers.Flatten()(x), 384), 192)
    return x, {"kernel_initializer": normal(1 / 192)}


def _resnet(x, depth, decay):
    """The residual network that He et al. (2016) trained on CIFAR: 3 stages of 16, 32 and 64 filters."""
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise ValueError(f"`depth` must be 6·n + 2 with n of at least 1: 20, 32, 44, 56. Received: depth={depth}.")

    def convolution(x, filters, strides=1):
        x = layers.Conv2D(
            filters,
            3,
            strides,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            kernel_regularizer=decay,
        )(x)
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)

    x = layers.ReLU()(convolution(x, 16))
    for filters in (16, 32, 64):
        for _ in range(blocks):
            shrinks = x.shape[-1] != filters
            shortcut = PaddedShortcut(filters)(x) if shrinks else x
            x = layers.ReLU()(convolution(x, filters, 2 if shrinks else 1))
            x = layers.ReLU()(layers.Add()([convolution(x, filters), shortcut]))
    x = layers.GlobalAveragePooling2D()(x)
    return x, {"kernel_initializer": "he_normal", "kernel_regularizer": decay}
