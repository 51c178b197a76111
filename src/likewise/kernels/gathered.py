"""Similarities of each query with keys of its own.

Dimension legend: Q queries, K keys, D dimensions, M keys of a query.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from likewise.kernels.numerics import at_least_float32

GATHER_FLOATS = 1 << 22  # 16 MiB of gathered keys at a time


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
    if torch.compiler.is_compiling():
        queries = at_least_float32(queries)
        return torch.bmm(keys.detach()[rows].to(queries.dtype), queries.unsqueeze(2)).squeeze(2)
    result: Tensor = _GatheredSimilarities.apply(at_least_float32(queries), keys.detach(), rows)  # type: ignore[no-untyped-call]
    return result


class _PairedSimilarities(torch.autograd.Function):
    """q_a · k_b of listed pairs, a few at a time, with the gradient of both."""

    @staticmethod
    def forward(ctx: FunctionCtx, queries: Tensor, keys: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        ctx.save_for_backward(queries, keys, rows, columns)
        chunk = max(1, GATHER_FLOATS // queries.shape[1])
        parts = zip(torch.split(rows, chunk), torch.split(columns, chunk), strict=True)
        return torch.cat([(queries[a] * keys[b]).sum(1) for a, b in parts])

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        queries, keys, rows, columns = ctx.saved_tensors  # type: ignore[attr-defined]
        needs_queries, needs_keys = ctx.needs_input_grad[:2]  # type: ignore[attr-defined]
        grad_queries = torch.zeros_like(queries) if needs_queries else None
        grad_keys = torch.zeros_like(keys) if needs_keys else None
        chunk = max(1, GATHER_FLOATS // queries.shape[1])
        for a, b, g in zip(*(torch.split(x, chunk) for x in (rows, columns, grad.unsqueeze(1))), strict=True):
            if grad_queries is not None:
                grad_queries.index_add_(0, a, keys[b].mul_(g))
            if grad_keys is not None:
                grad_keys.index_add_(0, b, queries[a].mul_(g))
        return grad_queries, grad_keys, None, None


def paired_similarities(queries: Tensor, keys: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Similarities of listed pairs: ``s_m = q_{rows_m} · k_{columns_m}``.

    Equals ``(queries[rows] * keys[columns]).sum(1)``, its naive twin, which keeps 2·M·D numbers for the gradient.

    Args:
        queries: (Q, D), float32 or float64.
        keys: (K, D), the same dtype.
        rows: (M,) int64, rows of ``queries``.
        columns: (M,) int64, rows of ``keys``.

    Returns:
        (M,). Gradients reach queries and keys; first order only. Cost: M·D multiply-adds, three times that with both
        gradients; 32 MiB beyond the result and the gradients.
    """
    if torch.compiler.is_compiling() or not len(rows):
        return (queries[rows] * keys[columns]).sum(1)
    result: Tensor = _PairedSimilarities.apply(queries, keys, rows, columns)  # type: ignore[no-untyped-call]
    return result


OWN_ROWS = 4096  # of queries whose own proxies are gathered at a time


class _OwnSimilarity(torch.autograd.Function):
    """``q_i · k_{place_i}``, some rows at a time, keeping no copy of the gathered keys."""

    @staticmethod
    def forward(ctx: FunctionCtx, queries: Tensor, keys: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(queries, keys, place)
        parts = zip(torch.split(queries, OWN_ROWS), torch.split(place, OWN_ROWS), strict=True)
        return torch.cat([(q * keys.index_select(0, p).to(q.dtype)).sum(1) for q, p in parts])

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        queries, keys, place = ctx.saved_tensors  # type: ignore[attr-defined]
        needs_queries, needs_keys = ctx.needs_input_grad[:2]  # type: ignore[attr-defined]
        grad_queries = torch.empty_like(queries) if needs_queries else None
        grad_keys = torch.zeros_like(keys) if needs_keys else None
        for start in range(0, len(queries), OWN_ROWS):
            rows = slice(start, start + OWN_ROWS)
            share, where = grad[rows].unsqueeze(1), place[rows]
            if grad_queries is not None:
                torch.mul(keys.index_select(0, where).to(queries.dtype), share, out=grad_queries[rows])
            if grad_keys is not None:
                grad_keys.index_add_(0, where, (queries[rows] * share).to(keys.dtype))
        return grad_queries, grad_keys, None


def own_similarities(queries: Tensor, keys: Tensor, place: Tensor) -> Tensor:
    """``q_i · k_{place_i}`` of each row, (Q,), with gradients of both: O(Q·D) time, no copy of all gathered keys."""
    result: Tensor = _OwnSimilarity.apply(queries, keys, place)  # type: ignore[no-untyped-call]
    return result
