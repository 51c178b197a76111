"""The folder of shards, on this machine's file system or by URL."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from likewise.errors import LikewiseError
from likewise.files import as_path, atomic_write, make_writable, refuse_device
from likewise.remote import Remote, is_url, open_url


class Place(Protocol):
    """A folder of files that are written whole or not at all."""

    def names(self) -> list[str]:
        """Of the files in it but hidden ones, sorted; none where there is no folder."""

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""

    def read(self, name: str) -> bytes:
        """The bytes of a file. Raises FileNotFoundError when there is none."""

    def open(self, name: str) -> Any:
        """A context with an open file, for pyarrow. Raises FileNotFoundError when there is none."""

    def write(self, name: str, content: bytes) -> None:
        """A file with these bytes, in place of one of this name."""

    def remove(self, name: str) -> None:
        """Removes a file."""

    def ready(self) -> None:
        """Makes the folder. Raises LikewiseError when nothing can be written there."""


@dataclass(frozen=True)
class Folder:
    """A folder of this machine's file system."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def names(self) -> list[str]:
        """Of the files in it, sorted; none where there is no folder."""
        names = sorted(each.name for each in self.path.iterdir()) if self.path.is_dir() else []
        return [name for name in names if not name.startswith(".")]  # a process that was killed leaves temporaries

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return (self.path / name).is_file()

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        return (self.path / name).read_bytes()

    @contextmanager
    def open(self, name: str) -> Iterator[Any]:
        """A file that is read."""
        with open(self.path / name, "rb") as file:
            yield file

    def write(self, name: str, content: bytes) -> None:
        """A file with these bytes; the former stays until all are on disk."""
        with atomic_write(self.path / name) as file:
            file.write(content)

    def remove(self, name: str) -> None:
        """Removes a file."""
        (self.path / name).unlink(missing_ok=True)

    def ready(self) -> None:
        """Makes the folder. Raises LikewiseError when nothing can be written there."""
        refuse_device(self.path)
        if self.path.is_file():
            raise LikewiseError(f"{self.path} is a file, and shards need a folder; choose another --out.")
        make_writable(self.path, f"can't write into {self.path}")


@dataclass(frozen=True)
class RemoteFolder:
    """A folder by URL."""

    at: Remote

    def __str__(self) -> str:
        return str(self.at)

    def names(self) -> list[str]:
        """Of the files in it, sorted; none where there is no folder."""
        return [file.name for file in self.at.files(recursive=False)]

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return self.at.below(name).is_file()

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        return self.at.below(name).read()

    @contextmanager
    def open(self, name: str) -> Iterator[Any]:
        """A file that is read."""
        with self.at.below(name).opened() as file:
            yield file

    def write(self, name: str, content: bytes) -> None:
        """A file with these bytes; the former stays until all are there."""
        self.at.below(name).write(content)

    def remove(self, name: str) -> None:
        """Removes a file."""
        self.at.below(name).remove()

    def ready(self) -> None:
        """Makes the folder."""
        with self.at.said():
            self.at.fs.create_dir(self.at.path, recursive=True)


def place_of(out: str | Path, what: str = "--out") -> Place:
    """The folder that a path or URL names. Raises LikewiseError when it can't be one."""
    return RemoteFolder(open_url(str(out))) if is_url(out) else Folder(as_path(out, what))


def is_folder_of_shards(out: str) -> bool:
    """Whether ``--out`` names a folder of shards, and not one file: it ends with /, or is a URL."""
    return is_url(out) or out.endswith(("/", "\\"))
