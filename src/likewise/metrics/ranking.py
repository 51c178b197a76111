"""Ranked lists against graded relevance: NDCG, MAP, MRR, hits and recall, each with its convention named.

Letters in shapes: Q queries, N items of a list, M items of all lists, K places that count.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from likewise.alike import Flags, Ids, as_flags, as_ids
from likewise.errors import LikewiseError, at_least_one, closest, finite
from likewise.metrics.bootstrap import Interval, mean_interval
from likewise.metrics.checks import Rows, as_tensor

Gains = Literal["exponential", "linear"]
Ties = Literal["by order", "averaged", "last first"]
Empty = Literal["skip", 0, 1]
Denominator = Literal["relevant", "reachable", "hits"]
Numbers = Rows | Sequence[float]
CELLS = 1 << 20  # items of a chunk of lists; a measure needs about 60 bytes for each


@dataclass(frozen=True, kw_only=True)
class Convention:
    """What a measure of ranked lists leaves open.

    Args:
        gains: of relevance y: exponential 2^y − 1, or linear y. For y of 0 and 1 they are the same.
        ties: the place of items with equal scores. "by order": as they stand in the list. "last first": against it,
            as trec_eval does with rising document numbers. "averaged": each of them gets the mean gain of all
            (McSherry and Najork 2008), for NDCG only; the other measures take ties by order.
        empty: the value of a query without a relevant item: 0, 1, or "skip", which leaves it out of the mean.
        denominator: of AP@k: "relevant" R, "reachable" min(R, k), or "hits", the relevant items in the first k.
        relevant: an item with at least this relevance is relevant, for the measures that know no grades. None: any
            above 0.
        negative: whether relevance below 0 counts as 0, as in trec_eval, instead of being refused.
    """

    gains: Gains = "exponential"
    ties: Ties = "by order"
    empty: Empty = "skip"
    denominator: Denominator = "relevant"
    relevant: float | None = None
    negative: bool = False

    def __post_init__(self) -> None:
        """Raises LikewiseError on values that are not allowed."""
        allowed: dict[str, tuple[object, ...]] = {
            "gains": ("exponential", "linear"),
            "ties": ("by order", "averaged", "last first"),
            "empty": ("skip", 0, 1),
            "denominator": ("relevant", "reachable", "hits"),
        }
        for name, values in allowed.items():
            if vars(self)[name] not in values:
                raise LikewiseError(f"{name}={vars(self)[name]!r} must be one of {', '.join(map(repr, values))}.")
        if self.relevant is not None and not finite("relevant", self.relevant) > 0:
            raise LikewiseError(f"relevant={self.relevant} must be above 0: relevance 0 means not relevant.")

    def words(self, measure: str) -> str:
        """What of the convention a measure follows, in words."""
        empty = f"empty queries {'skipped' if self.empty == 'skip' else self.empty}"
        if measure == "ndcg":
            return f"{self.gains} gains, ties {self.ties}, {empty}"
        ties = f"ties {'by order' if self.ties == 'averaged' else self.ties}"
        relevant = "relevant above 0" if self.relevant is None else f"relevant from {self.relevant:g}"
        over = f"denominator {self.denominator}, " if measure == "map" else ""
        return f"{relevant}, {over}{ties}, {empty}"


# How libraries compute NDCG. Each is held to the library itself in the tests.
CONVENTIONS: Mapping[str, Convention] = {
    "scikit-learn": Convention(gains="linear", ties="averaged", empty=0),
    "torchmetrics": Convention(gains="linear", ties="averaged", empty=0),
    "trec_eval": Convention(gains="linear", ties="last first", empty=0, negative=True),
    "allrank": Convention(gains="exponential", ties="by order", empty=1),
}


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


class Lists(NamedTuple):
    """Padded lists, in the order of their scores."""

    gains: Tensor  # (Q, N) float64 by rank; 0 for what was not returned and for padding
    scores: Tensor  # (Q, N) by rank, −inf at the end
    returned: Tensor  # (Q, N) bool by rank
    relevant: Tensor  # (Q, N) bool by rank: relevant and returned
    total: Tensor  # (Q,) float64, the number of relevant items, returned or not
    ideal: Tensor  # (Q, N) float64, gains in the best order


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
    chosen = _chosen(convention, {"gains": gains, "ties": ties, "empty": empty})
    meter = Ranking(("ndcg",), k=k, convention=chosen)
    meter.update(scores, relevance, mask=mask, offsets=offsets)
    return meter.compute()[meter.names[0]]


class Ranking:
    """Measures of ranked lists that come batch by batch. Memory: 8 bytes for each query and measure.

    ``update`` takes what :func:`ndcg` takes; ``compute`` gives a :class:`Ranked` for each measure, by name.

    | measure | of a query, in its first k places |
    |-|-|
    | ndcg | DCG@k / IDCG@k |
    | map | AP@k: Σ over relevant places r of precision@r, divided by the denominator |
    | mrr | 1 / the place of the first relevant item; 0 if it is beyond k |
    | hit | 1 if one item is relevant |
    | recall | relevant items / R |
    | precision | relevant items / k |

    Args:
        measures: names of the table.
        k: the places that count; None: all.
        convention: a :class:`Convention`, or the name of one.

    Raises:
        LikewiseError: an unknown measure or convention, or k below 1.
    """

    def __init__(
        self,
        measures: Sequence[str] = ("ndcg", "map", "mrr", "hit", "recall"),
        *,
        k: int | None = 10,
        convention: Convention | str | None = None,
    ) -> None:
        for name in measures:
            if name not in MEASURES:
                raise LikewiseError(
                    f"there is no measure {name!r}.{closest(name, MEASURES)} Known: {', '.join(MEASURES)}."
                )
        self.measures, self.k = tuple(measures), None if k is None else at_least_one("k", k, "it is a number of places")
        self.convention = convention if isinstance(convention, Convention) else _chosen(convention, {})
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
        found = [self._measured(*chunk) for chunk in _chunks(scores, relevance, mask, offsets, len(self))]
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
        lists = _in_order(scores, relevance, self.convention, before)
        k = min(self.k or lists.gains.shape[1], lists.gains.shape[1])
        found = torch.stack([MEASURES[name](lists, k, self.k or k, self.convention) for name in self.measures])
        graded = torch.tensor([name == "ndcg" for name in self.measures]).unsqueeze(1)
        empty = torch.where(graded, lists.ideal[:, 0] == 0, lists.total == 0)
        return found.masked_fill(empty, math.nan if self.convention.empty == "skip" else self.convention.empty)


def _chosen(convention: str | None, parts: Mapping[str, object]) -> Convention:
    """The convention of this name, or the default with the parts that are given."""
    given = {name: value for name, value in parts.items() if value is not None}
    if convention is None:
        return replace(Convention(), **given)  # type: ignore[arg-type]
    if convention not in CONVENTIONS:
        known = ", ".join(CONVENTIONS)
        raise LikewiseError(f"there is no convention {convention!r}.{closest(convention, CONVENTIONS)} Known: {known}.")
    if given:
        raise LikewiseError(f"convention={convention!r} sets {next(iter(given))}; leave one of them out.")
    return CONVENTIONS[convention]


def _chunks(
    scores: Numbers, relevance: Numbers, mask: Flags | Tensor | None, offsets: Ids | None, before: int
) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Padded lists on the CPU, some queries at a time: scores (q, n), float64 relevance (q, n), earlier queries.

    Padding has score −inf and relevance 0. ``before`` queries came in earlier calls. Raises LikewiseError on what
    :func:`ndcg` refuses.
    """
    scores, relevance = (
        as_tensor(name, values).detach().cpu() for name, values in (("scores", scores), ("relevance", relevance))
    )
    if scores.shape != relevance.shape:
        raise LikewiseError(f"scores {tuple(scores.shape)} and relevance {tuple(relevance.shape)} must have one shape.")
    if scores.is_complex() or relevance.is_complex():
        raise LikewiseError("scores and relevance must be real numbers.")
    if offsets is not None:
        yield from _ragged(scores, relevance, mask, offsets, before)
        return
    if scores.ndim == 1:
        scores, relevance = scores.unsqueeze(0), relevance.unsqueeze(0)
    if scores.ndim != 2 or 0 in scores.shape:
        raise LikewiseError(
            f"scores {tuple(scores.shape)} must be (N,) of one query, (Q, N) of several, or (M,) with offsets."
        )
    judged = torch.ones_like(scores, dtype=torch.bool)
    if mask is not None:
        judged = as_flags("mask", mask).cpu()
        judged = judged.unsqueeze(0) if judged.ndim == 1 else judged
        if judged.shape != scores.shape:
            raise LikewiseError(f"mask {tuple(judged.shape)} must have the shape of the scores {tuple(scores.shape)}.")
    step = max(1, CELLS // scores.shape[1])
    for start in range(0, len(scores), step):
        part = slice(start, start + step)
        yield _checked(scores[part], relevance[part], judged[part], before + start)


def _ragged(
    scores: Tensor, relevance: Tensor, mask: Flags | Tensor | None, offsets: Ids, before: int
) -> Iterator[tuple[Tensor, Tensor, int]]:
    """:func:`_chunks` of lists that follow each other."""
    ends = as_ids("offsets", offsets).cpu()
    if mask is not None:
        raise LikewiseError("mask is for padded lists, and offsets for lists that follow each other; leave one out.")
    if scores.ndim != 1 or ends.ndim != 1 or len(ends) < 2:
        raise LikewiseError(
            f"with offsets (Q + 1,), scores are (M,), not {tuple(scores.shape)} with {tuple(ends.shape)}."
        )
    lengths = ends.diff()
    if int(ends[0]) != 0 or int(ends[-1]) != len(scores) or bool((lengths < 0).any()):
        raise LikewiseError(f"offsets must rise from 0 to the {len(scores)} items.")
    start = 0
    while start < len(lengths):
        # as many lists as fit when all are as long as the longest of them
        longest = lengths[start : start + CELLS].cummax(0).values.clamp(min=1)
        fits = int((longest * torch.arange(1, len(longest) + 1) <= CELLS).sum())
        stop = start + max(1, fits)
        place = torch.arange(int(longest[stop - start - 1])).expand(stop - start, -1)
        judged = place < lengths[start:stop].unsqueeze(1)
        rows = (place + ends[start:stop].unsqueeze(1)).masked_fill(~judged, 0)
        if len(scores):
            yield _checked(scores[rows], relevance[rows], judged, before + start)
        else:
            yield _checked(torch.zeros(rows.shape), torch.zeros(rows.shape), judged, before + start)
        start = stop


def _checked(scores: Tensor, relevance: Tensor, judged: Tensor, before: int) -> tuple[Tensor, Tensor, int]:
    """One chunk. Raises LikewiseError on NaN; ``before`` is the number of earlier queries."""
    for name, values in (("score", scores), ("relevance", relevance)):
        bad = (values.isnan() & judged).any(1)
        if bool(bad.any()):
            raise LikewiseError(f"a {name} of query {before + int(bad.nonzero()[0])} is NaN.")
    kept = scores if scores.is_floating_point() else scores.double()
    return kept.masked_fill(~judged, -math.inf), relevance.double().masked_fill(~judged, 0), before


def _in_order(scores: Tensor, relevance: Tensor, convention: Convention, before: int) -> Lists:
    """The lists by falling score. Raises LikewiseError on relevance that is negative or has no finite gain."""
    if convention.negative:
        relevance = relevance.clamp(min=0)
    lowest, query = relevance.amin(1).min(0)
    if float(lowest) < 0:
        raise LikewiseError(f"relevance {float(lowest):g} of query {before + int(query)} is negative; give 0 or more.")
    gains = relevance if convention.gains == "linear" else torch.exp2(relevance) - 1
    if not bool((gains.sum(1) < math.inf).all()):
        largest, query = relevance.amax(1).max(0)
        raise LikewiseError(
            f"relevance {float(largest):g} of query {before + int(query)} has no finite gain; scale it down."
        )
    relevant = relevance > 0 if convention.relevant is None else relevance >= convention.relevant
    if convention.ties == "last first":
        scores, gains, relevant = scores.flip(1), gains.flip(1), relevant.flip(1)
    ordered, order = scores.sort(dim=1, descending=True, stable=True)
    returned = ordered > -math.inf
    return Lists(
        gains=gains.gather(1, order) * returned,
        scores=ordered,
        returned=returned,
        relevant=relevant.gather(1, order) & returned,
        total=relevant.sum(1).double(),
        ideal=gains.sort(1, descending=True).values,
    )


def _discounts(n: int, k: int) -> Tensor:
    """(n,) float64: 1 / log2(rank + 1) of the first k ranks, then 0."""
    discounts = 1 / torch.log2(torch.arange(2, n + 2, dtype=torch.float64))
    discounts[k:] = 0
    return discounts


def _ndcg(lists: Lists, k: int, places: int, convention: Convention) -> Tensor:
    discounts = _discounts(lists.gains.shape[1], k)
    shares = discounts.expand_as(lists.gains)
    if convention.ties == "averaged":
        group = torch.zeros_like(lists.scores, dtype=torch.int64)
        group[:, 1:] = (lists.scores[:, 1:] != lists.scores[:, :-1]).cumsum(1)
        sums = torch.zeros_like(lists.gains).scatter_add_(1, group, shares.contiguous())
        sizes = torch.zeros_like(lists.gains).scatter_add_(1, group, torch.ones_like(lists.gains))
        shares = (sums / sizes.clamp(min=1)).gather(1, group)
    return (lists.gains * shares).sum(1) / (lists.ideal * discounts).sum(1)


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
    "map": _average_precision,
    "mrr": _reciprocal_rank,
    "hit": _hit,
    "recall": _recall,
    "precision": _precision,
}


