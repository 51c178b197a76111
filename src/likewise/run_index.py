"""The index of a run, in its folder: made, kept up to date, and searched."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise import __version__
from likewise.console import track, untold
from likewise.data import Items
from likewise.data.items import content_digest
from likewise.data.metadata import differing, own_metadata, read_metadata
from likewise.errors import LikewiseError
from likewise.index import pointer
from likewise.index.asked import Searched
from likewise.index.engines import engine_of
from likewise.index.folder_place import FolderPlace
from likewise.index.generations import folder_of
from likewise.index.hits import Hit
from likewise.index.items_table import as_columns
from likewise.index.kept import Kept, Place, Stage
from likewise.index.layout import Part
from likewise.index.servers import is_server, place_on
from likewise.model import INDEX, Layer, Model, layer_named, layer_of, load, model_file, searched
from likewise.remote import without_secret
from likewise.shards import Manifest, read_shards
from likewise.shards.read import holds_shards, read_ids
from likewise.shards.shard import Block
from likewise.stamp import Stamp, hash_of, refuse_other_model, source_words
from likewise.tables import write_table
from likewise.text import readable, utf8

TAKEN = "taken from the shards"
GROWN = 0.2  # share of items that came or went since a promise was measured, from which it is measured again


class Renewed(NamedTuple):
    """What was done to bring an index up to date.

    Args:
        made: the index as it is now.
        new: number of items that it did not have.
        changed: number of items whose content or metadata are others.
        gone: number of items that the source does not have any more.
        reason: why all was made anew; empty where only what changed was embedded.
        done: what was done with the items then.
    """

    made: Kept
    new: int
    changed: int
    gone: int
    reason: str
    done: str = "embedded"

    def sentence(self) -> str:
        """One line for people."""
        if self.reason:
            return f"{len(self.made):,} items {self.done}: {self.reason}."
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
        source: as for ``model.open``; or a folder of shards of ``likewise embed``, which are not embedded again and
            go to servers in a stream.
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
        LikewiseError: as ``model.open``, ``read_metadata`` and ``Index.use`` do; the model has no run; another model
            made the shards.
        OSError: from the file system; the former index is then whole.

    Cost: a hash of every item, and the embedding of those that changed. Of shards to servers: all rows are copied
    there, and the servers compare them; memory is that of some thousands of rows.
    """
    if model.run is None:
        raise LikewiseError("this model has no run folder; use index = model.index(DATA) and index.save(FOLDER).")
    place = place_of(model.run, to, stage)
    if holds_shards(source):
        if key is not None or image is not None or columns:
            raise LikewiseError(f"{source} holds shards, which are embedded already; leave out key, image and columns.")
        return _from_shards(model, str(source), place, recall, layer, metadata, anew, progress)
    items = model.open(source, labels="none", key=key, image=image, columns=columns, progress=progress)
    known = _metadata(source, items, key, metadata)
    index, reason = (None, "as asked for") if anew else _present(place.load, model, layer, known)
    about = {**model.protocol(layer), **items.stamp("data")}
    given = _Given(
        items.ids,
        digests(items, progress),
        lambda places: _embedded(model, items if places is None else items.select(places), layer, progress),
    )
    return _brought(model, place, index, given, known, about, recall, reason)


class _Given(NamedTuple):
    """The items that an index is brought to.

    Args:
        ids: of all.
        contents: (N, 16) uint8, a hash of the content of each.
        embed: gives the rows of the items at some places, or of all (None), and their rows as queries if these are
            others.
    """

    ids: Sequence[str]
    contents: npt.NDArray[np.uint8]
    embed: "Callable[[npt.NDArray[np.int64] | None], tuple[Tensor, Tensor | None]]"


def _brought(
    model: Model,
    place: Place,
    index: Kept | None,
    given: _Given,
    known: Any,
    about: dict[str, str | int | float],
    recall: float,
    reason: str,
) -> Renewed:
    """Brings an index to items, or makes it of them, and saves it."""
    if index is None:
        rows, queries = given.embed(None)
        index = place.make(rows, given.ids, about, query_rows=queries, columns=known, contents=given.contents)
        counts = len(given.ids), 0, 0
    else:
        counts = _changed(index, given, known)
        index.protocol = about
    return _saved(model, place, index, counts, recall, reason)


def _saved(
    model: Model, place: Place, index: Kept, counts: tuple[int, int, int], recall: float, reason: str
) -> Renewed:
    """Builds and measures what is needed, and saves."""
    index.read = model.reader(layer_named(str(index.protocol["layer"])))
    promise = index.promise
    moved = promise is None or abs(promise.rows - len(index)) + counts[1] > GROWN * promise.rows
    place.finish(index, recall, moved=moved)
    return Renewed(index, *counts, reason)


