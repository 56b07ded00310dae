"""All numbers of a diagnosis, from predictions with their labels."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_ls._checks import check_count, check_level
from keras_ls._intervals import mean_interval, share_interval, within
from keras_ls._rows import LabelledRows
from keras_ls.calibration.reliability import ReliabilityCurve, curve_of_top
from keras_ls.calibration.selective import RiskCoverageCurve
from keras_ls.calibration.temperature import are_probabilities
from keras_ls.diagnosis._calibration import class_errors, top_label_error
from keras_ls.diagnosis._positions import Positions, read_positions
from keras_ls.diagnosis._ranking import FEWEST, fewest, rank
from keras_ls.diagnosis._scaling import scale
from keras_ls.diagnosis.estimates import Estimate

# Predictions times classes, beyond which the second pass for the interval of the class-wise error is left out.
_LARGEST_FOR_CLASSES = 2 * 10**8
# Of weights, whose squares would otherwise underflow or overflow.
_LARGEST_EXPONENT = 200


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a diagnosis is asked for; `check_settings` makes it.

    Attributes:
        num_bins: number of bins.
        level: The probability with which each interval is to hold the truth, in (0, 1).
        num_resamples: number of resamples.
        seed: of halves, resamples, and the order of ties.
    """

    num_bins: int
    level: float
    num_resamples: int
    seed: int


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """What was measured of held-out predictions.

    Attributes:
        estimates: by name.
        class_errors: (K,) calibration error of each class.
        class_limits: (K,) lower limits that hold together, or None if there was too much data.
        reliability: curves by name, as given and scaled by the halves' temperatures.
        ranking: curves by name.
        num_examples: E.
        num_predictions: M.
        notes: sentences on what is missing.
    """

    estimates: dict[str, Estimate]
    class_errors: np.ndarray
    class_limits: np.ndarray | None
    reliability: dict[str, ReliabilityCurve]
    ranking: dict[str, RiskCoverageCurve]
    num_examples: int
    num_predictions: int
    notes: tuple[str, ...]


def check_settings(num_bins: Any, level: Any, num_resamples: Any, seed: Any) -> Settings:
    """Returns the arguments as `Settings`.

    Raises:
        ValueError: If one is not what it should be.
    """
    return Settings(
        check_count("num_bins", num_bins),
        check_level(level),
        check_count("num_resamples", num_resamples, maximum=1_000_000),
        check_count("seed", seed, minimum=0, maximum=None),
    )


def _doubts(rows: LabelledRows) -> list[str]:
    """What is said, and warned of, where probabilities were probably given as logits."""
    if not (rows.from_logits and are_probabilities(rows)):
        return []
    doubt = (
        "The logits look like probabilities: none is negative, and they sum to 1 for each example. If they are, all "
        "numbers here are wrong: say from_logits=False."
    )
    warnings.warn(doubt, stacklevel=5)
    return [doubt]


def measure(rows: LabelledRows, asked: Settings) -> Measured:
    """Measures predictions, of which one at least must count.

    Raises:
        ValueError: If predictions are NaN or infinite, no probabilities, or make a label impossible.
    """
    epsilon = keras.config.epsilon()
    exponent = int(np.frexp(rows.weight.max())[1])
    if abs(exponent) > _LARGEST_EXPONENT:  # by a power of 2, which rounds nothing
        rows = dataclasses.replace(rows, weight=np.ldexp(rows.weight, -exponent))
    positions = read_positions(rows, epsilon)
    size, notes = positions.num_examples, _doubts(rows)
    in_half = np.zeros(size, bool)
    in_half[np.random.default_rng([asked.seed, 0]).permutation(size)[: size // 2]] = True
    scaled = scale(rows, positions, in_half, asked.level, epsilon)
    if scaled.problem is not None:
        notes.append(scaled.problem)
    top, found = positions.top, {}
    scaled_top = dataclasses.replace(top, confidence=scaled.confidence, dtype=rows.bin_dtype(scaled.temperature))
    ranking = rank(positions, in_half, asked.num_resamples, asked.level, asked.seed)
    with_limits = len(positions.weight) * rows.num_classes <= _LARGEST_FOR_CLASSES
    classwise, errors, limits = class_errors(rows, positions, asked.num_bins, asked.level, with_limits)
    if not with_limits:
        notes.append("The class-wise error has no interval: there are too many predictions and classes for it.")

    mean = _means(positions, asked.level, mean_interval)
    if fewest(positions) < FEWEST:
        notes.append(f"Fewer than {FEWEST} examples are right, or wrong: NLL and Brier score have no interval.")
        mean = _means(positions, asked.level, _without_limits)
    found["accuracy"] = _means(positions, asked.level, share_interval)(top.correct)
    found["nll"], found["brier"] = _within(mean(positions.nll)), _within(mean(positions.brier), 2.0)
    found["ece"] = top_label_error(positions, top, asked.num_bins, asked.level)
    found["ece_equal_mass"] = top_label_error(positions, top, asked.num_bins, asked.level, equal_mass=True)
    found["classwise_ece"] = classwise
    found["temperature"] = (scaled.temperature, scaled.low, scaled.high)
    found["nll_scaled"], found["calibration_loss"] = (np.nan, np.nan, np.nan), (np.nan, np.nan, np.nan)
    found["ece_scaled"] = (np.nan, np.nan, np.nan)
    reliability = {"as given": curve_of_top(top, asked.num_bins)}
    if size > 1:
        found["nll_scaled"], found["calibration_loss"] = _within(mean(scaled.nll)), mean(positions.nll - scaled.nll)
        found["ece_scaled"] = top_label_error(positions, scaled_top, asked.num_bins, asked.level)
        if scaled.halves_are_bad:
            notes.append("A half of the data has no best temperature: what one leaves on the other has no interval.")
            for name in ("nll_scaled", "calibration_loss", "ece_scaled"):
                found[name] = (found[name][0], np.nan, np.nan)
        reliability["scaled"] = curve_of_top(scaled_top, asked.num_bins)
    found["aurc"], found["excess_aurc"] = ranking.aurc, ranking.excess
    found["aurc_largest_logit"] = ranking.by_logit
    found["aurc_logit_norm"], found["aurc_logit_norm_change"] = ranking.normed, ranking.change
    estimates = {name: Estimate(*map(float, numbers)) for name, numbers in found.items()}
    curves = {"largest probability": ranking.curve}
    if rows.num_classes > 2:  # of two the ranking is the same
        curves["largest logit"] = ranking.logit_curve
    if ranking.normed_curve is not None:
        curves["normalised logits"] = ranking.normed_curve
    return Measured(estimates, errors, limits, reliability, curves, size, len(positions.weight), tuple(notes))


def _within(found, largest=np.inf):
    return found[0], *within(found[1:], found[0], largest)


def _without_limits(values: np.ndarray, weight: np.ndarray, level: float) -> tuple[float, float, float]:
    return mean_interval(values, weight, level)[0], np.nan, np.nan


def _means(positions: Positions, level: float, interval: Callable) -> Callable:
    weights = positions.example_weights()
    return lambda values: interval(positions.example_sums(values), weights, level)
