"""Sums over all pairs of items of a list, soft ranks, and the likelihood of an order, with their gradients.

Pairs come some rows at a time, so that no list × item × item block exists.

Dimension legend: L lists, N items of a list, R rows of a tile.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from likewise.alike import TILE_FLOATS, traced
from likewise.kernels.numerics import differentiated_again, keep_pages, no_autocast, ordinary, twin_gradients

# Of differences s_i − s_j (L, R, N): the loss of each pair. Ordinary differentiable torch, elementwise.
PairLoss = Callable[[Tensor], Tensor]
# Of what is known of items i, each (L, R, 1), and of items j, each (L, 1, N): the weight of each pair (L, R, N).
PairWeight = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor | float]


def pair_sums(
    loss: PairLoss, weight: PairWeight, scores: Tensor, relevance: Tensor, known: Sequence[Tensor] = ()
) -> tuple[Tensor, Tensor]:
    """``Σ_ij w_ij loss(s_i − s_j)`` over the pairs of each list with y_i > y_j, and ``Σ_ij w_ij``.

    Args:
        loss: of a difference of scores.
        weight: of a pair, from what is ``known`` of its two items; no gradient flows through it.
        scores: (L, N) floating.
        relevance: y, (L, N) in the same dtype; −inf for padding, which makes no pair.
        known: tensors (L, N), which ``weight`` gets.

    Returns:
        (L,) sums, differentiable in the scores, and (L,) weights.

    Cost: O(L·N·P) time for the P items of a list that are better than its worst; the forward pass computes the gradient
    too. Memory beyond the inputs: about ten tiles of 4 MiB. Gradients of higher order are those of
    :func:`naive_pair_sums`, the naive twin, and cost its O(L·N²) memory.
    """
    if ordinary():
        return naive_pair_sums(loss, weight, scores, relevance, known)
    sums, weights = _PairSums.apply(loss, weight, scores, relevance, *known)  # type: ignore[no-untyped-call]
    return sums, weights


def naive_pair_sums(
    loss: PairLoss, weight: PairWeight, scores: Tensor, relevance: Tensor, known: Sequence[Tensor] = ()
) -> tuple[Tensor, Tensor]:
    """The naive twin of :func:`pair_sums`: all pairs at once."""
    better = _better(relevance.unsqueeze(2), relevance.unsqueeze(1))
    weights = weight([x.unsqueeze(2) for x in known], [x.unsqueeze(1) for x in known]) * better
    losses = loss(scores.unsqueeze(2) - scores.unsqueeze(1))
    return torch.where(better, weights * losses, 0.0).sum((1, 2)), weights.sum((1, 2))


def no_weight(i: Sequence[Tensor], j: Sequence[Tensor]) -> float:
    """1 for every pair."""
    return 1.0


def _better(i: Tensor, j: Tensor) -> Tensor:
    """Where both are items, and i is more relevant than j."""
    return (i > j) & (j > -math.inf)


class _PairSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, loss: PairLoss, weight: PairWeight, scores: Tensor, relevance: Tensor, *known: Tensor
    ) -> tuple[Tensor, Tensor]:
        keep_pages()
        needed = ctx.needs_input_grad[2]  # type: ignore[attr-defined]
        # by falling relevance: the worse items j of an item i come after it, and the worst items are no i
        order = falling_order(relevance)
        s, y, *others = (x.gather(1, order) for x in (scores.detach(), relevance, *known))
        rows_with_worse = (y > y.masked_fill(y == -math.inf, math.inf).amin(1, keepdim=True)).sum(1)
        sums, weights, gradient = s.new_zeros(len(s)), s.new_zeros(len(s)), torch.zeros_like(s)
        for lists, rows in _tiles(s, rows_with_worse):
            after = slice(rows.start + 1, None)
            with no_autocast(s.device), torch.set_grad_enabled(needed):
                difference = (s[lists, rows].unsqueeze(2) - s[lists, after].unsqueeze(1)).requires_grad_(needed)
                better = _better(y[lists, rows].unsqueeze(2), y[lists, after].unsqueeze(1))
                weighed = better * weight(
                    [x[lists, rows].unsqueeze(2) for x in others], [x[lists, after].unsqueeze(1) for x in others]
                )
                losses = torch.where(better, weighed * loss(difference), 0.0)
                sums[lists] += losses.detach().sum((1, 2))
                weights[lists] += weighed.sum((1, 2))
                if needed:
                    (slope,) = torch.autograd.grad(losses.sum(), difference)
                    gradient[lists, rows] += slope.sum(2)
                    gradient[lists, after] -= slope.sum(1)
        ctx.mark_non_differentiable(weights)
        ctx.recipe = loss, weight  # type: ignore[attr-defined]
        ctx.save_for_backward(torch.zeros_like(s).scatter_(1, order, gradient), scores, relevance, *known)
        return sums, weights

    @staticmethod
    def backward(ctx: FunctionCtx, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gradient, scores, relevance, *known = ctx.saved_tensors  # type: ignore[attr-defined]
        nothing = [None] * (1 + len(known))
        if differentiated_again(upstream):
            loss, weight = ctx.recipe  # type: ignore[attr-defined]

            def twin(scores: Tensor) -> Tensor:
                return naive_pair_sums(loss, weight, scores, relevance, known)[0]

            return None, None, *twin_gradients(twin, [scores], upstream), *nothing
        return None, None, gradient * upstream.unsqueeze(1), *nothing


GRADES = 1 << 16  # whole numbers below this are sorted by their digits on a CPU


def falling_order(values: Tensor) -> Tensor:
    """The order of each row by falling value, equal values by place, −inf last: (L, N) → (L, N) int64.

    Grades, whole numbers from 0 to 65,534, are sorted by their digits on a CPU: ten times as fast.
    """
    if values.is_cpu and not traced():
        grades = values.detach().masked_fill(values == -math.inf, -1)
        if bool(((grades == grades.trunc()) & (grades < GRADES - 1) & (grades >= -1)).all()):
            keys = (GRADES - 2 - grades).numpy().astype(np.uint16)  # −1 becomes the largest
            return torch.from_numpy(np.argsort(keys, axis=1, kind="stable"))
    return values.argsort(dim=1, descending=True, stable=True)


SPREAD = 60.0  # exp(−60) is a normal float32


def order_losses(scores: Tensor, order: Tensor) -> Tensor:
    """``Σ_i [log Σ_{k ≥ i} exp(s_π(k)) − s_π(i)]`` of each list (L,), over the items with a score.

    Where the scores of a list lie less than 60 apart, plain sums of exponentials are exact to rounding, and the forward
    pass computes the gradient too. Elsewhere, and for gradients of higher order, :func:`naive_order_losses` runs.

    Args:
        scores: (L, N) floating; −inf: no item.
        order: (L, N) int64, π: places of the scores; those without an item come last.

    Cost: O(L·N), about ten passes.
    """
    with torch.no_grad():
        top = scores.amax(1, keepdim=True).clamp(min=-1e30)
        shifted = scores - top
        near = not ordinary() and float(torch.where(shifted > -math.inf, shifted, 0.0).amin()) > -SPREAD
    if not near:
        return naive_order_losses(scores, order)
    losses: Tensor = _OrderLosses.apply(scores, order, shifted, top)  # type: ignore[no-untyped-call]
    return losses


def naive_order_losses(scores: Tensor, order: Tensor) -> Tensor:
    """The naive twin of :func:`order_losses`."""
    ordered = scores.gather(1, order)
    there = ordered > -math.inf
    later = ordered.flip(1).logcumsumexp(1).flip(1)
    return (torch.where(there, later, 0.0) - torch.where(there, ordered, 0.0)).sum(1)


class _OrderLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, scores: Tensor, order: Tensor, shifted: Tensor, top: Tensor) -> Tensor:
        exponentials = shifted.gather(1, order).exp_()
        there = exponentials > 0
        later = exponentials.flip(1).cumsum(1).flip(1).masked_fill_(~there, 1)
        losses = later.log().sum(1) - shifted.masked_fill(shifted == -math.inf, 0).sum(1)
        shares = exponentials.mul_(later.reciprocal_().cumsum(1)).sub_(there.to(scores.dtype))
        ctx.save_for_backward(torch.zeros_like(scores).scatter_(1, order, shares), scores, order)
        return losses

    @staticmethod
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor | None, None, None, None]:
        gradient, scores, order = ctx.saved_tensors  # type: ignore[attr-defined]
        if differentiated_again(upstream):
            return twin_gradients(lambda s: naive_order_losses(s, order), [scores], upstream)[0], None, None, None
        return gradient * upstream.unsqueeze(1), None, None, None


def soft_ranks(scores: Tensor, mask: Tensor, sharpness: float) -> Tensor:
    """The rank of each item with a sigmoid for each comparison: ``1 + Σ_{j ≠ i} sigmoid(−α (s_i − s_j))``, (L, N).

    Args:
        scores: (L, N) floating.
        mask: (L, N) bool, False for padding, which is no item j.
        sharpness: α.

    Cost: O(L·N²) time; memory for about five tiles of 4 MiB. Gradients of higher order are those of
    :func:`naive_soft_ranks`, the naive twin.
    """
    if ordinary():
        return naive_soft_ranks(scores, mask, sharpness)
    ranks: Tensor = _SoftRanks.apply(scores, mask, sharpness)  # type: ignore[no-untyped-call]
    return ranks


def naive_soft_ranks(scores: Tensor, mask: Tensor, sharpness: float) -> Tensor:
    """The naive twin of :func:`soft_ranks`: all pairs at once."""
    behind = torch.sigmoid(sharpness * (scores.unsqueeze(1) - scores.unsqueeze(2)))
    return 0.5 + torch.where(mask.unsqueeze(1), behind, 0.0).sum(2) + 0.5 * ~mask  # an item is half behind itself


class _SoftRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, scores: Tensor, mask: Tensor, sharpness: float) -> Tensor:
        keep_pages()
        ranks = torch.empty_like(scores)
        for lists, rows in _tiles(scores):
            part = scores[lists]
            behind = (part.unsqueeze(1) - part[:, rows].unsqueeze(2)).mul_(sharpness).sigmoid_()
            ranks[lists, rows] = (behind @ mask[lists].to(behind.dtype).unsqueeze(2)).squeeze(2)
        ctx.save_for_backward(scores, mask)
        ctx.sharpness = sharpness  # type: ignore[attr-defined]
        return ranks + 0.5 + 0.5 * ~mask

    @staticmethod
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor | None, None, None]:
        scores, mask = ctx.saved_tensors  # type: ignore[attr-defined]
        sharpness: float = ctx.sharpness  # type: ignore[attr-defined]
        if differentiated_again(upstream):
            found = twin_gradients(lambda s: naive_soft_ranks(s, mask, sharpness), [scores], upstream)
            return found[0], None, None
        gradient = torch.zeros_like(scores)
        for lists, rows in _tiles(scores):
            part, sent = scores[lists], upstream[lists, rows]
            behind = (part.unsqueeze(1) - part[:, rows].unsqueeze(2)).mul_(sharpness).sigmoid_()
            slope = behind.mul_(1 - behind).mul_(mask[lists].unsqueeze(1))  # of rank i in s_j, and −Σ_j in s_i
            gradient[lists] += (sent.unsqueeze(1) @ slope).squeeze(1)
            gradient[lists, rows] -= slope.sum(2) * sent
        return gradient * sharpness, None, None


def _tiles(scores: Tensor, used: Tensor | None = None) -> Iterator[tuple[slice, slice]]:
    """Lists, and rows of items i of these, whose pairs with all items j are a tile.

    With ``used`` (L,) only that many rows of each list are needed.
    """
    count, items = scores.shape
    lists = max(1, min(count, TILE_FLOATS // max(1, items)))
    rows = max(1, TILE_FLOATS // max(1, lists * items))
    for first in range(0, count, lists):
        part = slice(first, min(first + lists, count))
        last = items if used is None else int(used[part].max())
        for start in range(0, last, rows):
            yield part, slice(start, min(start + rows, last))
