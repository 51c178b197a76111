"""A monitor of triplets: which share of a batch's anchors and triplets a triplet loss learns from."""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from likewise.alike import Ids, as_ids, check_labels, check_tensor, first_among, relate, reordered, tile_rows_for
from likewise.errors import LikewiseWarning
from likewise.kernels.numerics import Distance, at_least_float32, distance
from likewise.objectives.hinge import violations


class TripletShares(NamedTuple):
    """The result of :func:`triplet_shares`."""

    valid: float
    active: float
    violation: float


@torch.no_grad()
def triplet_shares(
    queries: Tensor,
    ids: Ids,
    keys: Tensor | None = None,
    key_ids: Ids | None = None,
    *,
    margin: float = 0.2,
    kind: Distance = "squared",
    tile_rows: int | None = None,
) -> TripletShares:
    """The shares of anchors and triplets of a batch that a triplet loss learns from. It does not list the triplets.

    Args:
        queries: (N, D) unit rows, any floating dtype.
        ids: (N,) or (N, L) integers, the labels.
        keys: (K, D) unit rows, such as the rows of a queue; by default the queries among themselves.
        key_ids: (K,) or (K, L) integers, the labels of the keys.
        margin: α, a squared distance, or a distance with "euclidean".
        kind: "squared" or "euclidean": the distance D.
        tile_rows: rows of a tile; by default as many as make 4 MiB of similarities.

    Returns:
        valid: the share of anchors with a positive and a negative.
        active: the share of the triplets of these anchors with ``D_p + α > D_n``.
        violation: the mean of ``D_p + α − D_n`` over the active triplets; 0 where there are none.

    Raises:
        LikewiseError: shapes or dtypes do not fit together, or labels are a table with a column per class.

    Cost: 2·N·K·D flops, and one pass over a tile for each positive of a row; memory for a few tiles.
    """
    check_tensor("queries", queries)
    ids = as_ids("ids", ids, queries.device)
    check_labels("ids", ids)
    relation = relate(queries, ids, keys, key_ids, None)
    if keys is not None and (count := first_among(queries, keys)):
        said = f"the first {count} queries are keys too, so each is its own positive; leave the keys out."
        warnings.warn(f"triplet_shares: {said}", LikewiseWarning, stacklevel=3)  # 2 is the wrapper of no_grad
    ordered = reordered(at_least_float32(queries), relation.query_order)
    keys = at_least_float32(queries if keys is None else keys)
    ordered_keys = reordered(keys.to(ordered.dtype), relation.key_order)
    step = tile_rows or tile_rows_for(len(keys))
    valid, active, triplets, total = 0, 0.0, 0, 0.0
    for start in range(0, len(queries), step):
        stop = min(start + step, len(queries))
        columns, positive, negative = relation.masks(start, stop)
        s_n = ordered[start:stop] @ ordered_keys.T
        s_p = s_n if columns is None else s_n.gather(1, columns)
        near = torch.where(positive, distance(s_p, kind) + margin, -torch.inf)
        far = torch.where(negative, distance(s_n, kind), torch.inf)
        sums, counts = violations(near, far, soft=False)
        number = positive.sum(1) * negative.sum(1)
        valid, triplets = valid + int((number > 0).sum()), triplets + int(number.sum())
        active, total = active + float(counts.sum()), total + float(sums.sum())
    return TripletShares(valid / len(queries), active / max(1, triplets), total / max(1.0, active))
