"""Every objective and policy of negatives by name: its class, its parameters, what it needs. Imports no torch.

A row says what a parameter may be. Its default stands in the constructor, and its meaning in the docstring, alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from math import inf
from typing import TYPE_CHECKING, Literal, TypeVar

from likewise.errors import LikewiseError, closest

if TYPE_CHECKING:
    from torch import nn

Scalar = float | int | bool | str | None
Level = Literal["pair", "class", "instance"]
Boundary = Literal["balance", "zero", "each", "each-zero"]
Keys = Literal["any", "bank", "own"]
Tuned = Literal["", "margin", "scale", "temperature"]


@dataclass(frozen=True, kw_only=True)
class Value:
    """What a parameter may be.

    Args:
        kind: float (an integer will do), int or bool; str where there are ``choices``.
        above: numbers must be above this, or ``least`` and more.
        least: see ``above``.
        below: numbers must be below this.
        choices: the only values.
        optional: whether None is a value: without it, ``null`` leaves the default.
        tuned: whether ``likewise compare --trials`` searches for it, and around the default in which way.
    """

    kind: type = float
    above: float = -inf
    least: float = -inf
    below: float = inf
    choices: tuple[Scalar, ...] = ()
    optional: bool = False
    tuned: Tuned = ""

    def read(self, name: str, value: object) -> Scalar:
        """``value`` as the constructor takes it. Raises LikewiseError, with what it must be, on others."""
        if value is None and self.optional:
            return None
        taken = value
        if self.kind is float and type(value) is int:
            taken = float(value)
        if self.kind is int and type(value) is float and value.is_integer():
            taken = int(value)
        if isinstance(taken, Scalar) and type(taken) is self.kind and self._holds(taken):
            return taken
        raise LikewiseError(f"setting {name!r} is {value!r}; it must be {self.words()}.")

    def _holds(self, value: Scalar) -> bool:
        if self.choices:
            return value in self.choices
        return isinstance(value, str | bool | None) or (
            value > self.above and value >= self.least and value < self.below
        )

    def words(self) -> str:
        """What it must be."""
        if self.choices:
            wanted = " or ".join(map(str, self.choices))
        elif self.kind is bool:
            wanted = "true or false"
        else:
            wanted = "a whole number" if self.kind is int else "a number"
            wanted += f" above {self.above:g}" if self.above > -inf else ""
            wanted += f" from {self.least:g}" if self.least > -inf else ""
            wanted += f" and below {self.below:g}" if self.below < inf and self.least > -inf else ""
        return wanted + " or null" * self.optional


NUMBER, ABOVE_ZERO, NOT_NEGATIVE = Value(), Value(above=0), Value(least=0)
COUNT, FLAG = Value(kind=int, least=1), Value(kind=bool)
MARGIN = Value(least=0, tuned="margin")
FOLDS = Value(kind=int, choices=(1, 2, 3, 4), tuned="margin")  # a margin that multiplies an angle
SCALE, TEMPERATURE = Value(above=0, tuned="scale"), Value(above=0, tuned="temperature")


def one_of(*choices: str) -> Value:
    """A parameter of some words."""
    return Value(kind=str, choices=choices)


PAIRS = one_of("active", "all", "sum")
DRAW = one_of("shared", "per-example")


@dataclass(frozen=True)
class Row:
    """An objective, without importing it.

    Args:
        name: the one that settings, files and pages have. Case, - and _ do not matter where it is given.
        class_name: its class in ``likewise.objectives``.
        module: the module of ``likewise.objectives`` that defines it.
        level: what its similarities are taken with: other items ("pair"), a proxy of each class ("class"), or a row
            for each item ("instance").
        parameters: what the constructor takes beyond what a run gives it.
        aliases: other names in use.
        given: what a run gives the constructor: sizes and the generator of first rows or noise.
        keys: which dictionaries go: "any" but proxies, "bank" with a row for every item, or its "own" weights.
        takes_policies: whether negatives can be chosen for it: a pair-level loss that judges an anchor by its row.
        can_be_zero: whether a pair or triplet far enough apart has no loss, so that the active ones can be counted.
        judges_pairs: whether it judges each pair by itself, so that items with one kind of pair count too.
        spreads: whether its rows can be spread over processes (``bank.sharded``).
        boundary: what its figure draws as the decision boundary; see :data:`BOUNDARIES`.
        unless: (parameter, value, boundary): that parameter at that value has another boundary.
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
    def mines(self) -> bool:
        """Whether policies of negatives go with it: it judges an anchor by its row of pairs."""
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
        {"scale": SCALE, "margin": MARGIN},
        aliases=("cosface",),
        given=OF_CLASSES,
        keys="own",
    ),
    Row(
        *("arcface", "ArcFace", "class_level", "class"),
        {"scale": SCALE, "margin": MARGIN, "gradient": one_of("true", "insightface")},
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
AUTO_MEANS = ("nonparametric-softmax", "nce", "infonce")  # what auto may become


@dataclass(frozen=True)
class PolicyRow:
    """A policy of negatives: its class in ``likewise.negatives``, and what its constructor takes."""

    name: str
    class_name: str
    parameters: Mapping[str, Value] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

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
        {"count": COUNT, "least": Value(above=0, below=2), "most": Value(above=0, below=2 + 1e-9)},
    ),
    PolicyRow("multi-similarity", "MultiSimilarity", {"epsilon": NUMBER}),
)

Named = TypeVar("Named", Row, PolicyRow)


def objective(name: str) -> Row:
    """The objective called ``name``, which may be an alias or the class's name: case, - and _ do not matter.

    Raises LikewiseError, with the closest name, on others.
    """
    named = [(known.name, known.class_name, *known.aliases) for known in OBJECTIVES]
    return _called(name, OBJECTIVES, named, "objective")


def policy(name: str) -> PolicyRow:
    """The policy of negatives called ``name``. Raises LikewiseError, with the closest name, on others."""
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
    """Every parameter of an objective, and the objectives that have it."""
    return _owners(OBJECTIVES)


def of_policies() -> dict[str, list[str]]:
    """Every parameter of a policy of negatives, and the policies that have it."""
    return _owners(POLICIES)


def _owners(rows: Iterable[Row | PolicyRow]) -> dict[str, list[str]]:
    owners: dict[str, list[str]] = {}
    for row in rows:
        for name in row.parameters:
            owners.setdefault(name, []).append(row.name)
    return owners


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
