"""Passes over features·kernel + bias, a block of classes or examples at a time: forward, and for the gradients."""

from typing import Any, NamedTuple

import keras
from keras import ops

from keras_ls._arrays import wide_dtype, widened
from keras_ls._backend import in_place
from keras_ls.losses._linear_chunks import (
    STATISTICS,
    Rows,
    Smoothing,
    no_rows_seen,
    results,
    slopes_of_logits,
    with_classes,
)
from keras_ls.losses._loops import Pieces, piece_of, repeat


class Layer(NamedTuple):
    """The linear layer: kernel (D, K) and bias (K,) or None, or a block of their columns."""

    kernel: Any
    bias: Any

    def logits(self, features):
        """(N, D) to (N, K) in float32 or wider."""
        logits = ops.matmul(features, self.kernel)
        return widened(logits if self.bias is None else in_place("add", logits, self.bias))

    def classes(self, start, size):
        """The block of `size` classes from `start` on."""
        bias = None if self.bias is None else piece_of(self.bias, start, size, 0)
        return Layer(piece_of(self.kernel, start, size, 1), bias)

    def gradients(self, scaled, upstream, slopes, scale):
        """What a block of classes adds to the gradients, in float32 or wider.

        Args:
            scaled: (N, D) features times `upstream` over `scale`, so that the (N, C) slopes need not be.
            upstream: (N,).
            slopes: (N, C) derivatives of each loss.
            scale: a number, or None for 1.

        Returns:
            (N, D) derivatives of each loss in its features, times `scale`, and gradients of kernel (D, C) and bias (C,)
            or None.
        """
        narrow = ops.cast(slopes if scale is None else slopes * scale, scaled.dtype)
        of_features = widened(ops.matmul(narrow, ops.transpose(self.kernel)))
        of_kernel = widened(ops.matmul(ops.transpose(scaled), narrow))
        return of_features, of_kernel, None if self.bias is None else ops.matmul(upstream, slopes)


class Examples(NamedTuple):
    """Features (N, D), class ids (N,), and whether each counts (N,), or None where all do."""

    features: Any
    ids: Any
    kept: Any

    def block(self, start, size):
        """`size` examples from `start` on."""
        return Examples(*(None if each is None else piece_of(each, start, size, 0) for each in self))


class ByClasses:
    """Blocks of `size` classes, each of all examples: for many classes."""

    def __init__(self, smoothing: Smoothing, size: int, with_statistics: bool):
        self.smoothing, self.size, self.with_statistics = smoothing, size, with_statistics
        self.count, self.rest = divmod(smoothing.num_classes, size)

    def forward(self, examples: Examples, layer: Layer):
        """`results`, and what the gradients need of each row: (N,) the shift and the total."""
        weights = self._weights(examples)

        def body(index, *flat):
            return self._see(index * self.size, self.size, self._unflat(flat), examples, layer, weights)

        start = no_rows_seen(widened(examples.features), self.with_statistics)
        rows = self._unflat(repeat(self.count, body, self._flat(start)))
        if self.rest:
            flat = self._see(self.count * self.size, self.rest, rows, examples, layer, weights)
            rows = self._unflat(flat)
        return results(rows, examples.ids, self.smoothing.alpha, examples.kept), rows.shift, rows.total

    def backward(self, examples: Examples, layer: Layer, shift, total, upstream):
        """Gradients of features, kernel and bias (or None), for (N,) `upstream` gradients of the losses."""
        weights, wide = self._weights(examples), shift.dtype
        kernel = Pieces(layer.kernel.shape, self.size, self.count, -1, wide)
        bias = Pieces(layer.kernel.shape[1:], self.size, self.count, 0, wide)
        scale = _scale(upstream, examples.features)
        by_row = ops.expand_dims(upstream if scale is None else upstream / scale, -1)
        scaled = ops.cast(widened(examples.features) * by_row, examples.features.dtype)

        def gradients(start, size):
            block = layer.classes(start, size)
            slopes = slopes_of_logits(
                block.logits(examples.features),
                examples.ids,
                start,
                _block(weights, start, size),
                self.smoothing.alpha,
                shift,
                total,
            )
            return block.gradients(scaled, upstream, slopes, scale)

        def body(index, of_features, of_kernel, *of_bias):
            more, kernel_piece, bias_piece = gradients(index * self.size, self.size)
            written = [bias.put(each, index, bias_piece) for each in of_bias]
            return (in_place("add", of_features, more), kernel.put(of_kernel, index, kernel_piece), *written)

        start: tuple[Any, ...] = (ops.zeros_like(widened(examples.features)), kernel.start())
        if layer.bias is not None:
            start = (*start, bias.start())
        of_features, of_kernel, *found = repeat(self.count, body, start)
        kernel_tail = bias_tail = None
        if self.rest:
            more, kernel_tail, bias_tail = gradients(self.count * self.size, self.rest)
            of_features = in_place("add", of_features, more)
        of_bias = bias.finish(found[0], bias_tail) if found else None
        return in_place("multiply", of_features, by_row), kernel.finish(of_kernel, kernel_tail), of_bias

    def _see(self, start, size, rows, examples, layer, weights):
        logits = layer.classes(start, size).logits(examples.features)
        return self._flat(with_classes(rows, logits, examples.ids, start, _block(weights, start, size)))

    def _weights(self, examples):
        weights = self.smoothing.weights
        if isinstance(weights, float):
            return weights
        return ops.convert_to_tensor(weights, dtype=wide_dtype(examples.features.dtype))

    def _flat(self, rows):
        return tuple(each for each in rows if each is not None)

    def _unflat(self, flat):
        return Rows(*flat) if self.with_statistics else Rows(flat[0], None, *flat[1:])


