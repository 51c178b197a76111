"""The pairs that are alike as a graph: which items of a batch they join, and which have a partner in common.

Dimension legend: N items, M pairs, B items of a batch, P pairs within it, R pairs of items that are neither.
"""

import torch
from torch import Tensor

from likewise.config.settings import FitSettings
from likewise.data import Items
from likewise.data.pair_files import Pairs
from likewise.errors import LikewiseError
from likewise.text import quoted

_COLUMNS = 4096  # partners that are compared at once
_TRIED = 256  # items of pairs among which a negative is looked for


class PairGraph:
    """All pairs of a run, by item.

    Args:
        pairs: (M, 2) int64 rows of the items; each pair once.
        items: N.

    Cost: 32·M + 8·N bytes.
    """

    def __init__(self, pairs: Tensor, items: int) -> None:
        both = torch.cat([pairs, pairs.flip(1)])
        both = both[both[:, 0].argsort(stable=True)]
        self._partners = both[:, 1].contiguous()
        self._first = torch.searchsorted(both[:, 0].contiguous(), torch.arange(items + 1))

    def joined(self, rows: Tensor) -> Tensor:
        """(P, 2) int64 places in ``rows`` (B,), different items, of those that a pair joins; the smaller place first.

        Cost: a search for each of the S pairs of the batch's items.
        """
        owner, place = self._inside(rows, *self._all(rows))
        return torch.stack([owner, place], 1)[owner < place]

    def within(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What the pairs say of the items of a batch.

        Two items that a pair joins are alike, also if another step draws that pair. Two that no pair joins, but that
        have a partner in common, are probably alike: they are neither.

        Args:
            rows: (B,) int64 different rows of the items.

        Returns:
            (P, 2) and (R, 2) int64 places in ``rows``: the items that are joined, and those that are neither. Each pair
            once, the smaller place first.

        Cost: S is the number of pairs of the batch's items, in the batch or not. A sort of S, and B²·S multiplications.
        """
        owner, partner = self._all(rows)
        alike = torch.zeros(len(rows), len(rows), dtype=torch.bool)
        alike[self._inside(rows, owner, partner)] = True
        neither = self._in_common(owner, partner, len(rows)) & ~alike
        return torch.triu(alike, 1).nonzero(), torch.triu(neither, 1).nonzero()

    def _all(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(S,) the place in ``rows`` and (S,) the partner of all pairs of these items."""
        count = self._first[rows + 1] - self._first[rows]
        owner = torch.arange(len(rows)).repeat_interleave(count)
        within = torch.arange(len(owner)) - (count.cumsum(0) - count)[owner]
        return owner, self._partners[self._first[rows][owner] + within]

    @staticmethod
    def _inside(rows: Tensor, owner: Tensor, partner: Tensor) -> tuple[Tensor, Tensor]:
        """The places of both items of those pairs whose partner is among ``rows`` too."""
        order = rows.argsort()
        place = order[torch.searchsorted(rows[order], partner).clamp(max=len(rows) - 1)]
        there = rows[place] == partner
        return owner[there], place[there]

    @staticmethod
    def _in_common(owner: Tensor, partner: Tensor, count: int) -> Tensor:
        """(B, B) bool: whether two items have a partner in common."""
        _, column, times = torch.unique(partner, return_inverse=True, return_counts=True)
        shared = times > 1
        number = shared.cumsum(0) - 1
        kept = shared[column]
        owner, column = owner[kept], number[column[kept]]
        common = torch.zeros(count, count, dtype=torch.bool)
        for start in range(0, int(shared.sum()), _COLUMNS):
            some = (column >= start) & (column < start + _COLUMNS)
            has = torch.zeros(count, _COLUMNS)
            has[owner[some], column[some] - start] = 1
            common |= has @ has.T > 0
        return common


def refuse_small_batches(settings: FitSettings, pairs: Pairs) -> None:
    """Raises LikewiseError where a batch has no room for two pairs, or for a pair with its planted negatives."""
    size, added = settings.batch_size, settings.sampler.per_pair
    if size < 4:
        raise LikewiseError(
            f"{pairs.source} has only pairs that are alike, so the negatives are other pairs' items: "
            f"batch_size={size} must be at least 4, for two pairs."
        )
    if settings.sampler.planted != "none" and size < 2 + added:
        raise LikewiseError(
            f"batch_size={size} has no room for a pair and the sampler.per_pair={added} negatives that are added for "
            f"it: it must be at least {2 + added}, or lower sampler.per_pair."
        )


def refuse_without_negatives(settings: FitSettings, pairs: Pairs, items: Items) -> None:
    """Raises LikewiseError if no item is a negative of another among up to 256 items of pairs that are all alike.

    Planted negatives may also be items of no pair, which the interactions know.
    """
    known, count = torch.unique(pairs.rows, return_counts=True)
    pool = len(items) if pairs.known is None else len(pairs.known)
    if settings.sampler.planted != "none" and len(known) < pool:
        return
    some = known[torch.linspace(0, len(known) - 1, min(len(known), _TRIED)).round().long()]
    graph, every = PairGraph(pairs.rows, len(items)), len(some) * (len(some) - 1) // 2
    if pairs.weight is not None:  # of a graph only an edge keeps two items from being negatives
        if len(graph.joined(some)) == every:
            raise LikewiseError(
                f"{pairs.source} joins every two of its items, so no item is a negative of another: make it with fewer "
                "edges (likewise graph --support), or of more items."
            )
        return
    alike, neither = graph.within(some)
    if len(alike) + len(neither) == every:
        raise LikewiseError(
            f"{pairs.source} has only pairs that are alike, and they join every two of its items, directly or by a "
            f"partner in common such as {quoted(items.ids[int(known[count.argmax()])])}, so no item is a negative of "
            "another: add pairs of other items, or a column alike with pairs that are not."
        )
