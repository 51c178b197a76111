"""Recommenders that a new one is measured against. Each is made from training rows, and scores all items for users.

Dimension legend: U users, N items, B users of a block, F numbers of an item's content.
"""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from likewise.errors import LikewiseError, above_zero
from likewise.graph.co_engagement import Interactions, Settings, co_engagement, scipy_sparse

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]
ADVICE = "100 is usual"
MOST_ITEMS = 20_000  # of a matrix of all pairs of items
MOST_NUMBERS = 1 << 29  # of the content of a ridge, in float64: 4 GB
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


def weights_between(rows: Interactions, items: int, settings: Settings) -> Any:
    """(N, N) csr_array of the weights of a co-engagement graph's edges."""
    edges = co_engagement(rows, items, settings)
    return scipy_sparse().coo_array((edges.weight, (edges.item, edges.other)), shape=(items, items)).tocsr()


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
        self._edges = weights_between(rows, items, settings)
        self._taken = matrix(rows, users, items)

    def scores(self, users: Ints) -> Floats:
        """See :class:`Recommender`."""
        found: Floats = (self._taken[users] @ self._edges).toarray()
        return found


class Ease:
    """EASE (Steck 2019): ``B = I − P / diag(P)`` with ``P = (XᵀX + λ I)⁻¹``, the best linear map of histories to items.

    Args:
        regularisation: λ, above 0.
        only: (M,) int64, the items that count, ascending; the others are as without rows. None: all with rows.

    Raises:
        LikewiseError: more than 20,000 items; their matrix of all pairs takes over 3 GB.

    Cost: for M items with rows, 2·M³ operations and 20·M² bytes.
    """

    def __init__(
        self, rows: Interactions, users: int, items: int, regularisation: float = 100.0, only: Ints | None = None
    ) -> None:
        known = np.unique(rows.item) if only is None else only
        if len(known) > MOST_ITEMS:
            raise LikewiseError(
                f"EASE needs a matrix of all pairs of {len(known):,} items; it takes up to {MOST_ITEMS:,}."
            )
        self._items, self._known, self._taken = items, known, matrix(rows, users, items)[:, known]
        gram = torch.from_numpy((self._taken.T @ self._taken).toarray().astype(np.float64))
        gram.diagonal().add_(above_zero("regularisation", regularisation, ADVICE))
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram, out=gram))
        weights = inverse.div_(-inverse.diagonal().clone()).float()
        weights.fill_diagonal_(0)
        self._weights = weights.numpy()

    def scores(self, users: Ints) -> Floats:
        """See :class:`Recommender`. An item without rows has score 0."""
        found = np.zeros((len(users), self._items), np.float32)
        found[:, self._known] = self._taken[users] @ self._weights
        return found


class RidgePerUser:
    """A ridge regression for each user, from content to what the user took among the items of training:

    ``w_u = (Fᵀ F + λ I)⁻¹ Fᵀ x_u``, one inverse for all users. It scores new items too, from content alone.

    Args:
        features: (N, F) content.
        regularisation: λ, above 0.

    Cost: that of :class:`Ridge`; O(F·N) for a user.
    """

    def __init__(self, rows: Interactions, users: int, features: Floats, regularisation: float = 100.0) -> None:
        known = np.unique(rows.item)
        self._features = as_float64(features)
        self._ridge = Ridge(self._features[known], regularisation)
        self._taken = matrix(rows, users, len(features))[:, known]

    def scores(self, users: Ints) -> Floats:
        """See :class:`Recommender`."""
        found: Floats = self._ridge.weights(self._taken[users]) @ self._features.T
        return found


def as_float64(features: Floats) -> Floats:
    """Content for a ridge. Raises LikewiseError where it would take more than 4 GB, such as large images as pixels."""
    if features.size > MOST_NUMBERS:
        count, width = features.shape
        raise LikewiseError(f"a ridge on {count:,} items of {width:,} numbers takes more than 4 GB.")
    return np.asarray(features, np.float64)


class Ridge:
    """The weights of a ridge from content: ``(Fᵀ F + λ I)⁻¹ Fᵀ y``, for any number of targets y.

    Args:
        content: (M, F) float64.
        regularisation: λ, above 0.

    Cost: O(M·F·min(M, F)); O(F²) for a target. For M < F it is ``Fᵀ (F Fᵀ + λ I)⁻¹ y``.
    """

    def __init__(self, content: Floats, regularisation: float) -> None:
        self._wide = content.shape[0] < content.shape[1]
        gram = torch.from_numpy(content @ content.T if self._wide else content.T @ content)
        gram.diagonal().add_(above_zero("regularisation", regularisation, ADVICE))
        self._root = torch.linalg.cholesky(gram)
        self._of = self._solved(content) if self._wide else content

    def _solved(self, right: Floats) -> Floats:
        found: Floats = torch.cholesky_solve(torch.from_numpy(np.ascontiguousarray(right)), self._root).numpy()
        return found

    def weights(self, targets: Any) -> Floats:
        """(T, F) weights for targets (T, M), an array or a sparse array."""
        products = np.asarray(targets @ self._of, np.float64)
        return products if self._wide else self._solved(products.T).T
