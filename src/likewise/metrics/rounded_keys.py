"""Keys in bfloat16: a CPU that multiplies bfloat16 in hardware does so in a quarter of the time of float32.

The product of rounded rows q̂ and k̂ is off by |q·k − q̂·k̂| ≤ |q − q̂| |k| + |q̂| |k − k̂|, about .004 of the lengths. Sums
are in float32, and torch rounds each score to bfloat16, by at most 2⁻⁸ of it. ``searched_keys`` counts with all three.
"""

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor

STEP = 2.0**-8  # rounding to bfloat16 moves a number by at most this share of it
WIDTH = 32  # numbers of a row, below which other work takes the time
PROBE = 64  # queries that show whether others are worth asking in bfloat16
_PART = 1024  # keys rounded at once, which fit into the cache


def quicker(keys: Tensor, device: torch.device) -> bool:
    """Whether searches of (N, D) keys from a device are quicker in bfloat16.

    They are where a CPU multiplies bfloat16 in hardware, so far as torch says what the CPU can do, and rows are not
    narrow.
    """
    can: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in torch 2.6
    multiplies = bool(can.get("avx512_bf16")) and bool(torch.backends.mkldnn.enabled)
    return multiplies and keys.device.type == device.type == "cpu" and keys.shape[1] >= WIDTH


@final
class RoundedKeys:
    """Keys in bfloat16 for searches in them, and whether the searches gain by it.

    Where many keys are about as near as the k-th, bfloat16 can't tell them apart, and the search is made in float32
    after all. When that is so for a quarter of the queries, ``worth`` becomes false and stays so.

    Args:
        keys: (N, D) float; a copy is kept. None: each tile is rounded when it is read, which pays for many queries.
    """

    def __init__(self, keys: Tensor | None = None) -> None:
        self.off = 0.0  # the longest |k − k̂| so far
        self._rows = None if keys is None else self._rounded(keys)
        self._asked = self._missed = 0

    def tile(self, block: Tensor, start: int) -> Tensor:
        """The rounded rows of a block of keys, of which ``start`` is the first."""
        return self._rounded(block) if self._rows is None else self._rows[start : start + len(block)]

    def _rounded(self, keys: Tensor) -> Tensor:
        rows = torch.empty(keys.shape, dtype=torch.bfloat16)
        for each, kept in zip(torch.split(keys, _PART), torch.split(rows, _PART), strict=True):
            kept.copy_(each)
            self.off = max(self.off, float((each - kept).float().norm(dim=1).amax()))
        return rows

    def learn(self, unsure: Tensor) -> None:
        """Takes note of for which of (Q,) queries bfloat16 did not suffice."""
        self._asked += len(unsure)
        self._missed += int(unsure.sum())

    @property
    def worth(self) -> bool:
        """Whether it sufficed for most queries so far."""
        return 4 * self._missed <= self._asked + PROBE
