"""The graph is what loops over users count; DuckDB and Spark give the same edges, to the last bit of a weight."""

import math
from collections import Counter, defaultdict
from itertools import permutations
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from likewise.errors import LikewiseError
from likewise.graph import co_engagement as module
from likewise.graph.co_engagement import (
    USUAL,
    WEIGHTS,
    CoEngagement,
    Interactions,
    Settings,
    co_engagement,
    edges_sql,
)
from likewise.graph.graph_file import edge_table, edges_hash

Edge = tuple[int, int, int, float]
ITEMS = 60


def long_tail(count: int, users: int, items: int, seed: int = 0, times: int = 50) -> Interactions:
    """Few users and items have most rows; rows repeat, and times tie."""
    generator = np.random.default_rng(seed)
    user = (users * generator.random(count) ** 2).astype(np.int64)
    item = generator.permutation(items)[(items * generator.random(count) ** 2.5).astype(np.int64)]
    return Interactions(user, item, generator.integers(0, times, count))


def naive(rows: Interactions, settings: Settings) -> list[Edge]:
    """The definition, in loops."""
    newest: dict[int, dict[int, float]] = defaultdict(dict)
    times = np.zeros(len(rows.user)) if rows.time is None else rows.time
    for user, item, time in zip(rows.user.tolist(), rows.item.tolist(), times.tolist(), strict=True):
        newest[user][item] = max(time, newest[user].get(item, time))
    lists = [sorted(items, key=lambda item: (-items[item], item))[: settings.newest] for items in newest.values()]
    lists = [items for items in lists if len(items) > 1]
    n = Counter(item for items in lists for item in items)
    together = Counter(pair for items in lists for pair in permutations(items, 2))
    edges: list[Edge] = []
    for item in range(ITEMS):
        scored = []
        for other in range(ITEMS):
            count = together[item, other]
            if count >= settings.support:
                lift = count * len(lists) / (n[item] * n[other])
                cosine = count / math.sqrt(n[item] * n[other])
                scored.append((-{"cosine": cosine, "count": float(count)}.get(settings.weighting, lift), other, count))
        for score, other, count in sorted(scored)[: settings.k]:
            edges.append((item, other, count, math.log(-score) if settings.weighting == "pmi" else -score))
    return edges


def edges_of(graph: CoEngagement) -> list[Edge]:
    columns = (graph.item, graph.other, graph.count, graph.weight)
    return list(zip(*(column.tolist() for column in columns), strict=True))


CASES = [
    Settings(),
    Settings(weighting="pmi", support=1, k=3),
    Settings(weighting="lift", support=3, k=2, newest=5),
    Settings(weighting="count", support=1, k=4, newest=2),
    Settings(k=1, newest=7),
]


@pytest.mark.parametrize("settings", CASES, ids=str)
@pytest.mark.parametrize("times", ["whole", "float", "none"])
def test_edges_are_what_loops_count(settings: Settings, times: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(3):
        rows = long_tail(600, 40, ITEMS, seed)
        assert rows.time is not None
        time = {"whole": rows.time, "float": rows.time / 7, "none": None}[times]
        rows = rows._replace(time=time)
        expected = naive(rows, settings)
        assert len(expected) > 20
        assert edges_of(co_engagement(rows, ITEMS, settings)) == expected
        monkeypatch.setattr(module, "_PAIRS", 70)  # many blocks
        assert edges_of(co_engagement(rows, ITEMS, settings)) == expected
        monkeypatch.undo()


def test_ties_go_to_the_smaller_id() -> None:
    user, item = (np.repeat(np.arange(2), 5), np.tile(np.array([4, 2, 0, 3, 1]), 2))
    graph = co_engagement(Interactions(user, item, np.zeros(10, np.int64)), 5, Settings(k=2))
    assert graph.other.tolist() == [1, 2, 0, 2, 0, 1, 0, 1, 0, 1]
    capped = co_engagement(Interactions(user, item, np.zeros(10, np.int64)), 5, Settings(newest=3))
    assert capped.item.tolist() == [0, 0, 1, 1, 2, 2]


def test_what_is_counted() -> None:
    user = np.array([0, 0, 0, 1, 2, 2, 3, 3, 3, 0])
    item = np.array([0, 1, 2, 0, 0, 1, 0, 1, 3, 0])
    graph = co_engagement(Interactions(user, item, np.arange(10)), 5, Settings(newest=2))
    # user 0 keeps 0 (newest, row 9) and 2; user 3 keeps 1 and 3; user 1 has one item
    assert (graph.repeated, graph.lone_users, graph.all_users) == (1, 1, 3)
    assert graph.capped == ((0, 3), (3, 3))
    assert graph.users.tolist() == [2, 2, 1, 1, 0]
    assert [(at.support, at.pairs, at.isolated) for at in graph.at] == [(1, 3, 1), (2, 0, 5), (3, 0, 5)]
    assert len(graph) == 0


def test_nothing_gives_no_edges() -> None:
    none = np.zeros(0, np.int64)
    for items in (0, 3):
        for time in (none, None):
            assert len(co_engagement(Interactions(none, none, time), items)) == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"weighting": "cosin"}, r"there is no weighting 'cosin'\. Did you mean 'cosine'\?"),
        ({"support": 0}, "support=0 must be at least 1"),
        ({"k": 2.5}, "k=2.5 must be a whole number"),
        ({"newest": 1}, "newest=1 leaves each user one item"),
    ],
)
def test_settings_that_make_no_graph_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(LikewiseError, match=said):
        Settings(**given)


