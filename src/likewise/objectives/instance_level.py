"""Instance discrimination (Wu, Xiong, Yu, Lin, CVPR 2018, "NPID"): every item is a class of its own.

Dimension legend: B queries, n keys (one per item), D dimensions, m noise samples.

All objectives here and in :mod:`likewise.objectives.sampled` have the call
``objective(queries, ids, keys, key_ids)``. ``ids`` (B,) int64 name the one positive of each query, ``key_ids`` (n,)
int64 name the keys. Without ``key_ids`` a key's id is its row, as in a memory bank. A query whose id is below 0 has no
positive and does not count. In NCE and NonParametricSoftmax only the queries have a gradient, as in the paper; the
keys, rows of a bank, are constants.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from likewise.alike import Ids, Listed, traced
from likewise.dictionaries.keys import Keys
from likewise.errors import LikewiseError, above_zero, at_least_one, finite, number, room_for
from likewise.kernels.logsumexp import row_logsumexp
from likewise.kernels.numerics import (
    at_least_float32,
    gathered_similarities,
    no_autocast,
    product,
)
from likewise.objectives.base import SEEN_KEYS, How, Reduction, Watch, changes_nothing, no_triplet_margin, no_values
from likewise.objectives.checks import check_keys, drawn, one_of, rows_of

__all__ = ["NCE", "NonParametricSoftmax", "ParametricSoftmax", "proximal_penalty"]

LogZ = Literal["exact", "ema", "first"]
NoiseDraw = Literal["shared", "per-example"]
DRAWS = ("shared", "per-example")
TEMPERATURE_ADVICE = "NPID uses 0.07"


class Match(NamedTuple):
    """Where each query's positive is among the keys.

    Without ``key_ids`` an id is a row number. A query that does not count has some valid row.
    """

    rows: Tensor  # (B,) int64, the row of the positive
    counted: Tensor  # (B,) bool, whether the query has a positive
    ids: Tensor  # (B,) integers
    key_ids: Tensor | None  # (n,) integers

    def hits(self, rows: Tensor) -> Tensor:
        """(m,) or (B, m) rows of keys → (B, m) bool: whether the key has the query's id."""
        names = rows if self.key_ids is None else self.key_ids[rows]
        return names == self.ids.unsqueeze(1)


class InstanceObjective(nn.Module):
    """The base class of the objectives with one positive for each query. Abstract: subclasses are final.

    A subclass' constructor raises LikewiseError when a parameter is outside the range that its ``Args`` names.

    Args:
        reduction: "mean", "sum" or "none" over the queries that count.
        unit_rows: warn, once, when queries, or keys without gradient, are not of unit length.
    """

    joins_rows: bool = False
    can_be_zero: bool = False
    of_pairs: bool = False
    takes_policies: bool = False
    triplet_margin = no_triplet_margin
    log_values = no_values
    advance = changes_nothing

    def __init__(self, reduction: How, *, unit_rows: bool = False) -> None:
        super().__init__()
        self.reduce = Reduction(reduction, type(self).__name__, "a positive (their ids are below 0)")
        self.unit_rows, self.watch = unit_rows, Watch(type(self).__name__)

    def forward(self, queries: Tensor, ids: Ids, keys: Tensor, key_ids: Ids | None = None) -> Tensor:
        """The loss of queries (B, D) whose positives are the keys (n, D) that ``ids`` (B,) name.

        Args:
            queries: (B, D), any floating dtype; similarities and sums are in float32 at least.
            ids: (B,) integers; a query with an id below 0 has no positive and does not count.
            keys: (n, D), any floating dtype.
            key_ids: (n,) integers; by default the row numbers, as in a memory bank.

        Returns:
            A float32 scalar, float64 for float64 queries; (B,) with reduction "none".

        Raises:
            LikewiseError: shapes or dtypes do not fit together, or no key has a query's id.
        """
        return self.reduced_loss(queries, ids, keys, key_ids)

    def share_rows(self) -> None:
        """See :class:`likewise.objectives.interface.Objective`."""
        self.reduce.across = True

    def against(self, queries: Tensor, ids: Tensor | Listed, keys: Keys | None) -> Tensor:
        """The loss against ``keys``, one row for each item; without keys, against the objective's own weights."""
        loss: Tensor = self(queries, ids) if keys is None else self(queries, ids, keys.rows, keys.ids)
        return loss

    def reduced_loss(self, queries: Tensor, ids: Ids, keys: Tensor, key_ids: Ids | None) -> Tensor:
        """Checks the arguments, finds the positives, and reduces :meth:`row_losses` over the queries that count."""
        ids, key_ids = check_keys(queries, ids, keys, key_ids)
        if self.unit_rows and self.watch.due(queries.device):
            self.watch.unit_rows("queries", queries)
            if not keys.requires_grad:
                self.watch.unit_rows("keys", keys[: SEEN_KEYS * len(queries)])
        match = Match(rows_of(ids, key_ids, len(keys)), ids >= 0, ids, key_ids)
        with no_autocast(queries.device):
            losses = self.row_losses(at_least_float32(queries), keys, match)
            return self.reduce(torch.where(match.counted, losses, 0.0), match.counted)

    @abstractmethod
    def row_losses(self, queries: Tensor, keys: Tensor, match: Match) -> Tensor:
        """The formula: (B,) losses. ``queries`` are float32 or float64."""


