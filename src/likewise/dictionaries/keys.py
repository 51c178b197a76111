"""The interface of dictionaries: the new keys they take in, the keys they give to the objective, and their methods."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from likewise.alike import Ids
from likewise.errors import room_for


class Fresh(NamedTuple):
    """The keys encoded in this step by all processes, in the order of the batch."""

    rows: Tensor  # (F, D) unit rows; with gradient where training is end-to-end
    ids: Ids  # (F,) integers, or (F, L) with several labels
    own: Tensor | None = None  # (Q,) the fresh row that is the query itself, where queries are also keys
    sizes: Sequence[int] | None = None  # number of items of each process


class Keys(NamedTuple):
    """The keys that queries are compared with; see ``PairObjective.forward`` for the roles."""

    rows: Tensor  # (K, D)
    ids: Tensor | None = None  # (K,) int64, or (K, L); None: the row numbers
    pulls: Tensor | None = None  # (K,) bool, may be a positive
    pushes: Tensor | None = None  # (K,) bool, may be a negative
    own: Tensor | None = None  # (Q,) the key row that is the query itself; the pair is left out
    sizes: Sequence[int] | None = None  # number of queries of each process, where the keys are sharded


class Dictionary(nn.Module):
    """A source of keys. Abstract; subclasses are final.

    Attributes:
        bound: the name, for messages, of the keys that refer to labels; empty where keys refer to items.
    """

    bound: str = ""

    @abstractmethod
    def keys(self, ids: Ids, fresh: Fresh) -> Keys | None:
        """The keys for queries with ``ids``; None where the objective's own weights are the keys."""

    @abstractmethod
    def update(self, rows: Tensor, ids: Ids, *, look: bool = True) -> None:
        """Takes in the new rows of the step.

        ``look=False`` leaves out the look for NaN and infinity: for rows whose loss is looked at.
        """

    @abstractmethod
    def choices(self, others: int) -> int:
        """Number of keys, its own included, that a query meets if a step has ``others`` new keys of other items."""

    def kept(self, most: int) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Rows and ids of at most ``most`` keys of earlier steps; (None, None) where no ids are kept."""
        return None, None

    def state(self) -> dict[str, Any]:
        """The state that is equal in all processes: everything except ``shards()``."""
        return self.state_dict()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores ``state()``."""
        self.load_state_dict(state)

    def follow(self, old: Sequence[str], new: Sequence[str], generator: torch.Generator) -> None:
        """After ``restore``, if the items changed: remaps the keys from the item order ``old`` to ``new``.

        ``generator`` draws the first keys of new items. Raises LikewiseError where keys can't follow their items.
        """

    def shards(self) -> dict[str, Tensor]:
        """This process' rows of the sharded state, by name. Empty where nothing is sharded."""
        return {}

    def load_shards(self, shards: Mapping[str, Tensor]) -> None:
        """Restores ``shards()``."""


def random_unit_rows(n: int, dim: int, generator: torch.Generator | None = None) -> Tensor:
    """(n, dim) float32 rows, uniform on the unit sphere."""
    with room_for(f"{n:,} rows × {dim:,}"):
        return functional.normalize(torch.randn(n, dim, generator=generator), dim=1)
