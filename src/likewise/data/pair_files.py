"""Reads pairs, triplets and graded relevance of items by id from CSV or parquet; an error names the line and the id.

Dimension legend: M pairs, triplets or judged items, N items, R rows of a file, W ids of a row (2 or 3).
"""

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.data.id_rows import all_alike_in, open_rows
from likewise.data.items import Skipped, as_id
from likewise.errors import LikewiseError, closest
from likewise.files import as_path
from likewise.text import quoted, shortened

_SHOWN = 5  # bad rows in an error
_HINTED = 100  # bad rows that get the closest known id: finding it takes milliseconds
_NEAR = 50  # an unknown id is compared with so many ids before and after it in the alphabet
_WORDS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}  # and the numbers 1 and 0, however they are written


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Pairs of items, each unordered pair once, in the file's order.

    Args:
        rows: (M, 2) int64, rows of the items.
        alike: (M,) bool, whether each pair is alike.
        merged: number of rows of the file that repeat an earlier row.
        skipped: rows of the file that were left out, as "line 7", with the reason.
        source: the file, for messages.
        weight: (M,) float64, of a graph's edges; None of a file of pairs.
        known: (K,) int64, rows of the items that the graph's interactions know, also without an edge; None: all.
    """

    rows: Tensor
    alike: Tensor
    merged: int = 0
    skipped: tuple[Skipped, ...] = ()
    source: str = ""
    weight: Tensor | None = None
    known: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def all_alike(self) -> bool:
        """Whether no pair says that two items are not alike."""
        return bool(self.alike.all())


@dataclass(frozen=True, kw_only=True, eq=False)
class Triplets:
    """Triplets of items, each once, in the file's order.

    Args:
        rows: (M, 3) int64, rows of the items: anchor, positive, negative.
        merged: number of rows of the file that repeat an earlier row.
        skipped: rows of the file that were left out, as "line 7", with the reason.
        source: the file, for messages.
    """

    rows: Tensor
    merged: int = 0
    skipped: tuple[Skipped, ...] = ()
    source: str = ""

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, kw_only=True, eq=False)
class Graded:
    """Graded relevance of items to queries, each query and item once, in the file's order.

    Args:
        rows: (M, 2) int64, rows of the items: query, item.
        relevance: (M,) float64, 0 or more; higher is more relevant.
        merged: number of rows of the file that repeat an earlier row.
        skipped: rows of the file that were left out, as "line 7", with the reason.
        source: the file, for messages.
    """

    rows: Tensor
    relevance: Tensor
    merged: int = 0
    skipped: tuple[Skipped, ...] = ()
    source: str = ""

    def __len__(self) -> int:
        return len(self.rows)

    def by_query(self) -> tuple[Tensor, Tensor]:
        """(M,) int64 order in which the rows of a query follow each other, and the (L + 1,) offsets of the queries.

        As ``lw.ndcg(scores, graded.relevance[order], offsets=offsets)`` and the objectives of lists take them.
        """
        order = self.rows[:, 0].argsort(stable=True)
        lengths = torch.unique_consecutive(self.rows[order, 0], return_counts=True)[1]
        return order, torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])

    def queries(self) -> tuple[int, int]:
        """The number of queries, and of those with items of different relevance, of which an order can be better."""
        queries, of = torch.unique(self.rows[:, 0], return_inverse=True)
        none = torch.zeros(len(queries), dtype=self.relevance.dtype)
        least, most = (none.scatter_reduce(0, of, self.relevance, how, include_self=False) for how in ("amin", "amax"))
        return len(queries), int((least < most).sum())


Relations = Pairs | Triplets | Graded


def read_pairs(
    path: str | Path, ids: Sequence[str], *, skip_bad: bool = False, skipped: Sequence[Skipped] = ()
) -> Pairs:
    """Read pairs of items: the columns ``a``, ``b`` (ids) and ``alike`` of a .csv or .parquet file.

    A file with the columns ``a`` and ``b`` alone has only pairs that are alike.

    CSV is UTF-8 with a header line. Columns may be in any order, and there may be others. An id with a comma or a
    leading space must be in quotes; its Unicode form does not matter. ``alike`` is 1 or 0 (or 1.00), true or false, yes
    or no, in upper or lower case; in parquet also bool. (a, b) and (b, a) are the same pair; repeated pairs are merged.

    Args:
        path: the file.
        ids: N unique ids of the items, such as ``Items.ids``; an id's place is its row.
        skip_bad: leave out bad rows and list them in ``Pairs.skipped``; a contradiction is still an error.
        skipped: items that could not be used, such as ``Items.skipped``. Rows that name them are not an error: they are
            left out and listed in ``Pairs.skipped``.

    Raises:
        LikewiseError: the file is missing, empty or damaged, or lacks a column; no row can be used; or one row says
            that a pair is alike and another that it is not. With ``skip_bad=False`` also if there are bad rows: an
            unknown id (the message has the closest known one), an empty field, an item paired with itself, another word
            for alike. The message has the first five bad rows by line.

    Cost: O(R log R) time, about 8 s for a million rows among a million items. Memory 8·(W + 2)·R bytes, a dictionary of
    the ids, and the text of 65,536 rows.
    """
    file = as_path(path, "the file of pairs or triplets")
    table = _read("read_pairs", file, ids, ("a", "b"), None if all_alike_in(file) else _ALIKE, skipped)
    table.refuse(table.rows[:, 0] == table.rows[:, 1], lambda names: f"{quoted(names[0])} is paired with itself")
    kept, merged = _settle(
        table,
        np.sort(table.rows, axis=1),
        table.values,
        lambda names, alike: f"{quoted(names[0])} and {quoted(names[1])} are {'alike' if alike else 'not alike'}",
        skip_bad,
    )
    return Pairs(
        rows=torch.from_numpy(table.rows[kept]),
        alike=torch.from_numpy(table.values[kept] == 1),
        merged=merged,
        skipped=table.skipped(),
        source=table.name,
    )


def read_triplets(
    path: str | Path, ids: Sequence[str], *, skip_bad: bool = False, skipped: Sequence[Skipped] = ()
) -> Triplets:
    """Read triplets of items: the columns ``anchor``, ``positive`` and ``negative`` (ids) of a .csv or .parquet file.

    File, arguments and errors are as for :func:`read_pairs`. A row is also bad if its three items are not all
    different. Two triplets contradict each other if the positive of one is the negative of the other, and the reverse.

    Raises:
        LikewiseError: as :func:`read_pairs`.

    Cost: as :func:`read_pairs`.
    """
    file = as_path(path, "the file of pairs or triplets")
    table = _read("read_triplets", file, ids, ("anchor", "positive", "negative"), None, skipped)
    anchor, positive, negative = table.rows.T
    table.refuse(anchor == positive, lambda names: f"{quoted(names[0])} is anchor and positive")
    table.refuse(anchor == negative, lambda names: f"{quoted(names[0])} is anchor and negative")
    table.refuse(positive == negative, lambda names: f"{quoted(names[1])} is positive and negative")
    kept, merged = _settle(
        table,
        np.stack([anchor, np.minimum(positive, negative), np.maximum(positive, negative)], axis=1),
        (positive < negative).astype(np.float64),
        lambda names, _: f"{quoted(names[0])} is closer to {quoted(names[1])} than to {quoted(names[2])}",
        skip_bad,
    )
    return Triplets(rows=torch.from_numpy(table.rows[kept]), merged=merged, skipped=table.skipped(), source=table.name)


def read_graded(
    path: str | Path, ids: Sequence[str], *, skip_bad: bool = False, skipped: Sequence[Skipped] = ()
) -> Graded:
    """Read graded relevance: the columns ``query``, ``item`` (ids) and ``relevance`` of a .csv or .parquet file.

    Queries and items are both items of the data. The rows of a query may stand anywhere in the file. ``relevance`` is a
    finite number, 0 or more: 0 is not relevant. File, arguments and errors are as for :func:`read_pairs`; here (a, b)
    and (b, a) are two rows, of two queries.

    Raises:
        LikewiseError: as :func:`read_pairs`: a bad row has an unknown id, an empty field, an item that is its own
            query, or a relevance that is no such number; two rows contradict each other if they give one item of a
            query two relevances.

    Cost: as :func:`read_pairs`.
    """
    file = as_path(path, "the file of graded relevance")
    table = _read("read_graded", file, ids, ("query", "item"), _RELEVANCE, skipped)
    table.refuse(table.rows[:, 0] == table.rows[:, 1], lambda names: f"{quoted(names[0])} is query and item")
    kept, merged = _settle(
        table,
        table.rows,
        table.values,
        lambda names, value: f"the relevance of {quoted(names[1])} to {quoted(names[0])} is {value:g}",
        skip_bad,
    )
    return Graded(
        rows=torch.from_numpy(table.rows[kept]),
        relevance=torch.from_numpy(table.values[kept]),
        merged=merged,
        skipped=table.skipped(),
        source=table.name,
    )


class _Last(NamedTuple):
    """The last column of a file, with a number for each row."""

    name: str
    value: Callable[[str], float]  # of a text without spaces around it, in lower case; below 0: not understood
    wrong: str  # what a text that is not understood should be


def _alike(text: str) -> float:
    """1, 0 or −1 for a word, or for a number such as 1, 1.0 or 0.00."""
    try:
        number = float(text)
        return number if number in (0.0, 1.0) else -1.0
    except ValueError:
        return _WORDS.get(text, -1.0)


def _relevance(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return -1.0
    return number + 0.0 if math.isfinite(number) and number >= 0 else -1.0  # −0.0 is 0


_ALIKE = _Last("alike", _alike, "not 1 or 0, true or false, yes or no")
_RELEVANCE = _Last("relevance", _relevance, "not a finite number, 0 or more")


@dataclass
class _Table:
    """The rows of a file, and which of them are bad."""

    reader: str  # the function that reads it
    name: str
    word: str  # "line" or "row"
    ids: Sequence[str]
    numbers: npt.NDArray[np.int64]  # (R,) of each row in the file
    rows: npt.NDArray[np.int64]  # (R, W) of the items, −1 where there is none
    values: npt.NDArray[np.float64]  # (R,) of the last column; 1 where there is none
    bad: dict[int, str] = field(default_factory=dict)  # reasons, by place in the arrays above
    lost: dict[int, str] = field(default_factory=dict)  # the same, for rows that name an item that could not be used

    def where(self, place: int) -> str:
        """The row in words, such as "line 7"."""
        return f"{self.word} {self.numbers[place]}"

    def names(self, place: int) -> list[str]:
        """The ids in a row, if all of them are known."""
        return [self.ids[row] for row in self.rows[place].tolist()]

    def refuse(self, mask: npt.NDArray[np.bool_], reason: Callable[[list[str]], str]) -> None:
        """Mark the rows of ``mask`` (R,) as bad, unless they are bad or left out already."""
        for place in np.flatnonzero(mask).tolist():
            if place not in self.bad and place not in self.lost:
                self.bad[place] = reason(self.names(place))

    def skipped(self) -> tuple[Skipped, ...]:
        """The rows that are left out, in the file's order."""
        reasons = self.bad | self.lost
        return tuple(Skipped(id=self.where(place), reason=reasons[place]) for place in sorted(reasons))


