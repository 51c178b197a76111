"""A corpus as numbers, in a file that is read in parts: what is in memory does not depend on its length."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from likewise.errors import LikewiseError

CORPUS = "corpus.bin"  # in a run folder: int32, little-endian, the number of each word, and −1 after each sequence
PART = 1 << 20  # numbers that are read at once

Ids = npt.NDArray[np.int32]


class Corpus:
    """The numbers of a file.

    Args:
        path: of the file. Another file may take the name meanwhile.

    Raises:
        LikewiseError: the file is missing or cut off.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("rb")
            size = path.stat().st_size
        except OSError:
            size = 1
        if size % 4:
            raise LikewiseError(f"{path} is missing or damaged, which holds the words of the run; start a new run.")
        self._length = size // 4

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> Ids:
        """The numbers of a part, read from the file."""
        start, stop, _ = part.indices(self._length)
        self._file.seek(4 * start)
        return np.fromfile(self._file, "<i4", max(0, stop - start))
