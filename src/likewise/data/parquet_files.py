"""Which parquet files a source has: patterns, the splits of Hugging Face's layout, and hive partitions."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import unquote

from likewise.data.items import as_id, unique, whole_number
from likewise.data.source import full_name
from likewise.errors import LikewiseError, closest
from likewise.remote import Remote

# The words by which Hugging Face finds a split in a file's or a folder's name, and the split that each stands for.
_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_WORD = re.compile(rf"(?<![a-z])({'|'.join(sorted(_WORDS, key=len, reverse=True))})(?![a-z])", re.IGNORECASE)
_SHARD = re.compile(r"([^/]+?)-\d{5}-of-\d{5}[^/]*$")  # extra-00000-of-00002.parquet is of the split "extra"
Where = TypeVar("Where", bound=Path | Remote, covariant=True)  # on this machine, or by URL
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, kw_only=True)
class ParquetPath(Generic[Where]):
    """A parquet file, and its name below the source, with "/"."""

    path: Where
    name: str

    @property
    def split(self) -> str | None:
        """The split in the name, such as "train"; None if it names none."""
        return split_of(self.name)

    @property
    def partitions(self) -> dict[str, str | None]:
        """Columns that folders stand for: the folder ``label=3`` has the value "3" in the column "label"."""
        pairs = [folder.partition("=") for folder in self.name.split("/")[:-1]]
        named = [(name, value) for name, sign, value in pairs if sign and name]
        return {unquote(name): None if value == _NO_VALUE else whole_number(unquote(value)) for name, value in named}


def split_of(name: str) -> str | None:
    """The split that a file's or a folder's name says."""
    shard, words = _SHARD.search(name), _WORD.findall(name)
    if words:
        return _WORDS[words[-1].lower()]
    return shard[1] if shard else None


def label_above(name: str, files: "Sequence[ParquetPath[Path | Remote]]") -> list[str]:
    """A note where a folder ``label=3`` is the source itself or above it, so that its name is not read."""
    first = files[0]
    above = Path(full_name(first.path)).parts[: -len(Path(first.name).parts)]
    folder = next((part for part in above if part.startswith("label=")), None)
    return [f"{name} lies in {folder}: give the folder above, and such names are the labels."] if folder else []


def below(root: Path, files: Sequence[Path]) -> list[ParquetPath[Path]]:
    """The files with their names below ``root``, in the order of the paths.

    The names are in Unicode's form NFC; where two are the same in it, the second one gets " (2)".
    """
    seen = dict[str, int]()
    return [
        ParquetPath(path=path, name=unique(as_id(path.relative_to(root).as_posix()), seen)) for path in sorted(files)
    ]


def is_pattern(text: str) -> bool:
    """Whether a path that does not exist is a pattern of several: it has ``*``, ``?`` or ``[``."""
    return has_magic(text)


def matching(pattern: str) -> list[ParquetPath[Path]]:
    """The parquet files that match a pattern such as ``data/train-*.parquet``; ``**`` stands for any folders.

    A file that several names lead to counts once.

    Raises:
        LikewiseError: no file matches, or one is no parquet file.
    """
    matches = [match for match in sorted(glob(pattern, recursive=True)) if os.path.isfile(match)]
    found = [Path(match) for match in {os.path.realpath(match): match for match in reversed(matches)}.values()]
    if not found:
        raise LikewiseError(f"no file matches {pattern}; write a pattern such as 'data/train-*.parquet', in quotes.")
    other = next((path for path in found if path.suffix.lower() != ".parquet"), None)
    if other is not None:
        raise LikewiseError(f"{pattern} matches {other}, but a pattern names .parquet files; for images give a folder.")
    fixed = Path(*[part for part, _ in zip(Path(pattern).parts, _fixed(pattern), strict=False)])
    return below(fixed, found)


def _fixed(pattern: str) -> list[str]:
    """The parts of a pattern above the first one that is a pattern, never the file's own name."""
    parts = list(Path(pattern).parts[:-1])
    return parts[: next((place for place, part in enumerate(parts) if has_magic(part)), len(parts))]


def of_split(
    name: str, files: Sequence[ParquetPath[Where]], split: str | None
) -> tuple[list[ParquetPath[Where]], list[str]]:
    """The files of a split, or all of them with a note if they are of several.

    Raises:
        LikewiseError: no file is of that split.
    """
    counts = Counter(file.split for file in files if file.split is not None)
    if split is None:
        listing = ", ".join(f"{each} ({count})" for each, count in sorted(counts.items()))
        note = f"{name}: the files of {len(counts)} splits are read as one: {listing}; choose one with split=."
        return list(files), [note] if len(counts) > 1 else []
    wanted = _WORDS.get(split.lower(), split)
    chosen = [file for file in files if file.split == wanted]
    if not chosen:
        has = f"Its splits are {', '.join(sorted(counts))}." if counts else "No file's name names a split."
        raise LikewiseError(f"{name} has no split {split!r}.{closest(split, counts)} {has}")
    return chosen, []
