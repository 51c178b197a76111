"""Pair-level objectives that add up hinges over an anchor's pairs or triplets: contrastive, margin, triplet.

Dimension legend: R rows of a tile, P positives of a row at most, K keys. See :mod:`likewise.objectives.pair`.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from likewise.alike import Listed
from likewise.errors import LikewiseError
from likewise.kernels.hinges import (
    _inside_violations,
    _save_shares,
    _shapes,
    _violations,
    _violations_backward,
    violations,
)
from likewise.kernels.numerics import Distance, distance
from likewise.objectives.base import PairObjective
from likewise.objectives.reduction import How

Pairs = Literal["active", "all", "sum"]


def combine(values: Tensor, mask: Tensor, pairs: Pairs) -> Tensor:
    """(R,) of an anchor's masked terms: their sum, their mean, or the mean of those above 0 ("active")."""
    kept = torch.where(mask, values, 0.0)
    if pairs == "sum":
        return kept.sum(1)
    count = (mask if pairs == "all" else kept > 0).sum(1)
    return kept.sum(1) / count.clamp(min=1)


def check_pairs(pairs: Pairs) -> Pairs:
    """The value, or a LikewiseError that names it."""
    if pairs not in ("active", "all", "sum"):
        raise LikewiseError(f"pairs={pairs!r} must be 'active', 'all' or 'sum'.")
    return pairs


