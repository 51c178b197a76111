"""How a batch is shared out over processes and their BatchNorm groups."""

from dataclasses import dataclass, field

from likewise.distributed import processes
from likewise.errors import LikewiseError


@dataclass
class Layout:
    """Who has which rows of a batch, and in which groups.

    Args:
        groups: rows of each group, over all processes; each process has the same number of groups, in rank order.
        count: of processes.
        rank: which one this is.

    Attributes:
        own: this process' groups.
        sizes: rows of each process.
        rows: this process' rows among the batch's.
    """

    groups: tuple[int, ...]
    count: int = 1
    rank: int = 0
    own: tuple[int, ...] = field(init=False)
    sizes: list[int] = field(init=False)
    rows: slice = field(init=False)

    def __post_init__(self) -> None:
        each = len(self.groups) // self.count
        self.own = self.groups[self.rank * each : (self.rank + 1) * each]
        self.sizes = [sum(self.groups[start : start + each]) for start in range(0, len(self.groups), each)]
        start = sum(self.sizes[: self.rank])
        self.rows = slice(start, start + self.sizes[self.rank])


def lay_out(total: int, groups: int) -> Layout:
    """``total`` rows in ``groups`` of nearly one size, over this run's processes; 1 group is all rows together.

    With one group each process encodes its own rows, and synchronised BatchNorm makes them one.

    Raises LikewiseError when the groups can't be shared out evenly, or there are fewer rows than processes.
    """
    count = processes.size()
    if groups > 1 and groups % count:
        raise LikewiseError(
            f"{groups} parts of a batch (encoder.bn_groups, micro_batches) can't be shared by {count} processes; use a "
            f"multiple of {count}, or 1."
        )
    if total < count:
        raise LikewiseError(
            f"a batch of {total} rows can't be shared by {count} processes; use fewer, or larger batches."
        )
    return Layout(tuple(processes.shares(total, groups if groups > 1 else count)), count, processes.rank())
