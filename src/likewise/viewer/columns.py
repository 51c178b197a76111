"""Points as binary columns, which a browser reads without parsing numbers: ``static/columns.js`` is the reader.

``LWC1``; the length of the header, uint32; the header, JSON, padded with spaces; the columns, each at a multiple of 8
bytes. Numbers are little-endian. The header has ``rows`` and, for each of ``columns``, its name, type and offset from
the end of the header. A column with ``scale`` and ``least`` means least + scale × number.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from likewise.errors import LikewiseError

MAGIC = b"LWC1"
_TYPES = ("float32", "uint16", "int32", "uint8")
_ALIGN = 8
_LEVELS = 65_535  # of a column in 16 bits, from its least to its largest number


def pack_columns(
    columns: Mapping[str, npt.NDArray[Any]], about: Mapping[str, object], *, small: Collection[str] = ()
) -> bytes:
    """The bytes of columns of equal length.

    Args:
        columns: (N,) numbers each, of float32, uint16, int32 or uint8.
        about: more entries of the header, which must fit JSON.
        small: columns of finite float32 to be written as uint16, with a rounding error of 1 / 131,070 of their range.

    Raises:
        LikewiseError: a column has another type or length.

    Cost: the bytes twice.
    """
    rows = len(next(iter(columns.values()))) if columns else 0
    described, parts, at = list[dict[str, object]](), list[bytes](), 0
    for name, column in columns.items():
        if column.dtype.name not in _TYPES or column.shape != (rows,):
            raise LikewiseError(f"the column {name} is {column.dtype} of shape {column.shape}; it can't be packed.")
        entry: dict[str, object] = {"name": name}
        values = column
        if name in small:
            least, largest = (float(column.min()), float(column.max())) if rows else (0.0, 0.0)
            scale = (largest - least) / _LEVELS or 1.0
            values = np.rint((column.astype(np.float64) - least) / scale).astype(np.uint16)
            entry |= {"scale": scale, "least": least}
        part = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
        described.append(entry | {"type": values.dtype.name, "offset": at})
        parts.append(part + bytes(-len(part) % _ALIGN))
        at += len(parts[-1])
    text = json.dumps({**about, "rows": rows, "columns": described}, ensure_ascii=True).encode()
    text += b" " * (-len(text) % _ALIGN)
    return MAGIC + len(text).to_bytes(4, "little") + text + b"".join(parts)


def read_column(packed: bytes, name: str) -> npt.NDArray[Any]:
    """(N,) one column of what ``pack_columns`` gave, in the type that it is written in; it shares the memory."""
    start = 8 + int.from_bytes(packed[4:8], "little")
    header = json.loads(packed[8:start])
    entry = next(each for each in header["columns"] if each["name"] == name)
    kind = np.dtype(entry["type"]).newbyteorder("<")
    return np.frombuffer(packed, kind, header["rows"], start + entry["offset"])
