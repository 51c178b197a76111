"""A folder of images as a source of items."""

import os
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from likewise.data.decode import IMAGE_SUFFIXES, looks_like_image
from likewise.data.items import as_id, unique
from likewise.data.source import BadItem, Entry, read_bytes, sign, stat_line
from likewise.plots import HEAD, is_drawn
from likewise.text import quoted, utf8

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
    notes: tuple[str, ...]

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

    def part(self, start: int, stop: int) -> "Folder":
        """The files from ``start`` to ``stop`` − 1, as a source."""
        return replace(self, files=self.files[start:stop])

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


class Listing(NamedTuple):
    """What lies below a folder."""

    images: list[ImageFile]  # sorted by id
    others: list[Path]  # sorted
    notes: tuple[str, ...]  # on links


def list_images(root: Path) -> Listing:
    """All files below ``root`` but those with hidden names, each once.

    What lies in the folder itself comes first, then what its links lead to, in the order of the links' names: an image
    or a folder that is there already is left out. Ids are in Unicode's form NFC. Where two names are the same in it,
    the second one gets " (2)".
    """
    walk = _Walk(root)
    walk.folder(root, "", os.path.realpath(root))
    walk.links()
    seen = dict[str, int]()
    in_order = sorted(walk.images, key=lambda file: (file.id, file.path))
    images = [replace(image, id=unique(image.id, seen)) for image in in_order]
    return Listing(sorted(images, key=lambda file: file.id), sorted(walk.others), tuple(walk.notes(root)))


def one_class(root: str, files: Sequence[ImageFile]) -> list[str]:
    """A note where all images that are in a folder below ``root`` are in folders of one name: they have no labels."""
    names = {file.id.rpartition("/")[0].rpartition("/")[2] for file in files} - {""}
    return [f"{root} has one class only ({names.pop()!r}), so its images have no labels."] if len(names) == 1 else []


class _Walk:
    """Goes through a folder, and then through what its links lead to."""

    def __init__(self, root: Path) -> None:
        self.images: list[ImageFile] = []
        self.others: list[Path] = []
        self.followed: list[tuple[str, str]] = []  # links: id, target
        self.left_out: list[tuple[str, str]] = []
        self._root = os.path.realpath(root)
        self._folders: set[str] = set()  # real paths
        self._files: set[str] = set()  # real paths of the images
        self._other_files: set[str] = set()
        self._links: list[tuple[str, os.DirEntry[str]]] = []

    def folder(self, folder: str | Path, prefix: str, real: str) -> None:
        """Everything below a folder, whose real path is ``real``; links are kept for later. It does not recurse."""
        todo = [(os.fspath(folder), prefix, real)]
        while todo:
            path, prefix, real = todo.pop()
            if real in self._folders:
                continue
            self._folders.add(real)
            try:
                entries = list(os.scandir(path))
            except OSError as error:
                denied = isinstance(error, PermissionError)
                reason = "permission denied" if denied else f"cannot be read ({error.strerror})"
                self.images.append(ImageFile(prefix or ".", path, "", f"folder: {reason}"))
                continue
            names = {entry.name for entry in entries}
            for entry in entries:
                if entry.name.startswith(".") or _is_plot(entry, names):
                    continue
                # Names that are not UTF-8 become readable text, so that ids can be printed and stored anywhere.
                id = prefix + as_id(utf8(entry.name).decode())
                inside = os.path.join(real, entry.name)
                if entry.is_symlink():
                    self._links.append((id, entry))
                elif entry.is_dir():
                    junctions = os.name == "nt"  # links that are no symbolic links
                    todo.append((entry.path, f"{id}/", os.path.realpath(inside) if junctions else inside))
                else:
                    self._file(id, entry, inside)

    def links(self) -> None:
        """What the links lead to, where it was not met before; also the links within."""
        while self._links:
            links, self._links = sorted(self._links, key=lambda link: (link[0], link[1].path)), []
            for id, entry in links:
                real = os.path.realpath(entry.path)
                if real in self._folders or real in self._files:
                    self.left_out.append((id, real))
                    continue
                before = len(self.images)
                if os.path.isdir(entry.path):  # entry.is_dir() raises for a link to itself
                    self.folder(entry.path, f"{id}/", real)
                else:
                    self._file(id, entry, real)
                if os.path.exists(real) and len(self.images) > before:
                    self.followed.append((id, real))

    def _file(self, id: str, entry: "os.DirEntry[str]", real: str) -> None:
        image = _inspect(id, entry)
        if image is None and real not in self._other_files:
            self.others.append(Path(entry.path))
            self._other_files.add(real)
        elif image is not None:
            self.images.append(image)
            self._files.add(real)

    def notes(self, root: Path) -> Iterator[str]:
        """What was done with links, in a line each."""
        said = (
            (self.followed, f"{root}: followed"),
            (self.left_out, f"{root}: left out, since their files are read already:"),
        )
        for links, what in said:
            if links:
                id, real = links[0]
                target = os.path.relpath(real, self._root) if real.startswith(self._root + os.sep) else real
                shown = utf8(target).decode()
                number = f"{len(links):,} {'link' if len(links) == 1 else 'links'}"
                yield f"{what} {number} (such as {quoted(id)} to {quoted(shown)})."


def _is_plot(entry: "os.DirEntry[str]", names: set[str]) -> bool:
    """Whether likewise drew this PNG. It draws an SVG beside it, so only a PNG beside an SVG is looked into."""
    stem, suffix = os.path.splitext(entry.name)
    if suffix != ".png" or f"{stem}.svg" not in names or not os.path.isfile(entry.path):
        return False
    try:
        with open(entry.path, "rb") as file:
            return is_drawn(file.read(HEAD))
    except OSError:
        return False


def _inspect(id: str, entry: "os.DirEntry[str]") -> ImageFile | None:
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix in IMAGE_SUFFIXES:
        if entry.is_symlink() and not os.path.exists(entry.path):
            return ImageFile(id, entry.path, "", "file not found (a broken link)")
        if not os.path.isfile(entry.path):  # opening a pipe would wait forever
            return ImageFile(id, entry.path, "", "not a file")
    elif suffix in _OTHER_SUFFIXES or not os.path.isfile(entry.path):
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
