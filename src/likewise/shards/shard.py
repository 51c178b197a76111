"""One shard: made by one worker, written whole or not at all, checked when it is read."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from likewise.data.items import Skipped, content_digest
from likewise.data.pieces import Piece
from likewise.errors import LikewiseError
from likewise.files import from_json
from likewise.index.embedding_file import check_embedding
from likewise.index.items_table import vector_column
from likewise.model import Model, layer_named
from likewise.shards.manifest import Manifest, shard_name
from likewise.shards.place import Place
from likewise.tables import KEY, stamped
from likewise.text import utf8

BATCH = 256  # items that the encoder takes together, counted from the first of a shard
READ = 16_384  # rows read at once


@dataclass(frozen=True)
class Task:
    """A shard to be made."""

    number: int
    piece: Piece


class Made(NamedTuple):
    """A shard that is there.

    Args:
        number: of the shard, from 0.
        rows: that it has.
        skipped: items left out.
        kept: whether it was there before.
    """

    number: int
    rows: int
    skipped: tuple[Skipped, ...]
    kept: bool


class Block(NamedTuple):
    """Some rows of a shard."""

    ids: list[str]
    rows: npt.NDArray[np.float32]  # (B, D)
    contents: npt.NDArray[np.uint8]  # (B, 16)


class Maker:
    """Makes shards of one folder, one after the other. The model is loaded when the first shard needs it.

    Args:
        load: gives the model.
        place: the folder.
        manifest: what the shards are made of.
    """

    def __init__(self, load: Callable[[], Model], place: Place, manifest: Manifest) -> None:
        self._load, self._place, self._manifest = load, place, manifest
        self._model: Model | None = None

    def shard(self, task: Task, tick: Callable[[int], None] | None = None) -> Made:
        """Makes a shard, or finds that it is there and whole.

        ``tick`` is told how many items are done. Memory: the rows of a shard, and a batch of items.
        """
        there = whole(self._place, self._manifest, task.number)
        if there is not None:
            return there
        self._model = self._model or self._load()
        return self._made(self._model, task, tick)

    def _made(self, model: Model, task: Task, tick: Callable[[int], None] | None) -> Made:
        layer = layer_named(str(self._manifest.about["layer"]))
        ids, rows, contents, skipped = list[str](), list[torch.Tensor](), list[bytes](), list[Skipped]()
        for items in task.piece.blocks(BATCH):
            skipped += items.skipped
            if len(items):
                ids += items.ids
                rows.append(model.features(items, layer=layer, batch_size=BATCH))
                contents += [content_digest(value) for value in items.values]
            if tick is not None:
                tick(len(ids) + len(skipped))
        found = torch.cat(rows) if rows else torch.empty(0, self._manifest.dim)
        if ids:
            check_embedding(found, ids)
        about = {
            **self._manifest.about,
            "shard": task.number,
            "token": self._manifest.token,
            "skipped": [[each.id, each.reason] for each in skipped],
        }
        self._place.write(shard_name(task.number), as_parquet(ids, found, contents, about))
        return Made(task.number, len(ids), tuple(skipped), False)


def as_parquet(ids: list[str], rows: torch.Tensor, contents: list[bytes], about: dict[str, Any]) -> bytes:
    """The bytes of a parquet file, with a checksum for each page."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [pa.array(map(utf8, ids), pa.string()), vector_column(rows), pa.array(contents, pa.binary(16))]
    table = stamped(pa.table(columns, schema=_schema(rows.shape[1])), about)
    content = io.BytesIO()
    pq.write_table(
        table, content, compression="NONE", use_dictionary=False, write_statistics=False, write_page_checksum=True
    )
    return content.getvalue()


def _schema(dim: int) -> Any:
    """The columns of a shard."""
    import pyarrow as pa

    vectors = pa.list_(pa.float32(), dim)
    return pa.schema([("id", pa.string()), ("embedding", vectors), ("content", pa.binary(16))])


def whole(place: Place, manifest: Manifest, number: int) -> Made | None:
    """A shard that is there, with the checksums of all its pages; None where it is missing, damaged or another's."""
    try:
        with opened(place, manifest, number) as file:
            skipped = tuple(Skipped(id=str(id), reason=str(reason)) for id, reason in _about(file)["skipped"])
            rows = sum(len(block.ids) for block in blocks(file, manifest.dim))
            return Made(number, rows, skipped, True)
    except (LikewiseError, KeyError, TypeError, ValueError):
        return None


@contextmanager
def opened(place: Place, manifest: Manifest, number: int) -> Iterator[Any]:
    """The parquet file of a shard. Raises LikewiseError when it is missing, damaged, or of another set of shards."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = shard_name(number)
    try:
        with place.open(name) as source, pq.ParquetFile(source, page_checksum_verification=True) as file:
            about = _about(file)
            if (about.get("token"), about.get("shard")) != (manifest.token, number):
                raise LikewiseError(f"{place}/{name} is not of these shards; {_again(manifest)}")
            yield file
    except FileNotFoundError:
        raise LikewiseError(f"{place}/{name} is missing; {_again(manifest)}") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, LikewiseError):
            raise
        first = str(error).partition("\n")[0].strip(" .")
        raise LikewiseError(f"{place}/{name} is damaged ({first}); {_again(manifest)}") from None


def blocks(file: Any, dim: int) -> Iterator[Block]:
    """The rows of a shard in order. Raises ValueError when they are not those of a shard."""
    if file.schema_arrow.remove_metadata() != _schema(dim):
        raise ValueError("it has other columns than a shard")
    rows = 0
    for batch in file.iter_batches(batch_size=READ, columns=["id", "embedding", "content"]):
        rows += len(batch)
        vectors = batch.column("embedding").flatten().to_numpy(zero_copy_only=False)
        ids, contents = batch.column("id").to_pylist(), b"".join(batch.column("content").to_pylist())
        if None in ids or len(contents) != 16 * len(ids) or vectors.size != dim * len(ids):
            raise ValueError("some values are missing")
        yield Block(ids, vectors.reshape(len(ids), dim).copy(), np.frombuffer(contents, np.uint8).reshape(-1, 16))
    if rows != file.metadata.num_rows:
        raise ValueError("rows are missing")


def ids_in(file: Any) -> list[str]:
    """The ids of a shard in order. Raises ValueError when some are missing."""
    ids: list[str] = file.read(columns=["id"]).column("id").to_pylist()
    if None in ids:
        raise ValueError("some values are missing")
    return ids


def _about(file: Any) -> dict[str, Any]:
    """What a shard says of itself."""
    return dict(from_json((file.schema_arrow.metadata or {}).get(KEY, b"{}")))


def _again(manifest: Manifest) -> str:
    return "make it again by the same command of likewise embed, which keeps the others."
