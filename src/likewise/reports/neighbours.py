"""The neighbours of a few items, chosen to inform: typical ones and the worst, of labels from weak to strong."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from likewise.answers.choosers import typiclust
from likewise.console import Tick, part_of, untold
from likewise.data import Items
from likewise.metrics import top_k
from likewise.pages.pictures import PLAIN, QUERY, WRONG, Mark, scored, thumbnail
from likewise.pages.pieces import named, note
from likewise.reports.labels import called, columns_of, differ

LABELS, NEIGHBOURS = 5, 10  # labels that have examples; neighbours of an example
LOOKED = 1000  # items of which the examples are chosen
SEED = 0  # of the choice of these items


class Near(NamedTuple):
    """The neighbours of some items.

    Args:
        rows: (Q,) int64, the items that were looked up.
        scores: (Q, k) float32 cosines, −inf where there is no item.
        others: (Q, k) int64 rows, −1 where there is no item.
        wrong: (Q, k) bool, whether another label; None without labels.
    """

    rows: Tensor
    scores: Tensor
    others: Tensor
    wrong: Tensor | None


class Example(NamedTuple):
    """An item to show: its place among those looked up, why it is shown, its group, and what is said of this."""

    place: int
    why: str
    group: str
    about: str = ""


def some_of(count: int, most: int = LOOKED) -> Tensor:
    """(≤ most,) int64 ascending rows drawn at random, the same each time."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(SEED))[:most].sort().values


def look_up(items: Items, rows: Tensor, tick: Tick = untold, *, k: int = NEIGHBOURS) -> Near:
    """The nearest others of at most ``LOOKED`` items, drawn at random, among all."""
    asked, ids = some_of(len(items)), torch.arange(len(items))
    scores, others = top_k(rows[asked], rows, min(k, len(items) - 1), query_ids=asked, key_ids=ids, tick=tick)
    labels = columns_of(items)
    return Near(asked, scores, others, None if labels is None else differ(labels, asked, others))


def neighbours(items: Items, rows: Tensor, tick: Tick = untold) -> str:
    """The section: how the examples were chosen, then each with its neighbours."""
    if len(items) < 2:
        return note("There is one item only, so it has no neighbours.")
    near = look_up(items, rows, part_of(tick, 0, 2))
    labels = columns_of(items)
    labelled = labels is not None and bool((labels[near.rows] >= 0).any())
    chosen = of_labels(items, near) if labelled else of_groups(rows, near, part_of(tick, 1, 2))
    drawn = "" if len(near.rows) == len(items) else f" of {len(items):,}, drawn at random (seed {SEED})"
    among = f"{len(near.rows):,} items{drawn}"
    text = note(_said(among) if labelled else _said_without(among))
    text += note(
        f"{'First, in a solid frame' if items.pictured else 'First'}: the item that is looked up. {_marks(items)}"
    )
    group = ""
    for example in chosen:
        if example.group != group:
            group = example.group
            title = (
                f"<bdi>{named(group)}</bdi>" if example.about else named(group)
            )  # a label may be read from the right
            text += f"<h3>{title}{named(example.about)}</h3>"
        text += f'<p class="note">{named(example.why)}</p>{shelf(items, near, example.place)}'
    return text


def _said(among: str) -> str:
    return (
        f"Labels from the weakest to the strongest, by the share of the {NEIGHBOURS} nearest with another label. Of "
        f"each label a typical item, with as many wrong neighbours as the median, and the worst. Chosen from {among}."
    )


def _said_without(among: str) -> str:
    return (
        f"The most typical item of each of {LABELS} groups, which k-means finds, and the items that are furthest from "
        f"all others. Chosen from {among}."
    )


def _marks(items: Items) -> str:
    hits = "Then the nearest, the most alike first, each with its cosine"
    if items.labels is None:
        return f"{hits} and its id."
    frame = " and a dashed frame" if items.pictured else ""
    return f"{hits} and its label. {WRONG.sign}{frame}: another label than the item that is looked up."


