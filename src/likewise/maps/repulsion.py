"""The repulsion of all points of a plane by each other, through a grid and the Fourier transform.

Dimension legend: N points, G nodes along a side of the grid.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

_SIZES = 64, 96, 128, 192, 256, 384, 512, 768, 1024  # of G, whose transforms are quick
_STEP = 0.5  # largest distance of nodes, in units of the plane, while G allows it; the kernel is smooth over 1
_MARGIN = 2  # nodes beyond the outermost points


def repulsion(points: Tensor) -> tuple[Tensor, float]:
    """Σⱼ (yᵢ − yⱼ) / (1 + |yᵢ − yⱼ|²)² of each point, (N, 2), and Z = Σ over i ≠ j of 1 / (1 + |yᵢ − yⱼ|²).

    Each point is spread over the 3 × 3 nodes around it by quadratic interpolation. The sums over nodes are
    convolutions, computed by the Fourier transform, and read at the points by the same interpolation.

    Args:
        points: (N, 2) float32.

    Cost: O(N + G² log G) time, 3 × 8 G² numbers of memory; G grows with the extent of the points, to 1,024.

    Departures: Linderman et al. 2019 interpolate within boxes of 3 × 3 nodes, and use four potentials; here nodes are
    those around each point, and three kernels give Z and both components, so nothing cancels.
    """
    low, high = points.amin(0), points.amax(0)
    extent = float((high - low).max())
    size, step = _grid(extent)
    start = (low + high) / 2 - step * (size - 1) / 2
    at = (points - start) / step
    middle = at.round()
    weights = _weights(at - middle)  # (N, 3, 3)
    first = middle.long() - 1
    reach = torch.arange(3)
    nodes = ((first[:, :1, None] + reach[:, None]) * size + first[:, 1:, None] + reach).flatten(1)  # (N, 9)
    density = torch.zeros(size * size).index_add_(0, nodes.flatten(), weights.flatten()).view(1, size, size)
    kernels = _kernels(size, step)
    whole = 2 * size
    fields = torch.fft.irfft2(torch.fft.rfft2(density, s=(whole, whole)) * kernels, s=(whole, whole))
    fields = fields[:, :size, :size].reshape(3, -1)
    found = torch.stack([(field[nodes] * weights.flatten(1)).sum(1) for field in fields])
    return found[1:].T, float(found[0].double().sum()) - len(points)


def _grid(extent: float) -> tuple[int, float]:
    """G, and the distance of nodes: at most ``_STEP`` where 1,024 nodes are enough; one of few values, to be reused."""
    for size in _SIZES:
        if extent <= _STEP * (size - 2 * _MARGIN):
            break
    needed = max(extent, 1e-9) / (size - 2 * _MARGIN)
    return size, max(needed, min(_STEP, 2.0 ** (math.ceil(4 * math.log2(needed)) / 4)))


def _weights(offset: Tensor) -> Tensor:
    """(N, 3, 3) weights of the nodes around points that are (N, 2) ∈ [−½, ½] steps beside the middle one."""
    each = torch.stack([offset * (offset - 1) / 2, 1 - offset * offset, offset * (offset + 1) / 2], 2)
    return each[:, 0, :, None] * each[:, 1, None, :]


@lru_cache(maxsize=2)
def _kernels(size: int, step: float) -> Tensor:
    """(3, 2G, G + 1) transforms of 1 / (1 + d²) and of the components of d / (1 + d²)²."""
    along = torch.arange(2 * size)
    along = torch.where(along < size, along, along - 2 * size) * step
    across = along[:, None].expand(-1, 2 * size)
    near = 1 / (1 + across.square() + across.T.square())
    kernels: Tensor = torch.fft.rfft2(torch.stack([near, across * near.square(), across.T * near.square()]))
    return kernels
