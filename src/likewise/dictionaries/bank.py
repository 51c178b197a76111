"""The memory bank: one key for each item."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from likewise.alike import Ids, as_ids, check_new_rows, check_rows
from likewise.dictionaries.keys import Dictionary, Fresh, Keys, random_unit_rows
from likewise.errors import LikewiseError, at_least_one, number


class MemoryBank(Dictionary):
    """One key per item (NPID §3.2): ``v_i ← norm(momentum · v_i + (1 − momentum) · f_i)``.

    ``momentum=0`` replaces the row, as in the paper's text; the released code uses 0.5. Rows start as random unit
    vectors, as in the paper's text (the released code draws uniform numbers; its rows have about unit length).

    With ``item_ids`` the bank also saves the names of the items. If the data set is shuffled or grows, ``rebind`` moves
    every row to the new place of its item.

    Departures: the released code updates inside the backward pass; here ``update`` is a line of the training step.
    Cost: n·dim·4 bytes (1,281,167 × 128: 626 MiB). An update reads and writes B rows.
    Paper: Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018, §3.2.

    Args:
        n: number of items.
        dim: length of a row.
        momentum: share of the old row that is kept, in [0, 1).
        samples: number of rows, drawn uniformly with replacement, that are negatives in each step (He et al. 2020, Fig.
            2b). 0: all n rows are keys, and the id of a row is its number.
        item_ids: n unique names, in row order.
        generator: draws the initial rows, on the CPU.
        noise: draws the samples, on the device of the rows. Default: torch's global generator.

    Raises:
        LikewiseError: ``momentum`` outside [0, 1), or item ids that are not n unique names.
    """

    rows: Tensor

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        momentum: float = 0.5,
        samples: int = 0,
        item_ids: Sequence[str] | None = None,
        generator: torch.Generator | None = None,
        noise: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_bank(n, dim, momentum)
        if samples:
            at_least_one("samples", samples, "0 makes all rows keys")
        if item_ids is not None and (len(item_ids) != n or len(set(item_ids)) != n):
            raise LikewiseError(f"a bank of {n} rows needs {n} unique item ids, got {len(set(item_ids))} unique ids.")
        self.momentum, self.samples = momentum, samples
        self.item_ids = list(item_ids) if item_ids is not None else None
        self.noise = noise
        self.register_buffer("rows", random_unit_rows(n, dim, generator))

    def extra_repr(self) -> str:
        """The size and the parameters."""
        named = "" if self.item_ids is None else f", item_ids={len(self.item_ids)} names"
        n, dim = self.rows.shape
        return f"{n} × {dim}, momentum={self.momentum}, samples={self.samples}{named}"

    def keys(self, ids: Ids, fresh: Fresh | None = None) -> Keys:
        """All rows; with ``samples``, the rows of ``ids`` (B,) as positives and drawn rows as negatives."""
        if not self.samples:
            return Keys(self.rows)
        ids = as_ids("ids", ids, self.rows.device)
        if ids.ndim != 1:
            raise LikewiseError(f"ids {tuple(ids.shape)} must be (B,): a row of the memory bank is one item.")
        check_rows("ids", ids, len(self.rows), "rows in the memory bank", none=True)
        drawn = torch.randint(len(self.rows), (self.samples,), generator=self.noise, device=self.rows.device)
        names = torch.cat([ids, drawn])
        pushes = torch.arange(len(names), device=ids.device) >= len(ids)
        return Keys(self.rows[names.clamp(min=0)], names, pulls=~pushes, pushes=pushes)

    @torch.no_grad()
    def update(self, rows: Tensor, ids: Ids, *, look: bool = True) -> None:
        """Moves the bank's rows ``ids`` (B,), from 0 to n − 1, towards ``rows`` (B, D).

        Of several rows with one id the mean counts. Raises LikewiseError on shapes that don't fit and, on the CPU,
        where looking does not wait, on an id that is no row and, unless ``look`` is False, on NaN and infinity.
        """
        ids, fresh = bank_update(self.rows, len(self.rows), rows, ids, look)
        self.rows[ids] = functional.normalize(torch.lerp(fresh, self.rows[ids], self.momentum), dim=1)

    def choices(self, others: int) -> int:
        """With ``samples``, the number of drawn rows and the query's own; otherwise the number of all rows."""
        return self.samples + 1 if self.samples else len(self.rows)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores ``state()``. The number of items may differ: ``follow`` then assigns the rows to the items."""
        self.rows = state["rows"].to(self.rows.device)

    def follow(self, old: Sequence[str], new: Sequence[str], generator: torch.Generator) -> None:
        """Rows follow their items. New items get random rows."""
        self.item_ids = list(old)
        self.rebind(new, generator=generator)

    @torch.no_grad()
    def rebind(self, item_ids: Sequence[str], *, generator: torch.Generator | None = None) -> int:
        """Orders the rows as ``item_ids``. New names get random unit rows; rows of missing names are dropped.

        Returns the number of rows kept. Raises LikewiseError when the bank has no names, or names repeat.
        """
        if self.item_ids is None:
            raise LikewiseError("this memory bank was made without item ids, so its rows can't follow the items.")
        if len(set(item_ids)) != len(item_ids):
            raise LikewiseError("item ids must be unique for a memory bank to follow them.")
        where = {name: row for row, name in enumerate(self.item_ids)}
        old = torch.tensor([where.get(name, -1) for name in item_ids], device=self.rows.device)
        rows = random_unit_rows(len(item_ids), self.rows.shape[1], generator).to(self.rows)
        rows[old >= 0] = self.rows[old[old >= 0]]
        self.rows, self.item_ids = rows, list(item_ids)
        return int((old >= 0).sum())

    def get_extra_state(self) -> list[str] | None:
        """The names, which are saved with the rows."""
        return self.item_ids

    def set_extra_state(self, state: list[str] | None) -> None:
        """Restores the names."""
        self.item_ids = state


def check_bank(n: int, dim: int, momentum: float) -> float:
    """The momentum, in [0, 1). Raises LikewiseError on sizes and shares that no memory bank can have."""
    at_least_one("n", n, "a memory bank has a row for each item")
    at_least_one("dim", dim, "a row has numbers, 128 in the paper")
    if not 0 <= number("momentum", momentum) < 1:
        raise LikewiseError(
            f"bank momentum={momentum} must be in [0, 1); 0 replaces rows, and NPID's released code uses 0.5."
        )
    return momentum


def bank_update(bank: Tensor, n: int, rows: Tensor, ids: Ids, look: bool) -> tuple[Tensor, Tensor]:
    """What an update of a memory bank of ``n`` rows is given, checked: (B,) ids and (B, D) rows in the bank's dtype.

    Rows of the same id are replaced by their mean, so that neither is lost and their order does not matter. Nothing
    waits for a device, so ids are compared with ``n`` on the CPU alone.

    Raises LikewiseError on shapes that don't fit, on an id that is no row of the bank, and where ``look`` on NaN and
    infinity.
    """
    check_new_rows(rows, look=look)
    ids = as_ids("ids", ids, bank.device)
    if rows.ndim != 2 or rows.shape[1] != bank.shape[1] or ids.shape != rows.shape[:1]:
        raise LikewiseError(
            f"rows {tuple(rows.shape)} and ids {tuple(ids.shape)} don't fit a memory bank with {bank.shape[1]} numbers "
            "per row; each row needs the number of its item."
        )
    check_rows("ids", ids, n, "rows in the memory bank")
    fresh = rows.detach().to(bank)
    in_order = ids.sort().values
    place = torch.searchsorted(in_order, ids)  # (B,) the same for the same id
    count = torch.zeros_like(place).index_add_(0, place, torch.ones_like(place))
    mean = torch.zeros_like(fresh).index_add_(0, place, fresh) / count.clamp(min=1).unsqueeze(1).to(fresh.dtype)
    return ids, torch.where((count == 1)[place].unsqueeze(1), fresh, mean[place])
