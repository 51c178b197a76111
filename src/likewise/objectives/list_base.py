"""The base of the list-level objectives: lists of any form as padded ones, their gains and their mean.

Dimension legend: L lists (one for each query), N items of a list, M items of all lists.
"""

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from likewise.alike import Flags, Ids, as_flags, as_ids, check_dense, check_tensor
from likewise.errors import LikewiseError, above_zero
from likewise.kernels.numerics import at_least_float32, no_autocast
from likewise.objectives.base import (
    How,
    Reduction,
    changes_nothing,
    no_triplet_margin,
    no_values,
    unknown_chance,
)

Gains = Literal["exponential", "linear"]
PAIR = "two items of different relevance"
RELEVANT = "an item with relevance above 0"
ITEM = "an item"


class ListObjective(nn.Module):
    """The base class of the list-level objectives. Abstract: subclasses are final and define :meth:`lists`.

    Args:
        reduction: over the lists that count; see :class:`likewise.objectives.Reduction`.
        need: what a list needs to count.
        temperature: scores are divided by it.
    """

    joins_rows: bool = False
    can_be_zero: bool = False
    of_pairs: bool = False
    takes_policies: bool = False
    chance = unknown_chance
    triplet_margin = no_triplet_margin
    log_values = no_values
    advance = changes_nothing

    def __init__(self, reduction: How, need: str, temperature: float) -> None:
        super().__init__()
        self.temperature = above_zero("temperature", temperature, "1 leaves scores as they are")
        self.reduce = Reduction(reduction, type(self).__name__, need)

    def forward(
        self, scores: Tensor, relevance: Tensor, mask: Flags | None = None, *, offsets: Ids | None = None
    ) -> Tensor:
        """The loss of lists. In formulas s are the scores, divided by the temperature.

        Args:
            scores: (L, N) of padded lists, (N,) of one list, or (M,) with ``offsets``; any floating dtype. Half
                precisions become float32.
            relevance: of the same shape, finite; higher is more relevant.
            mask: of the same shape, bool: False for padding.
            offsets: (L + 1,) integers that rise from 0 to M: the items of list l are offsets[l] to offsets[l + 1].

        Returns:
            A scalar; with reduction="none" (L,).

        Raises:
            LikewiseError: other shapes or dtypes, or both ``mask`` and ``offsets``.
        """
        scores, relevance, kept = _padded(scores, relevance, mask, offsets)
        with no_autocast(scores.device):
            losses, counted = self.lists(scores / self.temperature, relevance, kept)
        return self.reduce(torch.where(counted, losses, 0.0), counted)

    def share_rows(self) -> None:
        """See :class:`likewise.objectives.interface.Objective`."""
        self.reduce.across = True

    @abstractmethod
    def lists(self, scores: Tensor, relevance: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(L,) losses and (L,) bool, which lists count. Where ``mask`` is False, scores and relevance are 0."""

    def extra_repr(self) -> str:
        """The parameters."""
        return f"temperature={self.temperature}, reduction={self.reduce.how!r}"


def _padded(
    scores: Tensor, relevance: Tensor, mask: Flags | None, offsets: Ids | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, relevance in their dtype, and mask, each (L, N); 0 where padded. Raises LikewiseError on other shapes."""
    check_tensor("scores", scores)
    if not isinstance(relevance, Tensor) or relevance.is_complex():
        raise LikewiseError("relevance must be a tensor of real numbers.")
    check_dense("relevance", relevance)
    if scores.shape != relevance.shape:
        raise LikewiseError(f"scores {tuple(scores.shape)} and relevance {tuple(relevance.shape)} must have one shape.")
    scores = at_least_float32(scores)
    relevance = relevance.to(scores.dtype)
    if offsets is not None:
        if mask is not None:
            raise LikewiseError("mask is for padded lists, offsets for lists that follow each other; leave one out.")
        return _from_offsets(scores, relevance, as_ids("offsets", offsets, scores.device))
    if scores.ndim == 1:
        scores, relevance = scores.unsqueeze(0), relevance.unsqueeze(0)
    if scores.ndim != 2 or 0 in scores.shape:
        raise LikewiseError(f"scores {tuple(scores.shape)} must be (L, N), (N,) of one list, or (M,) with offsets.")
    if mask is None:
        return scores, relevance, torch.ones_like(scores, dtype=torch.bool)
    kept = as_flags("mask", mask, scores.device)
    kept = kept.unsqueeze(0) if kept.ndim == 1 else kept
    if kept.shape != scores.shape:
        raise LikewiseError(f"mask {tuple(kept.shape)} must have the shape of the scores {tuple(scores.shape)}.")
    return torch.where(kept, scores, 0.0), torch.where(kept, relevance, 0.0), kept


def _from_offsets(scores: Tensor, relevance: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if scores.ndim != 1 or offsets.ndim != 1 or len(offsets) < 2:
        raise LikewiseError(
            f"with offsets (L + 1,), scores are (M,), not {tuple(scores.shape)} with {tuple(offsets.shape)}."
        )
    lengths = offsets.diff()
    if int(offsets[0]) != 0 or int(offsets[-1]) != len(scores) or bool((lengths < 0).any()) or not len(scores):
        raise LikewiseError(f"offsets must rise from 0 to the {len(scores)} items, at least one.")
    place = torch.arange(int(lengths.max()), device=scores.device)
    kept = place < lengths.unsqueeze(1)
    rows = (place + offsets[:-1].unsqueeze(1)).masked_fill(~kept, 0)
    return torch.where(kept, scores[rows], 0.0), torch.where(kept, relevance[rows], 0.0), kept


def mean_of(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of each list over its items, and whether it has one."""
    number = mask.sum(1)
    return torch.where(mask, values, 0.0).sum(1) / number.clamp(min=1), number > 0


def gains_of(relevance: Tensor, gains: Gains) -> Tensor:
    return relevance if gains == "linear" else torch.exp2(relevance) - 1


def check_gains(gains: Gains) -> Gains:
    if gains not in ("exponential", "linear"):
        raise LikewiseError(f"gains={gains!r} must be 'exponential' or 'linear'.")
    return gains


def ideal_of(gains: Tensor, k: int | None) -> Tensor:
    """(L,) the DCG of the best order, in its first k places."""
    best = gains.sort(1, descending=True).values[:, :k]
    return (best / torch.log2(torch.arange(2, best.shape[1] + 2, device=best.device, dtype=best.dtype))).sum(1)
