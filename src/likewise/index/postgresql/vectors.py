"""Rows of numbers as pgvector takes them in binary."""

from typing import Any

import numpy as np
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types import TypeInfo


class _Vector(Dumper):
    """pgvector's form: the count of numbers, a zero (both 16 bits), the numbers as float32; the high byte first."""

    format = Format.BINARY

    def dump(self, obj: Any) -> bytes:
        """The bytes of (D,) numbers."""
        numbers: bytes = obj.astype(">f4").tobytes()
        return len(obj).to_bytes(2) + b"\0\0" + numbers


def register(connection: Any) -> None:
    """Makes a connection take arrays of NumPy where SQL says ``vector``."""
    info = TypeInfo.fetch(connection, "vector")
    assert info is not None
    info.register(connection)
    connection.adapters.register_dumper(np.ndarray, type("_Vector", (_Vector,), {"oid": info.oid}))
