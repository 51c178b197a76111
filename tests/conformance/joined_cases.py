"""Several rows at once: the papers' formulas as loops in float64, their peers and their cases.

The loops take nothing from ``likewise``; the cases make its objectives.
"""

import math

import torch
from objective_case import (
    Case,
    Formula,
    Given,
    Oracle,
    Vectors,
    Verdict,
    both,
    dot,
    each_anchor,
    euclidean,
    exp,
    hinge,
    log,
    mean,
)
from torch import Tensor

from likewise.objectives.joined import Angular, Histogram, LiftedStructure


def angular(degrees: float) -> Formula:
    """Wang et al. 2017, eq. 8: f = 4 tan²α (x_a + x_p)·x_n − 2(1 + tan²α) x_a·x_p, the mean over the positives."""
    t = math.tan(math.radians(degrees)) ** 2

    def formula(q: Tensor, P: Vectors, N: Vectors) -> Tensor:
        return mean([log(1 + sum(exp(4 * t * dot(q + p, n) - 2 * (1 + t) * dot(q, p)) for n in N)) for p in P])

    return formula


def generalised_lifted(m: float) -> Formula:
    """Hermans et al. 2017, eq. 6 of the generalised form: [log Σ_p e^{D_p} + log Σ_n e^{m − D_n}]₊."""

    def formula(q: Tensor, P: Vectors, N: Vectors) -> Tensor:
        pull, push = sum(exp(euclidean(q, p)) for p in P), sum(exp(m - euclidean(q, n)) for n in N)
        return hinge(log(pull) + log(push))

    return formula


def lifted(margin: float) -> Oracle:
    """Oh Song et al. 2016, eq. 4 of each positive pair: negatives of both ends; the mean over the anchor's pairs."""

    def oracle(given: Given) -> Verdict:
        here, there = given.queries.unbind(0), given.there.unbind(0)
        pairs = given.pairs()
        push = {(i, k): exp(margin - euclidean(here[i], there[k])) for i, pair in enumerate(pairs) for k in pair[1]}
        losses, counted = [], []
        for i, (positives, negatives) in enumerate(pairs):
            terms = []
            for j in positives:
                both_ends = [push[i, k] for k in negatives] + [push[a, j] for a in range(len(here)) if j in pairs[a][1]]
                if both_ends:
                    structured = log(sum(both_ends)) + euclidean(here[i], there[j])
                    terms.append(hinge(structured) ** 2 / 2)
            counted.append(bool(terms))
            losses.append(sum(terms) / len(positives) if terms else 0 * here[i].sum())
        return losses, counted

    return oracle


def histogram(bins: int) -> Oracle:
    """Ustinova and Lempitsky 2016, eqs. 2 to 4: one number for the batch, given here as the loss of every anchor."""

    def oracle(given: Given) -> Verdict:
        there, pairs = given.there, given.pairs()
        delta, nodes = 2 / bins, [-1 + 2 * r / bins for r in range(bins + 1)]

        def densities(which: int) -> list[Tensor]:
            s = [dot(given.queries[i], there[j]) for i, pair in enumerate(pairs) for j in pair[which]]
            zero = torch.zeros((), dtype=given.queries.dtype)
            return [zero + sum(hinge(1 - abs(x - t) / delta) for x in s) / max(1, len(s)) for t in nodes]

        h_positive, h_negative = densities(0), densities(1)
        loss = sum(h_negative[r] * h_positive[q] for r in range(bins + 1) for q in range(r + 1))
        counted = [both(*pair) for pair in pairs]
        return [loss if c else 0 * loss for c in counted], counted

    return oracle


# Peers


def angular_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import losses

    return Angular(degrees=40.0)(z, ids), losses.AngularLoss(40.0)(z, ids)


def lifted_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import losses

    return LiftedStructure(margin=1.0)(z, ids), losses.LiftedStructureLoss(neg_margin=1.0)(z, ids)


def generalised_lifted_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import losses

    theirs = losses.GeneralizedLiftedStructureLoss(neg_margin=1.0)(z, ids)
    return LiftedStructure(margin=1.0, generalised=True)(z, ids), theirs


def histogram_peer(z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    from pytorch_metric_learning import losses

    return Histogram(bins=10)(z, ids), losses.HistogramLoss(n_bins=10)(z, ids)


# Cases

ONE_NUMBER = {
    "tiled_rows": "no rule of rows: tested by test_small_tiles",
    "reductions": "one number for the batch: only 'mean' is there",
    "duplicated_queries": "only 'mean' is there; see test_histogram_of_duplicates",
    "shared_rows": "one number for the batch: every process works it out (Session.rows_add_up)",
}
NO_ROWS = {"tiled_rows": "its positive pairs join rows: tested by test_small_tiles"}
CASES = [
    Case(
        "Angular",
        lambda how="mean": Angular(degrees=40.0, reduction=how),
        each_anchor(angular(40.0)),
        [
            (4.0, lambda how="mean": Angular(reduction=how)),
            (8.0, lambda how="mean": Angular(degrees=55.0, reduction=how)),
        ],
        skips=NO_ROWS,
        peer=angular_peer,
    ),
    Case(
        "LiftedStructure",
        lambda how="mean": LiftedStructure(margin=1.0, reduction=how),
        lifted(1.0),
        skips=NO_ROWS
        | {
            "duplicated_queries": "against keys N(j) are queries, so copies of queries push twice",
            "shared_rows": "N(j) are the queries of all: every process works it out (Session.rows_add_up)",
            "roles": "N(j) are queries, which have no roles",
        },
        peer=lifted_peer,
    ),
    Case(
        "LiftedStructure-generalised",
        lambda how="mean": LiftedStructure(margin=1.0, generalised=True, reduction=how),
        each_anchor(generalised_lifted(1.0)),
        peer=generalised_lifted_peer,
    ),
    Case(
        "Histogram",
        lambda how="mean": Histogram(bins=10, reduction=how),
        histogram(10),
        whole_batch=True,
        skips=ONE_NUMBER,
        peer=histogram_peer,
    ),
]
