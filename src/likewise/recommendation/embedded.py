"""Cosines of an embedding between the items of a history and all items, joined by a rule. Content is an embedding too.

Dimension legend: N items, D numbers of an embedding, B users of a block, M items of their histories, C items scored.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from likewise.graph.co_engagement import Interactions, scipy_sparse
from likewise.recommendation.baselines import matrix
from likewise.recommendation.histories import Rule, mean

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating[Any]]
CELLS = 1 << 24  # cosines at once
SPARSE = 0.05  # share of numbers above 0, below which rows are kept sparse


def unit(rows: Floats) -> npt.NDArray[np.float32]:
    """Rows scaled to length 1, as float32; a row of zeros, an item without content, stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)


class Units:
    """Rows (N, D) scaled to length 1. If most numbers are 0, as of words, they are kept sparse.

    Attributes:
        there: (N,) bool, the rows that are not of zeros.
    """

    def __init__(self, rows: Floats) -> None:
        units = unit(rows)
        self.there: Bools = np.abs(units).sum(1) > 0
        self._sparse = np.count_nonzero(units) < SPARSE * units.size
        self._rows: Any = scipy_sparse().csr_array(units) if self._sparse else units

    def cosines(self, left: Ints, right: Ints) -> npt.NDArray[np.float32]:
        """(L, R) of some rows with others; 0 with a row of zeros."""
        found = self._rows[left] @ self._rows[right].T
        cosines: npt.NDArray[np.float32] = found.toarray() if self._sparse else found
        return cosines


class Embedded:
    """Scores by the cosines of an item with those of a user's history.

    Args:
        rows: the histories.
        users: their number.
        embedding: (N, D). A row of zeros is an item without content: it has score 0 for all, and says nothing in a
            history.
        rule: of :mod:`likewise.recommendation.histories`.
        only: (N,) bool, the items that are scored; the others have 0. None: all.

    Cost: for a block of users M·C·D, and the rule for each user.
    """

    def __init__(
        self, rows: Interactions, users: int, embedding: Floats, rule: Rule = mean, *, only: Bools | None = None
    ) -> None:
        self._units, self._rule, self._size = Units(embedding), rule, len(embedding)
        known = self._units.there[rows.item]
        self._taken = matrix(Interactions(rows.user[known], rows.item[known], None), users, len(embedding))
        self._scored = np.flatnonzero(self._units.there if only is None else self._units.there & only)

    def scores(self, users: Ints) -> Floats:
        """See :class:`likewise.recommendation.baselines.Recommender`. A user without a history gets zeros."""
        found = np.zeros((len(users), self._size), np.float32)
        histories = self._taken[users]
        items, place = np.unique(histories.indices, return_inverse=True)
        ends = histories.indptr
        step = max(1, CELLS // max(1, len(items)))
        for start in range(0, len(self._scored) if len(items) else 0, step):
            columns = self._scored[start : start + step]
            cosines = self._units.cosines(items, columns)
            for user in np.flatnonzero(np.diff(ends)):
                found[user, columns] = self._rule(cosines[place[ends[user] : ends[user + 1]]])
        return found
