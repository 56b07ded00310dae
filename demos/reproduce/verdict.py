"""The rule by which numbers agree with a claim: a t-interval of the differences between networks of equal seeds."""

import dataclasses
import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from demos.kit.errors import DamagedFile
from demos.reproduce.experiment import NEARER_TO_1, Claim, Number

RULE = (
    "A claim says that one number lies below or above another, some by a margin that the claim states. Both are taken "
    "from networks of the same seed, and the differences over the seeds have a mean and a 95 % t-interval. Where the "
    "whole interval lies on the side that the claim says, what is measured *agrees* with it; where all of it lies on "
    "the other side, it *does not*; otherwise, or with fewer than two seeds, one *cannot tell*. A number beside a "
    "constant is judged by its own interval in the same way. A best temperature is one of the few that were tried: "
    "where all seeds have the same one, its interval has no width, and one *cannot tell* either. That a ratio is "
    "nearer to 1 means that the absolute value of its logarithm is smaller. Intervals cover variation between seeds "
    "only; other held-out data would widen them. Claims are not corrected for multiplicity: of twenty with no true "
    "difference, about one is decided by chance."
)
AGREES, DISAGREES, CANNOT_TELL = "agrees", "does not", "cannot tell"
FEWEST_SEEDS = 2
# The 97.5 % quantiles of Student's t for 1, 2, … degrees of freedom; the last stands for all above, too.
QUANTILES = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
)
OF_SEEDS = Mapping[int, float]


@dataclasses.dataclass(frozen=True)
class Interval:
    """The mean over seeds, and the half-width of its 95 % interval, None for one seed."""

    mean: float
    half_width: float | None
    seeds: int

    def __str__(self) -> str:
        if self.half_width is None:
            return f"{self.mean:.4g}"
        digits = decimals(self.half_width or self.mean)
        return f"{self.mean:.{digits}f} ± {self.half_width:.{digits}f}"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of a claim."""

    word: str  # AGREES, DISAGREES or CANNOT_TELL
    why: str  # with the numbers


def values(number: Number, rows: Iterable[Mapping[str, Any]]) -> dict[int, float]:
    """The number of each seed; rows that lack it, and null, which stands for what is not finite, are left out.

    It is a DamagedFile if a seed has several, which are of different networks.
    """
    found: dict[int, float] = {}
    for row in rows:
        if _is_of(number, row):
            value = _at(row, number.path)
            if value is not None:
                if row["seed"] in found:
                    raise DamagedFile(
                        f"Several networks of {row['demo']} with seed {row['seed']} have: {number.label}."
                    )
                found[row["seed"]] = {"": value, "%": 100 * value, "error %": 100 * (1 - value)}[number.unit]
    return found


def seeds(number: Number, rows: Iterable[Mapping[str, Any]]) -> set[int]:
    """The seeds of all rows that a number is of, those included in which it is not finite."""
    return {row["seed"] for row in rows if _is_of(number, row)}


def interval(numbers: Sequence[float]) -> Interval:
    """Of at least one number."""
    mean, count = statistics.fmean(numbers), len(numbers)
    if count < FEWEST_SEEDS:
        return Interval(mean, None, count)
    quantile = QUANTILES[min(count - 1, len(QUANTILES)) - 1]
    return Interval(mean, quantile * statistics.stdev(numbers) / math.sqrt(count), count)


def judge(claim: Claim, numbers: Mapping[str, OF_SEEDS], coarse: Collection[str] = ()) -> Verdict:
    """Holds a claim against the numbers, by label; those that are `coarse` are chosen from a few values."""
    one, side, bound = numbers[claim.number], claim.side, claim.by
    if not isinstance(claim.than, str):
        what, digits, bound, measured = claim.number, 4, claim.than + claim.by, list(one.values())
    elif side == NEARER_TO_1:
        what, digits, side = f"|log| of {claim.number} − |log| of {claim.than}", 3, "below"
        measured = [abs(math.log(a)) - abs(math.log(b)) for a, b in _of_both(one, numbers[claim.than])]
    else:
        labels = [f"({label})" if " − " in label else label for label in (claim.number, claim.than)]
        what, digits = " − ".join(labels), 3
        measured = [a - b for a, b in _of_both(one, numbers[claim.than])]
    if not measured:
        return Verdict(CANNOT_TELL, f"no seed has {'both numbers' if isinstance(claim.than, str) else 'this number'}")
    found = interval(measured)
    if found.half_width is None:
        return Verdict(CANNOT_TELL, f"{what} is {found.mean:.{digits}g} for a single seed")
    low, high = found.mean - found.half_width, found.mean + found.half_width
    is_below, is_above = high < bound, low > bound
    word = CANNOT_TELL
    has_width = found.half_width > 0 or claim.number not in coarse
    if has_width and (is_below or is_above):
        word = AGREES if is_below == (side == "below") else DISAGREES
    spread = f"{low:.{digits}g} to {high:.{digits}g}, {found.seeds} seeds"
    claimed = f"claimed: {side} {bound:.4g}"
    return Verdict(word, f"{what} is {found.mean:.{digits}g} (95 % interval: {spread}); {claimed}")


def decimals(number: float) -> int:
    """How many decimals show two significant digits."""
    return max(0, 1 - math.floor(math.log10(abs(number)))) if number else 2


def _of_both(one: OF_SEEDS, other: OF_SEEDS) -> list[tuple[float, float]]:
    return [(one[seed], other[seed]) for seed in one if seed in other]


def _is_of(number: Number, row: Mapping[str, Any]) -> bool:
    return row["demo"] == number.demo and all(_fits(row.get(name), value) for name, value in number.where.items())


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, tuple) or (isinstance(wanted, str) and wanted.endswith("/")):
        return isinstance(value, str) and value.startswith(wanted)
    return value == wanted


def _running_means(values: list[float], width: int) -> list[float]:
    """The means of `width` values in a row; of all where there are fewer."""
    starts = range(max(1, len(values) - width + 1)) if values else ()
    return [statistics.fmean(values[start : start + width]) for start in starts]


def _gap(curve: Mapping[str, Any]) -> float | None:
    """By how much the mean confidence of a reliability curve exceeds its accuracy."""
    bins = zip(curve["confidence"], curve["accuracy"], curve["count"], strict=True)
    filled = [(count * (sure - right), count) for sure, right, count in bins if count]
    total = sum(count for _, count in filled)
    return sum(gap for gap, _ in filled) / total if total else None


def _at(row: Any, path: str) -> float | None:
    for step in path.split("."):
        if step in ("max", "min") and isinstance(row, list):
            row = {"max": max, "min": min}[step]((value for value in row if value is not None), default=None)
        elif step.startswith("mean") and isinstance(row, list):
            row = _running_means([value for value in row if value is not None], int(step.removeprefix("mean")))
        elif step == "half" and isinstance(row, list):
            row = row[len(row) // 2] if row else None
        elif step == "gap" and isinstance(row, Mapping):
            row = _gap(row)
        elif isinstance(row, list):
            row = row[int(step)] if -len(row) <= int(step) < len(row) else None
        elif "@" in step and isinstance(row, Mapping):
            values, others = (row.get(name.removeprefix("-")) or [] for name in step.split("@"))
            pairs = [pair for pair in zip(others, values, strict=False) if None not in pair]
            extreme = max if "@-" in step else min
            row = extreme(pairs, key=lambda pair: pair[0])[1] if pairs else None
        else:
            row = row.get(step) if isinstance(row, Mapping) else None
    return row if isinstance(row, int | float) else None
