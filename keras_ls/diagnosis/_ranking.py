"""How well confidence ranks errors, with intervals from resampling examples."""

import dataclasses
import math

import numpy as np

from keras_ls._intervals import effective_number, normal_quantile, wilson_interval
from keras_ls.calibration.selective import RiskCoverageCurve, curve_of_ranking
from keras_ls.diagnosis._positions import Positions

# With fewer examples that are right, or wrong, or fewer at all, resamples hardly differ.
FEWEST, FEWEST_EXAMPLES = 5, 10
_UNKNOWN = (math.nan, math.nan, math.nan)


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
    """Areas under risk-coverage curves as (value, lower limit, upper limit), and the curves.

    Attributes:
        aurc: ranked by the largest probability.
        excess: `aurc` less that of a perfect ranking.
        by_logit: ranked by the largest logit less the mean of the logits.
        normed: ranked by normalised logits, the order of the norm chosen on the other half; NaN of two classes.
        change: `normed` less `aurc`, on the same resamples.
        curve: that of `aurc`.
        logit_curve: that of `by_logit`.
        normed_curve: that of `normed`, or None if no norm ranks better.
    """

    aurc: tuple[float, float, float]
    excess: tuple[float, float, float]
    by_logit: tuple[float, float, float]
    normed: tuple[float, float, float]
    change: tuple[float, float, float]
    curve: RiskCoverageCurve
    logit_curve: RiskCoverageCurve
    normed_curve: RiskCoverageCurve | None


def rank(positions: Positions, in_half: np.ndarray, num_resamples: int, level: float, seed: int) -> Ranking:
    """Measures rankings, and resamples examples; `in_half` (E,) bool says which half each example is in."""
    rng = np.random.default_rng([seed, 1])
    size, ties = positions.num_examples, rng.permutation(len(positions.score))
    orders = [_Order(positions, scores, ties) for scores in (positions.score, positions.largest_logit)]
    normed = None if positions.norm_scores is None or size < 2 else _normed_scores(positions, in_half)
    if normed is not None:
        orders.append(_Order(positions, normed, ties))
    resampled = np.empty((num_resamples, len(orders), 2))
    for areas in resampled:
        counts = np.bincount(rng.integers(0, size, size), minlength=size)  # how often each example is drawn
        areas[:] = [order.areas(counts) for order in orders]
    values = np.array([[order.curve.aurc(), order.curve.excess_aurc()] for order in orders])
    limits = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)
    are_few = fewest(positions) < FEWEST or size < FEWEST_EXAMPLES
    if are_few:
        trials = effective_number(positions.example_weights())
        limits[:] = np.array(_widest_limits(float(orders[0].curve.risk[-1]), trials, level)).T[:, None, :]
    plain, excess = (_estimate(values[0, place], limits[:, 0, place]) for place in (0, 1))
    by_logit, curves = _estimate(values[1, 0], limits[:, 1, 0]), [order.curve for order in orders]
    if normed is None:
        return Ranking(plain, excess, by_logit, _UNKNOWN, _UNKNOWN, curves[0], curves[1], None)
    found = _estimate(values[2, 0], limits[:, 2, 0])
    changes = np.quantile(resampled[:, 2, 0] - resampled[:, 0, 0], [(1 - level) / 2, (1 + level) / 2])
    change = _estimate(values[2, 0] - values[0, 0], np.full(2, np.nan) if are_few else changes)
    is_another = normed is not positions.score
    return Ranking(plain, excess, by_logit, found, change, curves[0], curves[1], curves[2] if is_another else None)


def fewest(positions: Positions) -> int:
    """How many examples hold a right prediction, or a wrong one if these are fewer."""
    correct = positions.top.correct
    return min(int(np.count_nonzero(positions.example_sums(each))) for each in (correct, ~correct))


class _Order:
    """Predictions in the order of their scores; `ties` (M,) orders equal ones, which matters where weights differ."""

    def __init__(self, positions: Positions, score: np.ndarray, ties: np.ndarray):
        self.curve = curve_of_ranking(positions.top.correct, score, positions.weight)
        order = np.lexsort((ties, -score))
        ranked = score[order]
        is_first = np.concatenate([[True], ranked[1:] != ranked[:-1]])
        self._starts, self._group = np.flatnonzero(is_first), np.cumsum(is_first) - 1
        self._weight, self._wrong = positions.weight[order], ~positions.top.correct[order]
        self._example = order if positions.example is None else positions.example[order]

    def areas(self, counts: np.ndarray) -> tuple[float, float]:
        """AURC and excess AURC of examples drawn as often as `counts` (E,) say."""
        weight = self._weight * counts[self._example]
        accepted = np.cumsum(weight)
        total = float(accepted[-1])
        errors = self._expected_errors(weight, accepted)
        rate = np.divide(weight, accepted, out=np.zeros_like(weight), where=accepted > 0)
        area = float(rate @ errors) / total
        perfect = float(rate @ np.maximum(0.0, accepted - (total - errors[-1]))) / total
        return area, max(area - perfect, 0.0)

    def _expected_errors(self, weight: np.ndarray, accepted: np.ndarray) -> np.ndarray:
        """The errors among those accepted; each unit of weight of equal scores carries the same share of theirs."""
        wrong, starts, group = weight * self._wrong, self._starts, self._group
        errors = np.cumsum(wrong)
        if len(starts) == len(wrong):
            return errors
        weights, own = np.add.reduceat(weight, starts), np.add.reduceat(wrong, starts)
        share = np.divide(own, weights, out=np.zeros_like(own), where=weights > 0)
        weight_before, errors_before = accepted[starts] - weight[starts], errors[starts] - wrong[starts]
        return errors_before[group] + (accepted - weight_before[group]) * share[group]


def _normed_scores(positions: Positions, in_half: np.ndarray) -> np.ndarray:
    """(M,) scores of each half by the order that is best on the other; 0 stands for the largest probability."""
    assert positions.norm_scores is not None
    half, scores = positions.of_examples(in_half), [positions.score, *positions.norm_scores.T]
    best = {}
    for own in (True, False):
        there = half != own
        correct, weight = positions.top.correct[there], positions.weight[there]
        best[own] = int(np.argmin([curve_of_ranking(correct, each[there], weight).aurc() for each in scores]))
    if best[True] == best[False]:
        return scores[best[True]]
    found = np.empty(len(half))
    for own, order in best.items():  # scores of unlike orders compare by their place in their half
        _, place, counts = np.unique(scores[order][half == own], return_inverse=True, return_counts=True)
        found[half == own] = (np.cumsum(counts) - counts / 2.0)[place] / counts.sum()
    return found


def _estimate(value: float, limits: np.ndarray) -> tuple[float, float, float]:
    return float(value), float(limits[0]), float(limits[1])


def _widest_limits(error: float, trials: float, level: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Limits of AURC and of its excess, the error rate being in Wilson's interval and the ranking perfect to worst."""
    limits = wilson_interval(error, trials, normal_quantile(level))
    rates = np.clip(limits, 1e-12, 1.0 - 1e-12)
    best, worst = rates + (1.0 - rates) * np.log1p(-rates), rates * (1.0 - np.log(rates))
    between = np.linspace(rates[0], rates[1], 100)
    gap = (between * (1.0 - np.log(between)) - between - (1.0 - between) * np.log1p(-between)).max()
    lowest = float(best[0]) if limits[0] > 0 else 0.0
    return (max(0.0, lowest), min(1.0, float(worst[1]))), (0.0, float(gap))
