"""Selective prediction: how few errors are left if only the most confident predictions are accepted."""

import dataclasses
from typing import Any

import numpy as np

from keras_ls._arrays import prediction_rows, to_numpy, top_log_odds
from keras_ls._checks import check_flag, check_ignore_class, check_positive, check_proportion
from keras_ls._rows import LabelledRows, labelled_rows


@dataclasses.dataclass(frozen=True, eq=False)
class RiskCoverageCurve:
    """Error rate of the most confident predictions against how many are accepted; `risk_coverage_curve` makes it.

    Attributes:
        coverage: (N,) float64, rising to 1: the share of the predictions, or of their weight, that is accepted.
        risk: (N,) float64, in [0, 1]: the expected error rate among these. NaN if a prediction is NaN or infinite.
    """

    coverage: np.ndarray
    risk: np.ndarray

    def aurc(self) -> float:
        """Area under the curve: the mean of the risk over the predictions, each counted by its weight."""
        return float(np.diff(self.coverage, prepend=0.0) @ self.risk)

    def excess_aurc(self) -> float:
        """`aurc`, less that of a perfect ranking with as many errors, which accepts every correct prediction first.

        Most of what accuracy does to `aurc` is taken off, not all: a ranking at random has −(1 − r)·log(1 − r) with a
        share r of errors, so compare models of like accuracy. With weights the perfect ranking is taken at the
        coverages of this curve.
        """
        accuracy = 1.0 - self.risk[-1]
        perfect = np.maximum(0.0, self.coverage - accuracy) / self.coverage
        return max(self.aurc() - float(np.diff(self.coverage, prepend=0.0) @ perfect), 0.0)  # NaN stays

    def risk_at(self, coverage: float) -> float:
        """The risk at the smallest coverage of the curve that is at least `coverage`, in [0, 1].

        Raises:
            ValueError: If `coverage` is outside [0, 1].
        """
        coverage = check_proportion("coverage", coverage)
        place = int(np.searchsorted(self.coverage, coverage))
        return float(self.risk[min(place, len(self.risk) - 1)])

    def coverage_at(self, risk: float) -> float:
        """The largest coverage whose risk is at most `risk`, in [0, 1]; 0 if there is none, NaN if risks are NaN.

        Raises:
            ValueError: If `risk` is outside [0, 1].
        """
        risk = check_proportion("risk", risk)
        if np.isnan(self.risk).any():
            return float("nan")
        return float(self.coverage[self.risk <= risk].max(initial=0.0))

    def __repr__(self) -> str:
        """One line, not all predictions."""
        return f"RiskCoverageCurve({len(self.risk)} predictions, AURC {self.aurc():.4f})"


def risk_coverage_curve(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    scores: Any = None,
    sample_weight: Any = None,
    ignore_class: int | None = None,
) -> RiskCoverageCurve:
    """Error rate of the most confident predictions, from accepting one of them to accepting all.

    A model that may say "I do not know" is judged by how well its confidence ranks its own errors, which neither
    accuracy nor calibration tells. Label smoothing can spoil this ranking (Xia et al. 2025).

    Predictions are ranked from the most confident down. Where several are equally confident their order is random, and
    the risk its expected value. The largest probabilities of logits are compared by their log-odds, which tell apart
    what rounds to a probability of 1.

    Args:
        y_true: class ids (...,) or (..., 1), or one row per prediction (..., K) whose largest entry is the class.
        y_pred: probabilities, or logits with `from_logits`, (..., K); (..., 1) or (N,) of a binary classifier.
        from_logits: whether `y_pred` holds logits; −inf is the logit of a class that cannot occur.
        scores: what predictions are ranked by, largest first, shaped as the class ids: for instance
            `logit_norm_scores(logits)`, or minus an entropy. None ranks them by their largest probability.
        sample_weight: None, or weights ≥ 0, shaped as the class ids or as their leading dimensions. Coverage and risk
            are shares of the weight.
        ignore_class: a label, in [0, K) or not, whose positions do not count, or None.

    Returns:
        A `RiskCoverageCurve` of the N predictions that count.

    Raises:
        ValueError: If shapes do not match, labels are outside [0, K), no prediction counts, or probabilities are
            outside [0, 1].

    Example:
        >>> import keras_ls
        >>> curve = keras_ls.risk_coverage_curve([0, 1, 1], [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]])
        >>> print(curve.risk.round(3), round(curve.aurc(), 3), round(curve.coverage_at(risk=0.1), 3))
        [0.    0.5   0.333] 0.278 0.333

    Reference:
        El-Yaniv and Wiener 2010; Geifman and El-Yaniv 2017; Geifman, Uziel and El-Yaniv 2019 (excess AURC); Xia et al.
        2025, "Towards understanding why label smoothing degrades selective classification and how to fix it".
    """
    check_flag("from_logits", from_logits)
    ignored = check_ignore_class(ignore_class)
    rows = labelled_rows(y_true, y_pred, sample_weight, ignored, from_logits).check_any()
    top = rows.top_label()
    if scores is not None:
        ranked_by = _checked_scores(scores, y_true, y_pred, rows)
    elif from_logits:  # log(p/(1 − p)) tells apart what p rounds to 1
        ranked_by = np.concatenate(rows.map_logits(lambda block, *_: top_log_odds(block), "float64"))
    else:
        ranked_by = top.confidence
    # Whether a prediction that is NaN or infinite is right nobody knows.
    return curve_of_ranking(top.correct, np.where(np.isnan(top.confidence), np.nan, ranked_by), top.weight)


