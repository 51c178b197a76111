"""Objectives that join several rows: angular and lifted structure over positive pairs, histogram over all pairs.

Dimension legend: Q queries, K keys, D dimensions, M positive pairs, R nodes of a histogram or rows of a tile.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from likewise.alike import Listed, Masks, Relation, positive_pairs, reordered, restored, tile_rows_for, traced
from likewise.errors import LikewiseError, at_least_one, finite, number
from likewise.kernels.numerics import (
    at_least_float32,
    differentiated_again,
    distance,
    logaddexp,
    masked_logsumexp,
    mean_over,
    no_autocast,
    nonempty,
    ordinary,
    softplus,
    twin_gradients,
)
from likewise.kernels.row_losses import row_losses
from likewise.objectives.base import How, PairObjective

__all__ = ["Angular", "Histogram", "LiftedStructure"]

ROUNDED_ONE = 1 + 1e-5  # similarities of unit rows are at most this
NOTHING = -1e30  # the log-sum-exp of an empty sum; with −inf the gradient would be NaN


class _Pairs(NamedTuple):
    """Positive pairs. If ``joined``, (i, j) stands for (j, i) too, which has the same loss, and has both weights."""

    i: Tensor  # (M,) query rows
    j: Tensor  # (M,) key rows
    weight: Tensor  # (M,), with which a sum over the pairs of an anchor is their mean
    joined: bool

    def counted(self, pairs: Tensor, queries: int) -> Tensor:
        """(Q,) bool: the anchors of the pairs (M,) that counted."""
        rows = torch.zeros(queries, dtype=torch.bool, device=pairs.device)
        rows[self.i[pairs]] = True
        if self.joined:
            rows[self.j[pairs]] = True
        return rows


def _pairs(queries: Tensor, keys: Tensor | None, relation: Relation | Listed, join: bool) -> _Pairs:
    """All positive pairs. Without keys, ``join`` keeps one of (i, j) and (j, i)."""
    count = len(queries) if keys is None else len(keys)
    pairs = positive_pairs(relation, len(queries), tile_rows_for(count))
    i, j = pairs.unbind(1)
    weight = 1 / torch.bincount(i, minlength=len(queries)).clamp(min=1).to(queries.dtype)
    if join and keys is None and isinstance(relation, Relation) and relation.query_order is not None:
        i, j = pairs[i < j].unbind(1)
        return _Pairs(i, j, weight[i] + weight[j], joined=True)
    return _Pairs(i, j, weight[i], joined=False)


class Angular(PairObjective):
    """Angular loss (Wang et al. 2017, eq. 8): keeps the angle at the negative of the triangle (a, p, n) below α.

    ``mean over p of log[1 + Σ_n exp f]`` with ``f = 4 tan²α (x_a + x_p)·x_n − 2(1 + tan²α) x_a·x_p``, where n are the
    negatives of a.

    Relations: NPair with (x_a + x_p) as the query. The angle does not depend on the scale of the triangle; a margin of
    distances does.
    Departures: the paper has one pair for each class in a batch. Here all positive pairs count, with a mean over the
    pairs of each anchor.
    Cost: 6·M·K·D flops with the gradient for M positive pairs, each pair of a batch once. With c items of each class
    in a batch this is (c − 1)/2 times the cost of InfoNCE. Memory for M·D floats and about ten tiles.
    Paper: Wang, Zhou, Wen, Liu, Lin, Deep Metric Learning with Angular Loss, ICCV 2017, eqs. 6–8.

    Args:
        degrees: α, an angle in degrees between 0 and 90; the paper uses 36 to 55.
        reduction: "mean", "sum" or "none" over the anchors with a positive and a negative.
    """

    takes_policies = False

    def __init__(self, *, degrees: float = 40.0, reduction: How = "mean") -> None:
        super().__init__(reduction)
        if not 0 < number("degrees", degrees) < 90:
            raise LikewiseError(f"degrees={degrees} must be between 0 and 90; the paper uses 36 to 55.")
        self.degrees = degrees
        self.tan2 = math.tan(math.radians(degrees)) ** 2

    def extra_repr(self) -> str:
        """The parameters."""
        return f"degrees={self.degrees}, reduction={self.reduce.how!r}"

    def losses(
        self, queries: Tensor, ids: Tensor | Listed, keys: Tensor | None, relation: Relation | Listed
    ) -> tuple[Tensor, Tensor]:
        """Row losses with the sums x_a + x_p of the positive pairs as queries."""
        ahead = self.reduce.how != "none"
        queries = at_least_float32(queries)
        if traced():
            return self._whole(queries, queries if keys is None else at_least_float32(keys).to(queries.dtype), relation)
        pairs = _pairs(queries, keys, relation, join=ahead)
        keys = queries if keys is None else at_least_float32(keys).to(queries.dtype)
        anchors, positives = queries[pairs.i], keys[pairs.j]  # (M, D)
        inputs = (anchors * positives).sum(1), pairs.weight
        chosen = relation.select(pairs.i)
        losses, some = row_losses(
            self.rows, anchors + positives, keys, chosen, inputs, ahead=ahead, plain_pairs=self.plain_pairs
        )
        total = queries.new_zeros(len(queries)).index_add(0, pairs.i, losses)
        return total, pairs.counted(some, len(queries))

    def _whole(self, queries: Tensor, keys: Tensor, relation: Relation | Listed) -> tuple[Tensor, Tensor]:
        """All pairs of query and key at once, which a compiler can trace: Σ_n e^{f_an} e^{f_pn} is a matrix product."""
        with no_autocast(queries.device):
            _, positive, negative = relation.whole()
            s, scale = queries @ keys.T, 4 * self.tan2  # (Q, K)
            anchors, positives = scale * s, scale * keys @ keys.T
            top_a = torch.where(negative, anchors, NOTHING).amax(1, keepdim=True).detach()
            top_p = positives.amax(1).detach()
            product = torch.where(negative, (anchors - top_a).exp(), 0.0) @ (positives - top_p[:, None]).exp().T
            push = product.clamp(min=torch.finfo(s.dtype).tiny).log() + top_a + top_p  # (Q, K)
        losses = mean_over(softplus(push - 2 * (1 + self.tan2) * s), positive)
        counted = positive.any(1) & negative.any(1)
        return torch.where(counted, losses, 0.0), counted

    def rows(  # type: ignore[override]
        self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor, s_ap: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Eq. 8 for a pair: ``s_n`` is (x_a + x_p)·x_n, ``s_ap`` is x_a·x_p."""
        push = masked_logsumexp(s_n, negative, 4 * self.tan2)
        return weight * softplus(push - 2 * (1 + self.tan2) * s_ap), nonempty(push)

    def pair_loss(self, s_p: Tensor, s_n: Tensor) -> Tensor:
        """The loss of one positive and one negative that is equally far from anchor and positive, elementwise."""
        return softplus(8 * self.tan2 * s_n - 2 * (1 + self.tan2) * s_p)