class Contrastive(PairObjective):
    """Contrastive loss (Hadsell, Chopra, LeCun 2006, eq. 4): pull positives together, push negatives beyond a margin.

    ``½ [D_p − m_p]₊² over the positives + ½ [m_n − D_n]₊² over the negatives``; with ``squared=False`` the hinges
    themselves, ``[D_p − m_p]₊ + [m_n − D_n]₊``. D is the Euclidean distance of unit rows.

    Relations: Margin puts one boundary β where this one has two margins.
    Departures: the paper adds up given pairs, with Y = 0 for similar ones; here an anchor's positives and negatives are
    averaged each by itself, else the many negatives drown the few positives, and only those within the margin count
    (``pairs="active"``), else the negatives that are far away already dilute the few that still push.
    Cost: 6·Q·K·D flops, a tile of memory.
    Paper: Hadsell, Chopra, LeCun, Dimensionality Reduction by Learning an Invariant Mapping, CVPR 2006, eqs. 1–4.

    Args:
        positive_margin: m_p; positives nearer than this are left alone.
        negative_margin: m_n; negatives further than this are left alone. Distances are at most 2.
        squared: the paper's ½D²; False for plain hinges.
        pairs: over an anchor's positives, and over its negatives: "active" the mean of those above 0, "all" the mean,
            "sum" the paper's sum.
        reduction: "mean", "sum" or "none" over the anchors with a positive or a negative.
    """

    def __init__(
        self,
        *,
        positive_margin: float = 0.0,
        negative_margin: float = 1.0,
        squared: bool = True,
        pairs: Pairs = "active",
        reduction: How = "mean",
    ) -> None:
        super().__init__(reduction, "any positive or negative")
        self.positive_margin, self.negative_margin = positive_margin, negative_margin
        self.squared, self.pairs = squared, check_pairs(pairs)

    def extra_repr(self) -> str:
        """The parameters."""
        return (
            f"positive_margin={self.positive_margin}, negative_margin={self.negative_margin}, squared={self.squared}, "
            f"pairs={self.pairs!r}, reduction={self.reduce.how!r}"
        )

    def rows(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 4."""
        pull = (distance(s_p) - self.positive_margin).clamp(min=0)
        push = (self.negative_margin - distance(s_n)).clamp(min=0)
        if self.squared:
            pull, push = pull.square() / 2, push.square() / 2
        losses = combine(pull, positive, self.pairs) + combine(push, negative, self.pairs)
        return losses, positive.any(1) | negative.any(1)


class Margin(PairObjective):
    """Margin loss (Wu et al. 2017, eq. 8): one boundary β between positives and negatives, α to each side of it.

    ``[α + D_p − β]₊ over the positives, [α − D_n + β]₊ over the negatives, + ν β``. D is the Euclidean distance of unit
    rows. β is fixed, learned, or learned for each class of anchors.

    Relations: Contrastive with m_p = β − α and m_n = β + α, unsquared; distance-weighted negatives are meant for it.
    Departures: the paper divides by the number of active pairs in the batch; here each anchor's active pairs are
    averaged (``pairs``), and then the anchors. The paper learns β as β₀ + β_class + β_item; here it is one of these at
    a time.
    Cost: 6·Q·K·D flops, a tile of memory.
    Paper: Wu, Manmatha, Smola, Krähenbühl, Sampling Matters in Deep Embedding Learning, ICCV 2017, eq. 8.

    Args:
        alpha: α, half the width of the gap; the paper's 0.2.
        beta: β at first; the paper's 1.2.
        learn: β is a parameter (trained, saved).
        classes: as many βs, one for each class of anchors; ids are then in [0, classes).
        nu: ν, what a large β costs.
        pairs: over an anchor's pairs: "active" the mean of those above 0, "all" the mean, "sum" the sum.
        reduction: "mean", "sum" or "none" over the anchors with a positive or a negative.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.2,
        beta: float = 1.2,
        learn: bool = False,
        classes: int | None = None,
        nu: float = 0.0,
        pairs: Pairs = "active",
        reduction: How = "mean",
    ) -> None:
        super().__init__(reduction, "any positive or negative")
        self.alpha, self.nu, self.pairs, self.classes = alpha, nu, check_pairs(pairs), classes
        start = torch.full((classes or 1,), float(beta))
        if learn:
            self.beta: Tensor = nn.Parameter(start)
        else:
            self.register_buffer("beta", start)

    def extra_repr(self) -> str:
        """The parameters; of several βs the mean."""
        beta, learn = float(self.beta.mean()), isinstance(self.beta, nn.Parameter)
        return (
            f"alpha={self.alpha}, beta={beta:.6g}, learn={learn}, classes={self.classes}, nu={self.nu}, "
            f"pairs={self.pairs!r}, reduction={self.reduce.how!r}"
        )

    def row_inputs(self, queries: Tensor, ids: Tensor | Listed) -> Sequence[Tensor]:
        """β of each anchor, (Q, 1)."""
        if self.classes is None:
            rows = ids.queries if isinstance(ids, Listed) else len(ids)
            return (self.beta.expand(rows).unsqueeze(1),)
        if isinstance(ids, Listed) or ids.ndim != 1:
            raise LikewiseError("Margin with a β for each class needs one class id per row.")
        if not torch.compiler.is_compiling() and int(ids.max()) >= self.classes:
            raise LikewiseError(f"id {int(ids.max())} is beyond the {self.classes} classes that Margin was made for.")
        return (self.beta[ids.clamp(min=0)].unsqueeze(1),)

    def rows(  # type: ignore[override]
        self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor, beta: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Eq. 8."""
        beta = beta.to(s_n.dtype)
        pull = torch.where(positive, (distance(s_p) + (self.alpha - beta)).clamp(min=0), 0.0)
        push = torch.where(negative, ((self.alpha + beta) - distance(s_n)).clamp(min=0), 0.0)
        losses = pull.sum(1) + push.sum(1)
        if self.pairs != "sum":
            p, n = (pull > 0, push > 0) if self.pairs == "active" else (positive, negative)
            losses = losses / (p.sum(1) + n.sum(1)).clamp(min=1)
        return losses + self.nu * beta.squeeze(1), positive.any(1) | negative.any(1)

    def pair_loss(self, s_p: Tensor, s_n: Tensor) -> Tensor:
        """The loss of an anchor with one positive and one negative, elementwise, at the (first) β."""
        one = torch.ones(s_p.numel(), 1, dtype=torch.bool)
        beta = self.beta[0].detach().expand(s_p.numel(), 1)
        return self.rows(s_p.reshape(-1, 1), one, s_n.reshape(-1, 1), one, beta)[0].reshape(s_p.shape)


class Triplet(PairObjective):
    """Triplet loss (Schroff et al. 2015, eq. 3) over all valid triplets of each anchor.

    ``[D²(a, p) − D²(a, n) + α]₊`` for every positive p and negative n of the anchor; with ``distance="euclidean"``
    plain distances, with ``soft=True`` the soft margin ``log(1 + exp(D_ap − D_an + α))``.

    Relations: on unit rows D² = 2 − 2s, so the squared form is ``2[s_n − s_p + α/2]₊``; its hardest triplet alone is
    the γ → ∞ limit of UnifiedPairSimilarity/γ.
    Departures: FaceNet mines semi-hard negatives; choosing which negatives push is a policy of its own, here all do. An
    anchor's triplets are averaged over the active ones (Hermans et al.'s batch-all, "≠ 0"), where FaceNet adds up.
    Cost: 6·Q·K·D flops plus P passes over the similarities, P the positives of a row; a tile of memory, never a list of
    triplets.
    Paper: Schroff, Kalenichenko, Philbin, FaceNet, CVPR 2015, eqs. 1–3; Hermans, Beyer, Leibe 2017.

    Args:
        margin: α; FaceNet's 0.2 on squared distances.
        distance: "squared" or "euclidean".
        soft: log(1 + exp(·)) in place of the hinge.
        pairs: over an anchor's triplets: "active" the mean of those above 0, "all" the mean, "sum" the sum.
        reduction: "mean", "sum" or "none" over the anchors with a positive and a negative.
    """

    def __init__(
        self,
        *,
        margin: float = 0.2,
        distance: Distance = "squared",
        soft: bool = False,
        pairs: Pairs = "active",
        reduction: How = "mean",
    ) -> None:
        super().__init__(reduction)
        if distance not in ("squared", "euclidean"):
            raise LikewiseError(f"distance={distance!r} must be 'squared' or 'euclidean'.")
        self.margin, self.distance, self.soft, self.pairs = margin, distance, soft, check_pairs(pairs)

    def extra_repr(self) -> str:
        """The parameters."""
        return (
            f"margin={self.margin}, distance={self.distance!r}, soft={self.soft}, pairs={self.pairs!r}, "
            f"reduction={self.reduce.how!r}"
        )

    def rows(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 3, summed over the anchor's triplets."""
        near = distance(s_p, self.distance) + self.margin
        far = distance(s_n, self.distance)
        near = torch.where(positive, near, -torch.inf)  # nothing is further than an absent positive
        far = torch.where(negative, far, torch.inf)
        total, active = violations(near, far, self.soft)
        positives, negatives = positive.sum(1), negative.sum(1)
        if self.pairs != "sum":
            count = active if self.pairs == "active" and not self.soft else positives * negatives
            total = total / count.clamp(min=1)
        return total, (positives > 0) & (negatives > 0)


_violations.register_fake(_shapes)
_violations.register_autograd(_violations_backward, setup_context=_save_shares)
_inside_violations.register_fake(_shapes)
_inside_violations.register_autograd(_violations_backward, setup_context=_save_shares)