def curve_of_ranking(correct: np.ndarray, scores: np.ndarray, weight: np.ndarray) -> RiskCoverageCurve:
    """The curve of (N,) predictions, right or wrong, that (N,) scores rank; NaN if a score is NaN."""
    if (weight == weight[:1]).all():  # equal weights are none, also where their sums would be rounded
        weight = np.ones_like(weight)
    order = np.argsort(-scores, kind="stable")
    weight, errors = weight[order], weight[order] * ~correct[order]
    accepted = np.cumsum(weight)
    coverage = accepted / accepted[-1]
    if np.isnan(scores).any():
        return RiskCoverageCurve(coverage, np.full(len(order), np.nan))
    # Of equal scores each unit of weight carries the same share of the errors of all of them.
    ranked = scores[order]
    is_first = np.concatenate([[True], ranked[1:] != ranked[:-1]])  # not by differences: those of infinities are NaN
    group = np.cumsum(is_first) - 1
    group_errors, group_weight = np.bincount(group, errors), np.bincount(group, weight)
    errors_before, weight_before = (np.cumsum(total) - total for total in (group_errors, group_weight))
    expected = errors_before[group] + (accepted - weight_before[group]) * (group_errors / group_weight)[group]
    return RiskCoverageCurve(coverage, np.clip(expected / accepted, 0.0, 1.0))


def logit_norm_scores(logits: Any, p: float = 2.0) -> np.ndarray:
    """Confidence scores max_k z̃_k / ‖z̃‖_p with z̃ = z − mean(z), which can undo what smoothing did to the ranking.

    Smoothing can lower the largest logit of predictions that are right more than of those that are wrong, so that the
    largest probability ranks errors worse. Dividing by the norm of the logits can take that back, without training
    anything.

    Args:
        logits: (..., K) with K of at least 3: of two classes the score is the same for every prediction. −inf, the
            logit of a class that cannot occur, is left out of mean and norm.
        p: the order of the norm, finite and at least 1. It is best chosen on data that the scores are not judged by.

    Returns:
        (...) float64: the larger, the more confident; 0 where all logits are equal, and NaN where a logit is NaN or
        +inf, or all are −inf.

    Raises:
        ValueError: If K is below 3, or p below 1 or not finite.

    Example:
        >>> import keras_ls
        >>> print(keras_ls.logit_norm_scores([[2.0, 0.0, 1.0], [4.0, 0.0, 2.0], [1.0, 1.0, 1.0]]).round(3))
        [0.707 0.707 0.   ]

    Reference:
        Cattelan and Silva 2024, "How to fix a broken confidence estimator", section 3.2 (MaxLogit-pNorm); Xia et al.
        2025, who show that it repairs what label smoothing does to selective prediction.
    """
    p = check_positive("p", p)
    if p < 1:
        raise ValueError(f"`p` must be at least 1. Received: p={p}.")
    rows = prediction_rows("logits", logits).astype("float64")
    if rows.shape[-1] < 3:
        raise ValueError(
            "`logits` must be of at least 3 classes: of fewer, the score is the same for every prediction. "
            f"Received shape: {rows.shape}."
        )
    scaled, highest, largest = centred_logits(rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        return highest / largest / (scaled**p).sum(-1) ** (1.0 / p)


def centred_logits(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `logit_norm_scores` are made of: (..., K) |z̃_k| over the largest of them, (...) max_k z̃_k, and that largest.

    Where all logits are equal they are 1, 0 and 1; where none is possible the last is NaN.
    """
    possible = rows != -np.inf
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = rows - rows.max(-1, keepdims=True)  # equal logits are 0 then, and so is their mean, without rounding
        mean = np.where(possible, rows, 0.0).sum(-1, keepdims=True) / possible.sum(-1, keepdims=True)
        centred = np.where(possible, rows - mean, 0.0)
        largest = np.abs(centred).max(-1, keepdims=True)  # no power overflows once it is divided out
        highest = np.where(possible, centred, -np.inf).max(-1)
        largest[~possible.any(-1)] = np.nan
        flat = largest[..., 0] == 0
        scaled = np.where(flat[..., None], 1.0, np.abs(centred) / largest)
        return scaled, highest, np.where(flat, 1.0, largest[..., 0])


def _checked_scores(scores: Any, y_true: Any, y_pred: Any, rows: LabelledRows) -> np.ndarray:
    values = to_numpy("scores", scores).astype("float64")
    positions = prediction_rows("y_pred", y_pred, np.shape(y_true)).shape[:-1]
    if values.shape not in (positions, (*positions, 1)):
        raise ValueError(
            f"`scores` must hold one number per prediction, of shape {positions}. Received shape: {values.shape}."
        )
    return values.reshape(-1)[rows.weight > 0]
