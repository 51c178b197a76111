"""The table of objectives and policies of negatives: name, class, parameters, needs. Imports no torch.

A row has the allowed values of each parameter. Its default is in the constructor, its meaning in the docstring.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from math import pi
from typing import TYPE_CHECKING, Literal

from likewise.config.names import called, letters
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
from likewise.errors import LikewiseError

if TYPE_CHECKING:
    from torch import nn

Level = Literal["pair", "class", "instance"]
Boundary = Literal["balance", "zero", "each", "each-zero"]
Keys = Literal["any", "bank", "own"]
OfRun = Literal["classes", "items", "dim", "generator", "noise_generator"]


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
        given: the constructor's parameters that the run sets, and what of the run each one is.
        keys: its dictionaries: "any" except proxies, "bank" with a row for every item, or its "own" weights.
        takes_policies: False for a pair-level loss that joins rows: policies of negatives need a loss of one anchor.
        zero_if: the values of parameters (their defaults) with which a pair or triplet can have zero loss, so that
            active ones can be counted; None where no values allow it.
        judges_pairs: whether it judges each pair alone, so that items with one kind of pair count too.
        draws: the parameter with the number of keys that are sampled in place of all; empty where all are used.
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
    given: Mapping[str, OfRun] = field(default_factory=dict)
    keys: Keys = "any"
    takes_policies: bool = True
    zero_if: Mapping[str, object] | None = None
    judges_pairs: bool = False
    draws: str = ""
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
            **{"alpha": MARGIN, "beta": NUMBER, "learn": FLAG, "classes": Value(kind=int, least=1, optional=True)},
            **{"nu": NOT_NEGATIVE, "pairs": PAIRS},
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
)
AUTO = "auto"
AUTO_FEW, AUTO_MANY, AUTO_BATCH = "nonparametric-softmax", "nce", "infonce"  # a whole bank of few or many items; others
AUTO_MEANS = (AUTO_FEW, AUTO_MANY, AUTO_BATCH)  # the objectives that auto may stand for


@dataclass(frozen=True)
class PolicyRow:
    """A policy of negatives: its class in ``likewise.negatives`` and the parameters of its constructor.

    Args:
        name: its name in settings, files and docs. Case, - and _ do not matter in input.
        class_name: its class in ``likewise.negatives``.
        parameters: the constructor's parameters.
        aliases: other names that are accepted: those of papers and of pytorch-metric-learning.
    """

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
    PolicyRow("all", "All", aliases=("batch-all",)),
    PolicyRow("random", "Random", {"count": COUNT}, ("uniform",)),
    PolicyRow("easy", "Easy", aliases=("easiest",)),
    PolicyRow("inside-margin", "InsideMargin", {"margin": Value(above=0, below=4), "squared": FLAG}),
    PolicyRow("hardest-beyond", "HardestBeyond"),
    PolicyRow("hard", "Hard", aliases=("hardest",)),
    PolicyRow(
        *("distance-weighted", "DistanceWeighted"),
        {"count": COUNT, "least": Value(above=0, below=2), "most": Value(above=0, below=2.001)},
        ("distance-weighted-sampling", "distance-weighted-miner"),
    ),
    PolicyRow("multi-similarity", "MultiSimilarity", {"epsilon": NUMBER}, ("ms", "multi-similarity-miner")),
)


UNCLEAR: Mapping[str, str] = {  # the names of several choices, and what they can mean
    "semihard": "semi-hard negatives are inside-margin (all that are further than the positive by less than a margin) "
    "or hardest-beyond (the nearest that is further than the positive); name one of the two",
    "batchhard": "batch-hard is negatives.policies=hard with negatives.positives=hard; set both",
}


def objective(name: str) -> Row:
    """The objective ``name``: a name or an alias; case, - and _ do not matter.

    Raises LikewiseError, with the closest name, on other names.
    """
    return called(name, OBJECTIVES, "objective")


def policy(name: str) -> PolicyRow:
    """The policy of negatives ``name``: a name or an alias; case, - and _ do not matter.

    Raises LikewiseError on other names, with the closest name, or with both meanings of an ambiguous one.
    """
    if letters(name) in UNCLEAR:
        raise LikewiseError(f"{name!r} is not one policy of negatives: {UNCLEAR[letters(name)]}.")
    return called(name, POLICIES, "policy of negatives")


def parameters_of(rows: Iterable[Row | PolicyRow]) -> dict[str, dict[str, list[str]]]:
    """Every parameter of the rows: its allowed values in words, and the names of the rows that allow these."""
    parameters: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        for name, value in row.parameters.items():
            parameters.setdefault(name, {}).setdefault(value.words(), []).append(row.name)
    return parameters
