"""The ranks of every query's relevant items in the whole gallery: exact, in tiles, without a Q×K matrix.

Recall@k, R-Precision, MAP@R, mAP and MRR need only the ranks of the relevant items. A rank needs no sorted gallery: it
is 1 + the number of gallery items that come before. The scores of the relevant items are therefore computed first. Then
the gallery is read once, tile by tile, and each tile counts how many of its items come before each relevant item.

Scores are those of ``neighbours.top_k``. They are exact, so the two products compared here agree to the bit, and
results do not depend on tiles, threads or the batching of queries. Of two equal scores the smaller gallery row comes
first.

Dimension legend: Q queries, K gallery items, D columns, L labels of an item, B queries of a part, P the largest number
of relevant items of one of them, W columns of a tile, U gallery rows that share a label with a group of queries.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from likewise.console import Tick, untold
from likewise.metrics.exact_scores import Tiles, leading, merge, pack, snap, unpack

_SCORES = 2**22  # scores of a part and a tile: 48 MiB in float64 and float32, and 16 more while they are sorted
_QUERIES = 512  # queries of a part at most
_TILE = 2**14  # gallery rows of a tile; more if there are many relevant items, as each is looked up in each tile
_LARGEST_TILE = 2**16
_TILE_BYTES = 64 * 2**20  # of a tile's float64 rows
_ENTRIES = 2**22  # relevant items and neighbours in memory at once, over all parts; 24 bytes each
_SPLIT = 2**16  # from so many numbers on, several threads sort them
_TIED = 64  # queries whose ties are resolved at once


class Ranks(NamedTuple):
    """What is kept of every query and every gallery item, on the CPU, in their order."""

    relevant: Tensor  # (Q,) int64, R: gallery items that share a label with the query, itself left out
    first: Tensor  # (Q,) int64, rank of the first relevant item; 0 where there is none
    within: Tensor  # (Q,) int64, relevant items among the R nearest
    ap_at_r: Tensor  # (Q,) float64, 1/R Σ_{i≤R} P(i) rel(i)
    ap: Tensor  # (Q,) float64, 1/R Σ_i P(i) rel(i)
    furthest: Tensor  # (Q,) int64, packed score and row of the last relevant item
    other: Tensor  # (Q,) int64, packed score and row of the first item that is not relevant
    occurrences: Tensor  # (K,) int64, number of queries that have the item among their k nearest


class Relevance:
    """Which gallery items are relevant to a query: those that share a label with it, itself (by id) left out.

    Args:
        query_labels: (Q,) or (Q, L) integers; below 0: no label.
        gallery_labels: (K,) or (K, L) integers; below 0: no label.
        query_ids: (Q,) integers or None.
        gallery_ids: (K,) integers or None.
    """

    def __init__(
        self, query_labels: Tensor, gallery_labels: Tensor, query_ids: Tensor | None, gallery_ids: Tensor | None
    ) -> None:
        wanted, labels = columns(query_labels).contiguous(), columns(gallery_labels)
        row, column = (labels >= 0).nonzero(as_tuple=True)
        values, order = labels[row, column].sort(stable=True)
        self.query_ids, self.gallery_ids = query_ids, gallery_ids
        self._rows = row[order]  # gallery rows by label, then by row
        self._first = torch.searchsorted(values, wanted)  # (Q, L)
        count = torch.searchsorted(values, wanted, right=True) - self._first
        self._count = count.masked_fill_(wanted < 0, 0)
        self.bound = self._count.sum(1)  # (Q,) at least the number of relevant items

    def order(self) -> Tensor:
        """The queries sorted by the bound on their relevant items; queries with equal labels are together."""
        by_label = self._first[:, 0].argsort(stable=True)
        return by_label[self.bound[by_label].argsort(stable=True)]

    def groups(self, queries: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Runs of (B,) queries with equal labels, and (U,) gallery rows with one of these; the queries are included."""
        ranges = torch.cat([self._first[queries], self._count[queries]], 1)
        breaks = (ranges[1:] != ranges[:-1]).any(1).nonzero().squeeze(1) + 1
        edges = [0, *breaks.tolist(), len(queries)]
        for start, stop in pairwise(edges):
            first, count = ranges[start].view(2, -1).tolist()
            rows = [self._rows[at : at + number] for at, number in zip(first, count, strict=True)]
            yield slice(start, stop), rows[0] if len(rows) == 1 else torch.unique(torch.cat(rows))

    def exclude(self, scores: Tensor, queries: Tensor, rows: slice | Tensor) -> None:
        """Sets (B, U) scores of (B,) queries and gallery rows to −inf where both have the same id."""
        if self.query_ids is None or self.gallery_ids is None:
            return
        mine, others = self.query_ids[queries], self.gallery_ids[rows]
        some = torch.isin(others, mine).nonzero().squeeze(1)  # few, so comparing all pairs of them is cheap
        query, column = (mine[:, None] == others[some]).nonzero(as_tuple=True)
        scores[query, some[column]] = -torch.inf


