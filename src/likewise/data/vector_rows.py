"""Collects vectors that are read in blocks, in memory or in a file."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np
import numpy.typing as npt

from likewise.errors import LikewiseError
from likewise.text import in_words

Floats = npt.NDArray[np.float32]
IN_MEMORY = 256 << 20  # bytes


class VectorRows:
    """(·, D) float32 rows: in memory up to 256 MB; more go into an unnamed file, which is mapped in the end.

    Args:
        folder: gives the folder in which the file is made, if it is needed. The system removes the file when the
            process ends.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._blocks: list[Floats] = []
        self._held = self._rows = self._width = 0

    def add(self, block: Floats) -> None:
        """Adds rows.

        Raises:
            LikewiseError: the folder can't be written, or is full.
        """
        if not len(block):
            return
        self._blocks.append(block)
        self._rows, self._width, self._held = self._rows + len(block), block.shape[1], self._held + block.nbytes
        if self._held > IN_MEMORY:
            self._file = self._written()

    def whole(self) -> Floats:
        """All rows. Call it once; there must be one."""
        if self._file is None:
            return self._blocks[0] if len(self._blocks) == 1 else np.concatenate(self._blocks)
        return np.memmap(self._written(), dtype=np.float32, mode="r", shape=(self._rows, self._width))

    def _written(self) -> IO[bytes]:
        """The file, with all rows so far."""
        folder = self._folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = self._file or TemporaryFile(dir=folder)  # noqa: SIM115 — the map keeps it
            for block in self._blocks:
                file.write(np.ascontiguousarray(block).data)
            file.flush()
        except OSError as error:
            need = in_words(4 * self._rows * self._width)
            raise LikewiseError(
                f"the cache {folder} cannot hold the vectors, {need} so far ({error.strerror}); make room, or "
                "name another folder with cache= or LIKEWISE_CACHE."
            ) from error
        self._blocks, self._held = [], 0
        return file
