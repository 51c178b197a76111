"""Vectors from a table: the columns that hold them, and their rows, read in batches into one array.

Dimension legend: N rows, D numbers of a vector.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from likewise.blocks import Block
from likewise.data.columns import Table, check_key, column_of, index_columns, label_column, of_part
from likewise.data.items import Items, Skipped, encode_source_labels, text_of
from likewise.data.parquet_schema import (
    NEEDED,
    holds_ids,
    image_columns,
    is_list,
    is_number_lists,
    is_numbers,
    values_of,
)
from likewise.data.source import KINDS, NO_VECTOR, NOT_FINITE, Wanted
from likewise.data.vector_rows import Floats, VectorRows
from likewise.data.words import hashed, holds_text
from likewise.errors import LikewiseError, closest
from likewise.text import quoted

_OF_TEXT = 16384  # rows of text at once
_LISTED = 6  # columns in a message
_LIKE_LABELS = ("label", "labels", "target", "targets", "class", "classes", "category", "species", "y")


def read_vectors(name: str, tables: Sequence[Table], wanted: Wanted, notes: Sequence[str] = ()) -> Items:
    """Read the vectors, ids and labels of tables in one pass. Words of a part become vectors with one block.

    A row without a usable vector is skipped: no value, another length than most, or not finite.

    Raises:
        LikewiseError: no vectors, columns that are missing or unfit, a named key that repeats, labels of another
            number than the rows, or no row that can be used.

    Cost: one pass; 4·N·D bytes of memory up to 256 MB, above that a file of the cache's folder, which is mapped.
    """
    if wanted.image is not None:
        raise LikewiseError(f"columns= names vectors and image={wanted.image!r} images: leave one of them out.")
    wanted = of_part(wanted, tables)
    label, said = label_column(wanted.labels, tables)
    vector, key, of_columns = _chosen(tables, wanted, label)
    seen = _Seen(VectorRows(wanted.scratch), named=wanted.key)
    for table in tables:
        _read(table, vector, key, label, seen)
    items = _items(name, seen, key, label, wanted, [*notes, *said, *of_columns])
    if vector.words:
        return replace(items, blocks=(Block(name=wanted.part, kind="words", start=0, stop=vector.words),))
    return items if vector.lists else replace(items, columns=tuple(vector.columns))


@dataclass(frozen=True, kw_only=True)
class VectorColumns:
    """How tables are read as vectors, some rows at a time; see :func:`vector_columns`."""

    vector: "_Vector"
    key: str | None
    named: str | None  # the key that the user named
    width: int
    scratch: Callable[[], Path]
    notes: tuple[str, ...]

    def read(self, tables: Sequence[Table]) -> Items:
        """The items of parts of the tables: as :func:`read_vectors`, but there may be none."""
        rows = VectorRows(self.scratch)
        seen = _Seen(rows, named=self.named, width=self.width if self.vector.lists else 0)
        for table in tables:
            _read(table, self.vector, self.key, None, seen)
        ids = seen.names if self.key is None else seen.keys
        return Items(
            ids=tuple(ids[place] for place in seen.places),
            values=rows.whole() if seen.places else np.empty((0, self.width), np.float32),
            kind="vectors",
            skipped=tuple(
                Skipped(id=ids[place] or seen.names[place], reason=seen.bad[place]) for place in sorted(seen.bad)
            ),
        )


def vector_columns(name: str, tables: Sequence[Table], wanted: Wanted) -> VectorColumns:
    """Choose the columns of vectors and ids, as :func:`read_vectors` does. Cost: the column of ids is read.

    Raises:
        LikewiseError: as :func:`read_vectors`.
    """
    vector, key, notes = _chosen(tables, wanted, None)
    seen = _Seen(VectorRows(Path), named=wanted.key, width=0 if vector.lists else len(vector.columns))
    for batch in (batch for table in tables if not seen.width for batch in table.batches(vector.columns)):
        if vector.lists:
            _from_lists(batch.column(vector.columns[0]), seen)
        if seen.width:
            break
    for table in tables if key is not None else ():
        inside = [key] if key is not None and key not in table.partitions else vector.columns
        for batch in table.batches(inside):
            seen.keys += ["" if value is None else text_of(value) for value in _values(table, batch, key)]
    _, said = _ids(name, seen, key)
    return VectorColumns(
        vector=vector,
        key=None if said else key,
        named=wanted.key,
        width=seen.width,
        scratch=wanted.scratch,
        notes=(*notes, *said),
    )


def _chosen(tables: Sequence[Table], wanted: Wanted, label: str | None) -> "tuple[_Vector, str | None, list[str]]":
    """The columns of the vectors, the column of the ids, and notes on them."""
    if wanted.key is not None:
        check_key(wanted.key, tables)
    key = wanted.key or _own_key(tables)
    names = tables[0].names
    vector = _vector_columns(tables[0], wanted, [label or column_of("label", names), key, *index_columns(names)])
    for table in tables[1:]:
        _refuse_other(table, vector)
    unnamed = ", ".join(map(repr, index_columns(names)))
    index = [f"{tables[0].where}: the column {unnamed} is pandas' index, no number of the vector."] if unnamed else []
    return vector, key, [*index, *vector.notes]


class _Vector(NamedTuple):
    """The columns of the vectors: one of lists, several of numbers, or one of text."""

    columns: list[str]
    lists: bool
    notes: list[str]
    words: int = 0  # columns that text is hashed to; 0 where the vectors are numbers


def _vector_columns(table: Table, wanted: Wanted, taken: Sequence[str | None]) -> _Vector:
    """The columns of the vectors: those named, else the first of lists of numbers, else all of numbers."""
    names = [each for each in table.schema.names if each not in taken and each not in _index_columns(table)]
    if wanted.columns:
        columns = list(dict.fromkeys(each for given in wanted.columns for each in _named(table, given, names)))
        kind = table.type_of(columns[0])
        words = wanted.words if len(columns) == 1 and kind is not None and holds_text(kind) else 0
        vector = _Vector(columns, not words and len(columns) == 1 and is_list(kind), [], words)
        _refuse_other(table, vector)
        return vector
    of_lists = [each for each in names if is_number_lists(table.type_of(each))]
    if of_lists:
        first, *others = of_lists
        left = ", ".join(map(repr, others))
        note = f"{table.where}: the column {first!r} is read as the vectors, not {left}; choose with columns=."
        return _Vector([first], True, [note] if others else [])
    numbers = [each for each in names if is_numbers(table.type_of(each))]
    texts = [each for each in names if holds_text(table.type_of(each))] if wanted.words else []
    if not numbers and len(texts) == 1:
        return _Vector(texts, False, [], wanted.words)
    if not numbers and texts:
        raise LikewiseError(
            f"{table.where} has {len(texts)} columns of text ({_some(texts)}), and none is called {wanted.part!r} as "
            f"the part: call the part as its column, as in {texts[0]}={table.where}."
        )
    if not numbers:
        listing = ", ".join(f"{each.name} ({each.type})" for each in table.schema)
        images = image_columns(table.schema)
        advice = f", and images such as {images[0]!r} are read from .parquet only" if images else ""
        raise LikewiseError(
            f"{table.where} has no image column ({NEEDED}) and no vectors (a column of lists of numbers, or columns of "
            f"numbers){advice}; its columns are {listing}."
        )
    if wanted.labels == "auto" and column_of("label", table.names) is None and wanted.by_row is None:
        _refuse_label(table, numbers)
    others = [each for each in names if each not in numbers]
    left = f"; left out: {_some(others)}" if others else ""
    note = f"{table.where}: a vector is the {len(numbers):,} columns of numbers: {_some(numbers)}{left}."
    return _Vector(numbers, False, [note])


def _some(names: Sequence[str]) -> str:
    """A few names, the last among them."""
    return ", ".join(names if len(names) <= _LISTED else [*names[: _LISTED - 2], "…", names[-1]])


def _named(table: Table, given: str, names: Sequence[str]) -> list[str]:
    """The columns that a name or a pattern stands for."""
    if given in table.schema.names or not has_magic(given):
        if given in table.partitions:
            raise LikewiseError(f"{table.where}: column {given!r} is the name of a folder, not a number of a vector.")
        table.type_of(given)
        return [given]
    found = [each for each in names if fnmatchcase(each, given)]
    if not found:
        raise LikewiseError(
            f"{table.where} has no column like {given!r}.{closest(given.strip('*?'), names)} Its columns are "
            f"{', '.join(table.schema.names)}."
        )
    return found


def _refuse_other(table: Table, vector: _Vector) -> None:
    """Raises LikewiseError unless the columns hold numbers, or lists of numbers, or text."""
    what, holds = "numbers", is_numbers
    if vector.words:
        what, holds = "text", holds_text
    elif vector.lists:
        what, holds = "lists of numbers", is_number_lists
    for column in vector.columns:
        kind = table.type_of(column)
        if kind is None or not holds(kind):
            alone = "; name a column of lists alone" if holds is is_numbers and kind and is_list(kind) else ""
            raise LikewiseError(
                f"{table.where}: column {column!r} holds {'text' if kind is None else kind}, not {what}{alone}; name "
                "other columns with columns=."
            )


def _refuse_label(table: Table, numbers: Sequence[str]) -> None:
    """Raises LikewiseError if a column of numbers is called as labels are: in the vector it would tell the answer."""
    like = next((each for each in numbers if each.strip().lower() in _LIKE_LABELS), None)
    if like is not None:
        raise LikewiseError(
            f"{table.where} has no column 'label', but {like!r} looks like one: say labels={like}, or labels=none if "
            "it is a number of the vector."
        )


def _index_columns(table: Table) -> list[str]:
    """The columns that pandas kept its index in."""
    about = table.schema.pandas_metadata or {}
    kept = [each for each in about.get("index_columns", ()) if isinstance(each, str)]
    return kept or index_columns(table.schema.names)


def _own_key(tables: Sequence[Table]) -> str | None:
    """The column that names the rows where none is given: ``id``, or else the index of pandas."""
    index = _index_columns(tables[0])
    for column in (column_of("id", tables[0].schema.names), *(index if len(index) == 1 else ())):
        if column is not None and all(
            column in table.schema.names and holds_ids(table.type_of(column)) for table in tables
        ):
            return str(column)
    return None


@dataclass
class _Seen:
    """What was read so far. Only usable rows have vectors and labels."""

    rows: VectorRows
    named: str | None  # the key that the user named
    places: list[int] = field(default_factory=list)  # of the usable rows among all
    names: list[str] = field(default_factory=list)  # of all rows, such as "row 7"
    keys: list[str] = field(default_factory=list)  # of all rows; empty where there is none
    labels: list[object] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)
    width: int = 0


def _read(table: Table, vector: _Vector, key: str | None, label: str | None, seen: _Seen) -> None:
    """All rows of a table."""
    inside = [each for each in (key, label) if each is not None and each not in table.partitions]
    row = 0
    batches = table.batches(list(dict.fromkeys([*vector.columns, *inside])))
    for batch in _in_pieces(batches) if vector.words else batches:
        if not len(batch):
            continue
        bad: dict[int, str] = {}
        keys = ["" if value is None else text_of(value) for value in _values(table, batch, key)]
        if seen.named:
            bad |= {at: f"no id (column {key!r} is empty)" for at, text in enumerate(keys) if not text}
        if vector.words:
            values, good, wrong = hashed(values_of(batch.column(vector.columns[0])), vector.words)
            values = np.concatenate((values, np.ones((len(values), 1), dtype=np.float32)), 1)  # they are there
        elif vector.lists:
            _refuse_files(table, vector.columns[0], batch.column(vector.columns[0]))
            values, good, wrong = _from_lists(batch.column(vector.columns[0]), seen)
        else:
            values, good, wrong = _from_numbers(batch, vector.columns)
        bad = wrong | bad
        keep = np.array([place not in bad for place in good.tolist()], dtype=bool)
        seen.rows.add(values if keep.all() else values[keep])
        start, places = len(seen.names), good[keep].tolist()
        seen.places += [start + place for place in places]
        seen.bad |= {start + place: reason for place, reason in bad.items()}
        seen.names += [table.row_name(row + place) for place in range(len(batch))]
        seen.keys += keys
        if label is not None:
            labels = _values(table, batch, label)
            seen.labels += [table.read_label(labels[place]) for place in places]
        row += len(batch)


def _in_pieces(batches: Iterable[Any]) -> Iterator[Any]:
    """Batches of fewer rows: a row of words is larger than its text."""
    for batch in batches:
        for start in range(0, len(batch), _OF_TEXT):
            yield batch.slice(start, _OF_TEXT)


def _values(table: Table, batch: Any, column: str | None) -> list[Any]:
    """The values of a column in a batch; empty texts where there is no column."""
    if column is None:
        return [""] * len(batch)
    if column in table.partitions:
        return [table.partitions[column]] * len(batch)
    return values_of(batch.column(column))


def _refuse_files(table: Table, name: str, column: Any) -> None:
    """Raises LikewiseError if the numbers in the first list are the bytes of an image file."""
    from pyarrow import types

    if not types.is_integer(column.type.value_type):
        return
    from likewise.data.decode import looks_like_image

    first = column.drop_null()[:1].to_pylist()
    head = [value for value in (first[0][:16] if first else ()) if value is not None and 0 <= value < 256]
    if looks_like_image(bytes(head)):
        raise LikewiseError(
            f"{table.where}: column {name!r} holds the bytes of image files as lists of numbers; write it as binary, "
            "or name another with columns=."
        )


def _from_lists(column: Any, seen: _Seen) -> tuple[Floats, npt.NDArray[np.int64], dict[int, str]]:
    """Vectors of a column of lists, the rows that they are of, and why other rows have none."""
    import pyarrow
    from pyarrow import compute

    lengths = compute.fill_null(compute.list_value_length(column), -1).to_numpy(zero_copy_only=False)
    if not seen.width and (lengths > 0).any():
        seen.width = Counter(lengths[lengths > 0].tolist()).most_common(1)[0][0]  # of the first batch
    fits = lengths == (seen.width or -2)
    bad = {
        row: NO_VECTOR if lengths[row] < 0 else f"{lengths[row]:,} numbers, where others have {seen.width:,}"
        for row in np.flatnonzero(~fits).tolist()
    }
    whole = column if fits.all() else column.filter(pyarrow.array(fits))
    values = _floats(whole.flatten()).reshape(-1, max(1, seen.width))
    finite, good = np.isfinite(values).all(axis=1), np.flatnonzero(fits)
    bad |= dict.fromkeys(good[~finite].tolist(), NOT_FINITE)
    return values, good, bad


def _from_numbers(batch: Any, columns: Sequence[str]) -> tuple[Floats, npt.NDArray[np.int64], dict[int, str]]:
    """Vectors of a column for each of their numbers, as :func:`_from_lists`."""
    values = np.empty((len(batch), len(columns)), dtype=np.float32)
    for place, column in enumerate(columns):
        values[:, place] = _floats(batch.column(column))
    finite = np.isfinite(values)
    rows = np.flatnonzero(~finite.all(axis=1)).tolist()
    bad = {row: f"column {columns[int(finite[row].argmin())]!r} is empty or {NOT_FINITE}" for row in rows}
    return values, np.arange(len(batch)), bad


def _floats(numbers: Any) -> Floats:
    """Arrow numbers as float32; null becomes NaN."""
    from pyarrow import compute, types

    if types.is_decimal(numbers.type):
        numbers = compute.cast(numbers, "float64")
    elif types.is_boolean(numbers.type):
        numbers = compute.cast(numbers, "float32")
    with np.errstate(over="ignore"):  # what overflows float32 is found as not finite
        floats: Floats = numbers.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    return floats


def _items(name: str, seen: _Seen, key: str | None, label: str | None, wanted: Wanted, notes: Sequence[str]) -> Items:
    total = len(seen.names)
    if not total:
        raise LikewiseError(f"{name} holds no rows; give {KINDS}.")
    if wanted.by_row is not None and len(wanted.by_row) != total:
        raise LikewiseError(f"{name} has {total:,} rows, but {len(wanted.by_row):,} labels; give one label per row.")
    if not seen.places:
        row = min(seen.bad)
        raise LikewiseError(f"none of the {total:,} vectors of {name} can be used: {seen.names[row]}: {seen.bad[row]}.")
    ids, said = _ids(name, seen, key)
    given = [wanted.by_row[place] for place in seen.places] if wanted.by_row is not None else seen.labels
    labelled = label is not None or wanted.by_row is not None
    labels, label_names = encode_source_labels(given) if labelled else (None, ())
    return Items(
        ids=tuple(ids[place] for place in seen.places),
        values=seen.rows.whole(),
        kind="vectors",
        labels=labels,
        label_names=label_names,
        skipped=tuple(
            Skipped(id=ids[place] or seen.names[place], reason=seen.bad[place]) for place in sorted(seen.bad)
        ),
        source=name,
        notes=(*notes, *said),
    )


def _ids(name: str, seen: _Seen, key: str | None) -> tuple[list[str], list[str]]:
    """The ids of all rows, and a note where a column that looks like ids is none. A named key must not repeat."""
    if key is None:
        return seen.names, []
    counts = Counter(text for text in seen.keys if text)
    repeated = {text: count for text, count in counts.items() if count > 1}
    if not repeated and (seen.named or len(counts) == len(seen.keys)):
        return seen.keys, []
    share = (
        f"{sum(repeated.values()):,} of the {len(seen.keys):,} rows of {name} share their {key!r} with another row ("
        f"such as {quoted(next(iter(repeated)))})"
        if repeated
        else f"{len(seen.keys) - len(counts):,} of the {len(seen.keys):,} rows of {name} have no {key!r}"
    )
    if seen.named:
        raise LikewiseError(f"{share}: name a column of unique ids with key=, or leave key out.")
    return seen.names, [f"{share}, so that ids are row numbers."]
