"""The list-level objectives with their oracles: loops over one list, written from the papers, in Python's floats."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from likewise.objectives.list_base import ListObjective
from likewise.objectives.list_level import (
    ApproxNDCG,
    LambdaRank,
    ListMLE,
    ListNet,
    ListSoftmax,
    Logistic,
    Ordinal,
    PairHinge,
    RankNet,
    Regression,
)

Scores = Sequence[float]
Oracle = Callable[
    [Scores, Scores], float | None
]  # of scores and relevance: the loss; None where the list does not count


class Case(NamedTuple):
    """An objective of lists, and its loop. ``moves``: adding a number to all scores of a list changes nothing."""

    name: str
    make: Callable[..., ListObjective]
    oracle: Oracle
    moves: bool = True


def log1pexp(x: float) -> float:
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def softmax(values: Scores) -> list[float]:
    top = max(values)
    exps = [math.exp(v - top) for v in values]
    return [e / sum(exps) for e in exps]


def regression(s: Scores, y: Scores) -> float | None:
    return sum((a - b) ** 2 for a, b in zip(s, y, strict=True)) / len(s) if s else None


def logistic(full: float) -> Oracle:
    def loss(s: Scores, y: Scores) -> float | None:
        targets = [min(1, max(0, grade / full)) for grade in y]
        each = [t * log1pexp(-score) + (1 - t) * log1pexp(score) for score, t in zip(s, targets, strict=True)]
        return sum(each) / len(s) if s else None

    return loss


def ordinal(thresholds: Scores) -> Oracle:
    def loss(s: Scores, y: Scores) -> float | None:
        total = 0.0
        for score, grade in zip(s, y, strict=True):
            for c, threshold in enumerate(thresholds, 1):
                total += log1pexp((threshold - score) if grade >= c else (score - threshold))
        return total / len(s) if s else None

    return loss


def better_pairs(y: Scores) -> list[tuple[int, int]]:
    return [(i, j) for i, j in itertools.permutations(range(len(y)), 2) if y[i] > y[j]]


def pairs(each: Callable[[float], float]) -> Oracle:
    def loss(s: Scores, y: Scores) -> float | None:
        found = [each(s[i] - s[j]) for i, j in better_pairs(y)]
        return sum(found) / len(found) if found else None

    return loss


def gain(grade: float, gains: str) -> float:
    return grade if gains == "linear" else 2**grade - 1


def ideal_dcg(y: Scores, k: int | None, gains: str) -> float:
    return sum(gain(grade, gains) / math.log2(r + 2) for r, grade in enumerate(sorted(y, reverse=True)[:k]))


def lambda_rank(sigma: float, k: int | None, gains: str) -> Oracle:
    """|ΔNDCG@k| by exchanging the two items and computing NDCG@k again."""

    def ndcg(order: Sequence[int], y: Scores) -> float:
        found = sum(gain(y[i], gains) / math.log2(r + 2) for r, i in enumerate(order[:k]))
        return found / ideal_dcg(y, k, gains)

    def loss(s: Scores, y: Scores) -> float | None:
        if not better_pairs(y) or ideal_dcg(y, k, gains) == 0:
            return None
        order = sorted(range(len(s)), key=lambda i: (-s[i], i))
        total = 0.0
        for i, j in better_pairs(y):
            exchanged = [{i: j, j: i}.get(item, item) for item in order]
            total += abs(ndcg(order, y) - ndcg(exchanged, y)) * log1pexp(-sigma * (s[i] - s[j]))
        return total

    return loss


def list_net(s: Scores, y: Scores) -> float | None:
    return -sum(p * math.log(q) for p, q in zip(softmax(y), softmax(s), strict=True)) if s else None


def list_softmax(s: Scores, y: Scores) -> float | None:
    total = sum(y)
    return -sum(grade / total * math.log(q) for grade, q in zip(y, softmax(s), strict=True)) if total else None


def list_mle(s: Scores, y: Scores) -> float | None:
    """For lists without ties."""
    best = [score for _, score in sorted(zip(y, s, strict=True), reverse=True)]
    return sum(math.log(sum(map(math.exp, best[i:]))) - best[i] for i in range(len(s))) if s else None


def approx_ndcg(sharpness: float, gains: str) -> Oracle:
    def loss(s: Scores, y: Scores) -> float | None:
        best = ideal_dcg(y, None, gains)
        ranks = [
            1 + sum(1 / (1 + math.exp(sharpness * (s[i] - s[j]))) for j in range(len(s)) if j != i)
            for i in range(len(s))
        ]
        found = sum(gain(grade, gains) / math.log2(1 + rank) for grade, rank in zip(y, ranks, strict=True))
        return 1 - found / best if best else None

    return loss


CASES = [
    Case("Regression", Regression, regression, moves=False),
    Case("Logistic", Logistic, logistic(1), moves=False),
    Case("Logistic-full", lambda reduction="mean": Logistic(full=4, reduction=reduction), logistic(4), moves=False),
    Case("Ordinal", lambda reduction="mean": Ordinal(grades=3, reduction=reduction), ordinal([-1, 0, 1]), moves=False),
    Case("RankNet", RankNet, pairs(lambda gap: log1pexp(-gap))),
    Case(
        "RankNet-3", lambda reduction="mean": RankNet(sigma=3, reduction=reduction), pairs(lambda d: log1pexp(-3 * d))
    ),
    Case(
        "PairHinge",
        lambda reduction="mean": PairHinge(margin=0.4, reduction=reduction),
        pairs(lambda d: max(0, 0.4 - d)),
    ),
    Case("LambdaRank", LambdaRank, lambda_rank(1, None, "exponential")),
    Case(
        "LambdaRank-k",
        lambda reduction="mean": LambdaRank(sigma=2, k=2, gains="linear", reduction=reduction),
        lambda_rank(2, 2, "linear"),
    ),
    Case("ListNet", ListNet, list_net),
    Case("ListSoftmax", ListSoftmax, list_softmax),
    Case(
        "ListMLE",
        lambda reduction="mean": ListMLE(generator=torch.Generator().manual_seed(0), reduction=reduction),
        list_mle,
    ),
    Case("ApproxNDCG", ApproxNDCG, approx_ndcg(1, "exponential")),
    Case(
        "ApproxNDCG-5",
        lambda reduction="mean": ApproxNDCG(sharpness=5, gains="linear", reduction=reduction),
        approx_ndcg(5, "linear"),
    ),
]
