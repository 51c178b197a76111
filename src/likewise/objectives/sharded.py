"""The exact softmax over rows that are spread over the processes."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from likewise.alike import Listed
from likewise.derivatives import first_order_only
from likewise.dictionaries.keys import Keys
from likewise.distributed.processes import gather_rows, largest_over, rank, size, starts, sum_over
from likewise.distributed.shares import own_share
from likewise.errors import LikewiseError, at_least_one
from likewise.ids import Ids, as_ids, check_rows
from likewise.kernels.logsumexp import row_logsumexp
from likewise.kernels.numerics import at_least_float32
from likewise.objectives.base import changes_nothing, no_triplet_margin, no_values
from likewise.objectives.checks import Watch, above_zero
from likewise.objectives.instance_level import TEMPERATURE_ADVICE, proximal_penalty


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

    joins_rows: bool = False
    can_be_zero: bool = False
    of_pairs: bool = False
    triplet_margin = no_triplet_margin
    log_values = no_values
    advance = changes_nothing

    def __init__(self, n: int, *, temperature: float = 0.07, proximal: float = 0.0, keys_learn: bool = False) -> None:
        super().__init__()
        at_least_one("n", n, "a softmax is over keys")
        if keys_learn and proximal:
            raise LikewiseError("the proximal term is for a memory bank; leave proximal at 0 where keys learn.")
        self.n, self.proximal, self.keys_learn = n, proximal, keys_learn
        self.temperature = above_zero("temperature", temperature, TEMPERATURE_ADVICE)
        self.watch = Watch(type(self).__name__)

    def extra_repr(self) -> str:
        """The parameters."""
        return f"n={self.n}, temperature={self.temperature}, proximal={self.proximal}, keys_learn={self.keys_learn}"

    def forward(self, queries: Tensor, ids: Ids, keys: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
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
        ids = as_ids("ids", ids, queries.device)
        if queries.ndim != 2 or ids.shape != queries.shape[:1]:
            raise LikewiseError(f"queries {tuple(queries.shape)} and ids {tuple(ids.shape)} must be (B, D) and (B,).")
        if keys.shape != (count, queries.shape[1]):
            raise LikewiseError(
                f"keys {tuple(keys.shape)} must be {(count, queries.shape[1])}: this process' share of {self.n} rows."
            )
        if not self.keys_learn and len(queries) and self.watch.due(queries.device):
            self.watch.unit_rows("queries", queries)
        if sizes is None:
            sizes = gather_rows(torch.tensor([len(queries)], device=queries.device), [1] * size()).tolist()
        if not any(sizes):
            raise LikewiseError("no process has a query: an objective needs at least one.")
        with torch.autocast(queries.device.type, enabled=False):
            everyone = gather_rows(at_least_float32(queries), sizes)  # (B, D)
            everyones_ids = gather_rows(ids, sizes)  # (B,)
            check_rows("ids", everyones_ids, self.n, "keys in all", none=True)
            here, own = self._over_own_keys(everyone, everyones_ids - start, keys)
            own = own.masked_fill(everyones_ids >= self.n, torch.nan)
            first = starts(sizes)[rank()]
            share: Tensor = _Share.apply(here, own, everyones_ids >= 0, first, sizes[rank()])  # type: ignore[no-untyped-call]
        return share

    def against(self, queries: Tensor, ids: Tensor | Listed, keys: Keys | None) -> Tensor:
        """The rows that are here, and how many queries each process has."""
        if keys is None:
            raise LikewiseError("a softmax over keys that are spread needs them: take a sharded dictionary.")
        share: Tensor = self(queries, ids, keys.rows, keys.sizes)
        return share

    def share_rows(self) -> None:
        """Nothing: its shares sum by themselves."""

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
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        first_order_only("ShardedSoftmax", grad, "take NonParametricSoftmax or ParametricSoftmax in one process")
        weights, ones = ctx.saved_tensors
        return grad * weights, grad * ones, None, None, None