# --- the same in SQL ---


def frame(rows: Interactions, names: list[str]) -> pa.Table:
    """What the SQL reads, with rows that it leaves out."""
    count = len(rows.user)
    weight = np.ones(count)
    weight[::11], weight[1::11], weight[2::11], weight[3::11] = -1.0, np.nan, 0.5, np.inf
    user = pa.array([None if row % 13 == 5 else int(each) for row, each in enumerate(rows.user)], pa.int64())
    item = pa.array(names).take(pa.array(rows.item))
    return pa.table({"user_id": user, "item_id": item, "weight": weight, "time": rows.time})


def usable(rows: Interactions) -> Interactions:
    """Without the rows that the SQL leaves out at a least weight of 0.75."""
    place = np.arange(len(rows.user))
    keep = ~np.isin(place % 11, (0, 1, 2, 3)) & (place % 13 != 5)
    assert rows.time is not None
    return Interactions(rows.user[keep], rows.item[keep], rows.time[keep])


def names_of(items: int) -> list[str]:
    """Ids in order, of which some sort otherwise by number, by capitals or by bytes of UTF-16."""
    return sorted([f"{number}" for number in range(items - 4)] + ["Zoë", "zoe", "\uffee", "\U0001f600"])


def test_duckdb_gives_the_same_edges() -> None:
    rows, names = long_tail(20_000, 900, 300, seed=1), names_of(300)
    interactions = frame(rows, names)
    connection = duckdb.connect()
    connection.register("interactions", interactions)
    for weighting in WEIGHTS:
        settings = Settings(weighting=weighting, support=3, k=7, newest=30)
        ours = edge_table(co_engagement(usable(rows), 300, settings), names)
        theirs = connection.sql(edges_sql(settings, least=0.75)).to_arrow_table()
        assert theirs.drop(["weight"]).to_pydict() == ours.drop(["weight"]).to_pydict()
        np.testing.assert_array_max_ulp(theirs["weight"].to_numpy(), ours["weight"].to_numpy(), 1)
        if weighting != "pmi":
            assert edges_hash(theirs) == edges_hash(ours)


@pytest.mark.slow
def test_spark_gives_the_same_edges(tmp_path: Path) -> None:
    sql = pytest.importorskip("pyspark.sql")  # the extra spark; it needs Java
    from pyarrow import parquet

    rows, names = long_tail(100_000, 5_000, 2_000, seed=2), names_of(2_000)
    parquet.write_table(frame(rows, names), tmp_path / "interactions.parquet")
    builder = sql.SparkSession.builder.master("local[2]").config("spark.sql.shuffle.partitions", "4")
    spark = builder.config("spark.ui.enabled", "false").getOrCreate()
    try:
        spark.read.parquet(str(tmp_path / "interactions.parquet")).createOrReplaceTempView("interactions")
        for weighting in WEIGHTS:
            settings = Settings(weighting=weighting, k=20, newest=40)
            ours = edge_table(co_engagement(usable(rows), 2_000, settings), names)
            theirs = spark.sql(edges_sql(settings, least=0.75)).toArrow()
            assert theirs.drop(["weight"]).to_pydict() == ours.drop(["weight"]).to_pydict()
            np.testing.assert_array_max_ulp(theirs["weight"].to_numpy(), ours["weight"].to_numpy(), 1)
            if weighting != "pmi":
                assert edges_hash(theirs) == edges_hash(ours)
    finally:
        spark.stop()


def test_the_sql_has_the_usual_settings_and_takes_others() -> None:
    text = (Path(str(module.__file__)).parent / "edges.sql").read_text(encoding="utf-8")
    assert edges_sql() == text
    other = edges_sql(Settings(weighting="pmi", support=5, k=6, newest=7), least=0.5)
    assert "SELECT 'pmi' AS weighting, 5 AS support, 6 AS k, 7 AS newest, CAST(0.5 AS DOUBLE) AS least" in other
    assert "'cosine' AS weighting" not in other
    assert co_engagement.__defaults__ == (USUAL,)


def test_the_definition_is_in_the_same_words() -> None:
    """Of the docstring and of the SQL, up to signs that SQL files don't have."""

    def plain(text: str) -> str:
        text = text.replace("``", "`").replace("≥", ">=").replace("--", " ")
        return " ".join(text.split())

    def steps(text: str) -> str:
        begin = text.index("1. ")
        return plain(text[begin : text.index("the smaller id.", text.index("5. ")) + 15])

    assert steps(co_engagement.__doc__ or "") == steps(edges_sql().partition("WITH")[0])


def test_the_hash_is_of_the_edges_whatever_their_order() -> None:
    rows = long_tail(2_000, 90, ITEMS)
    table = edge_table(co_engagement(rows, ITEMS), [f"{number:03}" for number in range(ITEMS)])
    known = edges_hash(table)
    assert edges_hash(table.take(pa.array(np.random.default_rng(0).permutation(len(table))))) == known
    assert edges_hash(table.cast(pa.schema([("item", pa.large_string()), *list(table.schema)[1:]]))) == known
    weight = table["weight"].to_numpy().copy()
    weight[-1] = np.nextafter(weight[-1], 1)
    assert edges_hash(table.set_column(3, "weight", pa.array(weight))) != known
    assert edges_hash(table.slice(1)) != known
    assert edges_hash(table.slice(0, 0)) != known