class LiftedStructure(PairObjective):
    """Lifted structured loss (Oh Song et al. 2016, eq. 4), and its generalised form (Hermans et al. 2017).

    Original form: ``J_ij = log[Σ_{k ∈ N(i)} e^{α − D_ik} + Σ_{l ∈ N(j)} e^{α − D_jl}] + D_ij`` for a positive pair,
    with the negatives N(i) and N(j) of both rows. The loss of an anchor is the mean of ``½ [J_ij]₊²`` over its
    positives. Generalised form: ``[log Σ_p e^{D_p} + log Σ_n e^{m − D_n}]₊`` for each anchor. D is the Euclidean
    distance of unit rows.

    Relations: the generalised form is UnifiedPairSimilarity with distances in place of similarities, and with a hinge
    in place of softplus.
    Departures: the paper's mean is over all pairs of the batch (1/2|P|). Here the mean is over the pairs of each anchor
    and then over the anchors, which is the same for classes of equal size. Against keys, N(j) are the queries that are
    not alike to key j.
    Cost: with the gradient, 8·Q·K·D flops and M·D floats for M positive pairs (original form), or 6·Q·K·D flops
    (generalised form); memory for about ten tiles, never for Q×K.
    Paper: Oh Song, Xiang, Jegelka, Savarese, CVPR 2016, eq. 4; Hermans, Beyer, Leibe, In Defense of the Triplet Loss,
    2017.

    Args:
        margin: α, or m of the generalised form; a distance.
        generalised: whether to use the generalised form.
        reduction: "mean", "sum" or "none" over the anchors with a positive and a negative.
    """

    takes_policies = False

    def __init__(self, *, margin: float = 1.0, generalised: bool = False, reduction: How = "mean") -> None:
        super().__init__(reduction)
        self.margin, self.generalised = finite("margin", margin), generalised
        self.joins_rows = not generalised  # N(j) are other queries of the batch

    def extra_repr(self) -> str:
        """The parameters."""
        return f"margin={self.margin}, generalised={self.generalised}, reduction={self.reduce.how!r}"

    def losses(
        self, queries: Tensor, ids: Tensor | Listed, keys: Tensor | None, relation: Relation | Listed
    ) -> tuple[Tensor, Tensor]:
        """Row losses of the generalised form; the original form joins the negatives of both rows of a pair."""
        ahead = self.reduce.how != "none"
        if self.generalised:
            return row_losses(self.rows, queries, keys, relation, ahead=ahead, plain_pairs=self.plain_pairs)
        queries = at_least_float32(queries)
        keys = None if keys is None else at_least_float32(keys).to(queries.dtype)
        push = self._push(queries, keys, relation)  # (Q,)
        push_keys = push if keys is None else self._push(keys, queries, relation.transposed())  # (K,)
        if traced():
            return self._whole(queries, queries if keys is None else keys, relation, push, push_keys)
        pairs = _pairs(queries, keys, relation, join=ahead)
        keys = queries if keys is None else keys
        both = logaddexp(push[pairs.i], push_keys[pairs.j])  # (M,)
        structured = both + distance((queries[pairs.i] * keys[pairs.j]).sum(1))
        losses = pairs.weight * structured.clamp(min=0).square() / 2
        total = queries.new_zeros(len(queries)).index_add(0, pairs.i, losses)
        return total, pairs.counted(both > NOTHING / 2, len(queries))

    def rows(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """The generalised form."""
        pull = masked_logsumexp(distance(s_p), positive)
        push = masked_logsumexp(distance(s_n), negative, -1.0) + self.margin
        return (pull + push).clamp(min=0), nonempty(pull, push)

    def pair_loss(self, s_p: Tensor, s_n: Tensor) -> Tensor:
        """The loss of one positive and one negative that is equally far from anchor and positive, elementwise."""
        if self.generalised:
            return (distance(s_p) + self.margin - distance(s_n)).clamp(min=0)
        return (math.log(2) + self.margin - distance(s_n) + distance(s_p)).clamp(min=0).square() / 2

    def _whole(
        self, queries: Tensor, keys: Tensor, relation: Relation | Listed, push: Tensor, push_keys: Tensor
    ) -> tuple[Tensor, Tensor]:
        """All pairs of query and key at once, which a compiler can trace."""
        positive = relation.whole().positive
        with no_autocast(queries.device):
            distances = distance(queries @ keys.T)  # (Q, K)
        both = logaddexp(push[:, None].expand(-1, len(push_keys)), push_keys.expand(len(push), -1))
        losses = mean_over((both + distances).clamp(min=0).square() / 2, positive)
        return losses, (positive & (both > NOTHING / 2)).any(1)

    def _push(self, queries: Tensor, keys: Tensor | None, relation: Relation | Listed) -> Tensor:
        """(Q,) ``log Σ exp(α − D)`` over the negatives of each row; NOTHING where a row has none."""
        push, some = row_losses(self._push_rows, queries, keys, relation, ahead=False, plain_pairs=self.plain_pairs)
        return torch.where(some, push, NOTHING)

    def _push_rows(self, s_p: Tensor, positive: Tensor, s_n: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        push = masked_logsumexp(distance(s_n), negative, -1.0) + self.margin
        return push, nonempty(push)


class Histogram(PairObjective):
    """Histogram loss (Ustinova and Lempitsky 2016, eqs. 1–4): the probability that s_n is larger than s_p.

    ``L = Σ_r h⁻_r Σ_{q ≤ r} h⁺_q`` with the histograms h⁺ and h⁻ of all positive and all negative similarities of the
    batch. Each similarity adds to its two neighbouring nodes on [−1, 1], by linear interpolation.

    Relations: a smooth version of 1 − AUC over the pairs of the batch. It has neither a margin nor a scale.
    Departures: in a batch every pair counts twice, as (i, j) and as (j, i); this does not change the histograms. The
    loss is one number for the whole batch, not a sum over rows, so reductions "sum" and "none" are refused.
    Cost: 8·Q·K·D flops with the gradient, and two passes over a tile that count; memory for a few tiles, never for
    Q×K.
    Paper: Ustinova, Lempitsky, Learning Deep Embeddings with Histogram Loss, NIPS 2016, eqs. 1–5.

    Args:
        bins: the number of intervals on [−1, 1], at least 1; there is one node more.
        reduction: "mean" only.
    """

    joins_rows = True
    takes_policies = False

    def __init__(self, *, bins: int = 100, reduction: How = "mean") -> None:
        super().__init__(reduction)
        at_least_one("bins", bins, "100 is usual")
        if reduction != "mean":
            raise LikewiseError(f"Histogram is one number for the whole batch: reduction={reduction!r} has no meaning.")
        self.bins = bins

    def extra_repr(self) -> str:
        """The parameters."""
        return f"bins={self.bins}, reduction={self.reduce.how!r}"

    def losses(
        self, queries: Tensor, ids: Tensor | Listed, keys: Tensor | None, relation: Relation | Listed
    ) -> tuple[Tensor, Tensor]:
        """The loss of the batch, for each row that counts."""
        queries = at_least_float32(queries)
        keys = queries if keys is None else at_least_float32(keys).to(queries.dtype)
        with no_autocast(queries.device):
            positive, negative, counted = _histograms(queries, keys, relation, self.bins)
        loss = (negative * positive.cumsum(0)).sum().to(queries.dtype)
        return torch.where(counted, loss, 0.0), counted

    def pair_loss(self, s_p: Tensor, s_n: Tensor) -> Tensor:
        """The loss of one positive and one negative, elementwise."""
        low_p, share_p = _bin(s_p.flatten(), self.bins)
        low_n, share_n = _bin(s_n.flatten(), self.bins)
        loss = torch.zeros_like(share_p)
        for shift_p, weight_p in ((0, 1 - share_p), (1, share_p)):
            for shift_n, weight_n in ((0, 1 - share_n), (1, share_n)):
                loss = loss + weight_p * weight_n * (low_p + shift_p <= low_n + shift_n)
        return loss.reshape(s_p.shape)


def _bin(similarities: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """For each similarity, the node below it, int64, and the share of its weight that goes to the node above."""
    place = ((similarities + 1) * (bins / 2)).clamp(0, bins)
    low = place.detach().nan_to_num().floor().clamp(max=bins - 1)
    return low.long(), place - low


def _histograms(queries: Tensor, keys: Tensor, relation: Relation | Listed, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """Soft histograms of positives and of negatives, (R,) float64 with sum 1, and (Q,) bool which rows count."""
    if ordinary():
        return _whole_histograms(queries, keys, relation, bins)
    sums: tuple[Tensor, Tensor, Tensor] = _Histograms.apply(queries, keys, relation, bins)  # type: ignore[no-untyped-call]
    return sums


def _whole_histograms(
    queries: Tensor, keys: Tensor, relation: Relation | Listed, bins: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What :class:`_Histograms` computes, on the whole matrix at once, in the dtype of the rows."""
    _, positive, negative = relation.whole()
    low, share = _bin(queries @ keys.T, bins)
    parts = []
    for mask in (positive, negative):
        weight = mask.to(queries.dtype) / mask.sum().clamp(min=1)
        nodes = queries.new_zeros(bins + 1).scatter_add(0, low.flatten(), ((1 - share) * weight).flatten())
        parts.append(nodes.scatter_add(0, low.flatten() + 1, (share * weight).flatten()))
    return parts[0], parts[1], positive.any(1) & negative.any(1)


class _Histograms(torch.autograd.Function):
    """Counts tile by tile. The gradient of a similarity is the slope of the loss between its two nodes."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, queries: Tensor, keys: Tensor, relation: Relation | Listed, bins: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        nodes = torch.zeros(2, bins + 1, dtype=torch.float64, device=queries.device)
        counted = torch.zeros(len(queries), dtype=torch.bool, device=queries.device)
        q, k = reordered(queries, relation.query_order), reordered(keys, relation.key_order)
        for start in range(0, len(q), tile_rows_for(len(k))):
            rows = slice(start, start + tile_rows_for(len(k)))
            for which, (similarities, mask, _) in enumerate(
                _both(q[rows] @ k.T, relation.masks(start, len(q[: rows.stop])))
            ):
                low, share = _bin(similarities, bins)
                low = torch.where(mask, low, bins).flatten()  # masked pairs go to an extra bin, which is dropped
                above = torch.bincount(low, share.flatten(), minlength=bins + 1)[:-1]
                nodes[which, :-1] += torch.bincount(low, minlength=bins + 1)[:-1] - above
                nodes[which, 1:] += above
                counted[rows] = mask.any(1) & (counted[rows] if which else True)
        totals = nodes.sum(1, keepdim=True).clamp(min=1)
        ctx.save_for_backward(queries, keys, totals)
        ctx.recipe = relation, bins  # type: ignore[attr-defined]
        counted = restored(counted, relation.query_order)
        ctx.mark_non_differentiable(counted)
        nodes /= totals
        return nodes[0], nodes[1], counted

    @staticmethod
    def backward(
        ctx: FunctionCtx, grad_positive: Tensor, grad_negative: Tensor, _: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        queries, keys, totals = ctx.saved_tensors  # type: ignore[attr-defined]
        relation, bins = ctx.recipe  # type: ignore[attr-defined]
        upstream = torch.stack([grad_positive, grad_negative])
        if differentiated_again(upstream):

            def twin(queries: Tensor, keys: Tensor) -> Tensor:
                return torch.stack(_whole_histograms(queries, keys, relation, bins)[:2])

            grad_queries, grad_keys = twin_gradients(twin, [queries, keys], upstream.to(queries.dtype))
            return grad_queries, grad_keys, None, None
        with no_autocast(queries.device):
            return *_histogram_gradients((queries, keys, totals), relation, bins, upstream), None, None


def _slopes_at(similarities: Tensor, slopes: Tensor, mask: Tensor) -> Tensor:
    """The slope of the interval that each masked similarity is in; 0 beyond [−1, 1], where similarities are clamped."""
    low, high = similarities.aminmax()
    if similarities.device.type != "cpu" or bool(torch.maximum(high, -low) > ROUNDED_ONE):
        mask = mask & (similarities.abs() <= ROUNDED_ONE)
    return torch.where(mask, slopes[_bin(similarities, len(slopes))[0]], 0.0)


def _histogram_gradients(
    saved: Sequence[Tensor], relation: Relation | Listed, bins: int, upstream: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of queries and keys, from those of both histograms (2, R)."""
    queries, keys, totals = saved
    slopes = (upstream.diff(dim=1) * (bins / 2) / totals).to(queries.dtype)
    q, k = reordered(queries, relation.query_order), reordered(keys, relation.key_order)
    grad_queries, grad_keys = torch.zeros_like(q), torch.zeros_like(k)
    for start in range(0, len(q), tile_rows_for(len(k))):
        rows = slice(start, start + tile_rows_for(len(k)))
        pull, push = _both(q[rows] @ k.T, relation.masks(start, len(q[: rows.stop])))
        grad = _slopes_at(push[0], slopes[1], push[1])  # (R, K)
        grad_p = _slopes_at(pull[0], slopes[0], pull[1])
        grad = grad + grad_p if pull[2] is None else grad.scatter_add_(1, pull[2], grad_p)
        grad_queries[rows] = grad @ k
        grad_keys.addmm_(grad.T, q[rows])
    return restored(grad_queries, relation.query_order), restored(grad_keys, relation.key_order)


def _both(similarities: Tensor, masks: Masks) -> tuple[tuple[Tensor, Tensor, Tensor | None], ...]:
    """(similarities, mask, columns) of the positives of a tile, and of its negatives; columns as in ``Masks``."""
    columns, positive, negative = masks
    s_p = similarities if columns is None else similarities.gather(1, columns)
    return (s_p, positive, columns), (similarities, negative, None)
