"""Recommenders that a new one is measured against. Each is made from training rows, and scores all items for users.

Dimension legend: U users, N items, B users of a block, F numbers of an item's content.
"""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from likewise.errors import LikewiseError, above_zero, at_least_one
from likewise.graph.co_engagement import Interactions, Settings, co_engagement, scipy_sparse
from likewise.recommend.histories import Rule, mean

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]
ADVICE = "100 is usual"
MOST_ITEMS = 20_000  # of a matrix of all pairs of items
NEIGHBOURS = Settings(support=1, k=100)


class Recommender(Protocol):
    """What is measured."""

    def scores(self, users: Ints) -> Floats:
        """(B, N) scores of all items for users (B,)."""


def matrix(rows: Interactions, users: int, items: int) -> Any:
    """(U, N) csr_array of float32: 1 where a user took an item. Raises LikewiseError if SciPy is not installed."""
    ones = np.ones(len(rows.user), np.float32)
    found = scipy_sparse().coo_array((ones, (rows.user, rows.item)), shape=(users, items)).tocsr()
    found.data[:] = 1  # a row that comes twice counts once
    return found


class Popularity:
    """The items that most users took, the same for all."""

    def __init__(self, rows: Interactions, users: int, items: int) -> None:
        self.counts = np.asarray(matrix(rows, users, items).sum(0), np.float64)

    def scores(self, users: Ints) -> Floats:
        """See :class:`Recommender`."""
        return np.broadcast_to(self.counts, (len(users), len(self.counts)))


class ItemNeighbours:
    """The sum of the weights of a co-engagement graph's edges from the history: item-kNN with cosine weights.

    Args:
        settings: those of :func:`likewise.graph.co_engagement.co_engagement`.
    """

    def __init__(self, rows: Interactions, users: int, items: int, settings: Settings = NEIGHBOURS) -> None:
        edges = co_engagement(Interactions(rows.user, rows.item, rows.time), items, settings)
        places = edges.item, edges.other
        self._edges = scipy_sparse().coo_array((edges.weight, places), shape=(items, items)).tocsr()
        self._taken = matrix(rows, users, items)

    def scores(self, users: Ints) -> Floats:
        """See :class:`Recommender`."""
        found: Floats = (self._taken[users] @ self._edges).toarray()
        return found


class Ease:
    """EASE (Steck 2019): ``B = I − P / diag(P)`` with ``P = (XᵀX + λ I)⁻¹``, the best linear map of histories to items.

    Args:
        regularisation: λ, above 0.

    Raises:
        LikewiseError: more than 20,000 items, whose matrix of all pairs takes over 3 GB.

    Cost: O(N³) time, 16·N² bytes.
    """

    def __init__(self, rows: Interactions, users: int, items: int, regularisation: float = 100.0) -> None:
        if items > MOST_ITEMS:
            raise LikewiseError(f"EASE needs a matrix of all pairs of {items:,} items; it takes up to {MOST_ITEMS:,}.")
        self._taken = matrix(rows, users, items)
        gram = np.asarray((self._taken.T @ self._taken).toarray(), np.float64)
        inverse = np.linalg.inv(gram + above_zero("regularisation", regularisation, ADVICE) * np.eye(items))
        weights = inverse / -np.diag(inverse)
        np.fill_diagonal(weights, 0)
        self._weights = weights.astype(np.float32)

    def scores(self, users: Ints) -> Floats:
        """See :class:`Recommender`."""
        found: Floats = self._taken[users] @ self._weights
        return found


class Embedded:
    """Cosines of an embedding between a user's history and all items, joined by a rule. Content features are one too.

    Args:
        rows: the histories.
        embedding: (N, D); rows are scaled to length 1, and a row of zeros stays: an item without content.
        rule: of :mod:`likewise.recommend.histories`.
    """

    def __init__(self, rows: Interactions, users: int, embedding: Floats, rule: Rule = mean) -> None:
        lengths = np.linalg.norm(embedding, axis=1, keepdims=True)
        self._units = (embedding / np.where(lengths > 0, lengths, 1)).astype(np.float32)
        self._taken, self._rule = matrix(rows, users, len(embedding)), rule

    def scores(self, users: Ints) -> Floats:
        """See :class:`Recommender`. A user without a history gets zeros."""
        found = np.zeros((len(users), len(self._units)), np.float32)
        for place, user in enumerate(users.tolist()):
            taken = self._taken.indices[self._taken.indptr[user] : self._taken.indptr[user + 1]]
            if len(taken):
                found[place] = self._rule(self._units[taken] @ self._units.T)
        return found


class RidgePerUser:
    """A ridge regression for each user, from content to what the user took among the items of training:

    ``w_u = (Fᵀ F + λ I)⁻¹ Fᵀ x_u``, one inverse for all users. It scores new items too, from content alone.

    Args:
        features: (N, F) content.
        regularisation: λ, above 0.

    Cost: O(N·F² + F³) once; O(F·N) for a user.
    """

    def __init__(self, rows: Interactions, users: int, features: Floats, regularisation: float = 100.0) -> None:
        known = np.unique(rows.item)
        self._features = np.asarray(features, np.float64)
        content = self._features[known]
        gram = content.T @ content + above_zero("regularisation", regularisation, ADVICE) * np.eye(content.shape[1])
        self._map = np.linalg.solve(gram, content.T).T  # (known, F)
        self._taken, self._known = matrix(rows, users, len(features)), known

    def scores(self, users: Ints) -> Floats:
        """See :class:`Recommender`."""
        found: Floats = (self._taken[users][:, self._known] @ self._map) @ self._features.T
        return found


def spectral(edges: Any, size: int, seed: int = 0) -> Floats:
    """(N, size) factors of a graph: eigenvectors of the symmetric matrix of its weights, times √|eigenvalue|.

    ``edges`` is a square sparse array. Raises LikewiseError where ``size`` is not below N. Cost: that of scipy's eigsh.
    """
    from scipy.sparse.linalg import eigsh

    items = edges.shape[0]
    if not 1 <= at_least_one("size", size, "it is a number of factors") < items:
        raise LikewiseError(f"size={size} must be below the {items:,} items.")
    start = np.random.default_rng(seed).normal(size=items)
    values, vectors = eigsh((edges + edges.T).tocsr().astype(np.float64) / 2, k=size, v0=start)
    found: Floats = vectors * np.sqrt(np.abs(values))
    return found


def ridge_to(features: Floats, factors: Floats, known: Ints, regularisation: float = 10.0) -> Floats:
    """(N, K) factors of all items, predicted from content by a ridge on the ``known`` items (CB2CF's linear form)."""
    content = np.asarray(features[known], np.float64)
    gram = content.T @ content + above_zero("regularisation", regularisation, ADVICE) * np.eye(content.shape[1])
    found: Floats = features @ np.linalg.solve(gram, content.T @ factors[known])
    return found