def coverage(recommended: Ids, items: int) -> float:
    """The share of a catalogue that is recommended to anyone: distinct items in (Q, K) rows, divided by ``items``.

    Args:
        recommended: (Q, K) numbers of items from 0; −1 for a place without an item.
        items: the size of the catalogue.

    Raises LikewiseError on other shapes, and on a number beyond the catalogue.
    """
    places = _recommended(recommended, items)
    return len(torch.unique(places[places >= 0])) / items


def popularity(recommended: Ids, counts: Numbers) -> float:
    """How popular what is recommended is: the mean, over all places, of the share of items that are less popular.

    0.5 is a draw without regard to popularity, and near 1 are the most popular items alone. Items of the same count
    share the mean of their places.

    Args:
        recommended: (Q, K) numbers of items from 0; −1 for a place without an item.
        counts: (items,) how many engaged with each item.

    Raises LikewiseError on other shapes, a number beyond the catalogue, and rows without any item.
    """
    numbers = as_tensor("counts", counts).detach().cpu().double()
    if numbers.ndim != 1 or not len(numbers) or not bool(numbers.isfinite().all()):
        raise LikewiseError(f"counts {tuple(numbers.shape)} must be (items,) finite numbers.")
    places = _recommended(recommended, len(numbers))
    if not bool((places >= 0).any()):
        raise LikewiseError("no item is recommended.")
    ordered = numbers.sort().values
    below, upto = (torch.searchsorted(ordered, numbers, right=right) for right in (False, True))
    share = (below + upto).double() / (2 * len(numbers))
    return float(share[places[places >= 0]].mean())


def _recommended(recommended: Ids, items: int) -> Tensor:
    places = as_ids("recommended", recommended).cpu()
    at_least_one("items", items, "it is the size of the catalogue")
    if places.ndim != 2:
        raise LikewiseError(f"recommended {tuple(places.shape)} must be (Q, K), one row for each query.")
    if places.numel() and (int(places.min()) < -1 or int(places.max()) >= items):
        raise LikewiseError(f"recommended items must be from 0 to {items - 1}, or −1 for none.")
    return places
