"""The index of a run in its folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from likewise.index.engines import chosen
from likewise.index.generations import MANIFEST
from likewise.index.index import Index
from likewise.index.kept import About, Kept, Stage, Streamed
from likewise.index.pointer import FILE
from likewise.metrics.checks import Rows


class FolderPlace:
    """An index in a folder, with an engine such as ``auto`` or ``faiss:ivf?lists=512``."""

    def __init__(self, folder: Path, to: str, stage: Stage) -> None:
        self._folder, self._to, self._stage = folder, to, stage
        self._index: Index | None = None

    @property
    def streamed(self) -> Streamed | None:
        """None: an index in a folder is made in memory."""
        return None

    def load(self) -> Index | None:
        """The index; None if there is none. Raises LikewiseError when it is damaged."""
        self._index = Index.load(self._folder) if (self._folder / MANIFEST).exists() else None
        return self._index

    def make(
        self,
        rows: Rows,
        ids: Sequence[str],
        protocol: About,
        *,
        query_rows: Rows | None,
        columns: Any,
        contents: npt.NDArray[np.uint8],
    ) -> Index:
        """A new index, in memory."""
        self._index = Index(rows, ids, protocol, query_rows=query_rows, columns=columns, contents=contents)
        return self._index

    def finish(self, index: Kept, recall: float, *, moved: bool) -> None:
        """Builds the engine if it is another or many items ``moved``, and saves."""
        assert index is self._index
        own, promise = self._index, index.promise
        wanted, options = chosen(self._to, *own.rows.shape)
        built = own.engine_name, own.options, promise.wanted if promise else None
        if moved or built != (wanted, options, recall):
            own.use(self._to, recall=recall, tick=self._stage(f"building {wanted}"))
        self._stage(f"writing {self._folder}")
        own.save(self._folder)
        (self._folder / FILE).unlink(missing_ok=True)
