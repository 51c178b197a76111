"""The interface between a source of images and the cache, and helpers that sources share."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from likewise.data.decode import BadItem
from likewise.data.items import add_text
from likewise.errors import LikewiseError

KINDS = "a folder of images, a .parquet file or a folder of them, a .npy file, an array or a map-style Dataset"


@dataclass(frozen=True, slots=True)
class Entry:
    """One item before decoding. ``load`` runs in a worker thread and returns a file's bytes or an array.

    ``load`` raises BadItem when the item cannot be read.
    """

    id: str
    load: Callable[[], bytes | npt.NDArray[Any]]


class Source(Protocol):
    """A source of images, as the cache uses it."""

    @property
    def name(self) -> str:
        """What the user gave, for messages."""

    @property
    def total(self) -> int:
        """Number of entries, good or bad."""

    def signature(self) -> str | None:
        """A text that changes if the content may have changed, computed without reading it. None: not known."""

    def entries(self) -> Iterator[Entry]:
        """All entries, always in the same order."""

    def labels(self, rows: Sequence[int]) -> Sequence[object] | None:
        """Labels of these entries; None without labels. Call it after ``entries`` was read to the end, or cached.

        A hashable value is one label; a list, set or array is several labels.
        """


def refuse_columns(name: str, kind: str, labels: str, key: str | None) -> None:
    """Raise LikewiseError if column names were given for a source without columns."""
    if labels not in ("auto", "none"):
        raise LikewiseError(f"labels={labels!r} names a column, but {name} is {kind}: use 'auto' or 'none'.")
    if key is not None:
        raise LikewiseError(f"key={key!r} names a column, but {name} is {kind}: leave key out.")


def read_bytes(path: str | Path) -> bytes:
    """A file's bytes.

    Raises:
        BadItem: with the reason in plain words.
    """
    try:
        return Path(path).read_bytes()
    except PermissionError as error:
        raise BadItem("permission denied") from error
    except FileNotFoundError as error:
        raise BadItem("file not found (a broken link, or deleted meanwhile)") from error
    except OSError as error:
        raise BadItem(f"cannot be read ({error.strerror})") from error


def stat_line(path: str | Path) -> str:
    """Size and times of a file: equal as long as nothing is written, even if somebody resets the mtime."""
    stat = os.stat(path)
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def sign(parts: Sequence[str]) -> str:
    """A blake2b hash over texts, hex."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        add_text(digest, part)
    return digest.hexdigest()
