"""What a dictionary gives to the objective, and what the step gives to a dictionary."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from likewise.alike import Ids


class Fresh(NamedTuple):
    """The keys that were encoded in this step, of all processes, in the order of the batch."""

    rows: Tensor  # (F, D) unit rows; with gradient where the step is end-to-end
    ids: Ids  # (F,) integers, or (F, L) of several labels


class Keys(NamedTuple):
    """What the queries are compared with; see ``PairObjective.forward`` for the roles."""

    rows: Tensor  # (K, D)
    ids: Tensor | None = None  # (K,) int64, or (K, L); None: the row numbers
    pulls: Tensor | None = None  # (K,) bool
    pushes: Tensor | None = None  # (K,) bool


def random_unit_rows(n: int, dim: int, generator: torch.Generator | None = None) -> Tensor:
    """(n, dim) float32 rows, uniform on the unit sphere."""
    return functional.normalize(torch.randn(n, dim, generator=generator), dim=1)
