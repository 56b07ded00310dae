"""Confidence intervals in closed form: shares, means of examples, and calibration errors from sums of bins."""

import dataclasses
import math
import statistics

import numpy as np

_NORMAL = statistics.NormalDist()
_SMALLEST_TAIL = 2.0**-60  # what is left of a level may round to 0
_erfc = np.vectorize(math.erfc, otypes=["float64"])


def normal_quantile(level: float) -> float:
    """How many standard errors an interval of that level reaches to both sides."""
    return -_NORMAL.inv_cdf(max((1.0 - level) / 2.0, _SMALLEST_TAIL))


def student_quantile(level: float, degrees: float) -> float:
    """The same of Student's t: exact for 1 and 2 degrees of freedom, else by Cornish and Fisher's expansion.

    Up to a level of 0.99 the expansion is within 1 % of the truth.
    """
    if degrees < 1:
        return math.inf
    tail = max((1.0 - level) / 2.0, _SMALLEST_TAIL)
    if degrees < 2:
        return 1.0 / math.tan(math.pi * tail)
    if degrees < 3:
        return (1.0 - 2.0 * tail) / math.sqrt(2.0 * tail * (1.0 - tail))
    z = normal_quantile(level)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, start=1))


def wilson_interval(share: float, trials: float, z: float) -> tuple[float, float]:
    """Wilson's interval of a share that was seen in so many independent trials, z standard errors to both sides."""
    if not (trials > 0 and math.isfinite(share)):
        return math.nan, math.nan
    if math.isinf(z):
        return 0.0, 1.0
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    reach = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return 0.0 if share == 0 else max(0.0, centre - reach), 1.0 if share == 1 else min(1.0, centre + reach)


def ratio_residuals(values: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray]:
    """The ratio Σv/Σw of (E,) sums per example, and what each contributes to its error, (v − θw)/W."""
    total = weight.sum()
    ratio = float(values.sum() / total)
    return ratio, (values - ratio * weight) / total


def share_interval(hits: np.ndarray, weight: np.ndarray, level: float) -> tuple[float, float, float]:
    """A share and Wilson's interval, trials being as many as give the variance between examples.

    Where examples are partly right, as sequences are, this variance is only estimated, and the quantile Student's.

    Args:
        hits: (E,) weighted hits of each example.
        weight: (E,) weights of each example.
        level: The probability with which the interval is to hold the truth, in (0, 1).

    Returns:
        Share, lower and upper limit.
    """
    share, residuals = ratio_residuals(hits, weight)
    examples = effective_number(weight)
    variance = float(np.square(residuals).sum())
    spread = share * (1.0 - share)
    z = normal_quantile(level)
    are_partly_right = bool(((hits > 0) & (hits < weight)).any())
    if are_partly_right:
        variance *= examples / max(1.0, examples - 1.0)
        z = student_quantile(level, examples - 1.0)
    # Where all examples are alike the variance says nothing.
    trials = spread / variance if variance > 1e-12 * spread and spread > 0 else examples
    if not are_partly_right:  # heavy examples that all are right, say, look surer than they are
        trials = min(trials, examples)
    return share, *wilson_interval(share, trials, z)


def mean_interval(values: np.ndarray, weight: np.ndarray, level: float) -> tuple[float, float, float]:
    """A weighted mean and its interval by the variance between examples, corrected for skewness.

    Args:
        values: (E,) weighted sum of each example.
        weight: (E,) weights of each example.
        level: The probability with which the interval is to hold the truth, in (0, 1).

    Returns:
        Mean, lower and upper limit; limits of a single example are NaN.

    Reference:
        Hall 1992, "On the removal of skewness by transformation" (g₂, a monotone cubic).
    """
    mean, residuals = ratio_residuals(values, weight)
    count = len(weight)
    squares = float(np.square(residuals).sum())
    if count < 2 or not math.isfinite(squares):
        return mean, math.nan, math.nan
    examples = max(2.0, effective_number(weight))
    return mean, *skewed_limits(mean, squares, float((residuals**3).sum()), examples, level)


