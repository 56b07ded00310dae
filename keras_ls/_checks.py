"""Argument checks: one form of message (argument, what is allowed, what was given)."""

import math
import operator
import reprlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

# int32, in which backends count rows and steps.
LARGEST_COUNT = 2**31 - 1
# Of float32, in which networks compute.
_SMALLEST, _LARGEST = float(np.finfo("float32").tiny), float(np.finfo("float32").max)

_short = reprlib.Repr()
_short.maxother = _short.maxstring = 80


def shown(value: Any) -> str:
    """`value` on one short line, whatever it is: arrays, tensors and long lists are cut."""
    try:
        return " ".join(_short.repr(value).split())
    except ValueError:  # Python writes out no integer of more than 4,300 digits
        return f"{type(value).__name__} of too many digits"


def check_flag(name: str, value: Any) -> bool:
    """Returns `value`, which must be True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"`{name}` must be True or False. Received: {name}={shown(value)}.")
    return bool(value)


def check_optional_flag(name: str, value: Any) -> bool | None:
    """Returns `value`, which must be True, False or None."""
    if value is not None and not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"`{name}` must be True, False or None. Received: {name}={shown(value)}.")
    return None if value is None else bool(value)


def check_string(name: str, value: Any) -> str:
    """Returns `value`, which must be a string."""
    if not isinstance(value, str):
        raise ValueError(f"`{name}` must be a string. Received: {name}={shown(value)}.")
    return value


def check_fraction(name: str, value: Any) -> float:
    """Returns `value` as a float in [0, 1)."""
    number = _number(name, value)
    if not 0.0 <= number < 1.0:  # also false for NaN
        raise ValueError(f"`{name}` must be in [0, 1). Received: {name}={shown(value)}.")
    return number


def check_proportion(name: str, value: Any) -> float:
    """Returns `value` as a float in [0, 1]."""
    number = _number(name, value)
    if not 0.0 <= number <= 1.0:  # also false for NaN
        raise ValueError(f"`{name}` must be in [0, 1]. Received: {name}={shown(value)}.")
    return number


def check_positive(name: str, value: Any, of_float32: bool = False) -> float:
    """Returns `value` as a finite float above 0; `of_float32`, if it is both when rounded to float32, too."""
    number = _number(name, value)
    smallest, largest = (_SMALLEST, _LARGEST) if of_float32 else (0.0, math.inf)
    if not smallest < number < largest:
        also = ", also in float32" * of_float32
        raise ValueError(f"`{name}` must be a finite number above 0{also}. Received: {name}={shown(value)}.")
    return number


def check_non_negative(name: str, value: Any) -> float:
    """Returns `value` as a finite float of at least 0."""
    number = _number(name, value)
    if not 0.0 <= number < math.inf:
        raise ValueError(f"`{name}` must be a finite number of at least 0. Received: {name}={shown(value)}.")
    return number


def check_count(name: str, value: Any, minimum: int = 1, maximum: int | None = LARGEST_COUNT) -> int:
    """Returns `value` as an int of at least `minimum`, and at most `maximum` unless that is None."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"`{name}` must be an integer. Received: {name}={shown(value)}.") from None
    if number < minimum:
        raise ValueError(f"`{name}` must be at least {minimum}. Received: {name}={shown(value)}.")
    if maximum is not None and number > maximum:
        raise ValueError(f"`{name}` must be at most {maximum}. Received: {name}={shown(value)}.")
    return number


def check_ignore_class(value: Any) -> int | None:
    """Returns `value` as an int, or None where no class is ignored."""
    return None if value is None else check_count("ignore_class", value, minimum=-(2**31))


def check_choice(name: str, value: Any, allowed: Sequence[str]) -> str:
    """Returns `value`, which must be one of `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        choices = ", ".join(repr(choice) for choice in allowed)
        raise ValueError(f"`{name}` must be one of {choices}. Received: {name}={shown(value)}.")
    return value


def check_dtype(value: Any) -> Any:
    """Returns `value`, which must be None or what Keras takes for a float dtype."""
    try:
        is_float = value is None or "float" in keras.dtype_policies.get(value).compute_dtype
    except Exception:  # whatever Keras and NumPy raise
        is_float = False
    if not is_float:
        raise ValueError(f"`dtype` must be a float dtype, a policy of one, or None. Received: dtype={shown(value)}.")
    return value


def compatible_shapes(a: Sequence[int | None], b: Sequence[int | None]) -> bool:
    """Says whether two shapes may be equal; None is a size that is not known."""
    return len(a) == len(b) and all(m is None or n is None or m == n for m, n in zip(a, b, strict=True))


def check_axis(axis: Any, shape: Sequence[int | None], name: str) -> int:
    """Returns `axis` counted from the front; it must be a dimension of the tensor called `name`."""
    rank = len(shape)
    if not isinstance(axis, (int, np.integer)) or isinstance(axis, bool) or not -rank <= axis < rank:
        raise ValueError(f"`axis` must be a dimension of `{name}`. Received: axis={shown(axis)}, shape {tuple(shape)}.")
    return int(axis) % rank


def check_level(level: Any) -> float:
    """Returns the level of an interval, which must be in (0, 1)."""
    return check_positive("level", check_fraction("level", level))


def check_prior_length(prior: np.ndarray | None, num_classes: int | None) -> None:
    """Raises `ValueError` if the length of a prior is not the number of classes."""
    if prior is not None and num_classes is not None and len(prior) != num_classes:
        raise ValueError(f"`prior` must have one entry per class ({num_classes}). Received: {len(prior)} entries.")


def _number(name: str, value: Any) -> float:
    try:
        if isinstance(value, (bool, np.bool_, str, bytes)):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"`{name}` must be a number. Received: {name}={shown(value)}.") from None
