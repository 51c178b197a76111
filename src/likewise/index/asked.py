"""How an index is asked, in a folder or on servers: by id, row or file; and what its queries must be."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.data.items import as_id
from likewise.errors import LikewiseError, closest
from likewise.index.hits import Hit, Hits, Look
from likewise.metrics.checks import Rows, as_rows, as_tensor, check_finite
from likewise.text import quoted, shortened

Query = Tensor | npt.NDArray[np.floating[Any]] | Sequence[float] | str | Path
SOME = 100_000  # ids among which the closest to a misspelt one is looked for


class Asked(Protocol):
    """What a search for one query needs of an index."""

    @property
    def read(self) -> Callable[[str], Tensor] | None:
        """A function from the path of a file to its row (D,)."""

    @property
    def look(self) -> Look | None:
        """Gives pictures of items by their ids."""

    def row_by_id(self, item: str) -> Tensor | None:
        """(D,) the row that searches for the item of an id; None of an unknown id."""

    def some_ids(self) -> Sequence[str]:
        """At most ``SOME`` ids of the index."""

    def search_batch(
        self,
        queries: Rows,
        k: int = 10,
        *,
        exclude_ids: Sequence[str | None] | None = None,
        where: str | Sequence[str] = (),
    ) -> list[list[Hit]]:
        """The hits of several queries."""


def search(index: Asked, query: Query, k: int, exclude_id: str | None, where: str | Sequence[str]) -> Hits:
    """The hits of one query; see ``Index.search``."""
    name = None
    if isinstance(query, str | Path):
        name = str(query)
        own = index.row_by_id(name)
        row = read_file(index, name) if own is None else own
        exclude_id = name if exclude_id is None else exclude_id  # ignored if it is a path
    else:
        row = as_tensor("the query", query)
    if row.ndim != 1:
        raise LikewiseError(
            f"a query must be one row of shape (D,), but has shape {tuple(row.shape)}; search_batch takes several."
        )
    found = index.search_batch(row[None], k, exclude_ids=[exclude_id], where=where)[0]
    return Hits(found, query=name, look=index.look)


def read_file(index: Asked, path: str) -> Tensor:
    """(D,) the row of a file as a query. Raises LikewiseError if there is no such file, or the index reads none."""
    path = os.path.expanduser(path)
    if not os.path.isfile(path):  # of a name that is too long too
        ids = index.some_ids()
        raise LikewiseError(
            f"{quoted(path)} is neither a file nor the id of an indexed item; ids look like {quoted(ids[0])}."
            f"{closest(path, ids, shown=shortened)}"
        )
    if index.read is None:
        raise LikewiseError(
            f"this index was loaded without a model, so it can't embed {path}: use lw.load(RUN).search({path!r}), "
            "or search with an id or a row of model.embed."
        )
    return index.read(path)


def checked(queries: Rows, dim: int) -> Tensor:
    """(B, D) queries of an index whose rows have ``dim`` numbers.

    Raises LikewiseError on another length, NaN, infinity, and numbers so large that scores would overflow.
    """
    queries = as_rows("queries", queries)
    check_finite("queries", queries)
    if bool(torch.isinf(queries.float().norm(dim=1)).any()):
        raise LikewiseError(
            f"the query has numbers up to {float(queries.abs().max()):.3g}, so that scores would overflow: "
            "scale it to length 1, as the rows of the index."
        )
    if queries.shape[1] != dim:
        raise LikewiseError(
            f"the query has {queries.shape[1]} numbers but the index holds rows of {dim}: "
            "embed the query with the run that made the index."
        )
    return queries


def with_excluded(queries: Rows, exclude_ids: Sequence[str | None] | None) -> tuple[Tensor, list[str | None]]:
    """(B, D) queries, and for each the id that is left out, in Unicode's form NFC, or None.

    Raises LikewiseError on queries that are no rows, and unless there are as many ids as queries, or none.
    """
    queries = as_rows("queries", queries)
    if exclude_ids is None:
        return queries, [None] * len(queries)
    if len(exclude_ids) != len(queries):
        raise LikewiseError(f"{len(queries)} queries but {len(exclude_ids)} exclude_ids; give one each.")
    return queries, [None if item is None else as_id(item) for item in exclude_ids]
