"""How the texts on a command line become values: each function reads one kind, and says what is allowed."""

import argparse
import math
from collections.abc import Callable
from typing import Any


def count(text: str) -> int:
    """An integer of at least 1."""
    return checked(int, text, lambda n: n >= 1, "must be an integer of at least 1")


def whole(text: str) -> int:
    """An integer of at least 0."""
    return checked(int, text, lambda n: n >= 0, "must be an integer of at least 0")


def seed(text: str) -> int:
    """An integer in [0, 2**32), what NumPy takes as a seed."""
    return checked(int, text, lambda n: 0 <= n < 2**32, "must be an integer in [0, 2**32)")


def fraction(text: str) -> float:
    """A number in [0, 1)."""
    return checked(float, text, lambda x: 0 <= x < 1, "must be in [0, 1)")


def positive(text: str) -> float:
    """A finite number above 0."""
    return checked(float, text, lambda x: 0 < x < math.inf, "must be a finite number above 0")


def not_negative(text: str) -> float:
    """A finite number of at least 0."""
    return checked(float, text, lambda x: 0 <= x < math.inf, "must be a finite number of at least 0")


def temperature(text: str) -> float:
    """A number in [0.01, 100]: beyond, logits overflow, or all tokens are alike."""
    return checked(float, text, lambda x: 0.01 <= x <= 100, "must be in [0.01, 100]")


def checked(convert: Callable[[str], Any], text: str, allowed: Callable[[Any], bool], rule: str) -> Any:
    """Returns `convert(text)` if it is `allowed`.

    Raises:
        argparse.ArgumentTypeError: If it is not; `rule` says in words what is.
    """
    try:
        value = convert(text)
        if not allowed(value):  # also so for NaN
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"{rule}. Received: {text!r}") from None
    return value
