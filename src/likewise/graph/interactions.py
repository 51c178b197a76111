"""Reads interactions of users with items from CSV or parquet. Rows that can't be used are left out, counted and named.

Dimension legend: R rows of a file, B rows of a batch.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from likewise.console import Tick, untold
from likewise.data.items import as_id, text_of
from likewise.data.parquet import batches_of, reading
from likewise.data.parquet_files import ParquetPath
from likewise.data.parquet_schema import holds_ids, is_numbers, values_of
from likewise.errors import LikewiseError
from likewise.graph.co_engagement import Interactions
from likewise.graph.columns import Columns, Found, find_columns
from likewise.graph.log_files import holds_parquet, log_files
from likewise.graph.text_file import NUMBER, TextFile, open_text
from likewise.text import readable

_ROWS = 1 << 20  # of a batch of parquet, at most
_SHOWN = 3  # rows named for each reason
_WHOLE = r"^[+-]?([1-8]?\d{1,18})$"  # what int64 holds, nanoseconds since 1970 too
_NOBODY = ("", "null", "none", "nan", "na", "n/a", r"\n", "unknown", "anonymous")  # of users, without capitals

_RAGGED = "a number of fields that is not the header's (text with the separator in it must be in quotes)"
_JOINED = "lines that run together after a quote that is not closed"

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LeftOut:
    """Rows that are left out for one reason."""

    reason: str
    rows: int
    such_as: tuple[str, ...]  # the first of them

    def line(self) -> str:
        """For people."""
        shown = f" (such as {'; '.join(self.such_as)})" if self.such_as else ""
        return f"{self.rows:,} rows: {self.reason}{shown}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Log:
    """The interactions of a file.

    Args:
        rows: the interactions, with numbers for users and items.
        users: the users' ids, by number.
        items: the items' ids, ascending, by number.
        columns: those of the file that were read.
        total: R, all rows of the file.
        below: rows whose weight is 0 or below ``least``.
        left_out: bad rows, by reason.
        within: lines of a text file that are part of the row before, as after a quote that is not closed.
        source: the file as it was typed.
    """

    rows: Interactions
    users: list[str]
    items: list[str]
    columns: Found
    total: int
    below: int
    left_out: tuple[LeftOut, ...]
    within: int
    source: str


def only(log: Log, rows: Interactions) -> Log:
    """The log with some of its rows alone. Its items are those that occur in them, its users stay."""
    known, item = np.unique(rows.item, return_inverse=True)
    return replace(log, rows=rows._replace(item=item), items=[log.items[number] for number in known.tolist()])


def read_interactions(path: Path, columns: Columns, *, least: float = 0.0, tick: Tick = untold) -> Log:
    """Read a .csv, .tsv or .txt file (also with .gz after it), a .parquet file, or a folder of one of these kinds.

    It has a row for each interaction. Of a folder, hidden and empty files and those such as ``_SUCCESS`` do not count;
    folders in it stand for a column, as ``year=2019`` does.

    Text is UTF-8 with a header line, separated by commas, tabs, semicolons or bars. Ids are text; spaces around them
    and their Unicode form do not matter. A row counts if its weight is above 0 and at least ``least``. Times are
    numbers, dates or ISO 8601.

    These rows are left out, counted, and the first three of each kind named: no user (empty, or null, none, nan, na,
    n/a, unknown, anonymous), no item, a weight or time that is empty or can't be read, a weight that is negative, NaN
    or infinite, another number of fields than the header.

    Raises:
        LikewiseError: there is no such file, it can't be read, columns are missing or unfit, it has no rows, no row
            can be used, or more than half of them can't.

    Cost: one pass; memory of 24 bytes for a row, and the ids.
    """
    files = log_files(path)
    first: tuple[Found, Any] | None = None
    seen: _Seen | None = None
    for number, file in enumerate(files):
        with _opened(file, columns) as part:
            first = first or (part.found, part.schema)
            seen = seen or _Seen(str(path), part.found, least)
            _same_columns(file.path, files[0].name, first, (part.found, part.schema))
            before = seen.total
            for batch in part.batches:
                seen.add(batch)
                tick((number + (seen.total - before) / part.rows if part.rows else number) / len(files))
            if part.text is not None:
                seen.text(part.text, before)
    assert seen is not None
    return seen.log()


class _Part(NamedTuple):
    """A file that is open for reading. Of text the schema and the number of rows are not known."""

    found: Found
    batches: Iterable[Any]
    schema: Any = None
    rows: int = 0
    text: TextFile | None = None


@contextmanager
def _opened(file: ParquetPath[Path], columns: Columns) -> Iterator[_Part]:
    """A file of interactions. Raises LikewiseError if it can't be read, or its columns are missing or unfit."""
    import pyarrow

    path = file.path
    if holds_parquet(path):
        with reading(path) as parquet:
            schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
        found = find_columns(str(path), schema.names, columns, [*file.partitions])
        above = {name: value for name, value in file.partitions.items() if name not in schema.names}
        for name in above:
            schema = schema.append(pyarrow.field(name, pyarrow.string()))
        _refuse_types(path, schema, found)
        yield _Part(found, _with(above, found, lambda names: batches_of(path, names, _ROWS)), schema, rows)
        return
    with open_text(path) as text:
        found = find_columns(str(path), text.names, columns, [*file.partitions])
        above = {name: value for name, value in file.partitions.items() if name not in text.names}
        yield _Part(found, _with(above, found, text.batches), text=text)


