"""Instance level, one positive among the keys of a bank: loops in float64 and cases.

The loops take nothing from ``likewise`` but the rows that are drawn; the cases make its objectives.
"""

import math
from collections.abc import Callable

import torch
from class_level_cases import OF_PROXIES, classifier, softmax
from objective_case import (
    CLASSES,
    DIM,
    NO_RULE,
    Case,
    Given,
    Oracle,
    Vectors,
    Verdict,
    dot,
    exp,
    log,
    seeded,
    squared_distance,
)
from torch import Tensor, nn

from likewise.objectives.base import How
from likewise.objectives.instance_level import NCE, NoiseDraw, NonParametricSoftmax, ParametricSoftmax
from likewise.objectives.sampled import Noise

Bank = Callable[[Tensor, Vectors, int, int, list[int], set[int]], Tensor]


def each_query(formula: Bank, draw: Callable[[int, int], list[list[int]]]) -> Oracle:
    """The oracle of a formula of a query, the keys, its positive's row, its own number, and what was drawn for it.

    ``draw(queries, keys)`` gives each query's rows. The last argument is the set of rows that have the query's id.
    """

    def oracle(given: Given) -> Verdict:
        assert given.keys is not None
        names = list(range(len(given.keys))) if given.key_ids is None else given.key_ids.tolist()
        drawn = draw(len(given.queries), len(given.keys))
        losses, counted = [], []
        for i, y in enumerate(given.ids.tolist()):
            counted.append(y >= 0)
            hits = {j for j, name in enumerate(names) if name == y}
            query, there = given.queries[i], given.keys.unbind(0)
            losses.append(formula(query, there, names.index(y), i, drawn[i], hits) if y >= 0 else 0 * query.sum())
        return losses, counted

    return oracle


def non_parametric(tau: float, proximal: float) -> Bank:
    """Wu et al. 2018, eq. 2, and the proximal term of eq. 9; the bank is a constant."""

    def formula(q: Tensor, K: Vectors, y: int, i: int, drawn: list[int], hits: set[int]) -> Tensor:
        K = [k.detach() for k in K]
        loss = -log(exp(dot(K[y], q) / tau) / sum(exp(dot(k, q) / tau) for k in K))
        return loss + proximal * squared_distance(q, K[y])

    return formula


def nce(tau: float, log_z: float, m: int) -> Bank:
    """Wu et al. 2018, eqs. 5 to 7, uniform noise over all rows; the bank is a constant."""

    def formula(q: Tensor, K: Vectors, y: int, i: int, drawn: list[int], hits: set[int]) -> Tensor:
        def h(j: int) -> Tensor:
            p = exp(dot(K[j].detach(), q) / tau) / math.exp(log_z)
            return p / (p + m / len(K))

        return -log(h(y)) - sum(log(1 - h(j)) for j in drawn)

    return formula


# Cases

OF_A_BANK = NO_RULE | {
    "batch": "its keys are a bank",
    "keys": "one positive for each query: see test_bank",
    "gathered": "one positive for each query, from a bank",
    "several": "one id for each query, and says so",
    "ragged": "one positive for each query",
    "roles": "one positive for each query, and all other keys push",
}
DRAWN = OF_A_BANK | {
    "gradcheck": "each call draws anew: the oracle tests its gradient",
    "saved": "the generator's place is the caller's, not part of the state",
    "compiled": "a torch.Generator breaks the graph; its own tests compile without one",
}
BY_ROW = {
    "permuted_batch": "each row has its own draws",
    "duplicated_queries": "each row has its own draws",
    "shared_rows": "each row has its own draws, in the order of the batch",
}


def drawn(
    samples: int, shared: bool, weights: Tensor | None = None, power: float = 1.0
) -> Callable[..., list[list[int]]]:
    """What a module with a generator of seed 0 draws at its first call."""

    def draw(queries: int, keys: int) -> list[list[int]]:
        noise = Noise(weights, power=power, generator=seeded())
        found = noise.draw((samples,) if shared else (queries, samples), keys, torch.device("cpu")).tolist()
        return [found] * queries if shared else found

    return draw


def nothing(queries: int, keys: int) -> list[list[int]]:
    return [[]] * queries


def fixed_nce(how: How = "mean", draw: NoiseDraw = "shared") -> nn.Module:
    objective = NCE(temperature=0.2, noise=4, draw=draw, generator=seeded(), reduction=how)
    objective.log_z.fill_(3.1)
    return objective.eval()


CASES = [
    Case(
        "ParametricSoftmax",
        lambda how="mean": ParametricSoftmax(CLASSES, DIM, generator=seeded(), reduction=how),
        classifier(softmax),
        [
            (s, lambda how="mean", s=s: ParametricSoftmax(CLASSES, DIM, scale=s, generator=seeded(), reduction=how))
            for s in (1.0, 64.0)
        ],
        against="proxies",
        skips=OF_PROXIES
        | {"several": "one id for each query, and says so", "keys": "one positive for each query: see test_bank"},
        no_peer="there is no plain softmax",
    ),
    Case(
        "NonParametricSoftmax",
        lambda how="mean": NonParametricSoftmax(temperature=0.2, proximal=0.5, reduction=how),
        each_query(non_parametric(0.2, 0.5), nothing),
        [
            (1 / t, lambda how="mean", t=t: NonParametricSoftmax(temperature=t, reduction=how))
            for t in (1.0, 0.07, 0.005)
        ],
        against="bank",
        constant_keys=True,
        skips=OF_A_BANK,
        no_peer="there is no loss against a bank with a proximal term",
    ),
    Case(
        "NCE",
        fixed_nce,
        each_query(nce(0.2, 3.1, 4), drawn(4, shared=True)),
        against="bank",
        constant_keys=True,
        skips=DRAWN,
        no_peer="there is no noise-contrastive estimation",
    ),
    Case(
        "NCE-per-example",
        lambda how="mean": fixed_nce(how, "per-example"),
        each_query(nce(0.2, 3.1, 4), drawn(4, shared=False)),
        against="bank",
        constant_keys=True,
        skips=DRAWN | BY_ROW,
        no_peer="there is no noise-contrastive estimation",
    ),
]
