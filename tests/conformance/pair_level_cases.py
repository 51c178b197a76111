"""Pair level: the papers' formulas as loops in float64, their peers and their cases.

The loops take nothing from ``likewise``; the cases make its objectives.
"""

import torch
from objective_case import DETACHED, Case, Formula, Vectors, a_positive, dot, each_anchor, exp, hinge, log, mean
from torch import Tensor

from likewise.objectives.pair_level import Circle, InfoNCE, MultiSimilarity, NPair, SupCon, UnifiedPairSimilarity


def unified(gamma: float, m: float) -> Formula:
    """Sun et al. 2020, eq. 1."""

    def formula(q: Tensor, P: Vectors, N: Vectors) -> Tensor:
        s_p, s_n = [dot(q, p) for p in P], [dot(q, n) for n in N]
        return log(1 + sum(exp(gamma * (n - p + m)) for n in s_n for p in s_p))

    return formula


def circle(gamma: float, m: float) -> Formula:
    """Sun et al. 2020, eqs. 5, 6, 8; the paces α are constants."""

    def formula(q: Tensor, P: Vectors, N: Vectors) -> Tensor:
        push = pull = torch.zeros((), dtype=q.dtype)
        for n in N:
            s = dot(q, n)
            push = push + exp(gamma * hinge(s + m).detach() * (s - m))
        for p in P:
            s = dot(q, p)
            pull = pull + exp(-gamma * hinge(1 + m - s).detach() * (s - (1 - m)))
        return log(1 + push * pull)

    return formula


def info_nce_each(tau: float) -> Formula:
    """He et al. 2020, eq. 1, for each positive against the negatives; their mean."""

    def formula(q: Tensor, P: Vectors, N: Vectors) -> Tensor:
        noise = sum(exp(dot(q, n) / tau) for n in N)
        return mean([-log(exp(dot(q, p) / tau) / (exp(dot(q, p) / tau) + noise)) for p in P])

    return formula


def info_nce_sum(tau: float) -> Formula:
    """The same with the positives' exponentials added up."""

    def formula(q: Tensor, P: Vectors, N: Vectors) -> Tensor:
        signal, noise = sum(exp(dot(q, p) / tau) for p in P), sum(exp(dot(q, n) / tau) for n in N)
        return -log(signal / (signal + noise))

    return formula


def sup_con(tau: float) -> Formula:
    """Khosla et al. 2020, eq. 2."""

    def formula(q: Tensor, P: Vectors, N: Vectors) -> Tensor:
        everyone = sum(exp(dot(q, a) / tau) for a in [*P, *N])
        return -mean([log(exp(dot(q, p) / tau) / everyone) for p in P])

    return formula


def n_pair(penalty: float) -> Formula:
    """Sohn 2016, eq. 8, and the penalty of §3.2.3."""

    def formula(q: Tensor, P: Vectors, N: Vectors) -> Tensor:
        s_p, s_n = [dot(q, p) for p in P], [dot(q, n) for n in N]
        return mean([log(1 + sum(exp(n - p) for n in s_n)) for p in s_p]) + penalty * dot(q, q)

    return formula


def multi_similarity(alpha: float, beta: float, base: float, epsilon: float | None) -> Formula:
    """Wang et al. 2019, eq. 15 over the pairs of eqs. 11 and 12."""

    def formula(q: Tensor, P: Vectors, N: Vectors) -> Tensor:
        s_p, s_n = [dot(q, p) for p in P], [dot(q, n) for n in N]
        kept_p, kept_n = s_p, s_n
        if epsilon is not None:
            kept_n = [s for s in s_n if s > min(s_p) - epsilon]
            kept_p = [s for s in s_p if s < max(s_n) + epsilon]
        one = torch.ones((), dtype=q.dtype)
        pull = log(one + sum(exp(-alpha * (s - base)) for s in kept_p)) / alpha
        return pull + log(one + sum(exp(beta * (s - base)) for s in kept_n)) / beta + 0 * dot(q, q)

    return formula


# Peers


def circle_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import losses, reducers

    return Circle(gamma=16.0, margin=0.3)(z, ids), losses.CircleLoss(0.3, 16.0, reducer=reducers.MeanReducer())(z, ids)


