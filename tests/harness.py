"""Where the checkout lies, and what tests need from any backend: gradients, compiled calls, NumPy results."""

import pathlib

import keras
import numpy as np
import pytest
from keras import ops

TESTS = pathlib.Path(__file__).parent
ROOT = TESTS.parent  # of the checkout
BACKEND = keras.backend.backend()
# Relative tolerance of a result computed in each dtype.
RTOL = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 2e-2}


def numpy(x):
    """Any tensor as a NumPy array (bfloat16 as float32)."""
    x = ops.convert_to_tensor(x)
    if keras.backend.standardize_dtype(x.dtype) == "bfloat16":
        x = ops.cast(x, "float32")
    return ops.convert_to_numpy(x)


def value_and_gradient(fn, x, dtype="float32", jit=False):
    """Value of `fn(x)`, a tensor, and the gradient of its sum with respect to `x`, both as NumPy."""
    x = ops.cast(ops.convert_to_tensor(x), dtype)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        def run(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = fn(x)
            return value, tape.gradient(value, x)

        value, gradient = (tf.function(run, jit_compile=jit is True) if jit else run)(x)
    elif BACKEND == "jax":
        import jax

        def run(x):
            value, pullback = jax.vjp(fn, x)
            return value, pullback(jax.numpy.ones_like(value))[0]

        value, gradient = (jax.jit(run) if jit else run)(x)
    else:
        x = x.detach().clone().requires_grad_(True)
        value = fn(x)
        value.sum().backward()
        gradient = x.grad
        value = value.detach()
    return numpy(value), numpy(gradient)


# Whether models that take a few steps run them eagerly: TensorFlow takes longer to trace a step than for many of them.
EAGER = BACKEND == "tensorflow"
# The same for the networks of the demos, from their command lines.
WITHOUT_XLA = ["--jit-compile", "no"] if BACKEND == "tensorflow" else []


def compiled(fn, jit=False):
    """`fn` of tensors as the backend compiles it: tf.function, jax.jit; unchanged on PyTorch."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(fn, jit_compile=jit)
    if BACKEND == "jax":
        import jax

        return jax.jit(fn)
    return fn


def assert_config_round_trip(obj, call):
    """Serialises `obj` through Keras and JSON; the copy's config and `call(copy)` must be the same."""
    import inspect
    import json

    config = keras.saving.serialize_keras_object(obj)
    copy = keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))
    assert type(copy) is type(obj)
    assert copy.get_config() == obj.get_config()
    arguments = {p for p in inspect.signature(type(obj).__init__).parameters if p != "self"}
    assert arguments <= set(obj.get_config()), arguments - set(obj.get_config())
    np.testing.assert_array_equal(numpy(call(copy)), numpy(call(obj)))


needs_graph = pytest.mark.skipif(BACKEND == "torch", reason="PyTorch has no compiled graph in Keras by default")


def slow(*values):
    """A case of a parametrized test that runs only with --slow on TensorFlow, where the others see most of it."""
    return pytest.param(*values, marks=pytest.mark.slow if BACKEND == "tensorflow" else ())
