"""Dictionaries without state: the batch itself, and the weights of the objective."""

from collections.abc import Sequence

import torch
from torch import Tensor

from likewise.alike import Ids, as_ids
from likewise.dictionaries.keys import Dictionary, Fresh, Keys
from likewise.errors import LikewiseError


class Batch(Dictionary):
    """The keys of this step, with their gradient: end-to-end learning (He et al. 2020, Fig. 2a; SimCLR).

    Every key pulls where its id agrees and pushes elsewhere. The keys of all processes come gathered, and the gradient
    goes back to the process that encoded them (``likewise.gather_rows``), so that n processes have the
    negatives, and learn, as one with their whole batch.
    """

    def keys(self, ids: Ids, fresh: Fresh) -> Keys:
        """The new keys."""
        return Keys(fresh.rows, as_ids("ids", fresh.ids, fresh.rows.device), own=fresh.own)

    def update(self, rows: Tensor, ids: Ids) -> None:
        """Nothing is kept."""

    def choices(self, others: int) -> int:
        """Its own and the others."""
        return others + 1


class Proxies(Dictionary):
    """The keys are weights of the objective, one per item or class, that the optimizer moves.

    Args:
        count: of the weights.
        bound: what they are called where they are of classes; empty: of items.
    """

    def __init__(self, count: int, *, bound: str = "") -> None:
        super().__init__()
        self.count, self.bound = count, bound

    def extra_repr(self) -> str:
        """The parameters."""
        return f"count={self.count}, bound={self.bound!r}"

    def keys(self, ids: Ids, fresh: Fresh) -> Keys | None:
        """None: the objective has them."""
        return None

    def update(self, rows: Tensor, ids: Ids) -> None:
        """Nothing is kept."""

    def choices(self, others: int) -> int:
        """All."""
        return self.count

    def follow(self, old: Sequence[str], new: Sequence[str], generator: torch.Generator) -> None:
        """Weights of classes stay. Raises LikewiseError where each is of an item."""
        if not self.bound:
            raise LikewiseError(
                "the items changed since the checkpoint, and the parametric softmax has a weight per item; start anew."
            )
