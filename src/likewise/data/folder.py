"""A folder of images as a source of items."""

import os
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from likewise.data.decode import IMAGE_SUFFIXES, BadItem, looks_like_image
from likewise.data.source import Entry, read_bytes, sign, stat_line
from likewise.text import utf8

# Suffixes of files that are often beside images. Such files are not opened to see whether they are images.
_OTHER_SUFFIXES = {
    *(".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".ini", ".yaml", ".yml", ".toml", ".xml", ".html", ".log"),
    *(".py", ".ipynb", ".npy", ".npz", ".pt", ".pth", ".pkl", ".safetensors", ".parquet", ".arrow", ".db", ".lock"),
    *(".pdf", ".zip", ".tar", ".gz", ".mp4", ".wav", ".mp3"),
}


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file that should be an image. If it is already known that it cannot be used, ``problem`` is the reason."""

    id: str
    path: str
    stat: str
    problem: str = ""

    def load(self) -> bytes:
        """The bytes. Raises BadItem if the file cannot be read."""
        if self.problem:
            raise BadItem(self.problem)
        return read_bytes(self.path)


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder of images. The label of an image is the name of its parent folder, if that is below this folder."""

    name: str
    files: tuple[ImageFile, ...]
    with_labels: bool

    @property
    def total(self) -> int:
        """Number of files."""
        return len(self.files)

    def signature(self) -> str:
        """A hash over every path, size and time."""
        parts = [os.path.abspath(self.name)]
        for file in self.files:
            parts += [file.id, file.stat, file.problem]
        return sign(parts)

    def entries(self) -> Iterator[Entry]:
        """One per file, sorted by id."""
        for file in self.files:
            yield Entry(file.id, file.load)

    def labels(self, rows: Sequence[int]) -> list[Hashable] | None:
        """The names of the parent folders, if at least two differ; None for an image that is beside these folders."""
        if not self.with_labels:
            return None
        above = [self.files[row].id.rpartition("/")[0] for row in rows]
        names: list[Hashable] = [folder.rpartition("/")[2] or None for folder in above]
        return names if len(set(names) - {None}) > 1 else None


def list_images(root: Path) -> tuple[list[ImageFile], list[Path]]:
    """(images sorted by id, other files) below ``root``. Follows links, except in a loop; ignores hidden names."""
    images: list[ImageFile] = []
    others: list[Path] = []
    _list(root, "", (os.path.realpath(root),), images, others)
    return sorted(images, key=lambda file: file.id), sorted(others)


def _list(folder: Path, prefix: str, above: tuple[str, ...], images: list[ImageFile], others: list[Path]) -> None:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        reason = "permission denied" if isinstance(error, PermissionError) else f"cannot be read ({error.strerror})"
        images.append(ImageFile(prefix or ".", str(folder), "", f"folder: {reason}"))
        return
    if any(entry.name == "cells.jsonl" for entry in entries):  # of ``likewise compare``, which also drew a plot here
        entries = [entry for entry in entries if entry.name != "compare.png"]
    for entry in entries:
        if entry.name.startswith("."):
            continue
        # Names that are not UTF-8 become readable text, so that ids can be printed and stored anywhere.
        id = prefix + utf8(entry.name).decode()
        if entry.is_dir():
            real = os.path.realpath(entry.path)
            if real not in above:
                _list(Path(entry.path), f"{id}/", (*above, real), images, others)
        else:
            image = _inspect(id, entry)
            if image is None:
                others.append(Path(entry.path))
            else:
                images.append(image)


def _inspect(id: str, entry: "os.DirEntry[str]") -> ImageFile | None:
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix in IMAGE_SUFFIXES:
        if entry.is_symlink() and not os.path.exists(entry.path):
            return ImageFile(id, entry.path, "", "file not found (a broken link)")
        if not entry.is_file():  # opening a pipe would wait forever
            return ImageFile(id, entry.path, "", "not a file")
    elif suffix in _OTHER_SUFFIXES or not entry.is_file():
        return None
    else:
        try:
            with open(entry.path, "rb") as file:
                if not looks_like_image(file.read(16)):
                    return None
        except OSError:
            return None
    try:
        return ImageFile(id, entry.path, stat_line(entry.path))
    except OSError:
        return ImageFile(id, entry.path, "", "file not found (deleted meanwhile)")
