"""The most probable class, whether a model gives probabilities or logits: told by what its last `Dense` gives."""

import keras
import numpy as np

from keras_ls._arrays import log_softmax
from keras_ls._models.layers import SIGMOID
from keras_ls.projection.activations import class_templates

# How far from 1 the sum of a float16 or bfloat16 softmax may be, and its logits from those in float32.
HALF_PRECISION = 2e-2
# How many outputs are in float64 at a time, some copies of them included.
BLOCK = 2**22


def top_class(outputs: np.ndarray, are_logits: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns the most probable class (N,) and its probability (N,) from outputs (N, K), logits or probabilities.

    One output, (N, 1), is a logit or probability of class 1 of two. The probability is NaN in rows with NaN or ±inf.
    """
    size = max(1, BLOCK // outputs.shape[1])
    blocks = (_probabilities(outputs[i : i + size], are_logits) for i in range(0, max(1, len(outputs)), size))
    tops = [(block.argmax(axis=1), block.max(axis=1)) for block in blocks]
    ids, probability = (np.concatenate(parts) for parts in zip(*tops, strict=True))
    return ids, probability


def _probabilities(outputs: np.ndarray, are_logits: bool) -> np.ndarray:
    """(n, K) float64 probabilities, K at least 2; NaN in rows with NaN or ±inf."""
    rows = _finite_or_nan(outputs)
    if rows.shape[1] > 1:
        return np.exp(log_softmax(rows)) if are_logits else rows
    probability = _sigmoid(rows) if are_logits else rows
    return np.concatenate([1 - probability, probability], axis=1)


def outputs_are_logits(activations: np.ndarray, outputs: np.ndarray, head: keras.layers.Dense) -> bool:
    """Returns whether outputs are logits rather than probabilities.

    It is not guessed from their range: logits (and log-probabilities) are, but for a constant in each row, what the
    last `Dense` gives. Of many classes a part of the rows tells.

    Args:
        activations: (N, D), what the `Dense` was given.
        outputs: (N, K) or (N, 1), what the model gave.
        head: the `Dense`.

    Raises:
        ValueError: If the outputs are neither.
    """
    if outputs.shape[1] != head.units:
        raise ValueError(
            "`model` must give one logit or probability per unit of its last Dense. "
            f"Received: {outputs.shape[1]} outputs of a Dense with {head.units} units."
        )
    some = slice(None, None, 1 + outputs.size // (4 * BLOCK))
    activations, rows = activations[some], _finite_or_nan(outputs[some])
    finite = ~np.isnan(rows[:, 0])
    templates = class_templates(head).astype("float64")
    logits = activations[finite].astype("float64") @ templates[:, :-1].T + templates[:, -1]
    if head.units > 1:
        return _are_logits(rows[finite], logits, head)
    return _are_binary_logits(rows[finite], logits)


def _finite_or_nan(outputs: np.ndarray) -> np.ndarray:
    rows = outputs.astype("float64")
    rows[~np.isfinite(rows).all(axis=1)] = np.nan
    return rows


def _are_logits(rows: np.ndarray, logits: np.ndarray, head: keras.layers.Dense) -> bool:
    """Says whether finite rows of several outputs are logits rather than probabilities."""
    centred = _centred(logits)
    largest = np.abs(centred).max(initial=0.0)
    if head.activation not in SIGMOID and _near(_centred(rows), centred, HALF_PRECISION * largest):
        return True
    sigmoids = _near(rows, _sigmoid(logits)) and not _near(rows, np.exp(log_softmax(logits)))
    if sigmoids or head.activation in SIGMOID:
        raise ValueError(
            "`model` must give one prediction per example: logits, or probabilities that sum to 1. "
            f"Received: a sigmoid of each of {head.units} units, as a multi-label classifier has."
        )
    if (rows < 0).any() or not _near(rows.sum(axis=1), 1.0):
        raise ValueError(
            "`model` must give the logits of its last Dense or probabilities that sum to 1. Received: a model that "
            f"gives neither, such as {np.array2string(rows[0], threshold=8, precision=3)}."
        )
    return False


def _are_binary_logits(rows: np.ndarray, logits: np.ndarray) -> bool:
    """Says whether finite rows of one output are logits rather than probabilities of class 1."""
    nearer = np.abs(rows - logits).max(initial=0.0) <= np.abs(rows - _sigmoid(logits)).max(initial=0.0)
    if nearer and _near(rows, logits, HALF_PRECISION * np.abs(logits).max(initial=0.0)):
        return True
    # A temperature moves a probability, but never past 1/2.
    same_side = ((rows > 0.5) == (logits > 0)) | (np.abs(rows - 0.5) <= HALF_PRECISION)
    if not (same_side & (rows >= 0) & (rows <= 1)).all():
        raise ValueError(
            "`model` must give the logit of its last Dense or a probability, its sigmoid. Received: a model that gives "
            f"neither, such as {rows[0, 0]:.3g} for a logit of {logits[0, 0]:.3g}."
        )
    return False


def _near(a: np.ndarray, b: np.ndarray | float, tolerance: float = HALF_PRECISION) -> bool:
    return bool(np.abs(a - b).max(initial=0.0) <= tolerance)


def _centred(rows: np.ndarray) -> np.ndarray:
    return rows - rows.mean(axis=1, keepdims=True)


def _sigmoid(rows: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-rows))