def _with(above: Mapping[str, str | None], found: Found, read: Callable[[list[str]], Iterable[Any]]) -> Iterator[Any]:
    """The batches of a file, beside its columns those that the folders above it stand for."""
    import pyarrow

    for batch in read([name for name in found.names() if name not in above]):
        columns = {name: batch.column(name) for name in batch.schema.names}
        for name in found.names():
            if name in above:
                columns[name] = pyarrow.repeat(pyarrow.scalar(above[name], "string"), len(batch))
        yield pyarrow.RecordBatch.from_pydict(columns)


def _same_columns(path: Path, first: str, seen: tuple[Found, Any], found: tuple[Found, Any]) -> None:
    """Raises LikewiseError unless a part of a folder has the columns of the first one, with the same types."""
    if found[0] != seen[0]:
        raise LikewiseError(f"{path} has {found[0].line()}, but {first} has {seen[0].line()}; name the columns.")
    for name in seen[0].names() if seen[1] is not None else ():
        kinds = [schema.field(name).type for schema in (found[1], seen[1])]
        if kinds[0] != kinds[1]:
            raise LikewiseError(f"{path}: column {name!r} holds {kinds[0]}, but {kinds[1]} in {first}.")


def _refuse_types(path: Path, schema: Any, found: Found) -> None:
    """Raises LikewiseError unless ids, weights and times have types that can be such."""
    from pyarrow import types

    def readable_time(kind: Any) -> bool:
        return bool(is_numbers(kind) or is_text(kind) or types.is_timestamp(kind) or types.is_date(kind))

    def readable_weight(kind: Any) -> bool:
        return bool(is_numbers(kind) or is_text(kind))

    for role, name, fits, what in (
        ("user", found.user, holds_ids, "ids"),
        ("item", found.item, holds_ids, "ids"),
        ("weight", found.weight, readable_weight, "numbers"),
        ("time", found.time, readable_time, "times"),
    ):
        if name is not None and not fits(schema.field(name).type):
            kind = schema.field(name).type
            raise LikewiseError(f"{path}: column {name!r} holds {kind}, not {what}; name another one with --{role}.")


def is_text(kind: Any) -> bool:
    """Whether a column of this type holds text, or nothing."""
    from pyarrow import types

    return bool(
        types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind)
    )


