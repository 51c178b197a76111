"""Samples of a bank's keys: the papers' formulas as loops in float64 and their cases.

The loops take nothing from ``likewise`` but the rows that are drawn; the cases make its objectives.
"""

import math
from collections.abc import Callable

import torch
from instance_level_cases import BY_ROW, DRAWN, Bank, drawn, each_query
from objective_case import Case, Vectors, dot, exp, log, seeded
from torch import Tensor

from likewise.objectives.sampled import NegativeSampling, SampledSoftmax


def sampled_softmax(tau: float, density: Callable[[int, int], float]) -> Bank:
    """Jean et al. 2015, §3: log(m Q) off the samples' logits; samples with the query's id are left out."""

    def formula(q: Tensor, K: Vectors, y: int, i: int, drawn: list[int], hits: set[int]) -> Tensor:
        others = [j for j in drawn if j not in hits]
        push = sum(exp(dot(q, K[j]) / tau - math.log(len(drawn) * density(j, len(K)))) for j in others)
        target = exp(dot(q, K[y]) / tau)
        return -log(target / (target + push))

    return formula


def negative_sampling(q: Tensor, K: Vectors, y: int, i: int, drawn: list[int], hits: set[int]) -> Tensor:
    """Mikolov et al. 2013, eq. 4."""

    def sigmoid(x: Tensor) -> Tensor:
        return 1 / (1 + exp(-x))

    return -log(sigmoid(dot(K[y], q))) - sum(log(sigmoid(-dot(K[j], q))) for j in drawn)


# Cases

COUNTS = torch.tensor([5, 1, 2, 8, 1, 3, 1, 1, 4, 2, 6])  # of the bank's 11 keys
WEIGHTED = dict.fromkeys(("degenerate", "memory"), "the counts are of 11 keys")
CASES = [
    Case(
        "SampledSoftmax",
        lambda how="mean": SampledSoftmax(samples=4, temperature=0.2, generator=seeded(), reduction=how),
        each_query(sampled_softmax(0.2, lambda j, n: 1 / n), drawn(4, shared=True)),
        [
            (
                1 / t,
                lambda how="mean", t=t: SampledSoftmax(samples=4, temperature=t, generator=seeded(), reduction=how),
            )
            for t in (1.0, 0.07, 0.005)
        ],
        against="bank",
        skips=DRAWN,
        no_peer="there are no sampled losses",
    ),
    Case(
        "SampledSoftmax-weighted",
        lambda how="mean": SampledSoftmax(samples=4, temperature=0.2, counts=COUNTS, generator=seeded(), reduction=how),
        each_query(sampled_softmax(0.2, lambda j, n: int(COUNTS[j]) / int(COUNTS.sum())), drawn(4, True, COUNTS)),
        against="bank",
        skips=DRAWN | WEIGHTED | {"bank": "the counts are of 11 keys: see test_unlabelled"},
        no_peer="there are no sampled losses",
    ),
    Case(
        "NegativeSampling",
        lambda how="mean": NegativeSampling(samples=4, generator=seeded(), reduction=how),
        each_query(negative_sampling, drawn(4, shared=False)),
        raw=True,
        against="bank",
        skips=DRAWN | BY_ROW,
        no_peer="there are no sampled losses",
    ),
    Case(
        "NegativeSampling-shared",
        lambda how="mean": NegativeSampling(samples=4, counts=COUNTS, draw="shared", generator=seeded(), reduction=how),
        each_query(negative_sampling, drawn(4, True, COUNTS, 0.75)),
        raw=True,
        against="bank",
        skips=DRAWN | WEIGHTED | {"bank": "the counts are of 11 keys: see test_unlabelled"},
        no_peer="there are no sampled losses",
    ),
]
