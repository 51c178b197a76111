"""Evaluates the loss of each query from its row of similarities, tile by tile, with the gradient.

Dimension legend: Q queries, K keys, D dimensions, R rows of a tile, P positives of a row at most.

A *rule* states an objective once, in ordinary differentiable torch, for a tile of rows:
``rule(s_p, positive, s_n, negative, *row_inputs) → (losses, counted)`` with similarities ``s_p`` (R, P) and ``s_n``
(R, K), their bool masks, and further inputs of the rows, (R,) or (R, ·). :func:`naive_row_losses`, the naive twin,
applies the rule to the whole matrix at once, where s_p = s_n.
"""

from collections.abc import Sequence
from functools import cache, lru_cache

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from likewise.alike import Listed, Relation, reordered, restored, tile_rows_for
from likewise.kernels.numerics import (
    Rule,
    as_twin,
    at_least_float32,
    differentiated_again,
    keep_pages,
    no_autocast,
    ordinary,
    product,
    twin_gradients,
    zero_uncounted,
)

FUSED_BACKEND = "inductor"
PLAIN_PAIRS = 1 << 14  # of a query and a key: for so many the naive twin is not slower, on one thread of a CPU


def row_losses(
    rule: Rule,
    queries: Tensor,
    keys: Tensor | None,
    relation: Relation | Listed,
    row_inputs: Sequence[Tensor] = (),
    *,
    ahead: bool = True,
    tile_rows: int | None = None,
    plain_pairs: int = 0,
) -> tuple[Tensor, Tensor]:
    """The loss of each query, and whether it counted.

    It equals :func:`naive_row_losses`, the naive twin, which needs the Q×K matrices. For few pairs the twin runs,
    since its fixed cost is smaller. ``torch.compile`` and ``torch.export`` trace the twin, so that the compiler
    can fuse it.

    Args:
        rule: see the module. A row that does not count has loss 0 and no gradient.
        queries: (Q, D), any floating dtype; half precisions become float32, and autocast is off inside.
        keys: (K, D), or None when the queries are the keys.
        relation: which pairs are positive, negative, or neither.
        row_inputs: tensors of Q rows each, which the rule gets; they can have a gradient.
        ahead: whether the forward pass computes the gradient of each tile, for an upstream gradient that is the same
            for all rows, as of a mean or a sum. This needs three matrix products. With another upstream gradient, or
            with ``ahead=False``, the backward pass computes the tiles again; this needs four.
        tile_rows: rows of a tile; by default as many as make 4 MiB of similarities.
        plain_pairs: on a CPU, the twin runs for up to this many pairs of a query and a key.

    Returns:
        (Q,) losses and (Q,) bool. Queries, keys and row inputs get gradients; of higher order, the twin's.

    Cost: 6·Q·K·D flops with gradients, and memory for about ten tiles beyond the inputs and their gradients. On CUDA
    with Triton, the rule is compiled to fused kernels.
    """
    queries = at_least_float32(queries)
    keys = None if keys is None else at_least_float32(keys).to(queries.dtype)
    if ordinary():
        return naive_row_losses(rule, queries, keys, relation, row_inputs)
    count = len(queries) if keys is None else len(keys)
    if queries.is_cpu and len(queries) * count <= plain_pairs:
        with as_twin():
            return naive_row_losses(rule, queries, keys, relation, row_inputs)
    tile_rows = tile_rows or tile_rows_for(count)
    losses, counted = _Rows.apply(rule, relation, tile_rows, ahead, queries, keys, *row_inputs)  # type: ignore[no-untyped-call]
    return losses, counted


