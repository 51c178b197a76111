"""How faithful a map is: the share of an item's nearest rows that are among its nearest points in the plane.

Dimension legend: N rows, S of them asked, k neighbours.
"""

import torch
from torch import Tensor

from likewise.errors import LikewiseError, at_least_one

_AT_ONCE = 1 << 23  # distances in memory


def kept_share(near: Tensor, points: Tensor, asked: Tensor) -> float:
    """The mean share of a row's k nearest rows that are among the k points nearest to its point, in [0, 1].

    Chance is about k / N. A row's own point is left out. Of equally near points, any may count.

    Args:
        near: (S, k) int64, the k nearest rows of each row asked; −1 where there are none, which do not count.
        points: (N, 2) float, the map, N > k.
        asked: (S,) int64, the rows asked.

    Raises:
        LikewiseError: shapes do not fit, or no row is asked.

    Cost: O(S·N) time, in float64; 200 MB of memory.

    Paper: Lee & Verleysen 2009 call it Q_NX(k).
    """
    at_least_one("asked", len(asked), "it is a number of rows")
    if near.shape != (len(asked), near.shape[-1]) or points.shape[1:] != (2,) or near.shape[1] >= len(points):
        raise LikewiseError(f"neighbours of shape {tuple(near.shape)} do not fit {len(points)} points of the plane.")
    held, shares = near >= 0, []
    x, y = points.double().T
    for part in torch.split(torch.arange(len(asked)), max(1, _AT_ONCE // len(points))):
        own = asked[part]
        apart = (x[own, None] - x).square_() + (y[own, None] - y).square_()
        apart[torch.arange(len(own)), own] = torch.inf
        found = apart.topk(near.shape[1], dim=1, largest=False).indices
        both = (near[part, :, None] == found[:, None, :]).any(2)
        shares.append(both.sum(1) / held[part].sum(1).clamp_min(1))
    return float(torch.cat(shares).double().mean())
