"""What a server of Milvus holds of the items of an index, without their rows."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from likewise.console import Tick
from likewise.index.items_table import as_columns
from likewise.index.milvus.client import Milvus
from likewise.index.milvus.fields import columns_of, decoded
from likewise.index.milvus.manifest import About
from likewise.index.names import Names


class State(NamedTuple):
    """Items, in the order of their keys.

    Args:
        names: their ids.
        keys: (N,) int64.
        contents: (N, 16) uint8, a hash of the content of each; None if there are none.
        columns: the metadata, a table of pyarrow.
    """

    names: Names
    keys: npt.NDArray[np.int64]
    contents: npt.NDArray[np.uint8] | None
    columns: Any


def state_of(milvus: Milvus, about: About, tick: Tick) -> State:
    """Reads what the server holds. Memory: some hundred bytes for each item."""
    layout = about.layout
    columns = columns_of(layout.schema)
    fields = ["key", "id", *(["content"] if layout.contents else [])]
    fields += [name for column in columns for name in (column.values, column.state)]
    rows: list[Any] = []
    for page in milvus.pages(about.collection, about.visible(), fields, about.end, 16 + 16 * len(columns)):
        rows += sorted(page, key=lambda row: int(row["key"]))
        tick(len(rows) / about.items)
    contents, table = None, as_columns(None, len(rows))
    if layout.contents:
        digests = bytes.fromhex("".join(row["content"] for row in rows))
        contents = np.frombuffer(digests, np.uint8).reshape(len(rows), -1)
    if columns:
        import pyarrow as pa

        arrays = [
            decoded(kind, each.held, [row[each.values] for row in rows], [row[each.state] for row in rows])
            for each, kind in zip(columns, layout.schema.types, strict=True)
        ]
        table = pa.table(arrays, schema=layout.schema)
    keys = np.array([row["key"] for row in rows], np.int64)
    return State(Names([row["id"] for row in rows]), keys, contents, table)
