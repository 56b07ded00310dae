"""A measured number with its interval, and what follows from it in words."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A measured number and its confidence interval.

    Attributes:
        value: what was measured on the given data; NaN where it is not defined.
        low: lower limit.
        high: upper limit. Both limits are NaN where the data allow none.
    """

    value: float
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        """Value and limits, if there are any, with as many digits as help."""
        digits = max(2, min(4, 3 - math.floor(math.log10(abs(self.value))))) if self._is_plain() else 4
        numbers = [shown(number, digits) for number in (self.value, self.low, self.high)]
        if math.isnan(self.low) and math.isnan(self.high):
            return f"{numbers[0]} (no interval)"
        return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"

    def _is_plain(self) -> bool:
        return math.isfinite(self.value) and self.value != 0


def shown(number: float, digits: int) -> str:
    """A number with so many digits after the point; small ones with two that say something."""
    is_small = 0 < abs(number) < 10.0 ** (1 - digits)
    return f"{number:.2g}" if is_small else f"{number:.{digits}f}"


@dataclasses.dataclass(frozen=True)
class Finding:
    """What the intervals say about one question.

    Attributes:
        topic: "confidence", "temperature", "smoothing", "classes" or "ranking" and, of training data, "clusters" or
            "teaching".
        verdict: the answer in a few words, "cannot tell" where the intervals allow none.
        text: what was measured, with its interval, and what to try next.
    """

    topic: str
    verdict: str
    text: str