def _settle(
    table: _Table,
    keys: npt.NDArray[np.int64],
    sides: npt.NDArray[np.float64],
    say: Callable[[list[str], float], str],
    skip_bad: bool,
) -> tuple[npt.NDArray[np.int64], int]:
    """Merge rows that repeat each other; returns the places of the rows to keep and the number of merged ones.

    Args:
        table: the rows.
        keys: (R, W), equal for rows with the same pair or triplet, which repeat or contradict each other.
        sides: (R,) what each row says of its key; rows with the same key must have the same side.
        say: gives what a row says in words, from its ids and side.
        skip_bad: whether bad rows are left out; otherwise they are an error.
    """
    good = np.ones(len(keys), dtype=bool)
    good[[*table.bad, *table.lost]] = False
    places = np.flatnonzero(good)
    order = places[np.lexsort(tuple(keys[places].T))]  # stable: rows of one key stay in the file's order
    begins = np.append(True, (keys[order][1:] != keys[order][:-1]).any(axis=1))[: len(order)]
    first = order[begins][begins.cumsum() - 1]  # for each, the first row of its key
    clashes = {}
    for place, earlier in zip(*(x[sides[order] != sides[first]].tolist() for x in (order, first)), strict=True):
        what, before = (say(table.names(at), float(sides[at])) for at in (place, earlier))
        clashes[place] = f"says that {what}, but {table.where(earlier)} that {before}"
    _complain(table, clashes, skip_bad)
    return np.sort(order[begins]), len(order) - int(begins.sum())


