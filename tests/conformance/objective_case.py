"""What the tables of cases share: a case, the problems it is given, and the loops of any oracle, in float64.

Dimension legend: Q queries, K keys, D = DIM dimensions, C = CLASSES classes. Nothing here is taken from ``likewise``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

DIM, CLASSES = 5, 12
Make = Callable[..., nn.Module]  # how="mean"|"sum"|"none" → a fresh module, the same one every time
Vectors = Sequence[Tensor]
Parameters = Mapping[str, Tensor]
Verdict = tuple[list[Tensor], list[bool]]


class Given(NamedTuple):
    """What an oracle is given: the features of a problem, and the objective's parameters."""

    queries: Tensor
    ids: Tensor
    keys: Tensor | None
    key_ids: Tensor | None
    own: Tensor | None
    parameters: Parameters

    @property
    def there(self) -> Tensor:
        """The keys; without keys the queries."""
        return self.queries if self.keys is None else self.keys

    def pairs(self) -> list[tuple[list[int], list[int]]]:
        """For each query, the numbers of its positives and of its negatives: it never meets itself."""
        if self.keys is None:
            key_ids, selves = self.ids, list(range(len(self.queries)))
        else:
            key_ids = torch.arange(len(self.keys)) if self.key_ids is None else self.key_ids
            selves = [-1] * len(self.queries) if self.own is None else self.own.tolist()
        key_labels = labels_of(key_ids)
        return [
            (
                [j for j, there in enumerate(key_labels) if j != me and here & there],
                [j for j, there in enumerate(key_labels) if j != me and not here & there],
            )
            for here, me in zip(labels_of(self.ids), selves, strict=True)
        ]


Oracle = Callable[[Given], Verdict]
Formula = Callable[[Tensor, Vectors, Vectors], Tensor]
Peer = Callable[[Tensor, Tensor], tuple[Tensor, ...]]

exp, log, sqrt = torch.exp, torch.log, torch.sqrt

# Why some cases skip a property
DETACHED = {"gradcheck": "α is a constant of the backward pass (the paper's eqs. 9 and 10), so it is no derivative"}
NO_RULE = {"tiled_rows": "no rule of rows: tested by test_small_tiles"}


@dataclass(frozen=True)
class Problem:
    """What an objective is given: raw rows (normalised before the call, unless the case is ``raw``) and their ids."""

    queries: Tensor
    ids: Tensor
    keys: Tensor | None = None
    key_ids: Tensor | None = None
    own: Tensor | None = None

    def call(self, objective: nn.Module, queries: Tensor, keys: Tensor | None) -> Tensor:
        """The objective on these features, with the ids of this problem."""
        loss: Tensor
        if keys is None:
            loss = objective(queries, self.ids)
        elif self.own is None:
            loss = objective(queries, self.ids, keys, self.key_ids)
        else:
            loss = objective(queries, self.ids, keys, self.key_ids, own=self.own)
        return loss


@dataclass(frozen=True)
class Case:
    """An objective, and what is known of it.

    Args:
        name: of the case.
        make: a fresh module for a reduction; parameters and generators are seeded.
        oracle: the paper's formula as loops.
        sharp: (sharpness, make): the extremes of temperature or scale, 1/τ or γ.
        raw: features are raw rows, not unit ones.
        whole_batch: the loss is one number of the batch; only "mean" is there.
        against: "batch" (or keys, or a gathered batch), "proxies" (of its own, or keys instead), or "bank" (keys only).
        constant_keys: no gradient reaches the keys.
        able: the oracle that says which anchors could have counted, where mining leaves some out; None: those that did.
        skips: property → why this case does not take it.
        peer: pytorch-metric-learning's loss beside ours, set so that the definitions coincide. It takes unit rows and
            their ids, a batch of four classes of three in order, and returns (ours, theirs), and then our proxies
            (C, D) and theirs (D, C) where there are some.
        no_peer: why there is none.
    """

    name: str
    make: Make
    oracle: Oracle
    sharp: Sequence[tuple[float, Make]] = ()
    raw: bool = False
    whole_batch: bool = False
    against: str = "batch"
    constant_keys: bool = False
    able: Oracle | None = None
    skips: Mapping[str, str] = field(default_factory=dict)
    peer: Peer | None = None
    no_peer: str = ""

    @property
    def reductions(self) -> tuple[str, ...]:
        return ("mean",) if self.whole_batch else ("mean", "sum", "none")

    def features(self, rows: Tensor) -> Tensor:
        """The rows as this objective wants them."""
        return rows * 1.0 if self.raw else functional.normalize(rows, dim=1)

    def key_features(self, keys: Tensor | None) -> Tensor | None:
        """The same of keys, if there are some."""
        return None if keys is None else self.features(keys)


