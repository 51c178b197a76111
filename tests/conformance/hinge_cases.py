"""Sums of hinges: the papers' formulas as loops in float64, their peers and their cases.

The loops take nothing from ``likewise``; the cases make its objectives.
"""

from collections.abc import Callable, Sequence

import torch
from objective_case import (
    CLASSES,
    Case,
    Formula,
    Given,
    Oracle,
    Vectors,
    Verdict,
    dot,
    each_anchor,
    either,
    euclidean,
    exp,
    hinge,
    log,
    mean,
    squared_distance,
)
from torch import Tensor

from likewise.objectives.hinge import Contrastive, Margin, Triplet


def gathered(terms: Sequence[Tensor], pairs: str) -> Tensor:
    """An anchor's terms: their sum, their mean, or the mean of those above 0."""
    zero = torch.zeros((), dtype=torch.float64)
    if pairs == "active":
        terms = [t for t in terms if t > 0]
    if not terms:
        return zero
    return zero + sum(terms) if pairs == "sum" else mean(terms)


def contrastive(m_p: float, m_n: float, squared: bool, pairs: str) -> Formula:
    """Hadsell, Chopra, LeCun 2006, eq. 4, with m_p = 0 in the paper."""

    def formula(q: Tensor, P: Vectors, N: Vectors) -> Tensor:
        pull, push = [hinge(euclidean(q, p) - m_p) for p in P], [hinge(m_n - euclidean(q, n)) for n in N]
        if squared:
            pull, push = [x**2 / 2 for x in pull], [x**2 / 2 for x in push]
        return gathered(pull, pairs) + gathered(push, pairs) + 0 * dot(q, q)

    return formula


def triplet(margin: float, distance: Callable[[Tensor, Tensor], Tensor], soft: bool, pairs: str) -> Formula:
    """Schroff et al. 2015, eq. 3; Hermans et al. 2017 for the soft margin and the mean over the active ones."""

    def formula(q: Tensor, P: Vectors, N: Vectors) -> Tensor:
        near, far = [distance(q, p) for p in P], [distance(q, n) for n in N]
        if soft:
            terms = [log(1 + exp(p - n + margin)) for p in near for n in far]
        else:
            terms = [hinge(p - n + margin) for p in near for n in far]
        return gathered(terms, pairs) + 0 * dot(q, q)

    return formula


def margin_based(alpha: float, nu: float, pairs: str) -> Oracle:
    """Wu et al. 2017, eq. 8 and its ν term; β is the module's, one or one a class."""

    def oracle(given: Given) -> Verdict:
        there, betas = given.there.unbind(0), given.parameters["beta"]
        losses, counted = [], []
        for i, (p, n) in enumerate(given.pairs()):
            beta = betas[max(int(given.ids[i]), 0)] if len(betas) > 1 else betas[0]
            terms = [hinge(alpha + euclidean(given.queries[i], there[j]) - beta) for j in p]
            terms += [hinge(alpha - euclidean(given.queries[i], there[j]) + beta) for j in n]
            counted.append(either(p, n))
            losses.append(gathered(terms, pairs) + nu * beta + 0 * given.queries[i].sum() if counted[-1] else 0 * beta)
        return losses, counted

    return oracle


# Peers


def contrastive_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Plain hinges; with balanced classes the mean of each anchor's active pairs only where all or none is active."""
    from pytorch_metric_learning import losses, reducers

    theirs = losses.ContrastiveLoss(0.1, 1.4, reducer=reducers.MeanReducer())
    return Contrastive(positive_margin=0.1, negative_margin=1.4, squared=False, pairs="all")(z, ids), theirs(z, ids)


def contrastive_sum_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import losses, reducers

    ours = Contrastive(negative_margin=1.4, squared=False, pairs="sum", reduction="sum")
    return ours(z, ids), losses.ContrastiveLoss(0, 1.4, reducer=reducers.SumReducer())(z, ids)


def by_anchor(loss: torch.nn.Module, z: Tensor, ids: Tensor) -> Tensor:
    """The mean over anchors of a loss that sees one anchor and the others at a time."""
    found = []
    for i in range(len(z)):
        others = torch.arange(len(z)) != i
        found.append(loss(z[i : i + 1], ids[i : i + 1], ref_emb=z[others], ref_labels=ids[others]))
    return torch.stack(found).mean()


def triplet_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Anchor by anchor, for the mean of each anchor's active triplets."""
    from pytorch_metric_learning import distances, losses, reducers

    loss = losses.TripletMarginLoss(0.3, distance=distances.LpDistance(power=2), reducer=reducers.AvgNonZeroReducer())
    return Triplet(margin=0.3)(z, ids), by_anchor(loss, z, ids)


