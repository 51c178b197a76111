"""Exact retrieval: Recall@k, R-Precision, MAP@R, mAP, MRR, each class, hubs, and the pairs that are most wrong.

Dimension legend: Q queries, K gallery items, D columns, L labels of an item, C classes.
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from likewise.alike import Ids, as_ids, check_labels, first_among
from likewise.console import Tick, untold
from likewise.errors import LikewiseError, LikewiseWarning, at_least_one, number
from likewise.metrics.checks import Rows, as_rows, check_peaks, peaks
from likewise.metrics.exact_scores import unpack
from likewise.metrics.neighbours import checked_search
from likewise.metrics.ranks import Ranks, Relevance, columns, ranks
from likewise.pages.notebook import cell
from likewise.pages.pieces import grid, note

_WEAKEST = 5  # labels that a notebook shows
_CHECKED = 8192  # rows copied at once


class Pair(NamedTuple):
    """A query and a gallery item, by row, and their inner product."""

    query: int
    gallery: int
    score: float


@dataclass(frozen=True, kw_only=True, eq=False)
class PerQuery:
    """The measures of each query, in order. For a query without a relevant item they are NaN, and its rank is 0."""

    relevant: Tensor  # (Q,) int64, R: relevant items in the gallery, the query itself left out
    first_rank: Tensor  # (Q,) int64, rank of the nearest relevant item, from 1; 0 without any
    r_precision: Tensor  # (Q,) float64
    map_at_r: Tensor  # (Q,) float64
    average_precision: Tensor  # (Q,) float64


@dataclass(frozen=True, kw_only=True, eq=False)
class PerClass:
    """Means over the queries of each class, ascending by label. A query with several labels counts in each class."""

    labels: Tensor  # (C,) int64, labels of the queries that have a relevant item
    queries: Tensor  # (C,) int64, number of these queries
    precision_at_1: Tensor  # (C,) float64
    r_precision: Tensor  # (C,) float64
    map_at_r: Tensor  # (C,) float64
    average_precision: Tensor  # (C,) float64


class WorstClass(NamedTuple):
    """The class with the smallest MAP@R; of equal ones the smallest label."""

    label: int
    queries: int
    precision_at_1: float
    map_at_r: float


class Hubness(NamedTuple):
    """How unevenly gallery items occur among the k nearest of the queries (Radovanović et al. 2010).

    N_k(x) is the number of queries that have x among their k nearest. The measures depend on Q, K and k; compare only
    measures of the same sizes. With fewer queries than items, most items never occur, however good the embedding is.
    """

    k: int
    skewness: float  # of N_k over the gallery: E[(N_k − μ)³] / σ³; 0 when all are equal
    anti_hubs: float  # share of the gallery that is among no query's k nearest
    top_row: int  # row of the item that occurs most often; of equal ones the smallest row
    top_count: int  # number of queries that it occurs for
    occurrences: Tensor  # (K,) int64, N_k


@dataclass(frozen=True, kw_only=True, eq=False)
class Retrieval:
    """The result of ``retrieval``. Means are over the ``queries`` that have a relevant item in the gallery."""

    recall: dict[int, float]  # Recall@k by k
    precision_at_1: float
    r_precision: float
    map_at_r: float
    mean_average_precision: float
    mrr: float
    queries: int  # queries with a relevant item
    without_relevant: int  # the other queries; they do not count
    per_query: PerQuery = field(repr=False)
    per_class: PerClass = field(repr=False)
    worst_class: WorstClass
    hubness: Hubness = field(repr=False)
    nearest_different: tuple[Pair, ...] = field(repr=False)
    furthest_same: tuple[Pair, ...] = field(repr=False)

    def _repr_html_(self) -> str:
        recall = {f"Recall@{k}": value for k, value in self.recall.items()}
        means = {"R-Precision": self.r_precision, "MAP@R": self.map_at_r, "mAP": self.mean_average_precision}
        rows = [[name, f"{100 * value:.1f}"] for name, value in {**recall, **means, "MRR": self.mrr}.items()]
        each = self.per_class
        order = each.map_at_r.argsort(stable=True)[:_WEAKEST].tolist()
        weak = [[str(int(each.labels[at])), f"{int(each.queries[at]):,}", f"{each.map_at_r[at]:.1%}"] for at in order]
        others = f"; {self.without_relevant:,} more have no relevant item and do not count" * bool(
            self.without_relevant
        )
        about = note(f"{self.queries:,} queries{others}.")
        worst = grid(["weakest labels, by number", "queries", "MAP@R"], weak)
        return cell(about + grid(["measure", "%"], rows) + worst)


def retrieval(
    queries: Rows,
    query_labels: Ids,
    gallery: Rows | None = None,
    gallery_labels: Ids | None = None,
    *,
    query_ids: Ids | None = None,
    gallery_ids: Ids | None = None,
    ks: Sequence[int] = (1, 2, 4, 8),
    hub_k: int = 10,
    worst: int = 10,
    tile: int | None = None,
    tick: Tick = untold,
) -> Retrieval:
    """Looks every query up in the gallery and measures its ranking. A gallery item is relevant if it shares a label.

    The gallery is ranked by inner product (the cosine, for unit rows), descending. **Of two equal scores the smaller
    gallery row comes first**, so that duplicates have definite ranks. Scores are those of ``top_k``: computed exactly,
    then rounded to float32. R is the number of relevant items of a query, rel(i) is 1 if the i-th item of the ranking
    is relevant and else 0, and P(i) = 1/i Σ_{j≤i} rel(j):

    - Recall@k: share of queries with a relevant item among the k nearest (Jégou et al. 2011). Precision@1 is Recall@1.
    - R-Precision: P(R). MAP@R: 1/R Σ_{i≤R} P(i) rel(i) (Musgrave, Belongie and Lim 2020, eq. 2).
    - mAP: mean over queries of 1/R Σ_i P(i) rel(i) over the **full** ranking. MRR: mean of 1 / rank of the first
      relevant item.

    A query without a relevant item does not count in any mean; ``without_relevant`` is the number of such queries.
    They do count in hubness, which needs no label.

    Two lists have the pairs that are most wrong. ``nearest_different`` pairs queries with their nearest item that is
    not relevant, highest scores first. ``furthest_same`` pairs queries with their last relevant item, lowest scores
    first. In each list a gallery item occurs once, in the worst of its pairs. A pair of two items is listed once, even
    if each is the query of the other.

    Args:
        queries: (Q, D) float, any scale; unit rows make the scores cosines.
        query_labels: (Q,) integers, or (Q, L) for several labels an item; below 0: no label, relevant to nothing.
        gallery: (K, D) float. None: the queries themselves, each left out of its own ranking. It may be on another
            device: its tiles are moved to that of the queries.
        gallery_labels: (K,) or (K, L) integers; an item without a label is never relevant.
        query_ids: (Q,) integers, given with ``gallery_ids``: gallery items with the query's id are left out of its
            ranking. Without ids, a warning says if the first queries are all rows of the gallery, equal to the bit.
        gallery_ids: (K,) integers, not necessarily distinct.
        ks: the k of Recall@k, each ≥ 1.
        hub_k: number of nearest items that hubs are counted in, ≥ 1; with fewer gallery items, K.
        worst: length of the lists of pairs, ≥ 0.
        tile: gallery rows computed at once; changes memory and speed only.
        tick: told the share of the work that is done.

    Raises:
        LikewiseError: wrong shapes, dtypes or lengths, NaN or infinity (by row), scores beyond float32, a k < 1, a
            gallery that is the queries without ids, or no query with a relevant item.

    Cost: O(Q·K·(D + log K)) time in float64: about 3 times that of the products alone, 8 to 12 times if a tenth of some
    ten thousand items is relevant, and up to 36 times at R = 100,000. Memory beyond the inputs: about 200 bytes a query
    and 50 a gallery item, and 100 to 600 MiB for tiles and for up to 4 million relevant items at once (or R, if that is
    more). No matrix of Q×K or Q×R is stored. A million items of 128 numbers take 126 MiB at R = 200, 650 MiB at
    R = 100,000.

    Results are the same to the bit for any tile, any number of threads and any batching of the queries: the measures
    of a query depend on that query alone, and a mean is an exact sum that is rounded once.
    """
    if gallery is None:
        if gallery_labels is not None or query_ids is not None or gallery_ids is not None:
            raise LikewiseError("gallery_labels, query_ids and gallery_ids need a gallery: give it too.")
        queries = gallery = as_rows("queries", queries)
        gallery_labels, query_ids = query_labels, torch.arange(queries.shape[0])
        gallery_ids = query_ids
    if gallery_labels is None:
        raise LikewiseError("gallery_labels are missing; give one label per row of the gallery.")
    _check_numbers(ks, worst, tile)
    queries, gallery, query_ids, gallery_ids = checked_search(
        queries, gallery, hub_k, query_ids, gallery_ids, names=("gallery", "gallery_ids")
    )
    _check_sizes(queries, gallery, by_ids=query_ids is not None)
    device = queries.device
    query_labels = _labels("query_labels", query_labels, queries).to(device)
    gallery_labels = _labels("gallery_labels", gallery_labels, gallery).to(device)
    if query_labels.shape[1:] == gallery_labels.shape[1:]:
        check_labels("labels", torch.cat([query_labels, gallery_labels]))
    query_ids = None if query_ids is None else query_ids.to(device)
    gallery_ids = None if gallery_ids is None else gallery_ids.to(device)
    if query_ids is None:
        _warn_of_copies(queries, gallery)
    relevance = Relevance(query_labels, gallery_labels, query_ids, gallery_ids)
    ranked = ranks(queries, gallery, relevance, min(hub_k, gallery.shape[0]), tile, tick)
    if not bool((ranked.relevant > 0).any()):
        raise LikewiseError(
            f"none of the {queries.shape[0]} queries has another item of its label in the gallery of "
            f"{gallery.shape[0]}; check that both number their labels alike."
        )
    names = (query_ids, gallery_ids) if query_ids is not None and gallery_ids is not None else None
    return _summary(ranked, query_labels.cpu(), names, tuple(ks), min(hub_k, gallery.shape[0]), worst)


def _summary(
    ranked: Ranks, labels: Tensor, ids: tuple[Tensor, Tensor] | None, ks: tuple[int, ...], hub_k: int, worst: int
) -> Retrieval:
    """All measures, from the ranks of every query."""
    counts = ranked.relevant > 0
    some, first = int(counts.sum()), ranked.first[counts]
    r_precision = ranked.within.double() / ranked.relevant.clamp_min(1)
    nan = torch.tensor(torch.nan, dtype=torch.float64)
    per_query = PerQuery(
        relevant=ranked.relevant,
        first_rank=ranked.first,
        r_precision=torch.where(counts, r_precision, nan),
        map_at_r=torch.where(counts, ranked.ap_at_r, nan),
        average_precision=torch.where(counts, ranked.ap, nan),
    )
    per_class = _per_class(per_query, counts, labels)
    return Retrieval(
        recall={k: int((first <= min(k, torch.iinfo(first.dtype).max)).sum()) / some for k in ks},
        precision_at_1=int((first <= 1).sum()) / some,
        r_precision=_mean(r_precision[counts]),
        map_at_r=_mean(ranked.ap_at_r[counts]),
        mean_average_precision=_mean(ranked.ap[counts]),
        mrr=_mean(1.0 / first.double()),
        queries=some,
        without_relevant=len(counts) - some,
        per_query=per_query,
        per_class=per_class,
        worst_class=_worst_class(per_class),
        hubness=hubness(ranked.occurrences, hub_k),
        nearest_different=_pairs(ranked.other, worst, ids, largest=True),
        furthest_same=_pairs(ranked.furthest, worst, ids, largest=False),
    )


def _mean(values: Tensor) -> float:
    """The exact mean, rounded once. torch's sum would depend on the number of threads."""
    return math.fsum(values.tolist()) / len(values)


