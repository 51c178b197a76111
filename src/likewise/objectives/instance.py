"""Instance discrimination (Wu, Xiong, Yu, Lin, CVPR 2018, "NPID"): every item is a class of its own.

Dimension legend: B queries, n keys (one per item), D dimensions, m noise samples.

All three objectives are called alike, ``objective(queries, ids, keys, key_ids)``: ``ids`` (B,) int64 name each query's
positive, ``key_ids`` (n,) int64 name the keys. Without ``key_ids`` a key's id is its row, as in a memory bank.
The keys are a constant to the bank objectives: as in the paper, the gradient reaches the queries alone.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from likewise.errors import LikewiseError
from likewise.kernels import at_least_float32, gathered_similarities, row_logsumexp

LogZ = Literal["exact", "ema", "first"]
NoiseDraw = Literal["shared", "per-example"]


def proximal_penalty(queries: Tensor, previous: Tensor) -> Tensor:
    """``‖v_i^(t) − v_i^(t−1)‖²`` (NPID eq. 9) per row: (B, D), (B, D) → (B,). Equals 2 − 2s on the unit sphere."""
    return (at_least_float32(queries) - at_least_float32(previous).detach()).square().sum(1)


def rows_of(ids: Tensor, key_ids: Tensor | None) -> Tensor:
    """The key row that carries each id: (B,) int64. Raises LikewiseError for an id that no key has."""
    if key_ids is None:
        return ids
    order = key_ids.argsort()
    place = torch.searchsorted(key_ids[order], ids).clamp_(max=len(key_ids) - 1)
    rows = order[place]
    missing = ids[key_ids[rows] != ids]
    if len(missing):
        raise LikewiseError(f"no key has the id of these queries: {missing[:5].tolist()}; update the dictionary first.")
    return rows


def _check(queries: Tensor, ids: Tensor, keys: Tensor, key_ids: Tensor | None) -> None:
    if queries.ndim != 2 or keys.ndim != 2 or queries.shape[1] != keys.shape[1]:
        raise LikewiseError(
            f"queries {tuple(queries.shape)} and keys {tuple(keys.shape)} must be (B, D) and (n, D) with the same D."
        )
    if ids.shape != queries.shape[:1]:
        raise LikewiseError(f"ids {tuple(ids.shape)} must be ({len(queries)},): one id per query.")
    if key_ids is not None and key_ids.shape != keys.shape[:1]:
        raise LikewiseError(f"key_ids {tuple(key_ids.shape)} must be ({len(keys)},): one id per key.")


def _positive_temperature(temperature: float) -> float:
    if not temperature > 0:
        raise LikewiseError(f"temperature={temperature} must be above 0; NPID uses 0.07.")
    return temperature


class NonParametricSoftmax(nn.Module):
    """Non-parametric softmax over all n items (NPID eq. 2), exact.

    ``−log P(i|v) = log Σ_j exp(v_j·v/τ) − v_i·v/τ``, mean over the batch, plus ``λ ‖v − v_i‖²`` (eq. 9) where asked.

    Relations: InfoNCE against the whole bank; what NCE (eq. 7) estimates as m → n. Chance level is log n.
    Departures: none; the paper trains it on CIFAR-10 only (n = 50,000) because of its cost.
    Cost: 4·B·n·D flops forwards with the gradient, B·(2048 + 2D) floats beyond the bank, whatever n is.

    Args:
        temperature: τ.
        proximal: λ of the proximal term.
    """

    def __init__(self, *, temperature: float = 0.07, proximal: float = 0.0) -> None:
        super().__init__()
        self.temperature = _positive_temperature(temperature)
        self.proximal = proximal

    def forward(self, queries: Tensor, ids: Tensor, keys: Tensor, key_ids: Tensor | None = None) -> Tensor:
        """Scalar loss of queries (B, D), ids (B,), keys (n, D). Raises LikewiseError on mismatched shapes."""
        _check(queries, ids, keys, key_ids)
        queries = at_least_float32(queries)
        keys = keys.detach()
        positives = keys[rows_of(ids, key_ids)].to(queries.dtype)  # (B, D)
        log_partition = row_logsumexp(queries, keys, 1 / self.temperature)  # (B,)
        loss = log_partition - (queries * positives).sum(1) / self.temperature
        if self.proximal:
            loss = loss + self.proximal * proximal_penalty(queries, positives)
        return loss.mean()

    def chance(self, n: int) -> float:
        """The loss of an embedding that tells nothing apart: log n."""
        return math.log(n)


class NCE(nn.Module):
    """Noise-contrastive estimation of the non-parametric softmax (NPID eq. 5–7, with eq. 9–10's proximal term).

    With ``P(i|v) = exp(v_i·v/τ)/Z`` and uniform noise ``P_n``,
    ``h(i, v) = P(i|v) / (P(i|v) + m P_n(i)) = σ(v_i·v/τ − log Z − log(m P_n))`` and per query
    ``J = −log h(i, v) − Σ_{j ~ noise} log(1 − h(j, v)) + λ ‖v − v_i‖²``; mean over the batch.

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
        generator: where noise is drawn from; on the keys' device. Default: torch's own.

    Departures: Z is estimated as ``exp(s_i/τ) + (n−1)·mean_{j≠i} exp(s_j/τ)``, with the positive's term exact: once the
    embedding is trained that term dominates Z and the plain ``n/m Σ exp`` of the paper (and the released code's, which
    counts the positive as one of m + 1 samples) misses or overweights it. A one-time Z is wrong as soon as the bank
    stops being noise, so "ema" is the default. The released code adds 1e-7 to denominators; log-sigmoids need none.
    Relations: h is word2vec's negative sampling with m P_n Z ≡ 1; tends to the softmax's gradient as m grows.
    Cost: shared 2·B·m·D flops each way and B·m floats; per-example the same flops over B·m random rows. With "exact"
    add NonParametricSoftmax's forward.
    """

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
    ) -> None:
        super().__init__()
        if noise < 1:
            raise LikewiseError(f"noise={noise} must be at least 1; the paper uses 4096.")
        if not 0 <= log_z_decay < 1:
            raise LikewiseError(f"log_z_decay={log_z_decay} must be in [0, 1).")
        self.temperature = _positive_temperature(temperature)
        self.noise, self.draw, self.positive_in_noise = noise, draw, positive_in_noise
        self.log_z_rule, self.log_z_decay, self.proximal = log_z, log_z_decay, proximal
        self.generator = generator
        self.register_buffer("log_z", torch.tensor(math.nan, dtype=torch.float64))

    def forward(self, queries: Tensor, ids: Tensor, keys: Tensor, key_ids: Tensor | None = None) -> Tensor:
        """Scalar loss of queries (B, D), ids (B,), keys (n, D); in training mode also moves ``log_z``.

        Raises LikewiseError on mismatched shapes and when there are fewer than two keys.
        """
        _check(queries, ids, keys, key_ids)
        queries, keys, n = at_least_float32(queries), keys.detach(), len(keys)
        if n < 2:
            raise LikewiseError(f"NCE needs at least 2 keys to draw noise from, got {n}.")
        own = rows_of(ids, key_ids)  # (B,)
        previous = keys[own].to(queries.dtype)  # (B, D)
        rows = self._draw(len(queries), n, keys.device)  # (m,) or (B, m)
        scaled = queries / self.temperature
        positive = (scaled * previous).sum(1)  # (B,), v_i·v/τ
        noise = self._similarities(scaled, keys, rows)  # (B, m)
        other = rows != own.unsqueeze(1)  # (B, m)
        if self.training or self.log_z.isnan():
            self._update_log_z(queries, keys, positive.detach(), noise.detach(), other)

        log_noise = self._log_noise_density(n)  # log(m P_n)
        shift = self.log_z.to(queries.dtype) + log_noise
        penalty = functional.softplus(noise - shift)  # −log(1 − h)
        if self.positive_in_noise:
            push = penalty.sum(1)
        else:  # samples that hit the positive are dropped; the others are uniform over the rest: reweigh to m of them
            push = (penalty * other).sum(1) * self.noise / other.sum(1).clamp(min=1)
        loss = functional.softplus(shift - positive) + push  # −log h, plus the noise
        if self.proximal:
            loss = loss + self.proximal * proximal_penalty(queries, previous)
        return loss.mean()

    def chance(self, n: int) -> float:
        """The loss where P(i|v) = 1/n, so h = 1/(m+1): log(m + 1) + m log(1 + 1/m)."""
        return math.log1p(self.noise) + self.noise * math.log1p(1 / self.noise)

    def _log_noise_density(self, n: int) -> float:
        return math.log(self.noise / (n if self.positive_in_noise else n - 1))

    def _draw(self, batch: int, n: int, device: torch.device) -> Tensor:
        shape = (self.noise,) if self.draw == "shared" else (batch, self.noise)
        return torch.randint(n, shape, generator=self.generator, device=device)

    def _similarities(self, queries: Tensor, keys: Tensor, rows: Tensor) -> Tensor:
        if rows.ndim == 1:
            return queries @ keys[rows].to(queries.dtype).T
        return gathered_similarities(queries, keys, rows)

    @torch.no_grad()
    def _update_log_z(self, queries: Tensor, keys: Tensor, positive: Tensor, noise: Tensor, other: Tensor) -> None:
        if self.log_z_rule == "first" and not self.log_z.isnan():
            return
        if self.log_z_rule == "exact":
            per_query = row_logsumexp(queries, keys, 1 / self.temperature)
        else:
            count = other.sum(1).clamp(min=1).to(noise.dtype)
            others = noise.masked_fill(~other, -torch.inf).logsumexp(1) - count.log() + math.log(len(keys) - 1)
            per_query = torch.logaddexp(positive, others)
        estimate = per_query.double().logsumexp(0) - math.log(len(per_query))
        if self.log_z_rule == "ema" and not self.log_z.isnan():
            decay = self.log_z_decay
            estimate = (
                torch.logaddexp(self.log_z + math.log(decay), estimate + math.log1p(-decay)) if decay else estimate
            )
        self.log_z.copy_(estimate)


class ParametricSoftmax(nn.Module):
    """Softmax with a weight vector per item (NPID eq. 1): the baseline that the non-parametric one replaces.

    ``−log P(i|v) = log Σ_j exp(w_j·v) − w_i·v``, mean over the batch.

    ``keys`` are this module's own ``weight`` (n, D), an ordinary parameter: train it, save it, decay it.
    Cost: 6·B·n·D flops forwards and backwards, and n·D floats of dense gradient.
    Departures: eq. 1 has no temperature; since our v has unit length, ``scale`` (default 1) may stand for one.

    Args:
        n: how many items.
        dim: D.
        scale: multiplies w_j·v.
        generator: for the initial weights, uniform in ±1/√D.
    """

    def __init__(self, n: int, dim: int, *, scale: float = 1.0, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter((torch.rand(n, dim, generator=generator) * 2 - 1) / math.sqrt(dim))

    def forward(
        self, queries: Tensor, ids: Tensor, keys: Tensor | None = None, key_ids: Tensor | None = None
    ) -> Tensor:
        """Scalar loss of queries (B, D), ids (B,) in [0, n). ``keys`` default to ``self.weight``."""
        keys = self.weight if keys is None else keys
        _check(queries, ids, keys, key_ids)
        queries = at_least_float32(queries)
        own = keys[rows_of(ids, key_ids)].to(queries.dtype)
        return (row_logsumexp(queries, keys, self.scale) - self.scale * (queries * own).sum(1)).mean()

    def chance(self, n: int) -> float:
        """The loss of an embedding that tells nothing apart: log n."""
        return math.log(n)
