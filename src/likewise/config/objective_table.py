"""The table of objectives and policies of negatives: name, class, parameters, needs. Imports no torch.

A row has the allowed values of each parameter. Its default is in the constructor, its meaning in the docstring.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from math import pi
from typing import TYPE_CHECKING, Literal, TypeVar

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
from likewise.errors import LikewiseError, closest

if TYPE_CHECKING:
    from torch import nn

Level = Literal["pair", "class", "instance"]
Boundary = Literal["balance", "zero", "each", "each-zero"]
Keys = Literal["any", "bank", "own"]


PAIRS = one_of("active", "all", "sum")
DRAW = one_of("shared", "per-example")


@dataclass(frozen=True)
class Row:
    """An objective, described without importing it.

    Args:
        name: its name in settings, files and docs. Case, - and _ do not matter in input.
        class_name: its class in ``likewise.objectives``.
        module: the module of ``likewise.objectives`` that defines it.
        level: its similarities are with other items ("pair"), with a proxy of each class ("class"), or with a row for
            each item ("instance").
        parameters: the constructor's parameters that a user may set.
        aliases: other names that are accepted.
        given: the constructor's parameters that the run sets: sizes and generators.
        keys: its dictionaries: "any" except proxies, "bank" with a row for every item, or its "own" weights.
        takes_policies: whether it works with policies of negatives: a pair-level loss over an anchor's row.
        can_be_zero: whether a pair or triplet can have zero loss, so that active ones can be counted.
        judges_pairs: whether it judges each pair alone, so that items with one kind of pair count too.
        spreads: whether its rows can be sharded (``bank.sharded``).
        boundary: the decision boundary of its figure; see :data:`BOUNDARIES`.
        unless: (parameter, value, boundary): another boundary for this value of the parameter.
    """

    name: str
    class_name: str
    module: str
    level: Level
    parameters: Mapping[str, Value] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    keys: Keys = "any"
    takes_policies: bool = True
    can_be_zero: bool = False
    judges_pairs: bool = False
    spreads: bool = False
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


OF_CLASSES = ("classes", "dim", "generator")

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
        can_be_zero=True,
        judges_pairs=True,
        boundary="each-zero",
    ),
    Row(
        *("triplet", "Triplet", "hinge", "pair"),
        {"margin": MARGIN, "distance": one_of("squared", "euclidean"), "soft": FLAG, "pairs": PAIRS},
        can_be_zero=True,
        boundary="zero",
        unless=(("soft", True, "balance"),),
    ),
    Row(
        *("margin", "Margin", "hinge", "pair"),
        {
            **{"alpha": MARGIN, "beta": NUMBER, "learn": FLAG, "classes": Value(kind=int, least=1, optional=True)},
            **{"nu": NOT_NEGATIVE, "pairs": PAIRS},
        },
        can_be_zero=True,
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
        given=("noise_generator",),
        keys="bank",
        boundary="each",
    ),
    Row(
        *("parametric-softmax", "ParametricSoftmax", "instance_level", "instance", {"scale": SCALE}, ("parametric",)),
        given=("n", "dim", "generator"),
        keys="own",
        spreads=True,
    ),
    Row(
        *("sampled-softmax", "SampledSoftmax", "sampled", "instance"),
        {"samples": COUNT, "temperature": TEMPERATURE},
        given=("noise_generator",),
        keys="bank",
    ),
    Row(
        *("negative-sampling", "NegativeSampling", "sampled", "instance"),
        {"samples": COUNT, "power": NOT_NEGATIVE, "draw": DRAW},
        given=("noise_generator",),
        keys="bank",
        boundary="each",
    ),
)
AUTO = "auto"
AUTO_MEANS = ("nonparametric-softmax", "nce", "infonce")  # the objectives that auto may stand for


@dataclass(frozen=True)
class PolicyRow:
    """A policy of negatives: its class in ``likewise.negatives`` and the parameters of its constructor."""

    name: str
    class_name: str
    parameters: Mapping[str, Value] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """Where the class is written, within the package."""
        return "negatives.py"

    def load(self) -> type:
        """The class itself; this imports torch."""
        loaded: type = vars(import_module("likewise.negatives"))[self.class_name]
        return loaded


POLICIES: tuple[PolicyRow, ...] = (
    PolicyRow("all", "All"),
    PolicyRow("random", "Random", {"count": COUNT}),
    PolicyRow("easy", "Easy"),
    PolicyRow("inside-margin", "InsideMargin", {"margin": Value(above=0, below=4), "squared": FLAG}),
    PolicyRow("hardest-beyond", "HardestBeyond"),
    PolicyRow("hard", "Hard"),
    PolicyRow(
        *("distance-weighted", "DistanceWeighted"),
        {"count": COUNT, "least": Value(above=0, below=2), "most": Value(above=0, below=2.001)},
    ),
    PolicyRow("multi-similarity", "MultiSimilarity", {"epsilon": NUMBER}),
)


@dataclass(frozen=True)
class Known:
    """A row of the table that maps knowledge about the data to fitting objectives.

    Args:
        data: what is known.
        objectives: what fits, the first to try first.
        call: how to call the first one, in one line; ``z`` are unit rows (B, D).
        why: when to take which.
    """

    data: str
    objectives: tuple[str, ...]
    call: str
    why: str


KNOWN: tuple[Known, ...] = (
    Known(
        "nothing but the items: two views of each in the batch",
        ("InfoNCE", "UnifiedPairSimilarity"),
        "InfoNCE(temperature=0.1)(z, ids)",
        "ids are item numbers, each twice in the batch; keys may be a queue.",
    ),
    Known(
        "nothing but the items: one view, and a row for every item in memory",
        ("NonParametricSoftmax", "NCE", "ParametricSoftmax"),
        "NonParametricSoftmax(temperature=0.07)(z, ids, bank.rows)",
        "Exact up to some ten thousand items; NCE above. ParametricSoftmax is the baseline with trained rows.",
    ),
    Known(
        "pairs across two sources: a picture and its text, a query and the item that was chosen",
        ("InfoNCE", "SampledSoftmax"),
        "InfoNCE(temperature=0.07)(z, ids, other, ids)",
        "The batch's other rows are the negatives; call it both ways round and add.",
    ),
    Known(
        "labels; few items per class, or classes to come that training never saw",
        (
            *("MultiSimilarity", "Circle", "SupCon", "Triplet", "Margin", "UnifiedPairSimilarity"),
            *("LiftedStructure", "NPair", "Angular", "Histogram", "Contrastive"),
        ),
        "MultiSimilarity()(z, labels)",
        "Pairs within the batch: put several items of several classes in each. The last five are forebears.",
    ),
    Known(
        "labels; a closed set of classes with many items each",
        (
            *("ArcFace", "AMSoftmax", "CircleClassifier", "NormFace", "L2Softmax"),
            *("ASoftmax", "LargeMarginSoftmax", "Softmax"),
        ),
        "ArcFace(classes, dim)(z, labels)",
        "A proxy for each class, trained with the encoder; no need to compose batches.",
    ),
    Known(
        "several labels per item; alike when any agrees",
        ("SupCon", "Circle", "MultiSimilarity"),
        "SupCon()(z, several)",
        "labels (B, L), −1 where an item has fewer; any pair-level objective takes them.",
    ),
    Known(
        "pairs that are alike or not, and nothing about the rest",
        ("Contrastive", "Margin"),
        "Contrastive()(*from_pairs(z, pairs, alike))",
        "These judge a pair by itself, so that an item with only one kind of pair still counts.",
    ),
    Known(
        "triplets: a is more alike to b than to c",
        ("Triplet", "UnifiedPairSimilarity", "Circle"),
        "Triplet(margin=0.2)(*from_triplets(z, triplets))",
        "Only the order is known, so the objective should compare, not judge a pair by itself.",
    ),
    Known(
        "very many items or classes: too many to compare with all",
        ("SampledSoftmax", "NCE", "NegativeSampling"),
        "SampledSoftmax(samples=64)(z, ids, bank.rows)",
        "SampledSoftmax follows the softmax's gradient; NCE can also tell how likely an item is.",
    ),
    Known(
        "counts of what occurs together: a word and its context, items used by one person",
        ("NegativeSampling", "SampledSoftmax", "NCE"),
        "NegativeSampling(samples=5, noise=counts)(z, ids, contexts)",
        "Each pair is a yes-or-no question beside noise drawn by the counts; rows keep their lengths.",
    ),
)


def fitting() -> Iterator[str]:
    """The table as text, a few lines for each row."""
    for row in KNOWN:
        fits = ", ".join(row.objectives)
        yield f"{row.data}\n  fits        {fits}\n  call        {row.call}\n  note        {row.why}"


Named = TypeVar("Named", Row, PolicyRow)


def objective(name: str) -> Row:
    """The objective ``name``: a name, an alias or a class name; case, - and _ do not matter.

    Raises LikewiseError, with the closest name, on other names.
    """
    named = [(known.name, known.class_name, *known.aliases) for known in OBJECTIVES]
    return _called(name, OBJECTIVES, named, "objective")


def policy(name: str) -> PolicyRow:
    """The policy of negatives ``name``. Raises LikewiseError, with the closest name, on other names."""
    named = [(known.name, known.class_name, *known.aliases) for known in POLICIES]
    return _called(name, POLICIES, named, "policy of negatives")


def _called(name: str, rows: tuple[Named, ...], named: Iterable[tuple[str, ...]], what: str) -> Named:
    plain = {_plain(each): row for row, names in zip(rows, named, strict=True) for each in names}
    if _plain(name) in plain:
        return plain[_plain(name)]
    proper = [row.name for row in rows]
    hint = closest(_plain(name), plain)
    for each, row in plain.items():
        hint = hint.replace(f"'{each}'", f"'{row.name}'")
    raise LikewiseError(f"there is no {what} {name!r}.{hint} They are {', '.join(proper)}.")


def of_objectives() -> dict[str, list[str]]:
    """Every parameter of an objective, with the objectives that have it."""
    return _owners(OBJECTIVES)


def of_policies() -> dict[str, list[str]]:
    """Every parameter of a policy of negatives, with the policies that have it."""
    return _owners(POLICIES)


def _owners(rows: Iterable[Row | PolicyRow]) -> dict[str, list[str]]:
    owners: dict[str, list[str]] = {}
    for row in rows:
        for name in row.parameters:
            owners.setdefault(name, []).append(row.name)
    return owners


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
