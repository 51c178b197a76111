"""The interface between a source of images and the cache, and helpers that sources share."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from likewise.data.items import add_text
from likewise.errors import LikewiseError
from likewise.remote import Remote

KINDS = (
    "a folder of images, a .parquet file or a folder of them, a .npy, .npz or .csv file, an array, a DataFrame or a "
    "map-style Dataset"
)
NOT_FINITE = "not finite (holds NaN, infinity, or more than float32 can)"
NO_VECTOR, NO_TEXT, NO_IMAGE = "no vector (null)", "no text", "no image bytes (null)"  # nothing is there
MEGAPIXELS = 256.0  # of the largest image that is decoded; phones make 200


class BadItem(Exception):
    """One item cannot be used; the text is the reason. The item is skipped and nothing else stops."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the user named of a source. All but "auto" and "none" are for tables, which have columns.

    Args:
        labels: "auto", "none", or the column of the labels.
        key: the column of the ids.
        image: the column of the images.
        split: of the files, read those of this split only, such as "train".
        columns: the columns of the vectors: one of lists, or several of numbers; names or patterns such as "pixel*".
        by_row: labels from a file, one for each row; ``labels`` is then "none".
        part: of items of several parts, the name of this one: the column that is called so is its content.
        words: number of columns that the words of a part are hashed to; 0: text is no content.
        scratch: gives the folder in which a temporary file is made for many vectors.
    """

    labels: str = "auto"
    key: str | None = None
    image: str | None = None
    split: str | None = None
    columns: tuple[str, ...] = ()
    by_row: Sequence[object] | None = None
    part: str = ""
    words: int = 0
    scratch: Callable[[], Path] = Path

    def refuse(self, name: str, kind: str) -> None:
        """Raise LikewiseError if a column or a split is named, as ``kind`` has none."""
        if self.labels not in ("auto", "none"):
            raise LikewiseError(
                f"labels={self.labels!r} names a column, but {name} is {kind}: use 'auto', 'none', or a file of labels "
                "that ends in .npy, .parquet or .csv."
            )
        for option, value in (("key", self.key), ("image", self.image), ("columns", ",".join(self.columns))):
            if value:
                raise LikewiseError(f"{option}={value!r} names a column, but {name} is {kind}: leave {option} out.")
        if self.split is not None:
            raise LikewiseError(
                f"split={self.split!r} chooses among parquet files, but {name} is {kind}: leave split out, or give the "
                "part itself."
            )

    def refuse_rows(self, name: str, kind: str) -> None:
        """Raise LikewiseError if the file of labels has no ids, as ``kind`` has no rows that a user knows."""
        if self.by_row is not None:
            raise LikewiseError(
                f"a .npy file of labels has one for each row, but {name} is {kind}: give labels by id, as a "
                ".parquet or .csv file with the columns id and label."
            )


@dataclass(frozen=True, slots=True)
class Entry:
    """One item before decoding. ``load`` runs in a worker thread and returns a file's bytes or an array.

    ``load`` raises BadItem when the item cannot be read. ``held`` is the number of bytes in memory until it is called.
    """

    id: str
    load: Callable[[], bytes | npt.NDArray[Any]]
    held: int = 0


class Source(Protocol):
    """A source of images, as the cache uses it."""

    @property
    def name(self) -> str:
        """What the user gave, for messages."""

    @property
    def total(self) -> int:
        """Number of entries, good or bad."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was chosen for the user, one line each."""

    def signature(self) -> str | None:
        """A text that changes if the content may have changed, computed without reading it. None: not known."""

    def entries(self) -> Iterator[Entry]:
        """All entries, always in the same order."""

    def labels(self, rows: Sequence[int]) -> Sequence[object] | None:
        """Labels of these entries; None without labels. Call it after ``entries`` was read to the end, or cached.

        A hashable value is one label; a list, set or array is several labels.
        """


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


@contextmanager
def opened(path: Path | Remote) -> Iterator[Any]:
    """A file, open for reading."""
    with path.opened() if isinstance(path, Remote) else open(path, "rb") as file:
        yield file


def full_name(path: Path | Remote) -> str:
    """The absolute path, or the URL."""
    return str(path) if isinstance(path, Remote) else os.path.abspath(path)


def stat_line(path: str | Path | Remote) -> str:
    """Size and times of a file: equal as long as nothing is written, even if somebody resets the mtime."""
    if isinstance(path, Remote):
        return path.stat
    stat = os.stat(path)
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def sign(parts: Sequence[str]) -> str:
    """A blake2b hash over texts, hex."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        add_text(digest, part)
    return digest.hexdigest()
