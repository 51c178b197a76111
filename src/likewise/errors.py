"""Errors, which stop the work, and warnings, which do not; checks of numbers, and the closest known name."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from math import isfinite, isinf
from numbers import Real
from operator import index
from signal import SIGINT
from typing import SupportsIndex

# In the message of an error of torch: on a CPU, on a GPU, where the number of bytes overflows, and while it loads.
NO_ROOM = ("can't allocate memory", "out of memory", "Storage size calculation overflowed", "failed to map segment")


class LikewiseError(ValueError):
    """A user's mistake or unusable input, in one sentence: what is wrong, where, and what to do.

    The command line prints the message alone and exits with code 2; from Python it is a ``ValueError``.
    """


class Interrupted(Exception):
    """Training stopped by a signal after its state was saved.

    Args:
        sentence: what was done, for the user.
        number: the signal's. The command line exits with 128 + number, which is 130 after Ctrl-C.
    """

    def __init__(self, sentence: str, number: int = SIGINT) -> None:
        super().__init__(sentence)
        self.number = int(number)


class LikewiseWarning(UserWarning):
    """Something looks wrong, but the work continues. The message says what, where, and what to do."""


def at_least_one(name: str, value: SupportsIndex, advice: str) -> int:
    """A count as an int. Raises LikewiseError on what is no whole number, below 1, or beyond 64 bits."""
    if isinstance(value, bool | float) or not isinstance(value, SupportsIndex):
        raise LikewiseError(f"{name}={value!r} must be a whole number; {advice}.")
    if not 1 <= index(value) < 1 << 63:
        raise LikewiseError(f"{name}={value} must be at least 1{' and below 2^63' * (index(value) > 1)}; {advice}.")
    return index(value)


def number(name: str, value: float) -> float:
    """The value. Raises LikewiseError on what is no number, such as the text ``"0.1"``."""
    given: object = value
    if isinstance(given, bool) or not isinstance(given, Real):  # NumPy's numbers are Real too
        raise LikewiseError(f"{name}={value!r} must be a number.")
    return value


def finite(name: str, value: float) -> float:
    """The value. Raises LikewiseError on what is no number, on NaN and on infinity."""
    if not isfinite(number(name, value)):
        raise LikewiseError(f"{name}={value} must be a finite number.")
    return value


def above_zero(name: str, value: float, advice: str) -> float:
    """The value as a float. Raises LikewiseError when it is 0, negative, NaN or infinite."""
    if not number(name, value) > 0 or isinf(value):
        raise LikewiseError(f"{name}={value} must be above 0; {advice}.")
    return float(value)


@contextmanager
def room_for(what: str) -> Iterator[None]:
    """Raises LikewiseError in place of torch's RuntimeError where memory for ``what`` can't be had."""
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in NO_ROOM):
            raise
        raise LikewiseError(f"{what} need more memory than there is.") from None


def closest(
    name: str,
    known: Iterable[str],
    *,
    cutoff: float = 0.6,
    dotted: bool = False,
    shown: Callable[[str], str] = str,
) -> str:
    """``" Did you mean 'x'?"``, or nothing when no known name is close.

    Args:
        name: what was written.
        known: what could have been meant.
        cutoff: how close a name must be: 1 is equal, and at 0 the closest is always named.
        dotted: the names are those of settings (``optim.lr``), so that their last part alone may be close.
        shown: how the name that was found is written in the message.
    """
    known = list(known)
    near = get_close_matches(name, known, 1, cutoff)
    if dotted and not near:
        leaves = {other.rpartition(".")[2]: other for other in reversed(known)}
        near = [leaves[leaf] for leaf in get_close_matches(name.rpartition(".")[2], leaves, 1, 0.7)]
    return f" Did you mean {shown(near[0])!r}?" if near else ""
