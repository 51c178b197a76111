"""Pair-level objectives that sum hinges over an anchor's pairs or triplets: contrastive, margin, triplet.

Dimension legend: R rows of a tile, P positives of a row at most, K keys. See :mod:`likewise.objectives.pair_level`.
The functions below the objectives sum the hinges of all pairs of two lists: in one pass for each positive, or by
sorting.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from likewise.alike import Listed, check_rows, in_forward_mode
from likewise.errors import LikewiseError, at_least_one, finite
from likewise.kernels.numerics import Distance, distance
from likewise.negatives import SORTED_FROM
from likewise.objectives.base import How, PairObjective

__all__ = ["Contrastive", "Margin", "Triplet"]

Pairs = Literal["active", "all", "sum"]
ABSENT = 1e4  # stands for the distance of an absent pair; larger than every real distance


def combine(values: Tensor, mask: Tensor, pairs: Pairs) -> Tensor:
    """(R,) of each anchor's masked terms: the sum, the mean ("all"), or the mean of those above 0 ("active")."""
    kept = torch.where(mask, values, 0.0)
    if pairs == "sum":
        return kept.sum(1)
    count = (mask if pairs == "all" else kept > 0).sum(1)
    return kept.sum(1) / count.clamp(min=1)


def check_pairs(pairs: Pairs) -> Pairs:
    """Returns the value. Raises LikewiseError when it is no choice of ``pairs``."""
    if pairs not in ("active", "all", "sum"):
        raise LikewiseError(f"pairs={pairs!r} must be 'active', 'all' or 'sum'.")
    return pairs


