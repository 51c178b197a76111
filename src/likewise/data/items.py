"""Items: every data source becomes ids, values, labels, and a list of the items that were left out."""

import csv
import hashlib
import io
import re
import shlex
import unicodedata
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch

from likewise.blocks import Block
from likewise.errors import LikewiseError
from likewise.files import atomic_write
from likewise.stamp import Stamp
from likewise.text import readable, utf8

Pixels = npt.NDArray[np.uint8]
Rows = Sequence[int] | npt.NDArray[np.integer[Any]] | torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """An item that was left out, and the reason in plain words."""

    id: str
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Items:
    """Items with ids, all of one size, with random access by row.

    Args:
        ids: N unique, stable names, in Unicode's form NFC; ``ids[r]`` is the id of row r of ``values``.
        values: images: uint8 (N, S, S, 3) RGB, usually a read-only memory map; vectors: float32 (N, D), finite.
        kind: "images" or "vectors".
        labels: int64 places in ``label_names``; None without labels. (N,): one label per item, −1 for an item without
            a label. (N, L): several labels per item, each once, padded with −1.
        label_names: the labels as text; whole numbers sort by value (2 before 10).
        skipped: the items left out, in the source's order.
        source: what the user gave, for messages.
        notes: what was chosen for the user when it was opened, one line each.
        path: the source in full, if it is a file or folder.
        columns: of a table with a column for each number of a vector, their names in order; else empty.
        blocks: of items of several parts, which are vectors: the columns of each part; else empty.
        parts: of such items, the source of each part in full, by name, if all are files or folders; else empty.

    Raises:
        LikewiseError: if ids, values and labels have different lengths, labels are neither (N,) nor (N, L), or an id
            occurs twice.
    """

    ids: tuple[str, ...]
    values: npt.NDArray[Any]
    kind: Literal["images", "vectors"]
    labels: npt.NDArray[np.int64] | None = None
    label_names: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    source: str = ""
    notes: tuple[str, ...] = ()
    path: str | None = None
    columns: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", tuple(map(as_id, self.ids)))
        n = len(self.ids)
        if len(self.values) != n:
            raise LikewiseError(f"{self.source}: {n} ids but {len(self.values)} values; give one id per value.")
        if self.labels is not None and len(self.labels) != n:
            raise LikewiseError(f"{self.source}: {n} items but {len(self.labels)} labels; give one label per item.")
        if self.labels is not None and self.labels.ndim not in (1, 2):
            raise LikewiseError(
                f"{self.source}: labels have shape {self.labels.shape}; give (N,), or (N, L) for several."
            )
        if len(set(self.ids)) != n:
            raise LikewiseError(f"{self.source}: some ids occur twice; ids must be unique.")

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        what = " × ".join(map(str, self.values.shape[1:]))
        what += f" ({', '.join(block.name for block in self.blocks)})" * bool(self.blocks)
        labels = "no labels" if self.labels is None else f"{len(self.label_names)} labels"
        return (
            f"Items({len(self)} {self.noun} of {what}, {labels}, {len(self.skipped)} skipped, source={self.source!r})"
        )

    @property
    def noun(self) -> str:
        """What the items are: images, vectors, or items of several parts."""
        return "items" if self.blocks else self.kind

    @property
    def pictured(self) -> bool:
        """Whether the items are images, or have a part of images."""
        return self.kind == "images" or any(block.kind == "image" for block in self.blocks)

    def picture(self, row: int) -> Pixels:
        """uint8 (S, S, 3): the image of an item, of its first part of images if it has several; grey if it lacks it."""
        value = np.asarray(self.values[row])
        if self.kind == "images":
            return value
        block = next(block for block in self.blocks if block.kind == "image")
        pixels = value[block.content] if value[block.stop] else np.full(block.width, 128)
        return pixels.reshape(block.size, block.size, 3).astype(np.uint8)

    def batch(self, rows: Rows) -> torch.Tensor:
        """A copy of the values of ``rows``, in that order: uint8 (B, S, S, 3) or float32 (B, D).

        Cost: B reads of contiguous rows, for any N.
        """
        self.refuse_cut()
        return torch.from_numpy(np.asarray(self.values)[_as_rows(rows)])

    def select(self, rows: Rows) -> "Items":
        """The items of ``rows``, in that order, with their ids and labels; ``label_names`` and ``skipped`` stay whole.

        Consecutive ascending rows share memory with this object; other rows are copied.
        """
        self.refuse_cut()
        rows = _as_rows(rows)
        run = len(rows) > 0 and rows[0] >= 0 and bool((np.diff(rows) == 1).all())
        index = slice(int(rows[0]), int(rows[-1]) + 1) if run else rows
        return replace(
            self,
            ids=tuple(self.ids[row] for row in rows.tolist()),
            values=self.values[index],
            labels=None if self.labels is None else self.labels[rows],
        )

    def each(self) -> Iterator[npt.NDArray[Any]]:
        """The values, one after the other. Looking at the file before each takes about a microsecond."""
        for value in self.values:
            self.refuse_cut()
            yield value

    def refuse_cut(self) -> None:
        """Raises LikewiseError when the file of the values became shorter: reading them would end the process."""
        refuse_cut(self.values, self.source)

    @cached_property
    def ids_hash(self) -> str:
        """blake2b (128 bit, hex) over the ids in order: equal only for equal ids in the same order. O(N), once."""
        digest = hashlib.blake2b(digest_size=16)
        for name in self.ids:
            add_text(digest, name)
        return digest.hexdigest()

    def stamp(self, name: str, one: str | None = None) -> Stamp:
        """What a file made from these items says of them: the source as typed, in full, and the ids' hash.

        ``one`` begins the names of the last two entries, where ``name`` is a plural.
        """
        path: Stamp = {} if self.path is None else {f"{name}_path": readable(self.path)}
        path |= {f"{name}_parts": shlex.join(map("=".join, self.parts.items()))} if self.parts else {}
        of = one or name
        return {name: readable(self.source), **path, f"{of}_items": len(self), f"{of}_ids_hash": self.ids_hash}