# Problems


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(count: int, seed: int) -> Tensor:
    """(count, D) raw rows in float64."""
    return torch.randn(count, DIM, generator=seeded(seed), dtype=torch.float64)


def shuffled(ids: list[int], seed: int = 3) -> Tensor:
    return torch.tensor(ids)[torch.randperm(len(ids), generator=seeded(seed))]


def balanced() -> Problem:
    """Four classes of three."""
    return Problem(rows(12, 1), shuffled([0, 1, 2, 3] * 3))


def bank() -> Problem:
    """A bank whose key ids are the row numbers: one positive each."""
    return Problem(rows(6, 7), torch.tensor([8, 0, 3, 3, 10, 5]), rows(11, 8))


def problems(kind: str, against: str = "batch") -> list[Problem]:
    """The problems of a kind; see the tests of these names."""
    some, of_keys = shuffled([0, 1, 2, 3, 1, 0], 4), shuffled([0, 1, 2, 3, 0, 1, 2, 3, 2, 2, 4], 5)
    everyone = shuffled([0, 1, 2, 3] * 3, 6)
    unlabelled, whole = everyone.clone(), rows(12, 10)
    unlabelled[[1, 4, 5, 9]] = torch.tensor([-1, -1, -7, -2])
    labels = torch.randint(-1, 4, (12, 2), generator=seeded(11))
    labels[7] = torch.tensor([-1, -1])
    broad = torch.tensor([[0, 1, 2]] + [[i % 3, i % 3, -1] for i in range(6)])  # row 0 is alike to every other row
    own = torch.tensor([3, 4, 5, -1, 7, 0])  # the fourth query is nobody's row
    gathered = torch.where(own[:, None] < 0, rows(6, 17), whole[own])
    found = {
        "batch": [balanced()],
        "keys": [Problem(rows(6, 7), some, rows(11, 8), of_keys), bank()],
        "gathered": [Problem(gathered, everyone[own], whole, everyone, own)],
        "unlabelled": [
            Problem(rows(12, 9), unlabelled),
            Problem(rows(6, 7), torch.tensor([0, -1, 2, -1, -3, 2]), rows(12, 8), unlabelled),
            Problem(whole[4:10] + 0, unlabelled[4:10], whole, unlabelled, torch.arange(4, 10)),
        ],
        "several": [
            Problem(rows(12, 12), labels),
            Problem(rows(7, 13), broad),
            Problem(rows(6, 7), labels[:6], rows(11, 8), torch.randint(-1, 4, (11, 3), generator=seeded(14))),
            Problem(rows(6, 7), some, rows(12, 8), labels),
            Problem(whole[2:8] + 0, labels[2:8], whole, labels, torch.arange(2, 8)),
        ],
        "ragged": [Problem(rows(33, 15), shuffled([0] + [1] * 2 + [2] * 3 + [3] * 7 + [4] * 20, 16))],
        "bank": [bank(), Problem(rows(4, 7), torch.tensor([9, 7, 9, 1]), rows(5, 8), torch.tensor([7, 1, 4, 9, 2]))],
    }[kind]
    if against == "bank" and kind == "unlabelled":
        return [replace(bank(), ids=torch.tensor([8, -1, 3, -3, 10, 5]))]
    return [p for p in found if p.keys is None] if against == "proxies" and kind != "bank" else found


# Loops


def dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum()


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    return ((a - b) ** 2).sum()


def euclidean(a: Tensor, b: Tensor) -> Tensor:
    return sqrt(squared_distance(a, b))


def hinge(x: Tensor) -> Tensor:
    return x if x > 0 else x * 0


def mean(values: Sequence[Tensor]) -> Tensor:
    return sum(values) / len(values)  # type: ignore[return-value]


def labels_of(ids: Tensor) -> list[set[int]]:
    """The labels of each row; below 0 is none."""
    return [{x for x in (row if isinstance(row, list) else [row]) if x >= 0} for row in ids.tolist()]


def both(positives: Sequence[int], negatives: Sequence[int]) -> bool:
    return bool(positives and negatives)


def either(positives: Sequence[int], negatives: Sequence[int]) -> bool:
    return bool(positives or negatives)


def a_positive(positives: Sequence[int], negatives: Sequence[int]) -> bool:
    return bool(positives)


def each_anchor(formula: Formula, counts: Callable[[Sequence[int], Sequence[int]], bool] = both) -> Oracle:
    """The oracle of a formula of one anchor: 0 for the anchors that do not count."""

    def oracle(given: Given) -> Verdict:
        there = given.there.unbind(0)
        losses, counted = [], []
        for query, (p, n) in zip(given.queries.unbind(0), given.pairs(), strict=True):
            counted.append(counts(p, n))
            losses.append(
                formula(query, [there[j] for j in p], [there[j] for j in n]) if counted[-1] else 0 * query.sum()
            )
        return losses, counted

    return oracle