class Contrastive(PairObjective):
    """Contrastive loss (Hadsell, Chopra, LeCun 2006, eq. 4): negatives are pushed beyond a margin.

    ``½ [D_p − m_p]₊² over the positives + ½ [m_n − D_n]₊² over the negatives``. With ``squared=False``:
    ``[D_p − m_p]₊ + [m_n − D_n]₊``. D is the Euclidean distance of unit rows.

    Relations: Margin has one boundary β in place of the two margins.
    Departures: the paper sums over given pairs, with Y = 0 for alike ones. Here the positives of an anchor have one
    mean and its negatives another, so that many negatives do not outweigh few positives. With ``pairs="active"`` the
    mean is over the pairs with a loss above 0, so that far negatives do not make the push of near ones small.
    Cost: 6·Q·K·D flops with the gradient; memory for about ten tiles, never for Q×K.
    Paper: Hadsell, Chopra, LeCun, Dimensionality Reduction by Learning an Invariant Mapping, CVPR 2006, eqs. 1–4.

    Args:
        positive_margin: m_p, a distance; positives nearer than this have loss 0.
        negative_margin: m_n, a distance; negatives further than this have loss 0. Distances are at most 2.
        squared: True for ½ of the squared hinges, as in the paper; False for the hinges.
        pairs: over an anchor's positives, and over its negatives: "active" is the mean of the losses above 0, "all" the
            mean, "sum" the sum, as in the paper.
        reduction: "mean", "sum" or "none" over the anchors with a positive or a negative.
    """

    can_be_zero = True

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
        self.positive_margin = finite("positive_margin", positive_margin)
        self.negative_margin = finite("negative_margin", negative_margin)
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
    """Margin loss (Wu et al. 2017, eq. 8): a boundary β between positives and negatives, with a gap α on each side.

    ``[α + D_p − β]₊ over the positives, [α − D_n + β]₊ over the negatives, + ν β``. D is the Euclidean distance of unit
    rows. β is fixed, learned, or learned for each class of anchors.

    Relations: Contrastive with ``squared=False``, m_p = β − α and m_n = β + α. The paper uses this loss with
    ``negatives.DistanceWeighted``.
    Departures: the paper divides by the number of active pairs in the batch. Here ``pairs`` says how the pairs of an
    anchor are reduced, and ``reduction`` how the anchors are. The paper's β is the sum β₀ + β_class + β_item; here it
    is one β, or one β for each class.
    Cost: 6·Q·K·D flops with the gradient; memory for about ten tiles, never for Q×K.
    Paper: Wu, Manmatha, Smola, Krähenbühl, Sampling Matters in Deep Embedding Learning, ICCV 2017, eq. 8.

    Args:
        alpha: α, half the width of the gap, a distance; the paper uses 0.2.
        beta: the first value of β, a distance; the paper uses 1.2.
        learn: whether β is trained. It is saved in either case.
        classes: the number of classes, for one β for each class of anchors; ids are then below it. None: one β for all.
        nu: ν, the weight of β in the loss.
        pairs: over an anchor's pairs: "active" is the mean of the losses above 0, "all" the mean, "sum" the sum.
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
        if classes is not None:
            at_least_one("classes", classes, "None learns one β for all")
        self.alpha, self.nu = finite("alpha", alpha), finite("nu", nu)
        self.pairs, self.classes = check_pairs(pairs), classes
        self.can_be_zero = nu == 0  # otherwise ν β is always added
        if not abs(finite("beta", beta)) < 1e30:  # float32 holds it
            raise LikewiseError(f"beta={beta} must be a distance; the paper uses 1.2.")
        start = torch.full((classes or 1,), float(beta))
        if learn:
            self.beta: Tensor = nn.Parameter(start)
        else:
            self.register_buffer("beta", start)

    def extra_repr(self) -> str:
        """The parameters; with several βs, their mean."""
        beta, learn = self.beta.mean().item(), isinstance(self.beta, nn.Parameter)
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
        check_rows("ids", ids, self.classes, "classes that Margin was made for", none=True, wait=True)
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
        """The loss of an anchor with one positive and one negative, elementwise, with the first β."""
        present = torch.ones(s_p.numel(), 1, dtype=torch.bool)
        beta = self.beta[0].detach().expand(s_p.numel(), 1)
        return self.rows(s_p.reshape(-1, 1), present, s_n.reshape(-1, 1), present, beta)[0].reshape(s_p.shape)


class Triplet(PairObjective):
    """Triplet loss (Schroff et al. 2015, eq. 3) over all valid triplets of each anchor.

    ``[D²(a, p) − D²(a, n) + α]₊`` for every positive p and negative n of the anchor. With ``distance="euclidean"`` D
    replaces D². With ``soft=True`` the soft margin ``log(1 + exp(D²(a, p) − D²(a, n) + α))`` replaces the hinge.

    Relations: for unit rows D² = 2 − 2s, so the squared form is ``2[s_n − s_p + α/2]₊``. With the hardest positive and
    negative alone it is twice the limit of UnifiedPairSimilarity/γ with m = α/2, as γ → ∞.
    Departures: FaceNet mines semi-hard negatives; here all negatives push, and ``Mined`` adds a policy of mining. By
    default the loss of an anchor is the mean over its active triplets (Hermans et al.: batch-all, "≠ 0"); FaceNet sums.
    Cost: 6·Q·K·D flops with the gradient, and one pass over a tile for each positive of a row, or one sort beyond 48
    positives; memory for about ten tiles, never for Q×K and never for a list of triplets.
    Paper: Schroff, Kalenichenko, Philbin, FaceNet, CVPR 2015, eqs. 1–3; Hermans, Beyer, Leibe 2017.

    Args:
        margin: α, a squared distance, or a distance with "euclidean"; FaceNet uses 0.2 with "squared".
        distance: "squared" or "euclidean".
        soft: whether log(1 + exp(·)) replaces the hinge.
        pairs: over an anchor's triplets: "active" is the mean of the losses above 0, "all" the mean, "sum" the sum.
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
        self.margin, self.distance, self.soft = finite("margin", margin), distance, soft
        self.pairs = check_pairs(pairs)
        self.can_be_zero = not soft

    def triplet_margin(self) -> tuple[float, Distance] | None:
        """α and the distance; None for the soft margin."""
        return None if self.soft else (self.margin, self.distance)

    def active_hinge(self) -> tuple[float, Distance] | None:
        """α, where it is a hinge's and the active triplets are averaged."""
        return self.triplet_margin() if self.pairs == "active" else None

    def extra_repr(self) -> str:
        """The parameters."""
        return (
            f"margin={self.margin}, distance={self.distance!r}, soft={self.soft}, pairs={self.pairs!r}, "
            f"reduction={self.reduce.how!r}"
        )

    def rows(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 3, summed or averaged over the anchor's triplets."""
        near = distance(s_p, self.distance) + self.margin
        far = distance(s_n, self.distance)
        near = torch.where(positive, near, -torch.inf)  # then no term of an absent pair is above 0
        far = torch.where(negative, far, torch.inf)
        total, active = violations(near, far, self.soft)
        positives, negatives = positive.sum(1), negative.sum(1)
        if self.pairs != "sum":
            count = active if self.pairs == "active" and not self.soft else positives * negatives
            total = total / count.clamp(min=1)
        return total, (positives > 0) & (negatives > 0)


def violations(near: Tensor, far: Tensor, soft: bool) -> tuple[Tensor, Tensor]:
    """``Σ_p Σ_n [near_p − far_n]₊`` (soft: ``log(1 + exp(·))``) of each row, and how many terms are above 0.

    (R, P) with −inf for absent positives and (R, K) with +inf for absent negatives → (R,) and (R,).
    Cost: one pass over (R, K) for each positive of a row. With more than SORTED_FROM positives, and not soft, one sort.
    Memory for a few (R, K) matrices; the naive twin needs (R, P, K) numbers, and gives the second order of the soft
    form (hinges have none).
    """
    if torch._C._are_functorch_transforms_active() or in_forward_mode():
        gaps = near.unsqueeze(2) - far.unsqueeze(1)  # (R, P, K)
        terms = functional.softplus(gaps) if soft else gaps.clamp(min=0)
        return terms.sum((1, 2)), (functional.sigmoid(gaps) if soft else (gaps > 0).to(gaps.dtype)).detach().sum((1, 2))
    total, share_near, _ = _violations(near, far, soft)
    return total, share_near.sum(1)


@torch.library.custom_op("likewise::violations", mutates_args=())
def _violations(near: Tensor, far: Tensor, soft: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(R,) sums, and their derivatives: (R, P) by ``near``, and (R, K) by ``far`` with the sign changed."""
    width = int((near > -torch.inf).sum(1).max())
    if width > SORTED_FROM and not soft:
        return _sorted_violations(near, far)
    total = near.new_zeros(len(near))
    share_near, share_far = torch.zeros_like(near), torch.zeros_like(far)
    gap, share = torch.empty_like(far), torch.empty_like(far)
    hardest, places = near.topk(width, 1)  # absent positives come last
    for p in range(width):
        torch.sub(hardest[:, p : p + 1], far, out=gap)
        if soft:
            torch.sigmoid(gap, out=share)
            total += functional.softplus(gap).sum(1)
        else:
            torch.gt(gap, 0, out=share)
            total += gap.clamp_(min=0).sum(1)
        share_far += share
        share_near.scatter_(1, places[:, p : p + 1], share.sum(1, keepdim=True))
    return total, share_near, share_far


def _sorted_violations(near: Tensor, far: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As ``_violations`` for many positives: sorts the negatives, then each sum is a difference of prefix sums."""
    ordered, order, before = _in_order(far)
    places = torch.searchsorted(ordered, near.contiguous())  # the number of nearer negatives; 0 for −inf
    present = near > -torch.inf
    terms = torch.where(present, near, 0.0) * places - before.gather(1, places)
    ends = torch.zeros_like(before).scatter_add_(1, places, present.to(before.dtype))
    taken = present.sum(1, keepdim=True) - ends.cumsum(1)[:, :-1]
    share_far = torch.zeros_like(far).scatter_(1, order, taken.to(far.dtype))
    return terms.sum(1).to(near.dtype), places.to(near.dtype), share_far


def _in_order(far: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(R, K) sorted distances, their columns, and (R, K + 1) float64: the sums of the first 0, 1 ... K distances."""
    ordered, order = far.sort(dim=1, stable=True)
    before = functional.pad(ordered.double().cumsum(1), (1, 0))
    return ordered, order, before


def _shapes(near: Tensor, far: Tensor, _: float) -> tuple[Tensor, Tensor, Tensor]:
    return near.new_empty(len(near)), torch.empty_like(near), torch.empty_like(far)


def _save_shares(ctx: FunctionCtx, inputs: tuple[Tensor, Tensor, float], output: tuple[Tensor, Tensor, Tensor]) -> None:
    near, far, soft = inputs
    ctx.save_for_backward(*output[1:], *((near, far) if soft is True else ()))
    ctx.mark_non_differentiable(*output[1:])


def _violations_backward(ctx: FunctionCtx, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, None]:
    share_near, share_far, *distances = ctx.saved_tensors  # type: ignore[attr-defined]
    if distances and torch.is_grad_enabled():  # the shares of hinges are constant, those of the soft form are not
        near, far = distances
        share = torch.sigmoid(near.unsqueeze(2) - far.unsqueeze(1))  # (R, P, K)
        share_near, share_far = share.sum(2), share.sum(1)
    return share_near * grad.unsqueeze(1), share_far * -grad.unsqueeze(1), None


def inside_violations(near: Tensor, far: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """For each positive the mean of ``D_p + α − D_n`` over the negatives with ``D_p < D_n < D_p + α``; then their mean.

    Positives without such a negative are left out of the mean over a row's positives.
    (R, P) distances with −``ABSENT`` for absent positives and (R, K) with ``ABSENT`` for absent negatives → (R,) losses
    and (R,) bool: whether the row has such a negative.
    Cost: one pass over (R, K) for each positive of a row; with more than SORTED_FROM positives one sort. The naive twin
    needs (R, P, K) numbers.
    """
    losses, share_near, _ = _inside_violations(near, far, margin)
    return losses, share_near.any(1)


@torch.library.custom_op("likewise::inside_violations", mutates_args=())
def _inside_violations(near: Tensor, far: Tensor, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    """(R,) losses, and their derivatives: (R, P) by ``near``, and (R, K) by ``far`` with the sign changed."""
    width = int((near > -ABSENT).sum(1).max())
    if width > SORTED_FROM:
        return _sorted_inside(near, far, margin)
    losses = near.new_zeros(len(near))
    share_near, share_far = torch.zeros_like(near), torch.zeros_like(far)
    gap = torch.empty_like(far)
    furthest, places = near.topk(width, 1)  # absent positives come last
    for p in range(width):
        of_pair = furthest[:, p : p + 1]
        torch.sub(of_pair + margin, far, out=gap)
        inside = ((far > of_pair) & (gap > 0)).to(gap.dtype)
        count = inside.sum(1, keepdim=True)
        weight = count.clamp(min=1).reciprocal_()
        losses += gap.mul_(inside).sum(1) * weight.squeeze(1)
        share_far.addcmul_(inside, weight)
        share_near.scatter_(1, places[:, p : p + 1], (count > 0).to(gap.dtype))
    pairs = share_near.sum(1, keepdim=True).clamp_(min=1)
    return losses / pairs.squeeze(1), share_near / pairs, share_far / pairs


def _sorted_inside(near: Tensor, far: Tensor, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    """As ``_inside_violations`` for many positives: in sorted order, the negatives inside the margin are one run."""
    ordered, order, before = _in_order(far)
    near = near.contiguous()
    first, last = torch.searchsorted(ordered, near, right=True), torch.searchsorted(ordered, near + margin)
    count = (last - first).clamp(min=0)
    last, any_inside = first + count, count > 0
    weight = count.clamp(min=1).double().reciprocal()
    sums = before.gather(1, last) - before.gather(1, first)
    losses = torch.where(any_inside, (near + margin).double() - sums * weight, 0.0).sum(1)
    weight *= any_inside
    runs, covered = torch.zeros_like(before), torch.zeros_like(before)
    for place, sign in ((first, 1), (last, -1)):
        runs.scatter_add_(1, place, sign * weight)
        covered.scatter_add_(1, place, sign * any_inside.double())
    taken = torch.where(covered.cumsum(1) > 0, runs.cumsum(1), 0.0)[:, :-1].to(far.dtype)
    pairs = any_inside.sum(1, keepdim=True).clamp(min=1)
    share_far = torch.zeros_like(far).scatter_(1, order, taken) / pairs
    return (losses / pairs.squeeze(1)).to(near.dtype), any_inside.to(near.dtype) / pairs, share_far


_violations.register_fake(_shapes)
_violations.register_autograd(_violations_backward, setup_context=_save_shares)
_inside_violations.register_fake(_shapes)
_inside_violations.register_autograd(_violations_backward, setup_context=_save_shares)
