"""Tables that people and other tools read, as .csv or .parquet, with a stamp of what made them.

A .parquet file has the stamp in its schema's metadata under the key ``likewise``, as JSON. A .csv file stays plain: its
stamp is in a file beside it, ``NAME.csv.json``.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from likewise.errors import LikewiseError
from likewise.files import atomic_write, from_json, place_for
from likewise.stamp import Stamp
from likewise.text import utf8

ENDINGS = (".csv", ".parquet")
KEY = b"likewise"
VERSION = "likewise"  # the entry that every stamp has


def is_table(path: str | Path) -> bool:
    """Whether the name of a file is that of a table: it ends in .csv or .parquet."""
    return Path(path).suffix.lower() in ENDINGS


def table_file(path: str | Path, what: str = "--out") -> Path:
    """The path of a table to write, checked before the work.

    Raises LikewiseError unless it ends in .csv or .parquet and can be written, and where the file beside a .csv would
    replace one that is no stamp.
    """
    place = place_for(path, what)
    if not is_table(place):
        raise LikewiseError(f"a table is written as .csv or .parquet, so {place} must end so.")
    if place.suffix.lower() == ".csv":
        beside = beside_csv(place)
        if beside.exists() and VERSION not in _read(beside):
            raise LikewiseError(
                f"what made {place} is written to {beside}, which is there and is another file; name another {what}."
            )
    return place


def write_table(path: Path, columns: Mapping[str, Sequence[object]], stamp: Stamp) -> None:
    """Writes columns of texts and numbers, and their stamp, each file whole or not at all. The stamp is written first.

    Raises LikewiseError as ``table_file``, OSError from the file system.
    """
    import pyarrow as pa

    arrays = {
        name: pa.array(map(utf8, map(str, values)), pa.string()) if _texts(values) else pa.array(values)
        for name, values in columns.items()
    }
    write_arrow(path, pa.table(arrays), stamp)


def write_arrow(path: Path, table: Any, stamp: Stamp) -> None:
    """As ``write_table``, of a table of pyarrow."""
    from pyarrow import csv, parquet

    path = table_file(path)
    if path.suffix.lower() == ".csv":
        with atomic_write(beside_csv(path)) as file:
            file.write(utf8(json.dumps(stamp, indent=1, ensure_ascii=False)))
        with atomic_write(path) as file:
            csv.write_csv(table, file)
        return
    with atomic_write(path) as file:
        parquet.write_table(stamped(table, stamp), file)


def stamped(table: Any, stamp: Mapping[str, object]) -> Any:
    """A table of pyarrow with the stamp in its metadata."""
    text = json.dumps(dict(stamp), ensure_ascii=False)
    return table.replace_schema_metadata({KEY: text.encode(errors="backslashreplace")})


def stamp_of(path: Path) -> Mapping[str, object]:
    """What made a table; empty of a table that is not ours, and where nothing can be read."""
    import pyarrow as pa
    from pyarrow import parquet

    if path.suffix.lower() == ".csv":
        return _read(beside_csv(path))
    try:
        with open(path, "rb") as file:
            metadata = parquet.ParquetFile(file).schema_arrow.metadata or {}
    except (OSError, pa.ArrowException):
        return {}
    return _as_stamp(metadata.get(KEY, b"{}"))


def beside_csv(path: Path) -> Path:
    """``list.csv.json`` of ``list.csv``."""
    return path.with_name(f"{path.name}.json")


def _read(path: Path) -> Mapping[str, object]:
    try:
        return _as_stamp(path.read_bytes())
    except OSError:
        return {}


def _as_stamp(text: bytes) -> Mapping[str, object]:
    try:
        found = from_json(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _texts(values: Sequence[object]) -> bool:
    return len(values) > 0 and isinstance(values[0], str)
