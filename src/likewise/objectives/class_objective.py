"""The base class of the class-level objectives: its proxies and its call."""

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from likewise.alike import Ids, Listed
from likewise.dictionaries.keys import Keys
from likewise.errors import LikewiseError
from likewise.kernels.logsumexp import row_logsumexp
from likewise.kernels.numerics import SHORTEST, at_least_float32, own_similarities, row_lengths, softplus, unit
from likewise.objectives.base import How, Reduction, changes_nothing, no_triplet_margin, no_values
from likewise.objectives.checks import check_proxies, proxy_rows

FEW_KEYS = 4  # up to this many keys per query, one scaled copy of all keys is faster than scaling in tiles


class ClassObjective(nn.Module):
    """The base class of the class-level objectives, with one proxy for each class. Abstract: subclasses are final.

    The loss of a row of class y is ``softplus(log Σ_{j≠y} exp(other(s_j)) − target(s_y))``. A subclass defines
    :meth:`target` and, where the scale of the logits is not 1, :meth:`logit_scale`. Its constructor raises
    LikewiseError when a parameter is outside the range that its ``Args`` names.

    Args:
        classes: K, at least 2.
        dim: D, at least 1.
        generator: draws the first proxies, normal numbers with variance 1/D, so that their length is about 1.
        reduction: "mean", "sum" or "none" over the rows with a label.

    Attributes:
        proxies: (K, D) float32, the trained weights.
        unit_queries: whether queries are scaled to unit length.
        unit_proxies: whether proxies are scaled to unit length.
        times_lengths: whether ``target`` takes a cosine, and its result is multiplied by the vectors' lengths.
    """

    joins_rows: bool = False
    can_be_zero: bool = False
    of_pairs: bool = False
    triplet_margin = no_triplet_margin
    log_values = no_values
    advance = changes_nothing
    unit_queries: ClassVar[bool] = False
    unit_proxies: ClassVar[bool] = False
    times_lengths: ClassVar[bool] = False
    proxies: nn.Parameter

    def __init__(self, classes: int, dim: int, generator: torch.Generator | None, reduction: How) -> None:
        super().__init__()
        if classes < 2 or dim < 1:
            raise LikewiseError(f"classes={classes}, dim={dim}: give at least 2 classes and 1 dimension.")
        self.reduce = Reduction(reduction, type(self).__name__, "a label")
        self.proxies = nn.Parameter(torch.randn(classes, dim, generator=generator) / math.sqrt(dim))
        self.circle: float | None = None  # m where the logits of the other classes have Circle's weights

    def sizes(self) -> str:
        """K and D as text, for ``repr``."""
        return f"classes={len(self.proxies)}, dim={self.proxies.shape[1]}"

    def forward(self, queries: Tensor, ids: Ids, keys: Tensor | None = None, key_ids: Ids | None = None) -> Tensor:
        """The loss of queries (Q, D) against the proxies, or against keys in their place.

        Args:
            queries: (Q, D) rows of any length, any floating dtype; products and sums are in float32 at least.
            ids: (Q,) integers, the class of each row; a row with an id below 0 has no label and does not count. Or
                (Q, L) for several labels in each row, padded with −1: the loss of a row is then the mean over its
                labels, and the classes of its other labels are not among the negatives.
            keys: (K, D) in place of ``self.proxies``: proxies of some of the classes, or a bank of one row per class.
            key_ids: (K,) integers, the class of each key, all different; by default the row numbers.

        Returns:
            A float32 scalar, float64 for float64 queries; (Q,) with reduction "none".

        Raises:
            LikewiseError: shapes, dtypes or ids do not fit together.
        """
        keys = self.proxies if keys is None else keys
        ids, key_ids = check_proxies(queries, ids, keys, key_ids)
        rows = proxy_rows(ids, len(keys), key_ids)  # (Q,) or (Q, L), −1: none
        queries = at_least_float32(queries)
        with torch.autocast(queries.device.type, enabled=False):
            queries, keys = self.vectors(unit(queries) if self.unit_queries else queries, keys, key_ids)
            unit_keys = self.unit_proxies
            if unit_keys and len(keys) <= FEW_KEYS * len(queries):
                keys, unit_keys = unit(keys.to(queries.dtype)), False
            target = self._targets(queries, keys, rows, unit_keys)  # like rows
            scale = self.logit_scale()
            if isinstance(scale, Tensor):
                queries, scale = queries * scale, 1.0
            push = row_logsumexp(queries, keys, scale, skip=rows, circle=self.circle, unit_keys=unit_keys)  # (Q,)
            labelled = rows >= 0
            if rows.ndim == 1:
                return self.reduce(torch.where(labelled, softplus(push - target), 0.0), labelled)
            losses = torch.where(labelled, softplus(push.unsqueeze(1) - target), 0.0).sum(1)
            count = labelled.sum(1)
            return self.reduce(losses / count.clamp(min=1), count > 0)

    def share_rows(self) -> None:
        """See :class:`Objective`."""
        self.reduce.across = True

    def against(self, queries: Tensor, ids: Tensor | Listed, keys: Keys | None) -> Tensor:
        """The loss against ``keys``; without keys, against the proxies."""
        loss: Tensor = self(queries, ids) if keys is None else self(queries, ids, keys.rows, keys.ids)
        return loss

    def vectors(self, queries: Tensor, keys: Tensor, key_ids: Tensor | None) -> tuple[Tensor, Tensor]:
        """Queries and keys before their inner product. They stay as they are, unless a class adds dimensions."""
        return queries, keys

    def logit_scale(self) -> Tensor | float:
        """The factor that turns a similarity into a logit: a number, or a learned scalar."""
        return 1.0

    @abstractmethod
    def target(self, similarity: Tensor) -> Tensor:
        """The logit of the row's own class, from its similarity to the proxy (the cosine where ``times_lengths``)."""

    def other(self, similarity: Tensor) -> Tensor:
        """The logit of another class, from its similarity to the proxy."""
        return self.logit_scale() * similarity

    def pair_loss(self, s_p: Tensor, s_n: Tensor) -> Tensor:
        """The loss of a unit row with two unit proxies: ``s_p`` is the cosine to its own, ``s_n`` to the other."""
        return softplus(self.other(s_n) - self.target(s_p))

    @torch.no_grad()
    def chance(self, n: int) -> float:
        """The loss with n classes of an embedding that is orthogonal to every proxy."""
        zero = torch.zeros((), dtype=torch.float64)
        return float(softplus(self.other(zero) + math.log(n - 1) - self.target(zero)))

    def _targets(self, queries: Tensor, keys: Tensor, rows: Tensor, unit_keys: bool) -> Tensor:
        """The logit of each row's own class, or classes: (Q,) or (Q, L), like ``rows``."""
        place = rows.clamp(min=0)
        if rows.ndim == 1 and not unit_keys and (self.unit_proxies or not self.times_lengths):
            similarity = own_similarities(queries, keys, place)
            return self._target(similarity, row_lengths(queries) if self.times_lengths else None)
        own = keys.index_select(0, place.reshape(-1)).to(queries.dtype)
        own = (unit(own) if unit_keys else own).reshape(*rows.shape, -1)  # (Q, [L,] D)
        queries = queries if rows.ndim == 1 else queries.unsqueeze(1)
        similarity = (queries * own).sum(-1)
        if not self.times_lengths:
            return self.target(similarity)
        return self._target(
            similarity, row_lengths(queries) if self.unit_proxies else row_lengths(queries) * row_lengths(own)
        )

    def _target(self, similarity: Tensor, length: Tensor | None) -> Tensor:
        """``target`` of an inner product; with ``length``, of its cosine, multiplied by this product of lengths."""
        if length is None:
            return self.target(similarity)
        return length * self.target(similarity / length.masked_fill(length < SHORTEST, 1.0))
