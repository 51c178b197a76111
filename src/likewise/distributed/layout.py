"""Divides a batch among the processes and their BatchNorm groups."""

from dataclasses import dataclass, field

from likewise.distributed import processes
from likewise.errors import LikewiseError


@dataclass
class Layout:
    """The rows and groups of each process in a batch.

    Args:
        groups: number of rows of each group, over all processes in rank order; each process has equally many groups.
        count: number of processes.
        rank: the number of this process.

    Attributes:
        own: number of rows of each of this process' groups.
        sizes: number of rows of each process.
        rows: the slice of the batch that this process has.
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
    """Divides ``total`` rows into ``groups`` of nearly equal size, over the processes of the run.

    With one group each process encodes its own rows, and synchronised BatchNorm joins their statistics.

    Raises LikewiseError if the processes can't have equally many groups, or there are fewer rows than processes.
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