def naive_row_losses(
    rule: Rule, queries: Tensor, keys: Tensor | None, relation: Relation | Listed, row_inputs: Sequence[Tensor] = ()
) -> tuple[Tensor, Tensor]:
    """The naive twin of :func:`row_losses`: the whole matrix at once, with O(Q·K) memory."""
    queries = at_least_float32(queries)
    keys = queries if keys is None else at_least_float32(keys).to(queries.dtype)
    autocast = torch.is_autocast_enabled(queries.device.type)
    with no_autocast(queries.device):
        similarities = product(queries, keys.T, guarded=autocast)  # (Q, K)
        _, positive, negative = relation.whole()
        return zero_uncounted(*rule(similarities, positive, similarities, negative, *row_inputs))


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        rule: Rule,
        relation: Relation | Listed,
        tile_rows: int,
        ahead: bool,
        queries: Tensor,
        keys: Tensor | None,
        *row_inputs: Tensor,
    ) -> tuple[Tensor, Tensor]:
        wanted = ctx.needs_input_grad[4:]  # type: ignore[attr-defined]
        sweep = _Sweep(rule, relation, tile_rows, queries, keys, row_inputs)
        losses, counted, gradients = sweep.run(wanted if ahead else (False,) * len(wanted), None)
        ctx.mark_non_differentiable(counted)
        ctx.recipe = rule, relation, tile_rows  # type: ignore[attr-defined]
        ctx.ahead = gradients if ahead and any(wanted) else None  # type: ignore[attr-defined]
        ctx.save_for_backward(queries, keys, *row_inputs)  # type: ignore[arg-type]
        return losses, counted

    @staticmethod
    def backward(ctx: FunctionCtx, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[4:]  # type: ignore[attr-defined]
        if differentiated_again(upstream):
            queries, keys, *row_inputs = ctx.saved_tensors  # type: ignore[attr-defined]
            rule, relation, _ = ctx.recipe  # type: ignore[attr-defined]

            def twin(queries: Tensor, keys: Tensor | None, *row_inputs: Tensor) -> Tensor:
                return naive_row_losses(rule, queries, keys, relation, row_inputs)[0]

            return None, None, None, None, *twin_gradients(twin, [queries, keys, *row_inputs], upstream)
        same = upstream.stride(0) == 0 or bool((upstream == upstream[:1]).all())
        if ctx.ahead is not None and same:  # type: ignore[attr-defined]
            gradients = [None if g is None else g * upstream[:1].sum() for g in ctx.ahead]  # type: ignore[attr-defined]
        else:
            queries, keys, *row_inputs = ctx.saved_tensors  # type: ignore[attr-defined]
            rule, relation, tile_rows = ctx.recipe  # type: ignore[attr-defined]
            sweep = _Sweep(rule, relation, tile_rows, queries, keys, row_inputs)
            gradients = sweep.run(wanted, upstream)[2]
        return None, None, None, None, *gradients


class _Sweep:
    """One pass over the tiles of rows."""

    def __init__(
        self,
        rule: Rule,
        relation: Relation | Listed,
        tile_rows: int,
        queries: Tensor,
        keys: Tensor | None,
        row_inputs: Sequence[Tensor],
    ) -> None:
        keep_pages()
        self.rule = _fused(rule) if can_fuse(queries.device) else rule
        self.relation, self.tile_rows = relation, tile_rows
        self.order, self.key_order = relation.query_order, relation.key_order
        self.queries = reordered(queries.detach(), self.order)
        self.keys = self.queries if keys is None else reordered(keys.detach(), self.key_order)
        self.row_inputs = [reordered(x.detach(), self.order) for x in row_inputs]

    def run(self, wanted: Sequence[bool], upstream: Tensor | None) -> tuple[Tensor, Tensor, list[Tensor | None]]:
        """Losses, counted, and the gradients of queries, keys and row inputs that are wanted."""
        shared = self.keys is self.queries
        need_queries, need_keys, *need_inputs = wanted
        upstream = None if upstream is None else reordered(upstream, self.order)
        losses = self.queries.new_zeros(len(self.queries))
        counted = torch.zeros(len(self.queries), dtype=torch.bool, device=losses.device)
        grad_queries = torch.zeros_like(self.queries) if need_queries else None
        grad_keys = grad_queries if shared else torch.zeros_like(self.keys) if need_keys else None
        grad_inputs = [
            torch.zeros_like(x) if need else None for x, need in zip(self.row_inputs, need_inputs, strict=True)
        ]
        for start in range(0, len(losses), self.tile_rows):
            rows = slice(start, min(start + self.tile_rows, len(losses)))
            inputs = [x[rows].requires_grad_(need) for x, need in zip(self.row_inputs, need_inputs, strict=True)]
            loss, counts, grads = self._tile(rows, inputs, any(wanted), upstream)
            losses[rows], counted[rows] = loss, counts
            for total, part in zip(grad_inputs, grads[1:], strict=True):
                if total is not None and part is not None:
                    total[rows] = part
            if grads[0] is not None and grad_queries is not None:
                grad_queries[rows].addmm_(grads[0], self.keys)
            if grads[0] is not None and grad_keys is not None:
                grad_keys.addmm_(grads[0].T, self.queries[rows])
        gradients = [
            None if g is None else restored(g, order)
            for g, order in (
                (grad_queries, self.order),
                (None if shared else grad_keys, self.key_order),
                *((g, self.order) for g in grad_inputs),
            )
        ]
        return restored(losses, self.order), restored(counted, self.order), gradients

    def _tile(
        self, rows: slice, inputs: list[Tensor], differentiate: bool, upstream: Tensor | None
    ) -> tuple[Tensor, Tensor, Sequence[Tensor | None]]:
        """Loss, counted and gradients (of the similarities, then of the row inputs) of one tile."""
        with no_autocast(self.queries.device), torch.set_grad_enabled(differentiate):
            s_n = (self.queries[rows] @ self.keys.T).requires_grad_(differentiate)  # (R, K)
            columns, positive, negative = self.relation.masks(rows.start, rows.stop)
            s_p = s_n if columns is None else s_n.detach().gather(1, columns).requires_grad_(differentiate)
            loss, counts = zero_uncounted(*self.rule(s_p, positive, s_n, negative, *inputs))
            if not differentiate or not loss.requires_grad:
                return loss, counts, [None] * (1 + len(inputs))
            sought = [s_n, s_p, *(x for x in inputs if x.requires_grad)]
            weights = torch.ones_like(loss) if upstream is None else upstream[rows]
            grad_n, grad_p, *grad_inputs = torch.autograd.grad(loss, sought, weights, allow_unused=True)
        if columns is not None and grad_p is not None:
            grad_n = (torch.zeros_like(s_n) if grad_n is None else grad_n).scatter_add_(1, columns, grad_p)
        rest = iter(grad_inputs)
        return loss.detach(), counts, [grad_n, *(next(rest) if x.requires_grad else None for x in inputs)]


@cache
def can_fuse(device: torch.device) -> bool:
    """Whether rules are compiled to fused kernels on ``device``: if it is no CPU and Triton is installed."""
    from torch.utils._triton import has_triton

    return device.type != "cpu" and bool(has_triton())


@lru_cache(maxsize=64)
def _fused(rule: Rule) -> Rule:
    return torch.compile(rule, dynamic=True, backend=FUSED_BACKEND)
