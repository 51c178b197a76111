"""Time and peak memory of a graph from interactions, beside DuckDB on the same file; the edges must be the same.

    python benchmarks/graph.py                                    # 1,000,000 interactions, 3 rounds
    python benchmarks/graph.py --count 10_000_000 --rounds 2
    python benchmarks/graph.py --count 50_000_000 --rounds 1 --engines scipy
    python benchmarks/graph.py --count 100_000 --rounds 1 --engines scipy duckdb spark

The interactions are drawn with long tails: activity of users is log-normal (σ = 1.2), popularity of items falls as
(rank + 10)^−0.9, over a user for each 40 and an item for each 100 rows. ``scipy`` is ``build_graph``, from the file to
the table of edges and its hash; ``duckdb`` and ``spark`` run ``edges.sql``, from the file to the table. Each
measurement is a process of its own (Spark's JVM is a child of it), and the engines take turns. Memory is the peak
resident size. On a machine that is shared, CPU seconds tell more than the clock's.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ENGINES = ("scipy", "duckdb", "spark")


def draw(path: Path, count: int, seed: int) -> None:
    """Writes the interactions: user_id, item_id and time, all int64."""
    import pyarrow as pa
    from pyarrow import parquet

    generator = np.random.default_rng(seed)
    users, items = max(2, count // 40), max(2, count // 100)
    activity = generator.lognormal(0, 1.2, users)
    sizes = generator.multinomial(count, activity / activity.sum())
    popularity = (np.arange(items) + 10.0) ** -0.9
    drawn = np.searchsorted((popularity / popularity.sum()).cumsum(), generator.random(count)).clip(max=items - 1)
    order = generator.permutation(count)
    table = {
        "user_id": np.repeat(np.arange(users), sizes)[order],
        "item_id": generator.permutation(items)[drawn],
        "time": generator.integers(1_500_000_000, 1_600_000_000, count),
    }
    parquet.write_table(pa.table(table), path)


def with_scipy(path: Path) -> tuple[Any, dict[str, Any]]:
    from likewise.graph.build import build_graph

    graph = build_graph(path)
    s = graph.summary
    return graph.table, {"users": s.users, "items": s.items, "pairs": s.at[0].pairs, "capped": s.capped_users}


def with_duckdb(path: Path) -> tuple[Any, dict[str, Any]]:
    import duckdb

    from likewise.graph.co_engagement import edges_sql

    connection = duckdb.connect()
    connection.sql(f"CREATE VIEW interactions AS SELECT *, 1 AS weight FROM '{path}'")
    return connection.sql(edges_sql()).to_arrow_table(), {}


def with_spark(path: Path) -> tuple[Any, dict[str, Any]]:
    from pyspark.sql import SparkSession

    from likewise.graph.co_engagement import edges_sql

    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    spark.read.parquet(str(path)).selectExpr("*", "1 AS weight").createOrReplaceTempView("interactions")
    table = spark.sql(edges_sql()).toArrow()
    spark.stop()
    return table, {}


def measure(engine: str, path: Path) -> None:
    """In a process of its own: prints what it took as JSON."""
    from likewise.graph.graph_file import edges_hash

    began = time.perf_counter()
    table, facts = {"scipy": with_scipy, "duckdb": with_duckdb, "spark": with_spark}[engine](path)
    wall = time.perf_counter() - began
    own, child = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    used = {
        "wall": wall,
        "cpu": own.ru_utime + own.ru_stime + child.ru_utime + child.ru_stime,  # with starting Python
        "gib": max(own.ru_maxrss, child.ru_maxrss) / 2**20,
    }
    print(json.dumps({**used, **facts, "edges": len(table), "hash": edges_hash(table)}))


def main(count: int, rounds: int, engines: list[str], seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "interactions.parquet"
        subprocess.run(
            [sys.executable, __file__, "--draw", str(path), "--count", str(count), "--seed", str(seed)], check=True
        )
        print(f"{count:,} interactions, {path.stat().st_size / 2**20:,.0f} MiB")
        hashes = set()
        for number in range(rounds):
            for engine in engines:
                command = [sys.executable, __file__, "--measure", engine, "--draw", str(path)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
                if done.returncode:
                    print(f"  round {number + 1} {engine:7s} failed with exit code {done.returncode}", flush=True)
                    continue
                took = json.loads(done.stdout.splitlines()[-1])
                hashes.add(took["hash"])
                facts = ", ".join(
                    f"{name} {took[name]:,}" for name in ("users", "items", "pairs", "capped") if name in took
                )
                print(
                    f"  round {number + 1} {engine:7s} {took['cpu']:8.1f} CPU s {took['wall']:8.1f} s "
                    f"{took['gib']:6.2f} GiB  edges {took['edges']:,} {took['hash']} {facts}",
                    flush=True,
                )
        print("  all hashes are equal" if len(hashes) == 1 else f"  HASHES DIFFER: {hashes}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=["scipy", "duckdb"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draw", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure", choices=ENGINES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.measure, given.draw)
    elif given.draw:
        draw(given.draw, given.count, given.seed)
    else:
        main(given.count, given.rounds, given.engines, given.seed)
