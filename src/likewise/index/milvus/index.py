"""An index on a server of Milvus as it is searched: by id, row or file, with conditions."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from likewise.data.items import as_id
from likewise.errors import LikewiseError
from likewise.index.asked import SOME, Searched, checked
from likewise.index.conditions import parse_all
from likewise.index.hits import Hit
from likewise.index.milvus import manifest, search
from likewise.index.milvus.client import NOW, SOON, Milvus
from likewise.index.milvus.fields import literal, query_row
from likewise.index.milvus.manifest import About
from likewise.index.milvus.url import Server

T = TypeVar("T")
FRESH = 10.0  # seconds for which a generation that was just seen is read as new as can be; Milvus lags by 5


class MilvusIndex(Searched):
    """Search by inner product over the items of a collection.

    A renewal is noticed some seconds later; until then the former items are found, all of them.

    Args:
        server: with the name of the index.
        read: a function from the path of a file to its row (D,), for searches by path.

    Raises:
        LikewiseError: the server is away or has no such index; pymilvus is not installed.

    Cost: a connection. Scores are Milvus', inner products in float32.
    """

    kind = "milvus"

    def __init__(self, server: Server, read: Callable[[str], Tensor] | None = None) -> None:
        self.read = read
        self._milvus = Milvus(server)
        found = manifest.read(self._milvus, NOW)
        if found is None:
            raise LikewiseError(
                f"{self._milvus} has no index {server.name}; make it again: likewise index RUN DATA --to '{server}'."
            )
        self._take(found)

    def __repr__(self) -> str:
        return f"MilvusIndex({self._milvus.server}, engine={self.about.engine}, protocol={self.protocol})"

    def __len__(self) -> int:
        """Number of items."""
        self._look(SOON)
        return self.about.items

    def _found(
        self, queries: Tensor, k: int, excluded: list[str | None], where: str | Sequence[str]
    ) -> list[list[Hit]]:
        conditions = parse_all(where)

        def found() -> list[list[Hit]]:
            a = self.about
            rows = checked(queries, a.layout.dim).float().cpu().numpy()
            effort = a.promise.effort if a.promise else 0
            return search.nearest(self._milvus, a, rows, k, excluded, conditions, level=self._level(), effort=effort)

        return self._of_one_generation(found)

    def row_by_id(self, item: str) -> Tensor | None:
        """(D,) the row that searches for the item of an id; None of an unknown id."""

        def found() -> Tensor | None:
            a = self.about
            field = "query_embedding" if a.layout.queries else "embedding"
            which = f"{a.visible()} and id == {literal(as_id(item))}"
            rows = self._milvus.read(a.collection, which, [field], self._level())
            if not rows:
                return None
            return torch.from_numpy(
                query_row(rows[0][field]).copy() if a.layout.queries else np.array(rows[0][field], np.float32)
            )

        return self._of_one_generation(found)

    def some_ids(self) -> Sequence[str]:
        """Some ids, among which that of a misspelt one is looked for."""
        a = self.about
        most = min(SOME, search.MOST)
        return [row["id"] for row in self._milvus.read(a.collection, a.visible(), ["id"], SOON, limit=most)]

    def _level(self) -> str:
        """How new the rows must be that are read, so that all of this generation are there."""
        return NOW if time.monotonic() - self._seen < FRESH else SOON

    def _look(self, level: str) -> bool:
        """Whether there is a newer generation. Raises LikewiseError when another model has made it."""
        found = manifest.read(self._milvus, level)
        if found is None or found.generation <= self.about.generation:
            return False
        if found.protocol.get("model") != self.protocol.get("model"):
            raise LikewiseError(f"another model has renewed {self._milvus.server} meanwhile; load the run again.")
        self._take(found)
        return True

    def _take(self, found: About) -> None:
        self.about, self.protocol, self._seen = found, found.protocol, time.monotonic()

    def _of_one_generation(self, question: Callable[[], T]) -> T:
        """An answer. A collection that a renewal has replaced meanwhile is looked for again."""
        self._look(SOON)
        try:
            return question()
        except LikewiseError:
            if not self._look(NOW):
                raise
            return question()

    def close(self) -> None:
        """Ends the connection."""
        self._milvus.close()