def _complain(table: _Table, clashes: dict[int, str], skip_bad: bool) -> None:
    """Raise LikewiseError unless the remaining rows can be used."""
    total = len(table.numbers)
    if (skip_bad or not table.bad) and not clashes and len(table.bad) + len(table.lost) == total:
        problems, advice = table.bad | table.lost, "correct them, or give the items that they are about"
    elif skip_bad or not table.bad:
        problems, advice = clashes, "keep the right ones"
    else:
        hint = "" if clashes else f"; likewise.{table.reader}(..., skip_bad=True) lists them all"
        problems, advice = table.bad | clashes, f"correct them, or take them out of the file{hint}"
    if not problems:
        return
    shown = [f"{table.where(place)}: {problems[place]}" for place in sorted(problems)[:_SHOWN]]
    more = "; …" if len(problems) > _SHOWN else ""
    verb = "contradict others" if problems is clashes else "cannot be used"
    raise LikewiseError(
        f"{table.name}: {len(problems):,} of the {total:,} rows {verb} ({'; '.join(shown)}{more}); {advice}."
    )


def _read(
    reader: str,
    path: Path,
    ids: Sequence[str],
    columns: tuple[str, ...],
    last: _Last | None,
    skipped: Sequence[Skipped],
) -> _Table:
    """Read all rows of a file; mark bad rows, and rows that name items that could not be used."""
    wanted = [*columns, last.name] if last else list(columns)
    word, chunks = open_rows(path, wanted)
    known = {as_id(id): row for row, id in enumerate(ids)}
    parts: list[npt.NDArray[np.int64]] = []  # (R, 1 + W) numbers, rows
    values: list[npt.NDArray[np.float64]] = []
    bad: dict[int, str] = {}
    lost: dict[int, str] = {}
    wrong = last.wrong if last else ""
    total, reasons = 0, _Reasons(ids, wanted, wrong, {as_id(item.id): item.reason for item in skipped})
    for chunk in chunks:
        rows = [_look_up(column, known) for column in chunk.columns[: len(columns)]]
        values.append(_values(chunk.columns[-1], last) if last else np.ones(len(chunk.numbers)))
        parts.append(np.stack([np.array(chunk.numbers, dtype=np.int64), *rows], axis=1))
        unfit = (parts[-1] < 0).any(axis=1) | (values[-1] < 0)
        for place in sorted({*np.flatnonzero(unfit).tolist(), *chunk.problems}):
            texts, unknown = [column[place] for column in chunk.columns], [bool(row[place] < 0) for row in rows]
            reason = reasons.lost(texts, unknown) if values[-1][place] >= 0 else ""
            if reason:
                lost[total + place] = reason
            else:
                bad[total + place] = chunk.problems.get(place) or reasons.give(texts, unknown)
        total += len(chunk.numbers)
    if not total:
        raise LikewiseError(f"{path} holds no rows below its header; give a file that does.")
    table = np.concatenate(parts)
    return _Table(
        reader=reader,
        name=str(path),
        word=word,
        ids=ids,
        numbers=table[:, 0],
        rows=table[:, 1:],
        values=np.concatenate(values),
        bad=bad,
        lost=lost,
    )


