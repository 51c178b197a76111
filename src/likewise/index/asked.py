"""How an index is asked, in a folder or on servers: by id, row or file; and what its queries must be."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.data.items import as_id
from likewise.errors import LikewiseError, at_least_one, closest
from likewise.index.hits import Hit, Hits, Look
from likewise.metrics.checks import Rows, as_rows, as_tensor, check_finite
from likewise.text import quoted, shortened

Query = Tensor | npt.NDArray[np.floating[Any]] | Sequence[float] | str | Path
SOME = 100_000  # ids among which the closest to a misspelt one is looked for


class Searched(ABC):
    """An index that is searched, in a folder or on servers.

    Args:
        protocol: how its rows were made.
        read: a function from the path of a file to its row (D,), for searches by path.
        look: gives the pictures that a notebook shows; a model sets it.
    """

    protocol: dict[str, str | int | float]
    read: Callable[[str], Tensor] | None
    look: Look | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Number of items."""

    def __contains__(self, item: str) -> bool:
        """Whether an item of this id is in the index."""
        return self.row_by_id(item) is not None

    def search(
        self, query: Query, k: int = 10, *, exclude_id: str | None = None, where: str | Sequence[str] = ()
    ) -> Hits:
        """The k items nearest to one query, best first; equal scores in the order of the index.

        On servers, equal scores are in the order of the ids.

        Args:
            query: the id of an indexed item, whose row is used; a path to an image, or to a .npy file of one vector,
                which ``read`` embeds; or a row (D,) float. Text that is both an id and a path counts as an id.
            k: number of hits, ≥ 1; if fewer items fit, there are fewer hits.
            exclude_id: id of an item that is not returned; an unknown id is ignored. None: the query's own id, if the
                query is an id.
            where: conditions on the columns, all of which must hold: ``"year >= 2000"``, ``"colour in red,blue"``.

        Raises:
            LikewiseError: text that is neither an id nor a file, a file but no ``read``, a query of another length or
                with NaN, infinity or numbers so large that scores would overflow, k < 1, a condition on a column that
                is not there.
        """
        name = None
        if isinstance(query, str | Path):
            name = str(query)
            own = self.row_by_id(name)
            row = self._read_file(name) if own is None else own
            exclude_id = name if exclude_id is None else exclude_id  # ignored if it is a path
        else:
            row = as_tensor("the query", query)
        if row.ndim != 1:
            raise LikewiseError(
                f"a query must be one row of shape (D,), but has shape {tuple(row.shape)}; search_batch takes several."
            )
        found = self.search_batch(row[None], k, exclude_ids=[exclude_id], where=where)[0]
        return Hits(found, query=name, look=self.look)

    def search_batch(
        self,
        queries: Rows,
        k: int = 10,
        *,
        exclude_ids: Sequence[str | None] | None = None,
        where: str | Sequence[str] = (),
    ) -> list[list[Hit]]:
        """The k items nearest to each of several queries; the hits of a query are those that ``search`` gives for it.

        Args:
            queries: (B, D) float.
            k: number of hits for each query, ≥ 1.
            exclude_ids: for each query the id of an item that is not returned, or None.
            where: conditions, as for ``search``.

        Raises:
            LikewiseError: as ``search``, or if ``exclude_ids`` has another length than ``queries``.
        """
        rows, excluded = with_excluded(queries, exclude_ids)
        at_least_one("k", k, "it is a number of neighbours")
        return self._found(rows, k, excluded, where)

    @abstractmethod
    def row_by_id(self, item: str) -> Tensor | None:
        """(D,) the row that searches for the item of an id; None of an unknown id."""

    @abstractmethod
    def some_ids(self) -> Sequence[str]:
        """At most ``SOME`` ids, among which that of a misspelt one is looked for."""

    @abstractmethod
    def _found(
        self, queries: Tensor, k: int, excluded: list[str | None], where: str | Sequence[str]
    ) -> list[list[Hit]]:
        """The hits of ``search_batch``; of ``queries`` the numbers are not checked yet."""

    def _read_file(self, path: str) -> Tensor:
        """(D,) the row of a file as a query. Raises LikewiseError if there is no such file, or the index reads none."""
        path = os.path.expanduser(path)
        if not os.path.isfile(path):  # of a name that is too long too
            ids = self.some_ids()
            raise LikewiseError(
                f"{quoted(path)} is neither a file nor the id of an indexed item; ids look like {quoted(ids[0])}."
                f"{closest(path, ids, shown=shortened)}"
            )
        if self.read is None:
            raise LikewiseError(
                f"this index was loaded without a model, so it can't embed {path}: use lw.load(RUN).search({path!r}), "
                "or search with an id or a row of model.embed."
            )
        return self.read(path)


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
