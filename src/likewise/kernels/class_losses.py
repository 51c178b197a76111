"""The loss of each query against one proxy of each class, in tiles of rows, with its gradient.

Dimension legend: Q queries, K keys (the proxies), D dimensions, R rows of a tile.

A *target* is the logit of a row's own class, in ordinary differentiable torch: ``target(similarity, *row_inputs)`` of
the (R,) similarities of the rows to their own proxies and of further inputs of the rows, all (R,).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

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
    softplus,
    twin_gradients,
    unit,
)

Target = Callable[..., Tensor]
TILE_FLOATS = 7 << 20  # 28 MiB of logits; glibc returns freed blocks of 32 MiB to the system
LEAST_ROWS = 16
CHUNK = 4096  # keys at a time where a pass over them needs a copy


class Form(NamedTuple):
    """How logits come of queries and keys. Rows shorter than 1e-12 are not scaled to unit length."""

    target: Target  # see the module
    scale: float  # the factor of the similarities, above 0
    circle: float | None = None  # m, for logits scale · [s + m]₊ · (s − m) with a constant [s + m]₊; None: scale · s
    unit_queries: bool = False  # whether queries are scaled to unit length
    unit_keys: bool = False  # whether keys are scaled to unit length
    slope: float | None = None  # of a target that is a straight line, without row inputs; None: autograd finds it


def class_losses(
    form: Form,
    queries: Tensor,
    keys: Tensor,
    own: Tensor,
    row_inputs: Sequence[Tensor] = (),
    *,
    ahead: bool = True,
    tile_rows: int | None = None,
) -> Tensor:
    """``softplus(log Σ_{j≠y} exp(logit_j) − target)`` of each query, y its own class: −log softmax with this target.

    It equals :func:`naive_class_losses`, the naive twin, which needs the Q×K matrix. ``torch.compile`` and
    ``torch.export`` trace the twin, so that the compiler can fuse it.

    Args:
        form: see :class:`Form`.
        queries: (Q, D), any floating dtype; half precisions become float32, and autocast is off inside.
        keys: (K, D), any floating dtype; they become the queries'.
        own: (Q,) int64, the row of the key of each query's class; −1: none. Such a query has loss 0 and no gradient.
        row_inputs: (Q,) tensors that the target gets, in the queries' dtype; they can have a gradient.
        ahead: see :func:`likewise.kernels.row_losses.row_losses`.
        tile_rows: rows of a tile; by default as many as make 28 MiB of logits, at least 16.

    Returns:
        (Q,) losses. Queries, keys and row inputs get gradients; of higher order, the twin's.

    Cost: 6·Q·K·D flops with gradients, and memory for one tile (with Circle two) beyond the inputs and their gradients.
    """
    queries = at_least_float32(queries)
    if ordinary():
        return naive_class_losses(form, queries, keys, own, row_inputs)
    keep_pages()
    tile_rows = tile_rows or max(LEAST_ROWS, TILE_FLOATS // keys.shape[0])
    ahead = ahead and torch.is_grad_enabled()
    with no_autocast(queries.device):
        losses: Tensor = _Classes.apply(form, own, tile_rows, ahead, queries, keys, *row_inputs)  # type: ignore[no-untyped-call]
    return losses


def naive_class_losses(
    form: Form, queries: Tensor, keys: Tensor, own: Tensor, row_inputs: Sequence[Tensor] = ()
) -> Tensor:
    """The naive twin of :func:`class_losses`: the whole matrix at once, with O(Q·K) memory."""
    queries = at_least_float32(queries)
    with no_autocast(queries.device):
        keys = keys.to(queries.dtype)
        queries = unit(queries) if form.unit_queries else queries
        similarities = queries @ (unit(keys) if form.unit_keys else keys).T  # (Q, K)
    place = own.clamp(min=0).unsqueeze(1)
    target = form.target(similarities.gather(1, place).squeeze(1), *row_inputs)
    m = form.circle
    logits = similarities if m is None else (similarities + m).detach().relu() * (similarities - m)
    others = (form.scale * logits).scatter(1, place, torch.finfo(queries.dtype).min).logsumexp(1)
    return torch.where(own >= 0, softplus(others - target), 0.0)


class _Classes(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        form: Form,
        own: Tensor,
        tile_rows: int,
        ahead: bool,
        queries: Tensor,
        keys: Tensor,
        *row_inputs: Tensor,
    ) -> Tensor:
        wanted = [ahead and need for need in ctx.needs_input_grad[4:]]  # type: ignore[attr-defined]
        losses, gradients = _sweep(form, own, tile_rows, [queries, keys, *row_inputs], wanted, None)
        ctx.recipe = form, tile_rows  # type: ignore[attr-defined]
        ctx.ahead = gradients if any(wanted) else None  # type: ignore[attr-defined]
        ctx.save_for_backward(own, queries, keys, *row_inputs)
        return losses

    @staticmethod
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (form, tile_rows), (own, *inputs) = ctx.recipe, ctx.saved_tensors  # type: ignore[attr-defined]
        if differentiated_again(upstream):

            def twin(queries: Tensor, keys: Tensor, *row_inputs: Tensor) -> Tensor:
                return naive_class_losses(form, queries, keys, own, row_inputs)

            return None, None, None, None, *twin_gradients(twin, inputs, upstream)
        gradients, ctx.ahead = ctx.ahead, None  # type: ignore[attr-defined]
        if gradients is not None and (upstream.stride(0) == 0 or bool((upstream == upstream[:1]).all())):
            return None, None, None, None, *(None if g is None else g.mul_(upstream[0]) for g in gradients)
        wanted = ctx.needs_input_grad[4:]  # type: ignore[attr-defined]
        with no_autocast(upstream.device):
            gradients = _sweep(form, own, tile_rows, inputs, wanted, upstream)[1]
        return None, None, None, None, *gradients


def _sweep(
    form: Form, own: Tensor, tile_rows: int, inputs: Sequence[Tensor], wanted: Sequence[bool], upstream: Tensor | None
) -> tuple[Tensor, list[Tensor | None]]:
    """One pass over the tiles of rows: the losses, and the gradients that are wanted of the inputs."""
    queries, given_keys, *row_inputs = inputs
    keys, count = given_keys.to(queries.dtype), queries.shape[0]
    inverse = _inverse_lengths(keys) if form.unit_keys else None  # (K,)
    grad_keys = None
    losses, gradients = list[Tensor](), list[list[Tensor | None]]()  # of each tile; of queries and row inputs
    for start in range(0, count, tile_rows):
        rows = slice(start, start + tile_rows) if count > tile_rows else ...
        q, shrink = queries[rows], None
        if form.unit_queries:
            shrink = _inverse_lengths(q).unsqueeze(1)
            q = q * shrink
        some = [x[rows] for x in row_inputs]
        tile_losses, weights, slopes = _tile(
            form, q, keys, inverse, own[rows], some, wanted, None if upstream is None else upstream[rows]
        )
        grad_queries = None
        if wanted[0]:
            grad_queries = weights @ keys
            if shrink is not None:
                leave_tangent(grad_queries, q).mul_(shrink)
        if wanted[1]:
            grad_keys = weights.T @ q if grad_keys is None else grad_keys.addmm_(weights.T, q)
        losses.append(tile_losses)
        gradients.append([grad_queries, *slopes])
    if grad_keys is not None:
        if inverse is not None:
            for start in range(0, keys.shape[0], CHUNK):
                some_keys = slice(start, start + CHUNK)
                leave_tangent(grad_keys[some_keys], keys[some_keys] * inverse[some_keys, None])
        grad_keys = grad_keys.to(given_keys.dtype)
    grad_queries, *slopes = (_joined(parts) for parts in zip(*gradients, strict=True))
    return torch.cat(losses) if len(losses) > 1 else losses[0], [grad_queries, grad_keys, *slopes]


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """The parts of all tiles as one tensor; None where they are not wanted."""
    present = [part for part in parts if part is not None]
    return torch.cat(present) if len(present) > 1 else parts[0]


def _tile(
    form: Form,
    queries: Tensor,
    keys: Tensor,
    inverse: Tensor | None,
    own: Tensor,
    row_inputs: Sequence[Tensor],
    wanted: Sequence[bool],
    upstream: Tensor | None,
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """(R,) losses, (R, K) their gradient by the inner products with ``keys``, and that by the row inputs."""
    unlabelled, place, needed = own < 0, own.clamp(min=0).unsqueeze(1), any(wanted)
    logits, pace = queries @ keys.T, None
    if inverse is not None:
        logits.mul_(inverse)
    similarity = logits.gather(1, place).squeeze(1)
    if form.circle is not None:
        pace = (logits + form.circle).clamp_(min=0)
        logits.sub_(form.circle).mul_(pace)
    logits.mul_(form.scale).scatter_(1, place, torch.finfo(queries.dtype).min)
    top = logits.amax(1, keepdim=True)
    weights = logits.sub_(top).exp_()
    total = weights.sum(1, keepdim=True)
    leaves = [x.detach().requires_grad_(need) for x, need in zip(row_inputs, wanted[2:], strict=True)]
    traces = needed and form.slope is None
    with torch.set_grad_enabled(traces):
        target = form.target(similarity.requires_grad_(traces), *leaves)
    beyond = total.log().add_(top).squeeze(1).sub_(target.detach())
    losses = softplus(beyond).masked_fill_(unlabelled, 0.0)
    if not needed:
        return losses, weights, [None] * len(leaves)
    slope = beyond.sigmoid_().masked_fill_(unlabelled, 0.0)
    slope = slope if upstream is None else slope * upstream
    found = list[Tensor]()
    if form.slope is None:
        pull, *found = torch.autograd.grad(target, [similarity, *(x for x in leaves if x.requires_grad)], -slope)
    else:
        pull = slope * -form.slope
    weights.mul_((slope * form.scale).unsqueeze(1).div_(total))
    if pace is not None:
        weights.mul_(pace)
    weights.scatter_(1, place, pull.unsqueeze(1))
    if inverse is not None:
        weights.mul_(inverse)
    rest = iter(found)
    return losses, weights, [next(rest) if need else None for need in wanted[2:]]


def _inverse_lengths(rows: Tensor) -> Tensor:
    """(N,) 1/length; 1 for rows that stay as they are."""
    length: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return torch.threshold_(length, SHORTEST, 1.0).reciprocal_()
