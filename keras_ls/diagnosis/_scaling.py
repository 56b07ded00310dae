"""The temperature, how sure it is, and what is left once halves of the data are scaled by each other's."""

import dataclasses
import math

import numpy as np

from keras_ls._intervals import effective_number, student_quantile
from keras_ls._rows import LabelledRows
from keras_ls.calibration.search import HIGHEST, LOWEST, optimal_temperature
from keras_ls.diagnosis._positions import Positions


@dataclasses.dataclass(frozen=True, eq=False)
class Scaled:
    """Temperature with its interval, and the predictions of each half scaled by the temperature of the other.

    Attributes:
        temperature: T of all data.
        low: its lower limit.
        high: its upper limit.
        problem: a sentence if there is no optimum within the limits, else None.
        halves_are_bad: whether a half has no such optimum, so that what it says of the other is arbitrary.
        confidence: (M,) scaled confidences.
        nll: (M,) scaled −log p_y.
    """

    temperature: float
    low: float
    high: float
    problem: str | None
    halves_are_bad: bool
    confidence: np.ndarray
    nll: np.ndarray


def scale(rows: LabelledRows, positions: Positions, in_half: np.ndarray, level: float, epsilon: float) -> Scaled:
    """Fits temperatures to all predictions and to each half of the examples, (E,) bool.

    Raises:
        ValueError: As `optimal_temperature`.
    """
    temperature, problem = optimal_temperature(rows)
    counts, half = np.flatnonzero(rows.weight > 0), positions.of_examples(in_half)
    of_other, halves_are_bad = np.empty(len(half)), False
    for own in (True, False):
        weight = np.zeros_like(rows.weight)
        weight[counts[half != own]] = rows.weight[counts[half != own]]
        fitted = temperature, problem
        if weight.any():
            fitted = optimal_temperature(dataclasses.replace(rows, weight=weight))
        of_other[half == own] = fitted[0]
        halves_are_bad |= fitted[1] is not None
    low, high = _limits(rows, positions, temperature, problem, level)
    confidence, nll, start = np.empty(len(half)), np.empty(len(half)), 0
    for logits, ids, _ in rows.logits():
        part = slice(start, start + len(ids))
        distance = (logits - logits.max(axis=-1, keepdims=True)) / of_other[part, None]
        log_total = np.log(np.exp(distance).sum(axis=-1))
        confidence[part] = np.exp(-log_total)
        nll[part] = log_total - distance[np.arange(len(ids)), ids]
        start += len(ids)
    if not rows.from_logits:
        nll = -np.log(np.clip(np.exp(-nll), epsilon, 1.0 - epsilon))
    return Scaled(temperature, low, high, problem, halves_are_bad, confidence, nll)


def _limits(
    rows: LabelledRows, positions: Positions, temperature: float, problem: str | None, level: float
) -> tuple[float, float]:
    """Limits of the temperature: of log β by the sandwich variance, or what a test leaves at the ends of the range."""
    examples = effective_number(positions.example_weights())
    reach = student_quantile(level, examples - 1.0)
    if temperature in (LOWEST, HIGHEST):
        return _limits_at_the_end(rows, positions, temperature, reach, examples)
    if problem is not None:
        return LOWEST, HIGHEST
    slopes, curvature, expected = _scores(rows, positions, 1.0 / temperature)
    if curvature <= 0:
        return LOWEST, HIGHEST
    error = math.sqrt(_variance(slopes, expected, examples)) * temperature / curvature
    if not reach * error < math.log(HIGHEST / LOWEST):
        return LOWEST, HIGHEST
    low, high = (temperature * math.exp(sign * reach * error) for sign in (-1, 1))
    return max(LOWEST, low), min(HIGHEST, high)


def _limits_at_the_end(
    rows: LabelledRows, positions: Positions, temperature: float, reach: float, examples: float
) -> tuple[float, float]:
    """The end, and how far from it the slope of the likelihood is still as small as chance makes it."""
    inside, outside = math.log(temperature), math.log(LOWEST * HIGHEST / temperature)
    for _ in range(20):
        middle = (inside + outside) / 2
        slopes, _, expected = _scores(rows, positions, math.exp(-middle))
        reached = reach * math.sqrt(_variance(slopes, expected, examples))
        is_possible = not abs(slopes.sum()) > reached  # of one example all is
        inside, outside = (middle, outside) if is_possible else (inside, middle)
    end = min(max(math.exp(outside), LOWEST), HIGHEST)
    return min(temperature, end), max(temperature, end)


def _variance(slopes: np.ndarray, expected: float, examples: float) -> float:
    """Of the summed slope: between examples, and at least what the model itself expects, which few errors hide."""
    return max(float(np.square(slopes).sum()) * examples / max(1.0, examples - 1.0), expected)


def _scores(rows: LabelledRows, positions: Positions, beta: float) -> tuple[np.ndarray, float, float]:
    """(E,) weighted sums of E_p[z] − z_y, p = softmax(βz), and the sums of w·Var_p[z] and of w²·Var_p[z]."""
    slopes, curvature, expected, start = np.empty(len(positions.weight)), 0.0, 0.0, 0
    for logits, ids, weight in rows.logits():
        distance = logits - logits.max(axis=-1, keepdims=True)
        own = distance[np.arange(len(ids)), ids]
        share = np.exp(beta * distance)
        share /= share.sum(axis=-1, keepdims=True)
        distance[share == 0] = 0.0
        mean = (share * distance).sum(axis=-1)
        slopes[start : start + len(ids)] = mean - own
        variance = (share * np.square(distance - mean[:, None])).sum(axis=-1)
        curvature += float(weight @ variance)
        expected += float(np.square(weight) @ variance)
        start += len(ids)
    return positions.example_sums(slopes), curvature, expected
