"""``likewise duplicates``: near-copies among items, verified on their pixels, in groups that do not chain."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from likewise.answers.candidates import Begin, Neighbours, Numbers, Pairs, Search
from likewise.answers.changed_copies import CHANGES
from likewise.answers.opening import made_by, open_one_kind
from likewise.answers.picture_search import PictureSearch
from likewise.answers.same_picture import check_side
from likewise.answers.same_vector import distances, in_scale, on_sphere
from likewise.answers.stars import stars
from likewise.console import stages
from likewise.data import Items
from likewise.data.copies import copies_in
from likewise.data.opening import file_sizes
from likewise.errors import LikewiseError, at_least_one, closest, finite
from likewise.evaluation.baselines import embedded
from likewise.model import Model
from likewise.stamp import Stamp
from likewise.tables import write_table

KEEP = ("largest", "first")
DISTANCE = 0.05  # of vectors, up to which they are alike: a twentieth of the usual distance of two items
LOOK = 10  # pairs on each side of the threshold to look at


class Pair(NamedTuple):
    """Two items, by their rows, and how alike they are: the similarity of pictures, the distance of vectors."""

    first: int
    second: int
    value: float


class Group(NamedTuple):
    """Near-copies: the row of the item that stands for them, and the others, each with its value for this item."""

    centre: int
    members: tuple[Pair, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Duplicates:
    """Groups of near-copies.

    Args:
        items: what was looked at.
        groups: the largest first. Every member is alike to the centre.
        look: pairs near the threshold, the most alike first, for people to look at.
        threshold: of pictures the lowest similarity of a pair that is alike; of vectors the largest distance.
        pairs: number of alike pairs that were found, beside exact copies.
        exact: number of items that are exact copies of an earlier one.
        precision: estimated share of near-copies among the pairs; None without pairs, and where it can't be estimated.
        recall: share of changed copies of these items that would be found; None for vectors.
        keep: the rule by which the centre was chosen, if one was asked for.
        stamp: what made them.
    """

    items: Items
    groups: tuple[Group, ...]
    look: tuple[Pair, ...]
    threshold: float
    pairs: int
    exact: int
    precision: float | None
    recall: float | None
    keep: str | None
    stamp: Stamp

    def __len__(self) -> int:
        """Number of groups."""
        return len(self.groups)

    def __repr__(self) -> str:
        return f"Duplicates({self.sentence()})"

    @property
    def spare(self) -> list[str]:
        """The ids of all members: each is alike to the centre of its group, which stands for it."""
        return [self.items.ids[member.second] for group in self.groups for member in group.members]

    def alike(self, pair: Pair) -> bool:
        """Whether the threshold counts a pair as alike."""
        return pair.value >= self.threshold if self.items.kind == "images" else pair.value <= self.threshold

    def sentence(self) -> str:
        """What was found, in one line."""
        spare, many = sum(len(group.members) for group in self.groups), "" if len(self) == 1 else "s"
        return (
            f"{self.items.source}: {len(self.items):,} {self.items.noun}; {len(self):,} group{many} of near-copies; "
            f"{spare:,} items could go, of which {self.exact:,} are exact copies."
        )

    def about(self) -> str:
        """The threshold, and what is estimated of it, in one line."""
        if self.items.kind == "vectors":
            return f"Alike: a distance of at most {self.threshold:g} times the usual one of two items."
        alike = f"Alike: a similarity of {self.threshold:.4f} or more, at {self.items.values.shape[1]} px."
        precision = "" if self.precision is None else f" Estimated precision of near pairs {self.precision:.0%}."
        if self.precision is None:
            few = "The pairs are too few to estimate a precision from."
            precision = f" {few}" if self.pairs else " No two items are."
        recall = "" if self.recall is None else f" Recall {self.recall:.0%}, of copies that were {CHANGES}."
        return alike + precision + recall

    def columns(self) -> dict[str, list[object]]:
        """A row for each item of a group: group from 1, id, the item that stands for it, value, keep."""
        value = "similarity" if self.items.kind == "images" else "distance"
        names = ("group", "id", "stands_for_it", value, "keep")
        same = 1.0 if self.items.kind == "images" else 0.0
        rows = list[tuple[object, ...]]()
        for number, group in enumerate(self.groups, 1):
            centre = self.items.ids[group.centre]
            rows.append((number, centre, centre, same, "yes"))
            rows += [(number, self.items.ids[each.second], centre, each.value, "no") for each in group.members]
        return {name: [row[place] for row in rows] for place, name in enumerate(names)}

    def save(self, path: str | Path) -> None:
        """Writes ``columns`` as .csv or .parquet. Raises LikewiseError on another ending."""
        write_table(Path(path), self.columns(), self.stamp)


def duplicates(
    source: object,
    *,
    run: Model | str | Path | None = None,
    size: int | None = None,
    k: int = 10,
    threshold: float | None = None,
    precision: float = 0.95,
    keep: str | None = None,
    key: str | None = None,
    image: str | None = None,
    columns: Sequence[str] = (),
    progress: bool = True,
) -> Duplicates:
    """Finds near-copies among items. Nothing is deleted.

    Candidates are the k nearest items of each by small pictures of 8 × 8, and by the embedding if a run is given. Two
    pictures are alike if their ``same_picture.similarity`` reaches the threshold; two vectors, if their distance is at
    most the threshold, where each number is in its standard deviation and the usual distance of two items (the root of
    its mean square) is 1. Groups are ``stars``. Exact copies are found by their content, whatever the threshold.

    Of pictures the threshold is the lowest similarity whose estimated precision is ``precision`` (``unlike_pairs``),
    but not below that of 99 in 100 of 500 changed copies of the items (``changed_copies``). With fewer than 600
    candidates it is that of three quarters of these copies, and at least 0.95.

    Args:
        source: as for ``open_items``, but not items of several parts; two items or more.
        run: a model or the folder of its run.
        size: of the pictures that are compared, px; None: that of the run, else 32.
        k: number of candidates of each item, ≥ 1. Where all candidates of an item are alike to it, more are compared,
            up to 64 k.
        threshold: None: chosen for pictures as above; 0.05 for vectors.
        precision: above 0 and below 1.
        keep: who stands for a group: "largest" (more pixels, then more bytes in the file), "first" in the source; None:
            the item that is alike to most others.
        key, image, columns: as for ``open_items``.
        progress: show bars.

    Raises:
        LikewiseError: the source can't be opened, or its items are not of the run's kind; there is one item; an
            argument is out of range; there are no files of which one could be the largest.

    Cost: a search for each item, and for each of at most N k pairs some 70 µs on a core (at 32 px). Memory: 768 bytes
    for each small picture, and 40 bytes for each of the N k pairs, twice with a run; no N × N matrix.
    """
    at_least_one("k", k, "it is a number of candidates of each item")
    if not 0 < finite("precision", precision) < 1:
        raise LikewiseError(f"precision={precision} must be above 0 and below 1; 0.95 is usual.")
    if threshold is not None and not finite("threshold", threshold) >= 0:
        raise LikewiseError(f"threshold={threshold} must be 0 or more.")
    if keep is not None and keep not in KEEP:
        raise LikewiseError(
            f"there is no rule {keep!r} of which to keep.{closest(keep, KEEP)} Known: {', '.join(KEEP)}."
        )
    model, items = open_one_kind(source, run, size=size, key=key, image=image, columns=columns, progress=progress)
    if keep == "largest":
        file_sizes(source, (), key=key, image=image)  # refused before the work
    pictures = items.kind == "images"
    if pictures:
        check_side(items.values, items.source)
        if threshold is not None and threshold > 1:
            raise LikewiseError(f"threshold={threshold} must be at most 1: it is the similarity of two pictures.")
    with stages(enabled=progress) as begin:
        begin("looking for exact copies")
        copies = dict(copies_in(items.values, items.source))
        distinct = np.array([row for row in range(len(items)) if row not in copies])
        found = _alike(items, distinct, model, k, threshold, precision, begin)
        if keep == "largest":
            begin("reading the sizes of files")
        rank = _ranks(source, items, keep, {*copies, *copies.values(), *distinct[found.alike.places].flat}, key, image)
    return Duplicates(
        items=items,
        groups=_groups(items, copies, distinct, found.alike, rank),
        look=tuple(_pair(items, distinct, *each) for each in zip(*found.look, strict=True)),
        threshold=found.threshold,
        pairs=len(found.alike.places),
        exact=len(copies),
        precision=found.precision,
        recall=found.recall,
        keep=keep,
        stamp={
            **made_by("duplicates", items, model),
            "k": k,
            "precision": precision,
            "threshold": found.threshold,
            "keep": keep or "",
        },
    )


class _Found(NamedTuple):
    alike: Pairs
    look: Pairs
    threshold: float
    precision: float | None
    recall: float | None


def _alike(
    items: Items,
    distinct: Numbers,
    model: Model | None,
    k: int,
    threshold: float | None,
    precision: float,
    begin: Begin,
) -> _Found:
    """The pairs of distinct items that are alike. Of vectors closeness is the distance below 0."""
    pictures = items.kind == "images"
    if len(distinct) < 2:
        none = Pairs(np.empty((0, 2), np.int64), np.empty(0))
        limit = threshold if threshold is not None else 1.0 if pictures else DISTANCE
        return _Found(none, none, limit, None, None)
    if pictures:
        by = PictureSearch(items, distinct, model, k, begin)
        limit = by.threshold(precision) if threshold is None else threshold
        alike = by.search.beyond(limit, begin)
        estimated = by.precision(limit) if len(alike.places) else None
        return _Found(alike, by.search.around(limit, LOOK), limit, estimated, by.recall(limit))
    rows = in_scale(items)[torch.from_numpy(distinct)]
    ids = tuple(items.ids[row] for row in distinct.tolist())
    found = [Neighbours(on_sphere(rows), ids, begin("preparing the search"))]
    if model is not None:
        embedding = embedded(model, items, tick=begin("embedding"))[torch.from_numpy(distinct)]
        found.append(Neighbours(embedding, ids, begin("preparing the search")))
    search = Search(found, lambda places, tick: -distances(rows, places, tick), len(distinct), k)
    search.look([-2.0] * len(found), begin)
    limit = DISTANCE if threshold is None else threshold
    return _Found(search.beyond(-limit, begin), search.around(-limit, LOOK), limit, None, None)


def _pair(items: Items, distinct: Numbers, places: Numbers, closeness: float) -> Pair:
    first, second = distinct[places].tolist()
    return Pair(first, second, float(closeness) if items.kind == "images" else -float(closeness))


def _ranks(
    source: object, items: Items, keep: str | None, rows: set[int], key: str | None, image: str | None
) -> npt.NDArray[np.int64] | None:
    """(N,) the place of each item among those that should stand for a group; None without a rule."""
    if keep is None:
        return None
    if keep == "first":
        return np.arange(len(items))
    sizes = file_sizes(source, {items.ids[row] for row in rows}, key=key, image=image)
    order = sorted(range(len(items)), key=lambda row: tuple(-size for size in sizes.get(items.ids[row], (0, 0))))
    rank = np.empty(len(items), np.int64)
    rank[order] = np.arange(len(items))
    return rank


def _groups(
    items: Items, copies: dict[int, int], distinct: Numbers, alike: Pairs, rank: npt.NDArray[np.int64] | None
) -> tuple[Group, ...]:
    """Stars of distinct items, each with its exact copies."""
    same = 1.0 if items.kind == "images" else 0.0
    sets = dict[int, list[int]]()  # all rows of the same content, by the first
    for row, first in copies.items():
        sets.setdefault(first, [first]).append(row)
    first_of = distinct.tolist()
    best = np.arange(len(items)) if rank is None else rank
    for rows in sets.values():
        rows.sort(key=best.__getitem__)
    order = None if rank is None else np.argsort([best[sets.get(row, [row])[0]] for row in first_of], kind="stable")
    value = {(low, high): closeness for (low, high), closeness in zip(*map(np.ndarray.tolist, alike), strict=True)}
    found, grouped = list[Group](), set[int]()
    for centre, members in stars(len(distinct), alike.places, order).items():
        stands, *equal = sets.get(first_of[centre], [first_of[centre]])
        pairs = [Pair(stands, row, same) for row in equal]
        for member in members:
            closeness = value[min(centre, member), max(centre, member)]
            rows = sets.get(first_of[member], [first_of[member]])
            pairs += [Pair(stands, row, closeness if items.kind == "images" else -closeness) for row in rows]
        grouped |= {first_of[centre], *(first_of[member] for member in members)}
        found.append(Group(stands, tuple(pairs)))
    for first, rows in sets.items():
        if first not in grouped:
            found.append(Group(rows[0], tuple(Pair(rows[0], row, same) for row in rows[1:])))
    return tuple(sorted(found, key=lambda group: (-len(group.members), group.centre)))