def _look_up(texts: list[str], known: dict[str, int]) -> npt.NDArray[np.int64]:
    """The item row of each id, −1 for an unknown id. Spaces around an id are ignored, unless an id has them itself."""
    texts = list(map(as_id, texts))
    rows = list(map(known.get, texts))
    if None in rows:
        rows = [known.get(text.strip(), -1) if row is None else row for text, row in zip(texts, rows, strict=True)]
    return np.array(rows, dtype=np.int64)


def _values(texts: list[str], last: _Last) -> npt.NDArray[np.float64]:
    """The number of each text, below 0 where it is not understood."""
    known = {text: last.value(text.strip().lower()) for text in set(texts)}
    return np.array([known[text] for text in texts], dtype=np.float64)


@dataclass
class _Reasons:
    """Gives the reason why a row is bad; the first such rows also get the closest known id."""

    ids: Sequence[str]
    wanted: list[str]
    wrong: str  # what a text of the last column that is not understood should be
    unusable: dict[str, str]  # the reason why each skipped item could not be used, by its id
    hints: int = _HINTED

    def lost(self, texts: list[str], unknown: list[bool]) -> str:
        """Why the first unknown id has no item; empty unless every unknown id is that of a skipped item."""
        named = [self._skipped(text) for text, wrong in zip(texts, unknown, strict=False) if wrong]
        return f"{quoted(named[0])} could not be used: {self.unusable[named[0]]}" if named and all(named) else ""

    def _skipped(self, text: str) -> str:
        """The id of the skipped item that ``text`` names; empty for any other text."""
        text = as_id(text)
        return next((id for id in (text, text.strip()) if id in self.unusable), "")

    def give(self, texts: list[str], unknown: list[bool]) -> str:
        """The reason for a row, from the ``texts`` of its wanted columns; ``unknown`` marks ids that no item has."""
        if all(unknown) and [text.strip() for text in texts] == self.wanted:
            return "repeats the header"
        empty = next((name for name, text in zip(self.wanted, texts, strict=True) if not text.strip()), None)
        if empty:
            return f"{empty} is empty"
        for name, text, wrong in zip(self.wanted, texts, unknown, strict=False):
            if wrong and not self._skipped(text):
                return f"{name}: no item has the id {quoted(text)}{self._hint(text)}"
        return f"{self.wanted[-1]} is {quoted(texts[-1])}, {self.wrong}"

    def _hint(self, text: str) -> str:
        """The closest id among those with the same last part of the path, or else among neighbours in the alphabet."""
        if self.hints == 0:
            return ""
        self.hints -= 1
        ordered, named = self._index
        place = bisect.bisect(ordered, text)
        same = named.get(_last_part(text), [])[:_NEAR]
        near = ordered[max(0, place - _NEAR) : place + _NEAR]
        hint = closest(text, same, cutoff=0, shown=shortened) if same else closest(text, near, shown=shortened)
        return f".{hint}" if hint else ""

    @cached_property
    def _index(self) -> tuple[list[str], dict[str, list[str]]]:
        named: dict[str, list[str]] = {}
        for id in self.ids:
            named.setdefault(_last_part(id), []).append(id)
        return sorted(self.ids), named


def _last_part(id: str) -> str:
    return id.strip().replace("\\", "/").rpartition("/")[2].lower()
