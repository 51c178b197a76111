"""List-level objectives: the scores of a query's items against their graded relevance. Point-, pair- and list-wise.

Dimension legend: L lists (one for each query), N items of a list, M items of all lists.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from likewise.errors import above_zero, at_least_one, finite
from likewise.kernels.lists import falling_order, no_weight, order_losses, pair_sums, soft_ranks
from likewise.kernels.numerics import softplus
from likewise.objectives.base import How
from likewise.objectives.list_base import (
    ITEM,
    PAIR,
    RELEVANT,
    Gains,
    ListObjective,
    check_gains,
    gains_of,
    ideal_of,
    mean_of,
)

__all__ = [
    "ApproxNDCG",
    "LambdaRank",
    "ListMLE",
    "ListNet",
    "ListSoftmax",
    "Logistic",
    "Ordinal",
    "PairHinge",
    "RankNet",
    "Regression",
]


class Regression(ListObjective):
    """Squared error, point-wise: ``1/N Σ_i (s_i − y_i)²`` of each list.

    Relations: the pair- and list-wise objectives depend on differences of scores alone.
    Departures: scores are not scaled to the grades (allRank multiplies them by the number of
    levels and takes the root).
    Cost: O(L·N).
    Paper: Cossock and Zhang, Subset Ranking Using Regression, COLT 2006.

    Args:
        temperature: τ, above 0; scores are divided by it. In a run, whose scores are cosines, its default is 0.1.
        reduction: "mean", "sum" or "none" over lists with an item.
    """

    def __init__(self, *, temperature: float = 1.0, reduction: How = "mean") -> None:
        super().__init__(reduction, ITEM, temperature)

    def lists(self, scores: Tensor, relevance: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The formula of the class."""
        return mean_of((scores - relevance).square(), mask)


