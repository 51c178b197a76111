"""Arrays, tensors and map-style Datasets as sources of items: vectors, or images already decoded."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from likewise.alike import check_dense
from likewise.data.decode import to_rgb
from likewise.data.frames import Frame, frame_table
from likewise.data.items import Items, Skipped, encode_source_labels, refuse_cut
from likewise.data.source import KINDS, NOT_FINITE, BadItem, Entry, Source, Wanted, sign, stat_line
from likewise.data.tables import read_vectors
from likewise.errors import LikewiseError

Array = npt.NDArray[Any]
_CHUNK = 65536  # rows of a vector array that are checked at once


@runtime_checkable
class MapDataset(Protocol):
    """torch's map-style Dataset: a length and items by row."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> object: ...


def find_array(source: object, wanted: Wanted) -> Source | Items:
    """Open an array, a tuple (array, labels), a frame or a map-style Dataset.

    Raises:
        LikewiseError: another type, no items, a wrong shape, or a number of labels that is not that of the items.
    """
    given: object = None
    if isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], np.ndarray | torch.Tensor):
        source, given = source
    if isinstance(source, np.ndarray | torch.Tensor):
        array = as_numpy(source)
        name = f"an array of shape {array.shape}"
        wanted.refuse(name, "an array")
        return from_array(name, array, None if wanted.labels == "none" else given, by_row=wanted.by_row)
    if isinstance(source, Frame):
        table = frame_table(source)
        return read_vectors(table.where, [table], wanted)
    if isinstance(source, MapDataset) and not isinstance(source, str | bytes | dict):
        return _from_dataset(source, wanted)
    raise LikewiseError(f"{type(source).__name__} is not a source of items: give {KINDS}.")


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """(N, D) vectors, which need no cache, and the reason for each row that is already known to be bad.

    ``ids`` are one for each row; None: the row numbers.
    """

    name: str
    values: Array
    labels: Sequence[object] | None
    ids: Sequence[str] | None = None
    notes: tuple[str, ...] = ()
    bad: dict[int, str] = field(default_factory=dict)

    def items(self) -> Items:
        """Items of kind "vectors". A float32 array without bad rows is shared, not copied.

        Raises:
            LikewiseError: no row can be used.
        """
        with np.errstate(over="ignore"):  # isfinite finds what overflows float32
            values = self.values.astype(np.float32, copy=False)
        chunks = []
        for at in range(0, len(values), _CHUNK):
            refuse_cut(self.values, self.name)
            chunks.append(np.isfinite(values[at : at + _CHUNK]).all(axis=1))
        finite = np.concatenate(chunks)
        bad = dict.fromkeys(np.flatnonzero(~finite).tolist(), NOT_FINITE) | self.bad
        rows = [row for row in range(len(values)) if row not in bad]
        if not rows:
            row, reason = next(iter(sorted(bad.items())))
            raise LikewiseError(f"none of the {len(values):,} vectors of {self.name} can be used: row {row}: {reason}.")
        labels, names = (None, ()) if self.labels is None else encode_source_labels([self.labels[row] for row in rows])
        ids = self.ids or [str(row) for row in range(len(values))]
        return Items(
            ids=tuple(ids[row] for row in rows),
            values=values[rows] if bad else values,
            kind="vectors",
            labels=labels,
            label_names=names,
            skipped=tuple(Skipped(id=ids[row], reason=bad[row]) for row in sorted(bad)),
            source=self.name,
            notes=self.notes,
        )


@dataclass(frozen=True, kw_only=True)
class ArrayImages:
    """Images in one array, in memory or memory-mapped."""

    name: str
    array: Array
    given: Sequence[object] | None
    path: Path | None
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Number of images."""
        return len(self.array)

    def signature(self) -> str | None:
        """Over the file's path, size and times; None for an array in memory."""
        return None if self.path is None else sign([str(self.path.absolute()), stat_line(self.path)])

    def entries(self) -> Iterator[Entry]:
        """One per row."""
        for row in range(len(self.array)):
            yield Entry(str(row), partial(self._read, row))

    def _read(self, row: int) -> Array:
        refuse_cut(self.array, self.name)
        return np.asarray(self.array[row])

    def labels(self, rows: Sequence[int]) -> list[object] | None:
        """The labels that were given; None without."""
        return None if self.given is None else [self.given[row] for row in rows]


