"""The index of a run, in its folder: made, kept up to date, and searched."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from likewise import __version__
from likewise.console import track, untold
from likewise.data import Items
from likewise.data.items import content_digest
from likewise.data.metadata import differing, own_metadata, read_metadata
from likewise.errors import LikewiseError
from likewise.index import pointer
from likewise.index.engines import engine_of
from likewise.index.folder_place import FolderPlace
from likewise.index.generations import folder_of
from likewise.index.hits import Hit
from likewise.index.kept import Kept, Place, Searched, Stage
from likewise.index.servers import is_server, place_on
from likewise.model import INDEX, Layer, Model, layer_of, load, model_file, searched
from likewise.stamp import Stamp, hash_of
from likewise.tables import write_table
from likewise.text import utf8

GROWN = 0.2  # share of items that came or went since a promise was measured, from which it is measured again


class Renewed(NamedTuple):
    """What was done to bring an index up to date.

    Args:
        made: the index as it is now.
        new: number of items that it did not have.
        changed: number of items whose content or metadata are others.
        gone: number of items that the source does not have any more.
        reason: why all was made anew; empty where only what changed was embedded.
    """

    made: Kept
    new: int
    changed: int
    gone: int
    reason: str

    def sentence(self) -> str:
        """One line for people."""
        if self.reason:
            return f"{len(self.made):,} items embedded: {self.reason}."
        kept = len(self.made) - self.new - self.changed
        return f"{self.new:,} new, {self.changed:,} changed, {self.gone:,} gone; {kept:,} as they were."


def renew_index(
    model: Model,
    source: object,
    *,
    to: str = "auto",
    recall: float = 0.95,
    layer: Layer = "embedding",
    key: str | None = None,
    image: str | None = None,
    columns: Sequence[str] = (),
    metadata: str | Path | None = None,
    anew: bool = False,
    progress: bool = True,
    stage: Stage = lambda what: untold,
) -> Renewed:
    """Brings the index of the model's run to a source, and saves it: in the run's folder, or on servers.

    Items that the index has, with the same content, are not embedded again. All is embedded when there is no index, it
    is damaged, or another model or layer made it. The engine is built, and its promise measured, when it is another
    than ``to``, or when a fifth of the items came or went since.

    Args:
        model: of a run.
        source: as for ``model.open``.
        to: the engine: auto, exact, faiss:ivf, faiss:hnsw; see ``Index.use``. Or the URL of servers,
            ``postgresql://HOST1,HOST2/DATABASE``; an index that is there stays there at auto.
        recall: the recall@10 that is promised.
        layer: whose rows.
        key, image, columns: as for ``model.open``.
        metadata: a .parquet or .csv file of columns for conditions, by id. None: those of ``source``, if it is a
            .parquet file.
        anew: embed all, whatever the folder holds.
        progress: show bars.
        stage: begins a stage of the work that has a bar.

    Raises:
        LikewiseError: as ``model.open``, ``read_metadata`` and ``Index.use`` do; the model has no run.
        OSError: from the file system; the former index is then whole.

    Cost: a hash of every item, and the embedding of those that changed.
    """
    if model.run is None:
        raise LikewiseError("this model has no run folder; use index = model.index(DATA) and index.save(FOLDER).")
    place = place_of(model.run, to, stage)
    items = model.open(source, labels="none", key=key, image=image, columns=columns, progress=progress)
    known = _metadata(source, items, key, metadata)
    index, reason = (None, "as asked for") if anew else _present(place, model, layer, known)
    contents = digests(items, progress)
    about = {**model.protocol(layer), **items.stamp("data")}
    if index is None:
        rows, queries = _embedded(model, items, layer, progress)
        index = place.make(rows, items.ids, about, query_rows=queries, columns=known, contents=contents)
        counts = len(items), 0, 0
    else:
        counts = _changed(index, model, items, contents, known, layer, progress)
        index.protocol = about
    index.read = model.reader(layer)
    promise = index.promise
    moved = promise is None or abs(promise.rows - len(index)) + counts[1] > GROWN * promise.rows
    place.finish(index, recall, moved=moved)
    return Renewed(index, *counts, reason)


def place_of(run: Path, to: str, stage: Stage = lambda what: untold) -> Place:
    """Where the index of a run is to be. Raises LikewiseError on an unknown engine, and as ``place_on``."""
    folder = run / INDEX
    if not is_server(to) and (to != "auto" or not pointer.is_there(folder)):
        engine_of(to)
        return FolderPlace(folder, to, stage)
    return place_on(folder, to, run.resolve().name, stage)


def _embedded(model: Model, items: Items, layer: Layer, progress: bool) -> tuple[Tensor, Tensor | None]:
    """The rows of items, and their rows as queries where these are others."""
    asking = model.layer_of_queries(layer)
    with track("embedding", len(items), enabled=progress) as tick:
        rows = model.features(items, layer=layer, tick=tick)
    if asking == layer:
        return rows, None
    with track("embedding queries", len(items), enabled=progress) as tick:
        return rows, model.features(items, layer=asking, tick=tick)


def digests(items: Items, progress: bool = True) -> npt.NDArray[np.uint8]:
    """(N, 16) uint8, a hash of each item's content. Cost: one pass over the values."""
    found = np.empty((len(items), 16), np.uint8)
    with track("looking for changes", len(items), enabled=progress) as tick:
        for row, value in enumerate(items.each()):
            found[row] = np.frombuffer(content_digest(value), np.uint8)
            if row % 4096 == 0:
                tick(row)
    return found


