"""CSV files as tables, read in blocks by pyarrow."""

import codecs
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from likewise.data.columns import Table
from likewise.data.items import whole_number
from likewise.data.parquet_schema import is_numbers
from likewise.errors import LikewiseError
from likewise.files import utf8_path
from likewise.text import quoted

_BLOCK = 16 << 20  # bytes read at once; a row must fit
_LOOKED_AT = 1000  # values of a column of text, to see whether most of them are numbers


def csv_table(path: Path, *, texts: Callable[[Sequence[str]], Collection[str | None]], numbers: bool) -> Table:
    """A CSV file with a header line, UTF-8, separated by commas. The types are those of its first block.

    Args:
        path: the file.
        texts: gives, of the columns' names, those that are read as text, whatever they hold.
        numbers: whether a column of text that is mostly numbers is refused: it was meant for the vectors.

    Raises:
        LikewiseError: not CSV, no header, or a name that occurs twice. Reading the rows raises it on a row of another
            length, and on text in a column of numbers.
    """
    import pyarrow

    with Path(utf8_path(path)).open("rb") as file:
        start = file.read(1024)
    if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\0" in start:
        raise LikewiseError(_sentence(path, (), "invalid UTF8"))
    with _reading(path, None, {}) as reader:
        header = reader.schema
        _refuse_header(path, header.names)
        block = next(iter(reader), None)
        if block is None or not len(block):
            raise LikewiseError(f"{path} holds no rows below its header; give a file that does.")
        as_text = texts(header.names)
        if numbers:
            _refuse_mixed(path, block, as_text)
    kinds = {each.name: _kind(each.type, each.name in as_text) for each in header}
    schema = pyarrow.schema(list(kinds.items()))
    return Table(str(path), "", schema, partial(_batches, path, kinds), {}, whole_number)


def _kind(kind: Any, as_text: bool) -> Any:
    """The type that a column is read as: whole numbers may have points further down."""
    import pyarrow
    from pyarrow import types

    if as_text or not is_numbers(kind):
        return pyarrow.string()
    return kind if types.is_boolean(kind) else pyarrow.float64()


def _batches(path: Path, kinds: dict[str, Any], columns: Sequence[str]) -> Iterator[Any]:
    with _reading(path, columns, {column: kinds[column] for column in columns}) as reader:
        yield from reader


@contextmanager
def _reading(path: Path, columns: Sequence[str] | None, kinds: dict[str, Any]) -> Iterator[Any]:
    """A reader of the columns. What pyarrow refuses becomes a LikewiseError."""
    import pyarrow
    from pyarrow import csv

    try:
        with csv.open_csv(
            utf8_path(path),
            read_options=csv.ReadOptions(block_size=_BLOCK, use_threads=False),
            convert_options=csv.ConvertOptions(column_types=kinds, include_columns=list(columns or [])),
        ) as reader:
            yield reader
    except UnicodeDecodeError as error:  # of the header's names
        raise LikewiseError(_sentence(path, columns or (), "invalid UTF8")) from error
    except (pyarrow.ArrowException, OSError) as error:
        raise LikewiseError(_sentence(path, columns or (), str(error).partition("\n")[0].strip(" ."))) from error


def _sentence(path: Path, columns: Sequence[str], why: str) -> str:
    """What pyarrow says, in plain words."""
    text = re.search(r"In CSV column #(\d+): (?:Row #(\d+): )?CSV conversion error to \w+: invalid value '(.*)'", why)
    if text and int(text[1]) < len(columns):
        where = f", row {text[2]}" if text[2] else ""
        return (
            f"{path}{where}: column {columns[int(text[1])]!r} holds {quoted(text[3])} among numbers; correct it, or "
            "name other columns with columns=."
        )
    ragged = re.search(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+)", why)
    if ragged:
        where = f", row {ragged[1]}" if ragged[1] else ""
        return f"{path}{where}: has {ragged[3]} fields, the header {ragged[2]}; quote text with commas."
    if "Empty CSV" in why:
        return f"{path} is empty; its first line must name the columns."
    if "invalid UTF8" in why:
        return f"{path} is not UTF-8 text; save it as CSV in UTF-8."
    return f"{path} cannot be read as CSV ({why}); save it with commas and a header line, in UTF-8."


def _refuse_header(path: Path, names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise LikewiseError(f"{path} has {names.count(twice)} columns {twice!r}; rename or remove all but one.")
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise LikewiseError(f"{path} has one column only, {names[0]!r}; its columns must be separated by commas.")
    number = next((name for name in names if _is_number(name)), None)
    if number is not None:
        raise LikewiseError(
            f"{path}: the first line holds {number!r}, a number and not a column's name; add a first line with the "
            "names, such as a,b,c,label."
        )


def _refuse_mixed(path: Path, block: Any, texts: Collection[str | None]) -> None:
    """Raises LikewiseError on a column in which most values are numbers, but some are text."""
    from pyarrow import types

    for name, column in zip(block.schema.names, block.columns, strict=True):
        if name in texts or not types.is_string(column.type):
            continue
        values = [value for value in column[:_LOOKED_AT].to_pylist() if value]
        odd = next((value for value in values if not _is_number(value)), None)
        if odd is not None and 2 * sum(map(_is_number, values)) > len(values):
            row = column.to_pylist().index(odd)
            raise LikewiseError(
                f"{path}, line {row + 2}: column {name!r} holds {quoted(odd)} among numbers; correct it, name the "
                f"columns of the vectors with columns=, or say labels={name} if these are the labels."
            )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
