"""Which points of the plane are inside a polygon."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from likewise.errors import LikewiseError

MOST_CORNERS = 5_000
FARTHEST = 1e30  # products of two such numbers overflow nowhere


def inside(polygon: Sequence[Sequence[float]], xy: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """(N,) whether a ray from each of (N, 2) points crosses an odd number of sides of a polygon.

    Args:
        polygon: C corners (x, y) in order; the last is joined to the first.
        xy: (N, 2) points.

    Raises:
        LikewiseError: fewer than 3 corners or more than 5,000, or one that is not two numbers within ±1e30.

    Cost: O(N + M·C) for the M points within its bounds.
    """
    if not 3 <= len(polygon) <= MOST_CORNERS:
        raise LikewiseError(f"a polygon needs 3 to {MOST_CORNERS:,} corners, not {len(polygon):,}.")
    if any(len(corner) != 2 for corner in polygon):
        raise LikewiseError("a corner of a polygon is two numbers, x and y.")
    corners = np.asarray(polygon, np.float64)
    if not (np.abs(corners) <= FARTHEST).all():
        raise LikewiseError(f"a corner of the polygon is NaN, infinite, or beyond {FARTHEST:g}.")
    low, high = corners.min(0), corners.max(0)
    found: npt.NDArray[np.bool_] = ((xy >= low) & (xy <= high)).all(1)
    x, y = xy[found].astype(np.float64).T
    odd = np.zeros(len(x), np.bool_)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, 1, 0), strict=True):
        crossed = (ay > y) != (by > y)
        odd[crossed] ^= x[crossed] < (bx - ax) * (y[crossed] - ay) / (by - ay) + ax
    found[found] = odd
    return found
