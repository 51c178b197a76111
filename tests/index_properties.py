"""What every kind of index holds to, wherever it is: in a folder or on servers. The files of tests name the kinds.

``ON_ONE`` are properties of an index that is only searched, ``ON_ITS_OWN`` of one that is changed. The oracle is exact
search in memory.
"""

import datetime
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from toy import unit_clusters

from likewise.errors import LikewiseError
from likewise.index import Index
from likewise.index.asked import Searched
from likewise.index.conditions import matching, parse_all
from likewise.index.items_table import as_columns
from likewise.index.kept import Kept
from likewise.index.promise import recall_of
from likewise.index.servers import opened
from likewise.model import INDEX
from likewise.run_index import place_of

N = 1200
ROWS = unit_clusters(N)
IDS = [f"item {number}" for number in range(N)]
SHARES = np.random.default_rng(5).permutation(N) * 100 // N  # 0 to 99, each of one in a hundred, whatever the row
COLUMNS = as_columns({"percent": SHARES, "colour": ["red" if n % 50 == 0 else "blue" for n in range(N)]}, N)
NONE = np.zeros((N, 16), np.uint8)
LOCAL = Index(ROWS, IDS, columns=COLUMNS)
SOON = 20  # seconds until what was written is seen by who reads already


def make(to: str, run: Path, *, model: str = "m", recall: float = 0.9, rows: torch.Tensor = ROWS) -> Kept:
    """A new index of the items."""
    place = place_of(run, to)
    made = place.make(rows, IDS, {"model": model}, query_rows=None, columns=COLUMNS, contents=NONE)
    place.finish(made, recall, moved=True)
    return made


def reopened(run: Path) -> Searched:
    """The index of a run, as another process opens it."""
    return opened(run / INDEX)[0]


def rows_of(found: list[list], k: int) -> torch.Tensor:
    """(Q, k) the numbers of the hits; −1 where there is none."""
    places = {item: row for row, item in enumerate(IDS)}
    rows = torch.full((len(found), k), -1)
    for query, hits in enumerate(found):
        rows[query, : len(hits)] = torch.tensor([places[hit.id] for hit in hits], dtype=torch.int64)
    return rows


def eventually(holds: Callable[[], bool]) -> None:
    """Waits until something holds."""
    end = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def hits_have_the_scores_of_exact_search(index: Searched, exact: bool) -> None:
    queries = unit_clusters(40, 1)
    found, true = index.search_batch(queries, 10), LOCAL.nearest(queries, N)
    assert float(recall_of(rows_of(found, 10), true[1][:, :10]).mean()) >= (1 if exact else 0.9)
    scores = torch.empty(40, N).scatter_(1, true[1], true[0])
    for query, hits in enumerate(found):
        given = [hit.score for hit in hits]
        assert given == sorted(given, reverse=True)
        np.testing.assert_allclose(given, scores[query][rows_of([hits], 10)[0]], atol=3e-7)
    assert index.search_batch(queries[:3], 5) == [index.search(query, 5) for query in queries[:3]]


def an_item_is_left_out_of_its_own_hits(index: Searched, exact: bool) -> None:
    hits = {hit.id for hit in index.search("item 7", 10)}
    assert len(hits & {hit.id for hit in LOCAL.search("item 7", 10)}) >= (10 if exact else 8)
    assert "item 7" not in hits
    assert "item 7" in index
    assert "item 7 " not in index
    assert index.search(ROWS[7], 1)[0].id == "item 7"
    assert index.search(ROWS[7], 1, exclude_id="item 7")[0].id != "item 7"


def k_goes_beyond_the_items(index: Searched, exact: bool) -> None:
    assert len(index) == N
    assert len(index.search("item 7", N + 5)) == N - 1
    assert {hit.id for hit in index.search(ROWS[7], N)} == set(IDS)


def conditions_give_as_many_hits_as_fit(index: Searched, exact: bool) -> None:
    queries = unit_clusters(10, 2)
    for where, k in (
        ("percent < 1", 20), ("percent < 10", 10), ("percent < 50", 10), ("percent >= 50", 700),
        (["percent < 50", "colour != red"], 10), ("colour = red", 50), ("percent > 100", 10),
    ):  # fmt: skip
        fits = int(matching(LOCAL.columns, parse_all(where)).sum())
        found = index.search_batch(queries, k, where=where)
        assert [len(hits) for hits in found] == [min(k, fits)] * 10, where
        true = LOCAL.nearest(queries, k, where=where)[1]
        if fits:
            assert float(recall_of(rows_of(found, k), true).mean()) >= (1 if exact else 0.95), where


