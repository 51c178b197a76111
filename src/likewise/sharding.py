"""Rows that no process has to hold all of: memory bank, weights and exact softmax spread over the processes.

Process r of W owns the rows ``processes.shares(n, W)`` gives it, in order: n_r of n. A run is the same whatever W is:
the same first rows, the same loss, the same gradients, up to the rounding of sums.

Dimension legend: W processes, n keys in all, n_r on process r, B queries in all, B_r on process r, D dimensions.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from likewise.dictionaries.keys import Fresh, Keys, random_unit_rows
from likewise.errors import LikewiseError
from likewise.kernels import at_least_float32, row_logsumexp
from likewise.objectives.checks import above_zero
from likewise.objectives.instance import TEMPERATURE_ADVICE, proximal_penalty
from likewise.processes import gather_rows, largest_over, rank, shares, size, starts, sum_over

DRAWN_FLOATS = 1 << 22  # first rows are drawn so many numbers at a time: 16 MiB
DRAW_STEP = 16  # torch draws normal numbers in sixteens: cut only between those, its stream is the same in parts


def own_share(n: int) -> tuple[int, int]:
    """Where this process' share of n rows starts, and how many rows it has."""
    sizes = shares(n, size())
    return starts(sizes)[rank()], sizes[rank()]


def sharded_weight(n: int, dim: int, *, generator: torch.Generator | None = None) -> nn.Parameter:
    """This process' rows (n_r, D) of ParametricSoftmax's first weight (n, D), bit for bit, as a parameter.

    ``ShardedSoftmax(keys_learn=True)`` gives it its gradient in full: optimise it like any parameter, but leave it out
    of what is summed over the processes. Cost: as the first rows of :class:`ShardedMemoryBank`.

    Args:
        n: rows in all.
        dim: D.
        generator: on the CPU and in the same state in all processes; all leave it where the whole draw would.
    """

    def uniform(count: int) -> Tensor:
        return (torch.rand(count, dim, generator=generator) * 2 - 1) / math.sqrt(dim)

    return nn.Parameter(_own_rows(n, dim, uniform))


