"""The log-sum-exp of each row of similarities, tile by tile, with its gradient.

Dimension legend: Q queries, K keys, D dimensions, T keys in a tile, L rows that a query leaves out.
Neither the forward nor the backward pass keeps more than one tile of the Q×K matrix.
"""

import math

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from likewise.kernels.numerics import (
    SHORTEST,
    at_least_float32,
    differentiated_again,
    keep_pages,
    leave_tangent,
    no_autocast,
    ordinary,
    twin_gradients,
    unit,
)

TILE_KEYS = 2048  # at Q = 128, float32 similarities of a tile take 1 MiB, which fits a core's L2 cache
LEAST_TILE_KEYS, TILE_FLOATS = 32, 1 << 19  # with many queries a tile has fewer keys: 2 MiB in all
KEPT_FLOATS = 1 << 22  # 16 MiB: up to this many logits are one tile, kept for the gradient of the keys


class _RowLogSumExp(torch.autograd.Function):
    """Online log-sum-exp. The forward pass also sums the weighted mean key, which is the gradient of the queries.

    Circle's logits ``γ [s + m]₊ (s − m)`` equal ``c² − γm²`` with ``c = max(√γ s, −√γ m)``. Their gradient by s, with
    ``[s + m]₊`` constant, is ``√γ (c + √γ m)``. With Circle, ``scale`` is √γ and ``circle`` is √γ m; the constant γm²
    is subtracted at the end.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        queries: Tensor,
        keys: Tensor,
        scale: float,
        tile: int,
        skip: Tensor | None,
        circle: float | None,
        unit_keys: bool,
        wanted: bool,
    ) -> Tensor:
        needs_queries, needs_keys = (wanted and need for need in ctx.needs_input_grad[:2])  # type: ignore[attr-defined]
        keep = len(keys) <= tile and len(queries) * len(keys) <= KEPT_FLOATS and needs_keys
        scaled, floor = queries * scale, torch.finfo(queries.dtype).min
        logsumexp = queries.new_full((len(queries), 1), -torch.inf)
        mean_key = torch.zeros_like(queries) if needs_queries and not keep else None
        weights = None
        for start in range(0, len(keys), tile):
            block, _ = _block(keys, start, tile, queries.dtype, unit_keys)  # (T, D)
            logits, pace = _tile_logits(scaled, block, None, skip, start, circle)  # (Q, T)
            top = logits.amax(1, keepdim=True)
            weights = torch.softmax(logits, 1)
            del logits
            # the largest weight is exp(0) / Σ exp(logit − top)
            part = (top - weights.amax(1, keepdim=True).log_()).masked_fill_(top == floor, -torch.inf)
            if pace is not None and circle is not None and (keep or mean_key is not None):
                weights = pace.add_(circle).mul_(weights)
            if start == 0 and len(keys) <= tile:
                logsumexp, mean_key = part, None if mean_key is None else weights @ block
                break
            total = torch.logaddexp(logsumexp, part)
            if mean_key is not None:
                finite = total.clamp(min=floor)
                mean_key.mul_((logsumexp - finite).exp_()).addcmul_(weights @ block, (part - finite).exp_())
            logsumexp = total
        if needs_queries or needs_keys:
            kept = skip, mean_key, weights if keep else None
            ctx.save_for_backward(queries, keys, logsumexp, *kept)  # type: ignore[arg-type]
            ctx.settings = scale, tile, circle, unit_keys  # type: ignore[attr-defined]
        shift = 0.0 if circle is None else circle * circle
        return logsumexp.squeeze(1) - shift

    @staticmethod
    def backward(
        ctx: FunctionCtx, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None, None, None, None, None]:
        queries, keys, logsumexp, skip, mean_key, weights = ctx.saved_tensors  # type: ignore[attr-defined]
        scale, tile, circle, unit_keys = ctx.settings  # type: ignore[attr-defined]
        needs_queries, needs_keys = ctx.needs_input_grad[:2]  # type: ignore[attr-defined]
        if differentiated_again(grad):
            settings = {"scale": scale, "skip": skip, "circle": circle, "unit_keys": unit_keys}
            if circle is not None:
                settings |= {"scale": scale * scale, "circle": circle / scale}

            def twin(queries: Tensor, keys: Tensor) -> Tensor:
                return naive_row_logsumexp(queries, keys, **settings)

            grad_queries, grad_keys = twin_gradients(twin, [queries, keys], grad)
            return grad_queries, grad_keys, None, None, None, None, None, None
        pull = (grad.unsqueeze(1) * scale).masked_fill_(logsumexp == -torch.inf, 0.0)
        grad_queries = grad_keys = None
        with no_autocast(queries.device):
            if weights is not None:
                block, inverse = _block(keys, 0, tile, queries.dtype, unit_keys)
                if needs_queries:
                    grad_queries = (weights @ block).mul_(pull)
                if needs_keys:
                    grad_keys = _past_unit(weights.T @ (queries * pull), block, inverse).to(keys.dtype)
                return grad_queries, grad_keys, None, None, None, None, None, None
            if needs_queries:
                grad_queries = mean_key * pull
            if needs_keys:
                grad_keys = torch.empty_like(keys)
                scaled, pulled = queries * scale, queries * pull
                less = -logsumexp.masked_fill(logsumexp == -torch.inf, torch.inf)
                for start in range(0, len(keys), tile):
                    block, inverse = _block(keys, start, tile, queries.dtype, unit_keys)
                    weight, pace = _tile_logits(scaled, block, less, skip, start, circle)
                    weight.exp_()  # softmax, recomputed
                    if pace is not None and circle is not None:
                        weight.mul_(pace.add_(circle))
                    grad_keys[start : start + tile] = _past_unit(weight.T @ pulled, block, inverse)
        return grad_queries, grad_keys, None, None, None, None, None, None


def _block(keys: Tensor, start: int, tile: int, dtype: torch.dtype, unit: bool) -> tuple[Tensor, Tensor | None]:
    """(T, D) keys of a tile; with ``unit``, keys scaled to unit length, and (T, 1) 1/length."""
    block = keys[start : start + tile].to(dtype)
    if not unit:
        return block, None
    length: Tensor = torch.linalg.vector_norm(block, dim=1, keepdim=True)
    inverse = length.masked_fill_(length < SHORTEST, 1.0).reciprocal_()
    return block * inverse, inverse


def _past_unit(grad: Tensor, block: Tensor, inverse: Tensor | None) -> Tensor:
    """The gradient of the keys, from the gradient of the unit keys ``block``."""
    if inverse is None:
        return grad
    return leave_tangent(grad, block).mul_(inverse)


def _tile_logits(
    scaled: Tensor, block: Tensor, less: Tensor | None, skip: Tensor | None, start: int, circle: float | None
) -> tuple[Tensor, Tensor | None]:
    """(Q, T) logits of a tile plus ``less`` (Q, 1), the smallest finite number where skipped; and Circle's (Q, T) c."""
    pace = None
    if circle is not None:
        pace = (scaled @ block.T).clamp_(min=-circle)
        logits = pace.square() if less is None else torch.addcmul(less, pace, pace)
    else:
        logits = scaled @ block.T if less is None else torch.addmm(less, scaled, block.T)
    if skip is not None:
        place, last = skip - start, len(block) - 1
        floor = logits.new_full((), torch.finfo(logits.dtype).min)
        cap = torch.where((place >= 0) & (place <= last), floor, torch.inf)
        logits.scatter_reduce_(1, place.clamp_(0, last), cap, "amin")
    return logits, pace


