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
        mask = relevance > -math.inf
        order = falling_order(torch.where(mask, relevance, 0.0), mask)
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


GRADES = 1 << 16  # whole numbers below this are sorted together with their places on a CPU


def falling_order(values: Tensor, mask: Tensor, drawn: Tensor | None = None) -> Tensor:
    """The order of each row by falling value, padding last: (L, N) → (L, N) int64.

    Grades, whole numbers from 0 to 65,534, in rows of up to 65,536 are sorted as one number with their place, on a CPU:
    more than ten times as fast.

    Args:
        values: (L, N) floating; 0 for padding.
        mask: (L, N) bool, False for padding.
        drawn: (N,) int64, the order of equal values by their places; None: from 0 to N − 1.
    """
    places = torch.arange(values.shape[1], device=values.device) if drawn is None else drawn
    order = _graded_order(values, mask, places) if values.is_cpu and not traced() else None
    if order is None:
        mixed = torch.where(mask, values, -math.inf).index_select(1, places)
        order = mixed.argsort(dim=1, descending=True, stable=True)
    return places.index_select(0, order.flatten()).view_as(order)  # several times as fast as places[order]


def _graded_order(values: Tensor, mask: Tensor, places: Tensor) -> Tensor | None:
    """Which of ``places`` come first: (L, N) int32. None where values are no grades."""
    keep_pages()
    falling = GRADES - 2 - values.detach().numpy()
    with np.errstate(invalid="ignore"):  # NaN
        keys = falling.clip(0, GRADES - 2).astype(np.uint32)
    if len(places) > GRADES or not bool((keys.astype(falling.dtype) == falling).all()):
        return None
    keys |= (mask.numpy().view(np.int8) - np.int8(1)).astype(np.uint32)  # padding: the largest
    keys <<= np.uint32(16)
    keys |= np.argsort(places.numpy()).astype(np.uint32)
    keys.sort(axis=1)
    keys &= np.uint32(GRADES - 1)
    return torch.from_numpy(keys.view(np.int32))


SPREAD = 60.0  # exp(−60) is a normal float32


def order_losses(scores: Tensor, mask: Tensor, order: Tensor) -> Tensor:
    """``Σ_i [log Σ_{k ≥ i} exp(s_π(k)) − s_π(i)]`` of each list (L,), over its items.

    Where the scores of a list (with the 0 of its padding) lie less than 60 apart, plain sums of exponentials are exact
    to rounding, and the forward pass computes the gradient too. Elsewhere, and for gradients of higher order,
    :func:`naive_order_losses` runs.

    Args:
        scores: (L, N) floating; 0 for padding.
        mask: (L, N) bool, False for padding.
        order: (L, N) int64, π: places of the scores; padding comes last.

    Cost: O(L·N), about ten passes.
    """
    if ordinary():
        return naive_order_losses(scores, mask, order)
    keep_pages()
    held = scores.detach()
    high = held.amax(1, keepdim=True)
    if not float((high - held.amin(1, keepdim=True)).amax()) < SPREAD:
        return naive_order_losses(scores, mask, order)
    losses: Tensor = _OrderLosses.apply(scores, mask, order, high)  # type: ignore[no-untyped-call]
    return losses


def naive_order_losses(scores: Tensor, mask: Tensor, order: Tensor) -> Tensor:
    """The naive twin of :func:`order_losses`."""
    later = scores.masked_fill(~mask, -math.inf).gather(1, order).flip(1).logcumsumexp(1).flip(1)
    return torch.where(mask.gather(1, order), later, 0.0).sum(1) - scores.sum(1)


class _OrderLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, scores: Tensor, mask: Tensor, order: Tensor, high: Tensor) -> Tensor:
        items = mask.sum(1, keepdim=True)
        places = torch.arange(order.shape[1], dtype=scores.dtype, device=order.device)
        present = (items.to(scores.dtype) - places).clamp_(0, 1)  # 1 for items, which come first, and 0 for padding
        shifted = scores - high
        total = shifted.sum(1) + (high * (order.shape[1] - items)).squeeze(1)  # of items alone
        exponentials = shifted.exp_().gather(1, order).mul_(present)
        later = exponentials.flip(1).cumsum(1).flip(1).add_(1 - present)  # log 1 = 0
        losses = later.log().sum(1).sub_(total)
        shares = exponentials.mul_(later.reciprocal_().cumsum(1)).sub_(present)
        ctx.save_for_backward(torch.empty_like(scores).scatter_(1, order, shares), scores, mask, order)
        return losses

    @staticmethod
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor | None, None, None, None]:
        gradient, scores, mask, order = ctx.saved_tensors  # type: ignore[attr-defined]
        if differentiated_again(upstream):
            return twin_gradients(lambda s: naive_order_losses(s, mask, order), [scores], upstream)[0], None, None, None
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
