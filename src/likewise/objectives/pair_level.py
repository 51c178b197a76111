"""Pair-level objectives: they raise the similarities s_p to positives and lower the similarities s_n to negatives.

Dimension legend: Q queries, K keys, D dimensions; in a rule R rows of a tile, P positives of a row at most.

Every class here states one rule, ``rows``: the loss of an anchor from its similarities ``s_p`` (R, P) and ``s_n``
(R, K) and their masks. :mod:`likewise.kernels.row_losses` evaluates the rule tile by tile; on the whole matrix the rule
is its own naive twin. Queries and keys are unit rows, unless the class says otherwise. A distance D is Euclidean; for
unit rows ``D² = 2 − 2s``.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from likewise.alike import Listed
from likewise.errors import LikewiseError, above_zero, finite
from likewise.kernels.numerics import at_least_float32, logaddexp, masked_logsumexp, mean_over, nonempty, softplus
from likewise.objectives.base import How, PairObjective

__all__ = ["Circle", "InfoNCE", "MultiSimilarity", "NPair", "NTXent", "SupCon", "UnifiedPairSimilarity"]


class UnifiedPairSimilarity(PairObjective):
    """The unified loss of class-level and pair-level learning (Sun et al. 2020, eq. 1).

    ``L = log[1 + Σ_i Σ_j exp(γ (s_n^j − s_p^i + m))] = softplus(lse_j γ(s_n^j + m) + lse_i −γ s_p^i)`` for each anchor.

    Relations: with class proxies as keys, so with one positive, it is AMSoftmax with s = γ. With m = 0 as well it is
    NormFace; with γ = 1 and inner products as well it is Softmax. As γ → ∞, L/γ tends to the triplet hinge of the
    hardest positive and negative, [max(s_n − s_p + m)]₊. Circle weights each similarity by its distance from its
    optimum.
    Departures: none.
    Cost: 6·Q·K·D flops with the gradient; memory for about ten tiles, never for Q×K.
    Paper: Sun et al., Circle Loss, CVPR 2020, eq. 1.

    Args:
        gamma: γ, the scale; above 0.
        margin: m, added to each s_n.
        reduction: "mean", "sum" or "none" over the anchors with a positive and a negative.
    """

    def __init__(self, *, gamma: float = 80.0, margin: float = 0.4, reduction: How = "mean") -> None:
        super().__init__(reduction)
        self.gamma, self.margin = (
            above_zero("gamma", gamma, "the Circle paper uses 80 to 256"),
            finite("margin", margin),
        )

    def extra_repr(self) -> str:
        """The parameters."""
        return f"gamma={self.gamma}, margin={self.margin}, reduction={self.reduce.how!r}"

    def rows(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 1."""
        pull = masked_logsumexp(s_p, positive, -self.gamma)
        push = masked_logsumexp(s_n, negative, self.gamma) + self.gamma * self.margin
        return softplus(pull + push), nonempty(pull, push)


