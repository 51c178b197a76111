"""Instance discrimination (Wu, Xiong, Yu, Lin, CVPR 2018, "NPID"): every item is a class of its own.

Dimension legend: B queries, n keys (one per item), D dimensions, m noise samples.

All objectives here and in :mod:`likewise.objectives.sampled` are called alike, ``objective(queries, ids, keys,
key_ids)``: ``ids`` (B,) int64 name each query's one positive, ``key_ids`` (n,) int64 name the keys. Without ``key_ids``
a key's id is its row, as in a memory bank. A query whose id is below 0 has no positive and does not count.
The keys are a constant to the bank objectives, NCE and NonParametricSoftmax: as in the paper, the gradient reaches the
queries alone.
"""

import math
from collections.abc import Callable
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from likewise.derivatives import traced
from likewise.errors import LikewiseError, at_least_one
from likewise.ids import Ids
from likewise.kernels.logsumexp import row_logsumexp
from likewise.kernels.numerics import at_least_float32, gathered_similarities, product
from likewise.objectives.base import How, InstanceObjective, Match
from likewise.objectives.checks import above_zero, one_of

__all__ = ["NCE", "NonParametricSoftmax", "ParametricSoftmax", "proximal_penalty"]

LogZ = Literal["exact", "ema", "first"]
NoiseDraw = Literal["shared", "per-example"]
DRAWS = ("shared", "per-example")
TEMPERATURE_ADVICE = "NPID uses 0.07"


def proximal_penalty(queries: Tensor, previous: Tensor) -> Tensor:
    """``‖v_i^(t) − v_i^(t−1)‖²`` (NPID eq. 9) per row: (B, D), (B, D) → (B,). Equals 2 − 2s on the unit sphere."""
    return (at_least_float32(queries) - at_least_float32(previous).detach()).square().sum(1)


