"""What an index on servers holds of each item."""

import base64
from collections.abc import Mapping
from typing import Any, NamedTuple


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