@dataclass
class _Part:
    """The state of some queries while the gallery is read, tile by tile."""

    queries: Tensor  # (B,) rows
    relevant: Tensor  # (B,) R
    score: Tensor  # (B, P) float32 of the relevant items, best first; −inf beyond R
    row: Tensor  # (B, P) int64 of the relevant items; −1 beyond R
    before: Tensor  # (B, P) int64, number of gallery items read so far that come before
    best: Tensor  # (B, k) packed
    other: Tensor  # (B,) packed


def columns(labels: Tensor) -> Tensor:
    """(N,) or (N, L) labels as int64 (N, L), each label of a row once; below 0: no label."""
    if labels.ndim == 1:
        return labels[:, None].long()
    wide = labels.long().sort(1).values
    wide[:, 1:] = wide[:, 1:].masked_fill(wide[:, 1:] == wide[:, :-1], -1)
    return wide


@torch.no_grad()
def ranks(
    queries: Tensor,
    gallery: Tensor,
    relevance: Relevance,
    k: int,
    tile: int | None = None,
    tick: Tick = untold,
) -> Ranks:
    """Ranks of every query's relevant items, its nearest irrelevant item, and how often each item is a k nearest.

    Args:
        queries: (Q, D) float, finite.
        gallery: (K, D) float, finite; tiles are moved to the queries' device.
        relevance: over the same queries and gallery, on the queries' device.
        k: number of nearest items whose occurrences are counted, 1 ≤ k ≤ K.
        tile: gallery rows computed at once; None: chosen by memory. Changes memory and speed only.
        tick: told the share of the work that is done.

    Raises LikewiseError on NaN or infinity (by row).

    Cost: O(Q·K·(D + log W)) time, and O(Q·R·log W·K/W) more if R is large. Memory O(Q + K) and 100 to 500 MiB: tiles,
    and up to 4 million relevant items at once (or R, if that is more). The gallery is read again for each such group.
    """
    device, size = queries.device, queries.shape[0]
    result = _empty(size, gallery.shape[0])
    step = _step(gallery, int(relevance.bound.max())) if tile is None else min(tile, gallery.shape[0])
    size = min(_QUERIES, max(1, _SCORES // step))
    tiles = Tiles(size, step, device)
    done = 0
    for chosen in _plan(relevance, size, k):
        parts = [_begin(queries, gallery, relevance, part, k) for part in chosen]
        asked = sum(map(len, chosen))
        for start in range(0, gallery.shape[0], step):
            block = snap("gallery", gallery[start : start + step].to(device), start)
            for part in parts:
                scores = tiles.product(snap("queries", queries[part.queries], 0), block)
                relevance.exclude(scores[:, : len(block)], part.queries, slice(start, start + len(block)))
                _see(part, scores, start, start + len(block))
            tick((done + asked * (start + len(block)) / gallery.shape[0]) / queries.shape[0])
        for part in parts:
            _finish(part, result)
        done += asked
    return result


def _empty(queries: int, items: int) -> Ranks:
    """The result before anything is measured: zeros."""
    whole, real = (torch.zeros(queries, dtype=dtype) for dtype in (torch.int64, torch.float64))
    return Ranks(
        relevant=whole,
        first=whole.clone(),
        within=whole.clone(),
        ap_at_r=real,
        ap=real.clone(),
        furthest=whole.clone(),
        other=whole.clone(),
        occurrences=torch.zeros(items, dtype=torch.int64),
    )


def _step(gallery: Tensor, relevant: int) -> int:
    """Gallery rows of a tile."""
    wanted = min(max(_TILE, relevant), _LARGEST_TILE)
    return min(gallery.shape[0], wanted, max(1024, _TILE_BYTES // (8 * gallery.shape[1])))


def _plan(relevance: Relevance, size: int, k: int) -> Iterator[list[Tensor]]:
    """The queries in parts of at most ``size``, and the parts in lists that fit into memory together."""
    order = relevance.order()
    bound = relevance.bound[order].cpu()
    parts: list[Tensor] = []
    held = start = 0
    while start < len(order):
        stop = min(start + size, len(order))
        stop = min(stop, start + max(1, _ENTRIES // (int(bound[stop - 1]) + k)))  # ascending: the last is the largest
        entries = (stop - start) * (int(bound[stop - 1]) + k)
        if parts and held + entries > _ENTRIES:
            yield parts
            parts, held = [], 0
        parts.append(order[start:stop])
        held += entries
        start = stop
    yield parts


def _begin(queries: Tensor, gallery: Tensor, relevance: Relevance, part: Tensor, k: int) -> _Part:
    """The state of some queries before the gallery is read: their relevant items, best first."""
    nothing = pack(torch.full((1,), -torch.inf), torch.zeros(1, dtype=torch.int64)).to(queries.device)
    packed = nothing.repeat(len(part), max(1, int(relevance.bound[part].max())))
    snapped = snap("queries", queries[part], 0)
    for some, rows in relevance.groups(part):
        step = max(1, min(_SCORES // (some.stop - some.start), _TILE_BYTES // (8 * gallery.shape[1])))
        for start in range(0, len(rows), step):
            row = rows[start : start + step]
            block = snap("gallery", gallery[row.to(gallery.device)].to(queries.device), 0)
            scores = (snapped[some] @ block.T).float()  # exact, so the same as in any tile
            relevance.exclude(scores, part[some], row)
            packed[some, start : start + len(row)] = pack(scores, row)
    score, row = unpack(packed.sort(1, descending=True).values)
    relevant = (row >= 0).sum(1)
    width = max(1, int(relevant.max()))
    score, row = score[:, :width].contiguous(), row[:, :width].contiguous()
    best, other = nothing.repeat(len(part), k), nothing.repeat(len(part))
    return _Part(part, relevant, score, row, torch.zeros_like(row), best, other)


def _see(part: _Part, scores: Tensor, start: int, stop: int) -> None:
    """Adds what a tile's (B, W) scores of gallery rows ``start`` to ``stop`` count; the scores are overwritten."""
    part.best = merge(part.best, scores, leading(scores), start)
    query, place = ((part.row >= start) & (part.row < stop)).nonzero(as_tuple=True)
    part.before += _before(scores, part.score, part.row, (query, place), start, stop)
    scores[query, part.row[query, place] - start] = -torch.inf
    value = scores.amax(1)
    better = (value > unpack(part.other)[0]).nonzero().squeeze(1)  # an equal score of a later row is not better
    if len(better):
        place, column = (scores[better] == value[better, None]).nonzero(as_tuple=True)  # in order of columns
        first = column[torch.searchsorted(place, torch.arange(len(better), device=place.device))]
        part.other[better] = pack(value[better], first + start)


def _before(scores: Tensor, score: Tensor, row: Tensor, own: tuple[Tensor, Tensor], start: int, stop: int) -> Tensor:
    """(B, P) int64: how many of a tile's items come before each relevant item.

    An item comes before if its score is greater, or if the scores are equal and its row is smaller. In a tile before
    the relevant item's row all equal scores come before; in a later tile none does. ``own`` lists the relevant items
    that are in this tile. If one of them has the score of another item of the tile, which is rare, sorted keys of score
    and row give its exact place.
    """
    ordered = _ascending(scores)
    limit = torch.where(row >= stop, torch.nextafter(score, torch.tensor(-torch.inf, device=score.device)), score)
    behind = torch.searchsorted(ordered, limit, right=True)
    result = ordered.shape[1] - behind
    query, place = own
    previous = behind[query, place] - 2  # the item itself is at −1
    tied = (previous >= 0) & (ordered[query, previous.clamp_min(0)] == score[query, place])
    for some in torch.split(torch.unique(query[tied]), _TIED):
        result[some] = before_by_keys(scores[some], score[some], row[some], start)
    return result


def before_by_keys(scores: Tensor, score: Tensor, row: Tensor, start: int) -> Tensor:
    """The naive twin of ``_before``: sorts keys of score and row, for any ties, at several times the cost."""
    keys = _ascending(pack(scores, torch.arange(start, start + scores.shape[1], device=scores.device)))
    return scores.shape[1] - torch.searchsorted(keys, pack(score, row.clamp_min(0)), right=True)


def _ascending(rows: Tensor) -> Tensor:
    """Each row sorted. On a CPU NumPy sorts: it is ten times as fast as torch."""
    if rows.device.type != "cpu":
        return rows.sort(1).values
    copy = rows.numpy().copy()
    if copy.size < _SPLIT:
        copy.sort(axis=1)
        return torch.from_numpy(copy)
    parts = np.array_split(copy, torch.get_num_threads())
    with ThreadPoolExecutor(len(parts)) as pool:  # NumPy sorts without the interpreter's lock
        list(pool.map(lambda part: part.sort(axis=1), parts))
    return torch.from_numpy(copy)


def _finish(part: _Part, result: Ranks) -> None:
    """Writes the result of some queries. Sums go along each row in order, so they depend on that row alone."""
    queries, relevant = part.queries.cpu(), part.relevant.cpu()
    rank = part.before.cpu() + 1
    place = torch.arange(1, rank.shape[1] + 1)
    real = place <= relevant[:, None]
    precision = torch.where(real, place / rank.double(), 0.0)  # at each relevant item; cumsum adds these in order
    near = real & (rank <= relevant[:, None])
    some = relevant.clamp_min(1).double()
    result.relevant[queries] = relevant
    result.first[queries] = torch.where(relevant > 0, rank[:, 0], 0)
    result.within[queries] = near.sum(1)
    result.ap[queries] = precision.cumsum(1)[:, -1] / some
    result.ap_at_r[queries] = torch.where(near, precision, 0.0).cumsum(1)[:, -1] / some
    last = (part.relevant - 1).clamp_min(0)[:, None]
    result.furthest[queries] = pack(part.score.gather(1, last), part.row.gather(1, last).clamp_min(0))[:, 0].cpu()
    result.other[queries] = part.other.cpu()
    nearest = unpack(part.best)[1]
    result.occurrences.add_(torch.bincount(nearest[nearest >= 0], minlength=len(result.occurrences)).cpu())