class Circle(PairObjective):
    """Circle loss (Sun et al. 2020, eq. 6): a similarity far from its optimum has a large weight.

    ``L = log[1 + Σ_j exp(γ α_n^j (s_n^j − Δ_n)) Σ_i exp(−γ α_p^i (s_p^i − Δ_p))]`` with ``α_p = [O_p − s_p]₊``,
    ``α_n = [s_n − O_n]₊``, constants for the gradient, and ``O_p = 1 + m, O_n = −m, Δ_p = 1 − m, Δ_n = m``.
    The decision boundary is the circle ``s_n² + (1 − s_p)² = 2m²``. Training aims at s_p > 1 − m and s_n < m.

    Relations: UnifiedPairSimilarity with a weight for each similarity. CircleClassifier is the class-level form.
    Departures: none. No gradient of any order passes through α, as in the paper's eqs. 9–10; with it the total
    gradient is 1.4 to 1.5 times larger in a small example. The loss is that of each anchor; TinyZeaMays' code sums
    over all pairs of the batch in one log-sum-exp.
    Cost: 6·Q·K·D flops with the gradient; memory for about ten tiles, never for Q×K.
    Paper: Sun et al., Circle Loss, CVPR 2020, eq. 6.

    Args:
        gamma: γ, above 0; the paper uses 80 for retrieval, 128 for re-identification, 256 for faces.
        margin: m; the paper uses 0.4 for retrieval, 0.25 for re-identification and faces.
        reduction: "mean", "sum" or "none" over the anchors with a positive and a negative.
    """

    def __init__(self, *, gamma: float = 80.0, margin: float = 0.4, reduction: How = "mean") -> None:
        super().__init__(reduction)
        self.gamma, self.margin = above_zero("gamma", gamma, "the paper uses 80 to 256"), finite("margin", margin)

    def extra_repr(self) -> str:
        """The parameters."""
        return f"gamma={self.gamma}, margin={self.margin}, reduction={self.reduce.how!r}"

    def rows(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 6."""
        m = self.margin
        alpha_p, alpha_n = (1 + m - s_p.detach()).clamp_(min=0), (s_n.detach() + m).clamp_(min=0)
        pull = masked_logsumexp(alpha_p * (s_p - (1 - m)), positive, -self.gamma)
        push = masked_logsumexp(alpha_n * (s_n - m), negative, self.gamma)
        return softplus(pull + push), nonempty(pull, push)


class InfoNCE(PairObjective):
    """InfoNCE, also called NT-Xent: softmax cross-entropy of the positive among the negatives at temperature τ.

    With ``positives="each"``: ``mean over p of −log[e^{s_p/τ} / (e^{s_p/τ} + Σ_n e^{s_n/τ})]``. Each positive alone
    is compared with the negatives. With ``positives="sum"``: ``−log[Σ_p e^{s_p/τ} / (Σ_p e^{s_p/τ} + Σ_n e^{s_n/τ})]``.
    One near positive is then enough. With one positive both are the same: MoCo's eq. 1 against a queue, SimCLR's
    NT-Xent over the 2N views of a batch.

    Relations: at τ = 1 on rows of any length it is NPair without the penalty; against a whole bank it is
    NonParametricSoftmax; with one positive it is UnifiedPairSimilarity at γ = 1/τ and m = 0. SupCon keeps the other
    positives in each denominator. The chance level is log K with K keys and one positive.
    Departures: SimCLR's repository adds the losses of the two views, which is twice this loss. MoCo v3 multiplies the
    loss by 2τ.
    Cost: 6·Q·K·D flops with the gradient; memory for about ten tiles, never for Q×K.
    Paper: van den Oord et al. 2018; He et al., MoCo, CVPR 2020, eq. 1; Chen et al., SimCLR, ICML 2020.

    Args:
        temperature: τ, above 0; MoCo uses 0.07, MoCo v2 0.2, SimCLR 0.1 to 0.5.
        positives: "each" or "sum": how several positives of an anchor enter the loss.
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
        """MoCo's eq. 1 for each positive, or for the sum of the positives."""
        pull, push = s_p / self.temperature, masked_logsumexp(s_n, negative, 1 / self.temperature)
        if self.positives == "sum":
            losses = softplus(push - masked_logsumexp(pull, positive))
        else:
            losses = mean_over(softplus(push[:, None] - pull), positive)
        return losses, positive.any(1) & nonempty(push)

    def chance(self, n: int) -> float:
        """The loss of an embedding that can't distinguish items, with one positive among n keys: log n."""
        return math.log1p(n - 1)


NTXent = InfoNCE


class SupCon(PairObjective):
    """Supervised contrastive loss (Khosla et al. 2020, eq. 2, L_out).

    ``L = −1/|P| Σ_p log[e^{s_p/τ} / Σ_{a ≠ i} e^{s_a/τ}]`` for anchor i. The denominator has every other row, positive
    or negative.

    Relations: InfoNCE with positives="each" leaves the anchor's other positives out of the denominator; with one
    positive the two are the same. An anchor with positives and without negatives counts here, but not in InfoNCE.
    Departures: the paper's code multiplies the loss by τ/τ_base, which is 1 at its defaults. Here there is no such
    factor.
    Cost: 6·Q·K·D flops with the gradient; memory for about ten tiles, never for Q×K.
    Paper: Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, eq. 2.

    Args:
        temperature: τ, above 0; the paper uses 0.1, and the default of its code is 0.07.
        reduction: "mean", "sum" or "none" over the anchors with a positive.
    """

    plain_pairs = 10_000  # its twin has two log-sum-exps of the whole matrix

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
    """Multi-class N-pair loss (Sohn 2016, eq. 8), with a penalty on the length of the rows.

    ``L = log[1 + Σ_n exp(f·f_n − f·f_p)]``, averaged over the anchor's positives, plus ``λ ‖f‖²``. The rows keep their
    lengths; they are not normalised.

    Relations: InfoNCE with positives="each" at τ = 1 on inner products, plus the penalty.
    Departures: the paper takes one pair for each class, and an anchor's negatives are the positives of the N − 1 other
    pairs. Here, in a batch of N pairs, both rows of the other pairs are negatives, 2(N − 1), and both rows are anchors;
    ``objective(anchors, ids, positives, ids)`` is the paper's. An anchor may have any number of positives.
    pytorch-metric-learning's N-pair normalises the rows by default, which is InfoNCE at τ = 1.
    Cost: 6·Q·K·D flops with the gradient; memory for about ten tiles, never for Q×K.
    Paper: Sohn, Improved Deep Metric Learning with Multi-class N-pair Loss Objective, NIPS 2016, eq. 8 and §3.2.3.

    Args:
        penalty: λ, the weight of ``‖f‖²`` of each query.
        reduction: "mean", "sum" or "none" over the anchors with a positive and a negative.
    """

    def __init__(self, *, penalty: float = 0.002, reduction: How = "mean") -> None:
        super().__init__(reduction, unit_rows=False)
        self.penalty = finite("penalty", penalty)

    def extra_repr(self) -> str:
        """The parameters."""
        return f"penalty={self.penalty}, reduction={self.reduce.how!r}"

    def row_inputs(self, queries: Tensor, ids: Tensor | Listed) -> Sequence[Tensor]:
        """``λ ‖f‖²`` of each query, (Q,); nothing without a penalty."""
        return () if not self.penalty else (self.penalty * at_least_float32(queries).square().sum(1),)

    def rows(
        self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor, penalty: Tensor | float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Eq. 8, plus the penalty."""
        push = masked_logsumexp(s_n, negative)
        return mean_over(softplus(push[:, None] - s_p), positive) + penalty, positive.any(1) & nonempty(push)

    def pair_loss(self, s_p: Tensor, s_n: Tensor) -> Tensor:
        """log(1 + exp(s_n − s_p)), elementwise, without the penalty."""
        return softplus(s_n - s_p)


class MultiSimilarity(PairObjective):
    """Multi-similarity loss (Wang et al. 2019, eq. 15) with its mining (eqs. 11–12).

    ``L = 1/α log[1 + Σ_P exp(−α(s − λ))] + 1/β log[1 + Σ_N exp(β(s − λ))]`` over the pairs that mining keeps. It keeps
    a negative when ``s_n > min_P s_p − ε`` and a positive when ``s_p < max_N s_n + ε``. Mining has no gradient.

    Relations: positives and negatives have one soft maximum each, and L is their sum. UnifiedPairSimilarity has one
    soft maximum over all pairs of a positive and a negative. ``negatives.MultiSimilarity`` is the mining alone.
    Departures: the defaults (α, β, λ) = (2, 50, 0.5) are those of pytorch-metric-learning. The paper has λ = 1. The
    authors' code has β = 40 and λ = 0.5, and leaves out positives with s ≥ 1 − 1e-5. Here the mean is over the anchors
    with a positive and a negative; the authors' code divides by the number of rows of the batch.
    Cost: 6·Q·K·D flops with the gradient, and two more passes over a tile; memory for about ten tiles, never for Q×K.
    Paper: Wang et al., Multi-Similarity Loss with General Pair Weighting, CVPR 2019, eqs. 11, 12, 15.

    Args:
        alpha: α, the scale of the positives; above 0.
        beta: β, the scale of the negatives; above 0.
        base: λ, subtracted from each similarity.
        epsilon: ε of the mining; None turns mining off.
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
        self.base, self.epsilon = finite("base", base), None if epsilon is None else finite("epsilon", epsilon)

    def extra_repr(self) -> str:
        """The parameters."""
        return (
            f"alpha={self.alpha}, beta={self.beta}, base={self.base}, epsilon={self.epsilon}, "
            f"reduction={self.reduce.how!r}"
        )

    def rows(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 15 over the pairs that eqs. 11–12 keep."""
        hardest_p = torch.where(positive, s_p.detach(), torch.inf).amin(1, keepdim=True)
        negatives = torch.where(negative, s_n.detach(), -torch.inf)
        hardest_n = negatives.amax(1, keepdim=True)
        if self.epsilon is not None:
            positive = positive & (s_p < hardest_n + self.epsilon)
            negative = negatives > hardest_p - self.epsilon
        pull = softplus(masked_logsumexp(s_p, positive, -self.alpha) + self.alpha * self.base)
        push = softplus(masked_logsumexp(s_n, negative, self.beta) - self.beta * self.base)
        return pull / self.alpha + push / self.beta, (hardest_p.isfinite() & hardest_n.isfinite()).squeeze(1)
