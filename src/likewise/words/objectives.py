"""What tells a word's neighbours from noise, for blocks of words that share their noise.

Dimension legend: G blocks, C queries of a block, P pairs of a query, N noise words of a block, k noise words of a pair.

A query is a vector: a word's (skip-gram), or the mean of its neighbours' (CBOW). Each objective has a ``loss`` and its
``slopes``: the derivatives by every score, written out, so that a step needs no graph of autograd. The N noise words of
a block stand for the k that each pair would draw: they count k/N times for each pair of a query.
"""

import math
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from likewise.config.word_settings import LogZ, NoiseSettings
from likewise.words.adagrad import descend_number

DECAY = 0.95  # of the estimate of log Z


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The scores of a step: inner products of queries with the vectors of other words.

    Args:
        pairs: (G, C, P) float, of a query with the words that occurred with it.
        noise: (G, C, N) float, of a query with the noise of its block.
        weights: (G, C, P) float, how often a pair counts; 0 where there is none.
        pair_words: (G, C, P) int64, the other word of each pair.
        noise_words: (G, N) int64.
    """

    pairs: Tensor
    noise: Tensor
    weights: Tensor
    pair_words: Tensor
    noise_words: Tensor


Slopes = tuple[Tensor, Tensor]  # (G, C, P) and (G, C, N): the derivatives of the loss by pairs and noise


class WordObjective(Protocol):
    """A loss that is summed over all pairs of a step, with its derivatives."""

    def loss(self, scores: Scores) -> Tensor:
        """() the sum over all pairs."""

    def slopes(self, scores: Scores) -> Slopes:
        """The derivatives of ``loss`` by the scores of pairs and noise."""

    def learn(self, scores: Scores, slopes: Slopes, lr: float) -> None:
        """Steps what the objective itself learns."""

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps; the tensors themselves."""


def binary_loss(pairs: Tensor, noise: Tensor, weights: Tensor, k: float) -> Tensor:
    """() ``Σ w [softplus(−s_p) + k/N Σ_j softplus(s_j)]`` over logits of pairs (…, P) and of noise (…, N)."""
    mass = weights.sum(-1) * (k / noise.shape[-1])
    return (weights * functional.softplus(-pairs)).sum() + (mass * functional.softplus(noise).sum(-1)).sum()


def binary_slopes(pairs: Tensor, noise: Tensor, weights: Tensor, k: float) -> Slopes:
    """The derivatives of :func:`binary_loss`: ``w (σ(s_p) − 1)`` and ``k/N (Σ w) σ(s_j)``."""
    mass = weights.sum(-1, keepdim=True) * (k / noise.shape[-1])
    return torch.sigmoid(pairs).sub_(1).mul_(weights), torch.sigmoid(noise).mul_(mass)


@dataclass(frozen=True)
class NegativeSampling:
    """Skip-gram's negative sampling (Mikolov et al. 2013, eq. 4): ``−log σ(u_o·v_c) − k E_{w ~ Q} log σ(−u_w·v_c)``.

    Relations: :class:`NCE` with Z k Q ≡ 1, so its optimum is no density: u·v = PMI − log k for noise Q by counts
    (Levy and Goldberg 2014), and PMI with log Q in the place of log P otherwise.
    Departures: the expectation is over N words that a block shares, in place of k of each pair's own.
    Paper: Mikolov et al., Distributed Representations of Words and Phrases and their Compositionality, NIPS 2013.

    Args:
        k: noise words for each pair; the paper's 5–20 for small data, 2–5 for large.
    """

    k: float = 5.0

    def loss(self, scores: Scores) -> Tensor:
        """Eq. 4."""
        return binary_loss(scores.pairs, scores.noise, scores.weights, self.k)

    def slopes(self, scores: Scores) -> Slopes:
        """See :class:`WordObjective`."""
        return binary_slopes(scores.pairs, scores.noise, scores.weights, self.k)

    def learn(self, scores: Scores, slopes: Slopes, lr: float) -> None:
        """Nothing: the objective has no parameters."""

    def state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}


