"""What queries must be, of an index in a folder or on servers."""

from collections.abc import Sequence

import torch
from torch import Tensor

from likewise.data.items import as_id
from likewise.errors import LikewiseError
from likewise.metrics.checks import Rows, as_rows, check_finite


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
