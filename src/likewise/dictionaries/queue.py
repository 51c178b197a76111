"""The queue: the newest keys, first in, first out."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from likewise.alike import Ids, as_ids
from likewise.dictionaries.keys import Dictionary, Fresh, Keys, random_unit_rows
from likewise.errors import LikewiseError

NOBODY = -1  # the id of a random row: nobody's positive


class Queue(Dictionary):
    """The newest ``size`` keys and their ids (MoCo §3.2, "dictionary as a queue").

    The keys of a step are its new keys, which pull, and the queue's, which push. An older key of the query's own item
    has its id: it neither pulls nor pushes, where MoCo's code takes it for a negative.

    Any number of keys may come at once: they overwrite the oldest and wrap around; of more than ``size`` the last stay.
    Where MoCo asks that the batch divide the queue, and other code drops the keys beyond the end, nothing is lost here.
    Rows, ids, the pointer and the number of filled rows are buffers: saved and restored.
    Cost: size·(dim·4 + 8·L) bytes; an update writes the new rows. ``keys`` copies the queue beside the new keys.
    Paper: He, Fan, Wu, Xie, Girshick, CVPR 2020, §3.2 and Algorithm 1.

    Args:
        size: K.
        dim: length of a key.
        start: "random" unit rows that are nobody's positives, as the paper; or "empty": it fills as keys come, and
            until the first have come the new keys of other items push.
        own_batch: whether the new keys of other items push as well. MoCo's negatives are the queue alone.
        older_pull: whether older keys of the query's id pull: where ids are labels, as in cross-batch memory.
        ids_each: L, where a key has several ids (labels, padded with −1): they are then (·, L); None: (·,), one a key.
        generator: for the random rows.
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
        if size < 1:
            raise LikewiseError(f"a queue of size {size} holds no key; MoCo's is 65,536.")
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
        """Its size and the parameters."""
        size, dim = self.rows.shape
        ids_each = None if self.ids.ndim == 1 else self.ids.shape[1]
        return (
            f"{size} × {dim}, start={self.start!r}, own_batch={self.own_batch}, older_pull={self.older_pull}, "
            f"ids_each={ids_each}"
        )

    def keys(self, ids: Ids, fresh: Fresh | None = None) -> Keys:
        """The new keys ``fresh`` and the filled rows of the queue; without ``fresh`` the queue, whose keys pull too.

        The latter is cross-batch memory (Wang et al. 2020), where an older key of the same class is a positive.
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
        """Its own new key, the queue's, and those of the batch where they push."""
        return len(self.rows) + others * self.own_batch + 1

    def kept(self, most: int) -> tuple[Tensor, Tensor]:
        """Filled rows and their ids."""
        some = slice(min(most, int(self.filled)))
        return self.rows[some], self.ids[some]

    def restore(self, state: Mapping[str, Any]) -> None:
        """Raises LikewiseError where keys have another number of ids each."""
        if state["ids"].shape[1:] != self.ids.shape[1:]:
            raise LikewiseError(
                "an item has more labels, or none has as many, as at the checkpoint, and the queue's keys were kept "
                "with so many; take the run's data, or start anew."
            )
        super().restore(state)

    def follow(self, old: Sequence[str], new: Sequence[str], generator: torch.Generator) -> None:
        """Ids that are rows of items are renamed; labels stay."""
        if not self.older_pull:
            self.rename(old, new)

    @torch.no_grad()
    def rename(self, old: Sequence[str], new: Sequence[str]) -> None:
        """Remaps the keys' ids from the old item order to the new one; −1 for an item that is gone."""
        where = {name: row for row, name in enumerate(new)}
        moved = torch.tensor([where.get(name, NOBODY) for name in old] + [NOBODY], device=self.ids.device)
        self.ids.copy_(moved[self.ids])  # NOBODY, −1, is the last

    @torch.no_grad()
    def update(self, rows: Tensor, ids: Ids) -> None:
        """Enqueues new keys (B, D) and their ids, (B,) or (B, L), in their order; the oldest leave.

        Raises LikewiseError on other shapes; nothing is enqueued then.
        """
        ids, size, count = as_ids("ids", ids, self.rows.device), len(self.rows), len(rows)
        if rows.shape[1:] != self.rows.shape[1:] or ids.shape != (count, *self.ids.shape[1:]):
            names = "" if self.ids.ndim == 1 else f" and {self.ids.shape[1]} ids"
            raise LikewiseError(
                f"keys {tuple(rows.shape)} and their ids {tuple(ids.shape)} don't fit a queue of {self.rows.shape[1]} "
                f"numbers{names} a key; each key needs its id."
            )
        kept = min(count, size)
        places = (self.pointer + torch.arange(count - kept, count, device=self.rows.device)) % size
        self.rows[places] = rows[count - kept :].detach().to(self.rows.dtype)
        self.ids[places] = ids[count - kept :]
        self.pointer.add_(count).remainder_(size)
        self.filled.add_(count).clamp_(max=size)