@dataclass(frozen=True, kw_only=True)
class DatasetImages:
    """A map-style Dataset of images. One thread reads its items, since few Datasets are thread-safe."""

    name: str
    dataset: MapDataset
    with_labels: bool
    seen: dict[int, object] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing is chosen."""
        return ()

    @property
    def total(self) -> int:
        """Number of items."""
        return len(self.dataset)

    def signature(self) -> None:
        """None: a Dataset is code, so nothing tells whether its content has changed."""
        return None

    def entries(self) -> Iterator[Entry]:
        """One per row; what ``__getitem__`` raises becomes the reason to skip the item."""
        for row in range(len(self.dataset)):
            value, label = _get(self.dataset, row)
            self.seen[row] = label
            yield Entry(str(row), partial(_pixels, value), _held(value))

    def labels(self, rows: Sequence[int]) -> list[object] | None:
        """The labels in the (image, label) items; None if no item has one."""
        labels = [self.seen.get(row) for row in rows]
        return labels if self.with_labels and any(label is not None for label in labels) else None


def exact_images(source: Source, size: int) -> Items | None:
    """A uint8 array (N, size, size, 3) as Items that share its memory; None for any other source."""
    if not isinstance(source, ArrayImages) or source.array.dtype != np.uint8:
        return None
    if source.array.shape[1:] != (size, size, 3):
        return None
    labels, names = (None, ()) if source.given is None else encode_source_labels(source.given)
    ids = tuple(str(row) for row in range(source.total))
    return Items(
        ids=ids,
        values=source.array,
        kind="images",
        labels=labels,
        label_names=names,
        source=source.name,
        notes=source.notes,
    )


def as_numpy(value: Array | torch.Tensor) -> Array:
    """A tensor as an array, without a copy if NumPy has its dtype.

    Raises:
        LikewiseError: a tensor that is sparse, quantised or without values (meta); an array with masked values.
    """
    if np.ma.is_masked(value):
        raise LikewiseError(
            f"an array of shape {tuple(value.shape)} has masked values; fill them with filled(), or leave out "
            "their rows."
        )
    if isinstance(value, np.ndarray):
        return value
    check_dense("a tensor", value)
    value = value.detach().cpu().resolve_conj().resolve_neg()
    foreign = value.is_floating_point() and value.dtype not in (torch.float16, torch.float32, torch.float64)
    return (value.float() if foreign else value).numpy()


def from_array(
    name: str,
    array: Array,
    given: object,
    *,
    path: Path | None = None,
    by_row: Sequence[object] | None = None,
    ids: Sequence[str] | None = None,
    notes: tuple[str, ...] = (),
) -> Source | Items:
    """Items of (N, D) vectors, or a source of images.

    Args:
        name: what the user gave, for messages.
        array: the values.
        given: labels, one or several for each item; None without.
        path: the file that the array is a map of, so that a cache of its images is found again.
        by_row: labels from a file, instead of ``given``.
        ids: of the vectors; None: row numbers. Images have row numbers in any case.
        notes: what was chosen for the user.

    Raises:
        LikewiseError: no items, no numbers, a wrong shape, or another number of labels or ids.
    """
    if array.dtype.kind not in "buif":
        raise LikewiseError(f"{name} holds {array.dtype}, not numbers; give uint8 images or float vectors.")
    if array.ndim not in (2, 3, 4):
        raise LikewiseError(f"{name} has shape {array.shape}; give vectors (N, D) or images (N, H, W) or (N, H, W, C).")
    if array.size == 0:
        raise LikewiseError(f"{name} is empty; give {KINDS}.")
    labels = by_row if given is None or by_row is not None else label_list(given)
    if labels is not None and len(labels) != len(array):
        raise LikewiseError(f"{name} has {len(array):,} rows, but {len(labels):,} labels; give one label per item.")
    if ids is not None and len(ids) != len(array):
        raise LikewiseError(f"{name} has {len(array):,} rows, but {len(ids):,} ids; give one id per row.")
    if array.ndim == 2:
        return Vectors(name=name, values=array, labels=labels, ids=ids, notes=notes).items()
    return ArrayImages(name=name, array=array, given=labels, path=path, notes=notes)


def _from_dataset(dataset: MapDataset, wanted: Wanted) -> Source | Items:
    kind = type(dataset).__name__
    try:
        total = len(dataset)
    except (TypeError, NotImplementedError) as error:
        raise LikewiseError(f"{kind} has no length; give a map-style Dataset, with __len__ and __getitem__.") from error
    name = f"{kind} of {total:,} items"
    wanted.refuse(name, "a Dataset")
    wanted.refuse_rows(name, "a Dataset")
    if total == 0:
        raise LikewiseError(f"{kind} is empty; give {KINDS}.")
    first = next((value for value, _ in (_get(dataset, row) for row in range(total)) if _usable(value)), None)
    if isinstance(first, np.ndarray) and first.ndim == 1:
        return _vectors(dataset, name, len(first), with_labels=wanted.labels == "auto").items()
    if first is not None and not isinstance(first, np.ndarray | Image.Image):
        raise LikewiseError(
            f"{name} gives {type(first).__name__}; its items must be a PIL image, array or tensor, or (image, label)."
        )
    return DatasetImages(name=name, dataset=dataset, with_labels=wanted.labels == "auto")


def _usable(value: object) -> bool:
    return not isinstance(value, BadItem)


def _vectors(dataset: MapDataset, name: str, width: int, *, with_labels: bool) -> Vectors:
    values = np.zeros((len(dataset), width), dtype=np.float32)
    bad: dict[int, str] = {}
    labels: list[object] = []
    for row in range(len(dataset)):
        value, label = _get(dataset, row)
        labels.append(label)
        if isinstance(value, np.ndarray) and value.shape == (width,) and value.dtype.kind in "buif":
            with np.errstate(over="ignore"):
                values[row] = value
        else:
            bad[row] = str(value) if isinstance(value, BadItem) else f"not a vector of {width} numbers, as the first is"
    return Vectors(
        name=name,
        values=values,
        labels=labels if with_labels and any(label is not None for label in labels) else None,
        bad=bad,
    )


def _get(dataset: MapDataset, row: int) -> tuple[object, object]:
    """(value, label) of a Dataset's item. A tensor becomes an array. The value is a BadItem if the Dataset raised."""
    try:
        item = dataset[row]
    except Exception as error:  # the user's code may raise anything; one bad item must not end the work
        return BadItem(f"the Dataset raised {type(error).__name__}: {error}"), None
    value, label = item if isinstance(item, tuple | list) and len(item) == 2 else (item, None)
    if isinstance(value, torch.Tensor | np.ndarray):
        value = as_numpy(value)
    return value, _label(label)