def proximal_penalty(queries: Tensor, previous: Tensor) -> Tensor:
    """``‖v_i^(t) − v_i^(t−1)‖²`` (NPID eq. 9) of each row: (B, D), (B, D) → (B,) in float32 at least.

    For unit rows it equals 2 − 2s. Only ``queries`` have a gradient.

    Args:
        queries: (B, D), v_i^(t).
        previous: (B, D), v_i^(t−1), the keys of the same items.
    """
    return (at_least_float32(queries) - at_least_float32(previous).detach()).square().sum(1)


def noise_contrastive(
    positive: Tensor, noise: Tensor, shift: Tensor | float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """The binary loss of data against noise, for each row: ``−log h(positive) − Σ_j log(1 − h(noise_j))``.

    ``h(s) = P/(P + m P_n) = σ(s − shift)`` with ``P = e^s / Z`` and ``shift = log Z + log(m P_n)``. So the loss is
    ``softplus(shift − positive) + Σ_j softplus(noise_j − shift)``. This is noise-contrastive estimation (Gutmann and
    Hyvärinen 2010; NPID eqs. 5–7). With shift = 0, that is ``Z m P_n = 1``, it is word2vec's negative sampling.

    Args:
        positive: (B,) logits of the positives, s/τ.
        noise: (B, m) logits of the noise samples.
        shift: a number, or a tensor that broadcasts with both. It is the same for all samples, as for uniform noise.
        weights: (B, m), how often each sample counts; None: once.

    Returns:
        (B,).
    """
    push = functional.softplus(noise - shift)
    return functional.softplus(shift - positive) + (push if weights is None else push * weights).sum(1)


class NonParametricSoftmax(InstanceObjective):
    """Non-parametric softmax over all n items (NPID eq. 2), exact.

    ``−log P(i|v) = log Σ_j exp(v_j·v/τ) − v_i·v/τ``, plus ``λ ‖v − v_i‖²`` (eq. 9).

    Relations: InfoNCE against the whole bank. NCE (eq. 7) estimates it, and so does SampledSoftmax, the better the more
    samples they draw. The chance level is log n.
    Departures: none. The paper trains it on CIFAR-10 only (n = 50,000) because of its cost.
    Cost: 4·B·n·D flops with the gradient; memory for B·(2048 + 2D) floats beyond the bank, for any n.
    Paper: Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018, eq. 2.

    Args:
        temperature: τ, above 0.
        proximal: λ, the weight of the proximal term.
        reduction: "mean", "sum" or "none" over the queries with a positive.
    """

    def __init__(self, *, temperature: float = 0.07, proximal: float = 0.0, reduction: How = "mean") -> None:
        super().__init__(reduction, unit_rows=True)
        self.temperature = above_zero("temperature", temperature, TEMPERATURE_ADVICE)
        self.proximal = finite("proximal", proximal)

    def extra_repr(self) -> str:
        """The parameters."""
        return f"temperature={self.temperature}, proximal={self.proximal}, reduction={self.reduce.how!r}"

    def row_losses(self, queries: Tensor, keys: Tensor, match: Match) -> Tensor:
        """Eq. 2, with constant keys."""
        keys = keys.detach()
        positives = keys[match.rows].to(queries.dtype)  # (B, D)
        log_partition = row_logsumexp(queries, keys, 1 / self.temperature)  # (B,)
        loss = log_partition - (queries * positives).sum(1) / self.temperature
        if self.proximal:
            loss = loss + self.proximal * proximal_penalty(queries, positives)
        return loss

    def pair_loss(self, s_p: Tensor, s_n: Tensor) -> Tensor:
        """The loss with two items, the positive's and one other, elementwise, for unit rows."""
        return functional.softplus((s_n - s_p) / self.temperature) + self.proximal * (2 - 2 * s_p)

    def chance(self, n: int) -> float:
        """The loss of an embedding that can't distinguish items: log n."""
        return math.log(n)


class NCE(InstanceObjective):
    """Noise-contrastive estimation of the non-parametric softmax (NPID eq. 5–7, with eq. 9–10's proximal term).

    With ``P(i|v) = exp(v_i·v/τ)/Z`` and uniform noise ``P_n``,
    ``h(i, v) = P(i|v) / (P(i|v) + m P_n(i)) = σ(v_i·v/τ − log Z − log(m P_n))`` and per query
    ``J = −log h(i, v) − Σ_{j ~ noise} log(1 − h(j, v)) + λ ‖v − v_i‖²``. No gradient passes through log Z or the keys.

    Relations: the binary loss is :func:`noise_contrastive`, which NegativeSampling uses with Z m P_n ≡ 1. As m grows,
    the gradient tends to that of NonParametricSoftmax.
    Departures: Z is estimated as ``exp(s_i/τ) + (n−1)·mean_{j≠i} exp(s_j/τ)``, with the exact term of the positive. In
    a trained embedding this term is most of Z. The paper's ``n/m Σ exp`` misses it, and the released code, which counts
    the positive as one of m + 1 samples, gives it too much weight. A Z of the first batch alone is wrong as soon as the
    bank is trained, so "ema" is the default; the released code uses "first". The released code also adds 1e-7 to
    denominators, which log-sigmoids do not need.
    Cost: with "shared" draws 2·B·m·D flops in the forward and in the backward pass, and memory for B·m floats. With
    "per-example" draws the same flops, over B·m random rows. "exact" adds the forward pass of NonParametricSoftmax.
    Paper: Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018, eqs. 5–10;
    Gutmann and Hyvärinen, Noise-Contrastive Estimation, AISTATS 2010.

    Args:
        temperature: τ, above 0.
        noise: m, the number of noise samples; the paper uses 4096.
        draw: "shared" draws m rows for the whole batch, which needs one matrix product; "per-example" draws m rows for
            each query, as in the paper. Both estimate the same loss without bias. With "shared" the errors of the
            queries of a batch are correlated.
        positive_in_noise: True draws from all n rows, so that the positive can be among the noise, as in the paper and
            its code. False draws from the n − 1 other rows, and P_n = 1/(n − 1).
        log_z: how Z is found. The buffer ``log_z``, which checkpoints save, holds log Z. "first" keeps the estimate of
            the first batch, as the released code; "ema" is a moving average over the batches; "exact" sums over all
            keys at each step.
        log_z_decay: the decay of the moving average of Z, in [0, 1).
        proximal: λ, the weight of the proximal term.
        generator: draws the noise, on the keys' device. None: torch's global generator, the only one that works in a
            compiled graph without breaks.
        reduction: "mean", "sum" or "none" over the queries with a positive.
    """

    joins_rows = True  # log Z is estimated from the whole batch
    log_z: Tensor

    def __init__(
        self,
        *,
        temperature: float = 0.07,
        noise: int = 4096,
        draw: NoiseDraw = "shared",
        positive_in_noise: bool = True,
        log_z: LogZ = "ema",
        log_z_decay: float = 0.95,
        proximal: float = 0.0,
        generator: torch.Generator | None = None,
        reduction: How = "mean",
    ) -> None:
        super().__init__(reduction, unit_rows=True)
        at_least_one("noise", noise, "the paper uses 4096")
        if not 0 <= number("log_z_decay", log_z_decay) < 1:
            raise LikewiseError(f"log_z_decay={log_z_decay} must be in [0, 1).")
        self.temperature = above_zero("temperature", temperature, TEMPERATURE_ADVICE)
        self.noise, self.positive_in_noise = noise, positive_in_noise
        self.draw, self.log_z_rule = one_of("draw", draw, DRAWS), one_of("log_z", log_z, ("exact", "ema", "first"))
        self.log_z_decay, self.proximal = log_z_decay, finite("proximal", proximal)
        self.generator = generator
        self.register_buffer("log_z", torch.tensor(math.nan, dtype=torch.float64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the module. log Z stays float64: in bfloat16 its moving average would stall."""
        kept = self.log_z
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.log_z = kept.to(self.log_z.device)
        return self

    def extra_repr(self) -> str:
        """The parameters."""
        return (
            f"temperature={self.temperature}, noise={self.noise}, draw={self.draw!r}, "
            f"positive_in_noise={self.positive_in_noise}, log_z={self.log_z_rule!r}, log_z_decay={self.log_z_decay}, "
            f"proximal={self.proximal}, reduction={self.reduce.how!r}"
        )

    def row_losses(self, queries: Tensor, keys: Tensor, match: Match) -> Tensor:
        """Eqs. 7 and 10, with constant keys. In training mode it also updates ``log_z``.

        Raises LikewiseError when there are fewer than two keys.
        """
        keys, n = keys.detach(), len(keys)
        if n < 2:
            raise LikewiseError(f"NCE needs at least 2 keys to draw noise from, got {n}.")
        previous = keys[match.rows].to(queries.dtype)  # (B, D)
        rows = self._draw(len(queries), n, keys.device)  # (m,) or (B, m)
        scaled = queries / self.temperature
        positive = (scaled * previous).sum(1)  # (B,), v_i·v/τ
        noise = self._similarities(scaled, keys, rows)  # (B, m)
        other = rows != match.rows.unsqueeze(1)  # (B, m)
        if self.training or torch.compiler.is_compiling() or self.log_z.isnan():
            self._update_log_z(queries, keys, positive.detach(), noise.detach(), other, match.counted)

        weights = None
        if not self.positive_in_noise:  # drops samples of the positive; the weights of the others add up to m
            weights = other * (self.noise / other.sum(1, keepdim=True).clamp(min=1).to(queries.dtype))
        shift = self.log_z.to(queries.dtype) + self._log_noise_density(n)
        loss = noise_contrastive(positive, noise, shift, weights)
        if self.proximal:
            loss = loss + self.proximal * proximal_penalty(queries, previous)
        return loss

    def pair_loss(self, s_p: Tensor, s_n: Tensor) -> Tensor:
        """The loss of the positive and of one of the m noise samples, elementwise, for unit rows.

        It assumes Z = n, so that the shift is log m for any n.
        """
        positive, noise = s_p.reshape(-1) / self.temperature, s_n.reshape(-1, 1) / self.temperature
        loss = noise_contrastive(positive, noise, math.log(self.noise))
        return loss.reshape(s_p.shape) + self.proximal * (2 - 2 * s_p)

    def chance(self, n: int) -> float:
        """The loss with P(i|v) = 1/n, so that h = 1/(m+1): log(m + 1) + m log(1 + 1/m)."""
        return math.log1p(self.noise) + self.noise * math.log1p(1 / self.noise)

    def log_values(self) -> dict[str, float | str]:
        """log Z."""
        return {"log_z": float(self.log_z)}

    def _log_noise_density(self, n: int) -> float:
        return math.log(self.noise / (n if self.positive_in_noise else n - 1))

    def _draw(self, batch: int, n: int, device: torch.device) -> Tensor:
        shape = (self.noise,) if self.draw == "shared" else (batch, self.noise)
        return drawn(lambda: torch.randint(n, shape, generator=self.generator, device=device))

    def _similarities(self, queries: Tensor, keys: Tensor, rows: Tensor) -> Tensor:
        if rows.ndim == 1:
            return product(queries, keys[rows].to(queries.dtype).T)
        return gathered_similarities(queries, keys, rows)

    @torch.no_grad()
    def _update_log_z(
        self, queries: Tensor, keys: Tensor, positive: Tensor, noise: Tensor, other: Tensor, counted: Tensor
    ) -> None:
        """Updates ``log_z`` from the queries that count. A compiled graph has no branch on data."""
        if self.log_z_rule == "first" and not traced() and not self.log_z.isnan():
            return
        if self.log_z_rule == "exact":
            per_query = row_logsumexp(queries, keys, 1 / self.temperature)
        else:
            count = other.sum(1).clamp(min=1).to(noise.dtype)
            others = noise.masked_fill(~other, -torch.inf).logsumexp(1) - count.log() + math.log(len(keys) - 1)
            per_query = torch.logaddexp(positive, others)
        rows = counted.sum().clamp(min=1).double()
        estimate = per_query.double().masked_fill(~counted, -torch.inf).logsumexp(0) - rows.log()
        followed = estimate
        if self.log_z_rule == "first" or not self.training:
            followed = self.log_z
        elif self.log_z_rule == "ema" and self.log_z_decay:
            decay = self.log_z_decay
            followed = torch.logaddexp(self.log_z + math.log(decay), estimate + math.log1p(-decay))
        moved = torch.where(self.log_z.isnan(), estimate, followed)
        try:
            self.log_z.copy_(torch.where(counted.any(), moved, self.log_z))
        except RuntimeError:
            if not traced():
                raise
            raise LikewiseError(
                "NCE's log Z moves with each call in training mode, which the transforms of torch.func don't allow: "
                "call it once as usual, then .eval()."
            ) from None


class ParametricSoftmax(InstanceObjective):
    """Softmax with a trained weight vector for each item (NPID eq. 1): the paper's baseline for NonParametricSoftmax.

    ``−log P(i|v) = log Σ_j exp(w_j·v) − w_i·v``.

    By default the keys are ``weight`` (n, D), a parameter of this module.

    Relations: NonParametricSoftmax has the items' embeddings in place of w. Softmax is this with classes in place of
    items. The chance level is log n.
    Departures: eq. 1 has no temperature. Since v has unit length here, ``scale`` (default 1) can play the role of 1/τ.
    Cost: 6·B·n·D flops with the gradients; memory for n·D floats of weights and as many of their gradient.
    Paper: Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018, eq. 1.

    Args:
        n: the number of items.
        dim: D, the length of a row.
        scale: the factor of w_j·v.
        generator: draws the first weights, uniform in ±1/√D; on the CPU. None: torch's global generator.
        reduction: "mean", "sum" or "none" over the queries with a positive.
    """

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        scale: float = 1.0,
        generator: torch.Generator | None = None,
        reduction: How = "mean",
    ) -> None:
        super().__init__(reduction)
        self.scale = above_zero("scale", scale, "1 is the plain softmax")
        at_least_one("n", n, "there is a weight for each item")
        at_least_one("dim", dim, "a weight has as many numbers as an embedding")
        with room_for(f"weights of {n:,} items × {dim:,}"):
            self.weight = nn.Parameter((torch.rand(n, dim, generator=generator) * 2 - 1) / math.sqrt(dim))

    def extra_repr(self) -> str:
        """The parameters."""
        n, dim = self.weight.shape
        return f"n={n}, dim={dim}, scale={self.scale}, reduction={self.reduce.how!r}"

    def forward(self, queries: Tensor, ids: Ids, keys: Tensor | None = None, key_ids: Ids | None = None) -> Tensor:
        """As :meth:`InstanceObjective.forward`. By default the keys are ``self.weight``; keys have a gradient."""
        return self.reduced_loss(queries, ids, self.weight if keys is None else keys, key_ids)

    def row_losses(self, queries: Tensor, keys: Tensor, match: Match) -> Tensor:
        """Eq. 1."""
        own = keys[match.rows].to(queries.dtype)
        return row_logsumexp(queries, keys, self.scale) - self.scale * (queries * own).sum(1)

    def pair_loss(self, s_p: Tensor, s_n: Tensor) -> Tensor:
        """The loss with two items, the positive's and one other, elementwise, for unit queries and weights."""
        return functional.softplus(self.scale * (s_n - s_p))

    def chance(self, n: int) -> float:
        """The loss of an embedding that can't distinguish items: log n."""
        return math.log(n)
