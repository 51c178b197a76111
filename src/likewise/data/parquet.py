"""Parquet files as a source: of images, in a column as Hugging Face writes it, or of vectors."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from likewise.data.columns import Table, check_key, column_of, label_column, of_part, wants_vectors
from likewise.data.items import Items, text_of
from likewise.data.parquet_files import ParquetPath, label_above, of_split
from likewise.data.parquet_schema import NEEDED, image_columns, image_parts, is_images, values_of
from likewise.data.source import KINDS, NO_IMAGE, BadItem, Entry, Wanted, full_name, opened, sign, stat_line
from likewise.data.tables import read_vectors
from likewise.errors import LikewiseError
from likewise.files import utf8_path
from likewise.remote import Remote
from likewise.text import quoted

_BYTES = 8 << 20  # of a batch of images; a single image may be larger
_MOST = 64  # images of a batch
_ROWS = 65536  # of a batch of ids or labels
_ROW_NAME = re.compile(r"(^| )row \d+$")  # see ParquetFile.row_name
_BUFFER = 1 << 20  # a file is read in such pieces, so that memory holds no whole row group


@dataclass(frozen=True, kw_only=True)
class ParquetFile:
    """One file of a source, and its columns of images."""

    path: Path | Remote
    name: str  # stands before "row 7" in ids; empty for a file alone
    rows: int
    bytes_column: str  # as parquet names it: "image.bytes" of a struct, or "image"
    path_column: str | None  # "image.path"
    partitions: Mapping[str, str | None]  # columns that its folders stand for
    first: int = 0  # the number of the first of the rows; 0 unless these are a part of the file

    def row_name(self, row: int) -> str:
        """The id of a row that has no other."""
        return f"{self.name} row {self.first + row}".lstrip()

    @property
    def _within(self) -> range:
        return range(self.first, self.first + self.rows)

    def images(self, beside: str | None) -> Iterator[tuple[Any, object]]:
        """For each row its bytes, as an Arrow scalar, and its value in the column ``beside``."""
        inside = [beside] if beside is not None and beside not in self.partitions else []
        reads = [self.bytes_column, *inside]
        above = self.partitions.get(beside or "")
        for batch in batches_of(self.path, reads, _MOST, self._within):
            values = values_of(_leaf(batch, inside[0])) if inside else [above] * len(batch)
            yield from zip(_leaf(batch, self.bytes_column), values, strict=True)

    def column(self, name: str) -> Iterator[object]:
        """The values of a column of ids or labels."""
        if name in self.partitions:
            yield from [self.partitions[name]] * self.rows
            return
        for batch in batches_of(self.path, [name], _ROWS, self._within):
            yield from values_of(_leaf(batch, name))


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
            parts += [file.bytes_column, file.name, full_name(file.path), stat_line(file.path)]
        return sign(parts)

    def part(self, start: int, stop: int) -> "Parquet":
        """The rows from ``start`` to ``stop`` − 1, as a source."""
        spans = spans_of([file.rows for file in self.files], start, stop)
        files = [replace(self.files[place], first=low, rows=high - low) for place, low, high in spans]
        return replace(self, files=tuple(files))

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
            return Entry(id, partial(_fail, NO_IMAGE))
        return Entry(id, lambda: data, len(data))


def is_own(path: Path | Remote) -> bool:
    """Whether likewise wrote the file, such as an index in a run folder among the data. Reads the footer only."""
    import pyarrow
    from pyarrow import parquet

    try:
        with opened(path) as file:
            return b"likewise" in (parquet.read_schema(file).metadata or {})
    except (pyarrow.ArrowException, OSError):
        return False  # open_parquet says what is wrong with it


class _Look(NamedTuple):
    """A file before its columns are chosen."""

    path: Path | Remote
    rows: int
    table: Table


@dataclass(frozen=True, kw_only=True)
class ParquetVectors:
    """Parquet files of vectors, before they are read."""

    name: str
    looks: "tuple[_Look, ...]"
    wanted: Wanted
    notes: tuple[str, ...]

    @property
    def tables(self) -> list[Table]:
        """One for each file."""
        return [look.table for look in self.looks]

    @property
    def total(self) -> int:
        """Number of rows."""
        return sum(look.rows for look in self.looks)

    def signature(self) -> str:
        """A hash over the path, size and times of every file, and what is wanted of them."""
        parts = [self.wanted.key or "", *self.wanted.columns]
        for look in self.looks:
            parts += [look.table.name, full_name(look.path), stat_line(look.path)]
        return sign(parts)

    def part(self, start: int, stop: int) -> list[Table]:
        """The rows from ``start`` to ``stop`` − 1."""
        found = []
        for place, low, high in spans_of([look.rows for look in self.looks], start, stop):
            look = self.looks[place]
            batches = partial(batches_of, look.path, within=range(low, high))
            found.append(replace(look.table, batches=batches, first=low))
        return found

    def items(self) -> Items:
        """All items. Raises LikewiseError as ``read_vectors``."""
        return read_vectors(self.name, self.tables, self.wanted, self.notes)


def open_parquet(
    name: str, paths: "Sequence[ParquetPath[Path | Remote]]", wanted: Wanted, notes: Sequence[str] = ()
) -> Parquet | ParquetVectors:
    """Read the schemas of the files, choose files and columns; of images count the rows and find ids that repeat.

    Raises:
        LikewiseError: a damaged file, no column of images or vectors, a missing or unfit column, labels of different
            types, a key that repeats, no such split, or no rows.
    """
    alone = len(paths) == 1  # before a split is chosen, so that ids are those of the whole
    paths, said = of_split(name, paths, wanted.split)
    notes = [*notes, *said]
    looks = [_look(path, "" if alone else path.name) for path in paths]
    if sum(look.rows for look in looks) == 0:
        raise LikewiseError(f"{name} holds no rows; give {KINDS}.")
    tables = [look.table for look in looks]
    wanted = of_part(wanted, tables)
    if wanted.labels == "auto" and not any(column_of("label", table.names) for table in tables):
        notes += label_above(name, paths)
    if wants_vectors(wanted, image_columns(tables[0].schema)):
        return ParquetVectors(name=name, looks=tuple(looks), wanted=wanted, notes=tuple(notes))
    image, said = (wanted.image, []) if wanted.image is not None else _first_image(tables[0])
    notes += said
    wanted.refuse_rows(name, "images in parquet")
    label, said = label_column(wanted.labels, tables)
    notes += said
    if wanted.key is not None:
        check_key(wanted.key, tables)
    files = [_with_images(look, image) for look in looks]
    repeated, said = _repeated(name, files, wanted.key)
    return Parquet(
        name=name,
        files=tuple(files),
        key_column=wanted.key,
        label_column=label,
        repeated=repeated,
        notes=(*notes, *said),
    )


def parquet_table(path: Path) -> Table:
    """A single file as a table. Raises LikewiseError if it is damaged."""
    return _look(ParquetPath(path=path, name=path.name), "").table


def _look(path: "ParquetPath[Path | Remote]", name: str) -> _Look:
    with reading(path.path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
    partitions = {column: value for column, value in path.partitions.items() if column not in schema.names}
    batches = partial(batches_of, path.path)
    return _Look(path.path, rows, Table(str(path.path), name, schema, batches, partitions))


def _first_image(table: Table) -> tuple[str, list[str]]:
    """The first image column, and a note where there are others."""
    first, *others = image_columns(table.schema)
    left = ", ".join(map(repr, others))
    note = f"{table.where}: the column {first!r} is read as the images, not {left}; choose with image=."
    return first, [note] if others else []


def _with_images(look: _Look, image: str) -> ParquetFile:
    kind = look.table.type_of(image)
    if kind is None or not is_images(kind):
        raise LikewiseError(
            f"{look.path}: column {image!r} holds {'text' if kind is None else kind}, not images ({NEEDED}); name "
            "another with image=, or take the file out."
        )
    bytes_column, path_column = image_parts(image, kind)
    return ParquetFile(
        path=look.path,
        name=look.table.name,
        rows=look.rows,
        bytes_column=bytes_column,
        path_column=path_column,
        partitions=look.table.partitions,
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
            f"{rows:,} of the {total:,} rows of {name} share their {key!r} with another row (such as {quoted(first)}): "
            "name a column of unique ids with key=, or leave key out."
        )
    note = (
        f"{name}: {rows:,} of the {total:,} images share their path with another one (such as {quoted(first)}), so "
        "that their ids are file and row."
    )
    return row_names.union(repeated), [note]


def _texts(values: Iterable[object]) -> Iterator[str]:
    """The ids among the values, as text."""
    return (text for value in values if value is not None and (text := text_of(value)))


def batches_of(
    path: Path | Remote, columns: Sequence[str], most: int = _ROWS, within: range | None = None
) -> Iterator[Any]:
    """Record batches with these columns, of some megabytes each: the size of a row counts, not the number of rows.

    ``within`` are the rows that are wanted; None: all. Row groups without them are not read.
    """
    with reading(path) as file:
        begin = 0
        for group in range(file.metadata.num_row_groups):
            about = file.metadata.row_group(group)
            first, begin = begin, begin + about.num_rows
            low, high = (first, begin) if within is None else (max(first, within.start), min(begin, within.stop))
            if low >= high and within is not None:
                continue
            size = _rows_at_once(about, columns, most)
            parts = file.iter_batches(batch_size=size, row_groups=[group], columns=list(columns))
            for batch in all_of(path, parts, about.num_rows):
                if low < first + len(batch) and first < high:
                    start = max(0, low - first)
                    yield batch.slice(start, min(len(batch), high - first) - start)
                first += len(batch)
                if first >= high and high < begin:
                    break


def spans_of(sizes: Sequence[int], start: int, stop: int) -> list[tuple[int, int, int]]:
    """Where the rows from ``start`` to ``stop`` − 1 of several files lie: the file's place, and a range of its rows."""
    found, begin = [], 0
    for place, size in enumerate(sizes):
        low, high = max(0, start - begin), min(size, stop - begin)
        if low < high:
            found.append((place, low, high))
        begin += size
    return found


