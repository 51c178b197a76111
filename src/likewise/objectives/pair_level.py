"""Pair-level objectives: within-class similarities s_p up, between-class similarities s_n down (Sun et al. 2020).

Dimension legend: Q queries, K keys, D dimensions; in a rule R rows of a tile, P positives of a row at most.

Every class here is one rule, ``rows``: the loss of an anchor from its similarities ``s_p`` (R, P) and ``s_n`` (R, K)
and their masks. :mod:`likewise.kernels.row_losses` evaluates it in tiles, or whole as its naive twin. Rows are expected
on the unit sphere, unless the class says otherwise; distances are Euclidean there, ``D² = 2 − 2s``.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from likewise.alike import Listed
from likewise.errors import LikewiseError
from likewise.kernels.numerics import at_least_float32, found, logaddexp, masked_logsumexp, mean_over, softplus
from likewise.objectives.base import How, PairObjective
from likewise.objectives.checks import above_zero

__all__ = ["Circle", "InfoNCE", "MultiSimilarity", "NPair", "NTXent", "SupCon", "UnifiedPairSimilarity"]


class UnifiedPairSimilarity(PairObjective):
    """The unified loss that class-level and pair-level learning share (Sun et al. 2020, eq. 1).

    ``L = log[1 + Σ_i Σ_j exp(γ (s_n^j − s_p^i + m))] = softplus(lse_j γ(s_n^j + m) + lse_i −γ s_p^i)`` for each anchor.

    Relations: with class proxies as keys (one positive) AM-softmax with s = γ; then m = 0 NormFace; then γ = 1 and
    inner products softmax. L/γ tends to the triplet hinge of the hardest pair, [max(s_n − s_p + m)]₊, as γ → ∞.
    Circle re-weighs each similarity by its distance from its optimum.
    Departures: none.
    Cost: one row reduction: 6·Q·K·D flops, a tile of memory.
    Paper: Sun et al., Circle Loss, CVPR 2020, eq. 1.

    Args:
        gamma: γ, the scale.
        margin: m.
        reduction: "mean", "sum" or "none" over the anchors with a positive and a negative.
    """

    def __init__(self, *, gamma: float = 80.0, margin: float = 0.4, reduction: How = "mean") -> None:
        super().__init__(reduction)
        self.gamma, self.margin = above_zero("gamma", gamma, "the Circle paper uses 80 to 256"), margin

    def extra_repr(self) -> str:
        """The parameters."""
        return f"gamma={self.gamma}, margin={self.margin}, reduction={self.reduce.how!r}"

    def rows(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 1."""
        pull = masked_logsumexp(s_p, positive, -self.gamma)
        push = masked_logsumexp(s_n, negative, self.gamma) + self.gamma * self.margin
        return softplus(pull + push), found(pull, push)


