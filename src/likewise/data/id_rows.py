"""Rows of ids from CSV or parquet, as text, in chunks."""

import csv
import shlex
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from likewise.data.items import text_of
from likewise.data.parquet import all_of, reading
from likewise.data.parquet_schema import values_of
from likewise.errors import LikewiseError, closest

_CHUNK = 65536  # rows of a file held as text at once


class Chunk(NamedTuple):
    """Some rows of a file as text."""

    numbers: list[int]
    columns: list[list[str]]  # W + 1 of them, or W
    problems: dict[int, str]  # by place in this chunk


def all_alike_in(path: Path) -> bool:
    """Whether a file has the columns ``a`` and ``b`` alone. Raises LikewiseError if it has others, but no ``alike``."""
    if not path.is_file() or path.suffix.lower() not in (".csv", ".parquet"):
        return False  # open_rows says what is wrong with it
    header = _header(path)
    others = [name for name in header if name not in ("a", "b")]
    if "alike" in others or not {"a", "b"} <= set(header):
        return False
    if others:
        raise LikewiseError(
            f"{path} has no column 'alike'.{closest('alike', others)} Name so the column that says whether a pair is "
            f"alike, or leave only a and b if all pairs are; it has {','.join(header)}."
        )
    return True


def _header(path: Path) -> list[str]:
    """The names of the columns; empty where they can't be read, which reading the rows says."""
    if path.suffix.lower() == ".parquet":
        with reading(path) as parquet:
            return list(parquet.schema_arrow.names)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, skipinitialspace=True, strict=True)
            return [name.strip() for name in next((row for row in rows if row), [])]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def open_rows(path: Path, wanted: list[str]) -> tuple[str, Iterator[Chunk]]:
    """The word for a row of the file ("line" or "row"), and the file's chunks."""
    if not path.is_file():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        what = "is a folder." if path.is_dir() else f"does not exist.{closest(path.name, siblings)}"
        graph = ", or the folder of a graph" if wanted[:2] == ["a", "b"] else ""
        columns = ",".join(wanted)
        raise LikewiseError(f"{path} {what} Give a .csv or .parquet file with the columns {columns}{graph}.")
    kind = path.suffix.lower()
    if kind not in (".csv", ".parquet"):
        raise LikewiseError(
            f"{path} is neither .csv nor .parquet; give such a file with the columns {','.join(wanted)}."
        )
    return ("line", csv_chunks(path, wanted)) if kind == ".csv" else ("row", parquet_chunks(path, wanted))


def csv_chunks(path: Path, wanted: list[str]) -> Iterator[Chunk]:
    """Chunks of a CSV file. The number of a row is the line that it begins on; blank lines are not rows."""
    line = 0
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            header = [name.strip() for name in next((row for row in reader if row), [])]
            if not header:
                raise LikewiseError(f"{path} is empty; its first line must be {','.join(wanted)}.")
            places = _places(path, header, wanted)
            line = reader.line_num
            while True:
                numbers, rows, before = list[int](), list[list[str]](), line
                for row in islice(reader, _CHUNK):
                    if row and row != [""]:
                        numbers.append(line + 1)
                        rows.append(row)
                    line = reader.line_num
                if line == before:
                    return
                problems = {}
                if set(map(len, rows)) != {len(header)}:
                    problems = {at: _ragged(row, header) for at, row in enumerate(rows) if len(row) != len(header)}
                    rows = [[""] * len(header) if at in problems else row for at, row in enumerate(rows)]
                yield Chunk(numbers, [[row[place] for row in rows] for place in places], problems)
    except UnicodeDecodeError as error:
        raise LikewiseError(f"{path} is not UTF-8 text ({error.reason}); save it as CSV in UTF-8.") from error
    except csv.Error as error:
        raise LikewiseError(f"{path}, line {line + 1}: cannot be read as CSV ({error}); correct its quotes.") from error
    except OSError as error:
        raise LikewiseError(f"{path} cannot be read ({error.strerror}); give a file that can.") from error


def _ragged(row: list[str], header: list[str]) -> str:
    return f"has {len(row)} fields, the header {len(header)} (an id that holds a comma must be in quotes)"


def parquet_chunks(path: Path, wanted: list[str]) -> Iterator[Chunk]:
    """Chunks of a parquet file. Row numbers count from 1."""
    with reading(path) as file:
        _places(path, list(file.schema_arrow.names), wanted)
        start = 1
        batches = file.iter_batches(batch_size=_CHUNK, columns=wanted)
        for batch in all_of(path, batches, file.metadata.num_rows):
            numbers = list(range(start, start + len(batch)))
            start += len(batch)
            yield Chunk(numbers, [_texts(values_of(batch.column(name))) for name in wanted], {})


def _texts(values: list[Any]) -> list[str]:
    return ["" if value is None else text_of(value) for value in values]


def _places(path: Path, header: list[str], wanted: list[str]) -> list[int]:
    """The places of the wanted columns. Raises LikewiseError if one is missing or occurs twice."""
    for name in wanted:
        if header.count(name) > 1:
            raise LikewiseError(f"{path} has {header.count(name)} columns {name!r}; rename or remove all but one.")
        if name not in header:
            hint = closest(name, header)
            if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
                hint = " Its columns must be separated by commas."
            raise LikewiseError(
                f"{path} has no column {name!r}.{hint} It needs {','.join(wanted)} and has {','.join(header)}."
                + _of_a_graph(path, header, wanted)
            )
    return [header.index(name) for name in wanted]


def _of_a_graph(path: Path, header: list[str], wanted: list[str]) -> str:
    """What to do where a file of pairs was meant, and it holds the edges of a graph or perhaps interactions."""
    if {"a", "b"}.isdisjoint(wanted) or not {"a", "b"}.isdisjoint(header) or len(header) == 1:
        return ""
    if {"item", "other"} <= set(header):
        return f" It is the edges of a graph: give the folder {path.parent}."
    return f" If it says who took what, make a graph of it: likewise graph {shlex.quote(str(path))} --out graph."
