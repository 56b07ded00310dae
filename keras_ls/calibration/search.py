"""The temperature of the greatest likelihood: a root in one number, found in a few passes over the logits."""

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from keras_ls._rows import LabelledRows

LOWEST, HIGHEST = 0.01, 100.0

# Logits from which single precision pays off, and how many of more than twice as many tell where to begin.
_MANY = 2**18
_SAMPLE = 2**20
# The length of a Newton step in log T after which a search is near enough, as less than its square is left: for those
# that tell where the next begins, and for the result, which is kept in single precision.
_ROUGH_STEP, _LAST_STEP = 1e-2, 5e-5

Slope = Callable[[float], tuple[float, float]]


def optimal_temperature(rows: LabelledRows) -> tuple[float, str | None]:
    """Minimises NLL(T) = mean(logsumexp(z/T) − z_y/T), by weight, over T in [LOWEST, HIGHEST].

    NLL is convex in β = 1/T, so that its derivative mean(E_p[z] − z_y), p = softmax(βz), grows with β and has at most
    one root. It is found in log β. Of many rows a part tells where to begin and single precision comes near; the last
    steps are in double precision.

    Returns:
        T and, if no optimum lies within the bounds, a sentence that says why.

    Raises:
        ValueError: If logits that count are NaN or +inf, their differences overflow, or a label's logit is −inf.
    """
    if not any(rows.map_logits(_check)):
        return 1.0, "The logits of each example are all equal, so that every temperature fits as well: 1 is taken."
    start = 0.0
    for some, dtype in _rough_searches(rows):
        found = _root(partial(_slope, some, dtype), start, _ROUGH_STEP)
        start = found if math.isfinite(found) else start
    position = _root(partial(_slope, rows, "float64"), start, _LAST_STEP)
    if math.isnan(position):
        raise ValueError("`logits` must differ by no more than a float64 can hold. Received larger differences.")
    if position == -math.inf:
        return HIGHEST, (
            f"The likelihood still rises at the highest temperature allowed, {HIGHEST:g} "
            "(do the logits tell anything about the labels?)."
        )
    if position == math.inf:
        return LOWEST, (
            f"The likelihood still rises at the lowest temperature allowed, {LOWEST:g} "
            "(is every example classified correctly?)."
        )
    return math.exp(-position), None


def _rough_searches(rows: LabelledRows) -> Iterator[tuple[LabelledRows, str]]:
    """Rows and precision of the searches that tell where the last one begins."""
    size, dtype = rows.rows.size, "float32" if rows.rows.dtype.itemsize <= 4 else "float64"
    if size > 2 * _SAMPLE:
        sample = rows.every(size // _SAMPLE)
        if sample.weight.any():
            yield sample, dtype
    if size >= _MANY and dtype == "float32":
        yield rows, dtype


def _root(slope: Slope, start: float, last_step: float) -> float:
    """The log β, within the bounds, at which a growing function of β is 0.

    It is −inf or inf if the root lies below or above the bounds, and NaN if the function is not finite. Newton steps
    stay inside a bracket that only shrinks; nothing relies on an end of it that has not been looked at.
    """
    lowest, highest = low, high = -math.log(HIGHEST), -math.log(LOWEST)
    unseen = {low, high}
    position, step = start, high - low
    while abs(step) > 1e-10:
        value, growth = slope(math.exp(position))
        if not math.isfinite(value):
            return math.nan
        if position == lowest and value > 0:
            return -math.inf
        if position == highest and value <= 0:
            return math.inf
        unseen.discard(position)
        is_below = value < 0 or (value == 0 and growth <= 0)
        low, high = (position, high) if is_below else (low, position)
        end = high if is_below else low
        growth *= math.exp(position)
        newton = -value / growth if growth > 0 else math.inf
        # A Newton step counts only where it stays inside and at least halves the last one; bisection does both.
        if low <= position + newton <= high and abs(newton) < abs(step) / 2:
            step = newton
            if abs(step) <= last_step:
                return position + step
        elif end in unseen:
            position, step = end, highest - lowest
            continue
        else:
            step = (low + high) / 2 - position
        position += step
    return position


def _slope(rows: LabelledRows, dtype: str, beta: float) -> tuple[float, float]:
    """First and second derivative of NLL with respect to β: mean(E_p[z] − z_y) and mean(Var_p[z])."""
    parts = rows.map_logits(lambda block, ids, weight: _slope_of_block(block, ids, weight, beta), dtype)
    slope, curvature, total = (math.fsum(sums) for sums in zip(*parts, strict=True))
    return slope / total, curvature / total


def _slope_of_block(block: np.ndarray, ids: np.ndarray, weight: np.ndarray, beta: float) -> tuple[float, float, float]:
    with np.errstate(over="ignore"):  # of single precision, and −inf is then right
        distance = block - block.max(axis=-1, keepdims=True)  # at most 0: no exponential overflows
        share = distance * np.asarray(beta, distance.dtype)
    own = distance[np.arange(len(ids)), ids].astype("float64")
    np.exp(share, out=share)
    if np.isneginf(distance.min()):
        distance[share == 0] = 0.0  # 0 · −inf of a class that cannot occur is 0
    total = share.sum(axis=-1, dtype="float64")
    share *= distance
    mean = share.sum(axis=-1, dtype="float64") / total
    variance = np.einsum("ij,ij->i", share, distance) / total - np.square(mean)
    return float(weight @ (mean - own)), float(weight @ variance), float(weight.sum())


def _check(block: np.ndarray, ids: np.ndarray, weight: np.ndarray) -> bool:
    """Raises an error for logits without a likelihood; says whether the logits of any example differ."""
    highest, lowest = block.max(axis=-1), block.min(axis=-1)
    if not (highest < np.inf).all():  # False for NaN
        raise ValueError("`logits` must be finite, or −inf for a class that cannot occur. Received: NaN or +inf.")
    if np.isneginf(block[np.arange(len(ids)), ids]).any():
        raise ValueError("`labels` must be of classes that can occur. Received: one whose logit is −inf.")
    if np.isneginf(lowest).any():
        lowest = np.where(np.isneginf(block), np.inf, block).min(axis=-1)
    return bool((lowest < highest).any())