def _from_shards(
    model: Model,
    source: str,
    place: Place,
    recall: float,
    layer: Layer,
    metadata: str | Path | None,
    anew: bool,
    progress: bool,
) -> Renewed:
    """As ``renew_index``, of rows that ``likewise embed`` has written; to servers in a stream."""
    manifest, blocks = read_shards(source)
    shown = without_secret(source)
    about = {**manifest.about, "shards": readable(shown)}
    again = [
        "likewise",
        "embed",
        str(model.run),
        *source_words(about, "data"),
        "--out",
        f"{shown.rstrip('/')}/",
        "--anew",
    ]
    refuse_other_model(shown, about, model.weights_hash, again)
    if about.get("layer") != layer:
        raise LikewiseError(f"{shown} holds rows of the layer {about.get('layer')}; add --layer {about.get('layer')}.")
    if model.layer_of_queries(layer) != layer:
        raise LikewiseError("shards lack the rows of this model's own encoder of queries; index DATA itself.")
    servers = place.streamed
    if servers is None:
        with track("reading shards", manifest.total, enabled=progress) as tick:
            given = _held(manifest, blocks, tick)
        known = None if metadata is None else read_metadata(metadata, given.ids)
        index, reason = (None, "as asked for") if anew else _present(place.load, model, layer, known)
        return _brought(model, place, index, given, known, about, recall, reason)._replace(done=TAKEN)
    known = None
    if metadata is not None:
        known = read_metadata(metadata, read_ids(source))
    index, reason = (None, "as asked for") if anew else _present(servers.look, model, layer, known)
    counts = servers.stream(
        _parts(blocks, known), manifest.total, manifest.dim, about, columns=known, kept=index is not None
    )
    return _saved(model, place, servers, counts, recall, reason)._replace(done=TAKEN)


def _held(manifest: Manifest, blocks: Iterable[Block], tick: Callable[[int], None]) -> _Given:
    """The items of all shards, in memory."""
    ids = list[str]()
    rows, contents = torch.empty(manifest.total, manifest.dim), np.empty((manifest.total, 16), np.uint8)
    for block in blocks:
        here = slice(len(ids), len(ids) + len(block.ids))
        rows[here], contents[here] = torch.from_numpy(block.rows), block.contents
        ids += block.ids
        tick(len(ids))
    return _Given(ids, contents, lambda places: (rows if places is None else rows[torch.from_numpy(places)], None))


def _parts(blocks: Iterable[Block], known: Any) -> Iterator[Part]:
    """The items of shards, some at a time, on their way to servers."""
    start = 0
    for block in blocks:
        columns = as_columns(None if known is None else known.slice(start, len(block.ids)), len(block.ids))
        start += len(block.ids)
        yield Part(block.ids, torch.from_numpy(block.rows), None, block.contents, columns)


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


def _present(load: Callable[[], Kept | None], model: Model, layer: Layer, known: Any) -> tuple[Kept | None, str]:
    """The index that can be brought up to date, or why there is none."""
    try:
        index = load()
    except LikewiseError as error:
        return None, str(error).split(";")[0]
    if index is None:
        return None, "there was no index"
    if index.protocol.get("model") != model.weights_hash:
        return None, "another model made the former index"
    if index.protocol.get("layer") != layer or index.has_query_rows != (model.layer_of_queries(layer) != layer):
        return None, f"the former index has the layer {index.protocol.get('layer')}"
    if not index.has_contents:
        return None, "the former index has no hashes of its items"
    names = [] if known is None else known.column_names
    if index.columns.column_names != names or (names and index.columns.schema != known.schema):
        return None, "the metadata have other columns than before"
    return index, ""


def _changed(
    index: Kept,
    given: _Given,
    known: Any,
) -> tuple[int, int, int]:
    """Brings an index to the items; the numbers of new, changed and gone ones."""
    assert index.contents is not None
    ids, contents = given.ids, given.contents
    rows = index.names.places(ids)
    old = rows >= 0
    other = np.zeros(len(ids), np.bool_)
    other[old] = (index.contents[rows[old]] != contents[old]).any(1)
    described = np.zeros(len(ids), np.bool_)
    if known is not None:
        described[old] = differing(index.columns.take(rows[old]), known.filter(old))
    kept = np.zeros(len(index.names), np.bool_)
    kept[rows[old]] = True
    gone = [name for name, stays in zip(index.names.ids, kept.tolist(), strict=True) if not stays]
    embed = np.flatnonzero(~old | other)
    again = np.flatnonzero(old & ~other & described)
    if len(embed):
        found, queries = given.embed(embed)
        names = [ids[row] for row in embed.tolist()]
        index.add(found, names, query_rows=queries, columns=_taken(known, embed), contents=contents[embed])
    if len(again):
        index.describe([ids[row] for row in again.tolist()], _taken(known, again))
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
    index.read = partial(_read_by, folder, layer_of(index))
    return index


def _read_by(run: Path, layer: Layer, path: str) -> Any:
    return load(run).reader(layer)(path)


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
