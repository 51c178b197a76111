"""The parts of an item as blocks of columns, so that items of several parts are vectors.

Dimension legend: B rows, D columns, P blocks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Kind = Literal["vector", "words", "image"]


@dataclass(frozen=True, kw_only=True)
class Block:
    """The columns of one part: its content, and after it one column that is 1 where an item has the part, else 0.

    The content of a part that an item lacks is 0.

    Args:
        name: of the part, such as "audio".
        kind: vector (numbers as they are), words (hashed, rows of length 1) or image (pixels from 0 to 255, as (size,
            size, 3) in a row).
        start: the first column of the content.
        stop: the column after the content, which says whether the part is there.
        size: of an image: its side in pixels; else 0.
        columns: of a table with a column for each number: their names in order; else empty.
    """

    name: str
    kind: Kind
    start: int
    stop: int
    size: int = 0
    columns: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """The number of columns of the content."""
        return self.stop - self.start

    @property
    def content(self) -> slice:
        """The columns of the content."""
        return slice(self.start, self.stop)


Blocks = Sequence[Block]


def as_saved(blocks: Blocks) -> list[dict[str, Any]]:
    """The blocks as plain values."""
    return [asdict(block) for block in blocks]


def from_saved(values: Sequence[Mapping[str, Any]]) -> tuple[Block, ...]:
    """The blocks that ``as_saved`` wrote. Raises TypeError on anything else."""
    return tuple(Block(**{**value, "columns": tuple(value["columns"])}) for value in values)


def there(rows: Tensor, blocks: Blocks) -> Tensor:
    """(B, P) bool: which parts the items have."""
    return rows[:, [block.stop for block in blocks]] > 0


def masked(rows: Tensor, blocks: Blocks) -> Tensor:
    """(B, D): ``rows`` with 0 in the content of each part that an item lacks."""
    if not blocks:
        return rows
    kept = torch.ones_like(rows, dtype=torch.bool)
    for place, has in enumerate(there(rows, blocks).T):
        kept[:, blocks[place].content] = has[:, None]
    return torch.where(kept, rows, 0.0)
