"""Exact search in an embedding, and the file that an embedding is kept in."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from likewise.errors import LikewiseError
from likewise.evaluation.checks import check_finite, check_ids, check_rows, peaks
from likewise.evaluation.neighbours import top_k
from likewise.files import atomic_write

_FILE = "index.parquet"
_METADATA = b"likewise"
_GROUP_ROWS = 65_536  # rows per parquet row group, so that other tools can read a file in parts


class Hit(NamedTuple):
    """One search result: the item's id and its inner product with the query (the cosine, for unit rows)."""

    id: str
    score: float


class Embedding(NamedTuple):
    """What an embedding file holds: ids, float32 (N, D) rows in the same order, and how they were made."""

    ids: tuple[str, ...]
    rows: Tensor
    metadata: dict[str, str | int | float]


class Index:
    """Exact search by inner product over rows with ids. Ranks equal those of ``evaluation.top_k``.

    Args:
        ids: N different strings.
        rows: (N, D) float, unit rows for cosines; kept as given, not copied.
        protocol: how the rows were made (run, layer, data, epoch ...); saved beside them.

    Raises:
        LikewiseError: no rows, an id twice, lengths that differ, NaN or infinity (by the item's id).

    Cost: memory of the rows plus about 100 bytes an id; a search is one float64 pass over the rows per 512 queries.
    """

    def __init__(
        self, ids: Sequence[str], rows: Tensor, protocol: Mapping[str, str | int | float] | None = None
    ) -> None:
        _check_embedding(ids, rows)
        self.ids = tuple(ids)
        self.rows = rows.detach()
        self.protocol = dict(protocol or {})
        self._row_of = {item: row for row, item in enumerate(self.ids)}

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    def __contains__(self, item: str) -> bool:
        """Whether an item of this id is in the index."""
        return item in self._row_of

    def search(self, query: Tensor, k: int = 10, *, exclude_id: str | None = None) -> list[Hit]:
        """The k items nearest to one query, best first; equal scores in the order of the index.

        Args:
            query: (D,) float.
            k: hits wanted, ≥ 1; fewer come back when the index holds fewer.
            exclude_id: an item never to return, usually the query itself; one that is not in the index is ignored.

        Raises:
            LikewiseError: a query of another length, NaN or infinity in it, k < 1.
        """
        if query.ndim != 1:
            raise LikewiseError(
                f"a query must be one row of shape (D,), but has shape {tuple(query.shape)}; "
                "search_batch takes several."
            )
        return self.search_batch(query[None], k, exclude_ids=[exclude_id])[0]

    def search_batch(
        self, queries: Tensor, k: int = 10, *, exclude_ids: Sequence[str | None] | None = None
    ) -> list[list[Hit]]:
        """The k items nearest to each of (B, D) queries; the same hits as one by one.

        Args:
            queries: (B, D) float.
            k: hits wanted for each, ≥ 1.
            exclude_ids: for each query an id never to return, or None.

        Raises:
            LikewiseError: as ``search``, or when ``exclude_ids`` has another length than ``queries``.
        """
        check_rows("queries", queries)
        check_finite("queries", queries)
        if queries.shape[1] != self.rows.shape[1]:
            raise LikewiseError(
                f"the query has {queries.shape[1]} numbers but the index holds rows of {self.rows.shape[1]}: "
                "embed the query with the run that made the index."
            )
        if exclude_ids is not None and len(exclude_ids) != queries.shape[0]:
            raise LikewiseError(f"{queries.shape[0]} queries but {len(exclude_ids)} exclude_ids; give one each.")
        excluded = [-1 if item is None else self._row_of.get(item, -1) for item in exclude_ids or ()]
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
        """Write the index into ``folder`` as one parquet file, atomically: readers see the old or the new one.

        Raises:
            OSError: from the file system.
        """
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_embedding(Path(folder) / _FILE, self.ids, self.rows, self.protocol)

    @classmethod
    def load(cls, folder: str | Path) -> "Index":
        """Read an index that ``save`` wrote.

        Raises:
            LikewiseError: no index there, or a damaged one.
        """
        path = Path(folder) / _FILE
        if not path.is_file():
            raise LikewiseError(f"there is no index in {folder}; make one with: likewise index RUN DATA.")
        return cls(*read_embedding(path))


def write_embedding(
    path: str | Path, ids: Sequence[str], rows: Tensor, metadata: Mapping[str, str | int | float]
) -> None:
    """Write an embedding as parquet, atomically: columns ``id`` (string), ``embedding`` (fixed_size_list<float>[D]).

    ``metadata`` is kept as JSON in the schema's metadata under the key ``likewise``.

    Args:
        path: the file; its folder must exist.
        ids: N different strings.
        rows: (N, D) float; stored as float32.
        metadata: how the rows were made.

    Raises:
        LikewiseError: no rows, an id twice, lengths that differ, NaN or infinity (by the item's id).
        OSError: from the file system.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    _check_embedding(ids, rows)
    values = np.ascontiguousarray(rows.detach().cpu().float().numpy())
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    table = pa.table({"id": pa.array(ids, pa.string()), "embedding": vectors})
    table = table.replace_schema_metadata({_METADATA: json.dumps(dict(metadata), ensure_ascii=False)})
    with atomic_write(path) as file:
        # Learned float32 numbers hardly compress; a dictionary of them would only cost time.
        pq.write_table(
            table, file, compression="NONE", use_dictionary=False, write_statistics=False, row_group_size=_GROUP_ROWS
        )


def read_embedding(path: str | Path) -> Embedding:
    """Read an embedding file: one that ``write_embedding`` wrote, or any parquet with the same two columns.

    Raises:
        LikewiseError: no such file, not parquet, other columns, rows of different lengths, missing values.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not Path(path).is_file():
        raise LikewiseError(f"there is no embedding file {path}; make one with: likewise embed RUN DATA --out {path}")
    try:
        # One open file: read_table opens the path twice, and between the two another process may replace it.
        with open(path, "rb") as file:
            table = pq.ParquetFile(file).read(columns=["id", "embedding"])
        metadata = json.loads((table.schema.metadata or {}).get(_METADATA, b"{}"))
        vectors = table["embedding"].combine_chunks()
        ids = tuple(table["id"].to_pylist())
        width = len(vectors[0]) if len(vectors) else 0
        vectors = vectors.cast(pa.list_(pa.float32(), width))
    except (pa.ArrowException, OSError, TypeError, ValueError, KeyError) as error:
        raise LikewiseError(
            f"{path} is not an embedding file (parquet with columns id and embedding): {error}"
        ) from error
    if vectors.null_count or any(not isinstance(item, str) for item in ids):
        raise LikewiseError(f"{path} has missing ids or rows, or ids that are not text; write it again.")
    rows = torch.from_numpy(vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(ids), width).copy())
    _check_embedding(ids, rows)
    return Embedding(ids, rows, metadata)


def _check_embedding(ids: Sequence[str], rows: Tensor) -> None:
    """Refuse ids and rows that do not belong together."""
    check_rows("rows", rows)
    check_ids(ids, rows)
    bad = torch.cat([~torch.isfinite(peaks(part)) for part in torch.split(rows, _GROUP_ROWS)])
    if bool(bad.any()):
        raise LikewiseError(
            f"the row of {ids[int(bad.nonzero()[0])]!r} holds NaN or infinity; check the encoder's output for it."
        )
