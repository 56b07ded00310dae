"""Predictions with their labels and weights as rows, read block by block in float64."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from keras_ls._arrays import (
    counted_labels,
    log_softmax,
    prediction_rows,
    rounded_off_one,
    smallest_probability,
    spread_weights,
    to_numpy,
)

# Elements of one block in float64, a few copies of which are alive at a time.
_BLOCK_SIZE = 2**18
# The same where threads share the blocks: what is alive at a time then stays in their caches.
_SHARED_BLOCK_SIZE = 2**16
# Half precision may round a probability a little past 1.
LARGEST_PROBABILITY = 1.01


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledRows:
    """Predictions of N examples (or time steps, or pixels) with labels and weights; `labelled_rows` makes it.

    Attributes:
        rows: (N, K) logits or probabilities in their own dtype; (N, 1) of two classes, those of class 1.
        ids: (N,) int64 class ids, 0 where nothing counts.
        weight: (N,) float64, finite and at least 0; 0 where nothing counts.
        from_logits: whether `rows` holds logits.
        example: (N,) int64, the place of the example (the leading dimension) that each row belongs to, in order; None
            if every row is an example of its own.
    """

    rows: np.ndarray
    ids: np.ndarray
    weight: np.ndarray
    from_logits: bool
    example: np.ndarray | None = None

    @property
    def num_classes(self) -> int:
        """K, 2 for rows of class 1 alone."""
        return max(2, self.rows.shape[-1])

    def check_any(self, name: str = "y_pred") -> "LabelledRows":
        """Returns the rows, of which one at least must count.

        Raises:
            ValueError: If none does.
        """
        check_counts(bool(self.weight.any()), name)
        return self

    def logits(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Blocks of the rows that count: (n, K) float64 logits, K at least 2, (n,) ids and (n,) weights.

        The logits of probabilities are log p, where a probability that underflowed to 0 counts as the smallest number
        of its dtype.
        """
        for block, ids, weight in self._blocks():
            yield self._logits_of(block), ids, weight

    def map_logits(self, function: Callable[..., Any], dtype: str | None = None) -> list[Any]:
        """What `function(block, ids, weight)` gives for each block of `logits`, in their order; threads share the work.

        Args:
            function: must not change the block, which may be the caller's own array.
            dtype: the dtype of blocks; None for float32, or float64 if the rows are as wide.
        """
        dtype = dtype or ("float64" if self.rows.dtype.itemsize > 4 else "float32")
        return self._map(lambda block, ids, weight: function(self._logits_of(block), ids, weight), dtype)

    def every(self, step: int) -> "LabelledRows":
        """Each `step`-th row, the first included."""
        return LabelledRows(self.rows[::step], self.ids[::step], self.weight[::step], self.from_logits)

    def probabilities(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Blocks of the rows that count: (n, K) float64 probabilities, K at least 2, (n,) ids and (n,) weights.

        A row that holds NaN or an infinity, −inf among logits apart, is NaN.

        Raises:
            ValueError: If a probability is below 0 or above 1.01.
        """
        for block, ids, weight in self._blocks():
            if self.from_logits:
                yield np.exp(log_softmax(self._logits_of(block))), ids, weight
            else:
                yield self._probabilities_of(block), ids, weight

    def top_label(self, temperature: float | None = None) -> "TopLabel":
        """The most probable class of each row that counts, or, with a temperature T, of softmax(z/T)."""

        def of_block(block: np.ndarray, ids: np.ndarray, _: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            if temperature is None and not self.from_logits:
                rows = self._probabilities_of(block)
                return rows.max(axis=-1), rows.argmax(axis=-1) == ids
            distance = _below_largest(self._logits_of(block)) / (temperature or 1.0)
            odds = np.exp(distance, out=distance)  # of the largest
            return 1.0 / odds.sum(axis=-1), odds.argmax(axis=-1) == ids

        found = self._map(of_block, "float64") or [(np.empty(0), np.empty(0, bool))]
        confidence, correct = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return TopLabel(confidence, correct, self.weight[self.weight > 0], self.bin_dtype(temperature))

    def negative_log_likelihood(self, epsilon: float) -> float:
        """Weighted mean of −log p_y in nats, probabilities clipped to [epsilon, 1 − epsilon]; logits are exact."""

        def of_block(block: np.ndarray, ids: np.ndarray, weight: np.ndarray) -> float:
            place = np.arange(len(ids)), ids
            if not self.from_logits:
                own = np.clip(self._probabilities_of(block)[place], epsilon, 1.0 - epsilon)
                return -float(weight @ np.log(own))
            distance = _below_largest(self._logits_of(block))
            own = distance[place]
            return float(weight @ (np.log(np.exp(distance, out=distance).sum(axis=-1)) - own))

        return sum(self._map(of_block, "float64")) / float(self.weight.sum())

    def bin_dtype(self, temperature: float | None = None) -> np.dtype:
        """The dtype in which confidences are compared with the edges of bins."""
        single = np.dtype("float32")
        narrow = self.rows.dtype.itemsize < single.itemsize and not self.from_logits and temperature is None
        narrow = narrow and self.rows.shape[-1] > 1  # 1 − p of one unit is no number of that dtype
        return self.rows.dtype if narrow else single

    def _logits_of(self, block: np.ndarray) -> np.ndarray:
        if self.from_logits:
            return _two_columns(block, np.zeros_like(block))
        dtype = str(self.rows.dtype)
        other = np.maximum(1.0 - block, rounded_off_one(dtype))
        return np.log(np.maximum(_two_columns(block, other), smallest_probability(dtype)))

    def _probabilities_of(self, block: np.ndarray) -> np.ndarray:
        finite = np.isfinite(block)
        numbers = block if finite.all() else block[finite]
        if numbers.size and (numbers.min() < 0 or numbers.max() > LARGEST_PROBABILITY):
            raise ValueError(
                "`y_pred` must hold probabilities in [0, 1], or logits with from_logits=True. "
                f"Received: values from {numbers.min():g} to {numbers.max():g}."
            )
        rows = _two_columns(block, 1.0 - block)
        return rows if finite.all() else np.where(finite.all(axis=-1, keepdims=True), rows, np.nan)

    def _map(self, function: Callable[..., Any], dtype: Any) -> list[Any]:
        """What `function(block, ids, weight)` gives for each block of rows that count, in order."""

        def of_part(part: slice) -> list[Any]:
            block, ids, weight = self._counting(part, dtype)
            return [function(block, ids, weight)] if len(ids) else []

        parts = self._parts(_SHARED_BLOCK_SIZE)
        if len(parts) == 1:
            return of_part(parts[0])
        with ThreadPoolExecutor(_cores()) as pool:
            return [result for results in pool.map(of_part, parts) for result in results]

    def _blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for part in self._parts(_BLOCK_SIZE):
            block, ids, weight = self._counting(part, self.rows.dtype)
            if len(ids):
                yield block.astype("float64"), ids, weight  # a copy, always

    def _parts(self, size: int) -> list[slice]:
        """Slices of rows that hold about `size` numbers each."""
        rows = max(1, size // max(2, self.rows.shape[-1]))
        return [slice(start, start + rows) for start in range(0, len(self.rows), rows)]

    def _counting(self, part: slice, dtype: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows of a slice that count, with ids and weights; views where all count and have the dtype already."""
        counts = self.weight[part] > 0
        chosen = slice(None) if counts.all() else counts
        block, ids, weight = (array[part][chosen] for array in (self.rows, self.ids, self.weight))
        return block.astype(dtype, copy=False), ids, weight


@dataclasses.dataclass(frozen=True, eq=False)
class TopLabel:
    """The most probable class of each of the M predictions that count.

    Attributes:
        confidence: (M,) float64, its probability; NaN if the prediction is NaN or infinite.
        correct: (M,) bool, whether that class is the label.
        weight: (M,) float64, above 0.
        dtype: the dtype in which confidences are compared with the edges of bins.
    """

    confidence: np.ndarray
    correct: np.ndarray
    weight: np.ndarray
    dtype: np.dtype


def labelled_rows(
    y_true: Any,
    y_pred: Any,
    sample_weight: Any = None,
    ignore_class: int | None = None,
    from_logits: bool = False,
    mask: np.ndarray | None = None,
    names: tuple[str, str] = ("y_true", "y_pred"),
) -> LabelledRows:
    """Brings labels, predictions, weights and a mask into the form of `LabelledRows`.

    Args:
        y_true: class ids (…,) or (…, 1), or one row per prediction (…, K), of which the largest entry is the class.
        y_pred: predictions (…, K), or (…, 1) or, with labels of the same shape, (N,) of two classes.
        sample_weight: None, or weights (…,), or of its leading dimensions.
        ignore_class: a label whose positions do not count, or None.
        from_logits: whether `y_pred` holds logits.
        mask: None, or (…,), or of its leading dimensions, False where a position does not count.
        names: what the caller calls `y_true` and `y_pred`.

    Raises:
        ValueError: If shapes do not match, or a label that counts is no class.
    """
    labels = to_numpy(names[0], y_true)
    predictions = prediction_rows(names[1], y_pred, labels.shape)
    positions = predictions.shape[:-1]
    weight = spread_weights("sample_weight", sample_weight, positions)
    if mask is not None:
        weight = np.where(spread_weights("mask", mask, positions) > 0, weight, 0.0)
    ids, counts = counted_labels(names[0], labels, predictions.shape, ignore_class, weight > 0)
    rows = predictions.reshape(-1, predictions.shape[-1])
    example = None if len(positions) < 2 else np.repeat(np.arange(positions[0]), len(rows) // positions[0])
    return LabelledRows(rows, ids, np.where(counts, weight, 0.0), from_logits, example)


def check_counts(any_counts: bool, name: str) -> None:
    """Raises `ValueError` if no prediction counts; `name` is what the caller calls them, or their inputs."""
    if not any_counts:
        raise ValueError(
            f"`{name}` must hold at least one prediction that counts. Received: only ones that are masked, ignored "
            "or of weight 0 in `sample_weight`."
        )


def joined(parts: list[LabelledRows]) -> LabelledRows:
    """All rows of several parts, in their order."""
    if len(parts) == 1:
        return parts[0]
    rows, ids, weight = (np.concatenate([getattr(part, name) for part in parts]) for name in ("rows", "ids", "weight"))
    example = None
    if parts[0].example is not None:
        numbers = [part.example for part in parts if part.example is not None]
        starts = np.cumsum([0, *(each[-1] + 1 for each in numbers)])
        example = np.concatenate([start + each for start, each in zip(starts, numbers, strict=False)])
    return LabelledRows(rows, ids, weight, parts[0].from_logits, example)


def _two_columns(block: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(n, K) as it is; of (n, 1), which is of class 1, both classes' columns, `other` (n, 1) being class 0."""
    return np.concatenate([other, block], axis=-1) if block.shape[-1] == 1 else block


def _below_largest(rows: np.ndarray) -> np.ndarray:
    """(n, K) logits less the largest of their row; NaN where a row holds NaN, +inf, or −inf alone."""
    with np.errstate(invalid="ignore"):
        return rows - rows.max(axis=-1, keepdims=True)


def _cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
