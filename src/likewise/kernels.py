"""The one primitive of the family: row reductions of similarities, tile by tile.

Dimension legend: Q queries, K keys, D dimensions, T keys in a tile, M sampled keys per query.
Nothing of size Q×K exists beyond one tile, forwards or backwards.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

TILE_KEYS = 2048  # Q=128 fp32 similarities of a tile take 1 MiB: they stay in a core's L2 cache
GATHER_FLOATS = 1 << 22  # 16 MiB of gathered keys at a time


def at_least_float32(x: Tensor) -> Tensor:
    """Half precisions go to float32, where every similarity and reduction is made; wider ones stay."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class _RowLogSumExp(torch.autograd.Function):
    """Online log-sum-exp. The weighted mean key is gathered on the way, so the gradient of the queries is free."""

    @staticmethod
    def forward(ctx: FunctionCtx, queries: Tensor, keys: Tensor, scale: float, tile: int) -> Tensor:
        scaled = queries * scale
        row_max = queries.new_full((len(queries), 1), -torch.inf)
        row_sum = torch.zeros_like(row_max)
        mean_key = torch.zeros_like(queries) if queries.requires_grad or keys.requires_grad else None
        for start in range(0, len(keys), tile):
            block = keys[start : start + tile].to(queries.dtype)  # (T, D)
            weight = scaled @ block.T  # (Q, T)
            new_max = torch.maximum(row_max, weight.amax(1, keepdim=True))
            shrink = (row_max - new_max).exp_()
            weight.sub_(new_max).exp_()
            row_sum = row_sum.mul_(shrink).add_(weight.sum(1, keepdim=True))
            if mean_key is not None:
                mean_key.mul_(shrink).addmm_(weight, block)
            row_max = new_max
        logsumexp = row_max.squeeze(1) + row_sum.squeeze(1).log()
        if mean_key is not None:
            mean_key.div_(row_sum)
            ctx.save_for_backward(queries, keys, logsumexp, mean_key)
            ctx.scale, ctx.tile = scale, tile  # type: ignore[attr-defined]
        return logsumexp

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        queries, keys, logsumexp, mean_key = ctx.saved_tensors  # type: ignore[attr-defined]
        scale, tile = ctx.scale, ctx.tile  # type: ignore[attr-defined]
        pull = grad.unsqueeze(1) * scale
        grad_queries = mean_key * pull if ctx.needs_input_grad[0] else None  # type: ignore[attr-defined]
        grad_keys = None
        if ctx.needs_input_grad[1]:  # type: ignore[attr-defined]
            grad_keys = torch.empty_like(keys)
            scaled, pulled = queries * scale, queries * pull
            for start in range(0, len(keys), tile):
                block = keys[start : start + tile].to(queries.dtype)
                weight = (scaled @ block.T).sub_(logsumexp.unsqueeze(1)).exp_()  # softmax, recomputed
                grad_keys[start : start + tile] = weight.T @ pulled
        return grad_queries, grad_keys, None, None


def row_logsumexp(queries: Tensor, keys: Tensor, scale: float, *, tile: int = TILE_KEYS) -> Tensor:
    """``log Σ_j exp(scale · q·k_j)`` for each query, exact, in tiles.

    Equals ``(scale * queries @ keys.T).logsumexp(1)``, its naive twin, which needs Q·K numbers at once.

    Args:
        queries: (Q, D), float32 or float64 (half precisions are raised to float32).
        keys: (K, D), any floating dtype; raised tile by tile.
        scale: 1/τ.
        tile: keys per tile.

    Returns:
        (Q,) in the queries' (raised) dtype. Gradients reach queries and keys; first order only.

    Cost: 2·Q·K·D multiply-adds with the queries' gradient, twice that when keys need theirs too; memory
    Q·(tile + 2D) floats, whatever K is.
    """
    result: Tensor = _RowLogSumExp.apply(at_least_float32(queries), keys, scale, tile)  # type: ignore[no-untyped-call]
    return result


class _GatheredSimilarities(torch.autograd.Function):
    """q_i · k_{r_ij}, gathering a few queries' keys at a time; the backward is a weighted bag of keys."""

    @staticmethod
    def forward(ctx: FunctionCtx, queries: Tensor, keys: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(keys, rows)
        chunk = max(1, GATHER_FLOATS // (rows.shape[1] * keys.shape[1]))
        parts = [
            torch.bmm(keys[r].to(q.dtype), q.unsqueeze(2)).squeeze(2)
            for q, r in zip(torch.split(queries, chunk), torch.split(rows, chunk), strict=True)
        ]
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        keys, rows = ctx.saved_tensors  # type: ignore[attr-defined]
        weights = grad.to(keys.dtype).contiguous()
        bag = torch.nn.functional.embedding_bag(rows, keys, per_sample_weights=weights, mode="sum")
        return bag.to(grad.dtype), None, None


def gathered_similarities(queries: Tensor, keys: Tensor, rows: Tensor) -> Tensor:
    """Similarities of each query with keys of its own: ``s_ij = q_i · k_{rows_ij}``.

    Equals ``(keys[rows] * queries[:, None]).sum(-1)``, its naive twin, which needs Q·M·D numbers at once.

    Args:
        queries: (Q, D); raised to float32 at least.
        keys: (K, D), a constant: no gradient reaches it.
        rows: (Q, M) int64, rows of ``keys``.

    Returns:
        (Q, M). Cost: Q·M·D multiply-adds, bound by the random reads; 16 MiB beyond the result.
    """
    result: Tensor = _GatheredSimilarities.apply(at_least_float32(queries), keys.detach(), rows)  # type: ignore[no-untyped-call]
    return result