def _per_class(per_query: PerQuery, counts: Tensor, labels: Tensor) -> PerClass:
    """Means by label over the queries that count. O(Q·L·log(Q·L))."""
    wide = columns(labels)
    query, column = ((wide >= 0) & counts[:, None]).nonzero(as_tuple=True)
    names, place = torch.unique(wide[query, column], return_inverse=True)
    size = torch.bincount(place, minlength=len(names))

    def mean(values: Tensor) -> Tensor:
        sums = np.bincount(place.numpy(), weights=values[query].double().numpy(), minlength=len(names))  # adds in order
        return torch.from_numpy(sums) / size

    return PerClass(
        labels=names,
        queries=size,
        precision_at_1=mean(per_query.first_rank == 1),
        r_precision=mean(per_query.r_precision),
        map_at_r=mean(per_query.map_at_r),
        average_precision=mean(per_query.average_precision),
    )


def _worst_class(classes: PerClass) -> WorstClass:
    """The class with the smallest MAP@R; of equal ones the first."""
    place = int((classes.map_at_r == classes.map_at_r.min()).nonzero()[0])
    figures = (column[place].item() for column in (classes.precision_at_1, classes.map_at_r))
    return WorstClass(int(classes.labels[place]), int(classes.queries[place]), *figures)


def hubness(occurrences: Tensor, k: int) -> Hubness:
    """``Hubness`` of occurrences: how many queries have each item among their k nearest, (K,) int64, K ≥ 1, none < 0.

    Moments are exact whole numbers until the last division. O(K log K).
    """
    values, times = (column.tolist() for column in torch.unique(occurrences, return_counts=True))
    size = len(occurrences)
    sum_1, sum_2, sum_3 = (sum(t * v**power for v, t in zip(values, times, strict=True)) for power in (1, 2, 3))
    variance = size * sum_2 - sum_1**2  # × K²
    third = size**2 * sum_3 - 3 * size * sum_1 * sum_2 + 2 * sum_1**3  # × K³
    top = int((occurrences == occurrences.max()).nonzero()[0])
    return Hubness(
        k=k,
        skewness=third / variance**1.5 if variance else 0.0,
        anti_hubs=times[0] / size if values[0] == 0 else 0.0,
        top_row=top,
        top_count=int(occurrences[top]),
        occurrences=occurrences,
    )


