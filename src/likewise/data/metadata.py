"""What is known of items beside their content: columns of a table of texts, numbers, dates, one row for each item."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from likewise.data.columns import column_of
from likewise.data.items import as_id, text_of
from likewise.data.parquet import reading
from likewise.data.parquet_schema import values_of
from likewise.errors import LikewiseError, closest
from likewise.files import as_path
from likewise.text import quoted


def read_metadata(path: str | Path, ids: Sequence[str], *, key: str | None = None) -> Any:
    """The metadata of items as a table of pyarrow, in their order; an item that the file does not name has nulls.

    Args:
        path: a .parquet or .csv file.
        ids: of the items.
        key: the column of the ids; None: ``id``.

    Raises:
        LikewiseError: the file is missing or damaged, has no such column, names an id twice, or none of the items.
    """
    import pyarrow as pa

    place = as_path(path, "--metadata")
    table = _read(place)
    column = key if key is not None and key in table.column_names else column_of("id", table.column_names)
    if column is None:
        wanted = key or "id"
        raise LikewiseError(
            f"{place} has no column {wanted!r} of ids.{closest(wanted, table.column_names)} It has "
            f"{', '.join(table.column_names)}; name it with --key."
        )
    rows: dict[str, int] = {}
    for row, value in enumerate(values_of(table[column].combine_chunks())):
        name = "" if value is None else as_id(text_of(value))
        if name in rows:
            raise LikewiseError(f"{place} names the id {quoted(name)} twice; keep one row for each item.")
        rows[name] = row
    places = [rows.get(name) for name in ids]
    if all(row is None for row in places):
        raise LikewiseError(
            f"no id of {place} is that of an item: items have ids such as {quoted(ids[0])}, the file such as "
            f"{quoted(next(iter(rows), ''))}."
        )
    return flat(table.drop_columns([column])).take(pa.array(places, pa.int64()))


def own_metadata(source: object, ids: Sequence[str], *, key: str | None = None, but: Sequence[str] = ()) -> Any | None:
    """The metadata of items that are the rows of one .parquet file: its other columns of texts and numbers.

    None for another source, and where the ids are neither a column nor numbers of rows. ``but`` are columns of the
    items themselves.
    """
    import pyarrow as pa

    if not isinstance(source, str | Path) or Path(source).suffix.lower() != ".parquet" or not Path(source).is_file():
        return None
    with reading(Path(source)) as file:
        names = file.schema_arrow.names
        column = key or column_of("id", names)
        simple = [each.name for each in file.schema_arrow if _simple(each.type) and each.name not in (*but, column)]
        wanted = [*simple, *([column] if column in names else [])]
        if not simple or (column is not None and column not in names):
            return None
        table = file.read(columns=wanted)
    if column is None:
        rows = {f"row {row}": row for row in range(table.num_rows)}
    else:
        rows = {as_id(text_of(value)): row for row, value in enumerate(values_of(table[column].combine_chunks()))}
    places = [rows.get(name) for name in ids]
    return None if None in places else flat(table.select(simple)).take(pa.array(places, pa.int64()))


def flat(table: Any) -> Any:
    """The columns of texts, numbers, booleans, dates and times, as files have them; dictionaries as what they mean."""
    import pyarrow as pa

    kept = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if str(column.type).startswith("dictionary"):
            column = column.dictionary_decode()
        if _simple(column.type):
            kept[name] = column.cast(_in_files(column.type))
    return pa.table(kept) if kept else table.select([])


def _in_files(kind: Any) -> Any:
    """A type as .parquet files have it: times in milliseconds in place of seconds, days in place of date64."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind) and kind.unit == "s":
        return pa.timestamp("ms", kind.tz)
    return {pa.time32("s"): pa.time32("ms"), pa.date64(): pa.date32()}.get(kind, kind)


def _simple(kind: Any) -> bool:
    from pyarrow import types

    kinds = (
        types.is_string,
        types.is_large_string,
        types.is_integer,
        types.is_floating,
        types.is_boolean,
        types.is_temporal,
    )
    return any(holds(kind) for holds in (*kinds, types.is_decimal, types.is_dictionary))


def _read(path: Path) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    if not path.is_file():
        siblings = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        raise LikewiseError(f"the file of metadata {path} does not exist.{closest(path.name, siblings)}")
    if path.suffix.lower() == ".parquet":
        with reading(path) as file:
            names = [each.name for each in file.schema_arrow if _simple(each.type)]
            return file.read(columns=names)
    if path.suffix.lower() != ".csv":
        raise LikewiseError(f"{path} is neither .parquet nor .csv; give the metadata as one of them.")
    try:
        return csv.read_csv(path)
    except (pa.ArrowException, OSError) as error:
        first = str(error).partition("\n")[0]
        raise LikewiseError(f"{path} can't be read as CSV ({first}); correct it.") from None


def differing(former: Any, present: Any) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Which rows of two tables with the same columns and types differ; nulls are equal."""
    from pyarrow import compute

    found = np.zeros(present.num_rows, np.bool_)
    for name in present.column_names:
        a, b = former[name].combine_chunks(), present[name].combine_chunks()
        same = compute.if_else(compute.is_null(a), compute.is_null(b), compute.equal(a, b).fill_null(False))
        found |= ~same.fill_null(False).to_numpy(zero_copy_only=False).astype(np.bool_)
    return found
