"""Small numerics of the objectives: precision, masked log-sum-exp, lengths, distances, similarities of some pairs.

Dimension legend: Q queries, K keys, D dimensions, M keys of a query or listed pairs, R rows, P positives of a row.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from likewise.alike import in_forward_mode, traced
from likewise.errors import LikewiseError

Rule = Callable[..., tuple[Tensor, Tensor]]  # see likewise.kernels.row_losses
GATHER_FLOATS = 1 << 22  # 16 MiB of gathered keys at a time
SHORTEST = 1e-12  # vectors below this length are left as they are, not scaled to length 1


_in_twin = ContextVar("_in_twin", default=False)


def refuse_tracing(what: str, instead: str) -> None:
    """Says that the caller can't be traced whole. ``torch.compile`` goes on in parts, but for ``fullgraph=True``.

    Raises LikewiseError under ``torch.export`` and the transforms of ``torch.func``.
    """
    if not traced():
        return
    if torch.compiler.is_dynamo_compiling():
        torch._dynamo.graph_break(msg=f"{what}, which can't be traced whole; leave fullgraph out, or take {instead}.")
        return
    raise LikewiseError(f"{what}, which torch.export and the transforms of torch.func can't trace; take {instead}.")


def ordinary() -> bool:
    """Whether the naive twin must run: traced, in forward mode, or as part of a naive twin (:func:`as_twin`)."""
    return traced() or in_forward_mode() or _in_twin.get()


@contextmanager
def as_twin() -> Iterator[None]:
    """Inside it every function of the kernels is its naive twin, ordinary torch with gradients of any order."""
    token = _in_twin.set(True)
    try:
        yield
    finally:
        _in_twin.reset(token)


def differentiated_again(upstream: Tensor) -> bool:
    """In a backward pass: whether its result is differentiated (``create_graph=True``), or many run as one (vmap)."""
    # of the keys of batched tensors (Batched, FuncTorchBatched) Python knows but one; 2 µs
    return torch.is_grad_enabled() or "Batched" in str(torch._C._dispatch_keys(upstream))


def first_order_only(what: str, upstream: Tensor, instead: str) -> None:
    """In a backward pass that has no twin: raises LikewiseError where its result is differentiated again."""
    if differentiated_again(upstream):
        raise LikewiseError(f"{what} has first-order gradients only; {instead}.")


def reverse_only(what: str, instead: str) -> Callable[..., None]:
    """The ``jvp`` of an autograd function that has no forward mode: it raises LikewiseError."""

    def jvp(ctx: FunctionCtx, *_: Tensor | None) -> None:
        raise LikewiseError(f"{what} has no forward mode; {instead}.")

    return jvp


def twin_gradients(
    twin: Callable[..., Tensor], inputs: Sequence[Tensor | None], upstream: Tensor
) -> list[Tensor | None]:
    """The gradients of ``twin(*inputs)`` as ordinary torch, so that they have gradients too.

    Args:
        twin: the naive twin of a fast path.
        inputs: what the fast path was given, as ``save_for_backward`` kept it.
        upstream: the gradient of the result.

    Returns:
        A gradient for each input, None where it needs none. Cost: that of the twin.
    """
    create_graph = torch.is_grad_enabled()
    with as_twin(), torch.enable_grad(), no_autocast(upstream.device):
        # a view of each: one tensor may come as two inputs
        given = [x.view_as(x) if x is not None and x.requires_grad else x for x in inputs]
        result = twin(*given)
        sought = [x for x in given if x is not None and x.requires_grad]
        if not sought or not result.requires_grad:
            return [None] * len(given)
        found = iter(torch.autograd.grad(result, sought, upstream, create_graph=create_graph, allow_unused=True))
        return [next(found) if x is not None and x.requires_grad else None for x in given]


def no_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Inside it torch.autocast is off for ``device``."""
    return torch.autocast(device.type, enabled=False) if torch.is_autocast_enabled(device.type) else nullcontext()