def _pairs(packed: Tensor, count: int, ids: tuple[Tensor, Tensor] | None, *, largest: bool) -> tuple[Pair, ...]:
    """The worst of the queries' pairs, one pair for each query. A gallery item is listed once, and so is a pair."""
    score, row = unpack(packed)
    query = (row >= 0).nonzero().squeeze(1)
    query = query[score[query].argsort(descending=largest, stable=True)]  # of equal scores the smaller query first
    by_item = row[query].argsort(stable=True)
    item = row[query][by_item]
    leads = torch.ones_like(item, dtype=torch.bool)
    leads[1:] = item[1:] != item[:-1]
    chosen = query[by_item[leads].sort().values]
    pairs: list[Pair] = []
    seen = set[frozenset[int]]()
    for place in chosen[: 2 * count].tolist():  # a pair occurs at most twice, once for each of its items
        pair = Pair(place, int(row[place]), float(score[place]))
        if ids is not None:
            both = frozenset((int(ids[0][pair.query]), int(ids[1][pair.gallery])))
            if both in seen:
                continue
            seen.add(both)
        pairs.append(pair)
    return tuple(pairs[:count])


def _check_numbers(ks: Sequence[int], worst: int, tile: int | None) -> None:
    counts = list(ks) if isinstance(ks, Iterable) else []
    if not counts or any(not 1 <= number("ks", k) < math.inf or k != int(k) for k in counts):
        raise LikewiseError(f"ks must be numbers of neighbours, each at least 1, but are {ks!r}.")
    if worst != 0:
        at_least_one("worst", worst, "it is the length of the lists of pairs; 0 makes none")
    if tile is not None:
        at_least_one("tile", tile, "it is a number of gallery rows")


