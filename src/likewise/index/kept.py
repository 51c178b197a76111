"""How an index of a run is kept up to date, in its folder or on servers."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from likewise.console import Tick
from likewise.index.layout import Part
from likewise.index.names import Names
from likewise.index.promise import Promise
from likewise.metrics.checks import Rows

Stage = Callable[[str], Tick]  # begins a stage of the work that has a bar
About = dict[str, str | int | float]


class Kept(Protocol):
    """An index that is brought up to date; see ``Index``."""

    protocol: About
    promise: Promise | None
    engine_name: str
    columns: Any
    read: Callable[[str], Tensor] | None

    @property
    def names(self) -> Names:
        """The ids that it has."""

    @property
    def contents(self) -> npt.NDArray[np.uint8] | None:
        """The hash of each item's content, in the order of the ids."""

    @property
    def has_contents(self) -> bool:
        """Whether the hashes are known."""

    @property
    def has_query_rows(self) -> bool:
        """Whether items have other rows as queries."""

    def __len__(self) -> int: ...

    def add(
        self,
        rows: Rows,
        ids: Sequence[str],
        *,
        query_rows: Rows | None = None,
        columns: Any = None,
        contents: npt.NDArray[np.uint8] | None = None,
    ) -> None:
        """Takes new items, or new rows of items that it has."""

    def describe(self, ids: Sequence[str], columns: Any) -> None:
        """Gives items other metadata."""

    def remove(self, ids: Sequence[str]) -> None:
        """Forgets items."""


class Streamed(Kept, Protocol):
    """An index on servers that takes items in a stream, which memory never holds together."""

    def look(self) -> Kept | None:
        """The index with what the servers say of the items, which are not read; None if there is none."""

    def stream(
        self, parts: Iterable[Part], total: int, dim: int, protocol: About, *, columns: Any, kept: bool
    ) -> tuple[int, int, int]:
        """Brings the servers to the items of a stream; the numbers of new, changed and gone ones.

        Args:
            parts: some thousands of items each, with rows and contents.
            total: how many items they are together.
            dim: numbers of a row.
            protocol: how the rows were made.
            columns: the metadata of all, or None.
            kept: whether the former items are of the same model, layer and columns.
        """


class Place(Protocol):
    """Where the index of a run is kept."""

    @property
    def streamed(self) -> Streamed | None:
        """What takes items in a stream, if this place does."""

    def load(self) -> Kept | None:
        """The index as it is; None if there is none. Raises LikewiseError when it can't be used."""

    def make(
        self,
        rows: Rows,
        ids: Sequence[str],
        protocol: About,
        *,
        query_rows: Rows | None,
        columns: Any,
        contents: npt.NDArray[np.uint8],
    ) -> Kept:
        """A new index of these items."""

    def finish(self, index: Kept, recall: float, *, moved: bool) -> None:
        """Builds the engine and measures its promise if that is needed or many items ``moved``, and saves all."""
