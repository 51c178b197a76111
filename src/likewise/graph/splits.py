"""Divides interactions into what may be learned from and what is asked.

Dimension legend: R rows of interactions, N items.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from likewise.errors import LikewiseError, at_least_one, closest
from likewise.graph.co_engagement import Interactions
from likewise.stamp import Stamp

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
SPLITS = ("cold-items", "per-user", "time")
WHOLE = "none"  # in the stamp of a graph that was made of all rows
SEVERAL = "several"  # of a run that learned from several graphs, one after the other
SHARE = 0.2  # of what is held out
FEWEST_USERS = 100  # of a split by time
_VALIDATION = 1000  # is added to the seed of a split within the training rows


class Split(NamedTuple):
    """A division of interactions.

    Args:
        train: the rows that may be learned from.
        asked: the rows that are held out: which items each user took.
        candidates: (N,) bool, the items that are ranked; those that a user has in ``train`` never are.
        about: the rule in words, for the table.
    """

    train: Interactions
    asked: Interactions
    candidates: Bools
    about: str


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """How interactions are divided: the same rule, rows, share and seed give the same split.

    Args:
        name: "cold-items", "per-user" or "time"; see :func:`cold_items`, :func:`per_user`, :func:`by_time`.
        share: of what is held out, above 0 and below 1.
        seed: of the draw of cold items; the others draw nothing.
        fewest_users: a split by time refuses to leave fewer.

    Raises:
        LikewiseError: a name that is none, with the closest one.
    """

    name: str
    share: float = SHARE
    seed: int = 0
    fewest_users: int = FEWEST_USERS

    def __post_init__(self) -> None:
        if self.name not in SPLITS:
            raise LikewiseError(
                f"there is no split {self.name!r}.{closest(self.name, SPLITS)} There are {', '.join(SPLITS)}."
            )
        _check_share(self.share)

    def divide(self, rows: Interactions, items: int) -> Split:
        """The split of these rows, whose items are numbers below ``items``. Raises LikewiseError as the rules do."""
        if self.name == "cold-items":
            return cold_items(rows, items, share=self.share, seed=self.seed)
        if self.name == "per-user":
            return per_user(rows, items, share=self.share)
        return by_time(rows, items, share=self.share, users=self.fewest_users)

    def within_training(self) -> "SplitRule":
        """The same rule for a validation split of training rows. It draws other items, and few users are enough."""
        return replace(self, seed=self.seed + _VALIDATION, fewest_users=1)

    def stamp(self) -> Stamp:
        """What decides which rows are held out."""
        return {"split": self.name, "share": self.share, "seed": self.seed}


def split_in(stamp: Mapping[str, object]) -> str:
    """The name of the split in the stamp of a graph; "none" if it was made of all rows."""
    return str(stamp.get("split", WHOLE))


def cold_items(rows: Interactions, items: int, *, share: float = SHARE, seed: int = 0) -> Split:
    """Some of the items that anyone took have no interaction in training; they alone are ranked.

    Raises LikewiseError where a share is not between 0 and 1, or either side would be empty. Cost: O(R + N).
    """
    _check_share(share)
    known = np.unique(rows.item)
    cold = np.zeros(items, dtype=bool)
    cold[np.random.default_rng(seed).permutation(known)[: round(share * len(known))]] = True
    held = cold[rows.item]
    split = _divided(rows, held, cold, f"cold items: {cold.sum():,} of {len(known):,} items, drawn by seed {seed}")
    return split


def per_user(rows: Interactions, items: int, *, share: float = SHARE, fewest: int = 5) -> Split:
    """The last items of each user are asked; of equal times, those with the larger number.

    Users with fewer than ``fewest`` rows are learned from, and not asked.

    Raises LikewiseError without times, where a share is not between 0 and 1, and where either side would be empty.
    Cost: O(R log R).
    """
    _check_share(share)
    at_least_one("fewest", fewest, "it is a number of rows of a user")
    time = _times(rows, "per-user")
    order = np.lexsort((rows.item, time, rows.user))
    user = rows.user[order]
    begins = np.flatnonzero(np.diff(user, prepend=-1))
    sizes = np.diff(np.append(begins, len(user)))
    place = np.arange(len(user)) - np.repeat(begins, sizes)
    asked = np.where(sizes >= fewest, np.maximum(1, np.rint(share * sizes)), 0)
    held = np.zeros(len(user), dtype=bool)
    held[order] = place >= np.repeat(sizes - asked, sizes)
    every = np.ones(items, dtype=bool)
    return _divided(rows, held, every, f"per user: the last {share:.0%} of each user with {fewest} or more")


def by_time(rows: Interactions, items: int, *, share: float = SHARE, users: int = FEWEST_USERS) -> Split:
    """What came after a moment is asked. Of users who have rows on both sides of it.

    The only split in which nothing of the future is known. Where people gave all their ratings on one day, few users
    remain (MovieLens-small: 20), and a mean over them says nothing.

    Raises LikewiseError without times, and where fewer than ``users`` remain, with their number. Cost: O(R log R).
    """
    _check_share(share)
    at_least_one("users", users, "it is the fewest users that are asked")
    time = _times(rows, "time")
    held = time > np.quantile(time, 1 - share)
    both = np.intersect1d(rows.user[~held], rows.user[held])
    if len(both) < users:
        raise LikewiseError(
            f"a split by time leaves {len(both):,} users with items before and after the moment, fewer than {users:,}: "
            "their mean says little; take per-user or cold-items, or allow fewer users."
        )
    kept = ~held | np.isin(rows.user, both)
    rows, held = _chosen(rows, kept), held[kept]
    every = np.ones(items, dtype=bool)
    return _divided(rows, held, every, f"time: the last {share:.0%} of all rows, {len(both):,} users")


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise LikewiseError(f"share={share} must be above 0 and below 1: what is held out.")


def _times(rows: Interactions, name: str) -> npt.NDArray[Any]:
    if rows.time is None:
        raise LikewiseError(f"a {name} split needs a time for each interaction; name the column, or take cold-items.")
    return rows.time


def _chosen(rows: Interactions, kept: Bools) -> Interactions:
    return Interactions(rows.user[kept], rows.item[kept], None if rows.time is None else rows.time[kept])


def _divided(rows: Interactions, held: Bools, candidates: Bools, about: str) -> Split:
    if not held.any() or held.all():
        raise LikewiseError(f"{about}: one side would be empty; {len(rows.user):,} rows are too few, or change share.")
    return Split(_chosen(rows, ~held), _chosen(rows, held), candidates, about)