@dataclass(frozen=True)
class NCE:
    """Noise-contrastive estimation (Gutmann and Hyvärinen 2010; Mnih and Kavukcuoglu 2013, eq. 5–8).

    ``h(w, c) = σ(u_w·v_c − log Z − log(k Q(w)))`` is the probability that w is c's neighbour and not one of k noise
    words; the loss of a pair is ``−log h(o, c) − k E_{w ~ Q} log(1 − h(w, c))``.

    Relations: the optimum is u·v = log P(w | c) + log Z: it estimates the density, where :class:`NegativeSampling`
    estimates PMI − log k.
    Departures: one Z for all queries; the paper fixes it to 1. An estimate of Z is averaged in logs, where the memory
    bank averages Z itself: inner products have no bound, so that one large score would set Z, and Z all scores.
    Noise is shared as in :class:`NegativeSampling`.
    Paper: Mnih and Kavukcuoglu, Learning word embeddings efficiently with noise-contrastive estimation, NIPS 2013.

    Args:
        k: noise words for each pair; the paper's 1–25.
        log_q: (n,) float, log Q of every word.
        kind: of Z: "one" fixes it to 1; "learned" descends the loss by log Z; "estimated" is a moving average of the
            mean over queries of ``log Σ_w exp(u_w·v_c)``, which the block's noise estimates.
        log_z: () float, the current log Z.
        total: () float, its sum of squares (AdaGrad).
    """

    k: float
    log_q: Tensor
    kind: LogZ = "one"
    log_z: Tensor = field(default_factory=lambda: torch.zeros(()))
    total: Tensor = field(default_factory=lambda: torch.zeros(()))

    def loss(self, scores: Scores) -> Tensor:
        """Eq. 8."""
        return binary_loss(*self._logits(scores), scores.weights, self.k)

    def slopes(self, scores: Scores) -> Slopes:
        """See :class:`WordObjective`."""
        return binary_slopes(*self._logits(scores), scores.weights, self.k)

    def learn(self, scores: Scores, slopes: Slopes, lr: float) -> None:
        """Steps log Z, where it is learned or estimated."""
        if self.kind == "learned":
            descend_number(self.log_z, self.total, -(slopes[0].sum() + slopes[1].sum()), lr)
        elif self.kind == "estimated":
            each = scores.noise - self.log_q[scores.noise_words].unsqueeze(1)  # (G, C, N)
            now = (each.logsumexp(2) - math.log(each.shape[2])).mean()
            self.log_z.mul_(DECAY).add_(now, alpha=1 - DECAY)

    def state(self) -> dict[str, Tensor]:
        """See :class:`WordObjective`."""
        return {"log_z": self.log_z, "log_z_total": self.total}

    def _logits(self, scores: Scores) -> tuple[Tensor, Tensor]:
        shift = self.log_q + (math.log(self.k) + self.log_z)
        return scores.pairs - shift[scores.pair_words], scores.noise - shift[scores.noise_words].unsqueeze(1)


@dataclass(frozen=True)
class SampledSoftmax:
    """Sampled softmax (Jean et al. 2015, §3): cross-entropy of a pair against the noise of its block.

    ``−s_o + log[e^{s_o} + Σ_{j: w_j ≠ o} e^{s_j − log(N Q(w_j))}]``; noise that is the pair's own word is left out.

    Relations: estimates the softmax over all words, whose optimum is log P(w | c) plus any number for each query.
    Departures: drawn with replacement, anew for each block.
    Cost: G·C·P·N exponentials, as each pair leaves out its own word; more than the binary objectives.
    Paper: Jean et al., On Using Very Large Target Vocabulary for Neural Machine Translation, ACL 2015, §3.

    Args:
        log_q: (n,) float, log Q of every word.
    """

    log_q: Tensor

    def loss(self, scores: Scores) -> Tensor:
        """§3."""
        return (scores.weights * functional.softplus(self._others(scores).logsumexp(-1) - scores.pairs)).sum()

    def slopes(self, scores: Scores) -> Slopes:
        """See :class:`WordObjective`."""
        others = self._others(scores)  # (G, C, P, N)
        total = others.logsumexp(-1)  # (G, C, P)
        wrong = torch.sigmoid(total - scores.pairs).mul_(scores.weights)  # 1 − the pair's share of the sum
        shares = others.sub_(total.unsqueeze(-1)).exp_()
        return -wrong, torch.einsum("gcp,gcpn->gcn", wrong, shares)

    def learn(self, scores: Scores, slopes: Slopes, lr: float) -> None:
        """Nothing: the objective has no parameters."""

    def state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def _others(self, scores: Scores) -> Tensor:
        """(G, C, P, N) corrected scores of the noise beside each pair; the lowest number for its own word."""
        shift = self.log_q[scores.noise_words] + math.log(scores.noise.shape[-1])  # (G, N)
        corrected = (scores.noise - shift.unsqueeze(1)).unsqueeze(2)
        hits = scores.pair_words.unsqueeze(-1) == scores.noise_words[:, None, None]
        return corrected.masked_fill(hits, torch.finfo(corrected.dtype).min / 2)


def built(kind: str, settings: NoiseSettings, log_q: Tensor) -> WordObjective:
    """The objective of a run, by its name in the table of objectives; ``log_q`` (n,) is the log of the noise."""
    if kind == "nce":
        begin = math.log(len(log_q)) if settings.log_z == "estimated" else 0.0  # Z of vectors that are 0
        return NCE(settings.samples, log_q, settings.log_z, torch.tensor(begin))
    if kind == "sampled-softmax":
        return SampledSoftmax(log_q)
    return NegativeSampling(settings.samples)