def within(limits: tuple[float, float], mean: float, largest: float = math.inf) -> tuple[float, float]:
    """Limits of a mean of numbers from 0 to `largest`; NaN stays."""
    low, high = limits
    return float(max(low, min(0.0, mean))), float(min(high, max(largest, mean)))


def effective_number(weight: np.ndarray) -> float:
    """How many examples of equal weight are as informative as examples of these weights."""
    return float(weight.sum() ** 2 / np.square(weight).sum())


def skewed_limits(mean: float, squares: float, cubes: float, count: float, level: float) -> tuple[float, float]:
    """Limits of a mean by Hall's transformation, from the sums of squares and cubes of what examples contribute."""
    if squares <= 0:
        return mean, mean
    error = math.sqrt(squares * count / (count - 1))
    reach = student_quantile(level, count - 1)
    skew = cubes / squares**1.5  # that of the mean itself: γ/√n
    return mean - error * _hall(reach, skew), mean - error * _hall(-reach, skew)


def _hall(quantile: float, skew: float) -> float:
    """The t whose transform t + skew·t²/3 + skew²·t³/27 + skew/6 is the quantile."""
    if abs(skew) < 1e-8:
        return quantile
    return 3.0 / skew * (math.copysign(abs(base := 1.0 + skew * (quantile - skew / 6.0)) ** (1 / 3), base) - 1.0)


@dataclasses.dataclass(frozen=True, eq=False)
class BinMoments:
    """Sums of cells (B,) of confidence, or (B, K) of each class's, from which intervals of calibration errors are made.

    A cell's gap ĝ is its mean of hit − confidence.

    Attributes:
        weight: W, weights.
        confidence: weighted mean confidence, 0 in empty cells.
        gap: ĝ, 0 in empty cells.
        clusters: number of examples in the cell.
        squares: Σ over examples of (Σ w(hit − confidence − ĝ))².
        effective: W² over the sum of the squared weights of its examples.
    """

    weight: np.ndarray
    confidence: np.ndarray
    gap: np.ndarray
    clusters: np.ndarray
    squares: np.ndarray
    effective: np.ndarray

    def shares(self) -> np.ndarray:
        """The shares of the weight, summing to 1 over the bins (of each class)."""
        return self.weight / self.weight.sum(axis=0)

    def errors(self) -> np.ndarray:
        """() or (K,) l1 errors Σ_b share·|ĝ|."""
        return (self.shares() * np.abs(self.gap)).sum(axis=0)

    def empirical_variances(self) -> np.ndarray:
        """Variance of ĝ, NaN where a cell holds fewer than 2 examples."""
        enough = self.clusters >= 2
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = self.squares / self.weight**2 * (self.clusters / (self.clusters - 1))
        return np.where(enough, variance, np.nan)

    def variances(self) -> np.ndarray:
        """At least that of a calibrated cell: cells that saw no hit, say, look surer than they are."""
        with np.errstate(divide="ignore", invalid="ignore"):
            # Half a hit and half a miss more, so that a confidence of 1 has a variance, too.
            expected = (self.effective * self.confidence + 0.5) / (self.effective + 1.0)
            calibrated = expected * (1.0 - expected) / self.effective
            alone = np.where(self.weight > 0, 0.25 / self.effective, 0.0)
        found = self.empirical_variances()
        known = np.maximum(found, np.where(self.weight > 0, calibrated, 0.0))
        return np.where(np.isnan(found), alone, known)


