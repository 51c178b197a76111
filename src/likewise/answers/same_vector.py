"""How far two vectors are from each other, in the scale of the data."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.console import Tick, untold
from likewise.data import Items
from likewise.views.vectors import scales_of

_SAMPLE = 100_000  # items that give the scale
_PAIRS = 1 << 16  # compared at once


def in_scale(items: Items) -> Tensor:
    """(N, D) float32: each number in standard deviations from its mean, divided by √(2D).

    The square of the distance of two items is then 1 on average over all pairs. Numbers that never vary are 0.
    """
    some = items.batch(np.arange(0, len(items), max(1, len(items) // _SAMPLE)))
    mean, std = scales_of(some)
    scale = std * float(2 * len(mean)) ** 0.5
    rows: Tensor = (items.batch(np.arange(len(items))) - mean) / scale
    return rows


def distances(rows: Tensor, pairs: npt.NDArray[np.int64], tick: Tick = untold) -> npt.NDArray[np.float64]:
    """(P,) the distance of each pair of rows, (P, 2)."""
    found = np.empty(len(pairs))
    for start in range(0, len(pairs), _PAIRS):
        first, second = torch.from_numpy(pairs[start : start + _PAIRS]).unbind(1)
        found[start : start + _PAIRS] = (rows[first] - rows[second]).norm(dim=1).double().numpy()
        tick(start / len(pairs))
    return found


def on_sphere(rows: Tensor) -> Tensor:
    """(N, D + 1) unit rows, of which those are near each other whose rows are: r becomes (r/R, √(1 − |r|²/R²)).

    R is the length that 99 % of the rows have at most; longer rows are cut to it.
    """
    lengths = rows.norm(dim=1)
    sample = lengths[:: max(1, len(lengths) // 100_000)]
    radius = float(sample.quantile(0.99).clamp_min(1e-12))
    flat = rows * (1 / lengths.clamp_min(radius))[:, None]
    return torch.cat([flat, (1 - flat.square().sum(1)).clamp_min(0).sqrt()[:, None]], 1)
