"""How much a batch has to teach a triplet loss: a monitor, no loss."""

from typing import NamedTuple

import torch
from torch import Tensor

from likewise.alike import relate, reordered, tile_rows_for
from likewise.ids import Ids
from likewise.kernels.numerics import Distance, at_least_float32, distance
from likewise.objectives.hinge import violations


class TripletShares(NamedTuple):
    """What a batch has for a triplet loss: see :func:`triplet_shares`."""

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
    """How much a triplet loss has to learn from in a batch, over all its triplets, none of them listed.

    Args:
        queries: (N, D) unit rows.
        ids: (N,) or (N, L) labels.
        keys: (K, D) unit rows, such as a queue's; by default the queries among themselves.
        key_ids: (K,) or (K, L), theirs.
        margin: α.
        kind: of distance.
        tile_rows: rows of a tile; by default 4 MiB of similarities.

    Returns:
        valid: the share of anchors with a positive and a negative.
        active: of their triplets, the share with ``D_p + α > D_n``.
        violation: the mean of ``D_p + α − D_n`` over these; 0 where there are none.

    Cost: 2·N·K·D flops and as many passes over a tile as a row has positives.
    """
    relation = relate(queries, ids, keys, key_ids, None)
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
