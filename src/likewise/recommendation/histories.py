"""Rules that join a user's history of items into a score of each item. The rule decides more than the embedding.

Dimension legend: B users, N items, D numbers of an embedding, H items of a history.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from likewise.errors import LikewiseError, above_zero, at_least_one, closest

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


def rule_named(name: str) -> Rule:
    """ "mean", "softmax" (τ = 0.05), or "top-3" with any number. Raises LikewiseError, with the closest, on others."""
    if found := re.fullmatch(r"top-([1-9]\d{0,5})", name):
        return top(int(found[1]))
    if name not in RULES:
        raise LikewiseError(
            f"there is no rule {name!r}.{closest(name, RULES)} There are mean, softmax, and top-3 (or 1, 10 …)."
        )
    return RULES[name]


AUTO = "auto"  # the rule is chosen on a validation split
RULES: dict[str, Rule] = {"mean": mean, "top-3": top(3), "softmax": softmax()}