def calibration_error_interval(
    cells: BinMoments, error: float, level: float, linear: float = 0.0, degrees: float = math.inf
) -> tuple[float, float]:
    """An interval of the l1 calibration error of bins, or of its mean over classes; it need not hold the plug-in value.

    The plug-in error is too large by the folding of noise, |ĝ| having a mean above |g|. The lower limit takes off the
    most that this can be, Σ share·se·h(max(0, |ĝ|/se − 2)) with h(a) = E|a + Z| − a, and z standard errors. The upper
    limit is the smaller of two, each at half the tail: the plug-in value and z' standard errors, and the root of what
    the squared l2 error, which the squared l1 error does not exceed, may be: S = Σ share·(ĝ² − se²), free of bias, and
    z' of its standard errors.

    Args:
        cells: moments (B,), or (B, K) of K classes.
        error: standard error of the plug-in value, its bins and signs given.
        level: The probability with which the interval is to hold the truth, in (0, 1).
        linear: variance of the part of S that is linear in the gaps, where bins depend on each other, as they do where
            examples have positions in several; by default that of independent bins.
        degrees: degrees of freedom of the standard errors.

    Returns:
        Lower and upper limit.

    Reference:
        Kumar, Liang and Ma 2019, section 4.2 (S); Sun et al. 2024, "A confidence interval for the l2 expected
        calibration error", who take its two regimes apart, near 0 and away from it, as the two limits do here.
    """
    share, gap, variance = cells.shares(), cells.gap, cells.variances()
    classes = gap.shape[1] if gap.ndim == 2 else 1
    plug_in = float(cells.errors().mean())
    deviation = np.sqrt(variance)
    # Few examples, all right or all wrong, look surer than they are.
    error = max(error, math.sqrt(float((share**2 * variance).sum())) / classes)
    z, half = student_quantile(level, degrees), student_quantile((1.0 + level) / 2.0, degrees)
    low = plug_in - float((share * folding_bias(gap, deviation)).sum()) / classes - z * error
    squared, squared_error = _debiased_square(cells, linear)
    high = min(plug_in + half * error, math.sqrt(max(0.0, squared + half * squared_error)))
    return max(0.0, low), min(1.0, max(high, low, 0.0))


def squared_error_interval(cells: BinMoments, level: float) -> tuple[float, float]:
    """An interval of the l2 calibration error of bins (B,): roots of S and its standard errors (Kumar et al. 2019).

    Whether a bin of one prediction is off nobody knows: it counts for the upper limit alone.
    """
    squared, error = _debiased_square(cells)
    # The shares of the bins are estimates, too.
    of_shares = float((cells.shares() * (cells.gap**2 - squared) ** 2).sum()) / float(cells.weight.sum())
    reach = normal_quantile(level) * math.sqrt(error**2 + of_shares)
    unknown = float((cells.shares() * cells.gap**2)[cells.clusters < 2].sum())
    low, high = (math.sqrt(min(1.0, max(0.0, each))) for each in (squared - unknown - reach, squared + reach))
    return low, high


def _debiased_square(cells: BinMoments, linear: float = 0.0) -> tuple[float, float]:
    """S = Σ share·(ĝ² − se²), its mean over classes if there are such, and its standard error.

    The variance of what is linear in the gaps is at least `linear`.
    """
    share, gap, variance = cells.shares(), cells.gap, cells.variances()
    classes = gap.shape[1] if gap.ndim == 2 else 1
    squared = float((share * (gap**2 - np.nan_to_num(cells.empirical_variances()))).sum()) / classes
    # Of several classes: a label that hits one misses the others. Their sum varies at most twice as much as its parts.
    scale = (2.0 if classes > 1 else 1.0) / classes**2
    of_squares = 2.0 * scale * float((share**2 * variance**2).sum())
    return squared, math.sqrt(of_squares + max(linear, 4.0 * scale * float((share**2 * gap**2 * variance).sum())))


def folding_bias(gap: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """The most by which |ĝ| is expected to exceed |g|, g being as small as two standard errors allow."""
    with np.errstate(divide="ignore", invalid="ignore"):
        a = np.where(deviation > 0, np.maximum(0.0, np.abs(gap) / deviation - 2.0), 0.0)
    density = np.exp(-(a**2) / 2.0) / math.sqrt(2.0 * math.pi)
    return deviation * 2.0 * (density - a * _erfc(a / math.sqrt(2.0)) / 2.0)
