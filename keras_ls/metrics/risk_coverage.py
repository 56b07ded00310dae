"""Area under the risk-coverage curve: how well confidence ranks a model's own errors."""

import contextlib
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ls._arrays import top_log_odds
from keras_ls._backend import row_argmax, row_maximum
from keras_ls._checks import check_count
from keras_ls._rows import LabelledRows
from keras_ls.metrics._base import ProbabilityMetric
from keras_ls.metrics._bins import bin_sums

# Bins are equally wide in asinh(log-odds/4): fine near even odds, and wide enough for the logits of any network.
_SCALE, _LARGEST = 4.0, 1e4


@keras.saving.register_keras_serializable(package="keras_ls")
class AreaUnderRiskCoverage(ProbabilityMetric):
    """Mean over i of the error rate among the i most confident predictions (AURC); the lower, the better.

    Confidence is the largest probability, whose log-odds log(p/(1 − p)) are counted in bins. From logits they are
    exact, where probabilities saturate at 1. Predictions of one bin are taken to be in random order, so that the result
    differs from that of `risk_coverage_curve` by at most (m/4)(1 + ln(4/m)), m being the largest share of the
    predictions in one bin. Accuracy has a part in it, most of which `excess_aurc` of the curve takes off.
    The state is a (num_bins, 3) sum and its rounding. Weights whose squares float32 does not hold, about 1e-19 and less
    or 1e19 and more, give NaN.

    Args:
        num_bins: Number of bins, at least 1.
        from_logits: Whether predictions are logits.
        ignore_class: A label whose positions do not count.
        name: Name of the metric.
        dtype: Dtype of the result; None is Keras's floatx.

    Raises:
        ValueError: If arguments are bad, here; if shapes cannot match, at the first call.

    Reference:
        Geifman and El-Yaniv 2017, "Selective classification for deep neural networks"; Geifman, Uziel and El-Yaniv
        2019.

    Example:
    >>> import numpy as np, keras_ls
    >>> metric = keras_ls.AreaUnderRiskCoverage()
    >>> metric.update_state(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]], "float32"))
    >>> round(float(metric.result()), 4)
    0.2778
    """

    def __init__(
        self,
        num_bins: int = 1000,
        from_logits: bool = False,
        ignore_class: int | None = None,
        name: str = "aurc",
        dtype: Any = None,
    ):
        super().__init__(from_logits, ignore_class, name, dtype)
        self.num_bins = check_count("num_bins", num_bins)
        self._start((self.num_bins, 3))

    def result(self):
        """The area for all batches since the last reset, in [0, 1]."""
        return ops.cast(_area(self._sums()), self.dtype)

    def get_config(self):
        """Every constructor argument, as plain JSON values."""
        return {**super().get_config(), "num_bins": self.num_bins}

    def _batch_statistics(self, examples):
        predicted = row_argmax(examples.rows)
        place = _bins(_log_odds(examples.rows, predicted, examples.from_logits), self.num_bins)
        wrong = ops.cast(ops.not_equal(predicted, ops.cast(examples.ids, "int32")), examples.rows.dtype)
        counted = ops.stack([ops.ones_like(wrong), wrong, examples.weight], axis=-1)
        rows = examples.masked(counted) * ops.expand_dims(examples.weight, -1)
        return bin_sums(ops.unstack(rows, 3, axis=-1), place, self.num_bins)


def area_of_rows(rows: LabelledRows, num_bins: int = 1000) -> float:
    """What `AreaUnderRiskCoverage` gives for predictions, of which one at least must count.

    Raises:
        ValueError: As `LabelledRows.top_label`.
    """

    def of_logits(block: np.ndarray, ids: np.ndarray, _: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        is_valid = np.isfinite(block.max(axis=-1))
        return np.where(is_valid, top_log_odds(block), np.nan), block.argmax(axis=-1) == ids

    if rows.from_logits:
        log_odds, correct = (np.concatenate(parts) for parts in zip(*rows.map_logits(of_logits), strict=True))
    else:
        top = rows.top_label()
        correct = top.correct
        with np.errstate(divide="ignore"):
            log_odds = np.log(top.confidence) - np.log1p(-np.minimum(top.confidence, 1.0))
    place = ops.convert_to_numpy(_bins(ops.convert_to_tensor(log_odds.astype("float32")), num_bins))
    weight = np.where(np.isnan(log_odds), np.nan, rows.weight[rows.weight > 0])
    columns = (weight, weight * ~correct, np.square(weight))
    sums = np.stack([np.bincount(place, values, minlength=num_bins) for values in columns], axis=-1)
    # In float64, which not every device has. JAX has none by default, and its first CPU may be another process's.
    is_jax = keras.backend.backend() == "jax"
    with contextlib.nullcontext() if is_jax else keras.device("cpu"):
        return float(_area(ops.convert_to_tensor(sums)))


def _area(sums):
    """The area of (B, 3) sums of weights, weighted errors and squared weights."""
    weight, errors, squares = (ops.flip(column) for column in ops.unstack(sums, 3, axis=-1))
    total = ops.sum(weight)
    # What one prediction weighs: rankings have as many places as there are predictions, whatever their weights.
    of_squares = ops.sum(squares)
    unit = ops.divide_no_nan(of_squares, total)
    before, errors_before = (ops.cumsum(column) - column for column in (weight, errors))
    # Σ_{i=1…n} (e₀ + i·e/n)/(n₀ + i) = e + (e₀ − n₀·e/n)(H(n₀ + n) − H(n₀)), H being harmonic numbers.
    excess = errors_before - before * ops.divide_no_nan(errors, weight)
    places, places_before = (ops.divide_no_nan(each, unit) for each in (weight, before))
    area = ops.sum(errors + excess * _harmonic_difference(places_before, places)) / ops.where(total > 0, total, 1.0)
    is_held = ops.logical_or(total == 0, ops.logical_and(of_squares > 0, of_squares < math.inf))
    return ops.where(is_held, area, math.nan)


def _bins(log_odds, num_bins):
    """(N,) int32 bins of log-odds (N,)."""
    limit = math.asinh(_LARGEST / _SCALE)
    place = (ops.arcsinh(log_odds / _SCALE) / limit + 1.0) * (num_bins / 2.0)
    place = ops.where(ops.isnan(place), 0.0, ops.clip(place, 0.0, num_bins - 1.0))
    return ops.cast(place, "int32")


def _log_odds(rows, predicted, from_logits):
    """(N,) log(p/(1 − p)) of the largest probability; infinite where p is 1."""
    largest = row_maximum(rows)
    if not from_logits:
        p = ops.squeeze(largest, -1)
        return ops.log(p) - ops.log1p(-ops.minimum(p, 1.0))
    is_largest = ops.expand_dims(predicted, -1) == ops.arange(rows.shape[-1], dtype="int32")
    return -ops.logsumexp(ops.where(is_largest, -math.inf, rows - largest), axis=-1)


def _harmonic_difference(start, length):
    """H(start + length) − H(start) of real numbers of at least 0, by the expansion of H beyond 3."""
    first, last = start + 3.5, start + length + 3.5
    found = ops.log1p(length / first)
    found = found + (last**-2 - first**-2) / 24.0 - (last**-4 - first**-4) * (7.0 / 960.0)
    for step in (1.0, 2.0, 3.0):
        found = found + length / ((start + step) * (start + length + step))
    return found
