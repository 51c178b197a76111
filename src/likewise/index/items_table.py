"""The items of an index as a table of parquet, and their metadata."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.errors import LikewiseError
from likewise.index.engine import Keys
from likewise.tables import stamped
from likewise.text import utf8

FIXED = ("key", "id", "embedding", "query_embedding", "content")  # names that no column of metadata may have
_ROWS = 65_536  # read at once


class Held(NamedTuple):
    """Items of an index; see ``Index``."""

    keys: Keys
    ids: tuple[str, ...]
    rows: Tensor
    query_rows: Tensor | None
    columns: Any
    contents: npt.NDArray[np.uint8] | None

    def since(self, start: int) -> "Held":
        """The items from a place on."""
        return Held(
            self.keys[start:],
            self.ids[start:],
            self.rows[start:],
            None if self.query_rows is None else self.query_rows[start:],
            self.columns[start:],
            None if self.contents is None else self.contents[start:],
        )

    def without(self, gone: Keys) -> "Held":
        """The items whose keys are not among those that are gone."""
        if not len(gone):
            return self
        stay = ~np.isin(self.keys, gone, assume_unique=True)
        rows = torch.from_numpy(np.flatnonzero(stay))
        return Held(
            self.keys[stay],
            tuple(item for item, stays in zip(self.ids, stay.tolist(), strict=True) if stays),
            self.rows[rows],
            None if self.query_rows is None else self.query_rows[rows],
            filtered(self.columns, stay),
            None if self.contents is None else self.contents[stay],
        )


def as_columns(columns: Any, count: int) -> Any:
    """Metadata of ``count`` items as a table of pyarrow without chunks of its own for each addition.

    Raises LikewiseError on columns of other lengths, of nested types, or with a name of ``FIXED``.
    """
    import pyarrow as pa

    if columns is None:
        return _without_columns(count)
    try:
        table = pa.table(dict(columns)) if isinstance(columns, Mapping) else columns
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise LikewiseError(f"the metadata can't be read as columns ({error}).") from None
    if table.num_rows != count and table.num_columns:
        raise LikewiseError(f"the metadata have {table.num_rows:,} rows, but there are {count:,} items.")
    for name in table.column_names:
        if name in FIXED:
            raise LikewiseError(f"the metadata have a column {name!r}, which the index has itself; rename it.")
        if pa.types.is_nested(table[name].type):
            raise LikewiseError(f"the column {name!r} of the metadata holds {table[name].type}; give texts or numbers.")
    return table.replace_schema_metadata(None) if table.num_columns else _without_columns(count)


def filtered(columns: Any, stay: npt.NDArray[np.bool_]) -> Any:
    """The rows of the metadata that stay; pyarrow filters no table without columns."""
    return columns.filter(stay) if columns.num_columns else _without_columns(int(stay.sum()))


def joined(first: Any, second: Any) -> Any:
    """The metadata of items that came later, below those of the others. They have the same columns."""
    import pyarrow as pa

    if not first.num_columns:
        return _without_columns(first.num_rows + second.num_rows)
    return pa.concat_tables([first, second])


def _without_columns(count: int) -> Any:
    import pyarrow as pa

    return pa.table({"": pa.nulls(count)}).select([])


def to_table(held: Held, protocol: Mapping[str, str | int | float]) -> Any:
    """The table of a file of items; its metadata say how the rows were made, under the key ``likewise``."""
    import pyarrow as pa

    table = {
        "key": pa.array(held.keys),
        "id": pa.array(map(utf8, held.ids), pa.string()),
        "embedding": vector_column(held.rows),
    }
    if held.query_rows is not None:
        table["query_embedding"] = vector_column(held.query_rows)
    if held.contents is not None:
        table["content"] = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(held.contents.shape[1]),
            len(held.contents),
            [None, pa.py_buffer(np.ascontiguousarray(held.contents))],
        )
    whole = pa.table({**table, **{name: held.columns[name] for name in held.columns.column_names}})
    return stamped(whole, protocol)


def vector_column(rows: Tensor) -> Any:
    """(N, D) rows as a column of pyarrow: a list of D float32 numbers each."""
    import pyarrow as pa

    values = np.ascontiguousarray(rows.detach().cpu().float().numpy())
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def read_tables(paths: Sequence[Path]) -> Held:
    """The items of several files, one after the other. Memory: the items, and some megabytes of a file.

    Raises LikewiseError when a file is no table of an index.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, query_rows, keys, ids, contents, columns = None, None, [], list[str](), [], []
    done = 0
    try:
        with ExitStack() as opened:  # each once, since another process may replace the index
            files = [opened.enter_context(pq.ParquetFile(path)) for path in paths]
            total = sum(file.metadata.num_rows for file in files)
            for file in files:
                for batch in file.iter_batches(batch_size=_ROWS):
                    here = slice(done, done + len(batch))
                    done += len(batch)
                    rows = _put(rows, total, batch.column("embedding"), here)
                    if "query_embedding" in batch.schema.names:
                        query_rows = _put(query_rows, total, batch.column("query_embedding"), here)
                    keys.append(batch.column("key").to_numpy())
                    ids += batch.column("id").to_pylist()
                    if "content" in batch.schema.names:
                        contents.append(_digests(batch.column("content")))
                    others = [name for name in batch.schema.names if name not in FIXED]
                    columns.append(pa.Table.from_batches([batch]).select(others))
        assert rows is not None
        return Held(
            np.concatenate(keys),
            tuple(ids),
            rows,
            query_rows,
            pa.concat_tables(columns),
            np.concatenate(contents) if contents else None,
        )
    except (pa.ArrowException, KeyError, ValueError, AssertionError):
        raise LikewiseError(
            f"{paths[0].parent} holds no index; make it again: likewise index RUN DATA --anew."
        ) from None


def _put(rows: Tensor | None, total: int, vectors: Any, here: slice) -> Tensor:
    """Rows with those of a batch in their place."""
    values = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(vectors), -1)
    held = torch.empty(total, values.shape[1]) if rows is None else rows
    held.numpy()[here] = values
    return held


def _digests(column: Any) -> npt.NDArray[np.uint8]:
    width = column.type.byte_width
    content = column.buffers()[1]
    start = column.offset * width
    return np.frombuffer(content, np.uint8)[start : start + len(column) * width].reshape(-1, width).copy()
