"""Factors: short rows of numbers for items whose products say who goes together, from a graph or from interactions.

Dimension legend: U users, N items, B users of a block, K numbers of a factor, F numbers of an item's content.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from likewise.errors import LikewiseError, at_least_one
from likewise.graph.co_engagement import Interactions
from likewise.recommendation.baselines import Ridge, as_float64, matrix

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]


def spectral(edges: Any, size: int, seed: int = 0) -> Floats:
    """(N, size) factors of a graph: eigenvectors of the symmetric matrix of its weights, times √|eigenvalue|.

    The largest |eigenvalue| comes first, so that the first columns are the factors of a smaller size.

    ``edges`` is a square sparse array. Raises LikewiseError where ``size`` is not below N. Cost: that of scipy's eigsh.
    """
    from scipy.sparse.linalg import eigsh

    items = edges.shape[0]
    if not 1 <= at_least_one("size", size, "it is a number of factors") < items:
        raise LikewiseError(f"size={size} must be below the {items:,} items.")
    start = np.random.default_rng(seed).normal(size=items)
    values, vectors = eigsh((edges + edges.T).tocsr().astype(np.float64) / 2, k=size, v0=start)
    order = np.argsort(-np.abs(values), kind="stable")
    found: Floats = (vectors * np.sqrt(np.abs(values)))[:, order]
    return found


def ridge_to(features: Floats, factors: Floats, known: Ints, regularisation: float = 10.0) -> Floats:
    """(N, K) factors of all items, predicted from content by a ridge on the ``known`` items (CB2CF's linear form)."""
    ridge = Ridge(as_float64(features)[known], regularisation)
    found: Floats = features @ ridge.weights(factors[known].T).T
    return found


class Factors:
    """The products of factors of users (U, K) and items (N, K)."""

    def __init__(self, users: Floats, items: Floats) -> None:
        self._users, self._items = users, items

    def scores(self, users: Ints) -> Floats:
        """See :class:`likewise.recommendation.baselines.Recommender`."""
        found: Floats = self._users[users] @ self._items.T
        return found


def als(rows: Interactions, users: int, items: int, size: int = 64, regularisation: float = 1.0) -> Factors:
    """Factors by implicit's alternating least squares (Hu, Koren and Volinsky 2008): 15 passes, α = 5.

    Raises LikewiseError if implicit is not installed.
    """
    check_implicit()
    from implicit.cpu.als import AlternatingLeastSquares

    with _quiet():
        model = AlternatingLeastSquares(
            factors=size,
            regularization=regularisation,
            alpha=5.0,
            iterations=15,
            num_threads=torch.get_num_threads(),
            random_state=0,
        )
        model.fit(matrix(rows, users, items), show_progress=False)
    return Factors(model.user_factors, model.item_factors)


def bpr(rows: Interactions, users: int, items: int, size: int = 64, rate: float = 0.05) -> Factors:
    """Factors by implicit's Bayesian personalised ranking (Rendle et al. 2009): 100 passes, on one thread.

    Raises LikewiseError if implicit is not installed.
    """
    check_implicit()
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    with _quiet():
        model = BayesianPersonalizedRanking(
            factors=size, learning_rate=rate, regularization=0.01, iterations=100, num_threads=1, random_state=0
        )
        model.fit(matrix(rows, users, items), show_progress=False)
    return Factors(model.user_factors, model.item_factors)


def check_implicit() -> None:
    """Raises LikewiseError if implicit is not installed."""
    try:
        import implicit  # noqa: F401
    except ImportError:
        raise LikewiseError('ALS and BPR are those of implicit; pip install "likewise[recommend]".') from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without implicit's advice on the threads of BLAS."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
