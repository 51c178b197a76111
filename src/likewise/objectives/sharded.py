"""The exact softmax over sharded keys: each process holds its share of the rows."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from likewise.alike import Ids, Listed, as_ids, check_rows, check_tensor
from likewise.dictionaries.keys import Keys
from likewise.distributed.processes import gather_rows, largest_over, rank, size, starts, sum_over
from likewise.distributed.shares import own_share
from likewise.errors import LikewiseError, above_zero, at_least_one
from likewise.kernels.logsumexp import row_logsumexp
from likewise.kernels.numerics import at_least_float32, first_order_only, no_autocast, reverse_only
from likewise.objectives.base import Watch, changes_nothing, no_triplet_margin, no_values
from likewise.objectives.instance_level import TEMPERATURE_ADVICE, proximal_penalty


class ShardedSoftmax(nn.Module):
    """The exact softmax over n sharded keys (NPID eq. 2; with ``keys_learn`` eq. 1).

    ``−log P(i|v) = log Σ_j exp(v_j·v/τ) − v_i·v/τ`` over all n keys, plus ``λ ‖v − v_i‖²`` (eq. 9). The loss is the
    mean over the queries of the whole batch that count. Each process gathers the queries of all processes and sums
    over its own keys: ``log Σ_j = log Σ_r exp(log Σ_{j on r})``. It also has the logits of the positives among its own
    keys.

    A process returns the share of its own queries; the shares of all processes add up to the loss of the batch.
    ``backward`` gives each process the whole gradient of its own queries and of its own keys. So the gradients of the
    encoder are summed over the processes (``add_up``), but not those of the keys.

    All processes call it together. Then either all call ``backward``, with the same upstream gradient (as
    ``loss.backward()`` or a loss scaler has), or none does. Queries need a gradient in all processes or in none, also
    in a process without queries.

    Relations: in one process it equals NonParametricSoftmax, or ParametricSoftmax with scale = 1/τ, up to rounding.
    Departures: none.
    Cost: 4·B·n_r·D flops with constant keys, up to 8·B·n_r·D with trained keys. Memory for about B·(2048 + 6D) floats
    beyond the keys; with trained keys, for a moment, also twice the size of the keys, for their gradient in two parts.
    Of W processes, each sends f·B·(4D + 8) bytes of queries and ids and f·B·24 bytes of sums in the forward pass, and
    f·B·8D bytes in the backward pass, with f = (W − 1)/W, for float32 and ring reductions. No tensor of size n or W·B
    is sent or kept. docs/scaling.md gives measured numbers of bytes and seconds.
    Paper: Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018, eqs. 1, 2, 9;
    the sharding is that of An et al., Partial FC, ICCV workshops 2021, with all classes.

    Args:
        n: the number of keys of all processes.
        temperature: τ, above 0.
        proximal: λ, the weight of the proximal term; for constant keys.
        keys_learn: True if the keys are trained weights, which have a gradient; False if they are constants, as in a
            memory bank.

    Raises:
        LikewiseError: a parameter out of its range, or ``proximal`` with trained keys.
    """

    joins_rows: bool = False
    can_be_zero: bool = False
    of_pairs: bool = False
    takes_policies: bool = False
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
            queries: (B_r, D), any floating dtype; they are sent as float32 at least. B_r may be 0.
            ids: (B_r,) int64, row numbers among all n keys; a query with an id below 0 does not count.
            keys: (n_r, D), this process' rows.
            sizes: B_r of all processes, if known; otherwise one more small message asks for them.

        Returns:
            A float32 scalar, float64 for float64 queries.

        Raises:
            LikewiseError: shapes do not fit, no process has a query, or an id is n or above. The last is checked on the
                CPU only; on other devices a check waits for the device, and the loss is NaN instead.
        """
        start, count = own_share(self.n)
        check_tensor("queries", queries)
        check_tensor("keys", keys)
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
        with no_autocast(queries.device):
            everyone = gather_rows(at_least_float32(queries), sizes)  # (B, D)
            everyones_ids = gather_rows(ids, sizes)  # (B,)
            check_rows("ids", everyones_ids, self.n, "keys in all", none=True)
            here, own = self._over_own_keys(everyone, everyones_ids - start, keys)
            own = own.masked_fill(everyones_ids >= self.n, torch.nan)
            first = starts(sizes)[rank()]
            share: Tensor = _Share.apply(here, own, everyones_ids >= 0, first, sizes[rank()])  # type: ignore[no-untyped-call]
        return share

    def against(self, queries: Tensor, ids: Tensor | Listed, keys: Keys | None) -> Tensor:
        """The share of the loss against this process' rows of a sharded dictionary."""
        if keys is None:
            raise LikewiseError("a softmax over sharded keys needs keys: use a sharded dictionary.")
        share: Tensor = self(queries, ids, keys.rows, keys.sizes)
        return share

    def share_rows(self) -> None:
        """Does nothing: the shares add up without it."""

    def _over_own_keys(self, queries: Tensor, rows: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) log-sum-exps over this process' keys, and (B,) the other terms, 0 where another has the positive."""
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
        """The loss of an embedding that can't distinguish items: log n."""
        return math.log(n)


class _Share(torch.autograd.Function):
    """This process' share of the mean loss. Backward: the gradient of the whole loss by this process' terms.

    ∂loss/∂(log Σ over own keys) is the part of the softmax on these keys, ``exp(log Σ over own keys − log Σ)``. The
    forward pass has sent log Σ of every query to all processes, so the backward pass needs no message.
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

    jvp = staticmethod(reverse_only("ShardedSoftmax", "take NonParametricSoftmax or ParametricSoftmax in one process"))
