"""The guide from what is known about the data to the objectives that fit. Imports no torch."""

from collections.abc import Iterator
from dataclasses import dataclass


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
        "Pairs within the batch: put several items of several classes in each. The last five are forebears.",
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
        "very many items or classes: too many to compare with all",
        ("sampled-softmax", "nce", "negative-sampling"),
        "SampledSoftmax(samples=64)(z, ids, bank.rows)",
        "sampled-softmax follows the softmax's gradient; nce can also tell how likely an item is.",
    ),
    Known(
        "counts of what occurs together: a word and its context, items used by one person",
        ("negative-sampling", "sampled-softmax", "nce"),
        "NegativeSampling(samples=5, counts=counts)(z, ids, contexts)",
        "Each pair is a yes-or-no question beside noise drawn by the counts; rows keep their lengths.",
    ),
)


def fitting() -> Iterator[str]:
    """The table as text, a few lines for each row."""
    for row in KNOWN:
        fits = ", ".join(row.objectives)
        yield f"{row.data}\n  fits        {fits}\n  call        {row.call}\n  note        {row.why}"
