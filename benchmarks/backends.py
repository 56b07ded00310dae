"""What the three backends do each in their own way: start on a device, compile, differentiate, wait, count memory."""

import os
import sys
from collections.abc import Callable
from typing import Any

from benchmarks import harness


def start(backend: str, device: str) -> None:
    """Readies a new process for Keras on a backend and a device.

    Raises:
        ImportError: If `device` is "gpu" and the backend sees none.
    """
    os.environ.update(KERAS_BACKEND=backend, TF_CPP_MIN_LOG_LEVEL="3")
    # Else the first of several processes on a GPU takes all of its memory.
    os.environ.update(TF_FORCE_GPU_ALLOW_GROWTH="true", XLA_PYTHON_CLIENT_PREALLOCATE="false")
    if device == "cpu":
        os.environ.update(CUDA_VISIBLE_DEVICES="-1", JAX_PLATFORMS="cpu")
    elif not _accelerators(backend):
        raise ImportError(f"{backend} sees no GPU")


def require_gpu(backend: str, package: str) -> None:
    """An ImportError, which leaves a case out, where the backend sees no GPU."""
    if not _accelerators(backend):
        raise ImportError(f"{package} needs a GPU")


def _accelerators(backend: str) -> int:
    if backend == "tensorflow":
        import tensorflow as tf

        return len(tf.config.list_physical_devices("GPU"))
    if backend == "jax":
        import jax

        return sum(device.platform != "cpu" for device in jax.local_devices())
    import torch

    return torch.cuda.device_count()


def compiled(function: Callable, jit: bool = True) -> Callable:
    """A function as the backend compiles it; on PyTorch as it is. `jit` is whether TensorFlow uses XLA."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=jit)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return function


def value_and_gradient(function: Callable, jit: bool = True) -> Callable:
    """A compiled function that gives a scalar and its gradients by all arguments but those that hold integers."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        def step(*arguments):
            watched = [argument for argument in arguments if argument.dtype.is_floating]
            with tf.GradientTape() as tape:
                for argument in watched:
                    tape.watch(argument)
                value = function(*arguments)
            return value, tape.gradient(value, watched)

        return tf.function(step, jit_compile=jit)
    if keras.backend.backend() == "jax":
        import jax

        def step(*arguments):
            places = tuple(i for i, argument in enumerate(arguments) if argument.dtype.kind != "i")
            return jax.value_and_grad(function, places)(*arguments)

        return jax.jit(step)

    def step(*arguments):
        arguments = [a.detach().requires_grad_() if a.is_floating_point() else a for a in arguments]
        value = function(*arguments)
        value.backward()
        return value.detach(), [a.grad for a in arguments if a.is_floating_point()]

    return step


def ready(outputs: Any) -> Any:
    """Outputs of a compiled function, when they are computed."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return jax.block_until_ready(outputs)
    if keras.backend.backend() == "torch":
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return outputs
    first = keras.tree.flatten(outputs)[0]
    first.numpy()
    return outputs


def occupy(size: int) -> list[Any]:
    """Tensors of about `size` bytes and less that fill what the backend's allocator keeps of freed ones.

    While they are held, what a call needs comes from the kernel, whose gauge sees it. TensorFlow keeps freed buffers.
    """
    from keras import ops

    held = []
    for part in (size, size // 4, size // 16):
        grown = 0
        while grown < part // 2 and len(held) < 100:
            before = harness.memory_status("VmRSS")
            held.append(ready(ops.ones((part // 4,), "float32") * 2.0))
            grown = harness.memory_status("VmRSS") - before
    return held


def peak_memory(call: Callable[[], Any]) -> int:
    """Bytes that `call` takes beyond what is held before it: of the accelerator, if there is one."""
    if "torch" in sys.modules and (torch := sys.modules["torch"]).cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    if "tensorflow" in sys.modules and (tf := sys.modules["tensorflow"]).config.list_logical_devices("GPU"):
        tf.config.experimental.reset_memory_stats("GPU:0")
        before = tf.config.experimental.get_memory_info("GPU:0")["current"]
        call()
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] - before
    if "jax" in sys.modules and (device := sys.modules["jax"].local_devices()[0]).platform != "cpu":
        before = device.memory_stats()["bytes_in_use"]
        call()  # the peak is that of the whole process: it counts where this call is the largest
        return device.memory_stats()["peak_bytes_in_use"] - before
    return harness.peak_memory(call)
