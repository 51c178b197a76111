"""Conditions on the metadata of items, such as ``year >= 2000`` or ``colour in red,blue``."""

import csv
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from likewise.errors import LikewiseError, closest
from likewise.text import quoted

SIGNS = {"=": "equal", "!=": "not_equal", "<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal"}
_SIGN = re.compile(r"<=|>=|!=|==|=|<|>|\sin\s")  # searched for once: a text without one takes no longer than any other
EXAMPLE = "such as 'year >= 2000', 'colour = red' or 'colour in red,blue'"


class Condition(NamedTuple):
    """A column, a sign of ``SIGNS`` or ``in``, and the values as text: one, or several after ``in``."""

    column: str
    sign: str
    values: tuple[str, ...]


def parse(text: str) -> Condition:
    """A condition as a user writes it: COLUMN, then = != < <= > >= with a value, or ``in`` with values and commas.

    A value in single quotes keeps its commas and blanks. Raises LikewiseError on anything else.
    """
    text = text.strip()
    found = _SIGN.search(text, 1)
    if found is None:
        raise LikewiseError(f"the condition {quoted(text)} is no COLUMN SIGN VALUE, {EXAMPLE}.")
    sign = {"==": "="}.get(found[0].strip(), found[0].strip())
    written = text[found.end() :].strip()
    try:
        values = tuple(next(csv.reader([written], quotechar="'", skipinitialspace=True), []))
    except csv.Error:  # a line that ends in the middle, or a value of 100,000 characters
        values = ()
    if not values or (sign != "in" and len(values) > 1):
        wanted = "one value" if values else "a value"
        raise LikewiseError(f"the condition {quoted(text)} needs {wanted}, {EXAMPLE}.")
    return Condition(text[: found.start()].strip().strip("\"'"), sign, values)


def parse_all(where: str | Sequence[str]) -> tuple[Condition, ...]:
    """Conditions that hold together."""
    return tuple(parse(text) for text in ([where] if isinstance(where, str) else where))


def matching(columns: Any, conditions: Sequence[Condition]) -> npt.NDArray[np.bool_]:
    """Which rows of a table of pyarrow all conditions hold for. A missing value matches no condition.

    Raises LikewiseError on a column that is not there, and on a value that its type can't hold. Cost: a pass over each
    column that is named.
    """
    import pyarrow.compute as pc

    found = np.ones(columns.num_rows, np.bool_)
    for condition in conditions:
        column = _column(columns, condition)
        values = typed(condition, column.type)
        if condition.sign == "in":
            holds = pc.and_kleene(pc.is_in(column, values), pc.is_valid(column))
        else:
            holds = getattr(pc, SIGNS[condition.sign])(column, values[0])
        found &= holds.fill_null(False).to_numpy(zero_copy_only=False).astype(np.bool_)
    return found


def _column(columns: Any, condition: Condition) -> Any:
    import pyarrow as pa

    if condition.column not in columns.column_names:
        raise LikewiseError(no_such_column(condition.column, columns.column_names))
    column = columns[condition.column].combine_chunks()
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def no_such_column(column: str, known: Sequence[str]) -> str:
    """What is said of a condition on a column that an index does not have."""
    has = f"has {', '.join(known)}" if known else "has none; give some with --metadata FILE when it is made"
    return f"the index has no column {quoted(column)}.{closest(column, known)} It {has}."


def typed(condition: Condition, kind: Any) -> Any:
    """The values of a condition as an array of pyarrow, of the column's type."""
    import pyarrow as pa

    try:
        if pa.types.is_boolean(kind):
            known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
            return pa.array([known[value.lower()] for value in condition.values])
        return pa.array(condition.values, pa.string()).cast(kind)
    except (pa.ArrowException, KeyError):
        values = ", ".join(map(quoted, condition.values))
        raise LikewiseError(
            f"the condition on {quoted(condition.column)} has {values}, but the column holds {kind}."
        ) from None
