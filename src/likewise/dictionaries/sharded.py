"""Rows that no process has to hold all of: memory bank, weights and exact softmax spread over the processes.

Process r of W owns the rows ``processes.shares(n, W)`` gives it, in order: n_r of n. A run is the same whatever W is:
the same first rows, the same loss, the same gradients, up to the rounding of sums.

Dimension legend: W processes, n keys in all, n_r on process r, B queries in all, B_r on process r, D dimensions.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from likewise.alike import Ids, as_ids
from likewise.dictionaries.keys import Dictionary, Fresh, Keys, random_unit_rows
from likewise.distributed.shares import own_share
from likewise.errors import LikewiseError

DRAWN_FLOATS = 1 << 22  # first rows are drawn so many numbers at a time: 16 MiB
CANNOT_FOLLOW = (
    "the items changed since the checkpoint, and rows spread over processes (bank.sharded) can't follow them; take the "
    "run's data, or start anew."
)
DRAW_STEP = 16  # torch draws normal numbers in sixteens: cut only between those, its stream is the same in parts


def sharded_weight(n: int, dim: int, *, generator: torch.Generator | None = None) -> nn.Parameter:
    """This process' rows (n_r, D) of ParametricSoftmax's first weight (n, D), bit for bit, as a parameter.

    ``ShardedSoftmax(keys_learn=True)`` gives it its gradient in full: optimise it like any parameter, but leave it out
    of what is summed over the processes. Cost: as the first rows of :class:`ShardedMemoryBank`.

    Args:
        n: rows in all.
        dim: D.
        generator: on the CPU and in the same state in all processes; all leave it where the whole draw would.
    """

    def uniform(count: int) -> Tensor:
        return (torch.rand(count, dim, generator=generator) * 2 - 1) / math.sqrt(dim)

    return nn.Parameter(_own_rows(n, dim, uniform))


class ShardedProxies(Dictionary):
    """The parametric softmax's weights, spread over the processes: a dictionary that the optimizer moves.

    Args:
        n: rows in all.
        dim: D.
        generator: see :func:`sharded_weight`.
    """

    weight: nn.Parameter

    def __init__(self, n: int, dim: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.n = n
        self.weight = sharded_weight(n, dim, generator=generator)

    def extra_repr(self) -> str:
        """Its size, and what is here."""
        return f"{self.n} × {self.weight.shape[1]}, of which {len(self.weight)} rows here"

    def keys(self, ids: Ids, fresh: Fresh) -> Keys:
        """The rows that are here, with their gradient."""
        return Keys(self.weight, sizes=fresh.sizes)

    def update(self, rows: Tensor, ids: Ids) -> None:
        """Nothing: the gradient has done it."""

    def choices(self, others: int) -> int:
        """All."""
        return self.n

    def state(self) -> dict[str, Any]:
        """Nothing: the rows are ``shards()``."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing."""

    def follow(self, old: Sequence[str], new: Sequence[str], generator: torch.Generator) -> None:
        """Raises LikewiseError: rows that are spread can't."""
        raise LikewiseError(CANNOT_FOLLOW)

    def shards(self) -> dict[str, Tensor]:
        """The rows that are here."""
        return {"weight": self.weight.detach()}

    @torch.no_grad()
    def load_shards(self, shards: Mapping[str, Tensor]) -> None:
        """Restores them."""
        self.weight.copy_(shards["weight"])


class ShardedMemoryBank(Dictionary):
    """:class:`~likewise.dictionaries.MemoryBank` with its rows spread over the processes.

    ``v_i ← norm(momentum · v_i + (1 − momentum) · f_i)`` for the rows this process owns. In one process it equals
    MemoryBank bit for bit; in several, the processes' ``rows`` one after the other do, from the first draw on.

    Departure: no ``rebind``: to carry a bank to a data set that changed, load it in one process.
    Cost: n_r·D·4 bytes. All n·D numbers of the first rows are drawn in every process, 16 MiB of them at a time: about
    100 million a second, 1 to 2 s for a million rows of 128. An update touches the rows of the batch that are here.

    Its ``state_dict`` holds this process' rows alone; ``likewise.shards`` saves them for any number of processes.

    Args:
        n: rows in all.
        dim: D.
        momentum: share of the old row that is kept, in [0, 1).
        generator: for the first rows: on the CPU, in the same state in all processes.
    """

    rows: Tensor

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        momentum: float = 0.5,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise LikewiseError(
                f"bank momentum={momentum} must be in [0, 1); 0 replaces rows, 0.5 is the released code's."
            )
        self.n, self.momentum = n, momentum
        self.start = own_share(n)[0]
        self.register_buffer("rows", _own_rows(n, dim, lambda some: random_unit_rows(some, dim, generator)))

    def extra_repr(self) -> str:
        """Its size, the parameter, and what is here."""
        rows, dim = self.rows.shape
        return f"{self.n} × {dim}, momentum={self.momentum}, of which {rows} rows here"

    def keys(self, ids: Ids, fresh: Fresh) -> Keys:
        """The rows that are here."""
        return Keys(self.rows, sizes=fresh.sizes)

    @torch.no_grad()
    def update(self, rows: Tensor, ids: Ids) -> None:
        """Moves the bank's rows that are here, of the whole batch's ``ids`` (B,), towards its ``rows`` (B, D).

        Ids are rows of all n and all different. Both come from :func:`~likewise.distributed.processes.gather_rows`.
        Raises LikewiseError for an id of n or above, on the CPU, where looking does not wait.
        """
        ids = as_ids("ids", ids, self.rows.device)
        refuse_beyond(ids, self.n)
        places = ids - self.start
        here = (places >= 0) & (places < len(self.rows))
        places, fresh = places[here], rows.detach()[here].to(self.rows.dtype)
        self.rows[places] = functional.normalize(torch.lerp(fresh, self.rows[places], self.momentum), dim=1)

    def choices(self, others: int) -> int:
        """All."""
        return self.n

    def state(self) -> dict[str, Any]:
        """Nothing: the rows are ``shards()``."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing."""

    def follow(self, old: Sequence[str], new: Sequence[str], generator: torch.Generator) -> None:
        """Raises LikewiseError: rows that are spread can't."""
        raise LikewiseError(CANNOT_FOLLOW)

    def shards(self) -> dict[str, Tensor]:
        """The rows that are here."""
        return {"rows": self.rows}

    @torch.no_grad()
    def load_shards(self, shards: Mapping[str, Tensor]) -> None:
        """Restores them."""
        self.rows.copy_(shards["rows"])


def _own_rows(n: int, dim: int, draw: Callable[[int], Tensor]) -> Tensor:
    """This process' rows of ``draw(n)``, (n_r, D), drawn some rows at a time.

    Torch's numbers on the CPU are the same in parts where every part but the last is a multiple of 16 numbers, and the
    last is not the shortest: checked bit for bit in the tests.
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


def refuse_beyond(ids: Tensor, n: int) -> None:
    if ids.device.type == "cpu" and bool((ids >= n).any()):
        raise LikewiseError(f"ids go up to {int(ids.max())} but there are {n} keys, whose ids are their rows.")
