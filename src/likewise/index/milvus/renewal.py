"""An index on a server of Milvus while it is made, or brought up to date.

Milvus has no transactions. So a renewal adds rows of the next generation, marks those that it replaces or removes as
ending with the present one, and then writes the manifest, a single row: see ``manifest``. What a renewal that was
killed has left is undone when the next one begins. An index that is made anew is another collection.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock, Timeout

from likewise.data.metadata import differing
from likewise.errors import LikewiseError
from likewise.index import generations, pointer
from likewise.index.items_table import as_columns
from likewise.index.kept import Kept, Stage, Streamed
from likewise.index.layout import Layout, Part
from likewise.index.milvus import manifest
from likewise.index.milvus.client import BLOCK_BYTES, NOW, Milvus
from likewise.index.milvus.collection import build, create, drop_others, name_of
from likewise.index.milvus.fields import FOREVER, fields_of, query_row, records
from likewise.index.milvus.manifest import About
from likewise.index.milvus.measure import measured
from likewise.index.milvus.search import MOST
from likewise.index.milvus.state import state_of
from likewise.index.milvus.url import Server
from likewise.index.names import Names
from likewise.index.on_servers import OnServers
from likewise.metrics.checks import Rows, as_rows

EXACT_NUMBERS = 25_600_000  # rows × numbers of a row that a server compares in some 20 ms
Keys = npt.NDArray[np.int64]


class Renewal(OnServers):
    """The index of a run on Milvus. Nothing is in use before ``finish``; a process that is killed leaves the former.

    Args:
        folder: of the run's index; it gets a small file that says where the index is.
        server: with the name of the index.
        stage: begins a stage of the work that has a bar.

    Raises:
        LikewiseError: the server is away; the index belongs to another run.
    """

    def __init__(self, folder: Path, server: Server, stage: Stage) -> None:
        super().__init__(folder, stage)
        self._server = server
        self._milvus = Milvus(server)
        self._former = manifest.read(self._milvus, NOW)
        self._owner = self._own()
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / ".lock")
        self._collection, self._generation = "", 1 + (self._former.generation if self._former else 0)
        self._had: Keys = generations.NONE  # of the items that the server has, in the order of their names
        self._keys: Keys = generations.NONE  # of the items that there will be
        self._end = 0

    def _own(self) -> str:
        """The name by which the run is known. Raises LikewiseError when the index belongs to another."""
        known = self._known_owner()
        if self._former is None:
            return known or pointer.new_owner()
        if self._former.owner != known and self._former.run != pointer.whose(self._folder):
            raise LikewiseError(
                f"the index {self._server.name} of {self._milvus} belongs to the run {self._former.run}; name another, "
                f"milvus://{self._server.host}/NAME, or if that run is no more, drop its collection "
                f"{self._former.collection} and its row in {manifest.INDEXES}."
            )
        return known or self._former.owner

    @property
    def streamed(self) -> Streamed:
        """This: it takes a stream."""
        return self

    def __len__(self) -> int:
        """Number of items, with what was added and without what was removed."""
        return len(self._keys)

    def load(self) -> "Renewal | None":
        """This, with what the server holds: ids, hashes, metadata. None if it holds nothing."""
        told = self._former
        if told is None:
            return None
        if not self._milvus.ask(lambda client: client.has_collection(told.collection)):
            raise LikewiseError(f"the collection {told.collection} is gone.")
        self._layout, self._collection, self._end = told.layout, told.collection, told.end
        self.protocol, self.promise, self.engine_name = dict(told.protocol), told.promise, told.engine
        self._names, self._had, self._contents, self.columns = state_of(
            self._milvus, told, self._stage("reading what the server holds")
        )
        self._keys = self._had
        return self

    def look(self) -> "Renewal | None":
        """As ``load``: ids, hashes and metadata are in memory, rows are not."""
        return self.load()

    def stream(
        self,
        parts: Iterable[Part],
        total: int,
        dim: int,
        protocol: dict[str, str | int | float],
        *,
        columns: Any,
        kept: bool,
    ) -> tuple[int, int, int]:
        """See ``Streamed``. What the server has with the same content and metadata is not written again."""
        table = as_columns(columns, total)
        self._anew, new, changed, seen = not kept, 0, 0, list[str]()
        with self._or_nothing():
            self._begin()
            if not kept:
                self._layout, self._names, self._end = Layout(dim, False, True, table.schema), Names(()), 0
                self._keys = self._had = generations.NONE
                self.promise = None
                self._new_collection()
            for part in parts:
                seen += part.ids
                other = self._others(part) if kept else np.ones(len(part.ids), np.bool_)
                new += int((self.names.places(part.ids) < 0).sum()) if kept else len(part.ids)
                changed += int(other.sum())
                some = part.take(np.flatnonzero(other).tolist())
                if some.ids:
                    assert some.rows is not None
                    self._replace(some.ids, some.rows, None, some.columns, some.contents)
            known = set(seen)
            gone = [item for item in self.names.ids if item not in known] if kept else []
            self._retire(gone)
        self.columns, self.protocol = table, dict(protocol)
        return new, changed - new, len(gone)

    def _others(self, part: Part) -> npt.NDArray[np.bool_]:
        """(n,) which items the server lacks, or has with another content or other metadata."""
        assert self._contents is not None
        assert part.contents is not None
        places = self.names.places(part.ids)
        other = places < 0
        old = ~other
        other[old] = (self._contents[places[old]] != part.contents[old]).any(1)
        if self.columns.num_columns:
            other[old] |= differing(self.columns.take(places[old]), part.columns.filter(old))
        return other

    @contextmanager
    def _or_nothing(self) -> Iterator[None]:
        """Removes a new collection, and lets other processes renew, when something fails."""
        try:
            yield
        except BaseException:
            if self._lock.is_locked and self._collection != (self._former.collection if self._former else ""):
                with suppress(LikewiseError):
                    drop_others(self._milvus, self._server.name, self._owner, self._former)
            self._lock.release()
            raise

    def _begin(self) -> None:
        """Keeps other processes from renewing, and undoes what one that was killed has left.

        Raises LikewiseError when another process renews the index, or has meanwhile.
        """
        if self._begun:
            return
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise LikewiseError(f"another process renews the index of {self._folder}; try again later.") from None
        self._refuse_renewed()
        self._begun = True
        if self._anew or self._former is None:
            return
        now, collection = self._former.generation, self._former.collection
        self._stage("removing what is not in use")
        for which in (f"since > {now}", f"until <= {now}"):
            while rows := self._milvus.read(collection, which, ["key"], NOW, limit=MOST):
                keys = [row["key"] for row in rows]
                self._milvus.ask(lambda client, keys=keys: client.delete(collection, ids=keys))  # type: ignore[misc]
        self._ending(f"until > {now} and until < {FOREVER}", FOREVER)

    def _refuse_renewed(self) -> None:
        now = manifest.read(self._milvus, NOW)
        if (now.generation if now else 0) != self._generation - 1:
            raise LikewiseError(f"another process has renewed {self._server} meanwhile; try again.")

    def make(
        self,
        rows: Rows,
        ids: Sequence[str],
        protocol: dict[str, str | int | float],
        *,
        query_rows: Rows | None,
        columns: Any,
        contents: npt.NDArray[np.uint8],
    ) -> "Renewal":
        """A new collection beside the former one, with these items."""
        table = as_columns(columns, len(ids))
        self._layout = Layout(as_rows("rows", rows).shape[1], query_rows is not None, True, table.schema)
        self._names, self.protocol, self._anew, self.promise = Names(ids), dict(protocol), True, None
        self.columns, self._end = table, 0
        with self._or_nothing():
            self._begin()
            self._new_collection()
            self._keys = self._write(rows, ids, query_rows, table, contents)
        return self

    def _new_collection(self) -> None:
        layout = self._layout
        assert layout is not None
        self._collection = name_of(self._server.name, self._generation)
        create(
            self._milvus,
            self._collection,
            self._owner,
            pointer.whose(self._folder),
            lambda client, about: fields_of(client, layout, about),
        )

    def add(
        self,
        rows: Rows,
        ids: Sequence[str],
        *,
        query_rows: Rows | None = None,
        columns: Any = None,
        contents: npt.NDArray[np.uint8] | None = None,
    ) -> None:
        """Takes new items, or new rows of items that the server has."""
        with self._or_nothing():
            self._begin()
            self._replace(ids, rows, query_rows, as_columns(columns, len(ids)), contents)

    def describe(self, ids: Sequence[str], columns: Any) -> None:
        """Gives items other metadata: their rows are written again."""
        layout = self._layout
        assert layout is not None
        with self._or_nothing():
            self._begin()
            held: dict[int, Any] = {}
            keys = self._had[self.names.rows(ids)].tolist()
            size = self._at_once()
            for start in range(0, len(keys), size):
                some = ", ".join(map(str, keys[start : start + size]))
                held |= {row["key"]: row for row in self._milvus.read(self._collection, f"key in [{some}]", ["*"], NOW)}
            rows = torch.from_numpy(np.array([held[key]["embedding"] for key in keys], np.float32))
            queries = contents = None
            if layout.queries:
                queries = torch.from_numpy(np.stack([query_row(held[key]["query_embedding"]) for key in keys]))
            if layout.contents:
                contents = np.frombuffer(bytes.fromhex("".join(held[key]["content"] for key in keys)), np.uint8)
                contents = contents.reshape(len(keys), -1)
            self._replace(ids, rows, queries, as_columns(columns, len(ids)), contents)

    def remove(self, ids: Sequence[str]) -> None:
        """Removes items."""
        with self._or_nothing():
            self._begin()
            self._retire(ids)

    def _replace(
        self,
        ids: Sequence[str],
        rows: Rows,
        query_rows: Rows | None,
        columns: Any,
        contents: npt.NDArray[np.uint8] | None,
    ) -> None:
        new = self._write(rows, ids, query_rows, columns, contents)
        self._retire(ids)
        self._keys = np.concatenate([self._keys, new])

    def _retire(self, ids: Sequence[str]) -> None:
        """Marks the rows that the server had of items as ending with the present generation."""
        if not len(self._had):
            return
        places = self.names.places(ids)
        keys = self._had[places[places >= 0]]
        size = self._at_once()
        for start in range(0, len(keys), size):
            some = ", ".join(map(str, keys[start : start + size].tolist()))
            self._ending(f"key in [{some}] and until == {FOREVER}", self._generation)
        self._keys = self._keys[~np.isin(self._keys, keys)]

    def _at_once(self) -> int:
        """Rows in one message."""
        assert self._layout is not None
        return max(64, min(8192, BLOCK_BYTES // (4 * self._layout.dim * (1 + 2 * self._layout.queries))))

    def _ending(self, which: str, until: int) -> None:
        """Writes rows again, as of the generations before ``until``; then ``which`` says them no longer."""
        while rows := self._milvus.read(self._collection, which, ["*"], NOW, limit=self._at_once()):
            ended = [{**row, "until": until} for row in rows]
            self._milvus.ask(lambda client, ended=ended: client.upsert(self._collection, ended))  # type: ignore[misc]

    def _write(
        self,
        rows: Rows,
        ids: Sequence[str],
        query_rows: Rows | None,
        columns: Any,
        contents: npt.NDArray[np.uint8] | None,
    ) -> Keys:
        """Writes items of the next generation; their keys."""
        layout = self._layout
        assert layout is not None
        whole = self._part(rows, ids, query_rows, columns, contents)
        keys, size = np.arange(self._end, self._end + len(ids)), self._at_once()
        tick = self._stage(f"writing {len(ids):,} items")
        for start in range(0, len(ids), size):
            some = whole.take(range(start, min(start + size, len(ids))))
            self._insert(records(layout, some, keys[start : start + size], self._generation))
            tick(min(1.0, (start + size) / len(ids)))
        self._end += len(ids)
        return keys

    def _insert(self, rows: list[dict[str, Any]]) -> None:
        self._milvus.ask(lambda client: client.insert(self._collection, rows))

    def finish(self, index: Kept, recall: float, *, moved: bool) -> None:
        """Builds the graph and measures the promise where that is needed, and puts the generation into use.

        Raises LikewiseError when the server refuses; it then holds the former generation.
        """
        assert index is self
        with self._or_nothing():
            self._begin()
            self._finish(recall, moved)
            pointer.write(self._folder, pointer.Pointer(str(self._server), self._owner))
            generations.forget(self._folder)
        self._lock.release()
        self._milvus.close()

    def _finish(self, recall: float, moved: bool) -> None:
        layout, s, former = self._layout, self._server, self._former
        assert layout is not None
        many = len(self) * layout.dim > EXACT_NUMBERS
        self.engine_name = ("hnsw" if many else "exact") if s.engine == "auto" else s.engine
        wanted = (self.engine_name, s.links)
        built = None if former is None or self._anew else (former.engine, former.links)
        told = About(
            self._generation,
            self._owner,
            pointer.whose(self._folder),
            self.protocol,
            layout,
            *wanted,
            self.promise,
            self._collection,
            self._end,
            len(self),
        )
        if wanted != built and not self._anew:
            told = self._copied(told)
        if wanted != built:
            tick = self._stage("building the graph" if self.engine_name == "hnsw" else "loading the items")
            build(self._milvus, self._collection, *wanted, tick)
        if moved or told.promise is None or wanted != built or told.promise.wanted != recall:
            tick = self._stage("measuring the promise")
            told = told._replace(promise=measured(self._milvus, told, self._keys, recall, tick))
        self.promise = told.promise
        self._refuse_renewed()
        manifest.write(self._milvus, told)
        drop_others(self._milvus, s.name, self._owner, told)

    def _copied(self, told: About) -> About:
        """The items in a new collection, for another engine; who searches meanwhile has the former one."""
        self._new_collection()
        tick, done = self._stage("copying the items"), 0
        for page in self._milvus.pages(told.collection, told.visible(), ["*"], told.end, told.layout.dim):
            if page:
                self._insert([dict(row) for row in page])
            done += len(page)
            tick(min(1.0, done / told.items))
        return told._replace(collection=self._collection)