class ByExamples:
    """Blocks of `size` examples, each of all classes: for many examples."""

    def __init__(self, smoothing: Smoothing, size: int, with_statistics: bool):
        self.size, self.columns = size, len(STATISTICS) if with_statistics else 1
        self._whole = ByClasses(smoothing, smoothing.num_classes, with_statistics)

    def forward(self, examples: Examples, layer: Layer):
        """As `ByClasses.forward`."""
        found = self._pieces(self.columns + 2, examples)

        def block(start, size):
            columns, shift, total = self._whole.forward(examples.block(start, size), layer)
            columns = ops.reshape(columns, (-1, self.columns))
            return ops.concatenate([columns, ops.stack([shift, total], axis=-1)], axis=-1)

        def body(index, state):
            return (found.put(state, index, block(index * found.size, found.size)),)

        (state,) = repeat(found.count, body, (found.start(),))
        rows = found.finish(state, self._tail(found, examples, block))
        columns = rows[:, 0] if self.columns == 1 else rows[:, : self.columns]
        return columns, rows[:, -2], rows[:, -1]

    def backward(self, examples: Examples, layer: Layer, shift, total, upstream):
        """As `ByClasses.backward`."""
        found = self._pieces(examples.features.shape[1], examples)

        def gradients(start, size):
            given = (piece_of(each, start, size, 0) for each in (shift, total, upstream))
            return self._whole.backward(examples.block(start, size), layer, *given)

        def add(sums, parts):
            given = [part for part in parts if part is not None]  # there may be no bias
            return [each + part for each, part in zip(sums, given, strict=True)]

        def body(index, of_features, *sums):
            more, *parts = gradients(index * found.size, found.size)
            return (found.put(of_features, index, more), *add(sums, parts))

        sums = [ops.zeros(each.shape, dtype=found.dtype) for each in layer if each is not None]
        state, *sums = repeat(found.count, body, (found.start(), *sums))
        tail = None
        more = self._tail(found, examples, gradients)
        if more is not None:
            tail, *parts = more
            sums = add(sums, parts)
        return found.finish(state, tail), sums[0], sums[1] if len(sums) > 1 else None

    def _pieces(self, columns, examples):
        """Arrays (N, columns); where N is not known until the graph runs, blocks are no larger than it."""
        number = examples.features.shape[0]
        if number is None:
            number = ops.shape(examples.features)[0]
            size = ops.minimum(self.size, number)
            count = ops.maximum(number // ops.maximum(size, 1), 1)
        else:
            size = min(self.size, number)
            count = number // size
        dtype = wide_dtype(examples.features.dtype)
        return Pieces((number, columns), size, count, 0, dtype)

    def _tail(self, found, examples, block):
        """`block` of the examples behind the blocks of full size, or None where it is known that there are none."""
        rest = found.shape[0] - found.count * found.size
        return None if isinstance(rest, int) and rest == 0 else block(found.count * found.size, rest)


def _scale(upstream, features):
    """What float16 needs slopes to be multiplied by, lest small ones round to 0: what a loss scale has made of them."""
    if keras.backend.standardize_dtype(features.dtype) != "float16":
        return None
    largest = ops.max(ops.abs(upstream))
    return ops.where(largest == 0, ops.ones_like(largest), largest)


def _block(weights, start, size):
    return weights if isinstance(weights, float) else piece_of(weights, start, size, 0)
