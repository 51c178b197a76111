"""Ranked lists against graded relevance: DCG, NDCG, MAP, MRR, hits and recall, each with its convention named.

Letters in shapes: Q queries, N items of a list, M items of all lists, K places that count.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from likewise.alike import Flags, Ids
from likewise.errors import LikewiseError, at_least_one, closest
from likewise.metrics.bootstrap import Interval, mean_interval
from likewise.metrics.conventions import Convention, Empty, Gains, Ties, chosen_convention
from likewise.metrics.ordered_lists import Lists, Numbers, chunks, in_order


@dataclass(frozen=True, eq=False)
class Ranked:
    """A measure of each query. ``float()`` of it is the mean over the queries that count.

    Args:
        name: the measure, such as ``ndcg@10``.
        convention: what the measure leaves open, in words.
        values: (Q,) float64, one for each query; NaN where the query is skipped.
    """

    name: str
    convention: str
    values: Tensor

    def __float__(self) -> float:
        return self.mean

    def __repr__(self) -> str:
        left = f", {self.skipped} skipped" if self.skipped else ""
        return f"Ranked({self.name}={self.mean:.4f}, {len(self.values)} queries{left}; {self.convention})"

    @property
    def mean(self) -> float:
        """The mean over the queries that count; NaN if there are none."""
        return float(self.values.nanmean())

    @property
    def skipped(self) -> int:
        """The number of queries that do not count."""
        return int(self.values.isnan().sum())

    def interval(self, *, share: float = 0.95, draws: int = 2000, seed: int = 0) -> Interval:
        """The mean with its bootstrap interval over queries. See ``mean_interval``."""
        return mean_interval(self.values.numpy(), share=share, draws=draws, seed=seed)

    def minus(self, other: "Ranked", *, share: float = 0.95, draws: int = 2000, seed: int = 0) -> Interval:
        """The mean difference to another ranking of the same queries, with its **paired** bootstrap interval.

        Queries are drawn once for both rankings, so that how hard a query is does not count as a difference.

        Raises LikewiseError if the measures, their conventions or the queries that count are not the same.
        """
        if (self.name, self.convention) != (other.name, other.convention):
            raise LikewiseError(
                f"{self.name} ({self.convention}) and {other.name} ({other.convention}) are different measures."
            )
        if len(self.values) != len(other.values) or bool((self.values.isnan() != other.values.isnan()).any()):
            raise LikewiseError(
                f"the two rankings are not of the same queries: {len(self.values) - self.skipped} and "
                f"{len(other.values) - other.skipped} count."
            )
        return mean_interval((self.values - other.values).numpy(), share=share, draws=draws, seed=seed)


def ndcg(
    scores: Numbers,
    relevance: Numbers,
    k: int | None = 10,
    *,
    mask: Flags | Tensor | None = None,
    offsets: Ids | None = None,
    gains: Gains | None = None,
    ties: Ties | None = None,
    empty: Empty | None = None,
    convention: str | None = None,
) -> Ranked:
    """Normalised discounted cumulative gain (Järvelin and Kekäläinen 2002) of each query, and its mean.

    ``NDCG@k = DCG@k / IDCG@k``, with ``DCG@k = Σ_{r ≤ k} g(y_r) / log2(r + 1)`` over the items by falling score, and
    IDCG the same over **all judged items** by falling relevance, cut at k. It is from 0 to 1. Defaults: exponential
    gains, ties by order, empty queries skipped.

    Args:
        scores: (N,) of one query, (Q, N) of several, or (M,) with ``offsets``. −inf: the item is judged, but was not
            returned; it counts for IDCG alone.
        relevance: of the same shape; 0 or more, any real number.
        k: the places that count; None: all.
        mask: (Q, N) bool, False where (Q, N) lists are padded.
        offsets: (Q + 1,) rising integers from 0 to M: the items of query q are offsets[q] to offsets[q + 1].
        gains: "exponential" 2^y − 1, or "linear" y.
        ties: "by order", "averaged" or "last first"; see :class:`Convention`.
        empty: the value of a query without relevance: "skip", 0 or 1.
        convention: "scikit-learn", "torchmetrics", "trec_eval" or "allrank": their gains, ties and empty queries, in
            place of the three arguments above.

    Raises:
        LikewiseError: other shapes, NaN, relevance that is negative or whose gain is not finite (by query), a k below
            1, an unknown word, or ``convention`` beside one of its parts.

    Cost: O(M log N) time in float64, about 60 MiB for chunks of lists, and 8 bytes a query.

    Departures: none where the convention names all; the paper's own discount begins at rank 2.
    """
    chosen = chosen_convention(convention, {"gains": gains, "ties": ties, "empty": empty})
    meter = Ranking(("ndcg",), k=k, convention=chosen)
    meter.update(scores, relevance, mask=mask, offsets=offsets)
    return meter.compute()[meter.names[0]]


class Ranking:
    """Measures of ranked lists that come batch by batch. Memory: 8 bytes for each query and measure.

    ``update`` takes what :func:`ndcg` takes; ``compute`` gives a :class:`Ranked` for each measure, by name.

    | measure | of a query, in its first k places |
    |-|-|
    | ndcg | DCG@k / IDCG@k |
    | dcg | DCG@k; a query without relevance has 0, and is never skipped |
    | map | AP@k: Σ over relevant places r of precision@r, divided by the denominator |
    | mrr | 1 / the place of the first relevant item; 0 if it is beyond k |
    | hit | 1 if one item is relevant |
    | recall | relevant items / R |
    | precision | relevant items / k |

    Args:
        measures: names of the table, or one of them.
        k: the places that count; None: all.
        convention: a :class:`Convention`, or the name of one. "scikit-learn", "torchmetrics" and "trec_eval" give
            the numbers of that library for each measure that it has (of the first two, MAP and what knows no grades
            only where no scores are equal: they have no rule for these), and "allrank" its NDCG.

    Raises:
        LikewiseError: no measure, an unknown measure or convention, or k below 1.
    """

    def __init__(
        self,
        measures: Sequence[str] | str = ("ndcg", "map", "mrr", "hit", "recall"),
        *,
        k: int | None = 10,
        convention: Convention | str | None = None,
    ) -> None:
        measures = (measures,) if isinstance(measures, str) else tuple(measures)
        if not measures:
            raise LikewiseError(f"no measure is named; there are {', '.join(MEASURES)}.")
        for name in measures:
            if name not in MEASURES:
                raise LikewiseError(
                    f"there is no measure {name!r}.{closest(name, MEASURES)} Known: {', '.join(MEASURES)}."
                )
        self.measures, self.k = measures, None if k is None else at_least_one("k", k, "it is a number of places")
        self.convention = convention if isinstance(convention, Convention) else chosen_convention(convention, {})
        self.names = tuple(name if k is None else f"{name}@{k}" for name in measures)
        self._values: list[Tensor] = []

    def __repr__(self) -> str:
        return f"Ranking({len(self)} queries, measures={self.measures!r}, k={self.k!r}, convention={self.convention!r})"

    def __len__(self) -> int:
        """Number of queries so far."""
        return sum(values.shape[1] for values in self._values)

    def update(
        self,
        scores: Numbers,
        relevance: Numbers,
        *,
        mask: Flags | Tensor | None = None,
        offsets: Ids | None = None,
    ) -> None:
        """Measures the lists of some queries. Arguments and errors as in ``ndcg``; after an error none counts."""
        found = [self._measured(*chunk) for chunk in chunks(scores, relevance, mask, offsets, len(self))]
        self._values += found

    def compute(self) -> dict[str, Ranked]:
        """Each measure of all queries so far. Raises LikewiseError if there are none."""
        if not self._values:
            raise LikewiseError("there are no queries to measure; update(scores, relevance) comes before compute().")
        self._values = [torch.cat(self._values, 1)]
        return {
            name: Ranked(name, self.convention.words(measure), values)
            for name, measure, values in zip(self.names, self.measures, self._values[0], strict=True)
        }

    def reset(self) -> None:
        """Forgets all queries."""
        self._values = []

    def _measured(self, scores: Tensor, relevance: Tensor, before: int) -> Tensor:
        """(measures, Q) float64."""
        lists = in_order(scores, relevance, self.convention, before)
        k = min(self.k or lists.gains.shape[1], lists.gains.shape[1])
        found = torch.stack([MEASURES[name](lists, k, self.k or k, self.convention) for name in self.measures])
        without = {"ndcg": lists.ideal[:, 0] == 0, "dcg": torch.zeros_like(lists.total, dtype=torch.bool)}
        empty = torch.stack([without.get(name, lists.total == 0) for name in self.measures])
        return found.masked_fill(empty, math.nan if self.convention.empty == "skip" else self.convention.empty)


def _discounts(n: int, k: int) -> Tensor:
    """(n,) float64: 1 / log2(rank + 1) of the first k ranks, then 0."""
    discounts = 1 / torch.log2(torch.arange(2, n + 2, dtype=torch.float64))
    discounts[k:] = 0
    return discounts


def _ndcg(lists: Lists, k: int, places: int, convention: Convention) -> Tensor:
    return _dcg(lists, k, places, convention) / (lists.ideal * _discounts(lists.gains.shape[1], k)).sum(1)


def _dcg(lists: Lists, k: int, places: int, convention: Convention) -> Tensor:
    shares = _discounts(lists.gains.shape[1], k).expand_as(lists.gains)
    if convention.ties == "averaged":
        group = torch.zeros_like(lists.scores, dtype=torch.int64)
        group[:, 1:] = (lists.scores[:, 1:] != lists.scores[:, :-1]).cumsum(1)
        sums = torch.zeros_like(lists.gains).scatter_add_(1, group, shares.contiguous())
        sizes = torch.zeros_like(lists.gains).scatter_add_(1, group, torch.ones_like(lists.gains))
        shares = (sums / sizes.clamp(min=1)).gather(1, group)
    return (lists.gains * shares).sum(1)


def _average_precision(lists: Lists, k: int, places: int, convention: Convention) -> Tensor:
    hits = lists.relevant[:, :k].double()
    ranks = torch.arange(1, k + 1, dtype=torch.float64)
    found = (hits.cumsum(1) / ranks * hits).sum(1)
    over = {"relevant": lists.total, "reachable": lists.total.clamp(max=places), "hits": hits.sum(1)}
    return found / over[convention.denominator].clamp(min=1)


def _reciprocal_rank(lists: Lists, k: int, places: int, convention: Convention) -> Tensor:
    hits = lists.relevant[:, :k].double()
    return (hits / torch.arange(1, k + 1, dtype=torch.float64)).amax(1)


def _hit(lists: Lists, k: int, places: int, convention: Convention) -> Tensor:
    return lists.relevant[:, :k].any(1).double()


def _recall(lists: Lists, k: int, places: int, convention: Convention) -> Tensor:
    return lists.relevant[:, :k].sum(1) / lists.total


def _precision(lists: Lists, k: int, places: int, convention: Convention) -> Tensor:
    return lists.relevant[:, :k].sum(1).double() / places


# From lists, the places there are, the places that count, and the convention, to a value for each query.
MEASURES: Mapping[str, Callable[[Lists, int, int, Convention], Tensor]] = {
    "ndcg": _ndcg,
    "dcg": _dcg,
    "map": _average_precision,
    "mrr": _reciprocal_rank,
    "hit": _hit,
    "recall": _recall,
    "precision": _precision,
}
