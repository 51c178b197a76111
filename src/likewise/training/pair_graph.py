"""The pairs that are alike as a graph: which items of a batch they join, and which have a partner in common.

Dimension legend: N items, M pairs, B items of a batch, P pairs within it, R pairs of items that are neither.
"""

import torch
from torch import Tensor

_COLUMNS = 4096  # partners that are compared at once


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
