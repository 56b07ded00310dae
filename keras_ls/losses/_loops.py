"""Loops over chunks whose graph is that of one chunk, and arrays that are put together chunk by chunk."""

import keras
from keras import ops


def repeat(count, body, state):
    """The `state` after ``state = body(index, *state)`` for the indices 0, 1, …, `count` − 1, one after another."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        # Chunks are computed one after the other: by default TensorFlow starts on ten at once.
        return tf.while_loop(
            lambda index, *_: index < count,
            lambda index, *state: (index + 1, *body(index, *state)),
            (tf.constant(0), *state),
            parallel_iterations=1,
        )[1:]
    if backend == "jax":
        import jax

        return jax.lax.fori_loop(0, count, lambda index, state: body(index, *state), state)
    for index in range(count):
        state = body(index, *state)
    return state


class Pieces:
    """An array that is written piece by piece along one axis, in place where the backend has arrays that can be.

    `start` gives the state that `put` takes and gives; a loop carries it along. `finish` gives the array.

    Args:
        shape: The shape of the array; sizes along other axes than `axis` must be known.
        size: The size of a piece along `axis`.
        count: The number of pieces of that size; what remains is written by `finish`.
        axis: 0 or, if `count` is a number that is known, −1; of an array of at most 2 dimensions.
        dtype: Its dtype.
    """

    def __init__(self, shape, size, count, axis, dtype):
        self.shape, self.size, self.count, self.axis = tuple(shape), size, count, axis
        self.dtype = keras.backend.standardize_dtype(dtype)
        self.is_tensorflow = keras.backend.backend() == "tensorflow"

    def start(self):
        """The state before the first piece."""
        if not self.is_tensorflow:
            return ops.zeros(self.shape, dtype=self.dtype)
        import tensorflow as tf

        piece = [size if isinstance(size, int) else None for size in self._piece_shape()]
        return tf.TensorArray(self.dtype, size=self.count, element_shape=piece)

    def put(self, state, index, piece):
        """The state after one of the pieces."""
        if self.is_tensorflow:
            return state.write(index, piece)
        return self._write(state, index * self.size, piece)

    def finish(self, state, tail=None):
        """The array; `tail` is what lies behind the pieces of full size, or None."""
        if not self.is_tensorflow:
            return state if tail is None else self._write(state, self.count * self.size, tail)
        if self.axis == 0:
            whole = state.concat()
            return whole if tail is None else ops.concatenate([whole, tail], axis=0)
        # Read one by one: stacked, they would be copied once more to be put side by side.
        pieces = [state.read(index) for index in range(self.count)]
        return ops.concatenate(pieces if tail is None else [*pieces, tail], axis=-1)

    def _piece_shape(self):
        axis = self.axis % len(self.shape)
        return [self.size if place == axis else size for place, size in enumerate(self.shape)]

    def _write(self, array, start, piece):
        if keras.backend.backend() == "torch":
            array.narrow(self.axis, start, piece.shape[self.axis]).copy_(piece)
            return array
        import jax

        return jax.lax.dynamic_update_slice_in_dim(array, piece, start, self.axis % array.ndim)


def piece_of(array, start, size, axis):
    """The `size` entries of an array from `start` on, along one axis; a view where the backend has views."""
    backend = keras.backend.backend()
    if backend == "torch":
        return array.narrow(axis, start, size)
    if backend == "jax":
        import jax

        return jax.lax.dynamic_slice_in_dim(array, start, size, axis)
    import tensorflow as tf

    others = len(array.shape) - 1 - axis
    piece = tf.slice(array, [0] * axis + [start] + [0] * others, [-1] * axis + [size] + [-1] * others)
    if isinstance(size, int):
        piece.set_shape([*array.shape[:axis], size, *array.shape[axis + 1 :]])
    return piece
