"""The rule by which numbers agree with a claim: a t-interval of the differences between networks of equal seeds."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from demos.kit.errors import DamagedFile
from demos.reproduce.experiment import Claim, Number

RULE = (
    "A claim says that one number lies below or above another. Both are taken from networks of the same seed, and the "
    "differences over the seeds have a mean and a 95 % t-interval. The numbers *agree* if the whole interval lies on "
    "the side that the claim says, and do *not* if it lies on the other side; otherwise one *cannot tell*, nor with "
    "fewer than two seeds. Intervals cover variation between seeds only; other held-out data would widen them. Claims "
    "are not corrected for multiplicity: of twenty with no true difference, about one is decided by chance."
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


def judge(claim: Claim, numbers: Mapping[str, OF_SEEDS]) -> Verdict:
    """Holds a claim against the numbers, by label."""
    one = numbers[claim.number]
    other = numbers[claim.than] if isinstance(claim.than, str) else dict.fromkeys(one, claim.than)
    differences = [one[seed] - other[seed] - claim.by for seed in one if seed in other]
    if not differences:
        return Verdict(CANNOT_TELL, "no seed has both numbers")
    found = interval(differences)
    what = f"{claim.number} − {_shown(claim.than, claim.by)}"
    if found.half_width is None:
        return Verdict(CANNOT_TELL, f"{what} is {found.mean:.3g} for a single seed")
    low, high = found.mean - found.half_width, found.mean + found.half_width
    is_below, is_above = high < 0, low > 0
    word = CANNOT_TELL
    if is_below or is_above:
        word = AGREES if is_below == (claim.side == "below") else DISAGREES
    spread = f"{found.mean:.3g} (95 % interval: {low:.3g} to {high:.3g}, {found.seeds} seeds)"
    return Verdict(word, f"{what} is {spread} and should be {claim.side} 0")


def decimals(number: float) -> int:
    """How many decimals show two significant digits."""
    return max(0, 1 - math.floor(math.log10(abs(number)))) if number else 2


def _shown(than: str | float, by: float) -> str:
    than = than if isinstance(than, str) else f"{than:g}"
    return than if not by else f"({than} {'+' if by > 0 else '−'} {abs(by):g})"


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


def _at(row: Any, path: str) -> float | None:
    for step in path.split("."):
        if step in ("max", "min") and isinstance(row, list):
            row = {"max": max, "min": min}[step]((value for value in row if value is not None), default=None)
        elif step.startswith("mean") and isinstance(row, list):
            row = _running_means([value for value in row if value is not None], int(step.removeprefix("mean")))
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