def noise_contrastive(
    positive: Tensor, noise: Tensor, shift: Tensor | float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """The binary loss of data against noise, of each row: ``−log h(positive) − Σ_j log(1 − h(noise_j))``.

    ``h(s) = P/(P + m P_n) = σ(s − shift)`` with ``P = e^s / Z`` and ``shift = log Z + log(m P_n)``, so the loss is
    ``softplus(shift − positive) + Σ_j softplus(noise_j − shift)``. Noise-contrastive estimation (Gutmann and Hyvärinen
    2010; NPID eq. 5–7) is this; word2vec's negative sampling is this with shift = 0, that is ``Z m P_n = 1``.

    Args:
        positive: (B,) logits of the positives, s/τ.
        noise: (B, m) logits of the noise samples.
        shift: a number or a tensor that broadcasts with both: uniform noise.
        weights: (B, m) how often each sample counts; None: once.

    Returns:
        (B,).
    """
    push = functional.softplus(noise - shift)
    return functional.softplus(shift - positive) + (push if weights is None else push * weights).sum(1)


class NonParametricSoftmax(InstanceObjective):
    """Non-parametric softmax over all n items (NPID eq. 2), exact.

    ``−log P(i|v) = log Σ_j exp(v_j·v/τ) − v_i·v/τ``, plus ``λ ‖v − v_i‖²`` (eq. 9) where asked.

    Relations: InfoNCE against the whole bank; what NCE (eq. 7) estimates as m → n, and SampledSoftmax as its draws
    grow. Chance level is log n.
    Departures: none; the paper trains it on CIFAR-10 only (n = 50,000) because of its cost.
    Cost: 4·B·n·D flops forwards with the gradient, B·(2048 + 2D) floats beyond the bank, whatever n is.
    Paper: Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018, eq. 2.

    Args:
        temperature: τ.
        proximal: λ of the proximal term.
        reduction: "mean", "sum" or "none" over the queries with a positive.
    """

    def __init__(self, *, temperature: float = 0.07, proximal: float = 0.0, reduction: How = "mean") -> None:
        super().__init__(reduction, unit_rows=True)
        self.temperature = above_zero("temperature", temperature, TEMPERATURE_ADVICE)
        self.proximal = proximal

    def extra_repr(self) -> str:
        """The parameters."""
        return f"temperature={self.temperature}, proximal={self.proximal}, reduction={self.reduce.how!r}"

    def row_losses(self, queries: Tensor, keys: Tensor, match: Match) -> Tensor:
        """Eq. 2; the keys are constant."""
        keys = keys.detach()
        positives = keys[match.rows].to(queries.dtype)  # (B, D)
        log_partition = row_logsumexp(queries, keys, 1 / self.temperature)  # (B,)
        loss = log_partition - (queries * positives).sum(1) / self.temperature
        if self.proximal:
            loss = loss + self.proximal * proximal_penalty(queries, positives)
        return loss

    def pair_loss(self, s_p: Tensor, s_n: Tensor) -> Tensor:
        """The loss with two items, the positive's and one other, elementwise; unit rows."""
        return functional.softplus((s_n - s_p) / self.temperature) + self.proximal * (2 - 2 * s_p)

    def chance(self, n: int) -> float:
        """The loss of an embedding that tells nothing apart: log n."""
        return math.log(n)


class NCE(InstanceObjective):
    """Noise-contrastive estimation of the non-parametric softmax (NPID eq. 5–7, with eq. 9–10's proximal term).

    With ``P(i|v) = exp(v_i·v/τ)/Z`` and uniform noise ``P_n``,
    ``h(i, v) = P(i|v) / (P(i|v) + m P_n(i)) = σ(v_i·v/τ − log Z − log(m P_n))`` and per query
    ``J = −log h(i, v) − Σ_{j ~ noise} log(1 − h(j, v)) + λ ‖v − v_i‖²``.

    Relations: the binary loss is :func:`noise_contrastive`, which NegativeSampling uses with Z m P_n ≡ 1; tends to the
    softmax's gradient as m grows.
    Departures: Z is estimated as ``exp(s_i/τ) + (n−1)·mean_{j≠i} exp(s_j/τ)``, with the positive's term exact: once the
    embedding is trained that term dominates Z and the plain ``n/m Σ exp`` of the paper (and the released code's, which
    counts the positive as one of m + 1 samples) misses or overweights it. A one-time Z is wrong as soon as the bank
    stops being noise, so "ema" is the default. The released code adds 1e-7 to denominators; log-sigmoids need none.
    Cost: shared 2·B·m·D flops each way and B·m floats; per-example the same flops over B·m random rows. With "exact"
    add NonParametricSoftmax's forward.
    Paper: Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018, eqs. 5–10;
    Gutmann and Hyvärinen, Noise-Contrastive Estimation, AISTATS 2010.

    Args:
        temperature: τ.
        noise: m, samples per step; the paper's 4096.
        draw: "shared" takes one set of m rows for the whole batch (one matrix product); "per-example" draws m for each
            query as in the paper. Both estimate the same loss without bias; shared draws correlate within a batch.
        positive_in_noise: draw from all n rows, so that the positive can recur as in the paper and its code, or from
            the n − 1 others (then P_n = 1/(n − 1)).
        log_z: how the constant Z is kept, as log Z in the buffer ``log_z`` (saved, restored): "first" is the estimate
            of the first batch, then frozen, as released; "ema" follows it; "exact" sums over all keys at each step.
        log_z_decay: of the moving average of Z.
        proximal: λ.
        generator: where noise is drawn from; on the keys' device. Default: torch's own, which a full compiled graph
            needs.
        reduction: "mean", "sum" or "none" over the queries with a positive.
    """

    joins_rows = True  # log Z is the whole batch's
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
        if not 0 <= log_z_decay < 1:
            raise LikewiseError(f"log_z_decay={log_z_decay} must be in [0, 1).")
        self.temperature = above_zero("temperature", temperature, TEMPERATURE_ADVICE)
        self.noise, self.positive_in_noise = noise, positive_in_noise
        self.draw, self.log_z_rule = one_of("draw", draw, DRAWS), one_of("log_z", log_z, ("exact", "ema", "first"))
        self.log_z_decay, self.proximal = log_z_decay, proximal
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
        """Eqs. 7 and 10; the keys are constant. In training mode also moves ``log_z``.

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
        if self.training or traced() or self.log_z.isnan():
            self._update_log_z(queries, keys, positive.detach(), noise.detach(), other, match.counted)

        weights = None
        if not self.positive_in_noise:  # what hits the positive is dropped; the others are uniform: m of them again
            weights = other * (self.noise / other.sum(1, keepdim=True).clamp(min=1).to(queries.dtype))
        shift = self.log_z.to(queries.dtype) + self._log_noise_density(n)
        loss = noise_contrastive(positive, noise, shift, weights)
        if self.proximal:
            loss = loss + self.proximal * proximal_penalty(queries, previous)
        return loss

    def pair_loss(self, s_p: Tensor, s_n: Tensor) -> Tensor:
        """The loss with one of the m noise samples shown, elementwise; unit rows.

        Assumes Z = n, as for an embedding whose logits are 0 on average, whatever n is: the shift is then log m.
        """
        positive, noise = s_p.reshape(-1) / self.temperature, s_n.reshape(-1, 1) / self.temperature
        loss = noise_contrastive(positive, noise, math.log(self.noise))
        return loss.reshape(s_p.shape) + self.proximal * (2 - 2 * s_p)

    def chance(self, n: int) -> float:
        """The loss where P(i|v) = 1/n, so h = 1/(m+1): log(m + 1) + m log(1 + 1/m)."""
        return math.log1p(self.noise) + self.noise * math.log1p(1 / self.noise)

    def log_values(self) -> dict[str, float | str]:
        """log Z."""
        return {"log_z": float(self.log_z)}

    def _log_noise_density(self, n: int) -> float:
        return math.log(self.noise / (n if self.positive_in_noise else n - 1))

    def _draw(self, batch: int, n: int, device: torch.device) -> Tensor:
        shape = (self.noise,) if self.draw == "shared" else (batch, self.noise)
        return torch.randint(n, shape, generator=self.generator, device=device)

    def _similarities(self, queries: Tensor, keys: Tensor, rows: Tensor) -> Tensor:
        if rows.ndim == 1:
            return product(queries, keys[rows].to(queries.dtype).T)
        return gathered_similarities(queries, keys, rows)

    @torch.no_grad()
    def _update_log_z(
        self, queries: Tensor, keys: Tensor, positive: Tensor, noise: Tensor, other: Tensor, counted: Tensor
    ) -> None:
        """One step of ``log_z`` by the queries that count; without branches on data when compiled."""
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
    """Softmax with a weight vector per item (NPID eq. 1): the baseline that the non-parametric one replaces.

    ``−log P(i|v) = log Σ_j exp(w_j·v) − w_i·v``.

    ``keys`` are this module's own ``weight`` (n, D), an ordinary parameter: train it, save it, decay it.

    Relations: NonParametricSoftmax has the items' own features for w; Softmax of the class level is this over classes.
    Chance level is log n.
    Departures: eq. 1 has no temperature; since our v has unit length, ``scale`` (default 1) may stand for one.
    Cost: 6·B·n·D flops forwards and backwards, and n·D floats of dense gradient.
    Paper: Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018, eq. 1.

    Args:
        n: how many items.
        dim: D.
        scale: multiplies w_j·v.
        generator: for the initial weights, uniform in ±1/√D.
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
        self.scale = scale
        at_least_one("n", n, "there is a weight for each item")
        at_least_one("dim", dim, "a weight has as many numbers as an embedding")
        self.weight = nn.Parameter((torch.rand(n, dim, generator=generator) * 2 - 1) / math.sqrt(dim))

    def extra_repr(self) -> str:
        """The parameters."""
        n, dim = self.weight.shape
        return f"n={n}, dim={dim}, scale={self.scale}, reduction={self.reduce.how!r}"

    def forward(self, queries: Tensor, ids: Ids, keys: Tensor | None = None, key_ids: Ids | None = None) -> Tensor:
        """As of every instance objective; ``keys`` default to ``self.weight``, and have a gradient."""
        return self.reduced_loss(queries, ids, self.weight if keys is None else keys, key_ids)

    def row_losses(self, queries: Tensor, keys: Tensor, match: Match) -> Tensor:
        """Eq. 1."""
        own = keys[match.rows].to(queries.dtype)
        return row_logsumexp(queries, keys, self.scale) - self.scale * (queries * own).sum(1)

    def pair_loss(self, s_p: Tensor, s_n: Tensor) -> Tensor:
        """The loss with two items, the positive's and one other, elementwise; unit features and weights."""
        return functional.softplus(self.scale * (s_n - s_p))

    def chance(self, n: int) -> float:
        """The loss of an embedding that tells nothing apart: log n."""
        return math.log(n)
