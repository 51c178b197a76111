"""Reads and writes an embedding (rows with ids) as a parquet file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from likewise.data.array_files import IDS_BESIDE, ids_beside
from likewise.errors import LikewiseError
from likewise.files import as_path, atomic_write, from_json
from likewise.index.items_table import vector_column
from likewise.metrics.checks import Rows, as_rows, check_ids, peaks
from likewise.tables import KEY, stamped
from likewise.text import quoted, utf8

_GROUP_ROWS = 65_536  # rows per parquet row group, so that other tools can read a file in parts


class Embedding(NamedTuple):
    """The content of an embedding file."""

    rows: Tensor  # (N, D) float32
    ids: tuple[str, ...]  # N ids, in the order of the rows
    metadata: dict[str, str | int | float]  # how the rows were made

    def __repr__(self) -> str:
        n, dim = self.rows.shape
        return f"Embedding({n} × {dim}, ids={quoted(self.ids[0])} …, metadata={self.metadata})"


def embedding_path(path: str | Path) -> Path:
    """The path of an embedding file to write. Raises LikewiseError unless its name ends in .parquet or .npy.

    Also when a .npy file's ids would replace a NAME.ids.json that holds something else.
    """
    path = as_path(path, "--out")
    if path.suffix.lower() not in (".parquet", ".npy"):
        raise LikewiseError(
            f"an embedding is written as parquet or .npy, so {path} must end in .parquet or .npy, or in / if it is a "
            "folder of shards."
        )
    beside = path.with_suffix(IDS_BESIDE)
    if path.suffix.lower() == ".npy" and beside.exists():
        try:
            ids_beside(beside)
        except LikewiseError as error:
            raise LikewiseError(
                f"{beside} was not written by likewise, and would be replaced; name another --out."
            ) from error
    return path


def write_embedding(
    path: str | Path, rows: Rows, ids: Sequence[str], metadata: Mapping[str, str | int | float]
) -> None:
    """Write an embedding as parquet, atomically: columns ``id`` (string), ``embedding`` (fixed_size_list<float>[D]).

    ``metadata`` is kept as JSON in the schema's metadata under the key ``likewise``. If ``path`` ends in ``.npy``, it
    holds the rows, and NAME.ids.json beside it the metadata and the ids in the same order.

    Args:
        path: the file, ending in .parquet or .npy; its folder must exist.
        rows: (N, D) float; stored as float32.
        ids: N different strings.
        metadata: how the rows were made.

    Raises:
        LikewiseError: the name ends otherwise, there are no rows, an id occurs twice, rows and ids have different
            lengths, or a row has NaN or infinity (its id is named).
        OSError: from the file system.

    Cost: 4·N·D bytes on disk, and the ids.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, rows = embedding_path(path), check_embedding(rows, ids)
    if path.suffix.lower() == ".npy":
        with atomic_write(path.with_suffix(IDS_BESIDE)) as file:
            file.write(utf8(json.dumps({"metadata": dict(metadata), "ids": list(ids)}, ensure_ascii=False)))
        with atomic_write(path) as file:
            np.save(file, np.ascontiguousarray(rows.detach().cpu().float().numpy()))
        return
    table = stamped(pa.table({"id": pa.array(map(utf8, ids), pa.string()), "embedding": vector_column(rows)}), metadata)
    with atomic_write(path) as file:
        # Learned float32 numbers hardly compress; a dictionary would only take time.
        pq.write_table(
            table, file, compression="NONE", use_dictionary=False, write_statistics=False, row_group_size=_GROUP_ROWS
        )


def read_embedding(path: str | Path) -> Embedding:
    """Read an embedding file: one that ``write_embedding`` wrote, or any parquet with the same two columns.

    Raises:
        LikewiseError: there is no such file; it is not parquet, has other columns, or rows of different lengths; values
            are missing, NaN or infinite; an id occurs twice.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = as_path(path, "the embedding file")
    if not path.is_file():
        raise LikewiseError(
            f"there is no embedding file {path}; make one with: likewise embed RUN DATA --out {quote(str(path))}"
        )
    try:
        # The file is opened once: read_table opens the path twice, and another process may replace it between.
        with open(path, "rb") as file:
            table = pq.ParquetFile(file).read(columns=["id", "embedding"])
        metadata = dict(from_json((table.schema.metadata or {}).get(KEY, b"{}")).items())
        vectors = table["embedding"].combine_chunks()
        ids = tuple(table["id"].to_pylist())
        width = len(vectors[0]) if len(vectors) else 0
        vectors = vectors.cast(pa.list_(pa.float32(), width))
    except (pa.ArrowException, OSError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise LikewiseError(
            f"{path} is not an embedding file (parquet with columns id and embedding): {error}"
        ) from error
    if vectors.null_count or any(not isinstance(item, str) for item in ids):
        raise LikewiseError(f"{path} has missing ids or rows, or ids that are not text; write it again.")
    rows = torch.from_numpy(vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(ids), width).copy())
    check_embedding(rows, ids)
    return Embedding(rows, ids, metadata)


def check_embedding(rows: Rows, ids: Sequence[str]) -> Tensor:
    """The rows as a tensor. Raises LikewiseError unless rows and ids fit together and all numbers are finite."""
    rows = as_rows("rows", rows)
    check_ids(rows, ids)
    bad = torch.cat([~torch.isfinite(peaks(part)) for part in torch.split(rows, _GROUP_ROWS)])
    if bool(bad.any()):
        raise LikewiseError(
            f"the row of {quoted(ids[int(bad.nonzero()[0])])} holds NaN or infinity; check the encoder's output for it."
        )
    return rows
