"""The fields of a collection of items, their values, and conditions on them in Milvus' language.

``key`` numbers rows: an item that is replaced gets another. A row is of the generations from ``since`` until before
``until``. Milvus 2.3 has no missing values, so each column of the metadata has two fields: its values, and a state.
Integers, booleans, dates and times are held as INT64, whose order is theirs; floats as DOUBLE, an infinity as the
largest number; texts as VARCHAR, and uint64 as text of 20 digits.
"""

import base64
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from likewise.errors import LikewiseError
from likewise.index.conditions import SIGNS, Condition, no_such_column, typed
from likewise.index.layout import Layout, Part
from likewise.text import quoted, utf8

FOREVER = 1 << 62
NEVER, ALWAYS = "key < 0", "key >= 0"
WIDEST = 32_768  # numbers of a row
TEXT = 65_535  # bytes of a text
MOST_FIELDS = 64
MISSING, HERE, NAN = 0, 1, 2  # states
_LEAST = -(1 << 63)
_LARGEST = float(np.finfo(np.float64).max)

Rows = npt.NDArray[np.float32]


class Column(NamedTuple):
    """A column of the metadata: the fields of its values and states, and how a value is held."""

    values: str
    state: str
    held: str  # whole, real, digits or text


def columns_of(schema: Any) -> list[Column]:
    """The columns of a schema of pyarrow. Raises LikewiseError on a type that Milvus can't hold, and on too many."""
    found = []
    for place, field in enumerate(schema):
        name = re.sub("[^A-Za-z0-9_]", "_", field.name)[:60]
        found.append(Column(f"c{place}_{name}", f"s{place}", _held(field)))
    if len(found) > (most := (MOST_FIELDS - 7) // 2):
        raise LikewiseError(f"the metadata have {len(found)} columns, but a collection of Milvus takes {most}.")
    return found


def _held(field: Any) -> str:
    from pyarrow import types

    kind, times = field.type, (types.is_date, types.is_time, types.is_timestamp)
    known = {
        "digits": types.is_uint64(kind),
        "whole": any(is_(kind) for is_ in (types.is_integer, types.is_boolean, *times)),
        "real": types.is_floating(kind),
        "text": types.is_string(kind) or types.is_large_string(kind),
    }
    found = next((held for held, holds in known.items() if holds), None)
    if found is None:
        raise LikewiseError(
            f"the column {quoted(field.name)} of the metadata holds {kind}, which Milvus has no type for."
        )
    return found


def fields_of(client: Any, layout: Layout, description: str) -> Any:
    """The schema of a collection."""
    from pymilvus import DataType

    if layout.dim > WIDEST or (layout.queries and layout.dim > TEXT // 6):
        most = TEXT // 6 if layout.queries else WIDEST
        raise LikewiseError(f"the rows have {layout.dim:,} numbers, but Milvus holds {most:,} at most.")
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False, description=description)
    schema.add_field("key", DataType.INT64, is_primary=True)
    schema.add_field("id", DataType.VARCHAR, max_length=TEXT)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=layout.dim)
    schema.add_field("since", DataType.INT64)
    schema.add_field("until", DataType.INT64)
    if layout.queries:  # a collection of Milvus 2.3 has one vector
        schema.add_field("query_embedding", DataType.VARCHAR, max_length=TEXT)
    if layout.contents:
        schema.add_field("content", DataType.VARCHAR, max_length=32)
    kinds = {"whole": DataType.INT64, "real": DataType.DOUBLE, "digits": DataType.VARCHAR, "text": DataType.VARCHAR}
    for column in columns_of(layout.schema):
        more = {"max_length": TEXT} if kinds[column.held] == DataType.VARCHAR else {}
        schema.add_field(column.values, kinds[column.held], **more)
        schema.add_field(column.state, DataType.INT8)
    return schema


def encoded(held: str, values: Any) -> tuple[list[Any], list[int]]:
    """The values of an array of pyarrow as Milvus holds them, and their states."""
    import pyarrow as pa

    if held == "real":
        given = [None if v is None else float(v) for v in values.to_pylist()]
        states = [MISSING if v is None else NAN if v != v else HERE for v in given]
        return [max(-_LARGEST, min(_LARGEST, v)) if v is not None and v == v else 0.0 for v in given], states
    if held == "whole":
        narrow = pa.types.is_date32(values.type) or pa.types.is_time32(values.type)
        given = (values.cast(pa.int32()) if narrow else values).cast(pa.int64()).to_pylist()
        return [v or 0 for v in given], [MISSING if v is None else HERE for v in given]
    given = values.to_pylist()
    if held == "digits":
        return [f"{v or 0:020}" for v in given], [MISSING if v is None else HERE for v in given]
    return [v or "" for v in given], [MISSING if v is None else HERE for v in given]