def _metadata(source: object, items: Items, key: str | None, metadata: str | Path | None) -> Any:
    if metadata is not None:
        return read_metadata(metadata, items.ids, key=key)
    return own_metadata(source, items.ids, key=key, but=items.columns)


def _present(place: Place, model: Model, layer: Layer, known: Any) -> tuple[Kept | None, str]:
    """The index that can be brought up to date, or why there is none."""
    try:
        index = place.load()
    except LikewiseError as error:
        return None, str(error).split(";")[0]
    if index is None:
        return None, "there was no index"
    if index.protocol.get("model") != model.weights_hash:
        return None, "another model made the former index"
    if index.protocol.get("layer") != layer or index.has_query_rows != (model.layer_of_queries(layer) != layer):
        return None, f"the former index has the layer {index.protocol.get('layer')}"
    if index.contents is None:
        return None, "the former index has no hashes of its items"
    names = [] if known is None else known.column_names
    if index.columns.column_names != names or (names and index.columns.schema != known.schema):
        return None, "the metadata have other columns than before"
    return index, ""


def _changed(
    index: Kept,
    model: Model,
    items: Items,
    contents: npt.NDArray[np.uint8],
    known: Any,
    layer: Layer,
    progress: bool,
) -> tuple[int, int, int]:
    """Brings an index to the items; the numbers of new, changed and gone ones."""
    assert index.contents is not None
    rows = index.names.places(items.ids)
    old = rows >= 0
    other = np.zeros(len(items), np.bool_)
    other[old] = (index.contents[rows[old]] != contents[old]).any(1)
    described = np.zeros(len(items), np.bool_)
    if known is not None:
        described[old] = differing(index.columns.take(rows[old]), known.filter(old))
    kept = np.zeros(len(index.names), np.bool_)
    kept[rows[old]] = True
    gone = [name for name, stays in zip(index.names.ids, kept.tolist(), strict=True) if not stays]
    embed = np.flatnonzero(~old | other)
    again = np.flatnonzero(old & ~other & described)
    if len(embed):
        part = items.select(embed)
        found, queries = _embedded(model, part, layer, progress)
        index.add(found, part.ids, query_rows=queries, columns=_taken(known, embed), contents=contents[embed])
    if len(again):
        index.describe([items.ids[row] for row in again], _taken(known, again))
    if gone:
        index.remove(gone)
    return int((~old).sum()), int((old & (other | described)).sum()), len(gone)


def _taken(columns: Any, rows: npt.NDArray[np.int64]) -> Any:
    return None if columns is None else columns.take(rows)


def open_index(run: str | Path) -> Searched:
    """The index of a run, in its folder or on servers. The run's model reads files; it is loaded when one is searched.

    Raises LikewiseError when there is no run, model or index, or another model made the index.
    """
    folder = folder_of(run)
    index = searched(folder, hash_of(model_file(folder)))
    index.read = partial(_read_by, folder)
    return index


def _read_by(run: Path, path: str) -> Any:
    model = load(run)
    return model.reader(layer_of(searched(run, model.weights_hash)))(path)


def search_run(run: Path, query: str, k: int, where: Sequence[str] = ()) -> list[Hit]:
    """The hits of ``load(run).search(query, k)``. For an id the model is not loaded, only for a file.

    Raises LikewiseError as ``open_index`` and ``Index.search`` do.
    """
    index = open_index(run)
    name = utf8(query).decode()  # as ids are written, whatever the encoding of the command line
    return index.search(name if name in index else query, k, where=where)


def write_hits(path: Path, found: Mapping[str, Sequence[Hit]], run: Path, asked: Mapping[str, str | int]) -> None:
    """Writes a table with a row for each hit: query, rank from 1, id, score. Its stamp has the run's model."""
    rows = [(query, rank, hit.id, hit.score) for query, hits in found.items() for rank, hit in enumerate(hits, 1)]
    names = ("query", "rank", "id", "score")
    stamp: Stamp = {"command": "search", "model": hash_of(model_file(run)), "likewise": __version__, **asked}
    write_table(path, {name: [row[place] for row in rows] for place, name in enumerate(names)}, stamp)


def search_batch_run(run: Path, source: object, k: int, where: Sequence[str] = ()) -> dict[str, list[Hit]]:
    """The hits of each item of a source, by its id: its own id is not left out.

    Raises LikewiseError as ``open_index``, ``model.open`` and ``Index.search`` do. Cost: a forward pass over the items.
    """
    model = load(run)
    index = searched(run, model.weights_hash)
    items = model.open(source, labels="none")
    layer = model.layer_of_queries(layer_of(index))
    with track("embedding", len(items)) as tick:
        rows = model.features(items, layer=layer, tick=tick)
    return dict(zip(items.ids, index.search_batch(rows, k, where=where), strict=True))
