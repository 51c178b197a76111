"""Sharded dictionaries: the rows of a memory bank, or of trained weights, are divided among the processes.

Process r of W owns n_r consecutive rows of all n, as ``processes.shares(n, W)`` divides them. A run is the same for any
W: the same first rows, the same loss, and the same gradients, up to the rounding of sums.

Dimension legend: W processes, n keys in all, n_r on process r, B queries in all, B_r on process r, D dimensions.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from likewise.alike import Ids
from likewise.dictionaries.bank import bank_update, check_bank
from likewise.dictionaries.keys import Dictionary, Fresh, Keys, random_unit_rows
from likewise.distributed.shares import own_share
from likewise.errors import LikewiseError, at_least_one

DRAWN_FLOATS = 1 << 22  # the first rows are drawn in blocks of this many numbers: 16 MiB
CANNOT_FOLLOW = (
    "the items changed since the checkpoint, but sharded rows (bank.sharded) can't follow them; use the data of the "
    "run, or start a new run."
)
DRAW_STEP = 16  # torch draws normal numbers in blocks of 16; parts of whole blocks equal one whole draw


def sharded_weight(n: int, dim: int, *, generator: torch.Generator | None = None) -> nn.Parameter:
    """This process' rows (n_r, D) of ParametricSoftmax's first weight (n, D), bit for bit, as a parameter.

    ``ShardedSoftmax(keys_learn=True)`` gives it its full gradient. Optimise it like any parameter, but do not sum its
    gradient over the processes. Cost: as for the first rows of :class:`ShardedMemoryBank`.

    Args:
        n: rows in all.
        dim: D.
        generator: on the CPU, in the same state in all processes. Every process advances it as if it drew all n rows.
    """

    at_least_one("n", n, "there is a row for each item")
    at_least_one("dim", dim, "a row has numbers")

    def uniform(count: int) -> Tensor:
        return (torch.rand(count, dim, generator=generator) * 2 - 1) / math.sqrt(dim)

    return nn.Parameter(_row_by_ids(n, dim, uniform))


# The answers of a dictionary whose rows are divided among the processes: they are in ``shards()``, not in ``state()``.


def no_state(self: Dictionary) -> dict[str, Any]:
    """Empty: the rows are in ``shards()``."""
    return {}


def restores_nothing(self: Dictionary, state: Mapping[str, Any]) -> None:
    """Does nothing."""


def cannot_follow(self: Dictionary, old: Sequence[str], new: Sequence[str], generator: torch.Generator) -> None:
    """Raises LikewiseError: sharded rows can't follow their items."""
    raise LikewiseError(CANNOT_FOLLOW)


@torch.no_grad()
def load_row_by_ids(self: Dictionary, shards: Mapping[str, Tensor]) -> None:
    """Restores ``shards()``."""
    for name, rows in self.shards().items():
        rows.copy_(shards[name])


