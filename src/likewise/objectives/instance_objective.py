"""The base class of the objectives with one positive for each query: its call."""

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from likewise.alike import Ids, Listed
from likewise.dictionaries.keys import Keys
from likewise.kernels.numerics import at_least_float32
from likewise.objectives.base import How, Reduction, changes_nothing, no_triplet_margin, no_values
from likewise.objectives.checks import check_keys, rows_of


class Match(NamedTuple):
    """Where each query's positive is among the keys.

    Without ``key_ids`` an id is a row number. A query that does not count has some valid row.
    """

    rows: Tensor  # (B,) int64, the row of the positive
    counted: Tensor  # (B,) bool, whether the query has a positive
    ids: Tensor  # (B,) integers
    key_ids: Tensor | None  # (n,) integers

    def hits(self, rows: Tensor) -> Tensor:
        """(m,) or (B, m) rows of keys → (B, m) bool: whether the key has the query's id."""
        names = rows if self.key_ids is None else self.key_ids[rows]
        return names == self.ids.unsqueeze(1)


class InstanceObjective(nn.Module):
    """The base class of the objectives with one positive for each query. Abstract: subclasses are final.

    A subclass' constructor raises LikewiseError when a parameter is outside the range that its ``Args`` names.

    Args:
        reduction: "mean", "sum" or "none" over the queries that count.
    """

    joins_rows: bool = False
    can_be_zero: bool = False
    of_pairs: bool = False
    triplet_margin = no_triplet_margin
    log_values = no_values
    advance = changes_nothing

    def __init__(self, reduction: How) -> None:
        super().__init__()
        self.reduce = Reduction(reduction, type(self).__name__, "a positive (their ids are below 0)")

    def forward(self, queries: Tensor, ids: Ids, keys: Tensor, key_ids: Ids | None = None) -> Tensor:
        """The loss of queries (B, D) whose positives are the keys (n, D) that ``ids`` (B,) name.

        Args:
            queries: (B, D), any floating dtype; similarities and sums are in float32 at least.
            ids: (B,) integers; a query with an id below 0 has no positive and does not count.
            keys: (n, D), any floating dtype.
            key_ids: (n,) integers; by default the row numbers, as in a memory bank.

        Returns:
            A float32 scalar, float64 for float64 queries; (B,) with reduction "none".

        Raises:
            LikewiseError: shapes or dtypes do not fit together, or no key has a query's id.
        """
        return self.reduced_loss(queries, ids, keys, key_ids)

    def share_rows(self) -> None:
        """See :class:`Objective`."""
        self.reduce.across = True

    def against(self, queries: Tensor, ids: Tensor | Listed, keys: Keys | None) -> Tensor:
        """The loss against ``keys``, one row for each item; without keys, against the objective's own weights."""
        loss: Tensor = self(queries, ids) if keys is None else self(queries, ids, keys.rows, keys.ids)
        return loss

    def reduced_loss(self, queries: Tensor, ids: Ids, keys: Tensor, key_ids: Ids | None) -> Tensor:
        """Checks the arguments, finds the positives, and reduces :meth:`row_losses` over the queries that count."""
        ids, key_ids = check_keys(queries, ids, keys, key_ids)
        match = Match(rows_of(ids, key_ids, len(keys)), ids >= 0, ids, key_ids)
        with torch.autocast(queries.device.type, enabled=False):
            losses = self.row_losses(at_least_float32(queries), keys, match)
            return self.reduce(torch.where(match.counted, losses, 0.0), match.counted)

    @abstractmethod
    def row_losses(self, queries: Tensor, keys: Tensor, match: Match) -> Tensor:
        """The formula: (B,) losses. ``queries`` are float32 or float64."""
