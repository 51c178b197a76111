"""The processes of a run and their communication. With a single process, functions here do nothing and cost nothing.

torchrun starts the processes, and torch.distributed sends the data. Only this module calls the collectives of
torch.distributed. The rows of a batch are divided in rank order, so rows gathered in rank order have the order of the
batch.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from likewise.errors import LikewiseError

PATIENCE = timedelta(days=1)  # one process may decode millions of photos while the others wait


def size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def here() -> int:
    """Number of processes on this machine; 1 without torch.distributed."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", size())) if size() > 1 else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if size() > 1 else 0


def restarted() -> bool:
    """Whether torchrun started these processes again after one of them died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def joined(device: str = "auto") -> Iterator[None]:
    """Joins the processes that torchrun started (gloo on the CPU, NCCL on CUDA devices); leaves when the block ends.

    Does nothing with one process, or if the processes are joined already.
    Raises LikewiseError when torchrun's variables are set but the processes can't connect.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        yield
        return
    cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if cuda:
        place, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if place >= there or ":" in device:
            raise LikewiseError(
                f"process {place} of this machine has no CUDA device of its own: there are {there}, and device is "
                f"{device!r}. Start as many processes as devices, with --device cuda; or take --device cpu."
            )
        torch.cuda.set_device(place)
    from torch.distributed.rendezvous import rendezvous  # not in every build of torch

    try:
        store, own, count = next(rendezvous("env://", timeout=PATIENCE))
        if os.environ.get("GROUP_WORLD_SIZE") == "1":  # torchrun's store still has the addresses of dead processes
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT")
            store = dist.PrefixStore(f"start {attempt}", store)  # type: ignore[attr-defined]
        dist.init_process_group("nccl" if cuda else "gloo", store=store, rank=own, world_size=count, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise LikewiseError(
            f"the processes can't meet ({str(error).splitlines()[0]}); start them all with torchrun."
        ) from error
    try:
        yield
    finally:
        dist.destroy_process_group()


def shares(total: int, parts: int) -> list[int]:
    """The sizes of ``parts`` shares of ``total`` rows, as of torch.tensor_split: they differ by at most one."""
    return [total // parts + (part < total % parts) for part in range(parts)]


def starts(sizes: Sequence[int]) -> list[int]:
    """The first row of each share."""
    return [0, *accumulate(sizes)][:-1]


def gather_rows(x: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
    """The rows of all processes, in rank order: (B_r, ...) on each → (Σ B_r, ...) on all, with gradient.

    The gradient of a process' rows is the sum of the gradients from all processes, as if the batch were in one process.
    Shares may differ in length and may be empty. Cost: each process receives and keeps Σ B_r rows; the backward pass
    sums as many rows of gradients over the processes.

    Args:
        x: this process' rows; the dtype and all dimensions except the first are the same in all processes.
        sizes: B_r of all processes, if known; otherwise one more small message asks for them.
    """
    if size() == 1:
        return x
    rows: Tensor = _Gather.apply(x, list(sizes) if sizes is not None else _sizes(x))  # type: ignore[no-untyped-call]
    return rows


def gather_constant(x: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
    """Like :func:`gather_rows`, without gradient."""
    with torch.no_grad():
        return gather_rows(x.detach(), sizes)


def among_others(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Gathers the rows of all processes; only this process' own rows have a gradient.

    It is for a loss that every process computes from the whole batch.
    """
    if size() == 1:
        return x
    everyone = list(torch.split(gather_constant(x, sizes), list(sizes)))
    everyone[rank()] = x
    return torch.cat(everyone)


def sum_over(x: Tensor) -> Tensor:
    """The sum over the processes, without gradient. ``x`` does not change."""
    if size() == 1:
        return x
    total = x.detach().clone()
    dist.all_reduce(total)
    return total


def largest_over(x: Tensor) -> Tensor:
    """The elementwise maximum over the processes, without gradient. ``x`` does not change."""
    if size() == 1:
        return x
    largest = x.detach().clone()
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest


@torch.no_grad()
def from_first(tensors: Iterable[Tensor]) -> None:
    """Copies the tensors of process 0 to all processes."""
    if size() > 1:
        for tensor in tensors:
            sent = tensor.contiguous()
            dist.broadcast(sent, 0)
            tensor.copy_(sent)


def number_of_first(number: int, device: torch.device) -> int:
    """The number of process 0, in all processes."""
    if size() == 1:
        return number
    told = torch.tensor([number], device=device)
    from_first([told])
    return int(told)


def add_up(tensors: Iterable[Tensor], *, mean: bool = False) -> None:
    """Replaces tensors (gradients, buffers) by their sums or means over the processes, in one message per dtype."""
    if size() == 1:
        return
    of_dtype: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        of_dtype.setdefault(tensor.dtype, []).append(tensor)
    for group in of_dtype.values():
        flat = torch.cat([tensor.reshape(-1) for tensor in group])
        dist.all_reduce(flat)
        if mean:
            flat /= size()
        for tensor, part in zip(group, torch.split(flat, [tensor.numel() for tensor in group]), strict=True):
            tensor.copy_(part.view_as(tensor))


def any_of(flags: Sequence[bool], device: torch.device) -> list[bool]:
    """For each flag, whether it is set in any process. The result is the same in all processes."""
    if size() == 1:
        return list(flags)
    raised = torch.tensor(flags, dtype=torch.int32, device=device)
    dist.all_reduce(raised, dist.ReduceOp.MAX)
    return [bool(flag) for flag in raised.tolist()]


def wait() -> None:
    """Waits until all processes have called it."""
    if size() > 1:
        dist.barrier()


@contextmanager
def first_first() -> Iterator[None]:
    """Process 0 runs the block first, then the others run it. So process 0 can fill a cache that the others read.

    If the block fails in process 0, the others still run it, so that each process reports the error.
    """
    if rank() > 0:
        wait()
    try:
        yield
    finally:
        if rank() == 0:
            wait()


def _sizes(x: Tensor) -> list[int]:
    own = torch.tensor([len(x)], device=x.device)
    all_sizes = [torch.empty_like(own) for _ in range(size())]
    dist.all_gather(all_sizes, own)
    return [int(length) for length in all_sizes]


class _Gather(torch.autograd.Function):
    """All-gather for shares of different lengths, sent with padding. Its backward pass sums the gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        longest = max(sizes)
        padded = x.contiguous() if len(x) == longest else torch.cat([x, x.new_zeros(longest - len(x), *x.shape[1:])])
        received = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(received, padded)
        return torch.cat([rows[:length] for rows, length in zip(received, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        if torch.is_grad_enabled():
            raise LikewiseError("gather_rows of several processes has first-order gradients only; use one process.")
        total = grad.contiguous().clone()
        dist.all_reduce(total)
        return torch.split(total, ctx.sizes)[rank()], None

    @staticmethod
    def jvp(ctx: Any, *_: Tensor | None) -> None:
        raise LikewiseError("gather_rows of several processes has no forward mode; use one process.")
