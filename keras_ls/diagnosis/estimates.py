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
        numbers = [f"{number:.{digits}f}" for number in (self.value, self.low, self.high)]
        if math.isnan(self.low) and math.isnan(self.high):
            return f"{numbers[0]} (no interval)"
        return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"

    def _is_plain(self) -> bool:
        return math.isfinite(self.value) and self.value != 0


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
