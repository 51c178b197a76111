"""A folder of images, or parquet files, by URL: read through a file system of pyarrow, without a copy of the files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from glob import has_magic

from likewise.data.decode import IMAGE_SUFFIXES
from likewise.data.items import as_id, unique
from likewise.data.parquet import Parquet, ParquetVectors, is_own, open_parquet
from likewise.data.parquet_files import ParquetPath
from likewise.data.source import BadItem, Entry, Wanted, sign
from likewise.errors import LikewiseError
from likewise.remote import Remote, open_url, without_secret

KINDS = "a folder of images, a .parquet file, a folder or pattern of them"


@dataclass(frozen=True, kw_only=True)
class RemoteFolder:
    """A folder of images by URL, without labels. Ids are the paths below it."""

    name: str
    files: tuple[tuple[str, Remote], ...]  # ids, and the files

    @property
    def total(self) -> int:
        """Number of files."""
        return len(self.files)

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing is chosen."""
        return ()

    def signature(self) -> str:
        """A hash over every path, size and time."""
        return sign([text for _, file in self.files for text in (str(file), file.stat)])

    def part(self, start: int, stop: int) -> "RemoteFolder":
        """The files from ``start`` to ``stop`` − 1, as a source."""
        return replace(self, files=self.files[start:stop])

    def entries(self) -> Iterator[Entry]:
        """One per file, sorted by id."""
        for id, file in self.files:
            yield Entry(id, partial(_load, file))

    def labels(self, rows: Sequence[int]) -> None:
        """None: folders by URL are no labels."""


def _load(file: Remote) -> bytes:
    try:
        return file.read()
    except FileNotFoundError:
        raise BadItem("file not found (deleted meanwhile)") from None


def look_at_url(url: str, wanted: Wanted) -> RemoteFolder | Parquet | ParquetVectors:
    """Recognise what a URL names. Images are files with the suffix of an image; hidden files are ignored.

    Raises:
        LikewiseError: nothing is there, it is not understood, the service does not answer, or options do not fit.
    """
    name, at = without_secret(url), open_url(url)
    if has_magic(at.path):
        return open_parquet(name, _matching(name, at), wanted)
    if at.suffix == ".parquet" and (file := at.found()):
        return open_parquet(name, [ParquetPath(path=file, name=at.name)], wanted)
    found = [(file.path[len(at.path) :].strip("/"), file) for file in at.files()]
    shown = [(below, file) for below, file in found if not any(part.startswith(".") for part in below.split("/"))]
    images = [(as_id(below), file) for below, file in shown if file.suffix in IMAGE_SUFFIXES]
    if images:
        wanted.refuse(name, "a folder of images")
        wanted.refuse_rows(name, "a folder of images")
        seen = dict[str, int]()
        return RemoteFolder(name=name, files=tuple((unique(id, seen), file) for id, file in _sorted(images)))
    tables = [(below, file) for below, file in shown if file.suffix == ".parquet" and not is_own(file)]
    if tables:
        return open_parquet(name, [ParquetPath(path=file, name=as_id(below)) for below, file in tables], wanted)
    seen_there = f"{len(found):,} other files, such as {found[0][1].name}" if found else "nothing, or does not exist"
    raise LikewiseError(f"{name} holds {seen_there}; by URL give {KINDS}.")


def _sorted(images: Sequence[tuple[str, Remote]]) -> list[tuple[str, Remote]]:
    return sorted(images, key=lambda image: (image[0], image[1].path))


def _matching(name: str, pattern: Remote) -> list[ParquetPath[Remote]]:
    """The parquet files that match a pattern; ``*`` stands for any characters, ``/`` too."""
    parts = pattern.path.split("/")
    fixed = "/".join(parts[: next(place for place, part in enumerate(parts) if has_magic(part))])
    files = [file for file in replace(pattern, path=fixed).files() if fnmatchcase(file.path, pattern.path)]
    found = [file for file in files if file.suffix == ".parquet"]
    if not found:
        raise LikewiseError(f"no .parquet file matches {name}; write a pattern such as 's3://bucket/train-*.parquet'.")
    return [ParquetPath(path=file, name=as_id(file.path[len(fixed) :].strip("/"))) for file in found]


def holds_parquet(url: str) -> bool:
    """Whether a URL names parquet files, or a folder of them without images."""
    at = open_url(url)
    if has_magic(at.path) or at.suffix == ".parquet":
        return True
    suffixes = {file.suffix for file in at.files()}
    return ".parquet" in suffixes and suffixes.isdisjoint(IMAGE_SUFFIXES)
