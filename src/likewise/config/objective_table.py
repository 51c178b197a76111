"""The table of objectives: name, class, parameters, needs; and the guide from data to objectives. Imports no torch.

A row has the allowed values of each parameter. Its default is in the constructor, its meaning in the docstring.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from math import pi
from typing import TYPE_CHECKING, Literal

from likewise.config.names import called
from likewise.config.values import (
    ABOVE_ZERO,
    COUNT,
    FLAG,
    FOLDS,
    MARGIN,
    NOT_NEGATIVE,
    NUMBER,
    SCALE,
    TEMPERATURE,
    Value,
    one_of,
)

if TYPE_CHECKING:
    from torch import nn

Level = Literal["pair", "class", "instance", "list"]
Boundary = Literal["balance", "zero", "each", "each-zero"]
Keys = Literal["any", "bank", "own"]
OfRun = Literal["classes", "items", "dim", "generator", "noise_generator"]


PAIRS = one_of("active", "all", "sum")
DRAW = one_of("shared", "per-example")
GAINS = one_of("exponential", "linear")


@dataclass(frozen=True)
class Row:
    """An objective, described without importing it.

    Args:
        name: its name in settings, files and docs. Case, - and _ do not matter in input.
        class_name: its class in ``likewise.objectives``.
        module: the module of ``likewise.objectives`` that defines it.
        level: its similarities are with other items ("pair"), with a proxy of each class ("class"), with a row for
            each item ("instance"), or it takes the scores of a query's items ("list").
        parameters: the constructor's parameters that a user may set.
        aliases: other names that are accepted.
        given: the constructor's parameters that the run sets, and what of the run each one is.
        keys: its dictionaries: "any" except proxies, "bank" with a row for every item, or its "own" weights.
        takes_policies: False for a pair-level loss that joins rows: policies of negatives need a loss of one anchor.
        zero_if: the values of parameters (their defaults) with which a pair or triplet can have zero loss, so that
            active ones can be counted; None where no values allow it.
        judges_pairs: whether it judges each pair alone, so that items with one kind of pair count too.
        draws: the parameter with the number of keys that are sampled in place of all; empty where all are used.
        spreads: whether its rows can be sharded (``bank.sharded``).
        point_wise: of lists: whether it judges each item alone, so that a query teaches without two relevances.
        boundary: the decision boundary of its figure; see :data:`BOUNDARIES`.
        unless: (parameter, value, boundary): another boundary for this value of the parameter.
    """

    name: str
    class_name: str
    module: str
    level: Level
    parameters: Mapping[str, Value] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    given: Mapping[str, OfRun] = field(default_factory=dict)
    keys: Keys = "any"
    takes_policies: bool = True
    zero_if: Mapping[str, object] | None = None
    judges_pairs: bool = False
    draws: str = ""
    spreads: bool = False
    point_wise: bool = False
    boundary: Boundary = "balance"
    unless: tuple[tuple[str, object, Boundary], ...] = ()

    @property
    def file(self) -> str:
        """Where the class is written, within the package."""
        return f"objectives/{self.module}.py"

    @property
    def mines(self) -> bool:
        """Whether it works with policies of negatives: it is a loss over an anchor's row of pairs."""
        return self.level == "pair" and self.takes_policies

    @property
    def drawn(self) -> bool:
        """Whether it has a figure: it has a loss of one positive and one negative."""
        return self.level != "list"

    def can_be_zero(self, parameters: Mapping[str, object]) -> bool:
        """Whether a pair or triplet can have zero loss with these parameters; missing ones have their defaults."""
        return self.zero_if is not None and all(
            parameters.get(name, value) == value for name, value in self.zero_if.items()
        )

    def load(self) -> "type[nn.Module]":
        """The class itself; this imports torch."""
        loaded: type[nn.Module] = vars(import_module(f"likewise.objectives.{self.module}"))[self.class_name]
        return loaded


BOUNDARIES: dict[Boundary, str] = {
    "balance": "L = log 2, where the positive and the negative weigh the same",
    "zero": "the edge of zero loss",
    "each": "where each pair's own term has half its full gradient; the two are judged apart",
    "each-zero": "where each pair's own gradient ends; the two are judged apart",
}


