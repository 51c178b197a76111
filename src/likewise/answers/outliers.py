"""``likewise outliers``: items that are far from all others, and labels that an item's neighbours contradict."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.answers.candidates import Begin, Neighbours
from likewise.answers.foreign import distances_to, whitening
from likewise.answers.opening import made_by, open_one_kind
from likewise.answers.wrong_labels import VOTERS, Votes, votes_of_others
from likewise.console import part_of, stages
from likewise.data import Items
from likewise.errors import LikewiseError, at_least_one, finite
from likewise.evaluation.baselines import embedded
from likewise.evaluation.labelled_items import labelled, one_label
from likewise.model import Layer, Model
from likewise.stamp import Stamp
from likewise.tables import write_table

K = 50  # usual: as many foreign items of one kind as hide each other
REFERENCE = 20_000  # items, of which the nearest are looked for
CONFIDENCE = 0.8
_BLOCK = 4096


class Outlier(NamedTuple):
    """An item, its distance to the k-th neighbour (1 is the median of all items), and the item nearest to it."""

    id: str
    distance: float
    nearest: str


class Suspect(NamedTuple):
    """An item whose neighbours contradict its label: the shares of their votes for another label, and for its own."""

    id: str
    label: str
    expected: str
    confidence: float
    own: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Outliers:
    """How far each item is from the others, and the suspect labels.

    Args:
        items: what was looked at.
        k: which neighbour's distance counts.
        distances: (N,) that distance of each item, as a multiple of the median.
        nearest: (N,) the row of the item nearest to each.
        votes: what neighbours say of each label; None if labels were not asked for.
        rows: rows of the items with a label; empty if labels were not asked for.
        confidence: share of the votes that another label needs.
        stamp: what made this.
    """

    items: Items
    k: int
    distances: npt.NDArray[np.float64]
    nearest: npt.NDArray[np.int64]
    votes: Votes | None
    rows: npt.NDArray[np.int64]
    confidence: float
    stamp: Stamp

    def __len__(self) -> int:
        """Number of items."""
        return len(self.items)

    def __repr__(self) -> str:
        return f"Outliers({self.sentence()})"

    @property
    def order(self) -> npt.NDArray[np.int64]:
        """(N,) rows, the furthest first; of equal distances the smaller."""
        return np.argsort(-self.distances, kind="stable")

    def furthest(self, count: int) -> list[Outlier]:
        """The items that are furthest from the others. Raises LikewiseError unless count ≥ 1."""
        at_least_one("count", count, "it is a number of items")
        ids = self.items.ids
        return [
            Outlier(ids[row], float(self.distances[row]), ids[self.nearest[row]]) for row in self.order[:count].tolist()
        ]

    def suspects(self) -> list[tuple[int, Suspect]]:
        """Items with a label that is likely wrong, by row: those with least votes for their own label first."""
        if self.votes is None or self.items.labels is None:
            return []
        labels, names = self.items.labels[self.rows], self.items.label_names
        return [
            (
                int(self.rows[place]),
                Suspect(
                    self.items.ids[self.rows[place]],
                    names[labels[place]],
                    names[int(self.votes.expected[place])],
                    float(self.votes.share[place]),
                    float(self.votes.own[place]),
                ),
            )
            for place in self.votes.suspects(labels, self.confidence).tolist()
        ]

    def sentence(self) -> str:
        """What was found, in one line."""
        furthest = float(self.distances.max())
        text = (
            f"{self.items.source}: {len(self):,} {self.items.noun}; the furthest is {furthest:.1f} times as far from "
        )
        text += f"its neighbour {self.k} as the median."
        if self.votes is not None:
            text += f" {len(self.suspects()):,} of {len(self.rows):,} labels are contradicted by the neighbours."
        return text

    def columns(self) -> dict[str, list[object]]:
        """A row for each item, the furthest first: rank from 1, id, distance, nearest; with labels what votes say."""
        ids, order = self.items.ids, self.order.tolist()
        table: dict[str, list[object]] = {
            "rank": list(range(1, len(order) + 1)),
            "id": [ids[row] for row in order],
            "distance": [float(self.distances[row]) for row in order],
            "nearest": [ids[self.nearest[row]] for row in order],
        }
        if self.votes is None or self.items.labels is None:
            return table
        place = np.full(len(ids), -1)
        place[self.rows] = np.arange(len(self.rows))
        names, at = self.items.label_names, place[order].tolist()
        own, expected, share = (each.tolist() for each in self.votes)
        labels = self.items.labels[order].tolist()
        table["label"] = [names[label] if label >= 0 else "" for label in labels]
        table["expected"] = [names[expected[row]] if row >= 0 else "" for row in at]
        table["confidence"] = [share[row] if row >= 0 else None for row in at]
        table["own_share"] = [own[row] if row >= 0 else None for row in at]
        return table

    def save(self, path: str | Path) -> None:
        """Writes ``columns`` as .csv or .parquet. Raises LikewiseError on another ending."""
        write_table(Path(path), self.columns(), self.stamp)


def outliers(
    run: Model | str | Path,
    source: object,
    *,
    k: int | None = None,
    layer: Layer = "backbone",
    labels: str = "none",
    confidence: float = CONFIDENCE,
    key: str | None = None,
    image: str | None = None,
    columns: Sequence[str] = (),
    progress: bool = True,
) -> Outliers:
    """Finds items that do not belong, and labels that are likely wrong.

    An item is as foreign as it is far from its k-th nearest other item, in features of the encoder that are whitened
    (``foreign.whitening``) and not scaled to length 1: two foreign items are easily near each other on the unit sphere.
    Neighbours are looked for among all items, or among 20,000 drawn from them if there are more.

    With labels, the 20 nearest others of each labelled item vote on its label by the cosines of embeddings, with a
    temperature of 0.07. A label is suspect if another one gets at least ``confidence`` of the votes.

    Args:
        run: a model or the folder of its run.
        source: as for ``model.open``, but not items of several parts; two items or more.
        k: which neighbour; more than there are foreign items of one kind. None: a tenth of the items, at most 50.
        layer: whose features: backbone, or embedding.
        labels: "none"; else as for ``open_items``: "auto", a column, or a file.
        confidence: above 0 and at most 1.
        key, image, columns: as for ``open_items``.
        progress: show bars.

    Raises:
        LikewiseError: the run has no model, the source can't be opened, there is one item, k is not below the number of
            items, no item has a label or there is one label only.

    Cost: a pass of the encoder (two of 20,000 items if there are more, and one more with labels), and min(N, 20,000)
    products of rows for each item. Memory: 20,000 rows of features; with labels all embeddings.

    Papers: Ramaswamy et al. 2000 (distance to the k-th neighbour); Sun et al. 2022 (in features of an encoder); Lee et
    al. 2018 (Mahalanobis' distance in them).
    """
    if not 0 < finite("confidence", confidence) <= 1:
        raise LikewiseError(f"confidence={confidence} must be above 0 and at most 1.")
    if k is not None:
        at_least_one("k", k, "it is the number of a neighbour")
    model, items = open_one_kind(
        run=run, source=source, labels=labels, key=key, image=image, columns=columns, progress=progress
    )
    assert model is not None
    many = min(len(items), REFERENCE)
    if k is not None and k >= many:
        raise LikewiseError(f"k={k}, but an item has {many - 1:,} others that are compared with it; give a smaller k.")
    if labels != "none":
        labelled(one_label(items))
    with stages(enabled=progress) as begin:
        neighbour = min(K, max(1, many // 10)) if k is None else k
        found, nearest = _distances(model, items, neighbour, layer, begin)
        votes, rows = None, np.empty(0, np.int64)
        if labels != "none" and items.labels is not None:
            rows = np.flatnonzero(items.labels >= 0)
            part = items if len(rows) == len(items) else items.select(rows)
            embedding = embedded(model, part, tick=begin("embedding"))
            near = Neighbours(embedding, part.ids, begin("preparing the search"))
            votes = votes_of_others(near, items.labels[rows], VOTERS, begin("neighbours vote on labels"))
    median = float(np.median(found))
    return Outliers(
        items=items,
        k=neighbour,
        distances=found / median if median > 0 else found,
        nearest=nearest,
        votes=votes,
        rows=rows,
        confidence=confidence,
        stamp={**made_by("outliers", items, model, layer), "k": neighbour, "labels": labels, "confidence": confidence},
    )


def _distances(
    model: Model, items: Items, k: int, layer: Layer, begin: Begin
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """(N,) distance to the k-th neighbour among the reference items, and the row of the nearest."""
    many = len(items)
    drawn = torch.randperm(many, generator=torch.Generator().manual_seed(0))[:REFERENCE].sort().values
    part = items if len(drawn) == many else items.select(drawn)
    tick = begin("embedding")
    features = model.features(part, layer=layer, unit=False, tick=lambda done: tick(done / len(part)))
    white = whitening(features)
    reference = white(features)
    tick, found, nearest = begin("neighbours"), list[Tensor](), list[Tensor]()
    for number, asked in enumerate(blocks := torch.split(torch.arange(many), _BLOCK)):
        whole = len(part) == many
        rows = reference[asked] if whole else white(model.features(items.select(asked), layer=layer, unit=False))
        distance, near = distances_to(rows, asked, reference, drawn, k, part_of(tick, number, len(blocks)))
        found.append(distance)
        nearest.append(drawn[near])
    return torch.cat(found).double().numpy(), torch.cat(nearest).numpy()