class Circle(PairObjective):
    """Circle loss (Sun et al. 2020, eq. 6): each similarity is paced by how far it is from its optimum.

    ``L = log[1 + Σ_j exp(γ α_n^j (s_n^j − Δ_n)) Σ_i exp(−γ α_p^i (s_p^i − Δ_p))]`` with ``α_p = [O_p − s_p]₊``,
    ``α_n = [s_n − O_n]₊`` taken as constants, ``O_p = 1 + m, O_n = −m, Δ_p = 1 − m, Δ_n = m``.
    The decision boundary is the circle ``s_n² + (1 − s_p)² = 2m²``; trained pairs are expected at s_p > 1 − m, s_n < m.

    Relations: UnifiedPairSimilarity with per-similarity weights; CircleClassifier is its class-level form.
    Departures: none. α carries no gradient of any order, as eqs. 9–10 need; with it, gradients would be 1.4 to 1.5
    times larger. Per anchor; TinyZeaMays' code pools all pairs of the batch in one log-sum-exp.
    Cost: one row reduction: 6·Q·K·D flops, a tile of memory.
    Paper: Sun et al., Circle Loss, CVPR 2020, eq. 6.

    Args:
        gamma: γ; the paper's 80 for retrieval, 128 for re-identification, 256 for faces.
        margin: m; the paper's 0.4 for retrieval, 0.25 for the others.
        reduction: "mean", "sum" or "none" over the anchors with a positive and a negative.
    """

    def __init__(self, *, gamma: float = 80.0, margin: float = 0.4, reduction: How = "mean") -> None:
        super().__init__(reduction)
        self.gamma, self.margin = above_zero("gamma", gamma, "the paper uses 80 to 256"), margin

    def extra_repr(self) -> str:
        """The parameters."""
        return f"gamma={self.gamma}, margin={self.margin}, reduction={self.reduce.how!r}"

    def rows(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 6."""
        m = self.margin
        alpha_p, alpha_n = (1 + m - s_p.detach()).clamp_(min=0), (s_n.detach() + m).clamp_(min=0)
        pull = masked_logsumexp(alpha_p * (s_p - (1 - m)), positive, -self.gamma)
        push = masked_logsumexp(alpha_n * (s_n - m), negative, self.gamma)
        return softplus(pull + push), found(pull, push)


class InfoNCE(PairObjective):
    """InfoNCE, also NT-Xent: pick the positive among the negatives, as softmax cross-entropy at temperature τ.

    ``positives="each"``: ``mean over p of −log[e^{s_p/τ} / (e^{s_p/τ} + Σ_n e^{s_n/τ})]``, each positive alone against
    the negatives; ``"sum"``: ``−log[Σ_p e^{s_p/τ} / (Σ_p e^{s_p/τ} + Σ_n e^{s_n/τ})]``, any positive will do. With one
    positive they are the same: MoCo's eq. 1 against a queue, SimCLR's NT-Xent over the 2N views of a batch.

    Relations: at τ = 1 on raw features N-pair; against a whole bank NonParametricSoftmax; with one positive both are
    UnifiedPairSimilarity at γ = 1/τ and m = 0. SupCon keeps the other positives in each denominator.
    Chance level with K keys is log K with one positive.
    Departures: SimCLR's repository adds up the losses of the two views (twice this); v3 of MoCo multiplies by 2τ.
    Cost: one row reduction: 6·Q·K·D flops, a tile of memory.
    Paper: van den Oord et al. 2018; He et al., MoCo, CVPR 2020, eq. 1; Chen et al., SimCLR, ICML 2020.

    Args:
        temperature: τ; MoCo 0.07, MoCo v2 0.2, SimCLR 0.1 to 0.5.
        positives: how an anchor's several positives enter.
        reduction: "mean", "sum" or "none" over the anchors with a positive and a negative.
    """

    def __init__(
        self, *, temperature: float = 0.1, positives: Literal["each", "sum"] = "each", reduction: How = "mean"
    ) -> None:
        super().__init__(reduction)
        if positives not in ("each", "sum"):
            raise LikewiseError(f"positives={positives!r} must be 'each' or 'sum'.")
        self.temperature = above_zero("temperature", temperature, "MoCo uses 0.07, SimCLR 0.1 to 0.5")
        self.positives = positives

    def extra_repr(self) -> str:
        """The parameters."""
        return f"temperature={self.temperature}, positives={self.positives!r}, reduction={self.reduce.how!r}"

    def rows(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """MoCo eq. 1 per positive, or with their sum."""
        pull, push = s_p / self.temperature, masked_logsumexp(s_n, negative, 1 / self.temperature)
        if self.positives == "sum":
            losses = softplus(push - masked_logsumexp(pull, positive))
        else:
            losses = mean_over(softplus(push[:, None] - pull), positive)
        return losses, positive.any(1) & found(push)

    def chance(self, n: int) -> float:
        """With one positive among n keys: log n."""
        return math.log1p(n - 1)


NTXent = InfoNCE


class SupCon(PairObjective):
    """Supervised contrastive loss (Khosla et al. 2020, eq. 2, L_out).

    ``L = −1/|P| Σ_p log[e^{s_p/τ} / Σ_{a ≠ i} e^{s_a/τ}]``: every other row, alike or not, is in the denominator.

    Relations: InfoNCE "each" leaves the anchor's other positives out of the denominator; with one positive the two are
    the same. An anchor with positives and no negatives counts here.
    Departures: the paper's code scales the loss by τ/τ_base, 1 at its defaults; here there is no such factor.
    Cost: one row reduction: 6·Q·K·D flops, a tile of memory.
    Paper: Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, eq. 2.

    Args:
        temperature: τ; the paper's 0.1 (its code's default is 0.07).
        reduction: "mean", "sum" or "none" over the anchors with a positive.
    """

    def __init__(self, *, temperature: float = 0.1, reduction: How = "mean") -> None:
        super().__init__(reduction, "a positive")
        self.temperature = above_zero("temperature", temperature, "the paper uses 0.1")

    def extra_repr(self) -> str:
        """The parameters."""
        return f"temperature={self.temperature}, reduction={self.reduce.how!r}"

    def rows(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 2."""
        pull = s_p / self.temperature
        everything = logaddexp(masked_logsumexp(pull, positive), masked_logsumexp(s_n, negative, 1 / self.temperature))
        return everything - mean_over(pull, positive), positive.any(1)


