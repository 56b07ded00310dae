"""What a diagnosis needs of each prediction, read block by block from predictions of any size."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from keras_ls._arrays import log_softmax, top_log_odds
from keras_ls._rows import LabelledRows, TopLabel
from keras_ls.calibration.selective import centred_logits

NORM_ORDERS = range(1, 10)
# How far from 1 the sum of rounded probabilities may be.
_SUM_TOLERANCE = 0.05


@dataclasses.dataclass(frozen=True, eq=False)
class Positions:
    """The M predictions that count, of E examples.

    Attributes:
        weight: (M,) float64 weights, above 0.
        example: (M,) int64 in [0, E), not falling, or None if each prediction is an example of its own.
        num_examples: E.
        top: confidences and hits.
        score: (M,) what ranks them: the log-odds of the largest probability of logits, else that probability.
        nll: (M,) −log p_y in nats.
        brier: (M,) Σ_k (p_k − y_k)².
        largest_logit: (M,) the largest logit less their mean.
        norm_scores: (M, 9) float32 `logit_norm_scores` of the orders 1 to 9, or None of two classes.
    """

    weight: np.ndarray
    example: np.ndarray | None
    num_examples: int
    top: TopLabel
    score: np.ndarray
    nll: np.ndarray
    brier: np.ndarray
    largest_logit: np.ndarray
    norm_scores: np.ndarray | None

    def example_sums(self, values: np.ndarray) -> np.ndarray:
        """(E,) weighted sums of (M,) values."""
        weighted = self.weight * values
        return weighted if self.example is None else np.bincount(self.example, weighted, minlength=self.num_examples)

    def example_weights(self) -> np.ndarray:
        """(E,) weights."""
        return self.example_sums(np.ones(len(self.weight)))

    def of_examples(self, values: np.ndarray) -> np.ndarray:
        """(M,) the values (E,) of the examples that predictions belong to."""
        return values if self.example is None else values[self.example]


def read_positions(rows: LabelledRows, epsilon: float) -> Positions:
    """Reads predictions once; probabilities are clipped to [epsilon, 1 − epsilon] for the likelihood, logits are exact.

    Raises:
        ValueError: If a prediction is NaN or infinite, −inf among logits apart, or no probability, or if the
            probabilities of one do not sum to 1.
    """
    counts = rows.weight > 0
    size, classes = int(counts.sum()), rows.num_classes
    example, num_examples = None, size
    if rows.example is not None:
        present, example = np.unique(rows.example[counts], return_inverse=True)
        num_examples = len(present)
    top = TopLabel(np.empty(size), np.empty(size, bool), rows.weight[counts], rows.bin_dtype())
    score, nll, brier, largest_logit = (np.empty(size) for _ in range(4))
    norms = np.empty((size, len(NORM_ORDERS)), "float32") if classes > 2 else None
    start, furthest = 0, 1.0
    for logits, probabilities, log_probabilities, ids in _blocks(rows):
        part, places = slice(start, start + len(ids)), np.arange(len(ids))
        top.confidence[part] = probabilities.max(axis=-1)
        top.correct[part] = probabilities.argmax(axis=-1) == ids
        if log_probabilities is not None:
            score[part], nll[part] = top_log_odds(logits), -log_probabilities[places, ids]
        else:
            sums = probabilities.sum(axis=-1)
            sums = sums[np.isfinite(sums)]
            furthest = max(furthest, sums.min(initial=1.0), sums.max(initial=1.0), key=_off_one)
            score[part] = top.confidence[part]
            nll[part] = -np.log(np.clip(probabilities[places, ids], epsilon, 1.0 - epsilon))
        probabilities[places, ids] -= 1.0
        brier[part] = np.einsum("nk,nk->n", probabilities, probabilities)
        scaled, largest_logit[part], largest = centred_logits(logits)
        if norms is not None:
            norms[part] = _norm_scores(scaled, largest_logit[part] / largest)
        start += len(ids)
    bad = int(np.isnan(top.confidence).sum())
    if bad:
        raise ValueError(f"`y_pred` must be finite. Received: NaN or infinities in {bad} of {size} predictions.")
    if _off_one(furthest) > _SUM_TOLERANCE:
        raise ValueError(
            "`y_pred` must hold probabilities that sum to 1 for each prediction, or logits with from_logits=True. "
            f"Received: a sum of {furthest:.3g}."
        )
    return Positions(top.weight, example, num_examples, top, score, nll, brier, largest_logit, norms)


def _off_one(total: float) -> float:
    return abs(total - 1.0)


def _blocks(rows: LabelledRows) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]]:
    """Blocks of logits, probabilities (which may be written to), their logarithms if logits are given, and labels."""
    if rows.from_logits:
        for logits, ids, _ in rows.logits():
            log_probabilities = log_softmax(logits)
            yield logits, np.exp(log_probabilities), log_probabilities, ids
    else:
        for (logits, ids, _), (probabilities, _, _) in zip(rows.logits(), rows.probabilities(), strict=True):
            yield logits, probabilities, None, ids


def _norm_scores(scaled: np.ndarray, highest: np.ndarray) -> np.ndarray:
    """(n, 9): `logit_norm_scores` of all orders, by multiplication."""
    found, power = np.empty((len(scaled), len(NORM_ORDERS))), np.ones_like(scaled)
    for place, order in enumerate(NORM_ORDERS):
        power *= scaled
        found[:, place] = highest / power.sum(axis=-1) ** (1.0 / order)
    return found