def info_nce_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import losses

    return InfoNCE(temperature=0.2)(z, ids), losses.NTXentLoss(0.2)(z, ids)


def sup_con_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import losses, reducers

    return SupCon(temperature=0.2)(z, ids), losses.SupConLoss(0.2, reducer=reducers.MeanReducer())(z, ids)


def n_pair_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The peer takes the first two of each class: an anchor and a key."""
    from pytorch_metric_learning import distances, losses

    z = 1.7 * z
    theirs = losses.NPairsLoss(distance=distances.DotProductSimilarity(normalize_embeddings=False))(z, ids)
    return NPair(penalty=0.0)(z[0::3], ids[0::3], z[1::3], ids[1::3]), theirs


def multi_similarity_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import losses

    return MultiSimilarity(epsilon=None)(z, ids), losses.MultiSimilarityLoss()(z, ids)


def multi_similarity_mined_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import losses, miners

    theirs = losses.MultiSimilarityLoss()(z, ids, miners.MultiSimilarityMiner(0.1)(z, ids))
    return MultiSimilarity(epsilon=0.1)(z, ids), theirs


# Cases

CASES = [
    Case(
        "UnifiedPairSimilarity",
        lambda how="mean": UnifiedPairSimilarity(gamma=12.0, margin=0.3, reduction=how),
        each_anchor(unified(12.0, 0.3)),
        [(g, lambda how="mean", g=g: UnifiedPairSimilarity(gamma=g, reduction=how)) for g in (1.0, 80.0, 1024.0)],
        no_peer="there is no such loss; TupletMarginLoss has an angular margin and one positive a term",
    ),
    Case(
        "Circle",
        lambda how="mean": Circle(gamma=16.0, margin=0.3, reduction=how),
        each_anchor(circle(16.0, 0.3)),
        [(g, lambda how="mean", g=g: Circle(gamma=g, reduction=how)) for g in (1.0, 80.0, 1024.0)],
        skips=DETACHED,
        peer=circle_peer,
    ),
    Case(
        "InfoNCE-each",
        lambda how="mean": InfoNCE(temperature=0.2, reduction=how),
        each_anchor(info_nce_each(0.2)),
        [(1 / t, lambda how="mean", t=t: InfoNCE(temperature=t, reduction=how)) for t in (1.0, 0.07, 0.005)],
        peer=info_nce_peer,
    ),
    Case(
        "InfoNCE-sum",
        lambda how="mean": InfoNCE(temperature=0.2, positives="sum", reduction=how),
        each_anchor(info_nce_sum(0.2)),
        [
            (1 / t, lambda how="mean", t=t: InfoNCE(temperature=t, positives="sum", reduction=how))
            for t in (1.0, 0.07, 0.005)
        ],
        no_peer="there is no such loss: NTXentLoss takes each positive alone",
    ),
    Case(
        "SupCon",
        lambda how="mean": SupCon(temperature=0.2, reduction=how),
        each_anchor(sup_con(0.2), a_positive),
        [(1 / t, lambda how="mean", t=t: SupCon(temperature=t, reduction=how)) for t in (1.0, 0.07, 0.005)],
        peer=sup_con_peer,
    ),
    Case(
        "NPair",
        lambda how="mean": NPair(penalty=0.01, reduction=how),
        each_anchor(n_pair(0.01)),
        raw=True,
        peer=n_pair_peer,
    ),
    Case(
        "MultiSimilarity",
        lambda how="mean": MultiSimilarity(beta=20.0, epsilon=None, reduction=how),
        each_anchor(multi_similarity(2.0, 20.0, 0.5, None)),
        [
            (b, lambda how="mean", b=b: MultiSimilarity(alpha=b / 2, beta=b, epsilon=None, reduction=how))
            for b in (2.0, 50.0, 1024.0)
        ],
        peer=multi_similarity_peer,
    ),
    Case(
        "MultiSimilarity-mined",
        lambda how="mean": MultiSimilarity(beta=20.0, epsilon=0.1, reduction=how),
        each_anchor(multi_similarity(2.0, 20.0, 0.5, 0.1)),
        [(b, lambda how="mean", b=b: MultiSimilarity(beta=b, reduction=how)) for b in (50.0, 1024.0)],
        peer=multi_similarity_mined_peer,
    ),
]
