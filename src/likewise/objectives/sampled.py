"""Objectives over a few sampled keys in place of all keys: sampled softmax, and word2vec's negative sampling.

Dimension legend: B queries, n keys, D dimensions, m samples (k in word2vec).

Called as the instance objectives are, ``objective(queries, ids, keys, key_ids)``. Here the gradient reaches the keys
too, which may be trained item vectors; of a bank pass ``keys.detach()``.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from likewise.errors import LikewiseError, above_zero, at_least_one, number
from likewise.kernels.numerics import product, softplus, unit
from likewise.objectives.base import How
from likewise.objectives.checks import drawn, one_of
from likewise.objectives.instance_level import (
    DRAWS,
    TEMPERATURE_ADVICE,
    InstanceObjective,
    Match,
    NoiseDraw,
    noise_contrastive,
)

__all__ = ["NegativeSampling", "SampledSoftmax"]


class Noise(nn.Module):
    """A distribution Q over n keys: uniform, or proportional to the keys' counts to a power.

    Rows are drawn with replacement by inverting the cumulative sums in float64: log2 n steps a draw, and any n
    (``torch.multinomial`` ends at 2²⁴). Rows of count 0 are never drawn. The sums move with the module from device to
    device, keep their precision under ``half()``, and are not part of its state.

    Args:
        counts: (n,) 0 or more, of any real dtype; None: uniform over however many keys there are.
        power: of the counts; word2vec's is 0.75.
        generator: where rows are drawn from; on the keys' device. Default: torch's own, which a full compiled graph
            needs.
    """

    _cumulative: Tensor | None
    _log_density: Tensor | None

    def __init__(
        self, counts: Tensor | None = None, *, power: float = 1.0, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        if not 0 <= number("power", power) < math.inf:
            raise LikewiseError(f"power={power} must be 0 or more, and finite; word2vec uses 0.75.")
        self.power, self.generator = power, generator
        cumulative = log_density = None
        if counts is not None:
            _check_counts(counts)
            raised = counts.detach().double().cpu()  # on a GPU, a parallel sum may not be monotone
            raised = raised / raised.max()
            raised = torch.where(raised > 0, raised**power, 0.0)
            sums = raised.cumsum(0)
            cumulative, log_density = sums / sums[-1], raised.log() - sums[-1].log()
        # as integer bits, which .half(), .float() and .bfloat16() of the module do not change
        self.register_buffer("_cumulative", _to_bits(cumulative, counts), persistent=False)
        self.register_buffer("_log_density", _to_bits(log_density, counts), persistent=False)

    def extra_repr(self) -> str:
        """How many counts, and the power."""
        counts = None if self._cumulative is None else len(self._cumulative)
        return f"counts={counts}, power={self.power}"

    def draw(self, shape: Sequence[int], n: int, device: torch.device) -> Tensor:
        """Rows of n keys: int64 of the shape. Raises LikewiseError when n is not the number of counts."""
        if self._cumulative is None:
            return drawn(lambda: torch.randint(n, tuple(shape), generator=self.generator, device=device))
        if len(self._cumulative) != n:
            raise LikewiseError(f"there are {len(self._cumulative)} counts but {n} keys: give one for each key.")
        sums = self._cumulative.view(torch.float64)
        places = drawn(lambda: torch.rand(tuple(shape), dtype=torch.float64, generator=self.generator, device=device))
        return torch.searchsorted(sums, places, right=True)  # below n: the last sum is 1, the places are below it

    def log_density(self, rows: Tensor, n: int) -> Tensor:
        """``log Q`` of rows of n keys: float64 of their shape; −inf where the count is 0."""
        if self._log_density is None:
            return torch.full(rows.shape, -math.log(n), dtype=torch.float64, device=rows.device)
        return self._log_density.view(torch.float64)[rows]


def _check_counts(counts: Tensor) -> None:
    if not isinstance(counts, Tensor):
        raise LikewiseError(f"counts must be a tensor (n,), one number per key, but are {counts!r}.")
    if counts.ndim != 1 or len(counts) == 0 or counts.is_complex():
        raise LikewiseError(f"counts {tuple(counts.shape)} must be (n,) real numbers, one per key.")
    if not counts.isfinite().all() or (counts < 0).any() or not (counts > 0).any():
        raise LikewiseError("counts must be finite, 0 or more, and not all 0.")


def _to_bits(values: Tensor | None, counts: Tensor | None) -> Tensor | None:
    return None if values is None or counts is None else values.view(torch.int64).to(counts.device)


def sampled_logsumexp(
    queries: Tensor,
    keys: Tensor,
    noise: Noise,
    samples: int,
    hits: Callable[[Tensor], Tensor],
    *,
    unit_keys: bool = False,
) -> Tensor:
    """``log Σ_{j ∈ S} exp(q·k_j − log(m Q(j)))`` of each query, over m draws S from Q, one set for all queries.

    Without the logarithm it is expected to be the sum of exp(q·k_j) over all keys that are no hits. Only the keys that
    are drawn are read, and have a gradient.

    Args:
        queries: (B, D), float32 or float64; their product with a key is its logit.
        keys: (n, D), any floating dtype.
        noise: Q.
        samples: m.
        hits: (m,) rows of keys → (B, m) bool: the draws that a query leaves out.
        unit_keys: whether to scale the keys to unit length.

    Returns:
        (B,) in the queries' dtype; its lowest number, nearly, where every draw is a hit.
    """
    n = len(keys)
    rows = noise.draw((samples,), n, keys.device)  # (m,)
    expected = noise.log_density(rows, n) + math.log(samples)  # log(m Q)
    sampled = functional.embedding(rows, keys).to(queries.dtype)  # (m, D)
    logits = product(queries, (unit(sampled) if unit_keys else sampled).T) - expected.to(queries.dtype)  # (B, m)
    logits = logits.masked_fill(hits(rows), torch.finfo(logits.dtype).min)  # finite: no row of NaN gradients
    return logits.logsumexp(1)


class SampledSoftmax(InstanceObjective):
    """Sampled softmax (Jean et al. 2015, §3): cross-entropy against m sampled keys, corrected for how often they come.

    ``−log[e^{s_t} / (e^{s_t} + Σ_{j ∈ S, j ≠ t} e^{s_j − log(m Q(j))})]`` with ``s = q·k/τ``, the target t and m draws
    S from Q, one set for the batch; draws with the target's id (accidental hits) are left out of its row.

    Relations: estimates NonParametricSoftmax: the sum under the logarithm is without bias Σ_j e^{s_j}, since a key is
    expected m Q(j) times in S and the target comes once for certain, so that its correction is log 1 = 0. The loss
    and its gradient tend to the full softmax's as m grows. With the same m and uniform Q, InfoNCE against S leaves the
    correction log(n/m) out. Chance level is about log n.
    Departures: the paper walks through subsets that each contain their targets, where Q is constant and cancels; here
    S is drawn anew at each call, with replacement. Candidate-sampling codes subtract the log expected count of the
    target from its own logit too; where draws repeat that count passes 1, and the target's term would vanish from the
    sum as m grows.
    Cost: one matrix product, 2·B·m·D flops forwards and twice that backwards; B·m floats. The keys' gradient is a dense
    n·D.
    Paper: Jean et al., On Using Very Large Target Vocabulary for Neural Machine Translation, ACL 2015, §3.

    Args:
        samples: m, drawn with replacement.
        temperature: τ; 1 for plain inner products, as in the paper. With others the queries are unit rows.
        counts: (n,) how often each key occurs; Q is proportional to them. None: Q is uniform, as in a run.
        generator: where samples are drawn from; on the keys' device. Default: torch's own, which a full compiled graph
            needs.
        reduction: "mean", "sum" or "none" over the queries with a positive.
    """

    joins_rows = True  # what is drawn is the whole batch's

    def __init__(
        self,
        *,
        samples: int = 4096,
        temperature: float = 0.07,
        counts: Tensor | None = None,
        generator: torch.Generator | None = None,
        reduction: How = "mean",
    ) -> None:
        super().__init__(reduction, unit_rows=temperature != 1)
        self.samples = at_least_one("samples", samples, "thousands are usual")
        self.temperature = above_zero("temperature", temperature, TEMPERATURE_ADVICE)
        self.noise = Noise(counts, generator=generator)

    def extra_repr(self) -> str:
        """The parameters."""
        return f"samples={self.samples}, temperature={self.temperature}, reduction={self.reduce.how!r}"

    def row_losses(self, queries: Tensor, keys: Tensor, match: Match) -> Tensor:
        """§3 with accidental hits removed."""
        scaled = queries / self.temperature
        positive = (scaled * functional.embedding(match.rows, keys).to(queries.dtype)).sum(1)  # (B,)
        return softplus(sampled_logsumexp(scaled, keys, self.noise, self.samples, match.hits) - positive)

    def pair_loss(self, s_p: Tensor, s_n: Tensor) -> Tensor:
        """The loss with one other key that stands for itself, m Q = 1, elementwise."""
        return softplus((s_n - s_p) / self.temperature)

    def chance(self, n: int) -> float:
        """The loss of an embedding that tells nothing apart, for many samples: log n."""
        return math.log(n)


class NegativeSampling(InstanceObjective):
    """Skip-gram's negative sampling (Mikolov et al. 2013, eq. 4): tell the true key from a few sampled ones.

    ``−log σ(u_o·v_c) − Σ_{i ≤ k} log σ(−u_{w_i}·v_c)`` with ``w_i ~ U^0.75``, U the keys' counts. For skip-gram call
    ``objective(v[centre], context_ids, u)``, v and u the two tables of vectors. Features are raw: not normalised.

    Relations: NCE's binary loss (:func:`noise_contrastive`) with Z k P_n ≡ 1, a shift of 0: so it estimates no density.
    Where vectors are free its optimum is u·v = PMI − log k for noise U; SampledSoftmax on the same samples does
    estimate the softmax.
    Departures: none from eq. 4, where a draw may be the positive itself; the released program skips such draws.
    Cost: 2·B·k·D flops forwards over B·k gathered rows, B·k·D floats; the keys' gradient is a dense n·D. "shared" is
    one matrix product, whose draws correlate within a batch.
    Paper: Mikolov et al., Distributed Representations of Words and Phrases and their Compositionality, NIPS 2013,
    eq. 4.

    Args:
        samples: k; the paper's 5–20 for small data, 2–5 for large.
        counts: (n,) how often each key occurs, U. None: U is uniform, as in a run.
        power: of the counts.
        draw: "per-example" draws k keys for each query, as in the paper; "shared" k for the whole batch.
        generator: where samples are drawn from; on the keys' device. Default: torch's own, which a full compiled graph
            needs.
        reduction: "mean", "sum" or "none" over the queries with a positive.
    """

    joins_rows = True  # what is drawn is the whole batch's

    def __init__(
        self,
        *,
        samples: int = 5,
        counts: Tensor | None = None,
        power: float = 0.75,
        draw: NoiseDraw = "per-example",
        generator: torch.Generator | None = None,
        reduction: How = "mean",
    ) -> None:
        super().__init__(reduction)
        self.samples = at_least_one("samples", samples, "word2vec uses 2 to 20")
        self.draw = one_of("draw", draw, DRAWS)
        self.noise = Noise(counts, power=power, generator=generator)

    def extra_repr(self) -> str:
        """The parameters."""
        return f"samples={self.samples}, draw={self.draw!r}, reduction={self.reduce.how!r}"

    def row_losses(self, queries: Tensor, keys: Tensor, match: Match) -> Tensor:
        """Eq. 4."""
        shape = (self.samples,) if self.draw == "shared" else (len(queries), self.samples)
        rows = self.noise.draw(shape, len(keys), keys.device)
        sampled = functional.embedding(rows, keys).to(queries.dtype)  # (k, D) or (B, k, D)
        positive = (queries * functional.embedding(match.rows, keys).to(queries.dtype)).sum(1)  # (B,)
        noise = product(queries, sampled.T) if rows.ndim == 1 else product(sampled, queries.unsqueeze(2)).squeeze(2)
        return noise_contrastive(positive, noise)

    def pair_loss(self, s_p: Tensor, s_n: Tensor) -> Tensor:
        """The loss with one of the k samples shown, elementwise; s are inner products."""
        return noise_contrastive(s_p.reshape(-1), s_n.reshape(-1, 1)).reshape(s_p.shape)

    def chance(self, n: int) -> float:
        """The loss where all inner products are 0, whatever n is: (k + 1) log 2."""
        return (self.samples + 1) * math.log(2)
