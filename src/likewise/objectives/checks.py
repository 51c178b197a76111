"""Checks of constructor arguments that the objectives share."""

import math
from collections.abc import Sequence

from likewise.errors import LikewiseError


def above_zero(name: str, value: float, advice: str) -> float:
    """The value as a float, or a LikewiseError that names it."""
    if not value > 0 or math.isinf(value):
        raise LikewiseError(f"{name}={value} must be above 0; {advice}.")
    return float(value)


def one_of(name: str, value: str, known: Sequence[str]) -> str:
    """The value, or a LikewiseError that lists the known ones."""
    if value not in known:
        raise LikewiseError(f"{name}={value!r} must be one of {', '.join(map(repr, known))}.")
    return value
