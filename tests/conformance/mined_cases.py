"""Policies of negatives, each with an objective: which pairs push as loops, their peers and their cases.

The loops take nothing from ``likewise``; the cases make its objectives.
"""

from collections.abc import Callable, Mapping

from hinge_cases import gathered, triplet
from objective_case import (
    Case,
    Formula,
    Given,
    Oracle,
    Peer,
    Vectors,
    Verdict,
    both,
    dot,
    each_anchor,
    squared_distance,
)
from pair_level_cases import info_nce_each, n_pair, unified
from torch import Tensor, nn

from likewise.negatives import All, Easy, Hard, HardestBeyond, InsideMargin, Policy, Positives
from likewise.negatives import MultiSimilarity as HardPairs
from likewise.objectives.base import How, PairObjective
from likewise.objectives.hinge import Triplet
from likewise.objectives.mined import Mined
from likewise.objectives.pair_level import Circle, InfoNCE, NPair, UnifiedPairSimilarity

Choose = Callable[[Tensor, Tensor, Vectors], list[Tensor]]  # anchor, positive, negatives → the negatives that push


def mined(choose: Choose, formula: Formula, positives: str = "all", pairs: str = "active") -> Oracle:
    """A formula of every anchor and positive alone, with the negatives that are chosen for them; their mean."""

    def oracle(given: Given) -> Verdict:
        there = given.there.unbind(0)
        losses, counted = [], []
        for q, (p, n) in zip(given.queries.unbind(0), given.pairs(), strict=True):
            P, N = [there[j] for j in p], [there[j] for j in n]
            if P and positives != "all":
                furthest_first = sorted(P, key=lambda x: float(dot(q, x).detach()))
                P = furthest_first[:1] if positives == "hard" else furthest_first[-1:]
            chosen = [(x, choose(q, x, N)) for x in P]
            terms = [formula(q, [x], kept) for x, kept in chosen if kept]
            counted.append(bool(terms))
            losses.append(gathered(terms, pairs) + 0 * q.sum())
        return losses, counted

    return oracle


def nearest(q: Tensor, p: Tensor, N: Vectors) -> list[Tensor]:
    """Hermans et al. 2017: batch-hard."""
    return [max(N, key=lambda n: float(dot(q, n).detach()))] if N else []


def furthest(q: Tensor, p: Tensor, N: Vectors) -> list[Tensor]:
    return [min(N, key=lambda n: float(dot(q, n).detach()))] if N else []


def nearest_beyond(q: Tensor, p: Tensor, N: Vectors) -> list[Tensor]:
    """Schroff et al. 2015, eq. 4, and of those the nearest."""
    return nearest(q, p, [n for n in N if squared_distance(q, n) > squared_distance(q, p)])


def inside(margin: float) -> Choose:
    """Schroff et al. 2015, §3.2: further than the positive, but not by the margin."""

    def choose(q: Tensor, p: Tensor, N: Vectors) -> list[Tensor]:
        near = squared_distance(q, p)
        return [n for n in N if near < squared_distance(q, n) < near + margin]

    return choose


def row_mined(formula: Formula, epsilon: float) -> Oracle:
    """Wang et al. 2019, eqs. 11 and 12, before any formula of an anchor's row."""

    def oracle(given: Given) -> Verdict:
        there = given.there.unbind(0)
        losses, counted = [], []
        for q, (p, n) in zip(given.queries.unbind(0), given.pairs(), strict=True):
            kept_n = [j for j in n if p and dot(q, there[j]) > min(dot(q, there[i]) for i in p) - epsilon]
            kept_p = [i for i in p if n and dot(q, there[i]) < max(dot(q, there[j]) for j in n) + epsilon]
            counted.append(both(kept_p, kept_n))
            P, N = [there[i] for i in kept_p], [there[j] for j in kept_n]
            losses.append(formula(q, P, N) if counted[-1] else 0 * q.sum())
        return losses, counted

    return oracle


# Peers