def decoded(kind: Any, held: str, values: Sequence[Any], states: Sequence[int]) -> Any:
    """An array of pyarrow of what ``encoded`` gave."""
    import pyarrow as pa

    if held == "real":
        reals = np.array(values, np.float64)
        reals[np.abs(reals) >= _LARGEST] *= np.inf
        reals[np.array(states) == NAN] = np.nan
        return pa.array(reals, mask=np.array(states) == MISSING).cast(kind, safe=False)
    if held == "whole":
        whole = pa.array([None if s == MISSING else v for v, s in zip(values, states, strict=True)], pa.int64())
        narrow = pa.types.is_date32(kind) or pa.types.is_time32(kind)
        return (whole.cast(pa.int32()) if narrow else whole).cast(kind)
    given = [None if s == MISSING else v for v, s in zip(values, states, strict=True)]
    return pa.array([None if v is None else int(v) for v in given] if held == "digits" else given, kind)


def records(layout: Layout, part: Part, keys: npt.NDArray[np.int64], since: int) -> list[dict[str, Any]]:
    """The fields of items with these keys, of a generation. Raises LikewiseError on a text that is too long."""
    assert part.rows is not None
    ids = [utf8(item).decode() for item in part.ids]
    fields: dict[str, Sequence[Any]] = {
        "key": keys.tolist(),
        "id": ids,
        "embedding": list(part.rows.numpy()),
        "since": [since] * len(ids),
        "until": [FOREVER] * len(ids),
    }
    if part.query_rows is not None:
        fields["query_embedding"] = [base64.b64encode(row.tobytes()).decode() for row in part.query_rows.numpy()]
    if part.contents is not None:
        fields["content"] = [bytes(content).hex() for content in part.contents]
    for column, field in zip(columns_of(layout.schema), layout.schema, strict=True):
        fields[column.values], fields[column.state] = encoded(column.held, part.columns[field.name].combine_chunks())
    for name, values in fields.items():
        for item, value in zip(ids, values, strict=True):
            if isinstance(value, str) and len(value.encode()) > TEXT:
                raise LikewiseError(f"the {name} of {quoted(item)} has over {TEXT:,} bytes, which Milvus can't hold.")
    return [dict(zip(fields, each, strict=True)) for each in zip(*fields.values(), strict=True)]


def query_row(text: str) -> Rows:
    """The numbers of a ``query_embedding``."""
    return np.frombuffer(base64.b64decode(text), np.float32)


def literal(value: str | int | float) -> str:
    """A value in Milvus' language. A text's quotes, backslashes and control characters are escaped."""
    if value == _LEAST:  # whose digits alone are too large a number
        return f"({_LEAST + 1} - 1)"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def expression(layout: Layout, conditions: Sequence[Condition]) -> str:
    """What all conditions say in Milvus' language; a missing value and NaN match as in ``conditions.matching``.

    Raises LikewiseError on a column that is not there, and on a value that its type can't hold.
    """
    said = [ALWAYS]
    for condition in conditions:
        if condition.column not in layout.schema.names:
            raise LikewiseError(no_such_column(condition.column, layout.schema.names))
        place = layout.schema.names.index(condition.column)
        column = columns_of(layout.schema)[place]
        values, states = encoded(column.held, typed(condition, layout.schema.field(condition.column).type))
        said.append(_said(column, condition.sign, values, states))
    return " and ".join(f"({each})" for each in said)


def _said(column: Column, sign: str, values: Sequence[Any], states: Sequence[int]) -> str:
    here, nan = f"{column.state} == {HERE}", f"{column.state} == {NAN}"
    if sign == "in":
        listed = ", ".join(literal(value) for value, state in zip(values, states, strict=True) if state == HERE)
        ways = [f"({here} and {column.values} in [{listed}])"] if listed else []
        return " or ".join(ways + [nan] * (NAN in states))
    if states[0] == NAN:  # which is unlike every number, and itself
        return f"{here} or {nan}" if sign == "!=" else NEVER
    assert sign in SIGNS
    holds = f"({here} and {column.values} {'==' if sign == '=' else sign} {literal(values[0])})"
    return f"{holds} or {nan}" if sign == "!=" else holds
