"""This process' share of sharded rows."""

from likewise.distributed.processes import rank, shares, size, starts


def own_share(n: int) -> tuple[int, int]:
    """Where this process' share of n rows starts, and how many rows it has."""
    sizes = shares(n, size())
    return starts(sizes)[rank()], sizes[rank()]
