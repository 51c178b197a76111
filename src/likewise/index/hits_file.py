"""The hits of queries as a table in a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from likewise.errors import LikewiseError
from likewise.files import atomic_write, place_for
from likewise.text import utf8

if TYPE_CHECKING:
    from likewise.index.hits import Hit


def table_file(path: str | Path) -> Path:
    """The path of a table to write. Raises LikewiseError unless it ends in .csv or .parquet and can be written."""
    place = place_for(path)
    if place.suffix.lower() not in (".csv", ".parquet"):
        raise LikewiseError(f"a table is written as .csv or .parquet, so {place} must end so.")
    return place


def write_table(path: Path, columns: Mapping[str, Sequence[object]]) -> None:
    """Writes columns of texts and numbers as .csv or .parquet, whole or not at all."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    texts = {
        name: pa.array(map(utf8, map(str, values)), pa.string()) if _texts(values) else pa.array(values)
        for name, values in columns.items()
    }
    table = pa.table(texts)
    with atomic_write(path) as file:
        if path.suffix.lower() == ".csv":
            csv.write_csv(table, file)
        else:
            parquet.write_table(table, file)


def _texts(values: Sequence[object]) -> bool:
    return len(values) > 0 and isinstance(values[0], str)


def write_hits(path: Path, found: Mapping[str, Sequence["Hit"]]) -> None:
    """Writes a row for each hit: query, rank from 1, id, score."""
    rows = [(query, rank, hit.id, hit.score) for query, hits in found.items() for rank, hit in enumerate(hits, 1)]
    names = ("query", "rank", "id", "score")
    write_table(path, {name: [row[place] for row in rows] for place, name in enumerate(names)})
