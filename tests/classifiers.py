"""Classifiers of every form, each with the inputs of its last `Dense`, found by hand, and a maker of inputs."""

import keras
import numpy as np
from harness import numpy
from keras import layers

import keras_ls


def images(rng, n=11):
    return rng.standard_normal((n, 6, 6, 1)).astype("float32")


def tokens(rng, n=11):
    ids = rng.integers(1, 9, (n, 5))
    ids[::2, 3:] = 0
    return ids


class Subclassed(keras.Model):
    """Layers made in another order than they are used in."""

    def __init__(self):
        super().__init__()
        self.head = layers.Dense(4, activation="softmax", name="head")
        self.flatten = layers.Flatten()
        self.dropout = layers.Dropout(0.5)
        self.norm = layers.BatchNormalization()
        self.hidden = layers.Dense(7, activation="tanh", name="hidden")

    def body(self, x):
        return self.dropout(self.norm(self.hidden(self.flatten(x)), training=False), training=False)

    def call(self, x, training=False):
        return self.head(self.dropout(self.norm(self.hidden(self.flatten(x)), training=training), training=training))


def sequential(*last):
    body = [keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(7, activation="relu"), layers.Dropout(0.5)]
    return keras.Sequential([*body, *last])


def cut(model, layer):
    """The model up to what the layer (or the one of that name) is given."""
    layer = model.get_layer(layer) if isinstance(layer, str) else layer
    return lambda x: numpy(keras.Model(model.inputs, layer.input)(x, training=False))


def from_sequential(*last):
    model = sequential(*last)
    return model, cut(model, next(layer for layer in last if isinstance(layer, layers.Dense))), images


def convolutional():
    inputs = keras.Input((6, 6, 1))
    x = layers.BatchNormalization()(layers.Conv2D(3, 3, padding="same", activation="relu")(inputs))
    logits = layers.Dense(4, name="head")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, layers.Activation("softmax")(logits))
    return model, cut(model, "head"), images


def nested_body():
    body = sequential()
    inputs = keras.Input((6, 6, 1))
    model = keras.Model(inputs, layers.Dense(4)(body(inputs)))
    return model, lambda x: numpy(body(x)), images


def nested_head():
    features = keras.Input((7,))
    head = keras.Model(features, layers.Dense(4, activation="softmax")(layers.ReLU()(features)))
    model = sequential(head)
    return model, lambda x: np.maximum(numpy(keras.Model(model.inputs, model.layers[-2].output)(x)), 0), images


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 6, 6, 1), "float32"))
    return model, lambda x: numpy(model.body(x)), images


class Token(keras.Model):
    """With weights of its own beside its layers', as those of a class token."""

    def __init__(self):
        super().__init__()
        self.token = self.add_weight(shape=(36,), name="token")
        self.head = layers.Dense(4, name="head")

    def body(self, x):
        return layers.Flatten()(x) + self.token

    def call(self, x):
        return self.head(self.body(x))


def weights_of_its_own():
    model = Token()
    model(np.zeros((1, 6, 6, 1), "float32"))
    return model, lambda x: numpy(model.body(x)), images


def many_inputs():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    model = keras.Model({"a": a, "b": b}, layers.Dense(4, name="head")(layers.Concatenate()([a, b])))

    def make(rng, n=11):
        return {"b": rng.standard_normal((n, 2)), "a": rng.standard_normal((n, 3))}

    return model, lambda x: np.concatenate([x["a"], x["b"]], axis=1), make


def mixed():
    body = [keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(7, activation="relu", dtype="mixed_bfloat16")]
    head = layers.Dense(4, dtype="mixed_bfloat16")
    model = keras.Sequential([*body, head, layers.Softmax(dtype="float32")])
    return model, cut(model, head), images


def recurrent(head, *after):
    inputs = keras.Input((None,), dtype="int32")
    states = layers.LSTM(6, return_sequences=True)(layers.Embedding(9, 5, mask_zero=True)(inputs))
    outputs = head(states)
    for layer in after:
        outputs = layer(outputs)
    model = keras.Model(inputs, outputs)
    return model, lambda x: numpy(keras.Model(model.inputs, states)(x)), tokens


def calibrated():
    model, by_hand, make = from_sequential(layers.Dense(4, activation="softmax"))
    rng = np.random.default_rng(0)
    return keras_ls.calibrate(model, images(rng, 30), rng.integers(0, 4, 30)), by_hand, make


def shared():
    inputs, dense = keras.Input((4,)), layers.Dense(4, activation="relu")
    model = keras.Model(inputs, dense(dense(inputs)))
    return model, lambda x: numpy(dense(x)), lambda rng, n=11: rng.standard_normal((n, 4)).astype("float32")


def _spectral(head):
    model = sequential(layers.SpectralNormalization(head))
    return model, lambda x: numpy(keras.Model(model.inputs, model.layers[-2].output)(x)), images


MODELS = {
    "logits": lambda: from_sequential(layers.Dense(4)),
    "softmax inside": lambda: from_sequential(layers.Dense(4, activation="softmax")),
    "softmax layer": lambda: from_sequential(layers.Dense(4), layers.Softmax()),
    "without bias": lambda: from_sequential(layers.Dense(4, use_bias=False)),
    "convolutional": convolutional,
    "nested body": nested_body,
    "nested head": nested_head,
    "subclassed": subclassed,
    "many inputs": many_inputs,
    "mixed precision": mixed,
    "recurrent": lambda: recurrent(layers.Dense(4)),
    "time-distributed": lambda: recurrent(layers.TimeDistributed(layers.Dense(4))),
    "time-distributed activation": lambda: recurrent(
        layers.Dense(4), layers.TimeDistributed(layers.Activation("softmax"))
    ),
    "weights of its own": weights_of_its_own,
    "calibrated": calibrated,
    "shared": shared,
    "spectral normalisation": lambda: _spectral(layers.Dense(4)),
}
