"""What a search finds: a list of hits, which a notebook shows with pictures."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from likewise.data import Items, read_image
from likewise.errors import LikewiseError
from likewise.index.names import Names
from likewise.pages.notebook import cell
from likewise.pages.pictures import QUERY, SIDE, scored, thumbnail
from likewise.pages.pieces import grid, note

Pixels = npt.NDArray[np.uint8]
Look = Callable[[Sequence[str]], Sequence[Pixels | None]]  # ids → their pictures, None where there is none
SHOWN = 50  # hits in the output of a cell
EXAMPLES, NEAREST = 3, 8  # items of an index that stand for it, and the hits of each


class Hit(NamedTuple):
    """One search result: the item's id and its inner product with the query (the cosine, for unit rows)."""

    id: str
    score: float


class Looks:
    """Pictures of items by id. The data are opened when the first picture is asked for, and then kept.

    Args:
        opened: opens the items. Where it raises LikewiseError, there are no pictures.
    """

    def __init__(self, opened: Callable[[], Items]) -> None:
        self._opened = opened
        self._items: Items | None = None
        self._names: Names | None = None

    def __call__(self, ids: Sequence[str]) -> list[Pixels | None]:
        """The picture of each id, None where there is none; the first call may have to read the data."""
        if self._names is None:
            try:
                self._items = self._opened()
                self._names = Names(self._items.ids)
            except LikewiseError:
                self._names = Names(())
        items = self._items
        if items is None or not items.pictured:
            return [None] * len(ids)
        items.refuse_cut()
        return [items.picture(row) if row >= 0 else None for row in map(self._names.row, ids)]


def given(items: Items) -> Items:
    """The items themselves, for ``Looks`` that have them at hand."""
    return items


class Hits(list[Hit]):
    """The hits of a query, best first: a list. A notebook shows it as a row of pictures, or as a table.

    Args:
        hits: the hits.
        query: the id that was looked up; None of a row.
        look: gives pictures; None: the index knows none.
    """

    def __init__(self, hits: Iterable[Hit] = (), *, query: str | None = None, look: Look | None = None) -> None:
        super().__init__(hits)
        self._query, self._look = query, look

    def __reduce__(self) -> tuple[type["Hits"], tuple[list[Hit]]]:
        """Copied and sent between processes without the data of the pictures."""
        return Hits, (list(self),)

    def to_pandas(self) -> Any:
        """A DataFrame with the columns id and score, best first. Raises LikewiseError without pandas."""
        try:
            import pandas
        except ImportError:
            raise LikewiseError("to_pandas needs pandas; pip install pandas.") from None
        return pandas.DataFrame({"id": [hit.id for hit in self], "score": [hit.score for hit in self]})

    def _repr_html_(self) -> str:
        shown = self[:SHOWN]
        more = note(f"and {len(self) - SHOWN:,} more") if len(self) > SHOWN else ""
        return cell(hits_shown(self._query, shown, self._look) + more)


def hits_shown(query: str | None, hits: Sequence[Hit], look: Look | None) -> str:
    """A row of pictures, the query first, if all hits have one; else a table of ids and scores."""
    asked = [] if query is None else [query]
    pictures = [] if look is None else list(look([*asked, *(hit.id for hit in hits)]))
    found = pictures[len(asked) :]
    known = [(hit, picture) for hit, picture in zip(hits, found, strict=False) if picture is not None]
    if not known or len(known) < len(hits):
        return grid(["id", "score"], [[hit.id, f"{hit.score:.4f}"] for hit in hits])
    own = None if query is None else _of_file(query) if pictures[0] is None else pictures[0]
    cells = [thumbnail(own, query, query, QUERY)] if query is not None and own is not None else []
    cells += [thumbnail(picture, hit.id, scored(hit.score, hit.id)) for hit, picture in known]
    return f'<div class="row">{"".join(cells)}</div>'


def _of_file(path: str) -> Pixels | None:
    """The picture of a file that was looked up; None where it is none."""
    try:
        return read_image(path, SIDE)
    except (LikewiseError, OSError):
        return None


def examples_shown(search: Callable[[str, int], Sequence[Hit]], ids: Sequence[str], look: Look | None) -> str:
    """A few items of an index, drawn at random, with the nearest of each; empty where there are no pictures."""
    rows = torch.randperm(len(ids), generator=torch.Generator().manual_seed(0))[:EXAMPLES].tolist()
    asked = [ids[row] for row in rows]
    if len(ids) < 2 or look is None or any(picture is None for picture in look(asked)):
        return ""
    shown = (hits_shown(item, search(item, NEAREST), look) for item in asked)
    return note("Items of the index, drawn at random, and the nearest of each:") + "".join(shown)
