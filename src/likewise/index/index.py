"""An index of embedded items: search by id, row or file, with conditions; add, replace, remove, save, load."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.console import Tick, part_of, untold
from likewise.errors import LikewiseError, at_least_one
from likewise.index import generations
from likewise.index.asked import SOME, Searched, checked
from likewise.index.conditions import matching, parse_all
from likewise.index.embedding_file import check_embedding
from likewise.index.engine import Engine, Keys
from likewise.index.engines import EXACT_NUMBERS, KINDS, chosen
from likewise.index.hits import Hit
from likewise.index.items_table import Held, as_columns, filtered, joined
from likewise.index.names import Names
from likewise.index.promise import Promise, Tuning, exact_promise, held_out
from likewise.index.saved import Saved
from likewise.metrics.checks import Rows
from likewise.metrics.exact_scores import unpack
from likewise.metrics.neighbours import top_k
from likewise.metrics.rounded_keys import RoundedKeys, quicker
from likewise.metrics.searched_keys import exact_among
from likewise.text import quoted

Contents = npt.NDArray[np.uint8]
AMONG = 50_000  # rows that fit a condition, up to which all of them are compared
_BLOCK = 4096  # queries of which an engine holds candidates at once


class Index(Searched):
    """Search by inner product over rows with ids.

    It is exact unless ``use`` gives it an engine. Scores are always those of ``metrics.top_k``: an engine proposes
    rows, and these get their exact scores.

    Args:
        rows: (N, D) float, unit rows for cosines; held as float32.
        ids: N different strings.
        protocol: how the rows were made (run, layer, data, epoch ...); saved beside them.
        query_rows: (N, D) rows of the items as queries, where they are others; None: an item's row is its query.
        read: a function from the path of a file to its row (D,), for searches by path. ``model.index`` gives that of
            its model. It is not saved.
        columns: metadata of the items for conditions: names with N values each, or a table of pyarrow.
        contents: (N, 16) uint8, a hash of each item's content, by which a later build knows what has changed.

    Raises:
        LikewiseError: there are no rows, an id occurs twice, rows, ids and columns have different lengths, or a row has
            NaN or infinity (its id is named).

    Cost: memory of the rows and about 100 bytes per id; with exact search half as much again of the rows, on a CPU that
    multiplies bfloat16 in hardware. An exact search reads all rows once per 512 queries.
    """

    def __init__(
        self,
        rows: Rows,
        ids: Sequence[str],
        protocol: Mapping[str, str | int | float] | None = None,
        *,
        query_rows: Rows | None = None,
        read: Callable[[str], Tensor] | None = None,
        columns: Any = None,
        contents: Contents | None = None,
    ) -> None:
        rows = check_embedding(rows, ids)
        self.names = Names(ids)
        self.query_rows = None if query_rows is None else check_embedding(query_rows, ids).detach().float()
        self.columns = as_columns(columns, len(ids))
        self.contents = contents
        self.protocol = dict(protocol or {})
        self.read = read
        self.engine: Engine | None = None  # None of exact search
        self.engine_name, self.options = "exact", dict[str, int]()
        self.promise: Promise | None = None
        self._keys: Keys = np.arange(len(ids))
        self._next, self._saved = len(ids), Saved()
        self.rows = rows.detach().float()
        self._longest = _longest(self.rows)
        self._rounded: RoundedKeys | None = None  # of exact search, where it is quicker

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids, in the order of the rows."""
        return self.names.ids

    @property
    def has_contents(self) -> bool:
        """Whether the hash of each item's content is known."""
        return self.contents is not None

    @property
    def has_query_rows(self) -> bool:
        """Whether items have other rows as queries."""
        return self.query_rows is not None

    def __repr__(self) -> str:
        n, dim = self.rows.shape
        ids = f"{quoted(self.ids[0])} …"
        own = (
            f"query_rows={self.query_rows is not None}, reads_files={self.read is not None}, "
            f"contents={self.contents is not None}"
        )
        columns = ", ".join(self.columns.column_names)
        return (
            f"Index({n} × {dim}, engine={self.engine_name}, ids={ids}, columns=[{columns}], protocol={self.protocol}, "
            f"{own})"
        )

    def __len__(self) -> int:
        """Number of items."""
        return len(self.names)

    def stats(self) -> dict[str, str | int | float]:
        """Number of items, numbers of a row, the engine with its options, columns, and what was promised."""
        about: dict[str, str | int | float] = {
            "items": len(self),
            "dim": self.rows.shape[1],
            "engine": self.engine_name,
            **self.options,
            "columns": ", ".join(self.columns.column_names),
        }
        return about | (self.promise.as_json() if self.promise else {})

    def row_by_id(self, item: str) -> Tensor | None:
        """(D,) the row that searches for the item of an id; None of an unknown id."""
        row = self.names.row(item)
        return None if row < 0 else (self.rows if self.query_rows is None else self.query_rows)[row]

    def some_ids(self) -> Sequence[str]:
        """The first ids, among which that of a misspelt one is looked for."""
        return self.ids[:SOME]

    def _found(
        self, queries: Tensor, k: int, excluded: list[str | None], where: str | Sequence[str]
    ) -> list[list[Hit]]:
        left_out = [-1 if item is None else self.names.row(item) for item in excluded]
        scores, rows = self.nearest(
            queries, k, excluded=torch.tensor(left_out) if max(left_out, default=-1) >= 0 else None, where=where
        )
        ids = self.ids
        return [
            [Hit(ids[row], score) for score, row in zip(*pair, strict=True) if row >= 0]
            for pair in zip(scores.tolist(), rows.tolist(), strict=True)
        ]

    def nearest(
        self,
        queries: Rows,
        k: int = 10,
        *,
        excluded: Tensor | None = None,
        where: str | Sequence[str] = (),
        tick: Tick = untold,
    ) -> tuple[Tensor, Tensor]:
        """As ``search_batch``, with numbers: (B, ≤ k) float32 scores and int64 rows; −inf and −1 where none is left.

        ``excluded`` is (B,) rows that are not returned, −1 for none.
        """
        queries = checked(queries, self.rows.shape[1]).to(self.rows.device)
        at_least_one("k", k, "it is a number of neighbours")
        conditions = parse_all(where)
        among = torch.from_numpy(np.flatnonzero(matching(self.columns, conditions))) if conditions else None
        if among is not None and len(among) == 0:
            return torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)
        if self.engine is None or (among is not None and len(among) <= AMONG):
            return self._exact(queries, k, excluded, among, tick)
        return self._proposed(self.engine, queries, k, excluded, among, tick)

    def _exact(
        self, queries: Tensor, k: int, excluded: Tensor | None, among: Tensor | None, tick: Tick
    ) -> tuple[Tensor, Tensor]:
        """By comparing every row, or every row ``among`` those that fit.

        Few rows are laid out column by column first, which a single query reads three times as fast.
        """
        if self.engine_name == "exact" and self._rounded is None and quicker(self.rows, queries.device):
            self._rounded = RoundedKeys(self.rows)
        if self.engine_name == "exact" and self.rows.numel() <= EXACT_NUMBERS:
            self.rows = self.rows.T.contiguous().T
        rows, rounded = self.rows, self._rounded
        if among is not None:  # row by row or column by column, as the rows are laid out
            rows, rounded = rows[among] if rows.is_contiguous() else rows.T.index_select(1, among).T, None
        numbers = None if excluded is None else torch.arange(len(self)) if among is None else among
        scores, found = top_k(
            queries,
            rows,
            k,
            query_ids=excluded,
            key_ids=numbers,
            longest=self._longest,
            rounded=rounded,
            tick=tick,
        )
        return scores, found if among is None else torch.where(found < 0, found, among[found.clamp_min(0)])

    def _proposed(
        self, engine: Engine, queries: Tensor, k: int, excluded: Tensor | None, among: Tensor | None, tick: Tick
    ) -> tuple[Tensor, Tensor]:
        """By exact scores of what the engine proposes."""
        count = min(k, len(self) if among is None else len(among))
        keys = None if among is None else self._keys[among.numpy()]
        scores, rows = [], []
        for start in range(0, len(queries), _BLOCK):
            part = queries[start : start + _BLOCK]
            proposed = engine.candidates(part, count + (excluded is not None), keys)
            near = torch.from_numpy(self._rows_of(proposed))
            if excluded is not None:
                near = near.masked_fill(near == excluded[start : start + _BLOCK, None], -1)
            best = exact_among(part, self.rows, near).topk(min(count, near.shape[1]), dim=1).values
            each = unpack(best)
            scores.append(each[0])
            rows.append(each[1])
            tick((start + len(part)) / len(queries))
        return torch.cat(scores), torch.cat(rows)

    def _rows_of(self, keys: Keys) -> Keys:
        """The rows that have these keys, −1 of −1."""
        return np.where(keys < 0, -1, np.searchsorted(self._keys, keys))

    def use(self, to: str, *, recall: float = 0.95, tick: Tick = untold) -> Promise:
        """Builds an engine for the rows, tunes its effort, and measures its recall on items held out.

        Args:
            to: ``"exact"``, ``"auto"``, ``"faiss:ivf"``, ``"faiss:hnsw"``; with options: ``"faiss:ivf?lists=512"``.
            recall: the recall@10 that is promised, above 0 and below 1.
            tick: told the share of the work that is done.

        Returns:
            what was measured; ``promise.kept`` says whether the lower 95 % bound reaches ``recall``.

        Raises:
            LikewiseError: an unknown engine or option; faiss is not installed.

        Cost: of IVF, k-means on 50 rows a list, and a pass over the rows; of any, 1,024 exact searches.
        """
        name, options = chosen(to, *self.rows.shape)
        if name == "exact":
            self._install(None, name, options)
            self.promise = exact_promise(len(self), recall, self._try)
            return self.promise
        self.rows = self.rows.contiguous()
        tuning = Tuning(held_out(self.rows, part_of(tick, 0, 2), longest=self._longest), len(self), recall)
        engine = self.build(to, part_of(tick, 1, 2))
        self.promise = tuning.promise(engine.efforts(), self._try)
        engine.effort = self.promise.effort
        return self.promise

    def build(self, to: str, tick: Tick = untold) -> Engine:
        """Builds an engine, such as faiss:ivf, that promises nothing: its owner sets the effort. Raises as ``use``."""
        name, options = chosen(to, *self.rows.shape)
        self.rows, self.promise = self.rows.contiguous(), None
        engine = KINDS[name].build(self.rows, self._keys, options, tick)
        self._install(engine, name, options)
        return engine

    def _install(self, engine: Engine | None, name: str, options: Mapping[str, int]) -> None:
        self.engine, self.engine_name, self.options, self._rounded = engine, name, dict(options), None
        self._saved = self._saved._replace(engine="")

    def _try(self, effort: int, asked: Tensor, k: int) -> Tensor:
        """(Q, k) rows found for items of the index, at an effort."""
        if self.engine is not None:
            self.engine.effort = effort
        return self.nearest(self.rows[asked], k, excluded=asked)[1]

    def add(
        self,
        rows: Rows,
        ids: Sequence[str],
        *,
        query_rows: Rows | None = None,
        columns: Any = None,
        contents: Contents | None = None,
    ) -> None:
        """Takes new items, or new rows of items that it has. Arguments are those of ``Index``.

        Raises LikewiseError as ``Index`` does, on rows of another length, and on other columns than those it has;
        nothing is then changed.
        """
        new = Index(rows, ids, query_rows=query_rows, columns=columns, contents=contents)
        if new.rows.shape[1] != self.rows.shape[1]:
            raise LikewiseError(
                f"the rows have {new.rows.shape[1]} numbers, but the index holds rows of {self.rows.shape[1]}."
            )
        if new.columns.column_names != self.columns.column_names:
            raise LikewiseError(
                f"the items have the columns {new.columns.column_names}, but the index has {self.columns.column_names}."
            )
        if (new.query_rows is None) != (self.query_rows is None) or (new.contents is None) != (self.contents is None):
            raise LikewiseError("give query_rows and contents as the index has them: for all items or for none.")
        try:
            columns = new.columns.cast(self.columns.schema)
        except ValueError as error:  # pyarrow's errors are
            raise LikewiseError(f"the columns are of other types than those of the index ({error}).") from None
        places = self.names.places(new.ids)
        known = [item for item, place in zip(new.ids, places.tolist(), strict=True) if place >= 0]
        self._forget(known, everything=True)
        self._take(new, columns)

    def _take(self, new: "Index", columns: Any) -> None:
        keys = np.arange(self._next, self._next + len(new))
        empty = len(self) == 0
        self.names = self.names.and_then(new.names)
        self._keys, self._next = np.concatenate([self._keys, keys]), self._next + len(new)
        self.columns = joined(self.columns, columns)
        if self.query_rows is not None and new.query_rows is not None:
            self.query_rows = torch.cat([self.query_rows, new.query_rows])
        if self.contents is not None and new.contents is not None:
            self.contents = np.concatenate([self.contents, new.contents])
        if self.engine is not None:
            self.engine.add(new.rows, keys)
            self._saved = self._saved._replace(engine="")
        self._longest = max(self._longest, new._longest)
        self.rows, self._rounded = new.rows if empty else torch.cat([self.rows, new.rows]), None
        self._built()

    def describe(self, ids: Sequence[str], columns: Any) -> None:
        """Gives items that it has other metadata. Raises LikewiseError on an unknown id, and as ``add``."""
        rows = self.names.rows(ids)
        at = torch.from_numpy(rows)
        queries = None if self.query_rows is None else self.query_rows[at]
        contents = None if self.contents is None else self.contents[rows]
        self.add(self.rows[at], ids, query_rows=queries, columns=columns, contents=contents)

    def remove(self, ids: Sequence[str]) -> None:
        """Forgets items. Raises LikewiseError on an unknown id, and when no item would be left."""
        self._forget(ids, everything=False)

    def _forget(self, ids: Sequence[str], *, everything: bool) -> None:
        if not ids:
            return
        rows = self.names.rows(ids)
        stay = np.ones(len(self), np.bool_)
        stay[rows] = False
        if not stay.any() and not everything:
            raise LikewiseError("no item would be left in the index; remove its folder instead.")
        gone, kept = self._keys[rows], torch.from_numpy(np.flatnonzero(stay))
        self.names = Names([item for item, stays in zip(self.ids, stay.tolist(), strict=True) if stays])
        self._keys = self._keys[stay]
        self.columns = filtered(self.columns, stay)
        self.query_rows = None if self.query_rows is None else self.query_rows[kept]
        self.contents = None if self.contents is None else self.contents[stay]
        rows_left = self.rows.contiguous()[kept]
        if self.engine is not None:
            if not self.engine.remove(gone):
                self.engine = None  # built again with the rows that are left, or that come
            self._saved = self._saved._replace(engine="")
        self.rows, self._rounded = rows_left, None
        if len(kept) and not everything:
            self._built()

    def _built(self) -> None:
        """Builds the engine where it could not forget rows."""
        if self.engine is None and self.engine_name != "exact":
            effort = self.promise.effort if self.promise else 1
            self.engine = KINDS[self.engine_name].build(self.rows.contiguous(), self._keys, self.options, untold)
            self.engine.effort = effort

    def save(self, folder: str | Path) -> None:
        """Write the index into ``folder``, whole or not at all; see ``generations``. ``folder`` is made if missing.

        Where it was loaded from ``folder``, or saved there, only what has changed is written.

        Raises:
            OSError: from the file system.
        """
        about = {
            "protocol": self.protocol,
            "engine": self.engine_name,
            "options": self.options,
            "promise": self.promise.as_json() if self.promise else None,
            "next": self._next,
        }
        held = Held(self._keys, self.ids, self.rows, self.query_rows, self.columns, self.contents)
        self._saved = self._saved.with_this(generations.folder_of(folder), held, about, self.engine)

    @classmethod
    def load(cls, folder: str | Path) -> "Index":
        """Read an index that ``save`` wrote.

        Raises:
            LikewiseError: there is no index in the folder, it is damaged, or its engine is not installed.
        """
        folder = generations.folder_of(folder)
        manifest, held, gone, engine = generations.read(folder)
        about = manifest.about
        held, written = held.without(gone), held.keys
        index = cls(
            held.rows,
            held.ids,
            about["protocol"],
            query_rows=held.query_rows,
            columns=held.columns,
            contents=held.contents,
        )
        index._keys, index._next = held.keys, int(about["next"])
        index._saved = Saved(folder.resolve(), manifest, written, manifest.engine)
        index.options = dict(about["options"])
        index.promise = Promise(**about["promise"]) if about["promise"] else None
        if engine is not None:
            index.engine_name, index.engine = about["engine"], engine
            index.engine.effort = index.promise.effort if index.promise else 1
        return index


def _longest(rows: Tensor) -> float:
    """The length of the longest row."""
    return max(float(part.norm(dim=1).amax()) for part in torch.split(rows, 1 << 16))