def mistakes_are_one_sentence(index: Searched, exact: bool) -> None:
    for act, sentence in (
        (lambda: index.search("item 3x"), r"'item 3x' is neither a file nor the id .* Did you mean 'item 3.*'\?"),
        (lambda: index.search("nul \0"), "is neither a file nor the id of an indexed item"),
        (lambda: index.search(__file__), "was loaded without a model, so it can't embed"),
        (lambda: index.search(ROWS[0], 0), "k=0 must be at least 1"),
        (lambda: index.search(ROWS[0, :3]), "the query has 3 numbers but the index holds rows of 16"),
        (lambda: index.search(ROWS[0] * float("nan")), "NaN"),
        (lambda: index.search(ROWS[:2]), "a query must be one row"),
        (lambda: index.search_batch(ROWS[:2], exclude_ids=["x"]), "2 queries but 1 exclude_ids"),
        (lambda: index.search(ROWS[0], where="colr = red"), "has no column 'colr'. Did you mean 'colour'"),
        (lambda: index.search(ROWS[0], where="percent > x"), "has 'x', but the column holds int64"),
    ):
        with pytest.raises(LikewiseError, match=sentence) as refused:
            act()
        assert "\n" not in str(refused.value)


TEXTS = ("red", 'light "blue"', "blue, dark", "'; DROP TABLE likewise.t; --", None, "back\\slash\n", "é 漢 😀", "")


def conditions_hold_as_in_memory(to: str, run: Path, exact: bool) -> None:
    day = datetime.date(2020, 1, 1)
    columns = pa.table(
        {
            "small": pa.array([None if n % 7 == 0 else n % 100 for n in range(N)], pa.int16()),
            "large": pa.array([2**63 + n for n in range(N)], pa.uint64()),
            "least": pa.array([-(2**63) + n % 3 for n in range(N)], pa.int64()),
            "text": [TEXTS[n % len(TEXTS)] for n in range(N)],
            "price": [(1.5, -2.0, float("nan"), None, float("inf"))[n % 5] for n in range(N)],
            "short": pa.array([0.1 * (n % 10) for n in range(N)], pa.float32()),
            "sold": [(True, False, None)[n % 3] for n in range(N)],
            "day": [day + datetime.timedelta(n % 30) for n in range(N)],
            "when": [datetime.datetime(2020, 1, 1, n % 24, 0, 0, 7) for n in range(N)],
            "zone": pa.array([datetime.datetime(2020, 1, 1, n % 24) for n in range(N)], pa.timestamp("ms", "UTC")),
            "in": [n % 4 for n in range(N)],
            'odd "name" %s é': [n % 2 for n in range(N)],
        }
    )
    place = place_of(run, to)
    made = place.make(ROWS, IDS, {"model": "m"}, query_rows=None, columns=columns, contents=NONE)
    place.finish(made, 0.9, moved=True)
    index = reopened(run)
    for where in (
        "small >= 50", "small != 3", "small in 1, 2, 300", "large > 9223372036854775900", "text = 'light \"blue\"'",
        "text in red,'blue, dark'", "text > light", "text != red", "price > 1.25", "price != 1.5", "price < 0",
        "price = nan", "price != nan", "price > nan", "price in nan, 1.5", "price < inf", "price = inf",
        "short = 0.1", "short <= 0.3", "sold = yes", "sold != yes", "sold < yes", "day > 2020-01-10",
        "when >= 2020-01-01T05:00:00", "zone < 2020-01-01T05:00:00Z", "in = 2", 'odd "name" %s é = 1',
        "text = \"'; DROP TABLE likewise.t; --\"", "text = back\\slash\n", "text = é 漢 😀",
        "text < a", "least = -9223372036854775808",
        "least > -9223372036854775808",
    ):  # fmt: skip
        fits = np.flatnonzero(matching(columns, parse_all(where)))
        assert {hit.id for hit in index.search(ROWS[0], N, where=where)} == {IDS[row] for row in fits}, where
    again = place_of(run, to).load()
    assert again is not None
    order = [IDS.index(item) for item in again.names.ids]
    for name in columns.column_names:  # NaN is not equal to itself, so by text
        assert str(again.columns[name].to_pylist()) == str(columns[name].take(order).to_pylist())
    assert again.columns.schema == columns.schema


