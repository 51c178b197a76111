"""Sums of hinges over all pairs of two lists, by sorting. Legend: R rows, P near and N far values of a row."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from likewise.negatives import SORTED_FROM

ABSENT = 1e4  # a distance beyond all others


def violations(near: Tensor, far: Tensor, soft: bool) -> tuple[Tensor, Tensor]:
    """``Σ_p Σ_n [near_p − far_n]₊`` (soft: ``log(1 + exp(·))``) of each row, and how many terms are above 0.

    (R, P) and (R, K), −inf and +inf where absent → (R,) and (R,). As many passes over (R, K) as a row has positives, at
    most SORTED_FROM: more (and not soft) cost one sort. Nothing larger is kept; its naive twin holds (R, P, K) numbers.
    """
    total, share_near, _ = _violations(near, far, soft)
    return total, share_near.sum(1)


@torch.library.custom_op("likewise::violations", mutates_args=())
def _violations(near: Tensor, far: Tensor, soft: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The sums, and their derivatives, gathered on the way: how much each positive and each negative takes part."""
    width = int((near > -torch.inf).sum(1).max())
    if width > SORTED_FROM and not soft:
        return _sorted_violations(near, far)
    total = near.new_zeros(len(near))
    share_near, share_far = torch.zeros_like(near), torch.zeros_like(far)
    gap, share = torch.empty_like(far), torch.empty_like(far)
    hardest, places = near.topk(width, 1)  # absent positives last
    for p in range(width):
        torch.sub(hardest[:, p : p + 1], far, out=gap)
        if soft:
            torch.sigmoid(gap, out=share)
            total += functional.softplus(gap).sum(1)
        else:
            torch.gt(gap, 0, out=share)
            total += gap.clamp_(min=0).sum(1)
        share_far += share
        share_near.scatter_(1, places[:, p : p + 1], share.sum(1, keepdim=True))
    return total, share_near, share_far


def _sorted_violations(near: Tensor, far: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same for any number of positives: the negatives in order, a positive's sum is a difference of prefix sums."""
    ordered, order, before = _in_order(far)
    places = torch.searchsorted(ordered, near.contiguous())  # how many are nearer: none than an absent positive's −inf
    there = near > -torch.inf
    terms = torch.where(there, near, 0.0) * places - before.gather(1, places)
    ends = torch.zeros_like(before).scatter_add_(1, places, there.to(before.dtype))
    taken = there.sum(1, keepdim=True) - ends.cumsum(1)[:, :-1]
    share_far = torch.zeros_like(far).scatter_(1, order, taken.to(far.dtype))
    return terms.sum(1).to(near.dtype), places.to(near.dtype), share_far


def _in_order(far: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(R, K) ascending, the columns they come from, and (R, K + 1) float64 sums of the first 0, 1 ... K."""
    ordered, order = far.sort(dim=1, stable=True)
    before = functional.pad(ordered.double().cumsum(1), (1, 0))
    return ordered, order, before


def _shapes(near: Tensor, far: Tensor, _: float) -> tuple[Tensor, Tensor, Tensor]:
    return near.new_empty(len(near)), torch.empty_like(near), torch.empty_like(far)


def _save_shares(ctx: FunctionCtx, inputs: tuple[Tensor, Tensor, float], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _violations_backward(ctx: FunctionCtx, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, None]:
    share_near, share_far = ctx.saved_tensors  # type: ignore[attr-defined]
    return share_near * grad.unsqueeze(1), share_far * -grad.unsqueeze(1), None


def inside_violations(near: Tensor, far: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Of each row the mean over its positives of the mean of ``D_p + α − D_n`` where ``D_p < D_n < D_p + α``.

    (R, P) and (R, K) distances, −``ABSENT`` and ``ABSENT`` where there is none → (R,) losses and (R,) bool: whether
    there was any. As many passes over (R, K) as a row has positives, at most SORTED_FROM: more cost one sort. Its naive
    twin holds (R, P, K) numbers.
    """
    losses, share_near, _ = _inside_violations(near, far, margin)
    return losses, share_near.any(1)


@torch.library.custom_op("likewise::inside_violations", mutates_args=())
def _inside_violations(near: Tensor, far: Tensor, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    """The losses and their derivatives: every positive counts alike, and each of its negatives alike."""
    width = int((near > -ABSENT).sum(1).max())
    if width > SORTED_FROM:
        return _sorted_inside(near, far, margin)
    losses = near.new_zeros(len(near))
    share_near, share_far = torch.zeros_like(near), torch.zeros_like(far)
    gap = torch.empty_like(far)
    furthest, places = near.topk(width, 1)  # absent positives last
    for p in range(width):
        of_pair = furthest[:, p : p + 1]
        torch.sub(of_pair + margin, far, out=gap)
        inside = ((far > of_pair) & (gap > 0)).to(gap.dtype)
        count = inside.sum(1, keepdim=True)
        weight = count.clamp(min=1).reciprocal_()
        losses += gap.mul_(inside).sum(1) * weight.squeeze(1)
        share_far.addcmul_(inside, weight)
        share_near.scatter_(1, places[:, p : p + 1], (count > 0).to(gap.dtype))
    pairs = share_near.sum(1, keepdim=True).clamp_(min=1)
    return losses / pairs.squeeze(1), share_near / pairs, share_far / pairs


def _sorted_inside(near: Tensor, far: Tensor, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    """The same for any number of positives: with the negatives in order, those of a positive are a run."""
    ordered, order, before = _in_order(far)
    near = near.contiguous()
    first, last = torch.searchsorted(ordered, near, right=True), torch.searchsorted(ordered, near + margin)
    count = (last - first).clamp(min=0)
    last, any_inside = first + count, count > 0
    weight = count.clamp(min=1).double().reciprocal()
    sums = before.gather(1, last) - before.gather(1, first)
    losses = torch.where(any_inside, (near + margin).double() - sums * weight, 0.0).sum(1)
    weight *= any_inside
    runs, covered = torch.zeros_like(before), torch.zeros_like(before)
    for place, sign in ((first, 1), (last, -1)):
        runs.scatter_add_(1, place, sign * weight)
        covered.scatter_add_(1, place, sign * any_inside.double())
    taken = torch.where(covered.cumsum(1) > 0, runs.cumsum(1), 0.0)[:, :-1].to(far.dtype)
    pairs = any_inside.sum(1, keepdim=True).clamp(min=1)
    share_far = torch.zeros_like(far).scatter_(1, order, taken) / pairs
    return (losses / pairs.squeeze(1)).to(near.dtype), any_inside.to(near.dtype) / pairs, share_far
