"""What the columns of a parquet file can be used for: images, ids, labels."""

from collections.abc import Callable, Iterable
from typing import Any

from likewise.errors import LikewiseError, closest

NEEDED = "a struct with binary bytes, or binary"


def image_columns(schema: Any) -> list[str]:
    """The columns that hold images: structs with ``bytes``, and after them binary columns."""
    from pyarrow import types

    structs = [field.name for field in schema if types.is_struct(field.type) and is_images(field.type)]
    return structs + [field.name for field in schema if _is_bytes(field.type)]


def is_images(kind: Any) -> bool:
    """Whether a column of this type holds images."""
    from pyarrow import types

    if not types.is_struct(kind):
        return _is_bytes(kind)
    place = kind.get_field_index("bytes")
    return place >= 0 and (_is_bytes(kind.field(place).type) or types.is_null(kind.field(place).type))


def image_parts(column: str, kind: Any) -> tuple[str, str | None]:
    """The names, as parquet has them, of an image column's bytes and of its paths, if it has these."""
    from pyarrow import types

    if not types.is_struct(kind):
        return column, None
    place = kind.get_field_index("path")
    has_paths = place >= 0 and not types.is_nested(kind.field(place).type)
    return f"{column}.bytes", f"{column}.path" if has_paths else None


def holds_ids(kind: Any) -> bool:
    """Whether a column of this type can name items: text, numbers or dates, but no bytes, lists or structs."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return not (_is_bytes(kind) or types.is_fixed_size_binary(kind) or types.is_nested(kind))


def holds_labels(kind: Any) -> bool:
    """Whether a column of this type can hold labels: what can be an id, or lists of these."""
    return holds_ids(kind.value_type if is_list(kind) else kind)


def family(kind: Any) -> str | None:
    """A name for the types that write equal labels as the same text; None for a column without values."""
    from pyarrow import types

    kind = _inmost(kind)
    if types.is_null(kind):
        return None
    if types.is_timestamp(kind):
        return f"times of the zone {kind.tz}"
    families = (
        ("numbers", (types.is_integer, types.is_floating, types.is_decimal)),
        ("text", (types.is_string, types.is_large_string, types.is_string_view)),
        ("dates", (types.is_date,)),
    )
    return next((name for name, tests in families if any(test(kind) for test in tests)), str(kind))


def values_of(column: Any) -> list[Any]:
    """The values of an Arrow array of ids or labels. A float32 stays one, for which 0.1 is no other number in text."""
    import numpy as np
    from pyarrow import types

    kind = _inmost(column.type)
    narrow = {types.is_float16: np.float16, types.is_float32: np.float32}
    to = next((scalar for test, scalar in narrow.items() if test(kind)), None)
    return column.to_pylist() if to is None else [_each(value, to) for value in column.to_pylist()]


def _each(value: Any, to: Callable[[float], object]) -> Any:
    """A number, or each of a list of them, as another type."""
    if value is None:
        return None
    return [_each(part, to) for part in value] if isinstance(value, list) else to(value)


def _inmost(kind: Any) -> Any:
    """The type of the values in lists and dictionaries."""
    from pyarrow import types

    while types.is_dictionary(kind) or is_list(kind):
        kind = kind.value_type
    return kind


def is_list(kind: Any) -> bool:
    """Whether a column of this type holds lists."""
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def is_numbers(kind: Any) -> bool:
    """Whether a column of this type holds numbers, or true and false: a number of a vector in each row."""
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind))


def is_number_lists(kind: Any) -> bool:
    """Whether a column of this type holds lists of numbers: a vector in each row."""
    return is_list(kind) and is_numbers(kind.value_type)


def column_type(schema: Any, others: Iterable[str], name: str, file: str) -> Any:
    """The type of a column; None if it is one of ``others``, which the names of folders stand for.

    Raises:
        LikewiseError: no column of that name, or several.
    """
    names = schema.names
    if names.count(name) > 1:
        raise LikewiseError(f"{file} has {names.count(name)} columns {name!r}; rename or remove all but one.")
    if name in names:
        return schema.field(name).type
    if name in others:
        return None
    names = [*names, *others]
    raise LikewiseError(f"{file} has no column {name!r}.{closest(name, names)} Its columns are {', '.join(names)}.")


def _is_bytes(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))
