"""What every index on servers is while it is made, or brought up to date, whatever the servers are."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from likewise.errors import LikewiseError
from likewise.index import pointer
from likewise.index.embedding_file import check_embedding
from likewise.index.items_table import as_columns
from likewise.index.kept import Stage
from likewise.index.layout import Layout, Part
from likewise.index.names import Names
from likewise.index.promise import Promise
from likewise.metrics.checks import Rows


class OnServers:
    """The ids, hashes and metadata that servers hold of an index, and how its rows were made.

    Args:
        folder: of the run's index; it gets a small file that says where the index is.
        stage: begins a stage of the work that has a bar.
    """

    def __init__(self, folder: Path, stage: Stage) -> None:
        self._folder, self._stage = folder, stage
        self.protocol: dict[str, str | int | float] = {}
        self.promise: Promise | None = None
        self.read: Callable[[str], Tensor] | None = None
        self.engine_name, self.columns = "", as_columns(None, 0)
        self._names: Names | None = None
        self._contents: npt.NDArray[np.uint8] | None = None
        self._layout: Layout | None = None
        self._begun, self._anew = False, False

    @property
    def names(self) -> Names:
        """The ids that the servers had."""
        assert self._names is not None
        return self._names

    @property
    def contents(self) -> npt.NDArray[np.uint8] | None:
        """The hash of each item's content."""
        return self._contents

    @property
    def has_contents(self) -> bool:
        """Whether the hashes are known."""
        return self._layout is not None and self._layout.contents

    @property
    def has_query_rows(self) -> bool:
        """Whether items have other rows as queries."""
        return self._layout is not None and self._layout.queries

    def _known_owner(self) -> str:
        """The name of the run in its folder; empty if it has none."""
        with suppress(LikewiseError):
            return pointer.read(self._folder).owner
        return ""

    @staticmethod
    def _part(
        rows: Rows | None,
        ids: Sequence[str],
        query_rows: Rows | None,
        columns: Any,
        contents: npt.NDArray[np.uint8] | None,
    ) -> Part:
        """Items to write. Raises LikewiseError as ``check_embedding``."""
        held = [
            None if each is None else check_embedding(each, ids).detach().float().cpu() for each in (rows, query_rows)
        ]
        return Part(ids, held[0], held[1], contents, columns)