def of_labels(items: Items, near: Near) -> list[Example]:
    """The typical and the worst item of up to five labels, from the weakest to the strongest."""
    labels, wrong = columns_of(items), near.wrong
    assert labels is not None
    assert wrong is not None
    share = wrong.double().mean(1)
    sure = torch.where(wrong, near.scores.double(), torch.zeros_like(share)[:, None]).sum(1)  # of the wrong neighbours
    mine = labels[near.rows]
    names = torch.unique(mine[mine >= 0]).tolist()
    places = {name: (mine == name).any(1).nonzero().flatten() for name in names}
    names.sort(key=lambda name: (-float(share[places[name]].mean()), name))
    some = [names[number] for number in _spread(len(names), LABELS)]
    found = list[Example]()
    for name in some:
        own = places[name]
        mean, middle = float(share[own].mean()), share[own].median()
        fresh = own[~torch.isin(own, torch.tensor([each.place for each in found], dtype=torch.int64))]
        own = fresh if len(fresh) else own  # of several labels, an item may be shown already
        count = near.others.shape[1]
        group, about = items.label_names[name], f": {mean:.0%} of the nearest have another label"
        typical = int(own[((share[own] - middle).abs() - 1e-6 * near.scores[own].double().mean(1)).argmin()])
        worst = int(own[(share[own] + 1e-6 * sure[own]).argmax()])
        found.append(Example(typical, f"typical: {_of(wrong[typical], count)}", group, about))
        if worst != typical and share[worst] > 0:
            found.append(Example(worst, f"worst: {_of(wrong[worst], count)}", group, about))
    return found


def _of(wrong: Tensor, count: int) -> str:
    return f"{int(wrong.sum())} of {count} wrong"


def _spread(count: int, most: int) -> list[int]:
    """Up to ``most`` of the numbers below ``count``, evenly spread; the first and the last are among them."""
    return sorted({round(float(place)) for place in torch.linspace(0, count - 1, min(most, count))})


def of_groups(rows: Tensor, near: Near, tick: Tick = untold) -> list[Example]:
    """The most typical item of each of five groups, and the five that are furthest from all others."""
    count = min(LABELS, len(near.rows))
    typical = typiclust(rows[near.rows], count, torch.empty(0, dtype=torch.int64), SEED, tick).tolist()
    first = near.scores[:, 0]
    far = first.argsort(stable=True)[:count].tolist()
    found = [Example(place, f"typical of group {number}", "Typical items") for number, place in enumerate(typical, 1)]
    return found + [
        Example(place, f"nearest item at a cosine of {float(first[place]):.2f}", "Items that are far from all others")
        for place in far
        if place not in typical
    ]


def shelf(items: Items, near: Near, place: int) -> str:
    """An item and its neighbours: as pictures, or as ids where there are none."""
    others, scores = near.others[place].tolist(), near.scores[place].tolist()
    wrong = [False] * len(others) if near.wrong is None else near.wrong[place].tolist()
    hits = [(row, score, WRONG if bad else PLAIN) for row, score, bad in zip(others, scores, wrong, strict=True)]
    return shown(items, int(near.rows[place]), [hit for hit in hits if hit[0] >= 0])


def shown(items: Items, query: int, hits: Sequence[tuple[int, float, Mark]]) -> str:
    """The item that is looked up, framed, and its hits: rows, cosines and marks."""
    if items.pictured:
        cells = thumbnail(items.picture(query), items.ids[query], called(items, query), QUERY)
        for row, score, mark in hits:
            cells += thumbnail(items.picture(row), items.ids[row], scored(score, called(items, row)), mark)
        return f'<div class="row">{cells}</div>'
    each = "".join(f"<li>{named(scored(score, name_of(items, row)))}{_sign(mark)}</li>" for row, score, mark in hits)
    return f'<p class="word">{named(name_of(items, query))}</p><ul class="near">{each}</ul>'


def name_of(items: Items, row: int) -> str:
    """The id of an item without a picture, with its label."""
    return items.ids[row] if items.labels is None else f"{items.ids[row]} ({called(items, row)})"


def _sign(mark: Mark) -> str:
    if not mark.sign:
        return ""
    return f' <b class="sign" aria-hidden="true">{mark.sign}</b><span class="unseen"> {mark.means}</span>'
