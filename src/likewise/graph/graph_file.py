"""Writes a graph as a folder: edges with a stamp of what made them, all items, and the summary as JSON."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from likewise.data.pair_files import Pairs
from likewise.data.parts import ids_that_meet
from likewise.errors import LikewiseError
from likewise.files import LOCK, as_path, from_json, make_writable, refuse_device, replace_folder, temporary_folder
from likewise.graph.co_engagement import CoEngagement
from likewise.graph.summary import Summary
from likewise.stamp import DIGEST_BYTES, Stamp
from likewise.tables import stamped
from likewise.text import quoted, utf8

EDGES, ITEMS, SUMMARY = "edges.parquet", "items.parquet", "summary.json"
_ROWS = 1 << 20  # of a row group


def graph_folder(out: str | os.PathLike[str]) -> Path:
    """The folder of a graph, checked before the work. Raises LikewiseError if it holds anything but a graph."""
    folder = as_path(out, "--out")
    refuse_device(folder)
    if folder.is_file():
        raise LikewiseError(f"{folder} is a file, and a graph is a folder; name another --out.")
    make_writable(Path(os.path.abspath(folder)).parent, f"can't write {folder}")
    other = sorted({each.name for each in folder.iterdir()} - {EDGES, ITEMS, SUMMARY, LOCK}) if folder.is_dir() else []
    if other:
        raise LikewiseError(f"{folder} holds {other[0]}, which is no part of a graph; name another --out.")
    return folder


def edge_table(graph: CoEngagement, items: Sequence[str]) -> Any:
    """An Arrow table of the edges, in their order: item and other (string), count (int64), weight (float64)."""
    import pyarrow as pa

    ids = pa.array(map(utf8, items), pa.string())
    return pa.table(
        {
            "item": ids.take(pa.array(graph.item)),
            "other": ids.take(pa.array(graph.other)),
            "count": pa.array(graph.count),
            "weight": pa.array(graph.weight),
        }
    )


def edges_hash(table: Any) -> str:
    """blake2b (128 bit, hex) of edges, sorted by item and other: equal for the same ids, counts and bits of weights.

    Args:
        table: an Arrow table with the columns item, other, count, weight, in any order of rows, from any engine.

    Cost: a sort of the rows.
    """
    from pyarrow import compute

    order = compute.sort_indices(table, [("item", "ascending"), ("other", "ascending")])
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for name in ("item", "other"):
        text = table[name].cast("large_string").take(order).combine_chunks().cast("large_binary")
        digest.update(compute.binary_length(text).to_numpy().astype("<i8").tobytes())
        for start in range(0, len(text), _ROWS):
            digest.update(b"".join(text.slice(start, _ROWS).to_pylist()))
    digest.update(table["count"].cast("int64").take(order).to_numpy().astype("<i8").tobytes())
    digest.update(table["weight"].cast("float64").take(order).to_numpy().astype("<f8").tobytes())
    return digest.hexdigest()


def holds_graph(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the folder of a graph."""
    return (Path(path) / EDGES).is_file()


def stamp_of(folder: str | os.PathLike[str]) -> Stamp:
    """What made a graph; empty if its file does not say. Raises LikewiseError when the file can't be read."""
    from pyarrow import parquet

    path = Path(folder) / EDGES
    with _readable(path):
        text = (parquet.read_schema(path).metadata or {}).get(b"likewise", b"{}")
        return dict(from_json(text))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Within it, what can't be read becomes a LikewiseError that names the file."""
    from pyarrow import ArrowException

    try:
        yield
    except LikewiseError:
        raise
    except (OSError, ArrowException, ValueError, TypeError) as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise LikewiseError(f"{path} can't be read as a graph ({why}); make the graph again.") from None


