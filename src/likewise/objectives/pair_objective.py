"""The base class of the pair-level objectives: its call, and the checks of its arguments."""

import warnings
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from likewise.alike import Flags, Ids, Listed, Relation, as_ids, relate
from likewise.dictionaries.keys import Keys
from likewise.errors import LikewiseWarning
from likewise.kernels.numerics import at_least_float32
from likewise.kernels.row_losses import row_losses
from likewise.objectives.base import (
    How,
    Reduction,
    changes_nothing,
    no_triplet_margin,
    no_values,
    unknown_chance,
)

BOTH = "a positive and a negative: put several items of several classes in each batch"


class PairObjective(nn.Module):
    """The base class of the pair-level objectives. Abstract: subclasses are final and define :meth:`rows`.

    A subclass' constructor raises LikewiseError when a parameter is outside the range that its ``Args`` names.

    Args:
        reduction: see :class:`likewise.objectives.Reduction`.
        need: what an anchor needs to count, in words.
        unit_rows: whether the first call gives a warning when the queries do not have unit length.
    """

    joins_rows: bool = False
    can_be_zero: bool = False
    of_pairs: bool = True
    chance = unknown_chance
    triplet_margin = no_triplet_margin
    log_values = no_values
    advance = changes_nothing

    def __init__(self, reduction: How, need: str = BOTH, *, unit_rows: bool = True) -> None:
        super().__init__()
        self.reduce = Reduction(reduction, type(self).__name__, need)
        self.unit_rows = unit_rows

    def forward(
        self,
        queries: Tensor,
        ids: Ids | Listed,
        keys: Tensor | None = None,
        key_ids: Ids | None = None,
        *,
        own: Ids | None = None,
        pulls: Flags | None = None,
        pushes: Flags | None = None,
    ) -> Tensor:
        """The loss of queries (Q, D) among themselves, or against keys (K, D).

        Args:
            queries: (Q, D) unit rows, any floating dtype; similarities and sums are in float32 at least.
            ids: (Q,) integers, as a tensor, an array or a list; rows with equal ids are alike, and an id below 0 means
                no label. Or (Q, L) for several labels in each row; rows with a label in common are alike. Or a relation
                from ``from_triplets`` or ``from_pairs``. For two views z0, z1 of the same items, ``from_views`` gives
                queries and ids.
            keys: (K, D) unit rows of a bank, a queue, a gathered batch or another modality.
            key_ids: (K,) or (K, L) integers; by default the row numbers, as in a memory bank.
            own: (Q,) the key row that is the query itself, −1 where there is none; this pair is left out. Needed where
                the keys are a gathered batch.
            pulls: (K,) bool, the keys that may be positives. Other keys with the query's id, such as a queue's older
                keys of the same item, are neither positives nor negatives.
            pushes: (K,) bool, the keys that may be negatives.

        Returns:
            A float32 scalar, float64 for float64 queries; (Q,) with reduction "none".

        Raises:
            LikewiseError: shapes or dtypes do not fit together.
        """
        ids = ids if isinstance(ids, Listed) else as_ids("ids", ids, queries.device)
        relation = relate(queries, ids, keys, key_ids, own, pulls, pushes)
        if self.unit_rows and not torch.compiler.is_compiling():
            self._check_unit_rows(queries)
        losses, *counted = self.losses(queries, ids, keys, relation)
        zero_or_nan = (queries.detach() * 0).sum()  # a comparison with NaN is false, so that a mask could hide a NaN
        return self.reduce(losses + zero_or_nan.to(losses.dtype), *counted)

    def share_rows(self) -> None:
        """See :class:`Objective`."""
        self.reduce.across = True

    def against(self, queries: Tensor, ids: Tensor | Listed, keys: Keys | None) -> Tensor:
        """The loss against ``keys`` with their roles; without keys, the loss of the queries among themselves."""
        if keys is None:
            loss: Tensor = self(queries, ids)
        else:
            loss = self(queries, ids, keys.rows, keys.ids, own=keys.own, pulls=keys.pulls, pushes=keys.pushes)
        return loss

    def losses(
        self, queries: Tensor, ids: Tensor | Listed, keys: Tensor | None, relation: Relation | Listed
    ) -> tuple[Tensor, Tensor]:
        """(Q,) losses, and (Q,) bool which of them count. Classes whose loss joins several rows override it."""
        ahead = self.reduce.how != "none"
        return row_losses(self.rows, queries, keys, relation, self.row_inputs(queries, ids), ahead=ahead)

    def row_inputs(self, queries: Tensor, ids: Tensor | Listed) -> Sequence[Tensor]:
        """Tensors of Q rows that :meth:`rows` gets besides similarities and masks; none by default."""
        return ()

    @abstractmethod
    def rows(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """The formula: (R,) losses of the anchors, and (R,) bool which of them count.

        Args:
            s_p: (R, P) similarities; those of positives where ``positive``.
            positive: (R, P) bool.
            s_n: (R, K) similarities; those of negatives where ``negative``.
            negative: (R, K) bool.
        """

    def pair_loss(self, s_p: Tensor, s_n: Tensor) -> Tensor:
        """The loss of an anchor with one positive and one negative, elementwise. ``likewise figure`` draws it."""
        present = torch.ones(s_p.numel(), 1, dtype=torch.bool)
        return self.rows(s_p.reshape(-1, 1), present, s_n.reshape(-1, 1), present)[0].reshape(s_p.shape)

    def _check_unit_rows(self, queries: Tensor) -> None:
        self.unit_rows = False  # once
        furthest = (at_least_float32(queries.detach()).norm(dim=1) - 1).abs().max()
        if furthest > 0.05:
            warnings.warn(
                f"{type(self).__name__}: the queries are not unit rows (a length is off by {float(furthest):.3g}). "
                "Pass torch.nn.functional.normalize(queries); the loss uses q·k as the cosine. (Said once.)",
                LikewiseWarning,
                stacklevel=3,
            )