OF_CLASSES: Mapping[str, OfRun] = {"classes": "classes", "dim": "dim", "generator": "generator"}
NOISE: Mapping[str, OfRun] = {"generator": "noise_generator"}

OBJECTIVES: tuple[Row, ...] = (
    Row(
        *("unified-pair-similarity", "UnifiedPairSimilarity", "pair_level", "pair"),
        {"gamma": SCALE, "margin": MARGIN},
        aliases=("unified",),
    ),
    Row("circle", "Circle", "pair_level", "pair", {"gamma": SCALE, "margin": MARGIN}),
    Row(
        *("infonce", "InfoNCE", "pair_level", "pair"),
        {"temperature": TEMPERATURE, "positives": one_of("each", "sum")},
        aliases=("nt-xent",),
    ),
    Row("supcon", "SupCon", "pair_level", "pair", {"temperature": TEMPERATURE}),
    Row("npair", "NPair", "pair_level", "pair", {"penalty": NOT_NEGATIVE}),
    Row(
        *("multi-similarity", "MultiSimilarity", "pair_level", "pair"),
        {"alpha": ABOVE_ZERO, "beta": ABOVE_ZERO, "base": NUMBER, "epsilon": Value(optional=True)},
        aliases=("ms",),
        boundary="zero",
        unless=(("epsilon", None, "each"),),
    ),
    Row(
        *("contrastive", "Contrastive", "hinge", "pair"),
        {"positive_margin": NOT_NEGATIVE, "negative_margin": MARGIN, "squared": FLAG, "pairs": PAIRS},
        zero_if={},
        judges_pairs=True,
        boundary="each-zero",
    ),
    Row(
        *("triplet", "Triplet", "hinge", "pair"),
        {"margin": MARGIN, "distance": one_of("squared", "euclidean"), "soft": FLAG, "pairs": PAIRS},
        zero_if={"soft": False},
        boundary="zero",
        unless=(("soft", True, "balance"),),
    ),
    Row(
        *("margin", "Margin", "hinge", "pair"),
        {
            **{"alpha": MARGIN, "beta": Value(least=-1e9, most=1e9), "learn": FLAG},
            **{"classes": Value(kind=int, least=1, optional=True), "nu": NOT_NEGATIVE, "pairs": PAIRS},
        },
        zero_if={"nu": 0.0},
        judges_pairs=True,
        boundary="each-zero",
    ),
    Row("angular", "Angular", "joined", "pair", {"degrees": Value(above=0, below=90)}, takes_policies=False),
    Row(
        *("lifted-structure", "LiftedStructure", "joined", "pair"),
        {"margin": MARGIN, "generalised": FLAG},
        aliases=("lifted",),
        takes_policies=False,
        boundary="zero",
    ),
    Row("histogram", "Histogram", "joined", "pair", {"bins": COUNT}, takes_policies=False, boundary="zero"),
    Row(
        *("softmax", "Softmax", "class_level", "class", {"bias": FLAG}, ("class-softmax",)),
        given=OF_CLASSES,
        keys="own",
    ),
    Row("l2-softmax", "L2Softmax", "class_level", "class", {"alpha": SCALE, "learn": FLAG}, (), OF_CLASSES, "own"),
    Row(
        *("large-margin-softmax", "LargeMarginSoftmax", "class_level", "class"),
        {"margin": FOLDS, "mix": NOT_NEGATIVE},
        aliases=("large-margin", "l-softmax"),
        given=OF_CLASSES,
        keys="own",
    ),
    Row(
        *("a-softmax", "ASoftmax", "class_level", "class"),
        {"margin": FOLDS, "mix": NOT_NEGATIVE},
        aliases=("sphereface",),
        given=OF_CLASSES,
        keys="own",
    ),
    Row("normface", "NormFace", "class_level", "class", {"scale": SCALE, "learn": FLAG}, (), OF_CLASSES, "own"),
    Row(
        *("am-softmax", "AMSoftmax", "class_level", "class"),
        {"scale": SCALE, "margin": Value(least=0, below=2, tuned="margin")},
        aliases=("cosface",),
        given=OF_CLASSES,
        keys="own",
    ),
    Row(
        *("arcface", "ArcFace", "class_level", "class"),
        {"scale": SCALE, "margin": Value(least=0, below=pi, tuned="margin"), "gradient": one_of("true", "insightface")},
        given=OF_CLASSES,
        keys="own",
    ),
    Row(
        *("circle-classifier", "CircleClassifier", "class_level", "class"),
        {"gamma": SCALE, "margin": Value(above=-1, below=1, tuned="margin")},
        aliases=("circle-class",),
        given=OF_CLASSES,
        keys="own",
    ),
    Row(
        *("sampled-classes", "SampledClasses", "sampled_classes", "class"),
        {"samples": COUNT, "scale": SCALE},
        given={**OF_CLASSES, "noise_generator": "noise_generator"},
        keys="own",
        draws="samples",
    ),
    Row(
        *("nonparametric-softmax", "NonParametricSoftmax", "instance_level", "instance"),
        {"temperature": TEMPERATURE, "proximal": NOT_NEGATIVE},
        keys="bank",
        spreads=True,
    ),
    Row(
        *("nce", "NCE", "instance_level", "instance"),
        {
            **{"temperature": TEMPERATURE, "noise": COUNT, "draw": DRAW, "positive_in_noise": FLAG},
            **{"log_z": one_of("exact", "ema", "first"), "log_z_decay": Value(least=0, below=1)},
            "proximal": NOT_NEGATIVE,
        },
        given=NOISE,
        keys="bank",
        draws="noise",
        boundary="each",
    ),
    Row(
        *("parametric-softmax", "ParametricSoftmax", "instance_level", "instance", {"scale": SCALE}, ("parametric",)),
        given={"n": "items", "dim": "dim", "generator": "generator"},
        keys="own",
        spreads=True,
    ),
    Row(
        *("sampled-softmax", "SampledSoftmax", "sampled", "instance"),
        {"samples": COUNT, "temperature": TEMPERATURE},
        given=NOISE,
        keys="bank",
        draws="samples",
    ),
    Row(
        *("negative-sampling", "NegativeSampling", "sampled", "instance"),
        {"samples": COUNT, "power": NOT_NEGATIVE, "draw": DRAW},
        given=NOISE,
        keys="bank",
        draws="samples",
        boundary="each",
    ),
    Row("regression", "Regression", "list_level", "list", {"temperature": TEMPERATURE}, point_wise=True),
    Row(
        *("logistic", "Logistic", "list_level", "list", {"full": ABOVE_ZERO, "temperature": TEMPERATURE}),
        point_wise=True,
    ),
    Row("ordinal", "Ordinal", "list_level", "list", {"grades": COUNT, "temperature": TEMPERATURE}, point_wise=True),
    Row("ranknet", "RankNet", "list_level", "list", {"sigma": ABOVE_ZERO, "temperature": TEMPERATURE}),
    Row("pair-hinge", "PairHinge", "list_level", "list", {"margin": NUMBER, "temperature": TEMPERATURE}),
    Row(
        *("lambdarank", "LambdaRank", "list_level", "list"),
        {
            **{"sigma": ABOVE_ZERO, "k": Value(kind=int, least=1, optional=True), "gains": GAINS},
            "temperature": TEMPERATURE,
        },
    ),
    Row("listnet", "ListNet", "list_level", "list", {"temperature": TEMPERATURE}),
    Row("list-softmax", "ListSoftmax", "list_level", "list", {"temperature": TEMPERATURE}),
    Row(
        *("listmle", "ListMLE", "list_level", "list", {"temperature": TEMPERATURE}),
        given={"generator": "noise_generator"},
    ),
    Row(
        *("approx-ndcg", "ApproxNDCG", "list_level", "list"),
        {"sharpness": ABOVE_ZERO, "gains": GAINS, "temperature": TEMPERATURE},
    ),
)
DRAWN = tuple(row for row in OBJECTIVES if row.drawn)
AUTO = "auto"
AUTO_FEW, AUTO_MANY, AUTO_BATCH = "nonparametric-softmax", "nce", "infonce"  # a whole bank of few or many items; others
AUTO_LIST = "lambdarank"  # of graded relevance
AUTO_MEANS = (AUTO_LIST, AUTO_FEW, AUTO_MANY, AUTO_BATCH)  # the objectives that auto may stand for


