"""The table of objectives: each is registered once here and inherits every property of test_objectives_conformance.

Dimension legend: Q queries, K keys, D = DIM dimensions, C = CLASSES classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import objective_oracles as oracles
import torch
from objective_oracles import Oracle, a_positive, each_anchor, either
from torch import Tensor, nn
from torch.nn import functional

from likewise.negatives import All, Easy, Hard, HardestBeyond, InsideMargin, Policy, Positives
from likewise.negatives import MultiSimilarity as HardPairs
from likewise.objectives.base import How, PairObjective
from likewise.objectives.class_level import (
    AMSoftmax,
    ArcFace,
    ASoftmax,
    CircleClassifier,
    L2Softmax,
    LargeMarginSoftmax,
    NormFace,
    Softmax,
)
from likewise.objectives.hinge import Contrastive, Margin, Triplet
from likewise.objectives.instance_level import NCE, NoiseDraw, NonParametricSoftmax, ParametricSoftmax
from likewise.objectives.joined import Angular, Histogram, LiftedStructure
from likewise.objectives.mined import Mined
from likewise.objectives.pair_level import Circle, InfoNCE, MultiSimilarity, NPair, SupCon, UnifiedPairSimilarity
from likewise.objectives.sampled import NegativeSampling, Noise, SampledSoftmax

DIM, CLASSES = 5, 12
Make = Callable[..., nn.Module]  # how="mean"|"sum"|"none" → a fresh module, the same one every time


@dataclass(frozen=True)
class Problem:
    """What an objective is given: raw rows (normalised before the call, unless the case is ``raw``) and their ids."""

    queries: Tensor
    ids: Tensor
    keys: Tensor | None = None
    key_ids: Tensor | None = None
    own: Tensor | None = None

    def call(self, objective: nn.Module, queries: Tensor, keys: Tensor | None) -> Tensor:
        """The objective on these features, with the ids of this problem."""
        loss: Tensor
        if keys is None:
            loss = objective(queries, self.ids)
        elif self.own is None:
            loss = objective(queries, self.ids, keys, self.key_ids)
        else:
            loss = objective(queries, self.ids, keys, self.key_ids, own=self.own)
        return loss


@dataclass(frozen=True)
class Case:
    """An objective, and what is known of it.

    Args:
        name: of the case.
        make: a fresh module for a reduction; parameters and generators are seeded.
        oracle: the paper's formula as loops.
        sharp: (sharpness, make): the extremes of temperature or scale, 1/τ or γ.
        raw: features are raw rows, not unit ones.
        whole_batch: the loss is one number of the batch; only "mean" is there.
        against: "batch" (or keys, or a gathered batch), "proxies" (of its own, or keys instead), or "bank" (keys only).
        constant_keys: no gradient reaches the keys.
        able: the oracle that says which anchors could have counted, where mining leaves some out; None: those that did.
        skips: property → why this case does not take it.
    """

    name: str
    make: Make
    oracle: Oracle
    sharp: Sequence[tuple[float, Make]] = ()
    raw: bool = False
    whole_batch: bool = False
    against: str = "batch"
    constant_keys: bool = False
    able: Oracle | None = None
    skips: Mapping[str, str] = field(default_factory=dict)

    @property
    def reductions(self) -> tuple[str, ...]:
        return ("mean",) if self.whole_batch else ("mean", "sum", "none")

    def features(self, rows: Tensor) -> Tensor:
        """The rows as this objective wants them."""
        return rows * 1.0 if self.raw else functional.normalize(rows, dim=1)

    def key_features(self, keys: Tensor | None) -> Tensor | None:
        """The same of keys, if there are some."""
        return None if keys is None else self.features(keys)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(count: int, seed: int) -> Tensor:
    """(count, D) raw rows in float64."""
    return torch.randn(count, DIM, generator=seeded(seed), dtype=torch.float64)


def shuffled(ids: list[int], seed: int = 3) -> Tensor:
    return torch.tensor(ids)[torch.randperm(len(ids), generator=seeded(seed))]


def balanced() -> Problem:
    """Four classes of three."""
    return Problem(rows(12, 1), shuffled([0, 1, 2, 3] * 3))


def bank() -> Problem:
    """A bank whose key ids are the row numbers: one positive each."""
    return Problem(rows(6, 7), torch.tensor([8, 0, 3, 3, 10, 5]), rows(11, 8))


def problems(kind: str, against: str = "batch") -> list[Problem]:
    """The problems of a kind; see the tests of these names."""
    some, of_keys = shuffled([0, 1, 2, 3, 1, 0], 4), shuffled([0, 1, 2, 3, 0, 1, 2, 3, 2, 2, 4], 5)
    everyone = shuffled([0, 1, 2, 3] * 3, 6)
    unlabelled, whole = everyone.clone(), rows(12, 10)
    unlabelled[[1, 4, 5, 9]] = torch.tensor([-1, -1, -7, -2])
    labels = torch.randint(-1, 4, (12, 2), generator=seeded(11))
    labels[7] = torch.tensor([-1, -1])
    broad = torch.tensor([[0, 1, 2]] + [[i % 3, i % 3, -1] for i in range(6)])  # row 0 is alike to every other row
    own = torch.tensor([3, 4, 5, -1, 7, 0])  # the fourth query is nobody's row
    gathered = torch.where(own[:, None] < 0, rows(6, 17), whole[own])
    found = {
        "batch": [balanced()],
        "keys": [Problem(rows(6, 7), some, rows(11, 8), of_keys), bank()],
        "gathered": [Problem(gathered, everyone[own], whole, everyone, own)],
        "unlabelled": [
            Problem(rows(12, 9), unlabelled),
            Problem(rows(6, 7), torch.tensor([0, -1, 2, -1, -3, 2]), rows(12, 8), unlabelled),
            Problem(whole[4:10] + 0, unlabelled[4:10], whole, unlabelled, torch.arange(4, 10)),
        ],
        "several": [
            Problem(rows(12, 12), labels),
            Problem(rows(7, 13), broad),
            Problem(rows(6, 7), labels[:6], rows(11, 8), torch.randint(-1, 4, (11, 3), generator=seeded(14))),
            Problem(rows(6, 7), some, rows(12, 8), labels),
            Problem(whole[2:8] + 0, labels[2:8], whole, labels, torch.arange(2, 8)),
        ],
        "ragged": [Problem(rows(33, 15), shuffled([0] + [1] * 2 + [2] * 3 + [3] * 7 + [4] * 20, 16))],
        "bank": [bank(), Problem(rows(4, 7), torch.tensor([9, 7, 9, 1]), rows(5, 8), torch.tensor([7, 1, 4, 9, 2]))],
    }[kind]
    if against == "bank" and kind == "unlabelled":
        return [replace(bank(), ids=torch.tensor([8, -1, 3, -3, 10, 5]))]
    return [p for p in found if p.keys is None] if against == "proxies" and kind != "bank" else found


DETACHED = {"gradcheck": "α is a constant of the backward pass (the paper's eqs. 9 and 10), so it is no derivative"}
ONE_NUMBER = {
    "tiled_rows": "no rule of rows: tested by test_small_tiles",
    "reductions": "one number for the batch: only 'mean' is there",
    "duplicated_queries": "only 'mean' is there; see test_histogram_of_duplicates",
    "shared_rows": "one number for the batch: every process works it out (Session.rows_add_up)",
}
NO_ROWS = {"tiled_rows": "its positive pairs join rows: tested by test_small_tiles"}


def pair_cases() -> list[Case]:
    """One row reduction each."""
    return [
        Case(
            "UnifiedPairSimilarity",
            lambda how="mean": UnifiedPairSimilarity(gamma=12.0, margin=0.3, reduction=how),
            each_anchor(oracles.unified(12.0, 0.3)),
            [(g, lambda how="mean", g=g: UnifiedPairSimilarity(gamma=g, reduction=how)) for g in (1.0, 80.0, 1024.0)],
        ),
        Case(
            "Circle",
            lambda how="mean": Circle(gamma=16.0, margin=0.3, reduction=how),
            each_anchor(oracles.circle(16.0, 0.3)),
            [(g, lambda how="mean", g=g: Circle(gamma=g, reduction=how)) for g in (1.0, 80.0, 1024.0)],
            skips=DETACHED,
        ),
        Case(
            "InfoNCE-each",
            lambda how="mean": InfoNCE(temperature=0.2, reduction=how),
            each_anchor(oracles.info_nce_each(0.2)),
            [(1 / t, lambda how="mean", t=t: InfoNCE(temperature=t, reduction=how)) for t in (1.0, 0.07, 0.005)],
        ),
        Case(
            "InfoNCE-sum",
            lambda how="mean": InfoNCE(temperature=0.2, positives="sum", reduction=how),
            each_anchor(oracles.info_nce_sum(0.2)),
            [
                (1 / t, lambda how="mean", t=t: InfoNCE(temperature=t, positives="sum", reduction=how))
                for t in (1.0, 0.07, 0.005)
            ],
        ),
        Case(
            "SupCon",
            lambda how="mean": SupCon(temperature=0.2, reduction=how),
            each_anchor(oracles.sup_con(0.2), a_positive),
            [(1 / t, lambda how="mean", t=t: SupCon(temperature=t, reduction=how)) for t in (1.0, 0.07, 0.005)],
        ),
        Case(
            "NPair",
            lambda how="mean": NPair(penalty=0.01, reduction=how),
            each_anchor(oracles.n_pair(0.01)),
            raw=True,
        ),
        Case(
            "MultiSimilarity",
            lambda how="mean": MultiSimilarity(beta=20.0, epsilon=None, reduction=how),
            each_anchor(oracles.multi_similarity(2.0, 20.0, 0.5, None)),
            [
                (b, lambda how="mean", b=b: MultiSimilarity(alpha=b / 2, beta=b, epsilon=None, reduction=how))
                for b in (2.0, 50.0, 1024.0)
            ],
        ),
        Case(
            "MultiSimilarity-mined",
            lambda how="mean": MultiSimilarity(beta=20.0, epsilon=0.1, reduction=how),
            each_anchor(oracles.multi_similarity(2.0, 20.0, 0.5, 0.1)),
            [(b, lambda how="mean", b=b: MultiSimilarity(beta=b, reduction=how)) for b in (50.0, 1024.0)],
        ),
    ]


def hinge_cases() -> list[Case]:
    """Sums of hinges."""
    squared, euclidean = oracles.squared_distance, oracles.euclidean
    return [
        Case(
            "Contrastive",
            lambda how="mean": Contrastive(positive_margin=0.1, negative_margin=1.4, pairs="all", reduction=how),
            each_anchor(oracles.contrastive(0.1, 1.4, True, "all"), either),
        ),
        Case(
            "Contrastive-active",
            lambda how="mean": Contrastive(
                positive_margin=0.6, negative_margin=1.4, squared=False, pairs="active", reduction=how
            ),
            each_anchor(oracles.contrastive(0.6, 1.4, False, "active"), either),
        ),
        Case(
            "Contrastive-sum",
            lambda how="mean": Contrastive(negative_margin=1.4, pairs="sum", reduction=how),
            each_anchor(oracles.contrastive(0.0, 1.4, True, "sum"), either),
        ),
        Case(
            "Triplet",
            lambda how="mean": Triplet(margin=0.3, reduction=how),
            each_anchor(oracles.triplet(0.3, squared, False, "active")),
        ),
        Case(
            "Triplet-euclidean",
            lambda how="mean": Triplet(margin=0.3, distance="euclidean", pairs="all", reduction=how),
            each_anchor(oracles.triplet(0.3, euclidean, False, "all")),
        ),
        Case(
            "Triplet-sum",
            lambda how="mean": Triplet(margin=0.3, pairs="sum", reduction=how),
            each_anchor(oracles.triplet(0.3, squared, False, "sum")),
        ),
        Case(
            "Triplet-soft",
            lambda how="mean": Triplet(margin=0.3, soft=True, reduction=how),
            each_anchor(oracles.triplet(0.3, squared, True, "all")),
        ),
        Case(
            "Margin",
            lambda how="mean": Margin(alpha=0.2, beta=1.1, learn=True, nu=0.1, reduction=how),
            oracles.margin_based(0.2, 0.1, "active"),
        ),
        Case(
            "Margin-classes",
            lambda how="mean": Margin(alpha=0.2, beta=1.1, learn=True, classes=CLASSES, pairs="all", reduction=how),
            oracles.margin_based(0.2, 0.0, "all"),
            skips={
                "several": "a β for each class needs one class a row, and says so",
                "roles": "a β for each class needs ids, where this test lists pairs",
            },
        ),
        Case(
            "Margin-fixed-sum",
            lambda how="mean": Margin(alpha=0.2, beta=1.1, pairs="sum", reduction=how),
            oracles.margin_based(0.2, 0.0, "sum"),
        ),
    ]


def tuple_cases() -> list[Case]:
    """Several rows at once."""
    return [
        Case(
            "Angular",
            lambda how="mean": Angular(degrees=40.0, reduction=how),
            each_anchor(oracles.angular(40.0)),
            [
                (4.0, lambda how="mean": Angular(reduction=how)),
                (8.0, lambda how="mean": Angular(degrees=55.0, reduction=how)),
            ],
            skips=NO_ROWS,
        ),
        Case(
            "LiftedStructure",
            lambda how="mean": LiftedStructure(margin=1.0, reduction=how),
            oracles.lifted(1.0),
            skips=NO_ROWS
            | {
                "duplicated_queries": "against keys N(j) are queries, so copies of queries push twice",
                "shared_rows": "N(j) are the queries of all: every process works it out (Session.rows_add_up)",
                "roles": "N(j) are queries, which have no roles",
            },
        ),
        Case(
            "LiftedStructure-generalised",
            lambda how="mean": LiftedStructure(margin=1.0, generalised=True, reduction=how),
            each_anchor(oracles.generalised_lifted(1.0)),
        ),
        Case(
            "Histogram",
            lambda how="mean": Histogram(bins=10, reduction=how),
            oracles.histogram(10),
            whole_batch=True,
            skips=ONE_NUMBER,
        ),
    ]


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
) -> Case:
    """Mining; those of its anchors that have a positive and a negative could have counted."""

    def make(how: How = "mean") -> nn.Module:
        return Mined(objective(), negatives=policy, positives=positives, reduction=how)

    return Case(f"Mined-{name}", make, oracle, able=each_anchor(lambda q, P, N: q.sum()), skips=skips)


def mined_cases() -> list[Case]:
    """Policies of negatives, each with another objective."""
    triplet = oracles.triplet(0.3, oracles.squared_distance, False, "sum")
    unified = oracles.unified(12.0, 0.3)
    return [
        mined_case("hard", lambda: Triplet(margin=0.3), Hard(), oracles.mined(oracles.nearest, triplet)),
        mined_case(
            "batch-hard", lambda: Triplet(margin=0.3), Hard(), oracles.mined(oracles.nearest, triplet, "hard"), "hard"
        ),
        mined_case(
            "easy-positive",
            lambda: UnifiedPairSimilarity(gamma=12.0, margin=0.3),
            Hard(),
            oracles.mined(oracles.nearest, unified, "easy"),
            "easy",
        ),
        mined_case("easy", lambda: NPair(penalty=0.0), Easy(), oracles.mined(oracles.furthest, oracles.n_pair(0.0))),
        mined_case(
            "beyond", lambda: Triplet(margin=0.3), HardestBeyond(), oracles.mined(oracles.nearest_beyond, triplet)
        ),
        mined_case(
            "inside",
            lambda: Triplet(margin=0.3),
            InsideMargin(0.3),
            oracles.mined(oracles.inside(0.3), oracles.triplet(0.3, oracles.squared_distance, False, "active")),
            skips={},
        ),
        mined_case("all", lambda: UnifiedPairSimilarity(gamma=12.0, margin=0.3), All(), each_anchor(unified), skips={}),
        mined_case(
            "hard-pairs",
            lambda: InfoNCE(temperature=0.2),
            HardPairs(0.1),
            oracles.row_mined(oracles.info_nce_each(0.2), 0.1),
            skips={},
        ),
    ]


NO_RULE = {"tiled_rows": "no rule of rows: tested by test_small_tiles"}
OF_PROXIES = NO_RULE | {
    "keys": "a class has one proxy: several keys of an id are refused; see test_bank",
    "gathered": "proxies are not rows of the batch: there is no own",
    "roles": "a proxy pulls its class and pushes the others",
}
OF_A_BANK = NO_RULE | {
    "batch": "its keys are a bank",
    "keys": "one positive for each query: see test_bank",
    "gathered": "one positive for each query, from a bank",
    "several": "one id for each query, and says so",
    "ragged": "one positive for each query",
    "roles": "one positive for each query, and all other keys push",
}
DRAWN = OF_A_BANK | {
    "gradcheck": "each call draws anew: the oracle tests its gradient",
    "saved": "the generator's place is the caller's, not part of the state",
    "compiled": "a torch.Generator breaks the graph; its own tests compile without one",
}
BY_ROW = {
    "permuted_batch": "each row has its own draws",
    "duplicated_queries": "each row has its own draws",
    "shared_rows": "each row has its own draws, in the order of the batch",
}


def with_bias(how: How = "mean") -> nn.Module:
    objective = Softmax(CLASSES, DIM, bias=True, generator=seeded(), reduction=how)
    assert objective.bias is not None
    with torch.no_grad():
        objective.bias.copy_(torch.randn(CLASSES, generator=seeded(1)))
    return objective


def class_level(name: str, kind: type[nn.Module], logits: Callable[..., list[Tensor]], **settings: object) -> Case:
    """A case of the class level, and its extremes of scale where it has one."""

    def make(how: str = "mean", **other: object) -> nn.Module:
        return kind(CLASSES, DIM, **(settings | other), generator=seeded(), reduction=how)

    scale = next((x for x in ("scale", "gamma", "alpha") if x in settings), None)
    sharp = [(s, lambda how="mean", s=s: make(how, **{scale: s})) for s in (1.0, 64.0, 1024.0)] if scale else ()
    return Case(name, make, oracles.classifier(logits), sharp, raw=True, against="proxies", skips=OF_PROXIES)


def class_cases() -> list[Case]:
    """A proxy for each class."""
    circle = class_level(
        "CircleClassifier", CircleClassifier, oracles.circle_classifier(16.0, 0.3), gamma=16.0, margin=0.3
    )
    insightface = class_level(
        "ArcFace-insightface",
        ArcFace,
        oracles.arc_face_insightface(8.0, 0.4),
        scale=8.0,
        margin=0.4,
        gradient="insightface",
    )
    constant = {"gradcheck": "the margin's slope is left out, as in insightface's code, so it is no derivative"}
    return [
        class_level("Softmax", Softmax, oracles.softmax),
        Case(
            "Softmax-bias",
            with_bias,
            oracles.classifier(oracles.softmax),
            raw=True,
            against="proxies",
            skips=OF_PROXIES | {"memory": "it has as many biases as classes; Softmax is tested"},
        ),
        class_level("L2Softmax", L2Softmax, oracles.l2_softmax(6.0), alpha=6.0),
        class_level("L2Softmax-learned", L2Softmax, oracles.l2_softmax(6.0), alpha=6.0, learn=True),
        class_level("LargeMarginSoftmax", LargeMarginSoftmax, oracles.large_margin(4, 0.0), margin=4),
        class_level("LargeMarginSoftmax-mixed", LargeMarginSoftmax, oracles.large_margin(3, 2.0), margin=3, mix=2.0),
        class_level("ASoftmax", ASoftmax, oracles.sphere_face(4, 0.0), margin=4),
        class_level("ASoftmax-mixed", ASoftmax, oracles.sphere_face(3, 2.0), margin=3, mix=2.0),
        class_level("NormFace", NormFace, oracles.norm_face(8.0), scale=8.0),
        class_level("NormFace-learned", NormFace, oracles.norm_face(8.0), scale=8.0, learn=True),
        class_level("AMSoftmax", AMSoftmax, oracles.am_softmax(8.0, 0.35), scale=8.0, margin=0.35),
        class_level("ArcFace", ArcFace, oracles.arc_face(8.0, 0.4), scale=8.0, margin=0.4),
        replace(insightface, skips=OF_PROXIES | constant),
        replace(circle, skips=OF_PROXIES | DETACHED),
        Case(
            "ParametricSoftmax",
            lambda how="mean": ParametricSoftmax(CLASSES, DIM, generator=seeded(), reduction=how),
            oracles.classifier(oracles.softmax),
            [
                (s, lambda how="mean", s=s: ParametricSoftmax(CLASSES, DIM, scale=s, generator=seeded(), reduction=how))
                for s in (1.0, 64.0)
            ],
            against="proxies",
            skips=OF_PROXIES
            | {"several": "one id for each query, and says so", "keys": "one positive for each query: see test_bank"},
        ),
    ]


COUNTS = torch.tensor([5, 1, 2, 8, 1, 3, 1, 1, 4, 2, 6])  # of the bank's 11 keys


def drawn(
    samples: int, shared: bool, weights: Tensor | None = None, power: float = 1.0
) -> Callable[..., list[list[int]]]:
    """What a module with a generator of seed 0 draws at its first call."""

    def draw(queries: int, keys: int) -> list[list[int]]:
        noise = Noise(weights, power=power, generator=seeded())
        found = noise.draw((samples,) if shared else (queries, samples), keys, torch.device("cpu")).tolist()
        return [found] * queries if shared else found

    return draw


def nothing(queries: int, keys: int) -> list[list[int]]:
    return [[]] * queries


def fixed_nce(how: How = "mean", draw: NoiseDraw = "shared") -> nn.Module:
    objective = NCE(temperature=0.2, noise=4, draw=draw, generator=seeded(), reduction=how)
    objective.log_z.fill_(3.1)
    return objective.eval()


def bank_cases() -> list[Case]:
    """One positive for each query, against all or some of a bank."""
    weighted = dict.fromkeys(("degenerate", "memory"), "the counts are of 11 keys")
    return [
        Case(
            "NonParametricSoftmax",
            lambda how="mean": NonParametricSoftmax(temperature=0.2, proximal=0.5, reduction=how),
            oracles.each_query(oracles.non_parametric(0.2, 0.5), nothing),
            [
                (1 / t, lambda how="mean", t=t: NonParametricSoftmax(temperature=t, reduction=how))
                for t in (1.0, 0.07, 0.005)
            ],
            against="bank",
            constant_keys=True,
            skips=OF_A_BANK,
        ),
        Case(
            "NCE",
            fixed_nce,
            oracles.each_query(oracles.nce(0.2, 3.1, 4), drawn(4, shared=True)),
            against="bank",
            constant_keys=True,
            skips=DRAWN,
        ),
        Case(
            "NCE-per-example",
            lambda how="mean": fixed_nce(how, "per-example"),
            oracles.each_query(oracles.nce(0.2, 3.1, 4), drawn(4, shared=False)),
            against="bank",
            constant_keys=True,
            skips=DRAWN | BY_ROW,
        ),
        Case(
            "SampledSoftmax",
            lambda how="mean": SampledSoftmax(samples=4, temperature=0.2, generator=seeded(), reduction=how),
            oracles.each_query(oracles.sampled_softmax(0.2, lambda j, n: 1 / n), drawn(4, shared=True)),
            [
                (
                    1 / t,
                    lambda how="mean", t=t: SampledSoftmax(samples=4, temperature=t, generator=seeded(), reduction=how),
                )
                for t in (1.0, 0.07, 0.005)
            ],
            against="bank",
            skips=DRAWN,
        ),
        Case(
            "SampledSoftmax-weighted",
            lambda how="mean": SampledSoftmax(
                samples=4, temperature=0.2, noise=COUNTS, generator=seeded(), reduction=how
            ),
            oracles.each_query(
                oracles.sampled_softmax(0.2, lambda j, n: int(COUNTS[j]) / int(COUNTS.sum())), drawn(4, True, COUNTS)
            ),
            against="bank",
            skips=DRAWN | weighted | {"bank": "the counts are of 11 keys: see test_unlabelled"},
        ),
        Case(
            "NegativeSampling",
            lambda how="mean": NegativeSampling(samples=4, generator=seeded(), reduction=how),
            oracles.each_query(oracles.negative_sampling, drawn(4, shared=False)),
            raw=True,
            against="bank",
            skips=DRAWN | BY_ROW,
        ),
        Case(
            "NegativeSampling-shared",
            lambda how="mean": NegativeSampling(
                samples=4, noise=COUNTS, draw="shared", generator=seeded(), reduction=how
            ),
            oracles.each_query(oracles.negative_sampling, drawn(4, True, COUNTS, 0.75)),
            raw=True,
            against="bank",
            skips=DRAWN | weighted | {"bank": "the counts are of 11 keys: see test_unlabelled"},
        ),
    ]


CASES = [*pair_cases(), *hinge_cases(), *tuple_cases(), *mined_cases(), *class_cases(), *bank_cases()]
