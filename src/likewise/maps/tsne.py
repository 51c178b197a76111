"""t-SNE: a layout in the plane in which each row's nearest rows attract it, and all points repel each other.

Dimension legend: N rows, k neighbours of each.
"""

import torch
from torch import Tensor

from likewise.console import Tick, untold
from likewise.maps.repulsion import repulsion

NEIGHBOURS = 15
EXAGGERATION = 12.0
EARLY, LATE = 150, 350  # steps with exaggeration, and without
_MOMENTUM = 0.5, 0.8  # of early and late steps
_LEAST_GAIN = 0.01
_START = 1e-4  # standard deviation of the first coordinates


def tsne(start: Tensor, near: Tensor, *, tick: Tick = untold) -> Tensor:
    """(N, 2) float32 coordinates, centred.

    Minimises Σ pᵢⱼ log(pᵢⱼ / qᵢⱼ) by gradient descent with momentum and gains, where qᵢⱼ ∝ 1 / (1 + |yᵢ − yⱼ|²), and
    pᵢⱼ is 1 / 2Nk for each of "j is among the k nearest of i" and "i is among those of j". In the first steps p is
    twelve times as large.

    Args:
        start: (N, 2) coordinates to start from; only their proportions count.
        near: (N, k) int64, the nearest other rows of each; −1 where there are none.
        tick: told the share of the work that is done.

    Cost: 500 steps of O(N·k + G² log G) time (see ``repulsion``). Memory: some 60 bytes for each row and neighbour.

    Departures: van der Maaten & Hinton 2008 weigh neighbours by a Gaussian of a perplexity. Even weights of 15
    neighbours give nearly the same layout (Böhm et al. 2022). The learning rate N / 12 and the start by
    principal components are those of Kobak & Berens 2019.
    """
    many, k = near.shape
    points = (start - start.mean(0)).float()
    points = points * (_START / points[:, 0].std().clamp_min(1e-12))
    other, held = near.clamp_min(0).flatten(), (near >= 0).float()
    change, gains = torch.zeros_like(points), torch.ones_like(points)
    for step in range(EARLY + LATE):
        early = step < EARLY
        pushed, total = repulsion(points)
        pulled = attraction(points, near, other, held)
        gradient = pulled * ((EXAGGERATION if early else 1.0) / (2 * many * k)) - pushed / total
        same = gradient.sign() == change.sign()
        gains = torch.where(same, gains * 0.8, gains + 0.2).clamp_min_(_LEAST_GAIN)
        change = _MOMENTUM[not early] * change - (many / (EXAGGERATION if early else 1.0)) * gains * gradient
        points = points + change
        points = points - points.mean(0)
        tick((step + 1) / (EARLY + LATE))
    return points


def attraction(points: Tensor, near: Tensor, other: Tensor, held: Tensor) -> Tensor:
    """Σ (yᵢ − yⱼ) / (1 + |yᵢ − yⱼ|²) over the neighbours j of i and over the j whose neighbour i is, (N, 2)."""
    found = []
    ends = points[other].view(*near.shape, 2)
    apart = (points[:, None] - ends).unbind(2)
    near_by = held / (1 + apart[0].square() + apart[1].square())
    for along in apart:
        force = along * near_by
        found.append(force.sum(1).index_add_(0, other, force.flatten(), alpha=-1))
    return torch.stack(found, 1)
