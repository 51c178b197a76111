"""When ordinary torch runs in place of a fast path: derivatives of any order, compilers, transforms of ``torch.func``.

A fast path is an ``autograd.Function`` whose backward pass is written by hand and gives first-order gradients. Its
naive twin is ordinary torch, which can be differentiated any number of times.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar

import torch
from torch import Tensor

from likewise.errors import LikewiseError

_in_twin = ContextVar("_in_twin", default=False)


def traced() -> bool:
    """Whether a compiler or a transform of ``torch.func`` traces the call: then no value can be read."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


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
    """Whether the naive twin must run: the call is traced, or it is part of a twin of :func:`twin_gradients`."""
    return traced() or _in_twin.get()


def differentiated_again(upstream: Tensor) -> bool:
    """In a backward pass: whether its result is differentiated (``create_graph=True``), or many run as one (vmap)."""
    # of the keys of batched tensors (Batched, FuncTorchBatched) Python knows but one; 2 µs
    return torch.is_grad_enabled() or "Batched" in str(torch._C._dispatch_keys(upstream))


def first_order_only(what: str, upstream: Tensor, instead: str) -> None:
    """In a backward pass that has no twin: raises LikewiseError where its result is differentiated again."""
    if differentiated_again(upstream):
        raise LikewiseError(f"{what} has first-order gradients only; {instead}.")


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
    create_graph, token = torch.is_grad_enabled(), _in_twin.set(True)
    try:
        with torch.enable_grad(), torch.autocast(upstream.device.type, enabled=False):
            # a view of each: one tensor may come as two inputs
            given = [x.view_as(x) if x is not None and x.requires_grad else x for x in inputs]
            result = twin(*given)
            sought = [x for x in given if x is not None and x.requires_grad]
            if not sought or not result.requires_grad:
                return [None] * len(given)
            found = iter(torch.autograd.grad(result, sought, upstream, create_graph=create_graph, allow_unused=True))
            return [next(found) if x is not None and x.requires_grad else None for x in given]
    finally:
        _in_twin.reset(token)
