"""An index on servers as it is searched: by id, row or file, with conditions."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from psycopg import sql
from torch import Tensor

from likewise.data.items import as_id
from likewise.errors import LikewiseError
from likewise.index.asked import SOME, Searched, checked
from likewise.index.conditions import parse_all
from likewise.index.hits import Hit
from likewise.index.layout import Layout
from likewise.index.postgresql import search
from likewise.index.postgresql.shards import Shard, Shards
from likewise.index.postgresql.tables import generation_of, named, present
from likewise.index.postgresql.url import SCHEMA, Servers
from likewise.index.promise import Promise

PATIENCE = 20  # times to look for parts of one generation, while another process writes the next
PAUSE = 0.1  # seconds between


class About(NamedTuple):
    """What the manifests of all parts say.

    Args:
        generation: counts renewals.
        owner, run: whose index it is, see ``pointer``.
        protocol: how the rows were made.
        layout: the columns.
        engine: exact or hnsw.
        numbers, links: of the graph.
        promise: what was measured.
    """

    generation: int
    owner: str
    run: str
    protocol: dict[str, str | int | float]
    layout: Layout
    engine: str
    numbers: str
    links: int
    promise: Promise | None

    def as_json(self, part: int, parts: int) -> dict[str, Any]:
        """The manifest of one part."""
        return {
            "owner": self.owner,
            "run": self.run,
            "protocol": self.protocol,
            "layout": self.layout.as_json(),
            "engine": self.engine,
            "numbers": self.numbers,
            "links": self.links,
            "promise": self.promise.as_json() if self.promise else None,
            "part": part,
            "parts": parts,
        }


def about(shards: Shards, found: Sequence[tuple[int, dict[str, Any]] | None]) -> About | None:
    """What the manifests of all servers say; None while they are of different generations.

    Raises LikewiseError when a server has no part, or another than that of its place in the URL.
    """
    for shard, each in zip(shards.each, found, strict=True):
        if each is None:
            raise LikewiseError(
                f"{shard} has no table {SCHEMA}.{shards.servers.table}; make the index again: likewise index RUN DATA "
                f"--to '{shards.servers}'."
            )
        wanted = shard.number, len(shards)
        if (each[1]["part"], each[1]["parts"]) != wanted:
            raise LikewiseError(
                f"{shard} holds part {each[1]['part'] + 1} of {each[1]['parts']} of {SCHEMA}.{shards.servers.table}: "
                "name the same servers in the same order, or spread the items anew with --anew."
            )
    first = found[0]
    assert first is not None
    if any(each is not None and each[0] != first[0] for each in found):
        return None
    told = first[1]
    return About(
        first[0],
        told["owner"],
        told["run"],
        told["protocol"],
        Layout.from_json(told["layout"]),
        told["engine"],
        told["numbers"],
        told["links"],
        Promise(**told["promise"]) if told["promise"] else None,
    )


class ServerIndex(Searched):
    """Search by inner product over the items of a table on one server or several.

    Args:
        servers: with the name of the table.
        read: a function from the path of a file to its row (D,), for searches by path.

    Raises:
        LikewiseError: a server is away, has no pgvector or no part of the index; psycopg is not installed.

    Cost: a connection to each server. Scores are pgvector's, inner products in float32.
    """

    kind = "postgresql"

    def __init__(self, servers: Servers, read: Callable[[str], Tensor] | None = None) -> None:
        self.read = read
        self.shards = Shards(servers)
        self._take(self._look())

    def __repr__(self) -> str:
        return f"ServerIndex({self.shards.servers}, engine={self.about.engine}, protocol={self.protocol})"

    def _look(self) -> About:
        """What the servers say now. A part that is older than another is waited for, a moment."""
        table = self.shards.servers.table
        for _ in range(PATIENCE):
            found = self.shards.ask(lambda shard: present(shard, table))
            told = about(self.shards, found)
            if told is not None:
                return told
            time.sleep(PAUSE)
        parts = ", ".join(f"{shard}: {each[0]}" for shard, each in zip(self.shards.each, found, strict=True) if each)
        raise LikewiseError(
            f"the parts of {SCHEMA}.{table} are of different generations ({parts}), since a renewal was cut off: "
            f"likewise index RUN DATA --to '{self.shards.servers}'."
        )

    def __len__(self) -> int:
        """Number of items."""
        count = sql.SQL("SELECT count(*) FROM {}").format(named(self.shards.servers.table))
        return sum(self.shards.ask(lambda shard: int(shard.connection.execute(count).fetchone()[0])))

    def _found(
        self, queries: Tensor, k: int, excluded: list[str | None], where: str | Sequence[str]
    ) -> list[list[Hit]]:
        conditions = parse_all(where)
        for _ in range(PATIENCE):
            a = self.about
            rows = checked(queries, a.layout.dim).float().numpy()
            manner = search.Manner(
                self.shards.servers.table,
                a.layout,
                a.promise.effort if a.promise and a.engine == "hnsw" else 0,
                a.numbers,
                a.promise.rows // len(self.shards) if a.promise else 0,
            )

            def question(
                shard: Shard, rows: Any = rows, manner: search.Manner = manner
            ) -> tuple[int, list[search.Near]]:
                found = search.nearest(shard, manner, rows, k, excluded, conditions)
                return generation_of(shard, manner.table), found  # later than what was found, and it only grows

            answers = self.shards.ask(question)
            if all(generation == a.generation for generation, _ in answers):
                found = search.merged([near for _, near in answers], k)
                return [[Hit(item, -far) for far, item in near] for near in found]
            self._renewed()
        raise LikewiseError(f"{self.shards.servers} is renewed all the time; search again.")

    def _renewed(self) -> None:
        """Looks at the index again. Raises LikewiseError when another model has made it since."""
        found = self._look()
        if found.protocol.get("model") != self.protocol.get("model"):
            raise LikewiseError(f"another model has renewed {self.shards.servers} meanwhile; load the run again.")
        self._take(found)

    def _take(self, found: About) -> None:
        self.about, self.protocol = found, found.protocol

    def row_by_id(self, item: str) -> Tensor | None:
        """(D,) the row that searches for the item of an id; None of an unknown id."""
        column = "query_embedding" if self.about.layout.queries else "embedding"
        statement = sql.SQL("SELECT {}::real[] FROM {} WHERE id = %s").format(
            sql.Identifier(column), named(self.shards.servers.table)
        )
        shard = self.shards.each[self.shards.of(as_id(item))]
        found = None
        if "\0" not in item:
            found = shard.ask(lambda one: one.connection.execute(statement, [as_id(item)], binary=True).fetchone())
        return None if found is None else torch.from_numpy(np.array(found[0], np.float32))

    def some_ids(self) -> Sequence[str]:
        """Some ids, among which that of a misspelt one is looked for."""
        each = -(-SOME // len(self.shards))
        some = sql.SQL("SELECT id FROM {} LIMIT {}").format(named(self.shards.servers.table), sql.Literal(each))
        parts = self.shards.ask(lambda shard: [row[0] for row in shard.connection.execute(some).fetchall()])
        return [item for part in parts for item in part]

    def close(self) -> None:
        """Ends the connections."""
        self.shards.close()
