"""A source cut into pieces, each read alone: what is embedded shard by shard is never decoded as a whole."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from likewise.data.array_files import IDS_BESIDE, ids_beside
from likewise.data.cache import cache_folder, decoded
from likewise.data.columns import Table
from likewise.data.folder import Folder
from likewise.data.items import Items, Skipped
from likewise.data.parquet import Parquet, ParquetVectors
from likewise.data.remote_sources import RemoteFolder
from likewise.data.source import NOT_FINITE, Wanted, full_name, opened, sign, stat_line
from likewise.data.sources import look_for
from likewise.data.tables import VectorColumns, vector_columns
from likewise.errors import LikewiseError
from likewise.files import as_path
from likewise.remote import Remote, is_url, open_url, without_secret

KINDS = "a folder of images, .parquet files or a .npy file of vectors"


class Piece(Protocol):
    """Some items of a source, which another process can read."""

    def blocks(self, most: int) -> Iterator[Items]:
        """The items in order, ``most`` at a time but the last, each with those left out before and among them."""


class Divided(Protocol):
    """A source whose items are read piece by piece."""

    @property
    def name(self) -> str:
        """What the user gave, for messages."""

    @property
    def kind(self) -> Literal["images", "vectors"]:
        """Of the items."""

    @property
    def total(self) -> int:
        """Number of items, good or bad."""

    @property
    def notes(self) -> Sequence[str]:
        """What was chosen for the user, one line each."""

    def signature(self) -> str:
        """A text that changes if the content may have changed."""

    def piece(self, start: int, stop: int) -> Piece:
        """The items from ``start`` to ``stop`` − 1."""


def divide(
    source: object,
    *,
    size: int,
    max_megapixels: float,
    key: str | None,
    image: str | None,
    columns: Sequence[str],
    split: str | None,
    cache: str | Path | None,
) -> Divided:
    """Open a source to read it in pieces. The arguments are those of ``open_items``. Nothing is decoded.

    Raises:
        LikewiseError: as ``open_items``; the source is of another kind than ``KINDS``.

    Cost: a list of the files, or the footers and the column of ids of parquet; memory for the ids while they are
    compared.
    """
    scratch = partial(cache_folder, cache)
    wanted = Wanted(labels="none", key=key, image=image, split=split, columns=tuple(columns), scratch=scratch)
    if isinstance(source, str | Path):
        path = open_url(str(source)) if is_url(source) else as_path(source, "DATA")
        if path.suffix.lower() == ".npy":
            file = path.found() if isinstance(path, Remote) else path if path.is_file() else None
            if file is not None:
                return _npy(file, wanted)
        if path.suffix.lower() not in (".npz", ".csv"):
            found = look_for(source, wanted)
            if isinstance(found, Folder | Parquet | RemoteFolder):
                return _Images(found, size, max_megapixels)
            if isinstance(found, ParquetVectors):
                return _Tables(found, vector_columns(found.name, found.tables, found.wanted))
    raise LikewiseError(f"shards are made of {KINDS}; of {_called(source)} make one file: --out FILE.parquet.")


def _called(source: object) -> str:
    return without_secret(str(source)) if isinstance(source, str | Path) else f"a {type(source).__name__}"


@dataclass(frozen=True)
class _Images:
    """Images in a folder, or in parquet; whole or a piece."""

    source: Folder | Parquet | RemoteFolder
    size: int
    megapixels: float

    kind: Literal["images"] = "images"

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def total(self) -> int:
        return self.source.total

    @property
    def notes(self) -> Sequence[str]:
        return self.source.notes

    def signature(self) -> str:
        return self.source.signature()

    def piece(self, start: int, stop: int) -> "_Images":
        return _Images(self.source.part(start, stop), self.size, self.megapixels)

    def blocks(self, most: int) -> Iterator[Items]:
        ids, pixels, skipped = list[str](), list[npt.NDArray[np.uint8]](), list[Skipped]()

        def block() -> Items:
            values = np.stack(pixels) if pixels else np.empty((0, self.size, self.size, 3), np.uint8)
            held = Items(ids=tuple(ids), values=values, kind="images", skipped=tuple(skipped), source=self.name)
            ids.clear()
            pixels.clear()
            skipped.clear()
            return held

        for outcome in decoded(self.source, self.size, self.megapixels):
            if outcome.pixels is None:
                skipped.append(Skipped(id=outcome.id, reason=str(outcome.reason)))
                continue
            ids.append(outcome.id)
            pixels.append(outcome.pixels)
            if len(ids) == most:
                yield block()
        if ids or skipped:
            yield block()


@dataclass(frozen=True)
class _Tables:
    """Vectors in parquet."""

    source: ParquetVectors
    columns: VectorColumns

    kind: Literal["vectors"] = "vectors"

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def total(self) -> int:
        return self.source.total

    @property
    def notes(self) -> Sequence[str]:
        return (*self.source.notes, *self.columns.notes)

    def signature(self) -> str:
        return self.source.signature()

    def piece(self, start: int, stop: int) -> "_SomeRows":
        return _SomeRows(tuple(self.source.part(start, stop)), self.columns)


@dataclass(frozen=True)
class _SomeRows:
    """A piece of vectors in parquet."""

    tables: tuple[Table, ...]
    columns: VectorColumns

    def blocks(self, most: int) -> Iterator[Items]:
        return _in_blocks(self.columns.read(self.tables), most)


def _npy(path: Path | Remote, wanted: Wanted) -> "_Npy":
    """A .npy file of vectors. Raises LikewiseError when it holds anything else, or ids of another number."""
    wanted.refuse(str(path), "a .npy file")
    try:
        with opened(path) as file:
            first = np.lib.format.read_magic(file) == (1, 0)
            read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
            (shape, by_column, dtype), start = read(file), file.tell()
    except (ValueError, EOFError, OSError) as error:
        raise _not_npy(path, error) from None
    if len(shape) != 2 or dtype.kind not in "buif" or by_column or not shape[0]:
        raise LikewiseError(
            f"{path} holds {dtype} of shape {shape}{', column by column' * by_column}; shards are made of {KINDS}, "
            "(N, D) row by row."
        )
    ids = _ids_of(path)
    if ids is not None and len(ids) != shape[0]:
        raise LikewiseError(
            f"{path} has {shape[0]:,} rows, but there are {len(ids):,} ids beside it; write both again."
        )
    return _Npy(path, shape[0], ids, 0, start, shape[1], dtype)


def _not_npy(path: Path | Remote, error: Exception) -> LikewiseError:
    if isinstance(error, LikewiseError):
        return error
    first = str(error).partition("\n")[0]
    return LikewiseError(f"{path} cannot be read as .npy ({first}); save it again with numpy.save.")


def _ids_of(path: Path | Remote) -> tuple[str, ...] | None:
    """The ids that ``likewise embed`` has written beside a .npy file; None if there are none."""
    beside = (
        replace(path, path=path.path[:-4] + IDS_BESIDE) if isinstance(path, Remote) else path.with_suffix(IDS_BESIDE)
    )
    return tuple(ids_beside(beside)) if beside.is_file() else None


@dataclass(frozen=True)
class _Npy:
    """Vectors of a .npy file, whole or a piece."""

    path: Path | Remote
    total: int
    ids: tuple[str, ...] | None
    first: int
    start: int  # the byte of the first row
    width: int
    dtype: "np.dtype[Any]"

    kind: Literal["vectors"] = "vectors"

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def notes(self) -> Sequence[str]:
        return () if self.ids is None else (f"{self.path}: the ids are those in the file {IDS_BESIDE} beside it.",)

    def signature(self) -> str:
        return sign([full_name(self.path), stat_line(self.path), *(self.ids or ())])

    def piece(self, start: int, stop: int) -> "_Npy":
        return replace(self, total=stop - start, ids=None if self.ids is None else self.ids[start:stop], first=start)

    def blocks(self, most: int) -> Iterator[Items]:
        size = self.width * self.dtype.itemsize
        with opened(self.path) as file:
            file.seek(self.start + self.first * size)
            content = file.read(self.total * size)
        if len(content) != self.total * size:
            raise LikewiseError(
                f"{self.path} ends within row {self.first + len(content) // max(1, size):,}; replace it."
            )
        with np.errstate(over="ignore"):  # what overflows float32 is found as not finite
            values = np.frombuffer(content, self.dtype).reshape(self.total, self.width).astype(np.float32)
        ids = self.ids or tuple(str(self.first + row) for row in range(self.total))
        finite = np.asarray(np.isfinite(values).all(axis=1))
        bad = np.flatnonzero(~finite).tolist()
        items = Items(
            ids=tuple(each for each, good in zip(ids, finite.tolist(), strict=True) if good),
            values=values[finite] if bad else values,
            kind="vectors",
            skipped=tuple(Skipped(id=ids[row], reason=NOT_FINITE) for row in bad),
        )
        return _in_blocks(items, most)


def _in_blocks(items: Items, most: int) -> Iterator[Items]:
    """Items in blocks; those left out are told with the first."""
    skipped: tuple[Skipped, ...] = items.skipped
    for start in range(0, max(1, len(items)), most):
        some: Any = slice(start, start + most)
        yield Items(ids=items.ids[some], values=items.values[some], kind="vectors", skipped=skipped)
        skipped = ()