def refuse_cut(values: npt.NDArray[Any], source: str) -> None:
    """Raises LikewiseError when ``values`` are a memory map of a file that became shorter since it was opened."""
    mapped = values._mmap if isinstance(values, np.memmap) else None  # type: ignore[attr-defined]
    if mapped is not None and mapped.size() < len(mapped):
        raise LikewiseError(
            f"{values.filename} was cut short while {source} was read from it; start again."  # type: ignore[attr-defined]
        )


def content_digest(value: npt.NDArray[Any]) -> bytes:
    """A 128-bit hash of the value of an item: equal only for equal content."""
    return hashlib.blake2b(np.ascontiguousarray(value).tobytes(), digest_size=16).digest()


def add_text(digest: "hashlib.blake2b", text: str) -> None:
    """Hash ``text`` with its length, so that ("ab", "c") and ("a", "bc") differ."""
    data = text.encode("utf-8", "surrogatepass")
    digest.update(len(data).to_bytes(8, "little"))
    digest.update(data)


def as_id(text: str) -> str:
    """An id in Unicode's form NFC: "é" as one character and "e" with an accent after it are the same id."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def unique(id: str, seen: dict[str, int]) -> str:
    """``id``, or with a number behind it when it was given before."""
    while id in seen:
        seen[id] += 1
        id = f"{id} ({seen[id]})"
    seen[id] = 1
    return id


def text_of(value: object) -> str:
    """An id or a label as text; a whole number is written without a point, whatever type its column has."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    elif isinstance(value, Decimal) and value.is_finite():
        value = int(value) if value == value.to_integral_value() else f"{value:f}".rstrip("0")
    elif isinstance(value, float | np.floating):
        value = int(value) if float(value).is_integer() and not _may_be_rounded(value) else value
    return as_id(str(value))


def whole_number(text: str) -> str:
    """ "1" of "1.0", which is how pandas writes a whole number beside a row without one; other text as it is."""
    found = re.fullmatch(r"(0|-?[1-9][0-9]*)\.0+", text)
    return found[1] if found else text


def _may_be_rounded(value: float | np.floating[Any]) -> bool:
    """Whether its type has no place for every whole number of that size."""
    return abs(float(value)) >= 2.0 ** (np.finfo(type(value)).nmant + 1)


def encode_labels(labels: Iterable[Hashable]) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Turn hashable labels into (int64 (N,) places in the names, names). None, NaN, NA and "" become −1: no label.

    Labels with the same text (1, 1.0 and "1"; the two Unicode forms of "é") are the same label; True and 1 are two. A
    tuple is one label. Whole numbers sort by value, other names naturally ("a2" before "a10").
    """
    texts = [_label_text(label) for label in labels]
    names, row = _name_rows(texts)
    return np.array([row.get(text, -1) for text in texts], dtype=np.int64), names


def encode_label_sets(labels: Iterable[object]) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Turn several labels per item into (int64 (N, L) places in the names, padded with −1; names).

    L is the largest number of labels of an item, at least 1. Each row is in ascending order.

    Args:
        labels: for each item a list, tuple, set or 1-D array of labels, or one label. Single labels are read as in
            :func:`encode_labels`; a label given twice counts once.

    Raises:
        LikewiseError: a label that is not hashable, or labels that look like one column of 0 and 1 per class.
    """
    sets = [_label_set(label) for label in labels]
    if sets and len(sets[0]) > 2 and all(len(each) == len(sets[0]) and set(each) <= {0, 1} for each in sets):
        raise LikewiseError(
            f"labels hold {len(sets[0])} times 0 or 1 for every item, which looks like a column per class: give a bool "
            "array (N, classes), or each item's label numbers."
        )
    texts = [{_label_text(label) for label in each} - {""} for each in sets]
    names, row = _name_rows(set[str]().union(*texts))
    index = np.full((len(texts), max(1, max(map(len, texts), default=1))), -1, dtype=np.int64)
    for place, each in enumerate(texts):
        index[place, : len(each)] = sorted(row[text] for text in each)
    return index, names


