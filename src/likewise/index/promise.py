"""The recall that an index promises, measured against exact search."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from likewise.console import Tick, part_of, untold
from likewise.errors import LikewiseError, finite
from likewise.metrics.neighbours import top_k

QUERIES = 512  # held out to measure, and as many others to tune
K = 10
ONE_SIDED = 1.645  # of a normal distribution: 5 % lie above


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What was measured when an index was built.

    Args:
        wanted: the recall that was asked for.
        recall: the share of the true 10 nearest that were found, over the queries.
        lower: its lower 95 % bound (one-sided).
        queries: number of queries, items of the index that neither trained nor tuned the engine's effort.
        rate: queries a second of CPU time, in one batch; of a server, of a clock on the wall.
        rows: number of items then.
        effort: what was tuned: lists (IVF) or rows (HNSW) that a query looks at; 0 of exact search.
        served: whether servers searched.
    """

    wanted: float
    recall: float
    lower: float
    queries: int
    rate: float
    rows: int
    effort: int
    served: bool = False

    @property
    def kept(self) -> bool:
        """Whether the lower bound reaches what was asked for."""
        return self.lower >= self.wanted

    def sentence(self) -> str:
        """One line for people."""
        rate = f"{self.rate:,.0f} queries a second{'' if self.served else ' of CPU time'}"
        if not self.effort:
            return f"every row is compared, {rate}."
        found = (
            f"recall@{K} {self.recall:.3f} (lower 95 % bound {self.lower:.3f}) of {self.queries} held-out queries, "
            f"{rate}, effort {self.effort}"
        )
        if self.kept:
            return f"{found}; promised: {self.wanted:g}."
        return (
            f"{found}. The promise of {self.wanted:g} is NOT kept, whatever the effort: take "
            f"{'engine=exact' if self.served else '--to exact'} or another engine, or promise less with --recall."
        )

    def as_json(self) -> dict[str, Any]:
        """For the manifest of an index."""
        return asdict(self)


def check_wanted(wanted: float) -> float:
    """A recall to promise. Raises LikewiseError unless it is above 0 and below 1."""
    if not 0 < finite("recall", wanted) < 1:
        raise LikewiseError(f"recall={wanted} must be above 0 and below 1; 0.95 is usual.")
    return float(wanted)


def lower_bound(hits: Tensor, z: float = ONE_SIDED) -> float:
    """The one-sided lower 95 % bound of the mean of each query's recall, (Q,) in [0, 1].

    Wilson's (1927), (p + z²/2n − z √(p (1 − p)/n + z²/4n²)) / (1 + z²/n), z = 1.645 or another. n is the number of
    independent yes or no that would have the variance of the mean, p (1 − p) Q / variance: above Q where the ten of a
    query fail one by one, Q where they fail together.
    """
    p, queries = float(hits.double().mean()), len(hits)
    variance = float(hits.double().var()) if queries > 1 else 0.0
    n = p * (1 - p) * queries / variance if variance > 0 else queries
    middle, spread = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - spread) / (1 + z * z / n)


def recall_of(found: Tensor, true: Tensor) -> Tensor:
    """(Q,) share of the (Q, k) true rows among (Q, C) found ones; rows of −1 are none, and count on neither side."""
    hits = ((true[:, :, None] == found[:, None, :]) & (true >= 0)[:, :, None]).any(2).sum(1)
    return hits / (true >= 0).sum(1).clamp_min(1)


def sample(rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows to tune with and other rows to measure with, at most 512 each."""
    drawn = torch.randperm(rows, generator=torch.Generator().manual_seed(seed + 1))[: 2 * QUERIES]
    half = max(1, len(drawn) // 2)
    return drawn[:half].sort().values, drawn[half:].sort().values if len(drawn) > 1 else drawn


def true_neighbours(rows: Tensor, asked: Tensor, tick: Tick = untold, *, longest: float | None = None) -> Tensor:
    """(Q, 10) rows nearest to some rows, without themselves, by exact search."""
    found: Tensor = top_k(
        rows[asked], rows, K, query_ids=asked, key_ids=torch.arange(len(rows)), longest=longest, tick=tick
    )[1]
    return found


def exact_promise(
    rows: int, wanted: float, search: Callable[[int, Tensor, int], Tensor], *, served: bool = False
) -> Promise:
    """Of exact search, which finds all: its rate alone is measured."""
    asked = sample(rows)[1][:64]
    clock = time.perf_counter if served else time.process_time
    began = clock()
    search(0, asked, K)
    rate = len(asked) / max(clock() - began, 1e-9)
    return Promise(
        wanted=check_wanted(wanted),
        recall=1.0,
        lower=1.0,
        queries=len(asked),
        rate=rate,
        rows=rows,
        effort=0,
        served=served,
    )


Asked = tuple[Tensor, Tensor]  # items, and (Q, 10) what is truly nearest to them


def held_out(rows: Tensor, tick: Tick = untold, *, longest: float | None = None) -> list[Asked]:
    """Items of an index to tune with, and others to measure with."""
    return [
        (asked, true_neighbours(rows, asked, part_of(tick, at, 2), longest=longest))
        for at, asked in enumerate(sample(len(rows)))
    ]


class Tuning:
    """Chooses the effort of an engine on some queries and measures it on others.

    Args:
        sets: to tune with, and to measure with.
        rows: number of items.
        wanted: the recall that is promised.
        served: whether servers search, whose CPU time is not seen here.
    """

    def __init__(self, sets: Sequence[Asked], rows: int, wanted: float, *, served: bool = False) -> None:
        self.wanted, self._many, self._served = check_wanted(wanted), rows, served
        self._sets = sets

    def promise(self, efforts: Sequence[int], search: Callable[[int, Tensor, int], Tensor]) -> Promise:
        """Sets the lowest effort that keeps the promise on the first queries, and measures it on the others.

        ``search(effort, rows, k)`` gives (Q, k) rows found for items of the index, without themselves.
        """
        (tune, true), (asked, truth) = self._sets
        chosen = efforts[-1]
        for effort in efforts:
            hits = recall_of(search(effort, tune, K), true)
            if lower_bound(hits, 1.5 * ONE_SIDED) >= self.wanted:  # so that other queries seldom say no
                chosen = effort
                break
        clock = time.perf_counter if self._served else time.process_time
        began = clock()
        found = search(chosen, asked, K)
        spent = clock() - began
        hits = recall_of(found, truth)
        return Promise(
            wanted=self.wanted,
            recall=float(hits.double().mean()),
            lower=lower_bound(hits),
            queries=len(asked),
            rate=len(asked) / max(spent, 1e-9),
            rows=self._many,
            effort=chosen,
            served=self._served,
        )