def _check_sizes(queries: Tensor, gallery: Tensor, *, by_ids: bool) -> None:
    """Refuse a gallery that is the queries without ids, and scores beyond float32. One pass over both."""
    if not by_ids and gallery.data_ptr() == queries.data_ptr() and gallery.shape == queries.shape:
        raise LikewiseError(
            "queries and gallery are the same rows, so every item would find itself first; give query_ids and "
            "gallery_ids, or leave the gallery out."
        )
    largest = _largest("queries", queries) * _largest("gallery", gallery) * queries.shape[1]
    if largest > torch.finfo(torch.float32).max:
        raise LikewiseError("inner products of these rows don't fit into float32; divide each row by its length.")


def _warn_of_copies(queries: Tensor, gallery: Tensor) -> None:
    """Warns if the first queries are all rows of the gallery, equal to the bit. Without ids they find themselves."""
    if count := first_among(queries, gallery):
        warnings.warn(
            f"the first {count} queries are rows of the gallery too, and find themselves; give query_ids and "
            "gallery_ids, by which an item is left out of its own ranking.",
            LikewiseWarning,
            stacklevel=3,
        )


def _largest(name: str, rows: Tensor) -> float:
    """The largest magnitude of any entry. Raises LikewiseError, with the row, on NaN or infinity."""
    largest = 0.0
    for start in range(0, rows.shape[0], _CHECKED):
        of_rows = peaks(rows[start : start + _CHECKED])
        check_peaks(name, of_rows, start)
        largest = max(largest, float(of_rows.max()))
    return largest


def _labels(name: str, labels: Ids, rows: Tensor) -> Tensor:
    """(N,) or (N, L) labels of the rows."""
    numbers = as_ids(name, labels)
    if numbers.ndim not in (1, 2) or numbers.shape[0] != rows.shape[0] or numbers.shape[-1] == 0:
        raise LikewiseError(
            f"{name} must be ({rows.shape[0]},), one per row, or ({rows.shape[0]}, L) for several, "
            f"but have shape {tuple(numbers.shape)}."
        )
    return numbers
