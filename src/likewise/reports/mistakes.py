"""What an embedding gets most wrong: labels, weakest first, and pairs."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from likewise.console import Tick, untold
from likewise.data import Items
from likewise.errors import LikewiseError
from likewise.metrics import Retrieval, retrieval
from likewise.pages.drawings import bar
from likewise.pages.pictures import PLAIN, WRONG
from likewise.pages.pieces import named, note, scrolled
from likewise.reports.labels import columns_of
from likewise.reports.neighbours import shown, some_of

PAIRS = 10  # of each kind that are shown
CLASSES = 20  # the weakest, that are shown


class LookedUp(NamedTuple):
    """The retrieval of some of the labelled items among all of them; rows are those of the items."""

    asked: Tensor
    known: Tensor
    result: Retrieval


class OfClass(NamedTuple):
    """A label with its number of queries and its MAP@R."""

    name: str
    queries: int
    map_at_r: float


def looked_up(items: Items, rows: Tensor, tick: Tick = untold) -> LookedUp | str:
    """The retrieval of at most 1,000 labelled items, drawn at random; a sentence where nothing can be measured."""
    labels = columns_of(items)
    if labels is None:
        return "The items have no labels, so nothing says which pairs are wrong."
    known = (labels >= 0).any(1).nonzero().flatten()
    asked = known[some_of(len(known))]
    try:
        result = retrieval(
            rows[asked],
            labels[asked],
            rows[known],
            labels[known],
            query_ids=asked,
            gallery_ids=known,
            worst=PAIRS,
            tick=tick,
        )
    except LikewiseError:  # no two items share a label
        return "No label has two items, so nothing says which pairs are wrong."
    return LookedUp(asked, known, result)


def measured_on(items: Items, found: LookedUp) -> str:
    """How many were looked up among how many, and the mean."""
    what = f"{len(found.asked):,} items looked up among {len(found.known):,} of {items.source}"
    return f"{what}. MAP@R {found.result.map_at_r:.1%}."


def classes_of(items: Items, found: LookedUp) -> list[OfClass]:
    """The labels of what was looked up."""
    each = found.result.per_class
    rows = zip(each.labels.tolist(), each.queries.tolist(), each.map_at_r.tolist(), strict=True)
    return [OfClass(items.label_names[label], queries, value) for label, queries, value in rows]


def by_class(classes: Sequence[OfClass], about: str, rest: str = "") -> str:
    """The weakest labels, each with a bar. ``about`` is how they were measured, ``rest`` where the others are."""
    ordered = sorted(classes, key=lambda each: (each.map_at_r, each.name))
    rows = "".join(
        f"<tr><td>{named(each.name)}</td><td>{each.queries:,}</td><td>{each.map_at_r:.1%}</td>"
        f"<td>{bar(each.map_at_r)}</td></tr>"
        for each in ordered[:CLASSES]
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("label", "looked up", "MAP@R"))
    table = f"<table><thead><tr>{head}<td></td></tr></thead><tbody>{rows}</tbody></table>"
    hidden = len(ordered) - CLASSES
    best = f"{ordered[-1].name}: {ordered[-1].map_at_r:.1%}" if ordered else ""
    more = f"{hidden:,} stronger labels are left out; the strongest, {best}. {rest}"
    text = note(
        f"{about} Weakest first. MAP@R: how far the nearest items have the same label, 100 % if all of them have it."
    )
    return text + scrolled(table, "MAP@R by label") + (note(more) if hidden > 0 else "")


def wrong_pairs(items: Items, found: LookedUp) -> str:
    """The nearest items with different labels, and the furthest with the same."""
    asked, known, result = found
    text = note(measured_on(items, found))
    for title, pairs, mark in (
        ("Different labels, nearest to each other", result.nearest_different, WRONG),
        ("The same label, furthest apart", result.furthest_same, PLAIN),
    ):
        each = "".join(shown(items, int(asked[a]), [(int(known[b]), score, mark)]) for a, b, score in pairs)
        text += f"<h3>{title}</h3>" + (f'<div class="pairs">{each}</div>' if pairs else note("None."))
    return text
