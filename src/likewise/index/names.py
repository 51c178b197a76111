"""The ids of an index: which row has an id."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from likewise.data.items import as_id
from likewise.errors import LikewiseError, closest
from likewise.text import quoted, shortened, utf8


def number_of(item: str) -> int:
    """A number of 63 bits that an id has everywhere: blake2b of its UTF-8."""
    return int.from_bytes(blake2b(utf8(item), digest_size=8).digest()) >> 1


class Names:
    """The ids of rows, in their order, and the row of each.

    Unicode's two forms of "é" are one id. Memory: the texts, and 16 bytes for each: a sorted hash in place of a dict.

    Raises:
        LikewiseError: an id occurs twice.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = tuple(ids)
        hashes = np.fromiter((hash(as_id(item)) for item in self.ids), np.int64, len(self.ids))
        self._order = np.argsort(hashes, kind="stable")
        self._sorted = hashes[self._order]
        for place in np.flatnonzero(self._sorted[1:] == self._sorted[:-1]).tolist():
            first, second = (self.ids[row] for row in sorted(self._order[place : place + 2].tolist()))
            if as_id(first) == as_id(second):
                forms = "" if first == second else ", in two Unicode forms"
                raise LikewiseError(f"id {quoted(first)} occurs twice{forms}; ids must name one item each.")

    def and_then(self, other: "Names") -> "Names":
        """These ids and then those of another, none of which is among these. No id is hashed again."""
        names = object.__new__(Names)
        names.ids = self.ids + other.ids
        places = np.searchsorted(self._sorted, other._sorted)
        names._sorted = np.insert(self._sorted, places, other._sorted)
        names._order = np.insert(self._order, places, other._order + len(self))
        return names

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, item: str) -> bool:
        return self.row(item) >= 0

    def row(self, item: str) -> int:
        """The row of an id; −1 of an unknown one."""
        name = as_id(item)
        low, high = (
            np.searchsorted(self._sorted, hash(name), "left"),
            np.searchsorted(self._sorted, hash(name), "right"),
        )
        return next((int(row) for row in self._order[low:high] if as_id(self.ids[row]) == name), -1)

    def places(self, items: Sequence[str]) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        """(n,) the rows of many ids; −1 of an unknown one."""
        wanted = np.fromiter((hash(as_id(item)) for item in items), np.int64, len(items))
        near = np.minimum(np.searchsorted(self._sorted, wanted), len(self) - 1)
        found = np.where(self._sorted[near] == wanted, self._order[near], -1)
        for place in np.flatnonzero(found >= 0).tolist():
            if self.ids[found[place]] != items[place]:
                found[place] = self.row(items[place])
        return found

    def rows(self, items: Sequence[str]) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        """The rows of ids. Raises LikewiseError on an unknown one, with the closest that is known."""
        found = self.places(items)
        if len(unknown := np.flatnonzero(found < 0)):
            item = items[unknown[0]]
            hint = closest(item, self.ids[:100_000], shown=shortened)
            raise LikewiseError(f"no item of the index has the id {quoted(item)}.{hint}")
        return found
