"""What an engine of a local index is: it proposes the nearest rows, and the index gives them their exact scores."""

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

Keys = npt.NDArray[np.int64]  # numbers of items that stay theirs while others come and go


class Engine(Protocol):
    """Proposes rows for queries. It holds codes of the rows under their keys, and no ids."""

    effort: int  # how much of the engine a search looks at; more finds more, and takes longer

    def efforts(self) -> list[int]:
        """The efforts worth trying, ascending."""

    def candidates(self, queries: Tensor, count: int, among: Keys | None) -> Keys:
        """(B, ≥ count) keys that may be the nearest, −1 where there are none; of the keys ``among`` alone, if given."""

    def add(self, rows: Tensor, keys: Keys) -> None:
        """Takes (n, D) rows with new keys."""

    def remove(self, keys: Keys) -> bool:
        """Forgets rows. False when the engine can't, and has to be built again."""

    def write(self, path: Path) -> None:
        """Writes the file that ``read`` of its kind reads."""
