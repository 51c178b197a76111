"""Errors, which stop the work, and warnings, which do not; a check of counts, and the closest known name."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from operator import index
from signal import SIGINT
from typing import SupportsIndex


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
    """A count as an int. Raises LikewiseError on what is no whole number, or below 1."""
    whole = not isinstance(value, bool | float)
    if not whole or index(value) < 1:
        raise LikewiseError(f"{name}={value} must be {'at least 1' if whole else 'a whole number'}; {advice}.")
    return index(value)


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
