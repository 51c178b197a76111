"""Reads columns of a text file with pyarrow; rows of another length than the header are left out and counted."""

import codecs
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from likewise.errors import LikewiseError
from likewise.files import utf8_path

NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?(?i:nan|inf|infinity)$"
_BLOCK = 16 << 20  # bytes read at once
_SHOWN = 3  # rows that are kept to be shown
_LONG = 60  # characters of them


@dataclass
class Ragged:
    """Rows with another number of fields than the header."""

    rows: int = 0  # of one line
    shown: list[str] = field(default_factory=list)
    joined: int = 0  # lines of rows that run over several lines, as after a quote that is not closed
    joined_shown: list[str] = field(default_factory=list)

    def leave_out(self, row: Any) -> str:
        """Note a row. pyarrow calls this, and is told to go on without the row."""
        lines, shown = row.text.count("\n") + 1, f"{row.actual_columns} fields for {row.expected_columns}: "
        if lines > 1:
            self.joined += lines
            self.joined_shown += [repr(row.text[:_LONG])] * (len(self.joined_shown) < _SHOWN)
        else:
            self.rows += 1
            self.shown += [f"{shown}{row.text[:_LONG]!r}"] * (len(self.shown) < _SHOWN)
        return "skip"


@dataclass(frozen=True, kw_only=True)
class TextFile:
    """A text file that is open for reading.

    Args:
        names: those of its header.
        batches: gives Arrow record batches of text with these columns. It may be called once only.
        ragged: rows that were left out so far.
        lines: a function that gives how many lines with text below the header were read.
    """

    names: list[str]
    batches: Callable[[list[str]], Iterator[Any]]
    ragged: Ragged
    lines: Callable[[], int]


class _Counted(io.RawIOBase):
    """A stream that counts the lines with text."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._at_end, self.lines = stream, True, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        ends = np.isin(np.frombuffer(data, np.uint8), (10, 13))
        if len(ends):
            before = np.append(self._at_end, ends[:-1])
            self.lines += int(np.count_nonzero(before & ~ends))
            self._at_end = bool(ends[-1])
        return data


@contextmanager
def open_text(path: Path) -> Iterator[TextFile]:
    """A file of text, perhaps compressed. What pyarrow refuses becomes a LikewiseError."""
    import pyarrow
    from pyarrow import csv

    ragged = Ragged()
    with _refusing(path), pyarrow.input_stream(utf8_path(path)) as stream:
        header, mark, blank = _header(path)
        counted = _Counted(stream)

        def batches(names: list[str]) -> Iterator[Any]:
            kinds = dict.fromkeys(names, pyarrow.string())
            try:
                yield from csv.open_csv(
                    counted,
                    read_options=csv.ReadOptions(
                        block_size=_BLOCK, use_threads=False, column_names=header, skip_rows=blank + 1
                    ),
                    parse_options=csv.ParseOptions(delimiter=mark, invalid_row_handler=ragged.leave_out),
                    convert_options=csv.ConvertOptions(column_types=kinds, include_columns=names),
                )
            except pyarrow.ArrowInvalid as error:
                if "Empty CSV" not in str(error):  # a header alone
                    raise

        yield TextFile(names=header, batches=batches, ragged=ragged, lines=lambda: counted.lines - 1)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError, EOFError) as error:
        why = str(error).partition("\n")[0].strip(" .")
        if isinstance(error, UnicodeDecodeError) or "invalid UTF8" in why:
            raise LikewiseError(f"{path} is not UTF-8 text; save it in UTF-8.") from error
        raise LikewiseError(f"{path} cannot be read ({why}); repair or replace it.") from error


def _header(path: Path) -> tuple[list[str], str, int]:
    """The names of the columns, the mark between them, and the number of blank lines before them."""
    import pyarrow

    with pyarrow.input_stream(utf8_path(path)) as stream:
        start = stream.read(1 << 16)
    if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\0" in start:
        raise LikewiseError(f"{path} is not UTF-8 text; save it in UTF-8.")
    lines = start.removeprefix(codecs.BOM_UTF8).splitlines()
    blank = next((number for number, line in enumerate(lines) if line.strip()), -1)
    if blank < 0:
        raise LikewiseError(f"{path} is empty; its first line must name the columns, such as user,item,weight,time.")
    line = lines[blank].decode()
    mark = max(",\t;|", key=line.count)
    names = [name.strip().strip('"') for name in line.split(mark)]
    number = next((name for name in names if re.match(NUMBER, name)), None)
    if number is not None:
        raise LikewiseError(
            f"{path}: the first line holds {number!r}, a number and not a column's name; add a first line with the "
            f"names, such as {mark.join(('user', 'item', 'weight', 'time')[: len(names)])!r}."
        )
    return names, mark, blank
