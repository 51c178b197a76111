"""Small numerics that objectives share: precision, log-sum-exp under a mask, lengths and distances."""

import math
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

SHORTEST = 1e-12  # vectors below this length are left as they are, not scaled to length 1


def at_least_float32(x: Tensor) -> Tensor:
    """Half precisions go to float32, where every similarity and reduction is made; wider ones stay."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


@cache
def keep_pages() -> None:
    """Free one large block, once: glibc then keeps up to twice its size, and tiles are not paged in anew at each step.

    By default it hands back what is freed beyond twice the largest block it has met, and a step of ten small tiles pays
    for thousands of page faults: half of a step's time at N=1024. The block is never touched, so it takes no memory.
    """
    torch.empty(31 << 20, dtype=torch.uint8)


class _MaskedLogSumExp(torch.autograd.Function):
    """One matrix of its own: the scaled logits become the weights, and the weights the gradient, in place."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, mask: Tensor, scale: float) -> Tensor:
        floor = torch.finfo(x.dtype).min
        weights = (x * scale).masked_fill_(mask.logical_not(), floor)
        top = weights.amax(1, keepdim=True)
        torch.softmax(weights, 1, out=weights)
        empty = top == floor
        result = torch.where(empty, -torch.inf, top - weights.amax(1, keepdim=True).log()).squeeze(1)
        ctx.weights, ctx.empty, ctx.scale = weights, empty, scale  # type: ignore[attr-defined]
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        weights, ctx.weights = ctx.weights, None  # type: ignore[attr-defined]
        if weights is None:
            raise RuntimeError("masked_logsumexp keeps no second copy of its weights: backward runs once.")
        factor = torch.where(ctx.empty, 0.0, grad.unsqueeze(1) * ctx.scale)  # type: ignore[attr-defined]
        return weights.mul_(factor), None, None


def masked_logsumexp(x: Tensor, mask: Tensor, scale: float = 1.0) -> Tensor:
    """``log Σ_{j: mask} exp(scale · x_j)`` of each row, −inf where the mask is empty: (R, C), (R, C) bool → (R,).

    Equals ``(scale * x).masked_fill(~mask, -inf).logsumexp(1)``, its naive twin, with a third of its passes and
    memory, and no not-a-number gradient on empty rows. Its backward runs once.
    """
    if torch.compiler.is_compiling():
        kept = torch.where(mask, x * scale, torch.finfo(x.dtype).min).logsumexp(1)
        return torch.where(mask.any(1), kept, -torch.inf)
    result: Tensor = _MaskedLogSumExp.apply(x, mask, scale)  # type: ignore[no-untyped-call]
    return result


def softplus(x: Tensor) -> Tensor:
    """``log(1 + exp x)`` to full precision, −inf and +inf included."""
    return -functional.logsigmoid(-x)


Distance = Literal["euclidean", "squared"]
SQUARE_FLOOR = 1e-8  # of a squared distance under a root: distances below 1e-4 have no gradient, and none is infinite


def found(*logsumexps: Tensor) -> Tensor:
    """(R,) bool: the anchors whose log-sum-exps all had something to sum; cheaper than asking their masks."""
    return torch.stack([x != -torch.inf for x in logsumexps]).all(0)


def mean_over(values: Tensor, mask: Tensor) -> Tensor:
    """(R,) means of the masked values, 0 where there are none."""
    return torch.where(mask, values, 0.0).sum(1) / mask.sum(1).clamp(min=1)


class _Distance(torch.autograd.Function):
    """√(2 − 2s) with one matrix of its own, which the gradient needs and nothing else."""

    @staticmethod
    def forward(ctx: FunctionCtx, similarities: Tensor) -> Tensor:
        result = torch.rsub(similarities, 2, alpha=2).clamp_(min=SQUARE_FLOOR).sqrt_()
        ctx.save_for_backward(result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        result: Tensor = ctx.saved_tensors[0]  # type: ignore[attr-defined]
        slope = torch.addcdiv(grad.new_zeros(()), grad, result, value=-1)
        least = math.sqrt(SQUARE_FLOOR)
        if (
            result.device.type == "cpu" and result.numel() and bool(result.amin() > least)
        ):  # asking is cheaper than filling
            return slope
        return slope.masked_fill_(result <= least, 0.0)


def distance(similarities: Tensor, kind: Distance = "euclidean") -> Tensor:
    """Distance of unit rows: ``D² = 2 − 2s``, or its root with D² at least 1e-8, where the gradient stops."""
    if kind == "squared" or torch.compiler.is_compiling():
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
        ctx.save_for_backward(result, inverse)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        result, inverse = ctx.saved_tensors  # type: ignore[attr-defined]
        along = (grad * result).sum(-1, keepdim=True)
        projected: Tensor = torch.addcmul(grad, result, along, value=-1) * inverse
        return projected


def unit(x: Tensor) -> Tensor:
    """Rows at unit length; rows shorter than 1e-12 stay as they are, so that their gradient is finite and small."""
    result: Tensor = _Unit.apply(x)  # type: ignore[no-untyped-call]
    return result


class _Length(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        length: Tensor = torch.linalg.vector_norm(x, dim=-1)
        ctx.save_for_backward(x, length)
        return length

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        x, length = ctx.saved_tensors  # type: ignore[attr-defined]
        share: Tensor = (grad / length).masked_fill(length < SHORTEST, 0.0)
        result: Tensor = x * share.unsqueeze(-1)
        return result


def row_lengths(x: Tensor) -> Tensor:
    """The length of each row; rows shorter than 1e-12 have no gradient."""
    result: Tensor = _Length.apply(x)  # type: ignore[no-untyped-call]
    return result
