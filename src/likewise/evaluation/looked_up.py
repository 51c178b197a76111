"""What each query of a retrieval finds: as a table, and as a page of pictures.

Dimension legend: Q queries, K hits of each, L labels of an item.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from likewise.console import Tick, untold
from likewise.data import Items
from likewise.evaluation.picture_page import Cell, write_page
from likewise.metrics.neighbours import top_k
from likewise.pages.pictures import PLAIN, QUERY, Mark, scored, thumbnail
from likewise.pages.pieces import named, note
from likewise.stamp import Stamp
from likewise.tables import write_table

NOT_RIGHT = Mark("wrong", "✗", "wrong")
SHOWN = 100  # queries of each kind that a page shows at most
_BLOCK = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class LookedUp:
    """The nearest items of each query.

    Args:
        queries: that were looked up.
        gallery: that was searched.
        places: (Q, K) int64 rows of the gallery, the nearest first; −1 where there are fewer.
        scores: (Q, K) float32 cosines.
        right: (Q, K) bool, whether a hit is relevant: it shares a label with the query, or is the same thing.
        relevant: (Q,) int64, the number of relevant items that the gallery has for each query.
        stamp: what made this.
    """

    queries: Items
    gallery: Items
    places: Tensor
    scores: Tensor
    right: Tensor
    relevant: Tensor
    stamp: Stamp

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.places)

    def __repr__(self) -> str:
        return f"LookedUp({self.sentence()})"

    def sentence(self) -> str:
        """What was found, in one line."""
        counted = self.relevant > 0
        right = int(self.right[counted, 0].sum())
        without = len(self) - int(counted.sum())
        more = f" {without:,} more have nothing of their kind in the gallery." if without else ""
        return f"{right:,} of {int(counted.sum()):,} queries have a right item first.{more}"

    def save(self, path: str | Path) -> None:
        """Writes a row for each hit as .csv or .parquet: query, rank from 1, id, score, right.

        Raises LikewiseError on another ending, OSError from the file system.
        """
        query, rank = (self.places >= 0).nonzero().unbind(1)
        items = self.places[query, rank].tolist()
        columns: dict[str, Sequence[object]] = {
            "query": [self.queries.ids[row] for row in query.tolist()],
            "rank": (rank + 1).tolist(),
            "id": [self.gallery.ids[row] for row in items],
            "score": self.scores[query, rank].tolist(),
            "right": self.right[query, rank].tolist(),
        }
        write_table(Path(path), columns, self.stamp)

    def page(self, path: str | Path) -> None:
        """Writes a page: the queries whose first hit is wrong, those most sure of it first, and those that are right.

        Raises LikewiseError unless the path ends in .html, OSError from the file system.
        """
        first, counted = self.right[:, 0], self.relevant > 0
        by_score = (-self.scores[:, 0]).argsort(stable=True)
        legend = note("Framed: a query. Then what is nearest to it, with the cosine; those with ✗ are wrong.")
        kinds = {
            "Wrong first": counted & ~first,
            "Right first": counted & first,
            "Nothing of their kind is in the gallery": ~counted,
        }
        sections = [("What was found", note(self.sentence()) + legend)]
        for heading, asked in kinds.items():
            rows = by_score[asked[by_score]].tolist()
            if rows:
                more = note(f"and {len(rows) - SHOWN:,} more") if len(rows) > SHOWN else ""
                sections.append((f"{heading}: {len(rows):,}", "".join(map(self._shelf, rows[:SHOWN])) + more))
        write_page(path, f"likewise: {self.queries.source} looked up in {self.gallery.source}", self.stamp, sections)

    def _shelf(self, row: int) -> str:
        """A query and its hits, which may be of two sets."""
        query = self.queries.ids[row]
        hits = [
            Cell(place, scored(score, self.gallery.ids[place]), PLAIN if right else NOT_RIGHT)
            for place, score, right in zip(*(each[row].tolist() for each in self._each), strict=True)
            if place >= 0
        ]
        if not self.queries.pictured:
            texts = (named(f"{each.mark.sign} {each.caption}".strip()) for each in hits)
            return f"<p>{named(query)}: {'; '.join(texts)}</p>"
        shown = [thumbnail(self.queries.picture(row), query, query, QUERY)]
        for each in hits:
            picture = self.gallery.picture(each.row)
            shown.append(thumbnail(picture, self.gallery.ids[each.row], each.caption, each.mark))
        return f'<div class="row">{"".join(shown)}</div>'

    @property
    def _each(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.places, self.scores, self.right


def look_up(
    rows: tuple[Tensor, Tensor],
    items: tuple[Items, Items],
    labels: tuple[Tensor, Tensor],
    ids: tuple[Tensor, Tensor],
    relevant: Tensor,
    k: int,
    stamp: Stamp,
    tick: Tick = untold,
) -> LookedUp:
    """The k nearest gallery items of each query; each pair is of the gallery and of the queries.

    Args:
        rows: (N, D) and (Q, D).
        items: what they are of.
        labels: (N,) or (N, L), (Q,) or (Q, L); −1 for none.
        ids: (N,) and (Q,); a query does not find an item with its own.
        relevant: (Q,) number of relevant items.
        k: number of hits.
        stamp: of the rows.
        tick: told the share of the work that is done.

    Cost: that of ``top_k``.
    """
    scores, places = top_k(rows[1], rows[0], k, query_ids=ids[1], key_ids=ids[0], tick=tick)
    known, asked = (each.reshape(len(each), -1) for each in labels)
    parts = [
        ((known[near.clamp_min(0)][:, :, :, None] == own[:, None, None, :]) & (own >= 0)[:, None, None, :])
        .flatten(2)
        .any(2)
        & (near >= 0)
        for near, own in zip(torch.split(places, _BLOCK), torch.split(asked, _BLOCK), strict=True)
    ]
    return LookedUp(
        queries=items[1],
        gallery=items[0],
        places=places,
        scores=scores,
        right=torch.cat(parts),
        relevant=relevant,
        stamp={"command": "retrieve", **stamp, "hits": k},
    )