def triplet_euclidean_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import losses, reducers

    ours = Triplet(margin=0.3, distance="euclidean", pairs="all")
    return ours(z, ids), losses.TripletMarginLoss(0.3, reducer=reducers.MeanReducer())(z, ids)


def triplet_sum_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import distances, losses, reducers

    theirs = losses.TripletMarginLoss(0.3, distance=distances.LpDistance(power=2), reducer=reducers.SumReducer())
    return Triplet(margin=0.3, pairs="sum", reduction="sum")(z, ids), theirs(z, ids)


def triplet_soft_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import distances, losses, reducers

    theirs = losses.TripletMarginLoss(
        0.3, smooth_loss=True, distance=distances.LpDistance(power=2), reducer=reducers.MeanReducer()
    )
    return Triplet(margin=0.3, soft=True)(z, ids), theirs(z, ids)


def margin_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The peer adds up over triplets: with as many positives as negatives, one anchor at a time, that is over pairs."""
    from pytorch_metric_learning import losses

    keys, key_ids = z[[0, 1, 3, 4]], ids[[0, 1, 3, 4]]
    queries, query_ids = z[[2, 5]], ids[[2, 5]]
    loss = losses.MarginLoss(0.2, beta=1.1)
    parts = [loss(queries[i : i + 1], query_ids[i : i + 1], ref_emb=keys, ref_labels=key_ids) for i in range(2)]
    return Margin(alpha=0.2, beta=1.1)(queries, query_ids, keys, key_ids), torch.stack(parts).mean()


# Cases

CASES = [
    Case(
        "Contrastive",
        lambda how="mean": Contrastive(positive_margin=0.1, negative_margin=1.4, pairs="all", reduction=how),
        each_anchor(contrastive(0.1, 1.4, True, "all"), either),
        peer=contrastive_peer,
    ),
    Case(
        "Contrastive-active",
        lambda how="mean": Contrastive(
            positive_margin=0.6, negative_margin=1.4, squared=False, pairs="active", reduction=how
        ),
        each_anchor(contrastive(0.6, 1.4, False, "active"), either),
        no_peer="AvgNonZeroReducer divides by the active pairs of the batch, ours by those of each anchor",
    ),
    Case(
        "Contrastive-sum",
        lambda how="mean": Contrastive(negative_margin=1.4, pairs="sum", reduction=how),
        each_anchor(contrastive(0.0, 1.4, True, "sum"), either),
        peer=contrastive_sum_peer,
    ),
    Case(
        "Triplet",
        lambda how="mean": Triplet(margin=0.3, reduction=how),
        each_anchor(triplet(0.3, squared_distance, False, "active")),
        peer=triplet_peer,
    ),
    Case(
        "Triplet-euclidean",
        lambda how="mean": Triplet(margin=0.3, distance="euclidean", pairs="all", reduction=how),
        each_anchor(triplet(0.3, euclidean, False, "all")),
        peer=triplet_euclidean_peer,
    ),
    Case(
        "Triplet-sum",
        lambda how="mean": Triplet(margin=0.3, pairs="sum", reduction=how),
        each_anchor(triplet(0.3, squared_distance, False, "sum")),
        peer=triplet_sum_peer,
    ),
    Case(
        "Triplet-soft",
        lambda how="mean": Triplet(margin=0.3, soft=True, reduction=how),
        each_anchor(triplet(0.3, squared_distance, True, "all")),
        peer=triplet_soft_peer,
    ),
    Case(
        "Margin",
        lambda how="mean": Margin(alpha=0.2, beta=1.1, learn=True, nu=0.1, reduction=how),
        margin_based(0.2, 0.1, "active"),
        peer=margin_peer,
    ),
    Case(
        "Margin-classes",
        lambda how="mean": Margin(alpha=0.2, beta=1.1, learn=True, classes=CLASSES, pairs="all", reduction=how),
        margin_based(0.2, 0.0, "all"),
        skips={
            "several": "a β for each class needs one class a row, and says so",
            "roles": "a β for each class needs ids, where this test lists pairs",
        },
        no_peer="MarginLoss adds up over triplets, which weighs pairs by the other side's number",
    ),
    Case(
        "Margin-fixed-sum",
        lambda how="mean": Margin(alpha=0.2, beta=1.1, pairs="sum", reduction=how),
        margin_based(0.2, 0.0, "sum"),
        no_peer="MarginLoss adds up over triplets, which weighs pairs by the other side's number",
    ),
]
