"""Predictions with their labels and weights as rows, read block by block in float64."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_ls._arrays import (
    counted_labels,
    log_softmax,
    prediction_rows,
    smallest_probability,
    spread_weights,
    to_numpy,
)

# Elements of one block in float64, a few copies of which are alive at a time.
_BLOCK_SIZE = 2**18
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
        if not self.weight.any():
            raise ValueError(
                f"`{name}` must hold at least one prediction that counts. Received: only ones that are masked, ignored "
                "or of weight 0 in `sample_weight`."
            )
        return self

    def logits(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Blocks of the rows that count: (n, K) float64 logits, K at least 2, (n,) ids and (n,) weights.

        The logits of probabilities are log p, where a probability that underflowed to 0 counts as the smallest number
        of its dtype.
        """
        smallest = smallest_probability(str(self.rows.dtype))
        for block, ids, weight in self._blocks():
            if not self.from_logits:
                block = np.log(np.maximum(_two_columns(block, 1.0 - block), smallest))
            else:
                block = _two_columns(block, np.zeros_like(block))
            yield block, ids, weight

    def probabilities(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Blocks of the rows that count: (n, K) float64 probabilities, K at least 2, (n,) ids and (n,) weights.

        A row that holds NaN or an infinity, −inf among logits apart, is NaN.

        Raises:
            ValueError: If a probability is below 0 or above 1.01.
        """
        for block, ids, weight in self._blocks():
            if self.from_logits:
                yield np.exp(log_softmax(_two_columns(block, np.zeros_like(block)))), ids, weight
                continue
            finite = np.isfinite(block)
            if (block[finite] < 0).any() or (block[finite] > LARGEST_PROBABILITY).any():
                raise ValueError("`y_pred` must hold probabilities in [0, 1], or logits with from_logits=True.")
            block = _two_columns(block, 1.0 - block)
            block[~finite.all(axis=-1)] = np.nan
            yield block, ids, weight

    def top_label(self, temperature: float | None = None) -> "TopLabel":
        """The most probable class of each row that counts, or, with a temperature T, of softmax(z/T)."""
        weight = self.weight[self.weight > 0]
        top = TopLabel(np.empty(len(weight)), np.empty(len(weight), bool), weight, self.bin_dtype(temperature))
        start = 0
        for block, ids, _ in self.probabilities() if temperature is None else self._scaled(temperature):
            part = slice(start, start + len(ids))
            top.confidence[part], top.correct[part] = block.max(axis=-1), block.argmax(axis=-1) == ids
            start += len(ids)
        return top

    def negative_log_likelihood(self, epsilon: float) -> float:
        """Weighted mean of −log p_y in nats, probabilities clipped to [epsilon, 1 − epsilon]; logits are exact."""
        total = 0.0
        if self.from_logits:
            for block, ids, weight in self.logits():
                total -= float(weight @ log_softmax(block)[np.arange(len(ids)), ids])
        else:
            for block, ids, weight in self.probabilities():
                own = np.clip(block[np.arange(len(ids)), ids], epsilon, 1.0 - epsilon)
                total -= float(weight @ np.log(own))
        return total / float(self.weight.sum())

    def _scaled(self, temperature: float) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for block, ids, weight in self.logits():
            yield np.exp(log_softmax(block / temperature)), ids, weight

    def bin_dtype(self, temperature: float | None = None) -> np.dtype:
        """The dtype in which confidences are compared with the edges of bins."""
        single = np.dtype("float32")
        narrow = self.rows.dtype.itemsize < single.itemsize and not self.from_logits and temperature is None
        narrow = narrow and self.rows.shape[-1] > 1  # 1 − p of one unit is no number of that dtype
        return self.rows.dtype if narrow else single

    def _blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        size = max(1, _BLOCK_SIZE // max(2, self.rows.shape[-1]))
        for start in range(0, len(self.rows), size):
            part = slice(start, start + size)
            counts = self.weight[part] > 0
            if counts.any():
                yield self.rows[part][counts].astype("float64"), self.ids[part][counts], self.weight[part][counts]


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
