"""Gradients of (N, K) rows in closed form: how each backend is given one that costs one pass over one buffer.

`fused`, below, says who computes: a compiler, which fuses the steps of a formula into one (JAX, and TensorFlow's XLA),
or the backend, step by step, each result in a buffer that the next can overwrite.
"""

import functools

import keras
from keras import ops

from keras_ls._backend import added_at, computed_after

# Entries of rows that PyTorch computes at a time: a few results of a CPU's block fit its cache, and a block of another
# device keeps that busy.
_CPU_BLOCK, _DEVICE_BLOCK = 2**18, 2**24


def with_slopes(losses, slopes, logits, ids, kept, constants):
    """(N,) losses of (N, K) logits whose derivative is `slopes`, computed in one pass over one buffer.

    JAX is given the derivative rather than the gradient, since that goes forwards as well, and is transposed for the
    gradient. PyTorch computes a block of examples at a time, in memory that stays in the processor's cache.

    Args:
        losses: A function of a module, ``losses(fused, logits, ids, kept, constants)``: the losses (N,) in the logits'
            dtype, and the two tensors that `slopes` may reuse.
        slopes: Another, ``slopes(fused, logits, ids, kept, constants, known)``: ∂ loss / ∂ logits (N, K), in the
            logits' dtype or wider, which can be differentiated itself. `known` are the two tensors, if it is `fused`.
        logits: (N, K).
        ids: (N,) class ids.
        kept: (N,) bool, False where the gradient is 0, or None.
        constants: A nest of tensors, numbers and None.
    """
    if keras.backend.backend() == "jax":
        return _with_slopes_on_jax(losses, slopes)(logits, ids, kept, constants)
    run = _in_blocks if keras.backend.backend() == "torch" else _fused_if_compiled

    @ops.custom_gradient
    def losses_of(logits):
        result, *known = run(lambda fused, *rows: losses(fused, *rows, constants), logits, ids, kept)

        def scaled_slopes(fused, logits, ids, kept, upstream):
            rows = slopes(fused, logits, ids, kept, constants, known)
            upstream = ops.cast(upstream, rows.dtype)
            if kept is not None:
                upstream = ops.where(kept, upstream, 0.0)
            return (ops.cast(rows * ops.expand_dims(upstream, -1), logits.dtype),)

        def gradient(*args, upstream=None):
            upstream = args[-1] if upstream is None else upstream  # only PyTorch passes it by name
            # Buffers of the losses are free again by then.
            rows = computed_after(logits, known[-1])
            return run(scaled_slopes, rows, ids, kept, upstream)[0]

        return result, gradient

    return losses_of(logits)


@functools.cache
def _with_slopes_on_jax(losses, slopes):
    """`with_slopes` as a function of tensors; compiled, so that eager calls fuse their steps, too."""
    import jax

    losses = jax.jit(functools.partial(losses, True))
    slopes = jax.jit(functools.partial(slopes, True))

    @jax.custom_jvp
    def losses_of(*args):
        return losses(*args)[0]

    @losses_of.defjvp
    def derivative(args, directions):
        result, *known = losses(*args)
        change = jax.numpy.sum(slopes(*args, known) * directions[0], axis=-1)
        kept = args[2]
        if kept is not None:
            change = jax.numpy.where(kept, change, 0.0)
        return result, change.astype(result.dtype)

    return losses_of


def _fused_if_compiled(function, *tensors):
    """``function(fused, *tensors)`` on TensorFlow, which knows only when a graph runs whether XLA compiles it."""
    import tensorflow as tf

    # The index of the device's name, which under XLA is the number of names.
    compiled = tf.equal(tf.raw_ops.DeviceIndex(device_names=["CPU", "GPU"]), 2)
    # Not `switch_case`, which has no forward mode in a graph.
    return tf.cond(compiled, *(functools.partial(function, fused, *tensors) for fused in (True, False)))


def _in_blocks(function, rows, *vectors):
    """``function(False, rows, *vectors)`` on PyTorch, of a few of (N, K) rows and (N,) vectors (or None) at a time.

    Of its results all but the first are None, which they are not worth joining for.
    """
    import torch

    step = max(1, (_CPU_BLOCK if rows.device.type == "cpu" else _DEVICE_BLOCK) // max(1, rows.shape[-1]))
    # A compiler has blocks of its own, and what is to be differentiated again cannot be written into a buffer.
    if len(rows) <= step or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return function(False, rows, *vectors)[0], None, None
    joined = None
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        result = function(False, rows[block], *(None if vector is None else vector[block] for vector in vectors))[0]
        if joined is None:
            joined = result.new_empty((len(rows), *result.shape[1:]))
        joined[block] = result
    return joined, None, None


def sum_of_differences(fused, rows, maximum, shifted):
    """Σ (row − maximum) of each of (N, K) rows, (N,), given the maximum (N, 1) and the differences (N, K)."""
    if not fused:
        return ops.sum(shifted, axis=-1)
    # XLA sums what is in memory: of rows as they are it need not store the differences first. That rounds no more than
    # a few times as much, unless the rows have an offset that is large beside the differences.
    scale = ops.cast(ops.shape(rows)[-1], rows.dtype) * ops.squeeze(maximum, -1)
    total = ops.sum(rows, axis=-1) - scale
    return ops.cond(ops.all(ops.abs(scale) <= -4.0 * total), lambda: total, lambda: ops.sum(rows - maximum, axis=-1))


def exponential_sum(fused, rows, maximum, shifted, row_values):
    """Σ exp(row − shift) of each of (N, K) rows, in an order that needs one buffer.

    Args:
        fused: Whether a compiler computes it.
        rows: (N, K).
        maximum: (N, 1).
        shifted: ``rows − maximum``, which nothing else may read but what `row_values` are made of.
        row_values: (N,), NaN only where the sum is NaN.

    Returns:
        The shift (N, 1), the maximum or NaN, and the sum (N,).
    """
    if not fused:
        return maximum, ops.sum(ops.exp(computed_after(shifted, row_values)), axis=-1)
    # XLA would have `shifted` and its exponential at once, did not the latter need what comes of the former.
    row_values = ops.expand_dims(row_values, -1)
    shift = ops.stop_gradient(ops.where(ops.isnan(row_values), row_values, maximum))
    return shift, ops.sum(ops.exp(rows - shift), axis=-1)


def softmax_of(fused, rows, shift, total):
    """(N, K) rows to their softmax, given what `exponential_sum` gives if it is `fused`.

    A compiler has the exponentials already. Without one the backend's own softmax is a single operation.
    """
    return ops.exp(rows - shift) / ops.expand_dims(total, -1) if fused else ops.softmax(rows, axis=-1)


def less_at(fused, rows, ids, value):
    """(N, K) `rows` with the number `value` subtracted at the columns `ids` (N,)."""
    if not fused:
        return added_at(rows, ids, ops.full(ops.shape(ids), -value, dtype=rows.dtype))
    columns = ops.arange(ops.shape(rows)[-1], dtype="int32")
    return ops.where(ops.equal(columns, ops.expand_dims(ids, -1)), rows - value, rows)