class Logistic(ListObjective):
    """Logistic regression, point-wise: is an item relevant?

    ``1/N Σ_i [softplus(s_i) − t_i s_i]`` with ``t_i = min(1, y_i / full)``: 0 for relevance 0 and 1 from ``full`` on.

    Relations: :class:`Ordinal` asks this for each grade.
    Departures: none for relevance 0 and 1; grades between are taken for probabilities.
    Cost: O(L·N).
    Paper: logistic regression; Nallapati, Discriminative Models for Information Retrieval, SIGIR 2004.

    Args:
        full: the relevance that is surely relevant.
        temperature: τ, above 0; scores are divided by it. In a run, whose scores are cosines, its default is 0.1.
        reduction: "mean", "sum" or "none" over lists with an item.
    """

    def __init__(self, *, full: float = 1.0, temperature: float = 1.0, reduction: How = "mean") -> None:
        super().__init__(reduction, ITEM, temperature)
        self.full = above_zero("full", full, "1 for relevance 0 and 1")

    def lists(self, scores: Tensor, relevance: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The formula of the class."""
        target = (relevance / self.full).clamp(0, 1)
        return mean_of(softplus(scores) - target * scores, mask)

    def extra_repr(self) -> str:
        """The parameters."""
        return f"full={self.full}, {super().extra_repr()}"


class Ordinal(ListObjective):
    """Ordinal regression, point-wise: is the grade at least c, for c = 1 to C?

    ``1/N Σ_i Σ_c [softplus(s_i − b_c) − 1(y_i ≥ c) (s_i − b_c)]``, the cumulative logits model (McCullagh 1980), with
    C trained thresholds b_1 ≤ … ≤ b_C. They rise: ``b_c = b_1 + Σ softplus(step)``.

    Relations: with C = 1 it is :class:`Logistic` with a trained threshold.
    Departures: allRank's ordinal loss has C outputs for each item and no thresholds.
    Cost: O(L·N·C).
    Paper: McCullagh, Regression Models for Ordinal Data, JRSS B 1980.

    Args:
        grades: C, the highest grade; grades are 0 to C.
        temperature: τ, above 0; scores are divided by it. In a run, whose scores are cosines, its default is 0.1.
        reduction: "mean", "sum" or "none" over lists with an item.
    """

    def __init__(self, *, grades: int = 4, temperature: float = 1.0, reduction: How = "mean") -> None:
        super().__init__(reduction, ITEM, temperature)
        count = at_least_one("grades", grades, "the highest grade")
        self.first = nn.Parameter(torch.tensor(-(count - 1) / 2))
        self.steps = nn.Parameter(torch.full((count - 1,), math.log(math.expm1(1.0))))  # thresholds 1 apart

    def thresholds(self) -> Tensor:
        """(C,) the thresholds b_c, rising."""
        return self.first + torch.cat([self.first.new_zeros(1), softplus(self.steps)]).cumsum(0)

    def lists(self, scores: Tensor, relevance: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The formula of the class."""
        losses = torch.zeros_like(scores)
        for grade, threshold in enumerate(self.thresholds(), 1):
            margin = scores - threshold
            losses = losses + softplus(margin) - torch.where(relevance >= grade, margin, 0.0)
        return mean_of(losses, mask)

    def extra_repr(self) -> str:
        """The parameters."""
        return f"grades={len(self.steps) + 1}, {super().extra_repr()}"


class RankNet(ListObjective):
    """Logistic loss of each pair, pair-wise (Burges et al. 2005):

    ``1/|P| Σ_{(i, j) ∈ P} softplus(−σ (s_i − s_j))`` with ``P = {(i, j): y_i > y_j}`` of each list.

    Relations: :class:`LambdaRank` weighs the pairs; with one relevant item and one other it is :class:`ListSoftmax`.
    Departures: the paper has target probabilities; here the more relevant item is surely ahead. The mean is first over
    the pairs of a list, then over lists (allRank: over all pairs, so that long lists weigh more).
    Cost: O(L·N·P) for the P items of a list that are better than its worst; no block of all pairs is in memory.
    Paper: Burges et al., Learning to Rank using Gradient Descent, ICML 2005.

    Args:
        sigma: σ, above 0.
        temperature: τ, above 0; scores are divided by it. In a run, whose scores are cosines, its default is 0.1.
        reduction: "mean", "sum" or "none" over lists with two items of different relevance.
    """

    def __init__(self, *, sigma: float = 1.0, temperature: float = 1.0, reduction: How = "mean") -> None:
        super().__init__(reduction, PAIR, temperature)
        self.sigma = above_zero("sigma", sigma, "1 is usual")

    def lists(self, scores: Tensor, relevance: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The formula of the class."""
        graded = relevance.masked_fill(~mask, -math.inf)
        sums, pairs = pair_sums(lambda gap: softplus(-self.sigma * gap), no_weight, scores, graded)
        return sums / pairs.clamp(min=1), pairs > 0

    def extra_repr(self) -> str:
        """The parameters."""
        return f"sigma={self.sigma}, {super().extra_repr()}"


class PairHinge(ListObjective):
    """Hinge of each pair, pair-wise (ranking SVM, Joachims 2002):

    ``1/|P| Σ_{(i, j) ∈ P} max(0, m − (s_i − s_j))`` with ``P = {(i, j): y_i > y_j}`` of each list.

    Relations: :class:`RankNet` is its smooth form.
    Departures: no slack variables, and no regularisation of a linear model.
    Cost: as :class:`RankNet`.
    Paper: Joachims, Optimizing Search Engines using Clickthrough Data, KDD 2002.

    Args:
        margin: m.
        temperature: τ, above 0; scores are divided by it. In a run, whose scores are cosines, its default is 0.1.
        reduction: "mean", "sum" or "none" over lists with two items of different relevance.
    """

    def __init__(self, *, margin: float = 1.0, temperature: float = 1.0, reduction: How = "mean") -> None:
        super().__init__(reduction, PAIR, temperature)
        self.margin = finite("margin", margin)

    def lists(self, scores: Tensor, relevance: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The formula of the class."""
        graded = relevance.masked_fill(~mask, -math.inf)
        sums, pairs = pair_sums(lambda gap: (self.margin - gap).clamp(min=0), no_weight, scores, graded)
        return sums / pairs.clamp(min=1), pairs > 0

    def extra_repr(self) -> str:
        """The parameters."""
        return f"margin={self.margin}, {super().extra_repr()}"


class LambdaRank(ListObjective):
    """RankNet's pairs, weighed by what their exchange would change of NDCG (Burges 2010):

    ``Σ_{y_i > y_j} |ΔNDCG_ij| softplus(−σ (s_i − s_j))`` of each list, with
    ``|ΔNDCG_ij| = |g_i − g_j| |1/D_i − 1/D_j| / IDCG`` and ``D = log2(1 + rank)`` at the ranks that the scores give.

    The weights are constants of the gradient. Items with equal scores rank by their order in the list.

    Relations: without weights it is the sum of :class:`RankNet`'s pairs.
    Departures: the paper defines gradients only; this is the loss whose gradient they are (Wang et al. 2018, with the
    natural logarithm; allRank takes that to base 2, and with k leaves out the pairs of which one item is beyond k).
    Cost: as :class:`RankNet`.
    Paper: Burges, From RankNet to LambdaRank to LambdaMART, MSR-TR-2010-82.

    Args:
        sigma: σ, above 0.
        k: places of NDCG@k; None: all. Beyond them 1/D is 0.
        gains: of relevance y: "exponential" 2^y − 1, or "linear" y.
        temperature: τ, above 0; scores are divided by it. In a run, whose scores are cosines, its default is 0.1.
        reduction: "mean", "sum" or "none" over lists with two items of different relevance and one above 0.
    """

    def __init__(
        self,
        *,
        sigma: float = 1.0,
        k: int | None = None,
        gains: Gains = "exponential",
        temperature: float = 1.0,
        reduction: How = "mean",
    ) -> None:
        super().__init__(reduction, PAIR, temperature)
        self.sigma, self.gains = above_zero("sigma", sigma, "1 is usual"), check_gains(gains)
        self.k = None if k is None else at_least_one("k", k, "it is a number of places")

    def lists(self, scores: Tensor, relevance: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The formula of the class."""
        gains = gains_of(relevance, self.gains).masked_fill(~mask, 0)
        ideal = ideal_of(gains, self.k)
        order = scores.detach().masked_fill(~mask, -math.inf).argsort(dim=1, descending=True, stable=True)
        places = torch.arange(scores.shape[1], device=scores.device, dtype=scores.dtype)
        discounts = 1 / torch.log2(places + 2)
        discounts = torch.where(places < (self.k or len(places)), discounts, 0.0)
        discount = torch.empty_like(scores).scatter_(1, order, discounts.expand_as(scores))
        gain = gains / ideal.clamp(min=1e-12).unsqueeze(1)

        def weight(i: Sequence[Tensor], j: Sequence[Tensor]) -> Tensor:
            return (i[0] - j[0]).abs() * (i[1] - j[1]).abs()

        graded = relevance.masked_fill(~mask, -math.inf)
        sums, _ = pair_sums(lambda gap: softplus(-self.sigma * gap), weight, scores, graded, [gain, discount])
        lowest = relevance.masked_fill(~mask, math.inf).amin(1)
        return sums, (ideal > 0) & (graded.amax(1) > lowest)

    def extra_repr(self) -> str:
        """The parameters."""
        return f"sigma={self.sigma}, k={self.k}, gains={self.gains!r}, {super().extra_repr()}"


class ListNet(ListObjective):
    """Cross-entropy of the probabilities of being first, list-wise (Cao et al. 2007, top one):

    ``−Σ_i softmax(y)_i log softmax(s)_i`` of each list.

    Relations: :class:`ListSoftmax` takes shares of relevance in place of softmax(y), so that items without relevance
    are no targets.
    Departures: none; allRank adds 1e-10 to each probability.
    Cost: O(L·N).
    Paper: Cao et al., Learning to Rank: From Pairwise Approach to Listwise Approach, ICML 2007.

    Args:
        temperature: τ, above 0; scores are divided by it. In a run, whose scores are cosines, its default is 0.1.
        reduction: "mean", "sum" or "none" over lists with an item.
    """

    def __init__(self, *, temperature: float = 1.0, reduction: How = "mean") -> None:
        super().__init__(reduction, ITEM, temperature)

    def lists(self, scores: Tensor, relevance: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The formula of the class."""
        target = relevance.masked_fill(~mask, -math.inf).softmax(1)
        return _cross_entropy(target, scores, mask)


class ListSoftmax(ListObjective):
    """Softmax cross-entropy, list-wise: ``−Σ_i y_i / Σ_j y_j · log softmax(s)_i`` of each list.

    Relations: with one relevant item it is the negative log-likelihood of that item, as InfoNCE's. Where the list holds
    a query's positives and drawn negatives it is the sampled softmax: for negatives drawn with probability Q, give
    the scores ``s − log(m Q)``, as :class:`likewise.objectives.SampledSoftmax` does.
    Departures: the paper has relevance 0 and 1.
    Cost: O(L·N).
    Paper: Bruch et al., An Analysis of the Softmax Cross Entropy Loss for Learning-to-Rank, ICTIR 2019.

    Args:
        temperature: τ, above 0; scores are divided by it. In a run, whose scores are cosines, its default is 0.1.
        reduction: "mean", "sum" or "none" over lists with an item of relevance above 0.
    """

    def __init__(self, *, temperature: float = 1.0, reduction: How = "mean") -> None:
        super().__init__(reduction, RELEVANT, temperature)

    def lists(self, scores: Tensor, relevance: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The formula of the class. Negative relevance counts as 0."""
        relevance = relevance.clamp(min=0)
        total = relevance.sum(1, keepdim=True)
        losses, _ = _cross_entropy(relevance / total.clamp(min=1e-30), scores, mask)
        return losses, total.squeeze(1) > 0


def _cross_entropy(target: Tensor, scores: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """``−Σ_i p_i log softmax(s)_i`` over the items of each list, and whether it has one."""
    logs = functional.log_softmax(scores.masked_fill(~mask, -math.inf), 1)
    some = mask.any(1)
    return -torch.where(mask, target * logs, 0.0).sum(1), some


class ListMLE(ListObjective):
    """Likelihood of the best order, list-wise (Xia et al. 2008; Plackett and Luce):

    ``Σ_i [log Σ_{k ≥ i} exp(s_π(k)) − s_π(i)]`` of each list, with π the items by falling relevance.

    Items of equal relevance come in random order, so that no order of them is learned: each call draws one order of the
    places, for all its lists.

    Relations: its first summand alone is the softmax of the most relevant item.
    Departures: none.
    Cost: O(L·N log N).
    Paper: Xia et al., Listwise Approach to Learning to Rank: Theory and Algorithm, ICML 2008.

    Args:
        generator: draws the order of equal items; on the scores' device. None: torch's global generator.
        temperature: τ, above 0; scores are divided by it. In a run, whose scores are cosines, its default is 0.1.
        reduction: "mean", "sum" or "none" over lists with an item.
    """

    def __init__(
        self, *, generator: torch.Generator | None = None, temperature: float = 1.0, reduction: How = "mean"
    ) -> None:
        super().__init__(reduction, ITEM, temperature)
        self.generator = generator

    def lists(self, scores: Tensor, relevance: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The formula of the class."""
        drawn = torch.randperm(scores.shape[1], generator=self.generator, device=scores.device)
        order = falling_order(relevance, mask, drawn)
        some = mask.gather(1, order[:, :1]).squeeze(1)  # padding comes last
        return order_losses(scores, mask, order), some


class ApproxNDCG(ListObjective):
    """NDCG with soft ranks, list-wise (Qin, Liu and Li 2010, eqs. 19–21):

    ``1 − Σ_i g_i / log2(1 + r_i) / IDCG`` with ``r_i = 1 + Σ_{j ≠ i} sigmoid(−α (s_i − s_j))``.

    Relations: for α → ∞ it is 1 − NDCG of :func:`likewise.ndcg`, without a cut at k.
    Departures: 1 − NDCG in place of −NDCG (allRank), so that the best value is near 0.
    Cost: O(L·N²); no block of all pairs is in memory.
    Paper: Qin, Liu and Li, A General Approximation Framework for Direct Optimization of Information Retrieval Measures,
    Information Retrieval 2010, eqs. 19–21.

    Args:
        sharpness: α, above 0.
        gains: of relevance y: "exponential" 2^y − 1, or "linear" y.
        temperature: τ, above 0; scores are divided by it. In a run, whose scores are cosines, its default is 0.1.
        reduction: "mean", "sum" or "none" over lists with an item of relevance above 0.
    """

    def __init__(
        self, *, sharpness: float = 1.0, gains: Gains = "exponential", temperature: float = 1.0, reduction: How = "mean"
    ) -> None:
        super().__init__(reduction, RELEVANT, temperature)
        self.sharpness = above_zero("sharpness", sharpness, "the paper compares 1 to 200")
        self.gains = check_gains(gains)

    def lists(self, scores: Tensor, relevance: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The formula of the class."""
        gains = gains_of(relevance, self.gains).masked_fill(~mask, 0)
        ideal = ideal_of(gains, None)
        found = (gains / torch.log2(1 + soft_ranks(scores, mask, self.sharpness))).sum(1)
        return 1 - found / ideal.clamp(min=1e-12), ideal > 0

    def extra_repr(self) -> str:
        """The parameters."""
        return f"sharpness={self.sharpness}, gains={self.gains!r}, {super().extra_repr()}"
