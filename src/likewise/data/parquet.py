"""Parquet files with an image column (Hugging Face style) as a source of items."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from likewise.data.items import text_of
from likewise.data.parquet_files import ParquetPath, of_split
from likewise.data.parquet_schema import (
    NEEDED,
    column_type,
    holds_ids,
    holds_labels,
    image_columns,
    image_parts,
    is_images,
    is_number,
)
from likewise.data.source import KINDS, BadItem, Entry, Wanted, sign, stat_line
from likewise.errors import LikewiseError
from likewise.files import utf8_path

_BYTES = 8 << 20  # of a batch of images; a single image may be larger
_MOST = 64  # images of a batch
_ROWS = 65536  # of a batch of ids or labels
_ROW_NAME = re.compile(r"(^| )row \d+$")  # see ParquetFile.row_name
_BUFFER = 1 << 20  # a file is read in such pieces, so that memory holds no whole row group


@dataclass(frozen=True, kw_only=True)
class ParquetFile:
    """One file of a source, and its columns of images."""

    path: Path
    name: str  # stands before "row 7" in ids; empty for a file alone
    rows: int
    bytes_column: str  # as parquet names it: "image.bytes" of a struct, or "image"
    path_column: str | None  # "image.path"
    partitions: dict[str, str | None]  # columns that its folders stand for

    def row_name(self, row: int) -> str:
        """The id of a row that has no other."""
        return f"{self.name} row {row}".lstrip()

    def images(self, beside: str | None) -> Iterator[tuple[Any, object]]:
        """For each row its bytes, as an Arrow scalar, and its value in the column ``beside``."""
        inside = [beside] if beside is not None and beside not in self.partitions else []
        reads = [self.bytes_column, *inside]
        above = self.partitions.get(beside or "")
        with reading(self.path) as file:
            for group in range(file.metadata.num_row_groups):
                about = file.metadata.row_group(group)
                parts = file.iter_batches(batch_size=_rows_at_once(about, reads), row_groups=[group], columns=reads)
                for batch in all_of(self.path, parts, about.num_rows):
                    values = _leaf(batch, inside[0]).to_pylist() if inside else [above] * len(batch)
                    yield from zip(_leaf(batch, self.bytes_column), values, strict=True)

    def column(self, name: str) -> Iterator[object]:
        """The values of a column of ids or labels."""
        if name in self.partitions:
            yield from [self.partitions[name]] * self.rows
            return
        with reading(self.path) as file:
            for batch in all_of(self.path, file.iter_batches(batch_size=_ROWS, columns=[name]), self.rows):
                yield from _leaf(batch, name).to_pylist()


@dataclass(frozen=True, kw_only=True)
class Parquet:
    """Parquet files with an image column, read in batches of a few megabytes."""

    name: str
    files: tuple[ParquetFile, ...]
    key_column: str | None
    label_column: str | None
    repeated: frozenset[str]  # paths that are no ids, as several rows have them or could have them
    notes: tuple[str, ...]

    @property
    def total(self) -> int:
        """Number of rows."""
        return sum(file.rows for file in self.files)

    def signature(self) -> str:
        """A hash over the path, size and times of every file, and the columns."""
        parts = [self.key_column or ""]
        for file in self.files:
            parts += [file.bytes_column, file.name, os.path.abspath(file.path), stat_line(file.path)]
        return sign(parts)

    def entries(self) -> Iterator[Entry]:
        """One per row, in the files' order."""
        for file in self.files:
            for row, (image, name) in enumerate(file.images(self.key_column or file.path_column)):
                yield self._entry(file.row_name(row), image, "" if name is None else text_of(name))

    def labels(self, rows: Sequence[int]) -> list[object] | None:
        """The label column at these rows; a column of lists gives several labels per item."""
        if self.label_column is None:
            return None
        values = [value for file in self.files for value in file.column(self.label_column)]
        return [values[row] for row in rows]

    def _entry(self, row: str, image: Any, name: str) -> Entry:
        if self.key_column and not name:
            return Entry(row, partial(_fail, f"no id (column {self.key_column!r} is empty)"))
        id = row if not name or name in self.repeated else name
        data = image.as_py()
        if data is None:
            return Entry(id, partial(_fail, "no image bytes (null)"))
        return Entry(id, lambda: data, len(data))


