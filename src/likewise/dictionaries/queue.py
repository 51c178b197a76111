"""The queue: the newest keys, first in, first out."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from likewise.alike import Ids, as_ids, check_new_rows
from likewise.dictionaries.keys import Dictionary, Fresh, Keys, random_unit_rows
from likewise.errors import LikewiseError, at_least_one

NOBODY = -1  # the id of a random row, which is no query's positive


class Queue(Dictionary):
    """The newest ``size`` keys and their ids (MoCo §3.2, "dictionary as a queue").

    The new keys of a step are the positives, and the queue's keys are the negatives. An older key of the query's own
    item has the same id, so it is neither.

    Any number of keys may come at once: they overwrite the oldest keys and wrap around. If more than ``size`` keys come
    at once, the last ``size`` stay. Rows, ids, the pointer and the number of filled rows are buffers, so checkpoints
    save them.
    Departures: MoCo's code treats an older key of the query's item as a negative. It also requires that the batch size
    divides the queue size.
    Cost: size·(dim·4 + 8·L) bytes; an update writes the new rows. ``keys`` copies the queue beside the new keys.
    Paper: He, Fan, Wu, Xie, Girshick, CVPR 2020, §3.2 and Algorithm 1.

    Args:
        size: K, the number of keys; at least 1.
        dim: D, the length of a key.
        start: "random": unit rows that are no query's positives, as in the paper. "empty": the queue fills with new
            keys; while it is empty, the new keys of other items are negatives.
        own_batch: whether the new keys of other items are always negatives. In MoCo only the queue's keys are.
        older_pull: whether older keys with the query's id are positives, as in cross-batch memory (ids are labels).
        ids_each: L, where a key has several ids (labels, padded with −1); ids are then (·, L). None: one id each, (·,).
        generator: draws the random rows, on the CPU.

    Raises:
        LikewiseError: a ``size`` below 1, or an unknown ``start``.
    """

    rows: Tensor
    ids: Tensor
    pointer: Tensor
    filled: Tensor

    def __init__(
        self,
        size: int,
        dim: int,
        *,
        start: Literal["random", "empty"] = "random",
        own_batch: bool = False,
        older_pull: bool = False,
        ids_each: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        at_least_one("size", size, "MoCo's queue holds 65,536 keys")
        at_least_one("dim", dim, "a key has numbers, 128 in the paper")
        if ids_each is not None:
            at_least_one("ids_each", ids_each, "None gives each key one id")
        if start not in ("random", "empty"):
            raise LikewiseError(f"queue start={start!r} must be 'random' or 'empty'.")
        self.start, self.own_batch, self.older_pull = start, own_batch, older_pull
        self.bound = "queue's keys" if older_pull else ""
        rows = random_unit_rows(size, dim, generator) if start == "random" else torch.zeros(size, dim)
        self.register_buffer("rows", rows)
        self.register_buffer("ids", torch.full((size,) if ids_each is None else (size, ids_each), NOBODY))
        self.register_buffer("pointer", torch.tensor(0))
        self.register_buffer("filled", torch.tensor(size if start == "random" else 0))

    def extra_repr(self) -> str:
        """The size and the parameters."""
        size, dim = self.rows.shape
        ids_each = None if self.ids.ndim == 1 else self.ids.shape[1]
        return (
            f"{size} × {dim}, start={self.start!r}, own_batch={self.own_batch}, older_pull={self.older_pull}, "
            f"ids_each={ids_each}"
        )

    def keys(self, ids: Ids, fresh: Fresh | None = None) -> Keys:
        """The new keys ``fresh`` and the filled rows of the queue. Without ``fresh``: the queue alone.

        The queue alone is cross-batch memory (Wang et al. 2020): older keys of the same class are positives.
        """
        filled = torch.arange(len(self.rows), device=self.rows.device) < self.filled
        if fresh is None:
            return Keys(self.rows, self.ids, pulls=filled, pushes=filled)
        new = torch.ones(len(fresh.rows), dtype=torch.bool, device=filled.device)
        rows = torch.cat([fresh.rows.to(self.rows.dtype), self.rows])
        return Keys(
            rows,
            torch.cat([as_ids("ids", fresh.ids, self.ids.device), self.ids]),
            pulls=torch.cat([new, filled & self.older_pull]),
            pushes=torch.cat([new & (self.own_batch | (self.filled == 0)), filled]),
            own=fresh.own,
        )

    def choices(self, others: int) -> int:
        """The number of the queue's keys, the query's new key, and the other new keys where they are negatives."""
        return len(self.rows) + others * self.own_batch + 1

    def kept(self, most: int) -> tuple[Tensor, Tensor]:
        """At most ``most`` filled rows and their ids."""
        first = slice(min(most, int(self.filled)))
        return self.rows[first], self.ids[first]

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores ``state()``. Raises LikewiseError if the number of ids per key changed."""
        if state["ids"].shape[1:] != self.ids.shape[1:]:
            raise LikewiseError(
                "the most labels of an item changed since the checkpoint, so the queue's saved keys do not fit; "
                "use the data of the run, or start a new run."
            )
        super().restore(state)

    def follow(self, old: Sequence[str], new: Sequence[str], generator: torch.Generator) -> None:
        """Remaps the ids if they are item rows. Ids that are labels stay."""
        if not self.older_pull:
            self.rename(old, new)

    @torch.no_grad()
    def rename(self, old: Sequence[str], new: Sequence[str]) -> None:
        """Remaps key ids from the old to the new item order; −1 for an item that is gone."""
        where = {name: row for row, name in enumerate(new)}
        moved = torch.tensor([where.get(name, NOBODY) for name in old] + [NOBODY], device=self.ids.device)
        self.ids.copy_(moved[self.ids])  # index −1 is NOBODY, the last entry

    @torch.no_grad()
    def update(self, rows: Tensor, ids: Ids, *, look: bool = True) -> None:
        """Enqueues new keys (B, D) and their ids, (B,) or (B, L), in order. The oldest keys leave.

        Keys of the same id are keys of their own; ids below 0 name no item.

        Raises LikewiseError, before anything is enqueued, on other shapes and, on the CPU, where looking does not wait,
        on NaN and infinity, unless ``look`` is False.
        """
        check_new_rows(rows, look=look)
        ids, size, count = as_ids("ids", ids, self.rows.device), len(self.rows), len(rows)
        if rows.shape[1:] != self.rows.shape[1:] or ids.shape != (count, *self.ids.shape[1:]):
            names = "" if self.ids.ndim == 1 else f" and {self.ids.shape[1]} ids"
            raise LikewiseError(
                f"keys {tuple(rows.shape)} and their ids {tuple(ids.shape)} don't fit a queue with "
                f"{self.rows.shape[1]} numbers{names} per key; each key needs its id."
            )
        kept = min(count, size)
        places = (self.pointer + torch.arange(count - kept, count, device=self.rows.device)) % size
        self.rows[places] = rows[count - kept :].detach().to(self.rows.dtype)
        self.ids[places] = ids[count - kept :]
        self.pointer.add_(count).remainder_(size)
        self.filled.add_(count).clamp_(max=size)
