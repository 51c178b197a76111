"""Searches an index for many requests at once, in a folder or on servers, and says what is known of each hit."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from likewise.errors import LikewiseError
from likewise.index.asked import Searched
from likewise.index.conditions import no_such_column, parse_all, typed
from likewise.index.index import Index
from likewise.serving.refused import busy
from likewise.serving.shown import Shown


class Found(NamedTuple):
    """A hit: its row in an index in a folder, its id, its score, and the places of its labels, −1 for none."""

    row: int | None
    id: str
    score: float
    labels: Sequence[int]


class Finder(Protocol):
    """An index as the server asks it."""

    @property
    def dim(self) -> int:
        """Numbers of a row."""

    @property
    def schema(self) -> Any:
        """The columns for conditions, a schema of pyarrow."""

    @property
    def engine(self) -> str:
        """How it searches."""

    def __len__(self) -> int: ...

    def row_by_id(self, item: str) -> Tensor | None:
        """The row that searches for an item; None of an id that is not in the index: no path is ever read.

        Raises Refused when servers are away.
        """

    def rows_of(self, ids: Sequence[str]) -> list[int | None]:
        """The rows of ids in the index; None of those that it does not have, and on servers."""

    def find(self, rows: Tensor, k: int, excluded: Sequence[str | None], where: tuple[str, ...]) -> list[list[Found]]:
        """The hits of each of several rows. Raises Refused when servers are away."""


class LocalFinder:
    """An index in a folder.

    Args:
        index: its rows in memory.
        shown: the labels.
    """

    def __init__(self, index: Index, shown: Shown) -> None:
        self.index, self._shown = index, shown
        self.labels = shown.labels_of(index.ids)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def dim(self) -> int:
        """See ``Finder``."""
        return int(self.index.rows.shape[1])

    @property
    def schema(self) -> Any:
        """See ``Finder``."""
        return self.index.columns.schema

    @property
    def engine(self) -> str:
        """See ``Finder``."""
        return self.index.engine_name

    def row_by_id(self, item: str) -> Tensor | None:
        """See ``Finder``."""
        row = self.index.names.row(item)
        rows = self.index.rows if self.index.query_rows is None else self.index.query_rows
        return None if row < 0 else rows[row]

    def rows_of(self, ids: Sequence[str]) -> list[int | None]:
        """See ``Finder``."""
        return [None if row < 0 else row for row in self.index.names.places(ids).tolist()] if ids else []

    def find(self, rows: Tensor, k: int, excluded: Sequence[str | None], where: tuple[str, ...]) -> list[list[Found]]:
        """See ``Finder``."""
        names, ids, labels = self.index.names, self.index.ids, self.labels
        out = [-1 if item is None else names.row(item) for item in excluded]
        left_out = torch.tensor(out) if max(out) >= 0 else None
        scores, near = self.index.nearest(rows, k, excluded=left_out, where=where)
        return [
            [Found(row, ids[row], score, label) for score, row, label in zip(*each, strict=True) if row >= 0]
            for each in zip(scores.tolist(), near.tolist(), labels[near.numpy()].tolist(), strict=True)
        ]


class ServerFinder:
    """An index on servers, and how many items it had when it was opened.

    Args:
        index: connected to them.
        shown: the labels.
    """

    def __init__(self, index: Any, shown: Shown) -> None:
        self._index, self._shown, self._many = index, shown, len(index)

    def __len__(self) -> int:
        return self._many

    @property
    def dim(self) -> int:
        """See ``Finder``."""
        return int(self._index.about.layout.dim)

    @property
    def schema(self) -> Any:
        """See ``Finder``."""
        return self._index.about.layout.schema

    @property
    def engine(self) -> str:
        """See ``Finder``."""
        return f"{self._index.kind}, {self._index.about.engine}"

    def row_by_id(self, item: str) -> Tensor | None:
        """See ``Finder``."""
        with _there():
            found: Tensor | None = self._index.row_by_id(item)
        return found

    def rows_of(self, ids: Sequence[str]) -> list[int | None]:
        """See ``Finder``."""
        return [None] * len(ids)

    def find(self, rows: Tensor, k: int, excluded: Sequence[str | None], where: tuple[str, ...]) -> list[list[Found]]:
        """See ``Finder``."""
        with _there():
            hits = self._index.search_batch(rows, k, exclude_ids=excluded, where=where)
        ids = [hit.id for each in hits for hit in each]
        labels = iter(self._shown.labels_of(ids).tolist())
        return [[Found(None, hit.id, hit.score, next(labels)) for hit in each] for each in hits]


@contextmanager
def _there() -> Iterator[None]:
    """Raises Refused in place of the errors of servers: what a request can do wrong was checked before."""
    try:
        yield
    except LikewiseError as error:
        raise busy(f"the index can't be searched now: {error}") from None


def finder_of(index: Searched, shown: Shown) -> Finder:
    """An index as the server asks it."""
    return LocalFinder(index, shown) if isinstance(index, Index) else ServerFinder(index, shown)


def check_where(schema: Any, where: Sequence[str]) -> None:
    """Raises LikewiseError on a condition that is none, on a column that is not there or that can't hold the value."""
    for condition in parse_all(where):
        if condition.column not in schema.names:
            raise LikewiseError(no_such_column(condition.column, schema.names))
        typed(condition, schema.field(condition.column).type)


def finite_row(numbers: Sequence[float], dim: int, what: str) -> Tensor:
    """(D,) float32. Raises LikewiseError on another length, and on numbers that float32 can't compute with."""
    if len(numbers) != dim:
        raise LikewiseError(f"the {what} has {len(numbers)} numbers, but {dim} are needed.")
    with np.errstate(over="ignore"):
        row = torch.from_numpy(np.asarray(numbers, np.float64).astype(np.float32))
    if not bool(row.isfinite().all()) or not bool(row.norm().isfinite()):
        raise LikewiseError(f"the {what} has NaN, infinity, or numbers too large for float32.")
    return row
