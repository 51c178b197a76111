"""What a run is measured against, each with the settings to choose from.

Dimension legend: N items, K numbers of an embedding or factor, F numbers of an item's content.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from likewise.errors import LikewiseError
from likewise.graph.co_engagement import USUAL, Interactions, Settings
from likewise.graph.splits import Split
from likewise.recommendation.baselines import (
    Ease,
    ItemNeighbours,
    Popularity,
    Recommender,
    RidgePerUser,
    weights_between,
)
from likewise.recommendation.catalogue import Catalogue
from likewise.recommendation.embedded import Embedded
from likewise.recommendation.factors import als, bpr, check_implicit, ridge_to, spectral
from likewise.recommendation.histories import RULES, rule_named

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]

RIDGES = (1.0, 10.0, 100.0, 1000.0)
FACTOR_RIDGES = (1.0, 10.0)
FACTORS = (32, 64, 128)
LISTS = (20, 100)  # edges of an item in item-kNN
EASES = (100.0, 300.0, 1000.0)
SLOW_EASE, FEW_FOR_EASE = 8_000, 4_000  # above so many items λ is chosen on these few, which most users took
ALS = ((32, 1.0), (64, 1.0), (64, 10.0), (128, 10.0))  # factors, λ
BPR = ((64, 0.02), (64, 0.1))  # factors, learning rate


Make = Callable[[], Recommender]  # makes a model; what all its settings share is made already
Choices = Iterator[tuple[str, Make]]  # the settings of a model, in words, each with what makes it
Family = Callable[[Split], Choices]  # a model with all its settings, made from the training rows of a split


class Rival(NamedTuple):
    """A model by its name, with its settings.

    Args:
        name: the model.
        family: with all its settings.
        trial: a quicker model with the same settings, by which one of them is chosen; None: ``family``.
    """

    name: str
    family: Family
    trial: Family | None = None


def with_rules(known: Catalogue, embedding: Floats, rules: Sequence[str] = tuple(RULES)) -> Family:
    """Cosines of an embedding (N, K) with the items of a history, joined by each rule."""

    def family(split: Split) -> Choices:
        for name in rules:
            yield (
                name,
                partial(Embedded, split.train, len(known.users), embedding, rule_named(name), only=split.candidates),
            )

    return family


def content_factors(known: Catalogue, content: Floats, rows: Interactions) -> Iterator[tuple[str, Floats]]:
    """Factors (N, K) of the graph of training rows, predicted from content (N, F) by a ridge: for new items too.

    As CB2CF, with a linear map. One pair of words and factors for each λ and number of factors.

    Raises LikewiseError where the rows join too few items.
    """
    items = len(known)
    graph = weights_between(rows, items, USUAL)
    joined = np.flatnonzero((np.diff(graph.indptr) > 0) & known.known)
    if len(joined) < 2:
        raise LikewiseError(f"no two items with content have {USUAL.support} users in common in training.")
    factors = spectral(graph, min(FACTORS[-1], len(joined) - 1))
    for ridge in FACTOR_RIDGES:
        found = ridge_to(content, factors, joined, ridge)
        for size in FACTORS:
            yield f"{size} factors, λ = {ridge:g}", found[:, :size]


def of_content(known: Catalogue, content: Floats) -> list[Rival]:
    """What knows items by content (N, F), and so new ones too."""

    def factors(split: Split) -> Choices:
        for words, found in content_factors(known, content, split.train):
            for rule, make in with_rules(known, found)(split):
                yield (f"{words}, {rule}", make)

    def ridges(split: Split) -> Choices:
        for ridge in RIDGES:
            yield (f"λ = {ridge:g}", partial(RidgePerUser, split.train, len(known.users), content, ridge))

    return [
        Rival("content, cosine", with_rules(known, content)),
        Rival("content → factors", factors),
        Rival("ridge per user", ridges),
    ]


def of_interactions(known: Catalogue) -> list[Rival]:
    """What knows items by who took them: nothing of an item without rows."""
    users, items = len(known.users), len(known)

    def popular(split: Split) -> Choices:
        yield ("", partial(Popularity, split.train, users, items))

    def neighbours(split: Split) -> Choices:
        for k in LISTS:
            yield (f"{k} neighbours", partial(ItemNeighbours, split.train, users, items, Settings(support=1, k=k)))

    def ease(split: Split, only: Ints | None = None) -> Choices:
        for ridge in EASES:
            yield (f"λ = {ridge:g}", partial(Ease, split.train, users, items, ridge, only))

    def ease_of_few(split: Split) -> Choices:
        taken = Popularity(split.train, users, items).counts
        often = np.sort(np.argsort(-taken, kind="stable")[:FEW_FOR_EASE])
        return ease(split, only=often if np.count_nonzero(taken) > SLOW_EASE else None)

    def squares(split: Split) -> Choices:
        check_implicit()
        for size, ridge in ALS:
            yield (f"{size} factors, λ = {ridge:g}", partial(als, split.train, users, items, size, ridge))

    def pairwise(split: Split) -> Choices:
        check_implicit()
        for size, rate in BPR:
            yield (f"{size} factors, rate {rate:g}", partial(bpr, split.train, users, items, size, rate))

    return [
        Rival("popularity", popular),
        Rival("item neighbours", neighbours),
        Rival("EASE", ease, trial=ease_of_few),
        Rival("ALS (implicit)", squares),
        Rival("BPR (implicit)", pairwise),
    ]
