"""An index on servers while it is made, or brought up to date: each server's part in one transaction."""

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from psycopg import sql

from likewise.errors import LikewiseError
from likewise.index import generations, pointer
from likewise.index.embedding_file import check_embedding
from likewise.index.items_table import as_columns
from likewise.index.kept import Kept, Stage, Streamed
from likewise.index.layout import Layout, Part
from likewise.index.names import Names
from likewise.index.on_servers import OnServers
from likewise.index.postgresql import search, tables
from likewise.index.postgresql.index import About, about
from likewise.index.postgresql.measure import measured
from likewise.index.postgresql.shards import Shard, Shards
from likewise.index.postgresql.tables import NEXT, named
from likewise.index.postgresql.url import SCHEMA, Servers
from likewise.index.promise import Promise
from likewise.metrics.checks import Rows, as_rows
from likewise.text import utf8

EXACT_NUMBERS = 2_560_000  # rows × numbers of a row that a server compares in some 20 ms: 20,000 × 128
REPLACED = 0.2  # share of items that are new, changed or gone, above which a whole table takes the place of the former
_READ = 65_536  # rows told at once
T = TypeVar("T")


class Renewal(OnServers):
    """The index of a run on servers. Nothing is in use before ``finish``; a process that is killed leaves the former.

    Args:
        folder: of the run's index; it gets a small file that says where the index is.
        servers: with the name of the table.
        stage: begins a stage of the work that has a bar.

    Raises:
        LikewiseError: a server is away or has no pgvector; the table is not ours, or belongs to another run.
    """

    def __init__(self, folder: Path, servers: Servers, stage: Stage) -> None:
        super().__init__(folder, stage)
        self._servers = servers
        self._table = servers.table
        self._shards = Shards(servers, writing=True)
        self._found = self._shards.all(self._presence)
        self._owner = self._own()
        self._former: About | None = None
        self._count = 0

    def _presence(self, shard: Shard) -> tuple[int, dict[str, Any]] | None:
        with shard.said():
            return tables.present(shard, self._table)

    def _own(self) -> str:
        """The name by which the run is known. Raises LikewiseError when the table belongs to another."""
        known = self._known_owner()
        for shard, found in zip(self._shards.each, self._found, strict=True):
            if found is None:
                continue
            owner, run = found[1]["owner"], found[1]["run"]
            if owner != known and run != pointer.whose(self._folder):
                raise LikewiseError(
                    f"the table {SCHEMA}.{self._table} of {shard} belongs to the run {run}; name another with "
                    f"?table=NAME behind the URL or, if that run is no more, DROP TABLE {SCHEMA}.{self._table}."
                )
            known = known or owner
        return known or pointer.new_owner()

    @property
    def streamed(self) -> Streamed:
        """This: it takes a stream."""
        return self

    def __len__(self) -> int:
        """Number of items, with what was added and without what was removed."""
        return self._count

    def load(self) -> "Renewal | None":
        """This, with what the servers hold: ids, hashes, metadata. None if they hold nothing.

        Raises LikewiseError when the parts do not belong together.
        """
        if self.look() is None:
            return None
        self._stage("reading what the servers hold")
        records = [record for part in self._shards.all(self._state) for record in part]
        self._names, self._count = Names([record[0] for record in records]), len(records)
        contents = b"".join(record[1] or b"" for record in records)
        assert self._layout is not None
        if self._layout.contents and len(contents) == 16 * len(records):
            self._contents = np.frombuffer(contents, np.uint8).reshape(-1, 16)
        self.columns = _arrow(self._layout.schema, records)
        return self

    def look(self) -> "Renewal | None":
        """This, with what the servers say of the items, which are not read. None if they hold nothing.

        Raises LikewiseError when the parts do not belong together.
        """
        if all(found is None for found in self._found):
            return None
        told = about(self._shards, self._found)
        if told is None:
            raise LikewiseError("a renewal was cut off, so that the parts are of different generations.")
        self._former, self._layout = told, told.layout
        self.protocol, self.promise, self.engine_name = dict(told.protocol), told.promise, told.engine
        self.columns = told.layout.schema.empty_table()
        return self

    def _state(self, shard: Shard) -> list[tuple[Any, ...]]:
        assert self._layout is not None
        content = sql.SQL("content" if self._layout.contents else "NULL::bytea")
        columns = [sql.Identifier(name) for name in self._layout.schema.names]
        statement = sql.SQL("SELECT {} FROM {} ORDER BY id").format(
            sql.SQL(", ").join([sql.SQL("id"), content, *columns]), named(self._table)
        )
        with shard.said():
            found: list[tuple[Any, ...]] = shard.connection.execute(statement, binary=True).fetchall()
            return found

    @contextmanager
    def _or_nothing(self) -> Iterator[None]:
        """Ends the connections, and so what was not committed, when something fails."""
        try:
            yield
        except BaseException:
            self._shards.close()
            raise

    def _begin(self) -> None:
        """Begins the transactions. Raises LikewiseError when another process has renewed the index meanwhile."""
        if self._begun:
            return
        for shard, found in zip(self._shards.each, self._found, strict=True):  # one after the other, for the locks
            with shard.said():
                tables.begin(shard, self._table)
                now = tables.generation_of(shard, self._table)
                if now != (found[0] if found else now):
                    raise LikewiseError(f"another process has renewed {SCHEMA}.{self._table} meanwhile; try again.")
        self._begun = True

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
        """A new table beside the former one, with these items."""
        table = as_columns(columns, len(ids))
        self._layout = Layout(as_rows("rows", rows).shape[1], query_rows is not None, True, table.schema)
        if self._layout.dim > tables.TABLE_WIDEST:
            raise LikewiseError(f"the rows have {self._layout.dim:,} numbers, but pgvector holds 16,000 at most.")
        tables.columns_of(self._layout)
        self._names, self.protocol, self._anew, self.promise = Names(ids), dict(protocol), True, None
        self.columns = table
        with self._or_nothing():
            self._begin()
            self._write(rows, ids, query_rows, table, contents)
        self._count = len(ids)
        return self

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
        """See ``Streamed``.

        All go into a table beside the former one, and the servers compare the two. The former one then gets what is
        new, changed and gone; if that is much, or it is not ``kept``, the other takes its place.
        """
        self.columns = as_columns(columns, total)
        layout = Layout(dim, False, True, self.columns.schema)
        if dim > tables.TABLE_WIDEST:
            raise LikewiseError(f"the rows have {dim:,} numbers, but pgvector holds 16,000 at most.")
        with self._or_nothing():
            self._begin()
            self._fill(parts, total, layout)
            counts = total, 0, 0
            if kept:
                found = self._shards.all(partial(self._of_server, tables.compared, layout))
                new, changed, gone = (sum(each) for each in zip(*found, strict=True))
                counts = new, changed, gone
            if kept and sum(counts) <= REPLACED * total:
                self._shards.all(partial(self._of_server, tables.take_over, layout))
            else:
                self._anew, self.promise = True, None
        self._layout, self._count, self.protocol = layout, total, dict(protocol)
        return counts

    def _of_server(self, act: Callable[[Shard, str, Layout], T], layout: Layout, shard: Shard) -> T:
        with shard.said():
            return act(shard, self._table, layout)

    def _fill(self, parts: Iterable[Part], total: int, layout: Layout) -> None:
        """Copies the items of a stream into new tables beside those that are searched."""
        tick, done = self._stage(f"writing {total:,} items"), 0
        self._shards.all(partial(self._of_server, tables.create_next, layout))
        for some in parts:
            assert some.rows is not None
            check_embedding(some.rows, some.ids)
            places = self._shards.split(some.ids)

            def copy(shard: Shard, some: Part = some, places: list[list[int]] = places) -> None:
                with shard.said():
                    mine = some.take(places[shard.number])
                    tables.copy(shard, named(self._table + NEXT), tables.columns_of(layout), mine)

            self._shards.all(copy)
            done += len(some.ids)
            tick(done / total)

    def add(
        self,
        rows: Rows,
        ids: Sequence[str],
        *,
        query_rows: Rows | None = None,
        columns: Any = None,
        contents: npt.NDArray[np.uint8] | None = None,
    ) -> None:
        """Takes new items, or new rows of items that the servers have."""
        with self._or_nothing():
            self._begin()
            self._write(rows, ids, query_rows, as_columns(columns, len(ids)), contents)
        self._count += int((self.names.places(ids) < 0).sum())

    def describe(self, ids: Sequence[str], columns: Any) -> None:
        """Gives items other metadata."""
        with self._or_nothing():
            self._begin()
            self._write(None, ids, None, as_columns(columns, len(ids)), None)

    def remove(self, ids: Sequence[str]) -> None:
        """Deletes items."""
        places = self._shards.split(ids)

        def part(shard: Shard) -> None:
            with shard.said():
                tables.remove(shard, self._table, [utf8(ids[place]).decode() for place in places[shard.number]])

        with self._or_nothing():
            self._begin()
            self._shards.all(part)
        self._count -= len(ids)

    def _write(
        self,
        rows: Rows | None,
        ids: Sequence[str],
        query_rows: Rows | None,
        columns: Any,
        contents: npt.NDArray[np.uint8] | None,
    ) -> None:
        layout = self._layout
        assert layout is not None
        whole = self._part(rows, ids, query_rows, columns, contents)
        places = self._shards.split(ids)
        tick = self._stage(f"writing {len(ids):,} items")

        def part(shard: Shard) -> None:
            mine = places[shard.number]
            with shard.said():
                if self._anew:
                    tables.create_next(shard, self._table, layout)
                for start in range(0, len(mine), _READ):
                    some = whole.take(mine[start : start + _READ])
                    if self._anew:
                        tables.copy(shard, named(self._table + NEXT), tables.columns_of(layout), some)
                    else:
                        tables.upsert(shard, self._table, layout, some)
                    if shard.number == 0:
                        tick(min(1.0, (start + _READ) / len(mine)))

        self._shards.all(part)

    def finish(self, index: Kept, recall: float, *, moved: bool) -> None:
        """Builds the graph and measures the promise where that is needed, and commits on all servers.

        Raises LikewiseError when a server refuses; all then hold the former generation, or are told apart by it.
        """
        assert index is self
        with self._or_nothing():
            self._begin()
            self._finish(recall, moved)
        self._shards.close()
        pointer.write(self._folder, pointer.Pointer(str(self._servers), self._owner))
        generations.forget(self._folder)

    def _finish(self, recall: float, moved: bool) -> None:
        assert self._layout is not None
        s, layout, former = self._servers, self._layout, self._former
        table = self._table + NEXT * self._anew
        many = len(self) * layout.dim > EXACT_NUMBERS * len(self._shards)
        self.engine_name = ("hnsw" if many else "exact") if s.engine == "auto" else s.engine
        graph = self.engine_name == "hnsw"
        wanted = (self.engine_name, s.numbers if graph else "vector", s.links)
        built = None if former is None or self._anew else (former.engine, former.numbers, former.links)
        self._stage("building the graph" if graph and wanted != built else "making keys")

        def prepare(shard: Shard) -> None:
            with shard.said():
                if self._anew:
                    tables.keys(shard, table, layout)
                if wanted != built:
                    tables.drop_graph(shard, table)
                    if graph:
                        tables.build_graph(shard, table, layout, s.links, s.numbers)
                tables.analyze(shard, table)

        self._shards.all(prepare)
        promise = self.promise
        if moved or promise is None or wanted != built or promise.wanted != recall:
            promise = self._measured(table, recall)
        self.promise = promise
        generation = 1 + max((found[0] for found in self._found if found), default=0)
        told = About(generation, self._owner, pointer.whose(self._folder), self.protocol, layout, *wanted, self.promise)

        def put(shard: Shard) -> None:
            with shard.said():
                if self._anew:
                    tables.swap(shard, self._table)
                tables.write_manifest(shard, self._table, generation, told.as_json(shard.number, len(self._shards)))

        self._shards.all(put)
        self._shards.all(_commit)

    def _measured(self, table: str, recall: float) -> Promise:
        layout = self._layout
        assert layout is not None
        graph = self.engine_name == "hnsw"
        manner = search.Manner(table, layout, int(graph), self._servers.numbers, 0)
        return measured(self._shards, manner, len(self), recall, self._stage("measuring the promise"))


def _commit(shard: Shard) -> None:
    with shard.said():
        shard.connection.execute("COMMIT")


def _arrow(schema: Any, records: Sequence[tuple[Any, ...]]) -> Any:
    """The metadata of records as a table of pyarrow."""
    import pyarrow as pa

    if not len(schema):
        return as_columns(None, len(records))
    whole = [pa.types.is_integer(field.type) for field in schema]
    arrays = []
    for place, field in enumerate(schema):
        values = map(operator.itemgetter(place + 2), records)
        arrays.append(pa.array((None if v is None else int(v) if whole[place] else v for v in values), field.type))
    return pa.table(arrays, schema=schema)