def _held(value: object) -> int:
    """Bytes of an image in memory, about."""
    if isinstance(value, Image.Image):
        return value.width * value.height * len(value.getbands())
    return value.nbytes if isinstance(value, np.ndarray) else 0


def _pixels(value: object) -> Array:
    if isinstance(value, BadItem):
        raise value
    if isinstance(value, Image.Image):
        return np.asarray(value if value.mode.startswith("I;16") else to_rgb(value))
    if isinstance(value, np.ndarray):
        return value
    raise BadItem(f"{type(value).__name__} is not a PIL image, array or tensor")


def label_list(labels: object) -> list[object]:
    """One label, or a list of several, per item."""
    if isinstance(labels, np.ndarray | torch.Tensor):
        array = as_numpy(labels)
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim == 1:
            return _known(array)
        if array.ndim != 2 or array.dtype.kind not in "bui":
            raise LikewiseError(
                f"labels have shape {array.shape} and hold {array.dtype}; give one label per item, (N,), or several: "
                "integers (N, L) padded with −1, or bool (N, classes)."
            )
        if array.dtype == bool:
            return [np.flatnonzero(row).tolist() for row in array]
        return [[label for label in row if label >= 0] for row in array.tolist()]
    if isinstance(labels, Sequence) and not isinstance(labels, str):
        return [_label(label) for label in labels]
    raise LikewiseError(f"labels are given as {type(labels).__name__}; give a list or array, one label per item.")


def _known(labels: Array) -> list[object]:
    """One label per item as plain Python values; a negative integer means no label."""
    if labels.dtype.kind == "f":
        return list(labels)  # a float32 stays one: its 0.1 is that of float64, in text
    values = cast(list[Any], labels.tolist())
    return [None if label < 0 else label for label in values] if labels.dtype.kind == "i" else values


def _label(label: object) -> object:
    """A label as plain Python: tensor(3), numpy.int64(3) and 3 are equal. A list, set or 1-D array is several labels.

    A negative integer in an array or tensor means no label; a negative Python integer is a label.
    """
    if isinstance(label, torch.Tensor | np.ndarray | np.generic):
        if np.prod(label.shape) == 1:
            return _known(np.asarray(as_numpy(label) if isinstance(label, torch.Tensor) else label).reshape(1))[0]
        several = as_numpy(label) if isinstance(label, torch.Tensor) else np.asarray(label)
        if several.ndim != 1 or several.dtype.kind == "f":
            raise LikewiseError(
                f"a label of shape {several.shape} and type {several.dtype} is not one label; give one number or text, "
                "or a list of several."
            )
        return [each for each in _known(several) if each is not None]
    if not isinstance(label, Hashable | list | set):
        raise LikewiseError(f"a label of type {type(label).__name__} is not one label; give one number or text.")
    return label