@dataclass
class _Seen:
    """What was read so far."""

    file: str
    columns: Found
    least: float
    users: list[Any] = field(default_factory=list)  # Arrow arrays of ids, dictionary-encoded
    items: list[Any] = field(default_factory=list)
    times: list[npt.NDArray[Any]] = field(default_factory=list)
    reasons: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    total: int = 0
    below: int = 0
    within: int = 0
    dates: bool | None = None  # whether times in text are dates; None before one is seen

    def add(self, batch: Any) -> None:
        """Read a batch."""
        import pyarrow

        user, item = batch.column(self.columns.user), batch.column(self.columns.item)
        good = np.ones(len(batch), dtype=bool)
        self.total += len(batch)
        if self.columns.weight is not None:
            texts = batch.column(self.columns.weight)
            weight, said = _numbers(texts)
            self._bad(good, said, "the weight is no number", batch, texts)
            self._bad(good, ~np.isfinite(weight), "the weight is NaN or infinite", batch, texts)
            self._bad(good, weight < 0, "the weight is negative", batch, texts)
            engaged = (weight > 0) & (weight >= self.least)
            self.below += int(np.count_nonzero(good & ~engaged))
        else:
            engaged = good
        if self.columns.time is not None:
            texts = batch.column(self.columns.time)
            time, said = self._moments(texts)
            self._bad(good, said, "the time can't be read", batch, texts)
        keep = good & engaged
        if self.columns.time is not None:
            self.times.append(time[keep])
        mask = pyarrow.array(keep)
        self.users.append(user.filter(mask).dictionary_encode())
        self.items.append(item.filter(mask).dictionary_encode())

    def _bad(self, good: Bools, bad: Bools, reason: str, batch: Any, texts: Any) -> None:
        """Note rows that were good so far as bad."""
        places = np.flatnonzero(good & bad)
        good[places] = False
        shown = [
            readable(
                f"user {batch.column(self.columns.user)[at].as_py()!r}, item "
                f"{batch.column(self.columns.item)[at].as_py()!r}: {texts[at].as_py()!r}"
            )
            for at in places[:_SHOWN].tolist()
        ]
        self._note(reason, len(places), shown)

    def _note(self, reason: str, rows: int, shown: Iterable[str]) -> None:
        count, such_as = self.reasons.get(reason, (0, []))
        if rows:
            self.reasons[reason] = (count + rows, [*such_as, *shown][:_SHOWN])

    def text(self, file: TextFile, before: int) -> None:
        """Note rows of text with another number of fields than the header, and lines within quotes.

        ``before`` is the number of rows before this file.
        """
        ragged, rows = file.ragged, self.total - before
        self.total += ragged.rows + ragged.joined
        self._note(_RAGGED, ragged.rows, map(readable, ragged.shown))
        self._note(_JOINED, ragged.joined, map(readable, ragged.joined_shown))
        self.within += max(0, file.lines() - rows - ragged.rows - ragged.joined)

    def _moments(self, column: Any) -> tuple[npt.NDArray[Any], Bools]:
        """(B,) int64 or float64 times, later is larger, and which can't be read."""
        from pyarrow import compute, types

        if types.is_date(column.type) or types.is_timestamp(column.type):
            missing = compute.is_null(column).to_numpy(zero_copy_only=False)
            whole = compute.fill_null(column.cast("timestamp[us]", safe=False).cast("int64"), 0)
            return whole.to_numpy(zero_copy_only=False), missing
        if types.is_integer(column.type) and not types.is_uint64(column.type):
            missing = compute.is_null(column).to_numpy(zero_copy_only=False)
            return compute.fill_null(column, 0).cast("int64").to_numpy(zero_copy_only=False), missing
        if is_text(column.type):
            column = compute.utf8_trim_whitespace(column.cast("string"))
            if self.dates is None:
                first = next((text for text in column.to_pylist() if text), "0")
                self.dates = re.match(NUMBER, first) is None and _moment(first) is not None
            if self.dates:
                return _dates(column)
            if compute.all(compute.match_substring_regex(column, _WHOLE), skip_nulls=False).as_py():
                return column.cast("int64").to_numpy(zero_copy_only=False), np.zeros(len(column), dtype=bool)
        numbers, bad = _numbers(column)
        bad |= ~np.isfinite(numbers)
        return np.where(bad, 0.0, numbers), bad

    def log(self) -> Log:
        """All of it. Raises LikewiseError if there is too little of it."""
        user, users = _codes(self.users, _NOBODY)
        item, items = _codes(self.items, ("",))
        time = np.concatenate(self.times) if self.times else None
        for reason, role, other, bad in (
            (f"no user (empty, or {', '.join(_NOBODY[1:4])}, …)", "item", (item, items), user < 0),
            ("no item", "user", (user, users), (item < 0) & (user >= 0)),
        ):
            codes, ids = other
            named = codes[bad & (codes >= 0)][:_SHOWN].tolist()
            self._note(reason, int(np.count_nonzero(bad)), [readable(f"{role} {ids[code]!r}") for code in named])
        keep = (user >= 0) & (item >= 0)
        if not keep.all():
            user, item, time = user[keep], item[keep], None if time is None else time[keep]
        left_out = tuple(LeftOut(reason, rows, tuple(shown)) for reason, (rows, shown) in self.reasons.items())
        self._refuse(len(user), left_out)
        return Log(
            rows=Interactions(user, item, time),
            users=users,
            items=items,
            columns=self.columns,
            total=self.total,
            below=self.below,
            left_out=left_out,
            within=self.within,
            source=self.file,
        )

    def _refuse(self, usable: int, left_out: tuple[LeftOut, ...]) -> None:
        bad = sum(each.rows for each in left_out)
        if not self.total:
            raise LikewiseError(f"{self.file} holds no rows; give a file that does.")
        if 2 * bad > self.total:
            said = "; ".join(each.line() for each in left_out)
            raise LikewiseError(
                f"{self.file}: {bad:,} of the {self.total:,} rows can't be used; {said}. "
                f"Read were {self.columns.line()}; name other columns with --user, --item, --weight and --time, or "
                "correct the file."
            )
        if not usable:
            lowest = f"weight is above 0 and at least {self.least:g}"
            raise LikewiseError(f"{self.file} has no row whose {lowest}; lower --least, or give --weight none.")


