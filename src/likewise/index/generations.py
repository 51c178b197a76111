"""The folder of an index: files that never change, and a manifest that names those of the present generation.

``index.json`` is written last and replaces the former one at once, so that a reader, or a process that was killed,
leaves the former generation or the new one. It has a checksum of itself and of every file. A later ``save`` removes
files that no manifest names.

- ``items-N.parquet``: items that came together, with columns ``key``, ``id``, ``embedding``, and where there are some
  ``query_embedding``, ``content`` (a hash of the item) and those of the metadata;
- ``gone-N.npy``: keys of items in these files that are not in the index any more;
- ``engine-N.bin``: what an engine other than exact search has built.
"""

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from likewise.errors import LikewiseError
from likewise.files import as_path, atomic_write, from_json
from likewise.index.engine import Engine, Keys
from likewise.index.engines import KINDS
from likewise.index.items_table import Held, read_tables

MANIFEST, FORMAT = "index.json", 1
FORMER = ("index.parquet", "queries.parquet")  # of an earlier version
PARTS = "items-*.parquet"
FILES = (PARTS, "gone-*.npy", "engine-*.bin", *FORMER)
NONE: Keys = np.empty(0, np.int64)
_CHUNK = 1 << 22
_GROUP_ROWS = 65_536


class Manifest(NamedTuple):
    """What ``index.json`` says.

    Args:
        number: of the generation.
        about: the protocol, the engine, the promise.
        parts: files of items, in order.
        gone: the file of keys of items that are gone; empty if there are none.
        engine: the file of the engine; empty of exact search.
        sums: size and CRC-32 of every file.
    """

    number: int
    about: Mapping[str, Any]
    parts: tuple[str, ...]
    gone: str
    engine: str
    sums: Mapping[str, tuple[int, int]]

    def as_bytes(self) -> bytes:
        """JSON, with a checksum of the rest."""
        content = {
            "likewise index": FORMAT,
            "generation": self.number,
            "about": dict(self.about),
            "parts": list(self.parts),
            "gone": self.gone,
            "engine": self.engine,
            "sums": {name: list(sums) for name, sums in self.sums.items()},
        }
        return json.dumps({**content, "crc32": zlib.crc32(_canonical(content))}, indent=1).encode()


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def folder_of(folder: str | Path) -> Path:
    """The path of the folder of an index."""
    return as_path(folder, "the folder of the index")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an index. Raises LikewiseError when there is none, or it is damaged."""
    path = folder / MANIFEST
    if not path.is_file():
        old = ", but one of an earlier version, which has no checksums" if (folder / FORMER[0]).is_file() else ""
        raise LikewiseError(f"there is no index in {folder}{old}; make one with: likewise index RUN DATA.")
    try:
        content = from_json(path.read_bytes())
        told = content.pop("crc32")
        if content["likewise index"] != FORMAT:
            raise LikewiseError(
                f"{path} is of another version of likewise; make the index again: likewise index RUN DATA."
            )
        if told != zlib.crc32(_canonical(content)):
            raise ValueError
        return Manifest(
            number=content["generation"],
            about=content["about"],
            parts=tuple(content["parts"]),
            gone=content["gone"],
            engine=content["engine"],
            sums={name: (size, crc) for name, (size, crc) in content["sums"].items()},
        )
    except LikewiseError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise damaged(path) from None


def damaged(path: Path) -> LikewiseError:
    """What to raise when a file is not as it was written."""
    return LikewiseError(f"{path} is damaged; make the index again: likewise index RUN DATA --anew.")


def _checked(folder: Path, name: str, manifest: Manifest) -> Path:
    """A file of the index. Raises LikewiseError when its bytes are not those that were written. Cost: one pass."""
    try:
        sums = _sums(folder / name)
    except OSError:
        raise damaged(folder / name) from None
    if sums != manifest.sums[name]:
        raise damaged(folder / name)
    return folder / name


def _sums(path: Path) -> tuple[int, int]:
    """The size of a file and its CRC-32. Cost: one pass."""
    size = crc = 0
    with open(path, "rb") as file:
        while part := file.read(_CHUNK):
            size, crc = size + len(part), zlib.crc32(part, crc)
    return size, crc


def read(folder: Path) -> tuple[Manifest, Held, Keys, Engine | None]:
    """The present generation: its manifest, the items of all its files, the keys of those that are gone, the engine.

    A generation that is replaced meanwhile is read again. Raises LikewiseError when there is none or it is damaged.
    """
    while True:
        manifest = read_manifest(folder)
        try:
            held = read_tables([_checked(folder, name, manifest) for name in manifest.parts])
            gone = np.load(_checked(folder, manifest.gone, manifest), allow_pickle=False) if manifest.gone else NONE
            kind = KINDS.get(manifest.about["engine"])
            engine = kind.read(_checked(folder, manifest.engine, manifest)) if kind else None
            return manifest, held, gone, engine
        except (LikewiseError, OSError):
            if read_manifest(folder).number == manifest.number:
                raise


class Writer:
    """Writes the files of the next generation. Nothing is in use before ``finish``."""

    def __init__(self, folder: Path, present: Manifest | None) -> None:
        self.folder, self._present = folder, present
        self._number = (present.number if present else 0) + 1
        self._sums: dict[str, tuple[int, int]] = {}

    def keep(self, names: Sequence[str]) -> Sequence[str]:
        """Takes files of the present generation as they are."""
        for name in names:
            assert self._present is not None
            self._sums[name] = self._present.sums[name]
        return names

    def table(self, table: Any) -> str:
        """Writes a table of items; returns the name of its file."""
        import pyarrow.parquet as pq

        # Learned float32 numbers hardly compress; a dictionary would only take time.
        plain = {"compression": "NONE", "use_dictionary": False, "write_statistics": False}
        return self._written(
            f"items-{self._number}.parquet",
            lambda file: pq.write_table(table, file, row_group_size=_GROUP_ROWS, **plain),
        )

    def numbers(self, values: Keys) -> str:
        """Writes int64 numbers; returns the name of their file."""
        return self._written(f"gone-{self._number}.npy", lambda file: np.save(file, values))

    def engine(self, write: Callable[[Path], None]) -> str:
        """Lets an engine write itself to a path; returns the name of its file."""
        return self._written(f"engine-{self._number}.bin", lambda file: write(Path(file.name)))

    def _written(self, name: str, write: Callable[[BinaryIO], object]) -> str:
        with atomic_write(self.folder / name) as file:
            write(file)
        self._sums[name] = _sums(self.folder / name)
        return name

    def finish(self, about: Mapping[str, Any], parts: Sequence[str], gone: str, engine: str) -> Manifest:
        """Puts the new generation into use, and removes the files that it does not name."""
        manifest = Manifest(self._number, about, tuple(parts), gone, engine, self._sums)
        with atomic_write(self.folder / MANIFEST) as file:
            file.write(manifest.as_bytes())
        for pattern in FILES:
            for path in self.folder.glob(pattern):
                if path.name not in self._sums:
                    with suppress(OSError):
                        path.unlink()
        return manifest


def forget(folder: Path) -> None:
    """Removes the index of a folder, if there is one: its manifest first."""
    (folder / MANIFEST).unlink(missing_ok=True)
    for pattern in FILES:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


@contextmanager
def writing(folder: Path) -> Iterator[tuple[Writer, Manifest | None]]:
    """Yields what writes the next generation, and the present one if there is one. One process writes at a time."""
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        try:
            present = read_manifest(folder)
        except LikewiseError:  # none, or a damaged one: it is replaced
            present = None
        yield Writer(folder, present), present
