"""Every objective by name, and which of them fit what is known about the data. Data only: imports no torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from likewise.errors import LikewiseError, closest

if TYPE_CHECKING:
    from torch import nn

ObjectiveKind = Literal[
    "auto",
    "nce",
    "softmax",
    "parametric",
    "infonce",
    "unified",
    "circle",
    "supcon",
    "npair",
    "multi-similarity",
    "contrastive",
    "margin",
    "triplet",
    "angular",
    "lifted",
    "histogram",
    "class-softmax",
    "l2-softmax",
    "large-margin",
    "a-softmax",
    "normface",
    "am-softmax",
    "arcface",
    "circle-class",
]
CLASS_KINDS = (
    *("class-softmax", "l2-softmax", "large-margin", "a-softmax", "normface", "am-softmax", "arcface", "circle-class"),
)  # against a proxy of each class
WITH_MARGIN = (
    *("unified", "circle", "contrastive", "margin", "triplet", "lifted"),
    *("large-margin", "a-softmax", "am-softmax", "arcface", "circle-class"),
)
WITH_GAMMA = ("unified", "circle", "l2-softmax", "normface", "am-softmax", "arcface", "circle-class")
WITH_FOLDS = ("large-margin", "a-softmax")  # their margin multiplies an angle: a whole number
WITH_TEMPERATURE = ("nce", "softmax", "parametric", "infonce", "supcon")
JOINED_KINDS = ("angular", "lifted", "histogram")  # their loss joins several rows: nothing to mine
NegativeKind = Literal[
    "all", "random", "easy", "inside-margin", "hardest-beyond", "hard", "distance-weighted", "multi-similarity"
]
BANK_KINDS = ("nce", "softmax")  # one positive per query, in a dictionary that knows a row for every item
FACENET_MARGIN = 0.2
Level = Literal["pair", "class", "instance"]
Boundary = Literal["balance", "zero", "each", "each-zero"]


@dataclass(frozen=True)
class Entry:
    """An objective, without importing it.

    Args:
        name: its class in ``likewise.objectives``.
        module: the module of ``likewise.objectives`` that defines it.
        level: what its similarities are taken with: other items ("pair"), a proxy of each class ("class"), or a row
            for each item ("instance").
        boundary: what its figure draws as the decision boundary; see :data:`BOUNDARIES`.
        unless: (parameter, value, boundary): that parameter at that value has another boundary.
        aliases: other names.
    """

    name: str
    module: str
    level: Level
    boundary: Boundary = "balance"
    unless: tuple[tuple[str, object, Boundary], ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """The name in file names and anchors."""
        return self.name.lower()

    def load(self) -> "type[nn.Module]":
        """The class itself; this imports torch."""
        found: type[nn.Module] = vars(import_module(f"likewise.objectives.{self.module}"))[self.name]
        return found


BOUNDARIES: dict[Boundary, str] = {
    "balance": "L = log 2, where the positive and the negative weigh the same",
    "zero": "the edge of zero loss",
    "each": "where each pair's own term has half its full gradient; the two are judged apart",
    "each-zero": "where each pair's own gradient ends; the two are judged apart",
}
ENTRIES: tuple[Entry, ...] = (
    Entry("UnifiedPairSimilarity", "pair_level", "pair"),
    Entry("Circle", "pair_level", "pair"),
    Entry("InfoNCE", "pair_level", "pair", aliases=("NTXent",)),
    Entry("SupCon", "pair_level", "pair"),
    Entry("NPair", "pair_level", "pair"),
    Entry("MultiSimilarity", "pair_level", "pair", "zero", unless=(("epsilon", None, "each"),)),
    Entry("Contrastive", "hinge", "pair", "each-zero"),
    Entry("Triplet", "hinge", "pair", "zero", unless=(("soft", True, "balance"),)),
    Entry("Margin", "hinge", "pair", "each-zero"),
    Entry("Angular", "joined", "pair"),
    Entry("LiftedStructure", "joined", "pair", "zero"),
    Entry("Histogram", "joined", "pair", "zero"),
    Entry("Softmax", "class_level", "class"),
    Entry("L2Softmax", "class_level", "class"),
    Entry("LargeMarginSoftmax", "class_level", "class"),
    Entry("ASoftmax", "class_level", "class", aliases=("SphereFace",)),
    Entry("NormFace", "class_level", "class"),
    Entry("AMSoftmax", "class_level", "class", aliases=("CosFace",)),
    Entry("ArcFace", "class_level", "class"),
    Entry("CircleClassifier", "class_level", "class"),
    Entry("NonParametricSoftmax", "instance_level", "instance"),
    Entry("NCE", "instance_level", "instance", "each"),
    Entry("ParametricSoftmax", "instance_level", "instance"),
    Entry("SampledSoftmax", "sampled", "instance"),
    Entry("NegativeSampling", "sampled", "instance", "each"),
)


@dataclass(frozen=True)
class Known:
    """A row of the table from what is known about the data to the objectives that fit.

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


def entry(name: str) -> Entry:
    """The entry called ``name``: case, - and _ don't matter. Raises LikewiseError, with the closest name, on others."""
    wanted = _plain(name)
    for known in ENTRIES:
        if wanted in map(_plain, (known.name, *known.aliases)):
            return known
    hint = closest(wanted, map(_plain, names()))
    for proper in names():
        hint = hint.replace(f"'{_plain(proper)}'", f"'{proper}'")
    raise LikewiseError(f"there is no objective {name!r}.{hint} They are {', '.join(known.name for known in ENTRIES)}.")


def names() -> list[str]:
    """Every name and alias."""
    return [name for known in ENTRIES for name in (known.name, *known.aliases)]


def fitting() -> Iterator[str]:
    """The table as text, a few lines for each row."""
    for row in KNOWN:
        fits = ", ".join(row.objectives)
        yield f"{row.data}\n  fits        {fits}\n  call        {row.call}\n  note        {row.why}"


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