@dataclass(frozen=True)
class Known:
    """A row of the table that maps knowledge about the data to fitting objectives.

    Args:
        data: what is known.
        objectives: names of what fits, the first to try first.
        call: how to call the first one in Python, in one line; ``z`` are unit rows (B, D).
        why: when to take which.
    """

    data: str
    objectives: tuple[str, ...]
    call: str
    why: str


KNOWN: tuple[Known, ...] = (
    Known(
        "nothing but the items: two views of each in the batch",
        ("infonce", "unified-pair-similarity"),
        "InfoNCE(temperature=0.1)(z, ids)",
        "ids are item numbers, each twice in the batch; keys may be a queue.",
    ),
    Known(
        "nothing but the items: one view, and a row for every item in memory",
        ("nonparametric-softmax", "nce", "parametric-softmax"),
        "NonParametricSoftmax(temperature=0.07)(z, ids, bank.rows)",
        "Exact up to some ten thousand items; nce above. parametric-softmax is the baseline with trained rows.",
    ),
    Known(
        "pairs across two sources: a picture and its text, a query and the item that was chosen",
        ("infonce", "sampled-softmax"),
        "InfoNCE(temperature=0.07)(z, ids, other, ids)",
        "The batch's other rows are the negatives; call it both ways round and add.",
    ),
    Known(
        "labels; few items per class, or classes to come that training never saw",
        (
            *("multi-similarity", "circle", "supcon", "triplet", "margin", "unified-pair-similarity"),
            *("lifted-structure", "npair", "angular", "histogram", "contrastive"),
        ),
        "MultiSimilarity()(z, labels)",
        "Pairs within the batch: put several items of several classes in each. The last five are older.",
    ),
    Known(
        "labels; a closed set of classes with many items each",
        (
            *("arcface", "am-softmax", "circle-classifier", "normface", "l2-softmax"),
            *("a-softmax", "large-margin-softmax", "softmax"),
        ),
        "ArcFace(classes, dim)(z, labels)",
        "A proxy for each class, trained with the encoder; no need to compose batches.",
    ),
    Known(
        "several labels per item; alike when any agrees",
        ("supcon", "circle", "multi-similarity"),
        "SupCon()(z, several)",
        "labels (B, L), −1 where an item has fewer; any pair-level objective takes them.",
    ),
    Known(
        "pairs that are alike, and that others hardly are",
        ("infonce", "multi-similarity", "circle", "supcon"),
        "InfoNCE()(*from_pairs(z, pairs))",
        "The other items of the batch are the negatives.",
    ),
    Known(
        "pairs that are alike or not, and nothing about the rest",
        ("contrastive", "margin"),
        "Contrastive()(*from_pairs(z, pairs, alike))",
        "These judge a pair by itself, so that an item with only one kind of pair still counts.",
    ),
    Known(
        "triplets: a is more alike to b than to c",
        ("triplet", "unified-pair-similarity", "circle"),
        "Triplet(margin=0.2)(*from_triplets(z, triplets))",
        "Only the order is known, so the objective should compare, not judge a pair by itself.",
    ),
    Known(
        "graded relevance of items to queries, or clicks: which of a query's items is better",
        (
            *("lambdarank", "ranknet", "pair-hinge", "approx-ndcg", "listmle", "list-softmax", "listnet"),
            *("ordinal", "logistic", "regression"),
        ),
        "LambdaRank(temperature=0.1)(z @ other.T, relevance)",
        "relevance is (L, N), of N items to L queries. The last three judge each item alone, by its grade.",
    ),
    Known(
        "very many items or classes: too many to compare with all",
        ("sampled-softmax", "sampled-classes", "nce", "negative-sampling"),
        "SampledSoftmax(samples=64)(z, ids, bank.rows)",
        "sampled-softmax, and of labels sampled-classes, follow the softmax's gradient; nce can also tell how likely "
        "an item is.",
    ),
    Known(
        "counts of what occurs together: a word and its context, items used by one person",
        ("negative-sampling", "sampled-softmax", "nce"),
        "NegativeSampling(samples=5, counts=counts)(z, ids, contexts)",
        "Each pair is a yes-or-no question beside noise drawn by the counts; rows keep their lengths.",
    ),
)


def objective(name: str) -> Row:
    """The objective ``name``: a name or an alias; case, - and _ do not matter.

    Raises LikewiseError, with the closest name, on other names.
    """
    return called(name, OBJECTIVES, "objective")
