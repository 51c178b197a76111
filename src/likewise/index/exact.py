"""An index of an embedding: exact search, saving and loading."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.data.items import as_id
from likewise.errors import LikewiseError
from likewise.files import as_path
from likewise.index.embedding_file import check_embedding, read_embedding, write_embedding
from likewise.metrics.checks import Rows, as_rows, as_tensor, check_finite
from likewise.metrics.neighbours import top_k
from likewise.text import quoted

_FILE, _QUERIES = "index.parquet", "queries.parquet"
Query = Tensor | npt.NDArray[np.floating[Any]] | Sequence[float] | str | Path


class Hit(NamedTuple):
    """One search result: the item's id and its inner product with the query (the cosine, for unit rows)."""

    id: str
    score: float


class Index:
    """Exact search by inner product over rows with ids. It ranks as ``metrics.top_k`` does.

    Args:
        rows: (N, D) float, unit rows for cosines; kept as given, not copied.
        ids: N different strings.
        protocol: how the rows were made (run, layer, data, epoch ...); saved beside them.
        query_rows: (N, D) rows of the items as queries, where they are others; None: an item's row is its query.
        read: a function from the path of a file to its row (D,), for searches by path. ``model.index`` gives that of
            its model. It is not saved.

    Raises:
        LikewiseError: there are no rows, an id occurs twice, rows and ids have different lengths, or a row has NaN or
            infinity (its id is named).

    Cost: memory of the rows and about 100 bytes per id. A search reads all rows once, in float64, per 512 queries.
    """

    def __init__(
        self,
        rows: Rows,
        ids: Sequence[str],
        protocol: Mapping[str, str | int | float] | None = None,
        *,
        query_rows: Rows | None = None,
        read: Callable[[str], Tensor] | None = None,
    ) -> None:
        rows = check_embedding(rows, ids)
        self.ids = tuple(ids)
        self.rows = rows.detach()
        self.query_rows = None if query_rows is None else check_embedding(query_rows, ids).detach()
        self.protocol = dict(protocol or {})
        self.read = read
        self._row_of = {as_id(item): row for row, item in enumerate(self.ids)}
        if len(self._row_of) < len(self.ids):
            first = next(item for row, item in enumerate(self.ids) if self._row_of[as_id(item)] != row)
            raise LikewiseError(f"id {quoted(first)} occurs twice, in two Unicode forms; ids must name one item each.")

    def __repr__(self) -> str:
        n, dim = self.rows.shape
        ids = f"{quoted(self.ids[0])} …"
        own = f"query_rows={self.query_rows is not None}, reads_files={self.read is not None}"
        return f"Index({n} × {dim}, ids={ids}, protocol={self.protocol}, {own})"

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    def __contains__(self, item: str) -> bool:
        """Whether an item of this id is in the index."""
        return as_id(item) in self._row_of

    def search(self, query: Query, k: int = 10, *, exclude_id: str | None = None) -> list[Hit]:
        """The k items nearest to one query, best first; equal scores in the order of the index.

        Args:
            query: the id of an indexed item, whose row is used; a path to an image, or to a .npy file of one vector,
                which ``read`` embeds; or a row (D,) float. Text that is both an id and a path counts as an id.
            k: number of hits, ≥ 1; if the index has fewer items, there are fewer hits.
            exclude_id: id of an item that is not returned; an unknown id is ignored. None: the query's own id, if the
                query is an id.

        Raises:
            LikewiseError: text that is neither an id nor a file, a file but no ``read``, a query of another length or
                with NaN, infinity or numbers so large that scores would overflow, k < 1.
        """
        if isinstance(query, str | Path):
            name = str(query)
            rows = self.rows if self.query_rows is None else self.query_rows
            row = rows[self._row_of[as_id(name)]] if name in self else self.read_file(name)
            exclude_id = name if exclude_id is None else exclude_id  # ignored if it is a path
        else:
            row = as_tensor("the query", query)
        if row.ndim != 1:
            raise LikewiseError(
                f"a query must be one row of shape (D,), but has shape {tuple(row.shape)}; search_batch takes several."
            )
        return self.search_batch(row[None], k, exclude_ids=[exclude_id])[0]

    def read_file(self, path: str) -> Tensor:
        """(D,) the row of a file as a query. Raises LikewiseError if there is no such file, or no ``read``."""
        path = os.path.expanduser(path)
        if not os.path.isfile(path):  # of a name that is too long too
            raise LikewiseError(
                f"{quoted(path)} is neither a file nor the id of an indexed item; ids look like {quoted(self.ids[0])}."
            )
        if self.read is None:
            raise LikewiseError(
                f"this index was loaded without a model, so it can't embed {path}: use lw.load(RUN).search({path!r}), "
                "or search with an id or a row of model.embed."
            )
        return self.read(path)

    def search_batch(
        self, queries: Rows, k: int = 10, *, exclude_ids: Sequence[str | None] | None = None
    ) -> list[list[Hit]]:
        """The k items nearest to each of several queries; the hits of a query are those that ``search`` gives for it.

        Args:
            queries: (B, D) float.
            k: number of hits for each query, ≥ 1.
            exclude_ids: for each query the id of an item that is not returned, or None.

        Raises:
            LikewiseError: as ``search``, or if ``exclude_ids`` has another length than ``queries``.
        """
        queries = as_rows("queries", queries)
        check_finite("queries", queries)
        if bool(torch.isinf(queries.float().norm(dim=1)).any()):
            raise LikewiseError(
                f"the query has numbers up to {float(queries.abs().max()):.3g}, so that scores would overflow: "
                "scale it to length 1, as the rows of the index."
            )
        if queries.shape[1] != self.rows.shape[1]:
            raise LikewiseError(
                f"the query has {queries.shape[1]} numbers but the index holds rows of {self.rows.shape[1]}: "
                "embed the query with the run that made the index."
            )
        if exclude_ids is not None and len(exclude_ids) != queries.shape[0]:
            raise LikewiseError(f"{queries.shape[0]} queries but {len(exclude_ids)} exclude_ids; give one each.")
        excluded = [-1 if item is None else self._row_of.get(as_id(item), -1) for item in exclude_ids or ()]
        scores, rows = top_k(
            queries.to(self.rows.device),
            self.rows,
            k,
            query_ids=torch.tensor(excluded) if exclude_ids is not None else None,
            key_ids=torch.arange(len(self)) if exclude_ids is not None else None,
        )
        return [
            [Hit(self.ids[row], score) for score, row in zip(*pair, strict=True) if row >= 0]
            for pair in zip(scores.tolist(), rows.tolist(), strict=True)
        ]

    def save(self, folder: str | Path) -> None:
        """Write the index into ``folder`` as one parquet file, whole or not at all. ``folder`` is made if missing.

        Rows of queries are a second file, written first.

        Raises:
            OSError: from the file system.
        """
        folder = as_path(folder, "the folder of the index")
        folder.mkdir(parents=True, exist_ok=True)
        if self.query_rows is not None:
            write_embedding(folder / _QUERIES, self.query_rows, self.ids, self.protocol)
        write_embedding(folder / _FILE, self.rows, self.ids, self.protocol)
        if self.query_rows is None:
            (folder / _QUERIES).unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: str | Path) -> "Index":
        """Read an index that ``save`` wrote.

        Raises:
            LikewiseError: there is no index in the folder, or it is damaged.
        """
        path = as_path(folder, "the folder of the index") / _FILE
        if not path.is_file():
            raise LikewiseError(f"there is no index in {folder}; make one with: likewise index RUN DATA.")
        index, queries = cls(*read_embedding(path)), path.with_name(_QUERIES)
        if queries.is_file():
            rows, ids, protocol = read_embedding(queries)
            if (ids, protocol) != (index.ids, index.protocol):
                raise LikewiseError(
                    f"{queries} is of another index than {path}; make it again: likewise index RUN DATA."
                )
            index.query_rows = rows
        return index