@contextmanager
def reading(path: Path | Remote) -> Iterator[Any]:
    """A parquet file, read in pieces: memory holds no whole row group. Raises LikewiseError if it is damaged."""
    import pyarrow
    from pyarrow import parquet

    try:
        with (
            opened(path) if isinstance(path, Remote) else nullcontext(utf8_path(path)) as source,
            parquet.ParquetFile(source, buffer_size=_BUFFER, pre_buffer=False) as file,
        ):
            yield file
    except (pyarrow.ArrowException, OSError) as error:
        raise LikewiseError(f"{path} cannot be read as parquet ({_line(error)}); replace or remove it.") from error


def all_of(path: Path | Remote, batches: Iterable[Any], rows: int) -> Iterator[Any]:
    """The batches. Raises LikewiseError at their end if they have other than ``rows`` rows: pyarrow does not say so."""
    for batch in batches:
        rows -= len(batch)
        yield batch
    if rows:
        raise LikewiseError(f"{path} was cut short while it was read; replace it, and run this again.")


def _rows_at_once(group: Any, columns: Sequence[str], most: int) -> int:
    """How many rows of a row group are some megabytes, on average; ``most`` at most."""
    parts = [group.column(place) for place in range(group.num_columns)]
    # "image.bytes" is named as it is, and a list column "x" is "x.list.element"
    own = [part for part in parts if part.path_in_schema in columns or part.path_in_schema.split(".")[0] in columns]
    size = sum(int(part.total_uncompressed_size) for part in own)
    return max(1, min(most, _BYTES * int(group.num_rows) // max(1, size)))


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
