"""What a query must be."""

import torch
from torch import Tensor

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