def at_least_float32(x: Tensor) -> Tensor:
    """Converts float16 and bfloat16 to float32; other dtypes stay. Similarities and sums need float32."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


@cache
def keep_pages() -> None:
    """Allocates and frees one large block, so that glibc keeps the pages of freed tiles for the next step.

    glibc returns freed memory to the system beyond twice the largest block that it has seen freed. Without this call, a
    step of ten small tiles has thousands of page faults, half of its time at N = 1024. The block is never written to,
    so it takes no memory.
    """
    torch.empty(31 << 20, dtype=torch.uint8)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors  # type: ignore[attr-defined]
        needs_a, needs_b = ctx.needs_input_grad[:2]  # type: ignore[attr-defined]
        with no_autocast(grad.device):  # ordinary torch: it can be differentiated again
            return grad @ b.mT if needs_a else None, (grad.mT @ a).mT if needs_b else None


def product(a: Tensor, b: Tensor, *, guarded: bool = True) -> Tensor:
    """``a @ b`` of two matrices, or of two batches of them, without autocast.

    Where ``guarded``, a backward pass inside autocast is without it too.
    """
    if traced() or in_forward_mode() or not guarded:
        return a @ b
    with no_autocast(a.device):
        result: Tensor = _Product.apply(a, b)  # type: ignore[no-untyped-call]
    return result


class _MaskedLogSumExp(torch.autograd.Function):
    """Allocates one matrix: it holds first the scaled logits, then the weights, then the gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, mask: Tensor, scale: float) -> Tensor:
        floor = torch.finfo(x.dtype).min
        weights = (x * scale).masked_fill_(mask.logical_not(), floor)
        top = weights.amax(1, keepdim=True)
        torch.softmax(weights, 1, out=weights)
        empty = top == floor
        result = (top - weights.amax(1, keepdim=True).log_()).masked_fill_(empty, -torch.inf).squeeze(1)
        ctx.weights, ctx.empty, ctx.scale = weights, empty, scale  # type: ignore[attr-defined]
        return result

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        first_order_only("masked_logsumexp by itself", grad, "take the second order of the objective's loss")
        weights, ctx.weights = ctx.weights, None  # type: ignore[attr-defined]
        if weights is None:
            raise RuntimeError("masked_logsumexp keeps no second copy of its weights: backward runs once.")
        factor = (grad.unsqueeze(1) * ctx.scale).masked_fill_(ctx.empty, 0.0)  # type: ignore[attr-defined]
        return weights.mul_(factor), None, None


def masked_logsumexp(x: Tensor, mask: Tensor, scale: float = 1.0) -> Tensor:
    """``log Σ_{j: mask} exp(scale · x_j)`` of each row, −inf where the mask is empty: (R, C), (R, C) bool → (R,).

    It equals ``(scale * x).masked_fill(~mask, -inf).logsumexp(1)``, the naive twin, with a third of the passes and of
    the memory. The gradient of an empty row is 0, not NaN. The backward pass can run only once, and by itself gives
    first-order gradients; where a loss is differentiated twice, the twin runs.
    """
    if ordinary():
        floor = torch.finfo(x.dtype).min
        kept = torch.where(mask, x if scale == 1 else x * scale, floor).logsumexp(1)
        return torch.where(kept == floor, -torch.inf, kept)
    result: Tensor = _MaskedLogSumExp.apply(x, mask, scale)  # type: ignore[no-untyped-call]
    return result


