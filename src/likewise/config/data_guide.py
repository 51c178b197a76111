"""From what is known about the data to the objectives that fit. Data only: imports no torch."""

from collections.abc import Iterator
from dataclasses import dataclass


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


def fitting() -> Iterator[str]:
    """The table as text, a few lines for each row."""
    for row in KNOWN:
        fits = ", ".join(row.objectives)
        yield f"{row.data}\n  fits        {fits}\n  call        {row.call}\n  note        {row.why}"
