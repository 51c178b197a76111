"""Groups of items to look at, each with what is said of it: near-copies, outliers, weakest labels, suspect labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.answers.candidates import Neighbours
from likewise.answers.duplicates import duplicates
from likewise.answers.outliers import CONFIDENCE, outliers
from likewise.answers.wrong_labels import votes_of_others
from likewise.data import Items
from likewise.look.points import VOTERS, Floats, Labels, weakest
from likewise.model import Model
from likewise.reports.labels import text_of

KINDS = ("duplicates", "outliers", "weakest", "suspects")
MOST_GROUPS = 30  # of near-copies, and of suspect labels
_WEAKEST = 10  # labels
_SHOWN = 12  # items of a row
_REST = 36  # suspects of rare pairs of labels
_FURTHEST = 48  # outliers
_ROW = 12  # of them


@dataclass(frozen=True, kw_only=True)
class Member:
    """An item of a group: its row in the index, its id, a number that the group's title explains, and its label."""

    row: int
    id: str
    score: float
    label: str | None


@dataclass(frozen=True, kw_only=True)
class Group:
    """A row of items, and what is said of it."""

    title: str
    items: tuple[Member, ...]


@dataclass(frozen=True, kw_only=True)
class Groups:
    """All groups of a kind, what was found in a sentence, and what the numbers below the items mean."""

    sentence: str
    number: str
    groups: tuple[Group, ...] = field(default=())


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What groups are made of, in the order of the index.

    Args:
        ids: N ids.
        rows: (N, D) unit rows.
        labels: (N, L), −1 where an item has fewer labels.
        names: of labels.
    """

    ids: Sequence[str]
    rows: Tensor
    labels: Labels
    names: Sequence[str]

    def member(self, row: int, score: float) -> Member:
        """An item as groups tell it."""
        return Member(
            row=row, id=self.ids[row], score=float(score), label=text_of(self.labels[row].tolist(), self.names)
        )


def weakest_labels(seen: Seen, error: Floats) -> Groups:
    """The labels whose items' neighbours have other labels most often; ``error`` is that of ``wrong_share``."""
    found = weakest(error, seen.labels, seen.names, _WEAKEST)
    groups = tuple(
        Group(
            title=f"{seen.names[label]}: {1 - share:.0%} of the {VOTERS} nearest have this label; {_many(len(rows))}",
            items=tuple(seen.member(row, 1 - error[row]) for row in rows[:_SHOWN].tolist()),
        )
        for label, share, rows in found
    )
    number = f"the share of an item's {VOTERS} nearest that have its label; of each label the items with least"
    if not groups:
        return Groups(sentence="The items have no labels, so none is weakest.", number=number)
    return Groups(
        sentence=f"The weakest of {len(seen.names):,} labels, the weakest first.", number=number, groups=groups
    )


def suspect_labels(seen: Seen) -> Groups:
    """The items whose neighbours vote for another label than they have."""
    number = "the share of the neighbours' votes for the other label"
    if seen.labels.shape[1] > 1:
        return Groups(sentence="The items have several labels, and votes can't tell which is wrong.", number=number)
    labels = seen.labels[:, 0]
    rows = np.flatnonzero(labels >= 0)
    known = labels[rows]
    if len(np.unique(known)) < 2:
        return Groups(sentence="There are no two labels, so none is suspect.", number=number)
    votes = votes_of_others(Neighbours(seen.rows[rows], tuple(seen.ids[row] for row in rows.tolist())), known)
    places = votes.suspects(known, CONFIDENCE)
    pairs = dict[tuple[int, int], list[int]]()
    for place in places.tolist():
        pairs.setdefault((int(known[place]), int(votes.expected[place])), []).append(place)
    order = sorted(pairs.items(), key=lambda pair: -len(pair[1]))
    often = order[:MOST_GROUPS]
    groups = [
        Group(
            title=f"labelled {seen.names[own]}, but the neighbours say {seen.names[other]}; {_many(len(found))}",
            items=tuple(seen.member(int(rows[place]), float(votes.share[place])) for place in found[:_SHOWN]),
        )
        for (own, other), found in often
    ]
    rest = [place for _, found in order[len(often) :] for place in found]
    if rest:
        groups.append(
            Group(
                title=f"other pairs of labels; {_many(len(rest))}",
                items=tuple(seen.member(int(rows[place]), float(votes.share[place])) for place in rest[:_REST]),
            )
        )
    sentence = f"{len(places):,} of {len(rows):,} labels are contradicted by the neighbours."
    return Groups(sentence=sentence, number=number, groups=tuple(groups))


def furthest(seen: Seen, model: Model, items: Items, at: npt.NDArray[np.int64]) -> Groups:
    """The items that are furthest from all others; ``at`` has the row in the index of each of the items."""
    number = "the distance to a near neighbour, as a multiple of the usual one"
    if len(items) < 2:
        return Groups(sentence="There is one item only, so none is far from the others.", number=number)
    found = outliers(model, items, progress=False)
    order = found.order[:_FURTHEST]
    members = [seen.member(int(at[row]), float(found.distances[row])) for row in order.tolist() if at[row] >= 0]
    rows = [members[start : start + _ROW] for start in range(0, len(members), _ROW)]
    groups = tuple(
        Group(title=f"the furthest, {number * _ROW + 1} to {number * _ROW + len(part)}", items=tuple(part))
        for number, part in enumerate(rows)
    )
    return Groups(sentence=_told(found.sentence(), items), number=number, groups=groups)


def near_copies(seen: Seen, model: Model, items: Items, at: npt.NDArray[np.int64]) -> Groups:
    """Groups of near-copies; ``at`` as in ``furthest``. The first item of each stands for it."""
    pictures = items.kind == "images"
    number = "the similarity to the first item" if pictures else "the distance to the first item"
    if len(items) < 2:
        return Groups(sentence="There is one item only, so it has no copy.", number=number)
    found = duplicates(items, run=model, progress=False)
    groups = []
    for group in found.groups[:MOST_GROUPS]:
        members = [(group.centre, 1.0 if pictures else 0.0), *((pair.second, pair.value) for pair in group.members)]
        shown = tuple(seen.member(int(at[row]), value) for row, value in members if at[row] >= 0)
        groups.append(Group(title=f"{len(members):,} near-copies", items=shown[:_SHOWN]))
    more = f" The {MOST_GROUPS} largest groups are shown." if len(found) > MOST_GROUPS else ""
    return Groups(
        sentence=f"{_told(found.sentence(), items)} {found.about()}{more}", number=number, groups=tuple(groups)
    )


def _told(sentence: str, items: Items) -> str:
    """A sentence without the path of the data, which is not for those who look at the page."""
    return sentence.removeprefix(f"{items.source}: ")


def _many(count: int) -> str:
    return "1 item" if count == 1 else f"{count:,} items"


def unit(rows: Tensor) -> Tensor:
    """(N, D) float32 rows of length 1; a row of zeros stays."""
    return torch.nn.functional.normalize(rows.contiguous(), dim=1)
