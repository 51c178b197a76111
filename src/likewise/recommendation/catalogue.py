"""The items of interactions and those with content, under one numbering.

Dimension legend: N items, D numbers of an item.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from likewise.data import Items
from likewise.data.parts import ids_that_meet
from likewise.errors import LikewiseError, closest
from likewise.graph.co_engagement import Interactions
from likewise.graph.interactions import Log
from likewise.graph.splits import Split
from likewise.text import quoted

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Catalogue:
    """All items, by number: a smaller id has a smaller number.

    Args:
        ids: N ids, ascending.
        users: the users' ids, by number.
        rows: the interactions, with these numbers.
        content: (N,) int64 row of the item in DATA; −1 for an item without content.
        notes: what people should know, one line each.
    """

    ids: Sequence[str]
    users: Sequence[str]
    rows: Interactions
    content: Ints
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def known(self) -> Bools:
        """(N,) whether an item has content."""
        return self.content >= 0

    def with_content(self, split: Split) -> Split:
        """A split whose candidates have content."""
        return split._replace(candidates=split.candidates & self.known)

    def spread(self, values: Floats) -> npt.NDArray[np.float32]:
        """(N, D) float32 values of all items, from those of DATA; zeros for an item without content."""
        found = np.zeros((len(self.ids), values.shape[1]), np.float32)
        found[self.known] = values[self.content[self.known]]
        return found


def catalogue(log: Log, items: Items) -> Catalogue:
    """Joins interactions and content by id.

    Raises LikewiseError where no item of the interactions has content. Cost: O(R + N log N).
    """
    ids = sorted({*log.items, *items.ids})
    number = {name: place for place, name in enumerate(ids)}
    content = np.full(len(ids), -1, dtype=np.int64)
    content[[number[name] for name in items.ids]] = np.arange(len(items))
    taken = np.array([number[name] for name in log.items], dtype=np.int64)
    lacking = [name for name in log.items if content[number[name]] < 0]
    if len(lacking) == len(log.items):
        near = closest(log.items[0], items.ids, cutoff=0)
        raise LikewiseError(
            f"no item of {log.source} is in {items.source}: the one has ids such as {quoted(log.items[0])}, the other "
            f"{quoted(items.ids[0])}.{near} "
            + ids_that_meet(items.ids, log.items, "Name the columns of the ids with --item and --key.")
        )
    notes = list[str]()
    if lacking:
        notes.append(
            f"{len(lacking):,} of the {len(log.items):,} items of {log.source} have no content in {items.source} (such "
            f"as {quoted(lacking[0])}): they are in histories, and are never recommended."
        )
    sizes = np.bincount(log.rows.user)
    if lone := int(np.count_nonzero(sizes == 1)):
        notes.append(f"{lone:,} of the {np.count_nonzero(sizes):,} users have one row only.")
    pairs = len(np.unique(log.rows.user * len(log.items) + log.rows.item))
    if repeated := len(log.rows.user) - pairs:
        notes.append(f"{repeated:,} rows repeat a user and item, and count once.")
    return Catalogue(
        ids=ids, users=log.users, rows=log.rows._replace(item=taken[log.rows.item]), content=content, notes=tuple(notes)
    )
