"""How the texts on a command line become values: each function reads one kind, and its errors say what is allowed."""

import argparse
import math
from collections.abc import Callable
from typing import Any


def number(convert: Callable[[str], Any], allowed: Callable[[Any], bool], rule: str) -> Callable[[str], Any]:
    """A function that reads the numbers that are `allowed`; `rule` says in words which those are."""

    def read(text: str) -> Any:
        try:
            value = convert(text)
            if not allowed(value):  # also so for NaN
                raise ValueError
        except ValueError:
            raise argparse.ArgumentTypeError(f"{rule}. Received: {text!r}") from None
        return value

    return read


count = number(int, lambda n: n >= 1, "must be an integer of at least 1")
several = number(int, lambda n: n >= 2, "must be an integer of at least 2")
whole = number(int, lambda n: n >= 0, "must be an integer of at least 0")
seed = number(int, lambda n: 0 <= n < 2**32, "must be an integer in [0, 2**32)")  # what NumPy takes
fraction = number(float, lambda x: 0 <= x < 1, "must be in [0, 1)")
positive = number(float, lambda x: 0 < x < math.inf, "must be a finite number above 0")
not_negative = number(float, lambda x: 0 <= x < math.inf, "must be a finite number of at least 0")
# Beyond, logits overflow, or all tokens are alike.
temperature = number(float, lambda x: 0.01 <= x <= 100, "must be in [0.01, 100]")