class NPair(PairObjective):
    """Multi-class N-pair loss (Sohn 2016, eq. 8) with its penalty on the features' length.

    ``L = log[1 + Σ_n exp(f·f_n − f·f_p)]``, averaged over the anchor's positives, plus ``λ ‖f‖²``. The features are
    raw: not normalised.

    Relations: InfoNCE "each" at τ = 1 on inner products, plus the penalty.
    Departures: in the paper, which has one pair per class, an anchor's negatives are the positives of the N − 1 other
    pairs. Here a batch of N pairs has both rows of each other pair as negatives, 2(N − 1), and both rows as anchors;
    ``objective(anchors, ids, positives, ids)`` is the paper's. Any number of positives does. pytorch-metric-learning's
    N-pair normalises the rows by default, which is InfoNCE at τ = 1.
    Cost: one row reduction: 6·Q·K·D flops, a tile of memory.
    Paper: Sohn, Improved Deep Metric Learning with Multi-class N-pair Loss Objective, NIPS 2016, eq. 8 and §3.2.3.

    Args:
        penalty: λ of ``‖f‖²``, of each query.
        reduction: "mean", "sum" or "none" over the anchors with a positive and a negative.
    """

    def __init__(self, *, penalty: float = 0.002, reduction: How = "mean") -> None:
        super().__init__(reduction, unit_rows=False)
        self.penalty = penalty

    def extra_repr(self) -> str:
        """The parameters."""
        return f"penalty={self.penalty}, reduction={self.reduce.how!r}"

    def row_inputs(self, queries: Tensor, ids: Tensor | Listed) -> Sequence[Tensor]:
        """``λ ‖f‖²`` of each query, (Q,)."""
        return (self.penalty * at_least_float32(queries).square().sum(1),)

    def rows(  # type: ignore[override]
        self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor, penalty: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Eq. 8 and the penalty."""
        push = masked_logsumexp(s_n, negative)
        return mean_over(softplus(push[:, None] - s_p), positive) + penalty, positive.any(1) & found(push)

    def pair_loss(self, s_p: Tensor, s_n: Tensor) -> Tensor:
        """log(1 + exp(s_n − s_p)), elementwise, without the penalty."""
        return softplus(s_n - s_p)


class MultiSimilarity(PairObjective):
    """Multi-similarity loss (Wang et al. 2019, eq. 15) with its mining (eqs. 11–12).

    ``L = 1/α log[1 + Σ_P exp(−α(s − λ))] + 1/β log[1 + Σ_N exp(β(s − λ))]`` over the pairs that mining keeps: a
    negative when ``s_n > min_P s_p − ε``, a positive when ``s_p < max_N s_n + ε``. Mining has no gradient.

    Relations: with ε = None (no mining) two independent soft maxima; UnifiedPairSimilarity joins them in one.
    Departures: defaults are pytorch-metric-learning's (2, 50, 0.5); the paper has λ = 1, the authors' code β = 40 and
    λ = 0.5, and drops positives with s ≥ 1 − 1e-5. Mean over the anchors with a positive and a negative; the authors'
    code divides by the batch.
    Cost: one row reduction and two row extrema: 6·Q·K·D flops, a tile of memory.
    Paper: Wang et al., Multi-Similarity Loss with General Pair Weighting, CVPR 2019, eqs. 11, 12, 15.

    Args:
        alpha: α, of the positives.
        beta: β, of the negatives.
        base: λ.
        epsilon: ε of the mining; None: no mining.
        reduction: "mean", "sum" or "none" over the anchors with a positive and a negative.
    """

    def __init__(
        self,
        *,
        alpha: float = 2.0,
        beta: float = 50.0,
        base: float = 0.5,
        epsilon: float | None = 0.1,
        reduction: How = "mean",
    ) -> None:
        super().__init__(reduction)
        self.alpha, self.beta = above_zero("alpha", alpha, "2 here"), above_zero("beta", beta, "50 here")
        self.base, self.epsilon = base, epsilon

    def extra_repr(self) -> str:
        """The parameters."""
        return (
            f"alpha={self.alpha}, beta={self.beta}, base={self.base}, epsilon={self.epsilon}, "
            f"reduction={self.reduce.how!r}"
        )

    def rows(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 15 over the pairs of eqs. 11–12."""
        hardest_p = torch.where(positive, s_p.detach(), torch.inf).amin(1, keepdim=True)
        negatives = torch.where(negative, s_n.detach(), -torch.inf)
        hardest_n = negatives.amax(1, keepdim=True)
        if self.epsilon is not None:
            positive = positive & (s_p < hardest_n + self.epsilon)
            negative = negatives > hardest_p - self.epsilon
        pull = softplus(masked_logsumexp(s_p, positive, -self.alpha) + self.alpha * self.base)
        push = softplus(masked_logsumexp(s_n, negative, self.beta) - self.beta * self.base)
        return pull / self.alpha + push / self.beta, (hardest_p.isfinite() & hardest_n.isfinite()).squeeze(1)