def items_come_are_replaced_described_and_go(to: str, run: Path, exact: bool) -> None:
    make(to, run)
    before, place = reopened(run), place_of(run, "auto" if (run / INDEX / "servers.json").exists() else to)
    again = place.load()
    assert again is not None
    assert sorted(again.names.ids) == sorted(IDS)
    order = [IDS.index(item) for item in again.names.ids]
    assert again.columns["percent"].to_pylist() == COLUMNS["percent"].take(order).to_pylist()
    assert again.contents is not None
    new, names = unit_clusters(20, 3), [*IDS[:5], *(f"new {number}" for number in range(15))]
    green = pa.table({"percent": [200] * 20, "colour": ["green"] * 20})
    again.add(new, names, columns=green, contents=np.ones((20, 16), np.uint8))
    again.remove(["item 9", "item 10"])
    again.describe(["item 20"], pa.table({"percent": [107], "colour": ["grey"]}))
    for index in (before, reopened(run)):  # nothing is in use yet, as after a kill at any moment before this one
        assert len(index) == N
        assert {hit.id for hit in index.search(ROWS[9], N)} == set(IDS)
    place.finish(again, 0.9, moved=False)
    if to.partition(":")[2].startswith("//"):  # who has opened an index on servers sees it renewed
        eventually(lambda: "item 9" not in before)
    indexes = [reopened(run)] + [before] * ("//" in to)
    for index in indexes:
        assert len(index) == len(again) == N + 15 - 2
        assert "item 9" not in index
        for name, row in zip(names, new, strict=True):
            assert index.search(row, 1)[0].id == name
            assert index.search(row, 1, where="colour = green")[0].id == name
        assert [hit.id for hit in index.search(ROWS[20], 5, where="percent = 107")] == ["item 20"]
    third = place_of(run, to).load()
    assert third is not None
    assert third.contents is not None
    assert third.contents[third.names.row("item 3")].tolist() == [1] * 16
    assert third.contents[third.names.row("item 20")].tolist() == [0] * 16
    twin = Index(ROWS, IDS)
    twin.add(new, names)
    twin.remove(["item 9", "item 10"])
    queries = unit_clusters(30, 4)
    true = [{hit.id for hit in hits} for hits in twin.search_batch(queries, 10)]
    found = [{hit.id for hit in hits} for hits in indexes[0].search_batch(queries, 10)]
    assert np.mean([len(a & b) for a, b in zip(true, found, strict=True)]) >= (10 if exact else 9)


def a_renewal_that_is_cut_off_leaves_the_former_items(to: str, run: Path, exact: bool) -> None:
    make(to, run)
    cut = place_of(run, to)
    index = cut.load()
    assert index is not None
    index.add(ROWS[:3], ["new 0", "new 1", "item 0"], columns=COLUMNS.slice(0, 3), contents=NONE[:3])
    index.remove(["item 5"])
    del cut, index  # as a process that was killed
    assert {hit.id for hit in reopened(run).search(ROWS[0], N + 5)} == set(IDS)
    place = place_of(run, to)
    index = place.load()
    assert index is not None
    index.remove(["item 6"])
    place.finish(index, 0.9, moved=False)
    assert {hit.id for hit in reopened(run).search(ROWS[0], N + 5)} == set(IDS) - {"item 6"}


ON_ONE = (
    hits_have_the_scores_of_exact_search,
    an_item_is_left_out_of_its_own_hits,
    k_goes_beyond_the_items,
    conditions_give_as_many_hits_as_fit,
    mistakes_are_one_sentence,
)
ON_ITS_OWN = (
    conditions_hold_as_in_memory,
    items_come_are_replaced_described_and_go,
    a_renewal_that_is_cut_off_leaves_the_former_items,
)


def name_of(holds: Callable[..., None]) -> str:
    """The name of a test of a property."""
    return holds.__name__