class ShardedProxies(Dictionary):
    """The sharded weights of the parametric softmax. The optimizer updates them.

    Args:
        n: rows in all.
        dim: D.
        generator: see :func:`sharded_weight`.
    """

    weight: nn.Parameter

    state = no_state
    restore = restores_nothing
    follow = cannot_follow
    load_shards = load_row_by_ids

    def __init__(self, n: int, dim: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.n = n
        self.weight = sharded_weight(n, dim, generator=generator)

    def extra_repr(self) -> str:
        """The size, and the number of rows in this process."""
        return f"{self.n} × {self.weight.shape[1]}, of which {len(self.weight)} rows here"

    def keys(self, ids: Ids, fresh: Fresh) -> Keys:
        """This process' rows, with gradient."""
        return Keys(self.weight, sizes=fresh.sizes)

    def update(self, rows: Tensor, ids: Ids, *, look: bool = True) -> None:
        """Does nothing: the optimizer updates the rows."""

    def choices(self, others: int) -> int:
        """The number of all rows."""
        return self.n

    def shards(self) -> dict[str, Tensor]:
        """This process' rows."""
        return {"weight": self.weight.detach()}


class ShardedMemoryBank(Dictionary):
    """:class:`~likewise.dictionaries.MemoryBank` with its rows divided among the processes.

    ``v_i ← norm(momentum · v_i + (1 − momentum) · f_i)`` for the rows that this process owns. In one process it equals
    MemoryBank bit for bit, from the first draw on. In several processes the concatenated ``rows`` do.

    Its ``state_dict`` holds only this process' rows. ``likewise.distributed.shard_files`` saves them for any number of
    processes.

    Departures: there is no ``rebind``. To use a bank with changed data, load it in one process.
    Cost: n_r·D·4 bytes. Every process draws all n·D numbers of the first rows, 16 MiB at a time: about 100 million
    numbers per second, 1 to 2 s for a million rows of 128. An update reads and writes the rows of the batch that this
    process owns.

    Args:
        n: rows in all.
        dim: D.
        momentum: share of the old row that is kept, in [0, 1).
        generator: draws the first rows; on the CPU, in the same state in all processes.

    Raises:
        LikewiseError: ``momentum`` outside [0, 1).
    """

    rows: Tensor

    state = no_state
    restore = restores_nothing
    follow = cannot_follow
    load_shards = load_row_by_ids

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        momentum: float = 0.5,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.n, self.momentum = n, check_bank(n, dim, momentum)
        self.start = own_share(n)[0]
        self.register_buffer("rows", _row_by_ids(n, dim, lambda some: random_unit_rows(some, dim, generator)))

    def extra_repr(self) -> str:
        """The size, the parameter, and the number of rows in this process."""
        rows, dim = self.rows.shape
        return f"{self.n} × {dim}, momentum={self.momentum}, of which {rows} rows here"

    def keys(self, ids: Ids, fresh: Fresh) -> Keys:
        """This process' rows."""
        return Keys(self.rows, sizes=fresh.sizes)

    @torch.no_grad()
    def update(self, rows: Tensor, ids: Ids, *, look: bool = True) -> None:
        """Moves this process' bank rows towards the ``rows`` (B, D) of the whole batch, by their ``ids`` (B,).

        Ids are from 0 to n − 1; of several rows with one id the mean counts. Gather both with
        :func:`~likewise.distributed.processes.gather_rows`.
        Raises LikewiseError on shapes that don't fit and, on the CPU, where looking does not wait, on an id that is no
        row and, unless ``look`` is False, on NaN and infinity.
        """
        ids, fresh = bank_update(self.rows, self.n, rows, ids, look)
        places = ids - self.start
        here = (places >= 0) & (places < len(self.rows))
        places, fresh = places[here], fresh[here]
        self.rows[places] = functional.normalize(torch.lerp(fresh, self.rows[places], self.momentum), dim=1)

    def choices(self, others: int) -> int:
        """The number of all rows."""
        return self.n

    def shards(self) -> dict[str, Tensor]:
        """This process' rows."""
        return {"rows": self.rows}


def _row_by_ids(n: int, dim: int, draw: Callable[[int], Tensor]) -> Tensor:
    """(n_r, D) this process' rows of ``draw(n)``, drawn in parts.

    On the CPU torch draws the same numbers in parts as at once, if every part but the last is a multiple of 16 numbers
    and the last part is not shorter than the others. The tests check this bit for bit.
    """
    start, count = own_share(n)
    rows = torch.empty(count, dim)
    step = max(1, DRAWN_FLOATS // (dim * DRAW_STEP)) * DRAW_STEP
    place = 0
    while place < n:
        drawn = draw(step if n - place >= 2 * step else n - place)
        first, last = max(place, start), min(place + len(drawn), start + count)
        if first < last:
            rows[first - start : last - start] = drawn[first - place : last - place]
        place += len(drawn)
    return rows
