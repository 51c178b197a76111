"""The interface of every objective: what training needs of it."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from likewise.alike import Listed
from likewise.dictionaries.keys import Keys
from likewise.kernels.numerics import Distance


class Objective(Protocol):
    """What training needs of an objective. Every objective is a ``torch.nn.Module``.

    Those of lists have no :meth:`against`: the training step calls them with scores and relevance.

    Attributes:
        joins_rows: True if the loss is not a sum over queries, or if its random numbers are drawn for the whole batch.
            Each process then computes the loss of the whole batch.
        can_be_zero: whether a row that counts can have loss 0, as with a hinge.
        of_pairs: whether a row needs a positive and a negative among the keys.
        takes_policies: whether it is a loss over an anchor's row of pairs, so that policies of negatives apply.
    """

    joins_rows: bool
    can_be_zero: bool
    of_pairs: bool
    takes_policies: bool

    def against(self, queries: Tensor, ids: Tensor | Listed, keys: Keys | None) -> Tensor:
        """The loss of queries against the keys of a dictionary. The training step calls it."""

    def chance(self, n: int) -> float | None:
        """The loss of an embedding that can't distinguish items, with ``n`` keys; None where it is not known."""

    def triplet_margin(self) -> tuple[float, Distance] | None:
        """The margin and distance of a triplet loss; None for other losses."""

    def log_values(self) -> dict[str, float | str]:
        """Values of the objective's state that the log keeps."""

    def advance(self, step: int, epoch: float) -> None:
        """Sets what changes during training to its value at ``step``; ``epoch`` may be a fraction."""

    def share_rows(self) -> None:
        """Call it before training if processes divide the rows of a batch: a mean is then over all processes' rows."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """As ``nn.Module.parameters``."""

    def state_dict(self) -> dict[str, Any]:
        """As ``nn.Module.state_dict``."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> object:
        """As ``nn.Module.load_state_dict``."""

    def to(self, device: torch.device) -> Self:
        """As ``nn.Module.to``."""
