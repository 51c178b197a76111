"""The checksum of a cache's values: blake2b over the blake2b of each part."""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import torch

from likewise.console import track
from likewise.data.items import Pixels, refuse_cut

_PART_BYTES = 1 << 24  # of the values in a part


class Checksum:
    """blake2b over the blake2b of each part of the values, while they are written; see :func:`checksum_of`."""

    def __init__(self, size: int) -> None:
        self.rows = _part_rows(size)
        self.digests, self.part, self.in_part = list[bytes](), hashlib.blake2b(digest_size=16), 0

    def add(self, item: memoryview) -> None:
        """Adds the next item's pixels."""
        if self.in_part == self.rows:
            self._end()
        self.part.update(item)
        self.in_part += 1

    def hex(self) -> str:
        """The checksum of all items so far; call it once, at the end."""
        if self.in_part:
            self._end()
        return _of_parts(self.digests)

    def _end(self) -> None:
        self.digests.append(self.part.digest())
        self.part, self.in_part = hashlib.blake2b(digest_size=16), 0


def checksum_of(values: Pixels, progress: bool) -> str:
    """The checksum of a cache's values: one pass over them with all threads, about a second per GB and core."""
    rows = _part_rows(values.shape[1])

    def digest(start: int) -> bytes:
        refuse_cut(values, "its checksum")
        return hashlib.blake2b(values[start : start + rows].data, digest_size=16).digest()

    starts = range(0, len(values), rows)
    bar = track("checking the cache", len(starts), enabled=progress)
    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool, bar as tick:
        digests = []
        for done, part in enumerate(pool.map(digest, starts), 1):
            digests.append(part)
            tick(done)
    return _of_parts(digests)


def _of_parts(digests: Iterable[bytes]) -> str:
    """The checksum of the values, from the blake2b of each part."""
    return hashlib.blake2b(b"".join(digests), digest_size=16).hexdigest()


def _part_rows(size: int) -> int:
    """Number of items in a part of the checksum."""
    return max(1, _PART_BYTES // (size * size * 3))
