"""What an index on servers holds of each item, and items on their way there."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from likewise.text import utf8


class Layout(NamedTuple):
    """What an index on servers holds of each item.

    Args:
        dim: numbers of a row.
        queries: whether items have other rows as queries.
        contents: whether items have a hash of their content.
        schema: the columns of the metadata, of pyarrow.
    """

    dim: int
    queries: bool
    contents: bool
    schema: Any

    def as_json(self) -> dict[str, Any]:
        """For the manifest."""
        schema = base64.b64encode(self.schema.serialize().to_pybytes()).decode()
        return {"dim": self.dim, "queries": self.queries, "contents": self.contents, "columns": schema}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "Layout":
        """What ``as_json`` gave."""
        import pyarrow as pa

        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(saved["columns"])))
        return cls(saved["dim"], saved["queries"], saved["contents"], schema)


class Part(NamedTuple):
    """Items on their way to servers: their rows and metadata; ``rows`` None: metadata alone."""

    ids: Sequence[str]
    rows: Tensor | None
    query_rows: Tensor | None
    contents: npt.NDArray[np.uint8] | None
    columns: Any

    def take(self, places: Sequence[int]) -> "Part":
        """Some of the items."""
        at = np.array(places, np.int64)
        return Part(
            [self.ids[place] for place in places],
            None if self.rows is None else self.rows[at],
            None if self.query_rows is None else self.query_rows[at],
            None if self.contents is None else self.contents[at],
            self.columns.take(at) if self.columns.num_columns else self.columns,
        )

    def records(self) -> Iterable[tuple[Any, ...]]:
        """Values for each item, in the order of the columns of a table."""
        parts: list[Iterable[Any]] = [(utf8(item).decode() for item in self.ids)]
        parts += [each.numpy() for each in (self.rows, self.query_rows) if each is not None]
        parts += [] if self.contents is None else [map(bytes, self.contents)]
        parts += [self.columns[name].to_pylist() for name in self.columns.column_names]
        return zip(*parts, strict=True)