def row_logsumexp(
    queries: Tensor,
    keys: Tensor,
    scale: float,
    *,
    skip: Tensor | None = None,
    circle: float | None = None,
    unit_keys: bool = False,
    tile: int | None = None,
) -> Tensor:
    """``log Σ_{j not skipped} exp(scale · q·k_j)`` for each query, exact, in tiles; −inf where all keys are skipped.

    With ``circle`` = m it sums ``exp(scale · [s_j + m]₊ · (s_j − m))`` with ``s_j = q·k_j``, as the negatives of Circle
    loss need. The factor ``[s_j + m]₊`` is a constant for the gradient.

    It equals :func:`naive_row_logsumexp`, the naive twin, which needs Q·K numbers at once. ``torch.compile`` and
    ``torch.export`` trace the twin, so that the compiler can fuse it.

    Args:
        queries: (Q, D), any floating dtype; half precisions become float32, and autocast is off inside.
        keys: (K, D), any floating dtype; each tile is converted to the queries' dtype.
        scale: 1/τ, above 0.
        skip: (Q,) or (Q, L) int64, key rows that a query leaves out; −1 leaves none out.
        circle: m of the Circle form; None: the plain form.
        unit_keys: whether to scale the keys of each tile to unit length. Keys shorter than 1e-12 stay as they are.
        tile: keys per tile; by default as many as make 2 MiB of logits, from 32 to 2048.

    Returns:
        (Q,) float32, or float64 for float64 queries. Queries and keys get gradients; of higher order, the twin's.

    Cost: 2·Q·K·D flops without gradient, 4·Q·K·D with the queries' gradient, 8·Q·K·D with the keys' gradient too.
    Memory for Q·(2·tile + 2D) floats (with Circle 3·tile), for any K. If keys need a gradient and Q·K is at most 2²²,
    all logits are one tile, which is kept; the cost is then 6·Q·K·D flops.
    """
    queries = at_least_float32(queries)
    if ordinary():
        return naive_row_logsumexp(queries, keys, scale, skip=skip, circle=circle, unit_keys=unit_keys)
    if circle is not None:
        scale, circle = math.sqrt(scale), math.sqrt(scale) * circle
    skip = skip.unsqueeze(1) if skip is not None and skip.ndim == 1 else skip
    keep_pages()
    wanted = torch.is_grad_enabled()
    if tile is None:
        lone = wanted and keys.requires_grad and len(queries) * len(keys) <= KEPT_FLOATS
        tile = len(keys) if lone else min(TILE_KEYS, max(LEAST_TILE_KEYS, TILE_FLOATS // len(queries)))
    with no_autocast(queries.device):
        result: Tensor = _RowLogSumExp.apply(queries, keys, scale, tile, skip, circle, unit_keys, wanted)  # type: ignore[no-untyped-call]
    return result


def naive_row_logsumexp(
    queries: Tensor,
    keys: Tensor,
    scale: float,
    *,
    skip: Tensor | None = None,
    circle: float | None = None,
    unit_keys: bool = False,
) -> Tensor:
    """The naive twin of :func:`row_logsumexp`: the whole matrix at once, with O(Q·K) memory."""
    queries = at_least_float32(queries)
    with no_autocast(queries.device):
        keys = keys.to(queries.dtype)
        keys = unit(keys) if unit_keys else keys
        logits = queries @ keys.T  # (Q, K)
    logits = scale * logits if circle is None else scale * (logits + circle).detach().relu() * (logits - circle)
    if skip is None:
        return logits.logsumexp(1)
    skip = skip.reshape(len(queries), -1)
    left_out = logits.new_zeros(len(queries), len(keys) + 1, dtype=torch.bool)
    left_out = left_out.scatter(1, torch.where(skip < 0, len(keys), skip), True)[:, :-1]
    sums = logits.masked_fill(left_out, torch.finfo(logits.dtype).min).logsumexp(1)
    return torch.where(left_out.all(1), -torch.inf, sums)
