"""The promise of an index on servers, measured against exact search."""

from dataclasses import replace

import numpy as np
import torch
from psycopg import sql
from torch import Tensor

from likewise.console import Tick
from likewise.index.names import number_of
from likewise.index.postgresql import search
from likewise.index.postgresql.shards import Shard, Shards
from likewise.index.postgresql.tables import named
from likewise.index.promise import QUERIES, K, Promise, Tuning, exact_promise, sample
from likewise.metrics.neighbours import top_k

EFFORTS = (40, 64, 100, 160, 250, 400, 640, 1000)  # 1000 is pgvector's largest
_READ = 16_384  # rows in memory at once

Best = tuple[Tensor, Tensor]  # (Q, 10) scores, and the numbers of the items


def measured(shards: Shards, manner: search.Manner, rows: int, recall: float, tick: Tick) -> Promise:
    """The promise of a table, of items that the servers draw; what is truly nearest is computed here.

    ``manner.effort`` is 0 of exact search. Cost: all rows are read once, and multiplied with 1,024 queries.
    """
    each = -(-2 * QUERIES // len(shards))
    drawn = [item for part in shards.all(lambda shard: _drawn(shard, manner.table, each)) for item in part]
    drawn.sort(key=lambda item: number_of(item[0]))
    del drawn[2 * QUERIES :]
    ids, queries = [item for item, _ in drawn], torch.tensor([row for _, row in drawn])
    numbers = torch.tensor([number_of(item) for item in ids])

    def found(effort: int, asked: Tensor, k: int) -> Tensor:
        given, but = queries[asked].numpy(), [ids[place] for place in asked.tolist()]

        def part(shard: Shard) -> list[search.Near]:
            with shard.said():
                return search.nearest(shard, manner._replace(effort=effort), given, k, but, ())

        near = search.merged(shards.all(part), k)
        hits = torch.full((len(near), k), -1, dtype=torch.int64)
        for place, each in enumerate(near):
            hits[place, : len(each)] = torch.tensor([number_of(item) for _, item in each], dtype=torch.int64)
        return hits

    if not manner.effort:
        return replace(exact_promise(len(ids), recall, found, served=True), rows=rows)

    def part(shard: Shard) -> Best:
        def told(done: float) -> None:
            if shard.number == 0:
                tick(min(1.0, done * len(shards) / rows))

        with shard.said():
            return _true(shard, manner.table, queries, numbers, told)

    true = _best(shards.all(part))[1]
    return Tuning([(asked, true[asked]) for asked in sample(len(ids))], rows, recall, served=True).promise(
        EFFORTS, found
    )


def _drawn(shard: Shard, table: str, count: int) -> list[tuple[str, list[float]]]:
    """Items of a server, the same each time."""
    statement = sql.SQL("SELECT id, embedding::real[] FROM {} ORDER BY md5(id) LIMIT %s").format(named(table))
    with shard.said():
        found: list[tuple[str, list[float]]] = shard.connection.execute(statement, [count], binary=True).fetchall()
        return found


def _true(shard: Shard, table: str, queries: Tensor, numbers: Tensor, told: Tick) -> Best:
    """The nearest items of a server to items of these numbers, without themselves."""
    best: list[Best] = [(torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64))]
    done = 0
    with shard.connection.cursor("likewise_rows", binary=True) as cursor:
        cursor.execute(sql.SQL("SELECT id, embedding FROM {}").format(named(table)))
        while records := cursor.fetchmany(_READ):
            content = np.frombuffer(b"".join(row[4:] for _, row in records), ">f4")  # see vectors
            rows = torch.from_numpy(content.astype(np.float32)).view(len(records), -1)
            keys = torch.tensor([number_of(item) for item, _ in records])
            scores, near = top_k(queries, rows, K, query_ids=numbers, key_ids=keys)
            best = [_best([*best, (scores, torch.where(near < 0, near, keys[near.clamp_min(0)]))])]
            done += len(records)
            told(done)
    return best[0]


def _best(parts: list[Best]) -> Best:
    """The nearest among several parts."""
    scores, numbers = (torch.cat(each, 1) for each in zip(*parts, strict=True))
    kept, places = scores.topk(min(K, scores.shape[1]), dim=1)
    return kept, numbers.gather(1, places)
