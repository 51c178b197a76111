"""An index on servers: rows a second of writing, queries a second, recall, and conditions that 1, 10, 50 % fit.

    python benchmarks/servers.py postgresql://USER@HOST/DATABASE
    python benchmarks/servers.py postgresql://USER@HOST1,HOST2,HOST3/DATABASE --engines hnsw --sets hard
    python benchmarks/servers.py postgresql://USER@HOST/DATABASE --crossover   # when to compare all that fit
    python benchmarks/servers.py milvus://HOST/benchmark --engines exact hnsw

Seconds of the clock on the wall, of this machine and the servers together. The sets and queries are those of
benchmarks/index.py. ``year`` has nothing to do with a row; ``side`` is an order by a row's first number. The table on
PostgreSQL is likewise.benchmark, and is removed at the end; that on Milvus stays.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from index import DIM, clustered, hard
from psycopg import sql
from torch import Tensor
from torch.nn import functional

from likewise.index import Index
from likewise.index.items_table import as_columns
from likewise.index.milvus.index import FRESH
from likewise.index.postgresql import search
from likewise.index.postgresql.index import ServerIndex
from likewise.index.postgresql.tables import named
from likewise.index.servers import opened_at, place_on

K, QUERIES, TABLE = 10, 200, "benchmark"


def seconds(work: Callable[[], Any]) -> tuple[Any, float]:
    """What a function gives, and its seconds."""
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def share(found: list[list[Any]], true: list[list[Any]]) -> float:
    """The share of the true items that were found."""
    both = [
        len({hit.id for hit in a} & {hit.id for hit in b}) / max(1, len(b)) for a, b in zip(found, true, strict=True)
    ]
    return float(np.mean(both))


def write(url: str, local: Index, folder: Path) -> dict[str, float]:
    """Writes the items; the seconds of each stage."""
    spent: dict[str, float] = {}
    last = [time.perf_counter(), "connecting"]

    def stage(what: str) -> Callable[[float], None]:
        now = time.perf_counter()
        spent[str(last[1])] = now - float(last[0])
        last[:] = [now, what]
        return lambda share: None

    place = place_on(folder, url, TABLE, stage)
    contents = np.zeros((len(local), 16), np.uint8)
    new = place.make(local.rows, local.ids, {"model": "m"}, query_rows=None, columns=local.columns, contents=contents)
    place.finish(new, 0.95, moved=True)
    stage("")
    assert new.promise is not None
    print(f"  {new.engine_name}: {new.promise.sentence()}")
    return spent


def measure(url: str, local: Index, queries: Tensor, folder: Path) -> None:
    """Prints the lines of one engine."""
    print(f"\n{url}, {len(local):,} × {DIM}")
    spent = write(url, local, folder)
    print("  " + ", ".join(f"{what} {each:.1f} s" for what, each in spent.items()))
    writing = sum(each for what, each in spent.items() if what.startswith("writing"))
    print(f"  {len(local) / writing:,.0f} rows a second written, without keys and graph")
    index = opened_at(url, TABLE)[0]
    if isinstance(index, ServerIndex):
        sizes(index)
    else:
        index.search(queries[0], K)
        time.sleep(FRESH)  # for so long Milvus waits for its newest rows
    true = local.search_batch(queries, K)
    index.search_batch(queries[:20], K)
    one = np.sort([seconds(lambda query=query: index.search(query, K))[1] for query in queries]) * 1000
    batch, spent_on_batch = seconds(lambda: index.search_batch(queries, K))
    print(
        f"  one by one {1000 / one.mean():,.0f} queries a second, p50 {one[len(one) // 2]:.1f} ms, p95 "
        f"{one[int(len(one) * 0.95)]:.1f} ms; in a batch {len(queries) / spent_on_batch:,.0f}; recall "
        f"{share(batch, true):.3f}"
    )
    for where in ("year < 1", "year < 10", "year < 50", "side < 1", "side < 10", "side < 50"):
        asked = queries[:50]
        true = local.search_batch(asked, K, where=where)
        found, took = seconds(lambda where=where, asked=asked: index.search_batch(asked, K, where=where))
        hits = np.mean([len(each) for each in found])
        print(f"  {where}: {hits:.1f} hits, recall {share(found, true):.3f}, {1000 * took / len(asked):.1f} ms a query")


def sizes(index: ServerIndex) -> None:
    """Prints the sizes of each server's table."""
    asked = sql.SQL("SELECT pg_table_size({0}) / 1048576, pg_indexes_size({0}) / 1048576").format(
        sql.Literal(f"likewise.{TABLE}")
    )
    for size in index.shards.ask(lambda shard: shard.connection.execute(asked).fetchone()):
        print(f"  table {size[0]} MiB, keys and graph {size[1]} MiB")


def crossover(url: str, local: Index, queries: Tensor, folder: Path) -> None:
    """Prints the milliseconds of a query by comparing all that fit, and by the graph, for more and more that fit."""
    write(url, local, folder)
    index = opened_at(url, TABLE)[0]
    for name in ("year", "side"):
        for percent in (1, 2, 5, 10, 20, 30, 50, 75):
            where, line = f"{name} < {percent}", f"  {name}: {percent:2d} %, {len(local) * percent // 100:,} rows fit:"
            true = local.search_batch(queries[:30], K, where=where)
            for what, limit in (("compared", 1 << 30), ("by the graph", 0)):
                search.AMONG = limit
                found, took = seconds(lambda where=where: index.search_batch(queries[:30], K, where=where))
                line += f" {what} {1000 * took / 30:.1f} ms (recall {share(found, true):.3f})"
            print(line)


def main() -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--sets", nargs="+", choices=("clustered", "hard"), default=["clustered", "hard"])
    parser.add_argument("--engines", nargs="+", default=["exact", "hnsw", "hnsw&halfvec=1", "hnsw&bits=1"])
    parser.add_argument("--crossover", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    milvus = a.url.startswith("milvus:")
    torch.set_num_threads(1)
    print(f"{a.rows:,} × {DIM}, batches of {QUERIES}, seed {a.seed}")
    for name in a.sets:
        random = torch.Generator().manual_seed(a.seed)
        rows = {"clustered": clustered, "hard": hard}[name](a.rows, random)
        year, order = (
            np.random.default_rng(a.seed).integers(0, 100, len(rows)),
            np.argsort(np.argsort(rows[:, 0].numpy())),
        )
        columns = as_columns({"year": year, "side": order * 100 // len(rows)}, len(rows))
        local = Index(rows, [f"item {number:07d}" for number in range(len(rows))], columns=columns)
        queries = rows[torch.randint(len(rows), (QUERIES,), generator=random)]
        queries = functional.normalize(queries + 0.02 * torch.randn(queries.shape, generator=random), dim=1)
        print(f"\n{name}")
        with tempfile.TemporaryDirectory() as folder:
            mark = "&" if "?" in a.url else "?"
            for engine in ["hnsw"] if a.crossover else a.engines:
                url = f"{a.url}{mark}engine={engine}" + ("" if milvus else f"&table={TABLE}")
                (crossover if a.crossover else measure)(url, local, queries, Path(folder))
            index = opened_at(url, TABLE)[0]
            if isinstance(index, ServerIndex):
                for shard in index.shards.each:
                    shard.connection.execute(sql.SQL("DROP TABLE {}").format(named(TABLE)))
                    shard.connection.execute(
                        sql.SQL("DELETE FROM {} WHERE name = %s").format(named("indexes")), [TABLE]
                    )


if __name__ == "__main__":
    main()