def is_own(path: Path) -> bool:
    """Whether likewise wrote the file, such as an index in a run folder among the data. Reads the footer only."""
    import pyarrow
    from pyarrow import parquet

    try:
        with open(path, "rb") as file:
            return b"likewise" in (parquet.read_schema(file).metadata or {})
    except (pyarrow.ArrowException, OSError):
        return False  # open_parquet says what is wrong with it


def open_parquet(name: str, paths: Sequence[ParquetPath], wanted: Wanted, notes: Sequence[str] = ()) -> Parquet:
    """Read the schemas of the files, choose files and columns, count the rows, find ids that repeat.

    Raises:
        LikewiseError: a damaged file, no image column, a missing or unfit column, labels of different types, a key
            that repeats, no such split, or no rows.
    """
    alone = len(paths) == 1  # before a split is chosen, so that ids are those of the whole
    paths, said = of_split(name, paths, wanted.split)
    notes = [*notes, *said]
    looks = [_look(path) for path in paths]
    if sum(look.rows for look in looks) == 0:
        raise LikewiseError(f"{name} holds no rows; give {KINDS}.")
    image, said = (wanted.image, []) if wanted.image is not None else _first_image(looks[0])
    notes += said
    label, said = _label_column(wanted.labels, looks)
    notes += said
    if wanted.key is not None:
        _check_key(wanted.key, looks)
    files = [_with_images(look, image, name="" if alone else look.name) for look in looks]
    repeated, said = _repeated(name, files, wanted.key)
    return Parquet(
        name=name,
        files=tuple(files),
        key_column=wanted.key,
        label_column=label,
        repeated=repeated,
        notes=(*notes, *said),
    )


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What is known of a file before its columns are chosen."""

    path: Path
    name: str
    rows: int
    schema: Any
    partitions: dict[str, str | None]  # without those that are columns of the file as well

    def has(self, column: str) -> bool:
        return column in self.schema.names or column in self.partitions

    def type_of(self, column: str) -> Any:
        """Of a column; None for one that the folders stand for."""
        return column_type(self.schema, self.partitions, column, str(self.path))


def _look(path: ParquetPath) -> _Look:
    with reading(path.path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
    partitions = {name: value for name, value in path.partitions.items() if name not in schema.names}
    return _Look(path=path.path, name=path.name, rows=rows, schema=schema, partitions=partitions)


def _first_image(look: _Look) -> tuple[str, list[str]]:
    """The first image column, and a note where there are others."""
    columns = image_columns(look.schema)
    if not columns:
        listing = ", ".join(f"{field.name} ({field.type})" for field in look.schema)
        raise LikewiseError(f"{look.path} has no image column ({NEEDED}); its columns are {listing}.")
    first, *others = columns
    left = ", ".join(map(repr, others))
    note = f"{look.path}: the column {first!r} is read as the images, not {left}; choose with image=."
    return first, [note] if others else []


def _with_images(look: _Look, image: str, *, name: str) -> ParquetFile:
    kind = look.type_of(image)
    if kind is None or not is_images(kind):
        raise LikewiseError(
            f"{look.path}: column {image!r} holds {'text' if kind is None else kind}, not images ({NEEDED}); name "
            "another with image=, or take the file out."
        )
    bytes_column, path_column = image_parts(image, kind)
    return ParquetFile(
        path=look.path,
        name=name,
        rows=look.rows,
        bytes_column=bytes_column,
        path_column=path_column,
        partitions=look.partitions,
    )


def _label_column(labels: str, looks: Sequence[_Look]) -> tuple[str | None, list[str]]:
    """The column of the labels, and a note where folders stand for it."""
    column = "label" if labels == "auto" else labels
    if labels == "none":
        return None, []
    if labels == "auto" and not any(look.has(column) for look in looks):
        folders = list(dict.fromkeys(name for look in looks for name in look.partitions))
        named = ", ".join(map(repr, folders))
        note = f"the folders' names stand for {named}, which are no labels unless labels= names one."
        return None, [note] if folders else []
    lacking = next((look for look in looks if not look.has(column)), None)
    if labels == "auto" and lacking is not None:
        raise LikewiseError(
            f"{lacking.path} has no column 'label', which other files have: give only files that have it, or "
            "labels=none."
        )
    kinds = [(look, look.type_of(column)) for look in looks]
    inside = [(look, kind) for look, kind in kinds if kind is not None]
    for look, kind in inside:
        if not holds_labels(kind):
            raise LikewiseError(
                f"{look.path}: column {column!r} holds {kind}, not labels; name one of text or numbers, or of lists of "
                "these, or give labels=none."
            )
    number = {bool(is_number(kind)): f"{kind} in {look.path}" for look, kind in inside if is_number(kind) is not None}
    if len(number) > 1:
        raise LikewiseError(
            f"column {column!r} holds {number[True]}, but {number[False]}: the same label would be two; write all "
            "files with one type."
        )
    return column, [] if inside else [
        f"the labels are those in the folders' names, such as {column}={_value(looks, column)}."
    ]


def _value(looks: Sequence[_Look], column: str) -> str | None:
    return next((value for look in looks if (value := look.partitions[column]) is not None), None)


def _check_key(key: str, looks: Sequence[_Look]) -> None:
    for look in looks:
        kind = look.type_of(key)
        if kind is not None and not holds_ids(kind):
            raise LikewiseError(
                f"{look.path}: column {key!r} holds {kind}, not ids; name one of text or numbers with key=, or leave "
                "key out."
            )


def _repeated(name: str, files: Sequence[ParquetFile], key: str | None) -> tuple[frozenset[str], list[str]]:
    """The paths that are no ids, and a note on those that several rows have. A key that repeats is refused.

    A path such as "row 7" is none either, since it may be what another row is called.
    """
    columns = ((file, key or file.path_column) for file in files)
    counts = Counter(_texts(value for file, column in columns if column is not None for value in file.column(column)))
    repeated = {text: count for text, count in counts.items() if count > 1}
    row_names = frozenset(text for text in counts if key is None and _ROW_NAME.search(text))
    if not repeated:
        return row_names, []
    first, rows, total = next(iter(repeated)), sum(repeated.values()), sum(file.rows for file in files)
    if key is not None:
        raise LikewiseError(
            f"{rows:,} of the {total:,} rows of {name} share their {key!r} with another row (such as {first!r}): name "
            "a column of unique ids with key=, or leave key out."
        )
    note = (
        f"{name}: {rows:,} of the {total:,} images share their path with another one (such as {first!r}), so that "
        "their ids are file and row."
    )
    return row_names.union(repeated), [note]


def _texts(values: Iterable[object]) -> Iterator[str]:
    """The ids among the values, as text."""
    return (text for value in values if value is not None and (text := text_of(value)))


@contextmanager
def reading(path: Path) -> Iterator[Any]:
    """A parquet file, read in pieces: memory holds no whole row group. Raises LikewiseError if it is damaged."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(utf8_path(path), buffer_size=_BUFFER, pre_buffer=False) as file:
            yield file
    except (pyarrow.ArrowException, OSError) as error:
        raise LikewiseError(f"{path} cannot be read as parquet ({_line(error)}); replace or remove it.") from error


def all_of(path: Path, batches: Iterable[Any], rows: int) -> Iterator[Any]:
    """The batches. Raises LikewiseError at their end if they have other than ``rows`` rows: pyarrow does not say so."""
    for batch in batches:
        rows -= len(batch)
        yield batch
    if rows:
        raise LikewiseError(f"{path} was cut short while it was read; replace it, and run this again.")


def _rows_at_once(group: Any, columns: Sequence[str]) -> int:
    """How many rows of a row group are some megabytes, on average; 64 at most."""
    parts = [group.column(place) for place in range(group.num_columns)]
    size = sum(int(part.total_uncompressed_size) for part in parts if part.path_in_schema in columns)
    return max(1, min(_MOST, _BYTES * int(group.num_rows) // max(1, size)))


def _leaf(batch: Any, column: str) -> Any:
    """A column of a batch, or the part of a struct: null where the struct is null."""
    from pyarrow import compute

    if column in batch.schema.names:
        return batch.column(column)
    struct, _, part = column.rpartition(".")
    return compute.struct_field(batch.column(struct), part)


def _fail(reason: str) -> bytes:
    raise BadItem(reason)


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0].strip(" .")
