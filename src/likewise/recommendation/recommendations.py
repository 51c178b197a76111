"""Items that are recommended to users, and their file.

Dimension legend: U users, N items, K recommendations of a user.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from likewise.data.items import as_id, text_of
from likewise.errors import LikewiseError, closest
from likewise.stamp import Stamp
from likewise.tables import stamped, write_arrow
from likewise.text import quoted, utf8


class Recommendation(NamedTuple):
    """An item for a user; a higher score is better. ``new``: nobody took it, so its content alone speaks for it."""

    user: str
    item: str
    score: float
    new: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Recommendations:
    """The best items for each user.

    Args:
        users: U ids, in the order in which they were asked for.
        items: N ids.
        places: (U, K) int64 items, the best first; −1 where there are fewer.
        scores: (U, K) float32.
        new: (N,) bool, the items that nobody took.
        without: users whose items have no content, so that nothing can be recommended to them.
        stamp: what made them.
    """

    users: Sequence[str]
    items: Sequence[str]
    places: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    new: npt.NDArray[np.bool_]
    without: Sequence[str]
    stamp: Stamp

    def __len__(self) -> int:
        return len(self.users)

    def __repr__(self) -> str:
        return f"Recommendations({len(self):,} users × {self.places.shape[1]}, made={self.stamp})"

    def __iter__(self) -> Iterator[Recommendation]:
        for number, user in enumerate(self.users):
            for place, score in zip(self.places[number].tolist(), self.scores[number].tolist(), strict=True):
                if place >= 0:
                    yield Recommendation(user, self.items[place], score, bool(self.new[place]))

    def of(self, user: str | int) -> list[Recommendation]:
        """Those of one user, the best first. Raises LikewiseError if there are none, with the closest user."""
        name = as_id(text_of(user).strip())
        if name not in self.users:
            raise LikewiseError(f"nothing is recommended to user {quoted(name)} here.{closest(name, self.users)}")
        return [each for each in self if each.user == name]

    def table(self) -> Any:
        """An Arrow table: user, rank (from 1), item, score, new; its metadata has the stamp."""
        import pyarrow as pa

        user, rank = np.nonzero(self.places >= 0)
        place = self.places[user, rank]
        users, items = (pa.array(map(utf8, names), pa.string()) for names in (self.users, self.items))
        columns = {
            "user": users.take(pa.array(user)),
            "rank": pa.array((rank + 1).astype(np.int32)),
            "item": items.take(pa.array(place)),
            "score": pa.array(self.scores[user, rank]),
            "new": pa.array(self.new[place]),
        }
        return stamped(pa.table(columns), self.stamp)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the table, whole or not at all, as .parquet or .csv. NAME.csv.json beside a .csv has the stamp.

        Raises LikewiseError on another ending, OSError from the file system.
        """
        write_arrow(Path(path), self.table(), self.stamp)
