"""What a dictionary gives to the objective, what the step gives to a dictionary, and what training asks of one."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from likewise.alike import Ids


class Fresh(NamedTuple):
    """The keys that were encoded in this step, of all processes, in the order of the batch."""

    rows: Tensor  # (F, D) unit rows; with gradient where the step is end-to-end
    ids: Ids  # (F,) integers, or (F, L) of several labels
    own: Tensor | None = None  # (Q,) the fresh row of each query itself, where queries are keys too
    sizes: Sequence[int] | None = None  # items of each process


class Keys(NamedTuple):
    """What the queries are compared with; see ``PairObjective.forward`` for the roles."""

    rows: Tensor  # (K, D)
    ids: Tensor | None = None  # (K,) int64, or (K, L); None: the row numbers
    pulls: Tensor | None = None  # (K,) bool
    pushes: Tensor | None = None  # (K,) bool
    own: Tensor | None = None  # (Q,) the key row of each query itself, which it never meets
    sizes: Sequence[int] | None = None  # queries of each process, where the keys are spread over the processes


class Dictionary(nn.Module):
    """What training asks of a dictionary. Abstract: subclasses are final.

    Attributes:
        bound: what of it belongs to labels, in words; empty where its keys belong to items.
    """

    bound: str = ""

    @abstractmethod
    def keys(self, ids: Ids, fresh: Fresh) -> Keys | None:
        """What queries of ``ids`` are compared with; None where the objective's own weights are the keys."""

    @abstractmethod
    def update(self, rows: Tensor, ids: Ids) -> None:
        """Takes in the step's new rows."""

    @abstractmethod
    def choices(self, others: int) -> int:
        """Among how many keys a query has its own to find, where a step has ``others`` new keys of other items."""

    def kept(self, most: int) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Rows and ids of at most so many keys of earlier steps; (None, None) where none are kept by id."""
        return None, None

    def state(self) -> dict[str, Any]:
        """What every process holds alike: all of the state but ``shards()``."""
        return self.state_dict()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores ``state()``."""
        self.load_state_dict(state)

    def follow(self, old: Sequence[str], new: Sequence[str], generator: torch.Generator) -> None:
        """After ``restore``, of items that changed: keys of the items ``old``, by row, become those of ``new``.

        ``generator`` draws what new items have at first. Raises LikewiseError where keys can't follow their items.
        """

    def shards(self) -> dict[str, Tensor]:
        """What is spread over the processes, by name: this one's rows. Nothing where every process holds all."""
        return {}

    def load_shards(self, shards: Mapping[str, Tensor]) -> None:
        """Restores ``shards()``."""


def random_unit_rows(n: int, dim: int, generator: torch.Generator | None = None) -> Tensor:
    """(n, dim) float32 rows, uniform on the unit sphere."""
    return functional.normalize(torch.randn(n, dim, generator=generator), dim=1)
