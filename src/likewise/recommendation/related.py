"""Related items: how well the items that are nearest to an item are those that the same users like.

Dimension legend: U users, N items, C candidates, Q items that are asked (queries), B of a block.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from likewise.console import Tick, untold
from likewise.errors import LikewiseError, at_least_one
from likewise.graph.co_engagement import Interactions
from likewise.metrics.conventions import Convention
from likewise.metrics.ranking import Ranked
from likewise.recommendation.baselines import Popularity, matrix
from likewise.recommendation.embedded import Units
from likewise.recommendation.measure import Lists, blocks, full_ranking

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating[Any]]
FEWEST_LIKES = 5  # of an item that is asked
NAMES = ("ndcg",)  # nearly all items are a little related, so that measures without grades say nothing
GRADED = Convention(gains="linear", empty="skip")


class Relater(Protocol):
    """What is measured."""

    def near(self, items: Ints) -> Floats:
        """(B, N) scores of all items for the items (B,)."""


class Cosines:
    """The cosines of an embedding's rows (N, D). A row of zeros, an item without content, has 0 to all."""

    def __init__(self, embedding: Floats) -> None:
        self._units, self._every = Units(embedding), np.arange(len(embedding))

    def near(self, items: Ints) -> Floats:
        """See :class:`Relater`."""
        return self._units.cosines(items, self._every)


class Popular:
    """The items that most users took, the same for each item."""

    def __init__(self, rows: Interactions, users: int, items: int) -> None:
        self._model = Popularity(rows, users, items)

    def near(self, items: Ints) -> Floats:
        """See :class:`Relater`."""
        return self._model.scores(items)


class RelatedItems:
    """What is asked: which items the same users like as an item.

    The relevance of item j for the query i is the cosine of who likes them, ``count(i, j) / √(n(i) n(j))``, from all
    rows that are given; without a least number of common users. Gains are linear. All candidates are ranked but the
    query.

    Args:
        rows: the interactions that say which items are related.
        users: U.
        items: N.
        asked: (N,) bool, the items that may be queries; those with ``fewest`` users or more are.
        candidates: (N,) bool, the items that are ranked.
        fewest: the fewest users of a query.

    Attributes:
        queries: (Q,) int64, the items that are asked.
        columns: (C,) int64, the candidates.

    Raises:
        LikewiseError: no query has as many users.
    """

    def __init__(
        self,
        rows: Interactions,
        users: int,
        items: int,
        *,
        asked: Bools,
        candidates: Bools,
        fewest: int = FEWEST_LIKES,
    ) -> None:
        self._taken = matrix(rows, users, items)
        self._users = np.asarray(self._taken.sum(0), np.float64)
        self.columns = np.flatnonzero(candidates)
        self.queries = np.flatnonzero(
            asked & (self._users >= at_least_one("fewest", fewest, "it is a number of users"))
        )
        if not len(self.queries):
            raise LikewiseError(f"no item that is held out has {fewest} users or more, so none can be asked.")
        self.about = f"{len(self.queries):,} items with {fewest} users or more, each among {len(self.columns):,} items"

    def relevance(self, queries: Ints) -> Floats:
        """(B, C) float64 relevance of the candidates."""
        together = (self._taken[:, queries].T @ self._taken[:, self.columns]).toarray().astype(np.float64)
        both = np.outer(self._users[queries], self._users[self.columns])
        found: Floats = together / np.sqrt(np.where(both > 0, both, 1))
        return found

    def measure(
        self,
        model: Relater,
        *,
        k: int = 10,
        only: Ints | None = None,
        tick: Tick = untold,
    ) -> dict[str, Ranked]:
        """NDCG@k of the queries (or of ``only`` some of them), by name. Cost: that of the scores, and sorts."""
        queries = self.queries if only is None else only

        def parts() -> Iterator[Lists]:
            for part in blocks(queries, self._taken.shape[1]):
                scores = np.asarray(model.near(part))[:, self.columns]
                yield Lists(scores, self.relevance(part), part[:, None] != self.columns)

        return full_ranking(parts(), len(queries), k=k, names=NAMES, convention=GRADED, tick=tick)[0]
