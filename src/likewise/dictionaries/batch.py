"""Dictionaries without state: the batch itself, and the proxies of an objective."""

from collections.abc import Sequence

import torch
from torch import Tensor

from likewise.alike import Ids, as_ids
from likewise.dictionaries.keys import Dictionary, Fresh, Keys
from likewise.errors import LikewiseError, at_least_one


class Batch(Dictionary):
    """The keys of this step, with gradient: end-to-end learning (He et al. 2020, Fig. 2a; SimCLR).

    A key with the query's id is a positive; all others are negatives. The keys come from all processes, and the
    gradient goes back to the process that encoded them (``likewise.gather_rows``). So n processes have the same
    negatives, and learn the same, as one process with the whole batch.
    Cost: no state. With several processes, each one receives the keys of all: F·D numbers forwards, and as many
    gradients backwards.
    Paper: He et al., MoCo, CVPR 2020, Fig. 2a; Chen et al., SimCLR, ICML 2020.
    """

    def keys(self, ids: Ids, fresh: Fresh) -> Keys:
        """The new keys."""
        return Keys(fresh.rows, as_ids("ids", fresh.ids, fresh.rows.device), own=fresh.own)

    def update(self, rows: Tensor, ids: Ids, *, look: bool = True) -> None:
        """Does nothing: no key is kept."""

    def choices(self, others: int) -> int:
        """The number of new keys: the query's own and the others."""
        return others + 1


class Proxies(Dictionary):
    """The keys are weights of the objective, one per item or class. The optimizer updates them.

    Args:
        count: number of weights.
        bound: the name of the weights in messages, where there is one per class; empty where there is one per item.
    """

    def __init__(self, count: int, *, bound: str = "") -> None:
        super().__init__()
        self.count, self.bound = at_least_one("count", count, "there is a weight for each item or class"), bound

    def extra_repr(self) -> str:
        """The parameters."""
        return f"count={self.count}, bound={self.bound!r}"

    def keys(self, ids: Ids, fresh: Fresh) -> Keys | None:
        """None: the objective holds the keys."""
        return None

    def update(self, rows: Tensor, ids: Ids, *, look: bool = True) -> None:
        """Does nothing: the optimizer updates the weights."""

    def choices(self, others: int) -> int:
        """The number of weights."""
        return self.count

    def follow(self, old: Sequence[str], new: Sequence[str], generator: torch.Generator) -> None:
        """Weights of classes stay as they are. Raises LikewiseError where there is one weight per item."""
        if not self.bound:
            raise LikewiseError(
                "the items changed since the checkpoint, but the objective has a weight per item; start a new run."
            )