def _numbers(column: Any) -> tuple[npt.NDArray[np.float64], Bools]:
    """(B,) float64 numbers, and which are none; these are 0."""
    import pyarrow
    from pyarrow import compute

    if is_text(column.type):
        column = compute.utf8_trim_whitespace(column.cast("string"))
        fits = compute.match_substring_regex(column, NUMBER)
        column = compute.if_else(fits, column, pyarrow.scalar(None, "string"))
    missing = compute.is_null(column).to_numpy(zero_copy_only=False)
    numbers = compute.fill_null(compute.cast(column, "float64", safe=False), 0.0)
    return numbers.to_numpy(zero_copy_only=False), missing


def _dates(column: Any) -> tuple[npt.NDArray[np.int64], Bools]:
    """(B,) microseconds since 1970 of dates as text, and which are none; these are 0. Without a zone: UTC."""
    encoded = column.dictionary_encode()
    moments = [_moment(text) for text in encoded.dictionary.to_pylist()]
    value = np.array([*(moment or 0 for moment in moments), 0], dtype=np.int64)
    bad = np.array([*(moment is None for moment in moments), True])
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return value[codes], bad[codes]


def _moment(text: str) -> int | None:
    """Microseconds since 1970; None if it is no date in ISO 8601."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _codes(parts: list[Any], nobody: Collection[str]) -> tuple[npt.NDArray[np.int64], list[str]]:
    """(R,) the place of each id among the ids, ascending; −1 for null and for a name that stands for nobody."""
    import pyarrow

    if not parts:
        return np.zeros(0, dtype=np.int64), []
    whole = pyarrow.chunked_array(parts).unify_dictionaries()
    values = whole.chunk(0).dictionary
    texts = [as_id(text_of(value).strip()) for value in values_of(values)]
    ids = sorted({text for text in texts if text.lower() not in nobody})
    place = {text: number for number, text in enumerate(ids)}
    number = np.array([*(place.get(text, -1) for text in texts), -1], dtype=np.int64)
    codes = np.concatenate([part.indices.fill_null(-1).to_numpy(zero_copy_only=False) for part in whole.chunks])
    return number[codes], ids