def batch_hard_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import distances, losses, miners, reducers

    apart = distances.LpDistance(power=2)
    loss = losses.TripletMarginLoss(0.3, distance=apart, reducer=reducers.SumReducer())
    ours = Mined(Triplet(margin=0.3), negatives=Hard(), positives="hard", reduction="sum")
    return ours(z, ids), loss(z, ids, miners.BatchHardMiner(distance=apart)(z, ids))


def inside_margin_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The peer's "semihard" triplets, added up."""
    from pytorch_metric_learning import distances, losses, miners, reducers

    apart = distances.LpDistance(power=2)
    loss = losses.TripletMarginLoss(0.3, distance=apart, reducer=reducers.SumReducer())
    miner = miners.TripletMarginMiner(0.3, "semihard", distance=apart)
    ours = Mined(Triplet(margin=0.3, pairs="sum"), negatives=InsideMargin(0.3), pairs="sum", reduction="sum")
    return ours(z, ids), loss(z, ids, miner(z, ids))


def hard_pairs_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The peer's miner before another loss than its own."""
    from pytorch_metric_learning import losses, miners, reducers

    ours = Mined(Circle(gamma=16.0, margin=0.3), negatives=HardPairs(0.1))
    loss = losses.CircleLoss(0.3, 16.0, reducer=reducers.AvgNonZeroReducer())
    return ours(z, ids), loss(z, ids, miners.MultiSimilarityMiner(0.1)(z, ids))


# Cases

PICKED = {
    "tiled_rows": "a pick has no rule of rows: tested by test_small_tiles",
    "compiled": "how many pairs are picked depends on their values, which no graph can say beforehand",
}


def mined_case(
    name: str,
    objective: Callable[[], PairObjective],
    policy: Policy,
    oracle: Oracle,
    positives: Positives = "all",
    skips: Mapping[str, str] = PICKED,
    peer: Peer | None = None,
    no_peer: str = "",
) -> Case:
    """Mining; those of its anchors that have a positive and a negative could have counted."""

    def make(how: How = "mean") -> nn.Module:
        return Mined(objective(), negatives=policy, positives=positives, reduction=how)

    return Case(
        f"Mined-{name}",
        make,
        oracle,
        able=each_anchor(lambda q, P, N: q.sum()),
        skips=skips,
        peer=peer,
        no_peer=no_peer,
    )


CASES = [
    mined_case(
        "hard",
        lambda: Triplet(margin=0.3),
        Hard(),
        mined(nearest, triplet(0.3, squared_distance, False, "sum")),
        no_peer="BatchEasyHardMiner takes one positive of an anchor with its hardest negative, or all with all",
    ),
    mined_case(
        "batch-hard",
        lambda: Triplet(margin=0.3),
        Hard(),
        mined(nearest, triplet(0.3, squared_distance, False, "sum"), "hard"),
        "hard",
        peer=batch_hard_peer,
    ),
    mined_case(
        "easy-positive",
        lambda: UnifiedPairSimilarity(gamma=12.0, margin=0.3),
        Hard(),
        mined(nearest, unified(12.0, 0.3), "easy"),
        "easy",
        no_peer="there is no unified loss",
    ),
    mined_case("easy", lambda: NPair(penalty=0.0), Easy(), mined(furthest, n_pair(0.0)), no_peer="as Mined-hard"),
    mined_case(
        "beyond",
        lambda: Triplet(margin=0.3),
        HardestBeyond(),
        mined(nearest_beyond, triplet(0.3, squared_distance, False, "sum")),
        no_peer="as Mined-hard; its semihard is of the one positive",
    ),
    mined_case(
        "inside",
        lambda: Triplet(margin=0.3),
        InsideMargin(0.3),
        mined(inside(0.3), triplet(0.3, squared_distance, False, "active")),
        skips={},
        peer=inside_margin_peer,
    ),
    mined_case(
        "all",
        lambda: UnifiedPairSimilarity(gamma=12.0, margin=0.3),
        All(),
        each_anchor(unified(12.0, 0.3)),
        skips={},
        no_peer="there is no unified loss",
    ),
    mined_case(
        "hard-pairs",
        lambda: InfoNCE(temperature=0.2),
        HardPairs(0.1),
        row_mined(info_nce_each(0.2), 0.1),
        skips={},
        peer=hard_pairs_peer,
    ),
]