class _LogAddExp(torch.autograd.Function):
    """torch's, to the bit; but its second order is not-a-number where the two are far apart."""

    @staticmethod
    def forward(ctx: FunctionCtx, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return torch.logaddexp(a, b)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors  # type: ignore[attr-defined]
        if differentiated_again(grad):
            grad_a, grad_b = twin_gradients(logaddexp, [a, b], grad)
            return grad_a, grad_b
        return grad / (1 + (b - a).exp()), grad / (1 + (a - b).exp())


def logaddexp(a: Tensor, b: Tensor) -> Tensor:
    """``log(exp a + exp b)`` of tensors of one shape; −inf where both are."""
    if ordinary():
        floor = torch.finfo(a.dtype).min
        total = torch.stack([a, b]).clamp(min=floor).logsumexp(0)
        return torch.where(total == floor, -torch.inf, total)
    result: Tensor = _LogAddExp.apply(a, b)  # type: ignore[no-untyped-call]
    return result


def softplus(x: Tensor) -> Tensor:
    """``log(1 + exp x)`` to full precision, also for −inf and +inf."""
    return -functional.logsigmoid(-x)


Distance = Literal["euclidean", "squared"]
SQUARE_FLOOR = 1e-8  # lower bound of D² under the root: no gradient below D = 1e-4, and no infinite gradient


def nonempty(*logsumexps: Tensor) -> Tensor:
    """(R,) bool: the anchors whose log-sum-exps are all of non-empty sums. It is cheaper than reducing the masks."""
    first, *others = (x != -torch.inf for x in logsumexps)
    for other in others:
        first = first & other
    return first


def mean_over(values: Tensor, mask: Tensor) -> Tensor:
    """(R,) means of the masked values, 0 where there are none."""
    return torch.where(mask, values, 0.0).sum(1) / mask.sum(1).clamp(min=1)


class _Distance(torch.autograd.Function):
    """√(2 − 2s). It allocates one matrix, the result, which is all that the gradient needs."""

    @staticmethod
    def forward(ctx: FunctionCtx, similarities: Tensor) -> Tensor:
        result = torch.rsub(similarities, 2, alpha=2).clamp_(min=SQUARE_FLOOR).sqrt_()
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        result: Tensor = ctx.saved_tensors[0]  # type: ignore[attr-defined]
        # ordinary torch on the grad and on an output: it can be differentiated again
        slope = torch.addcdiv(grad.new_zeros(()), grad, result, value=-1)
        least = math.sqrt(SQUARE_FLOOR)
        ask = result.device.type == "cpu" and result.numel() and not differentiated_again(grad)
        if ask and bool(result.amin() > least):  # this check is faster than masked_fill_
            return slope
        return slope.masked_fill_(result <= least, 0.0)


def distance(similarities: Tensor, kind: Distance = "euclidean") -> Tensor:
    """The distance of unit rows: ``D² = 2 − 2s``, or D. For D the square is at least 1e-8; below it has no gradient."""
    if kind == "squared" or ordinary():
        squared = 2 - 2 * similarities
        return squared if kind == "squared" else squared.clamp(min=SQUARE_FLOOR).sqrt()
    result: Tensor = _Distance.apply(similarities)  # type: ignore[no-untyped-call]
    return result


class _Unit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = length.masked_fill(length < SHORTEST, 1.0).reciprocal()
        result = x * inverse
        ctx.save_for_backward(x, result, inverse)
        return result

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor | None:
        x, result, inverse = ctx.saved_tensors  # type: ignore[attr-defined]
        if differentiated_again(grad):
            return twin_gradients(unit, [x], grad)[0]
        along = (grad * result).sum(-1, keepdim=True)
        projected: Tensor = torch.addcmul(grad, result, along, value=-1) * inverse
        return projected


def unit(x: Tensor) -> Tensor:
    """Rows at unit length; rows shorter than 1e-12 stay as they are, so that their gradient is finite and small."""
    if ordinary():
        length, short = _lengths(x)
        return x / length.masked_fill(short, 1.0)
    result: Tensor = _Unit.apply(x)  # type: ignore[no-untyped-call]
    return result


def leave_tangent(grad: Tensor, unit_rows: Tensor) -> Tensor:
    """Takes from each row of ``grad``, in place, its part along the unit row."""
    return grad.addcmul_(unit_rows, (grad * unit_rows).sum(1, keepdim=True), value=-1)


def _lengths(x: Tensor) -> tuple[Tensor, Tensor]:
    """(·, 1) lengths, and which are below SHORTEST: those are constant, so that no order of gradient is infinite."""
    fixed: Tensor = torch.linalg.vector_norm(x.detach(), dim=-1, keepdim=True)
    short = fixed < SHORTEST
    return torch.where(short, fixed, torch.linalg.vector_norm(torch.where(short, 1.0, x), dim=-1, keepdim=True)), short


class _Length(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        length: Tensor = torch.linalg.vector_norm(x, dim=-1)
        ctx.save_for_backward(x, length)
        return length

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor | None:
        x, length = ctx.saved_tensors  # type: ignore[attr-defined]
        if differentiated_again(grad):
            return twin_gradients(row_lengths, [x], grad)[0]
        share: Tensor = (grad / length).masked_fill(length < SHORTEST, 0.0)
        result: Tensor = x * share.unsqueeze(-1)
        return result


def row_lengths(x: Tensor) -> Tensor:
    """The length of each row; rows shorter than 1e-12 have no gradient."""
    if ordinary():
        return _lengths(x)[0].squeeze(-1)
    result: Tensor = _Length.apply(x)  # type: ignore[no-untyped-call]
    return result


class _GatheredSimilarities(torch.autograd.Function):
    """q_i · k_{r_ij}, for a few queries at a time. The gradient of a query is a weighted sum of its keys."""

    @staticmethod
    def forward(ctx: FunctionCtx, queries: Tensor, keys: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(queries, keys, rows)
        chunk = max(1, GATHER_FLOATS // (rows.shape[1] * keys.shape[1]))
        parts = [
            torch.bmm(keys[r].to(q.dtype), q.unsqueeze(2)).squeeze(2)
            for q, r in zip(torch.split(queries, chunk), torch.split(rows, chunk), strict=True)
        ]
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, None, None]:
        queries, keys, rows = ctx.saved_tensors  # type: ignore[attr-defined]
        if differentiated_again(grad):
            return twin_gradients(gathered_similarities, [queries, keys, rows], grad)[0], None, None
        weights = grad.to(keys.dtype).contiguous()
        bag = functional.embedding_bag(rows, keys, per_sample_weights=weights, mode="sum")
        return bag.to(grad.dtype), None, None


def gathered_similarities(queries: Tensor, keys: Tensor, rows: Tensor) -> Tensor:
    """Similarities of each query with M keys, different ones for each query: ``s_ij = q_i · k_{rows_ij}``.

    It equals ``(keys[rows] * queries[:, None]).sum(-1)``, the naive twin, which needs Q·M·D numbers at once.

    Args:
        queries: (Q, D), any floating dtype; half precisions become float32.
        keys: (K, D), constants; they get no gradient.
        rows: (Q, M) int64, rows of ``keys``.

    Returns:
        (Q, M) float32, or float64 for float64 queries.

    Cost: Q·M·D multiply-adds; random reads take most of the time. 16 MiB beyond the result.
    """
    if ordinary():
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
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        queries, keys, rows, columns = ctx.saved_tensors  # type: ignore[attr-defined]
        if differentiated_again(grad):
            grad_queries, grad_keys, *_ = twin_gradients(paired_similarities, [queries, keys, rows, columns], grad)
            return grad_queries, grad_keys, None, None
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

    It equals ``(queries[rows] * keys[columns]).sum(1)``, the naive twin, which keeps 2·M·D numbers for the gradient.

    Args:
        queries: (Q, D), float32 or float64.
        keys: (K, D), the same dtype.
        rows: (M,) int64, rows of ``queries``.
        columns: (M,) int64, rows of ``keys``.

    Returns:
        (M,). Queries and keys get gradients; of higher order, the twin's.

    Cost: M·D multiply-adds, three times as many with both gradients; 32 MiB beyond the result and the gradients.
    """
    if ordinary() or not len(rows):
        return (queries[rows] * keys[columns]).sum(1)
    result: Tensor = _PairedSimilarities.apply(queries, keys, rows, columns)  # type: ignore[no-untyped-call]
    return result


def zero_uncounted(losses: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """The result of a rule, with loss 0 and no gradient where a row does not count."""
    return torch.where(counted, losses, 0.0), counted


class _Ruled(torch.autograd.Function):
    """A rule on given similarities. The forward pass computes the derivatives; the backward pass multiplies them.

    This works for any upstream gradient, because the loss of a row depends on its own similarities only.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, rule: Rule, positive: Tensor, negative: Tensor, *similarities_and_inputs: Tensor
    ) -> tuple[Tensor, Tensor]:
        wanted = ctx.needs_input_grad[3:]  # type: ignore[attr-defined]
        given = [x.detach().requires_grad_(need) for x, need in zip(similarities_and_inputs, wanted, strict=True)]
        sought = [x for x in given if x.requires_grad]
        with torch.enable_grad():
            losses, counted = zero_uncounted(*rule(given[0], positive, given[1], negative, *given[2:]))
            slopes = list[Tensor | None]()
            if sought and losses.requires_grad:
                slopes = list(torch.autograd.grad(losses.sum(), sought, allow_unused=True))
        computed = iter(slopes)
        ctx.slopes = [next(computed, None) if need else None for need in wanted]  # type: ignore[attr-defined]
        ctx.rule = rule  # type: ignore[attr-defined]
        ctx.save_for_backward(positive, negative, *similarities_and_inputs)
        ctx.mark_non_differentiable(counted)
        return losses.detach(), counted

    @staticmethod
    def backward(ctx: FunctionCtx, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        positive, negative, *given = ctx.saved_tensors  # type: ignore[attr-defined]
        if differentiated_again(upstream):

            def twin(s_p: Tensor, s_n: Tensor, *inputs: Tensor) -> Tensor:
                return zero_uncounted(*ctx.rule(s_p, positive, s_n, negative, *inputs))[0]  # type: ignore[attr-defined]

            return None, None, None, *twin_gradients(twin, given, upstream)
        slopes = ctx.slopes  # type: ignore[attr-defined]
        return (
            None,
            None,
            None,
            *(None if slope is None else slope * upstream.reshape(-1, *[1] * (slope.ndim - 1)) for slope in slopes),
        )


def ruled_losses(
    rule: Rule, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor, row_inputs: Sequence[Tensor] = ()
) -> tuple[Tensor, Tensor]:
    """Applies a rule to the given similarities of R rows: the losses, with their gradient, and whether the rows count.

    It equals the rule itself, the naive twin, which gives the gradients of higher order.

    Args:
        rule: see :mod:`likewise.kernels.row_losses`.
        s_p: (R, P).
        positive: (R, P) bool.
        s_n: (R, K).
        negative: (R, K) bool.
        row_inputs: tensors of R rows each.

    Returns:
        (R,) and (R,) bool; a row that does not count has loss 0.
    """
    if ordinary():
        return zero_uncounted(*rule(s_p, positive, s_n, negative, *row_inputs))
    losses, counted = _Ruled.apply(rule, positive, negative, s_p, s_n, *row_inputs)  # type: ignore[no-untyped-call]
    return losses, counted
