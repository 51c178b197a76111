"""Rules that join a user's history of items into a score of each item. The rule decides more than the embedding.

Dimension legend: B users, N items, D numbers of an embedding, H items of a history.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from likewise.errors import above_zero, at_least_one

Floats = npt.NDArray[np.floating[Any]]
Rule = Callable[[Floats], Floats]  # from cosines of a history's items with all items (H, N) to scores (N,)


def mean(cosines: Floats) -> Floats:
    """The mean cosine: a user is one point."""
    found: Floats = cosines.mean(0)
    return found


def top(k: int) -> Rule:
    """The mean of the k largest cosines: an item need be near some of the history only."""
    at_least_one("k", k, "it is a number of items of a history")

    def rule(cosines: Floats) -> Floats:
        if len(cosines) <= k:
            return mean(cosines)
        found: Floats = np.partition(cosines, len(cosines) - k, axis=0)[-k:].mean(0)
        return found

    return rule


def softmax(temperature: float = 0.05) -> Rule:
    """``Σ_h exp(cos / τ)``: between the sum, for large τ, and the nearest item alone."""
    above_zero("temperature", temperature, "0.05 is usual")

    def rule(cosines: Floats) -> Floats:
        found: Floats = np.exp((cosines - 1) / temperature).sum(0)
        return found

    return rule


RULES: dict[str, Rule] = {"mean": mean, "top-3": top(3), "softmax": softmax()}