class ShardedProxies(nn.Module):
    """The parametric softmax's weights, spread over the processes: a dictionary that the optimizer moves.

    Args:
        n: rows in all.
        dim: D.
        generator: see :func:`sharded_weight`.
    """

    weight: nn.Parameter

    def __init__(self, n: int, dim: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.weight = sharded_weight(n, dim, generator=generator)

    def keys(self, ids: Tensor, fresh: Fresh) -> Keys:
        """The rows that are here, with their gradient."""
        return Keys(self.weight)

    def update(self, ids: Tensor, keys: Tensor) -> None:
        """Nothing: the gradient has done it."""


class ShardedMemoryBank(nn.Module):
    """:class:`~likewise.dictionaries.MemoryBank` with its rows spread over the processes.

    ``v_i ← norm(momentum · v_i + (1 − momentum) · f_i)`` for the rows this process owns. In one process it equals
    MemoryBank bit for bit; in several, the processes' ``rows`` one after the other do, from the first draw on.

    Departure: no ``rebind``: to carry a bank to a data set that changed, load it in one process.
    Cost: n_r·D·4 bytes. All n·D numbers of the first rows are drawn in every process, 16 MiB of them at a time: about
    100 million a second, 1 to 2 s for a million rows of 128. An update touches the rows of the batch that are here.

    Its ``state_dict`` holds this process' rows alone; ``likewise.shards`` saves them for any number of processes.

    Args:
        n: rows in all.
        dim: D.
        momentum: share of the old row that is kept, in [0, 1).
        generator: for the first rows: on the CPU, in the same state in all processes.
    """

    rows: Tensor

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        momentum: float = 0.5,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise LikewiseError(
                f"bank momentum={momentum} must be in [0, 1); 0 replaces rows, 0.5 is the released code's."
            )
        self.n, self.momentum = n, momentum
        self.start = own_share(n)[0]
        self.register_buffer("rows", _own_rows(n, dim, lambda some: random_unit_rows(some, dim, generator)))

    def keys(self, ids: Tensor, fresh: Fresh) -> Keys:
        """The rows that are here."""
        return Keys(self.rows)

    @torch.no_grad()
    def update(self, ids: Tensor, queries: Tensor) -> None:
        """Moves the rows that are here, of the whole batch's ``ids`` (B,), towards its ``queries`` (B, D).

        Ids are rows of all n and all different. Both come from :func:`~likewise.processes.gather_rows`.
        Raises LikewiseError for an id of n or above, on the CPU, where looking does not wait.
        """
        _refuse_beyond(ids, self.n)
        rows = ids - self.start
        here = (rows >= 0) & (rows < len(self.rows))
        rows, fresh = rows[here], queries.detach()[here].to(self.rows.dtype)
        self.rows[rows] = functional.normalize(torch.lerp(fresh, self.rows[rows], self.momentum), dim=1)


class ShardedSoftmax(nn.Module):
    """The exact softmax over n keys that are spread over the processes (NPID eq. 2; eq. 1 with ``keys_learn``).

    ``−log P(i|v) = log Σ_j exp(v_j·v/τ) − v_i·v/τ`` over all n keys, plus ``λ ‖v − v_i‖²`` (eq. 9) where asked; the
    mean over the queries of the whole batch that count. Each process takes the queries of all, sums over its own keys
    (``log Σ_j = log Σ_r exp(log Σ_{j on r})``) and has the positives' logits that are here.

    Shares sum: a process returns the share of its own queries, Σ_r share_r is the loss of the batch. ``backward`` gives
    each process the gradient of its own queries in full, and of its own keys in full. So the encoder's gradients are
    summed over the processes (``add_up``), those of the keys are not.

    All processes call it together, and all call ``backward`` or none does, from the same factor (as ``loss.backward()``
    and a loss scaler do); queries need a gradient in all of them or in none, those of an empty share too.

    Relations: NonParametricSoftmax and ParametricSoftmax (scale = 1/τ) in one process, which it equals up to rounding.
    Departures: none.
    Cost: 4·B·n_r·D flops with constant keys, up to 8·B·n_r·D where they learn, and about B·(2048 + 6D) floats beyond
    the keys (where they learn, twice their size for a moment: their gradient in two parts). A process sends, with
    f = (W − 1)/W, float32 and sums in a ring: forwards f·B·(4D + 8) bytes of queries and ids and f·B·24 of sums,
    backwards f·B·8D. Nothing of size n or W·B travels or is kept. docs/scaling.md has what that comes to.
    Paper: Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018, eqs. 1, 2, 9;
    the sharding is that of An et al., Partial FC, ICCV workshops 2021, with all classes.

    Args:
        n: keys in all.
        temperature: τ.
        proximal: λ of the proximal term, for constant keys.
        keys_learn: whether the keys have a gradient (weights) or are a constant (a memory bank).
    """

    def __init__(self, n: int, *, temperature: float = 0.07, proximal: float = 0.0, keys_learn: bool = False) -> None:
        super().__init__()
        if n < 1:
            raise LikewiseError(f"n={n} must be at least 1: a softmax is over keys.")
        if keys_learn and proximal:
            raise LikewiseError("the proximal term is for a memory bank; leave proximal at 0 where keys learn.")
        self.n, self.proximal, self.keys_learn = n, proximal, keys_learn
        self.temperature = above_zero("temperature", temperature, TEMPERATURE_ADVICE)

    def forward(self, queries: Tensor, ids: Tensor, keys: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
        """This process' share of the mean loss of the whole batch.

        Args:
            queries: (B_r, D), any floating dtype; raised to float32 at least, and sent as such. B_r may be 0.
            ids: (B_r,) int64, rows of all n; below 0: the query does not count.
            keys: (n_r, D), this process' rows.
            sizes: B_r of all processes, where known; otherwise they are asked for, one more small message.

        Returns:
            A float32 (or float64) scalar.

        Raises:
            LikewiseError: shapes that do not fit, no queries in any process, and an id of n or above (on the CPU;
                elsewhere, where looking waits for the device, the loss is NaN).
        """
        start, count = own_share(self.n)
        if queries.ndim != 2 or ids.shape != queries.shape[:1]:
            raise LikewiseError(f"queries {tuple(queries.shape)} and ids {tuple(ids.shape)} must be (B, D) and (B,).")
        if keys.shape != (count, queries.shape[1]):
            raise LikewiseError(
                f"keys {tuple(keys.shape)} must be {(count, queries.shape[1])}: this process' share of {self.n} rows."
            )
        if sizes is None:
            sizes = gather_rows(torch.tensor([len(queries)], device=queries.device), [1] * size()).tolist()
        if not any(sizes):
            raise LikewiseError("no process has a query: an objective needs at least one.")
        with torch.autocast(queries.device.type, enabled=False):
            everyone = gather_rows(at_least_float32(queries), sizes)  # (B, D)
            everyones_ids = gather_rows(ids, sizes)  # (B,)
            _refuse_beyond(everyones_ids, self.n)
            here, own = self._over_own_keys(everyone, everyones_ids - start, keys)
            own = own.masked_fill(everyones_ids >= self.n, torch.nan)
            first = starts(sizes)[rank()]
            share: Tensor = _Share.apply(here, own, everyones_ids >= 0, first, sizes[rank()])  # type: ignore[no-untyped-call]
        return share

    def _over_own_keys(self, queries: Tensor, rows: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) log-sum-exps over the keys here, and (B,) what else the loss has, 0 where the positive is elsewhere."""
        learn = self.keys_learn and len(keys) > 0
        keys = keys if learn else keys.detach()
        log_sums = row_logsumexp(queries, keys, 1 / self.temperature)  # −inf where a process has no keys
        if len(keys) == 0:
            return log_sums, torch.zeros_like(log_sums)
        positives = keys[rows.clamp(0, len(keys) - 1)].to(queries.dtype)  # (B, D)
        own = -(queries * positives).sum(1) / self.temperature
        if self.proximal:
            own = own + self.proximal * proximal_penalty(queries, positives)
        return log_sums, torch.where((rows >= 0) & (rows < len(keys)), own, 0.0)

    def chance(self, n: int) -> float:
        """The loss of an embedding that tells nothing apart: log n."""
        return math.log(n)


class _Share(torch.autograd.Function):
    """This process' share of the mean loss; backwards, the whole loss' gradient by what this process put in.

    ∂loss/∂(log Σ here) is the share of the softmax that lies here, ``exp(log Σ here − log Σ)``: once log Σ of every
    query is known to all, the backward pass needs no message.
    """

    @staticmethod
    def forward(ctx: Any, here: Tensor, own: Tensor, counted: Tensor, first: int, length: int) -> Tensor:
        top = largest_over(here)
        total, rest = sum_over(torch.stack(((here - top).exp(), own)))  # (B,), (B,)
        log_partition = top + total.log()
        count = counted.sum().clamp(min=1)
        ctx.save_for_backward(
            torch.where(counted, (here - log_partition).exp(), 0.0) / count, counted.to(own.dtype) / count
        )
        return torch.where(counted, log_partition + rest, 0.0)[first : first + length].sum() / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        weights, ones = ctx.saved_tensors
        return grad * weights, grad * ones, None, None, None


def _own_rows(n: int, dim: int, draw: Callable[[int], Tensor]) -> Tensor:
    """This process' rows of ``draw(n)``, (n_r, D), drawn some rows at a time.

    Torch's numbers on the CPU are the same in parts where every part but the last is a multiple of 16 numbers, and the
    last is not the shortest: checked bit for bit in the tests.
    """
    start, count = own_share(n)
    rows = torch.empty(count, dim)
    step = max(1, DRAWN_FLOATS // (dim * DRAW_STEP)) * DRAW_STEP
    place = 0
    while place < n:
        drawn = draw(step if n - place >= 2 * step else n - place)
        first, last = max(place, start), min(place + len(drawn), start + count)
        if first < last:
            rows[first - start : last - start] = drawn[first - place : last - place]
        place += len(drawn)
    return rows


def _refuse_beyond(ids: Tensor, n: int) -> None:
    if ids.device.type == "cpu" and bool((ids >= n).any()):
        raise LikewiseError(f"ids go up to {int(ids.max())} but there are {n} keys, whose ids are their rows.")