def related_pairs(folder: str | os.PathLike[str], ids: Sequence[str]) -> Pairs:
    """The pairs of items that a graph joins, each once, all alike: what ``fit --alike pairs`` learns from.

    A pair's weight is the larger of those of its edges, of which there may be one in each direction. It is at least 0:
    with pmi two items may have fewer common users than by chance.

    Edges with an item that is not among ``ids``, such as one without content, are left out, and counted in ``source``.

    Raises LikewiseError when the file is damaged or no graph's, or no edge joins two of the items.
    """
    from pyarrow import array as arrow
    from pyarrow import compute, parquet

    path, wanted = Path(folder) / EDGES, ["item", "other", "weight"]
    with _readable(path), open(path, "rb") as opened:  # once, since another process may replace the folder between
        file = parquet.ParquetFile(opened)
        if not set(wanted) <= set(file.schema_arrow.names):
            raise LikewiseError(f"{path} is no graph: it needs the columns item, other and weight.")
        table = file.read(columns=wanted)
    known = arrow([utf8(name) for name in ids])
    ends = [compute.index_in(table[name].cast("string"), known).fill_null(-1).to_numpy() for name in ("item", "other")]
    rows = np.sort(np.stack(ends, 1).astype(np.int64), axis=1)
    there = (rows[:, 0] >= 0) & (rows[:, 0] != rows[:, 1])
    pairs, of = np.unique(rows[there], axis=0, return_inverse=True)
    if not len(pairs):
        first = quoted(str(table["item"][0]))
        raise LikewiseError(
            f"no edge of {folder} joins two of the items: it has ids such as {first}, the items {quoted(ids[0])}. "
            + ids_that_meet(ids, table["item"].to_pylist(), "Name the column of their ids with --key.")
        )
    weight = np.zeros(len(pairs))
    np.maximum.at(weight, of.reshape(-1), table["weight"].cast("float64").to_numpy()[there])
    left = int((~there).sum())
    without = f", without {left:,} of its {len(rows):,} edges, whose items are not all in DATA," if left else ""
    return Pairs(
        rows=torch.from_numpy(pairs),
        alike=torch.ones(len(pairs), dtype=torch.bool),
        merged=int(there.sum()) - len(pairs),
        source=f"{folder}{without}",
        weight=torch.from_numpy(weight),
        known=_known(Path(folder) / ITEMS, known),
    )


def _known(path: Path, ids: Any) -> torch.Tensor | None:
    """(K,) int64 places in ``ids`` of the items that the interactions know; None for a graph of an older version."""
    from pyarrow import compute, parquet

    if not path.is_file():
        return None
    with _readable(path), open(path, "rb") as file:
        found = compute.index_in(parquet.ParquetFile(file).read(columns=["item"])["item"].cast("string"), ids)
    return torch.from_numpy(np.sort(found.drop_null().to_numpy().astype(np.int64)))


def write_graph(folder: Path, edges: Any, items: Sequence[str], summary: Summary, stamp: Stamp) -> None:
    """Write the folder, whole or not at all. A graph that was there before is replaced.

    Args:
        folder: see :func:`graph_folder`.
        edges: see :func:`edge_table`.
        items: the ids of all items that the interactions know, also those without an edge; they become items.parquet.
        summary: becomes summary.json, with the stamp.
        stamp: what made the graph; JSON in the schema's metadata under the key ``likewise``.

    Raises:
        OSError: from the file system.
    """
    import pyarrow as pa
    from pyarrow import parquet

    about = json.dumps({"made": dict(stamp), **asdict(summary)}, indent=1, ensure_ascii=False, default=list)
    final = Path(os.path.abspath(folder))
    with temporary_folder(final.parent, f".{final.name}.new-") as temporary:
        known = pa.table({"item": pa.array(map(utf8, items), pa.string())})
        for name, table in ((EDGES, edges), (ITEMS, known)):
            with open(temporary / name, "wb") as file:
                parquet.write_table(stamped(table, stamp), file, row_group_size=_ROWS)
                file.flush()
                os.fsync(file.fileno())
        with open(temporary / SUMMARY, "wb") as file:
            file.write(about.encode(errors="backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
        replace_folder(temporary, final)