def encode_source_labels(labels: Sequence[object]) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """A source's labels: :func:`encode_label_sets` if any is a list, set or array, else :func:`encode_labels`."""
    if any(isinstance(label, list | set | frozenset | np.ndarray) for label in labels):
        return encode_label_sets(labels)
    return encode_labels(labels)


def write_skipped(items: Items, path: str | Path) -> None:
    """Write the skipped items as CSV with the columns ``id,reason``, atomically; only the header if there are none.

    Raises:
        OSError: when the file cannot be written.
    """
    with atomic_write(path) as file:
        file.write(skipped_csv(items.skipped))


def skipped_csv(skipped: Iterable[Skipped]) -> bytes:
    """Items that were left out as CSV with the columns ``id,reason``; only the header if there are none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "reason"])
    writer.writerows([item.id, item.reason] for item in skipped)
    return utf8(text.getvalue())


def describe(items: Items) -> str:
    """One line such as "5,000 images, 10 labels, 3 skipped"; parts that do not apply are left out."""
    parts = [_count(len(items), items.noun.removesuffix("s"))]
    if items.blocks:
        parts[0] += f" of {_count(len(items.blocks), 'part')} ({', '.join(block.name for block in items.blocks)})"
    if items.labels is not None:
        parts.append(_count(len(items.label_names), "label"))
    if items.skipped:
        parts.append(f"{len(items.skipped):,} skipped")
    return ", ".join(parts)


def _name_rows(texts: Iterable[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """The names in order, and the place of each."""
    names = tuple(sorted(set(texts) - {""}, key=_natural))
    return names, {name: index for index, name in enumerate(names)}


def _label_text(label: Hashable) -> str:
    """A label as text; empty for no label. NaN is not equal to itself; comparing pandas' NA raises TypeError."""
    try:
        if label is None or label != label:
            return ""
    except TypeError:
        return ""
    if isinstance(label, float | np.floating) and np.isfinite(label) and _may_be_rounded(label):
        raise LikewiseError(
            f"the label {label} is a {np.dtype(type(label))}, which has no place for every whole number of that size, "
            "so that two labels may have become one; give whole numbers or text."
        )
    return text_of(label)


def _label_set(label: object) -> list[Hashable]:
    """The labels of one item."""
    if isinstance(label, torch.Tensor):
        label = label.detach().cpu().numpy()
    if isinstance(label, np.ndarray):
        label = label.reshape(-1).tolist() if label.ndim < 2 else [label]  # more axes: refused below
    labels = list(label) if isinstance(label, list | tuple | set | frozenset) else [label]
    labels = [each.item() if isinstance(each, torch.Tensor) and each.numel() == 1 else each for each in labels]
    wrong = next((each for each in labels if not isinstance(each, Hashable) or isinstance(each, torch.Tensor)), None)
    if wrong is not None:
        raise LikewiseError(f"a label of type {type(wrong).__name__} is not one label; give one number or text.")
    return cast(list[Hashable], labels)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _as_rows(rows: Rows) -> npt.NDArray[np.int64]:
    if isinstance(rows, torch.Tensor):
        rows = rows.detach().cpu().numpy()
    array = np.asarray(rows)
    if array.dtype == bool:
        raise LikewiseError("rows must be row numbers, not a mask of True and False; use numpy.flatnonzero(mask).")
    return array.astype(np.int64).reshape(-1)


def _natural(text: str) -> tuple[int, tuple[int | str, ...], str]:
    """Whole numbers first, by value; then text with its runs of digits compared as numbers."""
    if re.fullmatch(r"-?[0-9]{1,18}", text):
        return (0, (int(text),), text)
    parts = re.split(r"([0-9]{1,18})", text)
    return (1, tuple(int(part) if odd % 2 else part for odd, part in enumerate(parts)), text)
