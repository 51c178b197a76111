"""How far each item is from the others, in the scale of the encoder's features.

Dimension legend: N items, M of them reference items, F features.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from likewise.console import Tick, untold
from likewise.metrics import top_k

_RIDGE = 0.1  # of the mean variance, added to that of each direction


class Whitening(NamedTuple):
    """What makes every direction of some rows about as loud: the mean (F,) and the factors (F, F)."""

    mean: Tensor
    factors: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        """(N, F) float32."""
        return ((rows.double() - self.mean) @ self.factors).float()


def whitening(rows: Tensor) -> Whitening:
    """f ↦ (Λ + 0.1 λ̄ I)^−½ Vᵀ (f − mean), for the covariance V Λ Vᵀ of (M, F) rows and the mean λ̄ of its eigenvalues.

    A direction in which these rows hardly vary counts as much as any other: it is there that foreign items differ. The
    ridge keeps rounding and rare values from counting more than that. Cost: O(M F² + F³), in float64.
    """
    rows = rows.double()
    mean = rows.mean(0)
    variances, directions = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
    ridge = _RIDGE * float(variances.mean().clamp_min(1e-12))
    return Whitening(mean, directions * (variances.clamp_min(0) + ridge).rsqrt())


def distances_to(
    rows: Tensor, numbers: Tensor, reference: Tensor, reference_numbers: Tensor, k: int, tick: Tick = untold
) -> tuple[Tensor, Tensor]:
    """The distance of each row to its k-th nearest reference row, (N,), and the place of the nearest, (N,).

    A reference row with the number of the row itself does not count. Neighbours are those of largest
    ⟨a, b⟩ − |b|² / 2, which are those of least |a − b|.

    Args:
        rows: (N, F) float32.
        numbers: (N,) of the items.
        reference: (M, F), M > k.
        reference_numbers: (M,).
        k: which neighbour, ≥ 1.
        tick: told the share of the work that is done.
    """
    keys = torch.cat([reference, -0.5 * reference.square().sum(1, keepdim=True)], 1)
    asked = torch.cat([rows, torch.ones(len(rows), 1)], 1)
    near = top_k(asked, keys, k, query_ids=numbers, key_ids=reference_numbers, tick=tick)[1]
    return (rows - reference[near[:, k - 1]]).norm(dim=1), near[:, 0]
