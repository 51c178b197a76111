"""Every engine of an index, held to exact search: hits, conditions, changes, files, and the promise."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from toy import unit_clusters, year_and_colour

from likewise.errors import LikewiseError
from likewise.index import Index, saved
from likewise.index import index as module
from likewise.index.engines import KINDS, engine_of
from likewise.index.promise import lower_bound, recall_of
from likewise.metrics import top_k

ENGINES = ("exact", "faiss:ivf?lists=16", "faiss:hnsw?links=16")
N = 1500


ROWS = unit_clusters(N)
IDS = [f"item {number}" for number in range(N)]
COLUMNS = year_and_colour(N)


@pytest.fixture(params=ENGINES)
def index(request: pytest.FixtureRequest) -> Index:
    made = Index(ROWS, IDS, {"model": "m"}, columns=COLUMNS, contents=np.zeros((N, 16), np.uint8))
    made.use(request.param, recall=0.9)
    return made


def true_rows(index: Index, queries: torch.Tensor, k: int, among: np.ndarray | None = None) -> torch.Tensor:
    """The naive twin: every row is compared."""
    rows = index.rows.contiguous()
    if among is None:
        return top_k(queries, rows, k)[1]
    return torch.from_numpy(among)[top_k(queries, rows[torch.from_numpy(among)], k)[1]]


def test_what_is_found_has_the_score_of_exact_search(index: Index) -> None:
    queries = unit_clusters(40, 1)
    scores, rows = index.nearest(queries, 10)
    true = true_rows(index, queries, 10)
    assert float(recall_of(rows, true).mean()) >= 0.9
    exact_scores, _ = top_k(queries, index.rows.contiguous(), N)
    for query in range(40):
        known = dict(
            zip(
                top_k(queries[query : query + 1], index.rows.contiguous(), N)[1][0].tolist(),
                exact_scores[query].tolist(),
                strict=True,
            )
        )
        assert (
            [known[row] for row in rows[query].tolist()]
            == scores[query].tolist()
            == sorted(scores[query].tolist(), reverse=True)
        )
    batch = index.search_batch(queries, 5)
    assert batch == [index.search(query, 5) for query in queries]


def test_an_item_is_left_out_of_its_own_hits(index: Index) -> None:
    hits = index.search("item 7", 10)
    assert len(hits) == 10
    assert "item 7" not in [hit.id for hit in hits]


@pytest.mark.parametrize("share", ["few", "half", "one list", "more than k"])
@pytest.mark.parametrize("limit", [0, 50_000])
def test_conditions_give_as_many_hits_as_there_are(
    index: Index, share: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AMONG", limit)  # 0: the engine searches among them
    where, k = {
        "few": ("colour = red", 50),
        "half": ("year < 1950", 10),
        "one list": (["year >= 1998", "colour != red"], 10),
        "more than k": ("year = 1903", 10),
    }[share]
    year, colour = np.array(COLUMNS["year"]), np.array(COLUMNS["colour"])
    fits = {
        "few": colour == "red",
        "half": year < 1950,
        "one list": (year >= 1998) & (colour != "red"),
        "more than k": year == 1903,
    }[share]
    among = np.flatnonzero(fits)
    queries = unit_clusters(30, 2)
    rows = index.nearest(queries, k, where=where)[1]
    assert rows.shape == (30, min(k, len(among)))
    assert set(rows.flatten().tolist()) <= set(among.tolist())
    assert float(recall_of(rows, true_rows(index, queries, k, among)).mean()) >= 0.95


def test_nothing_fits(index: Index) -> None:
    assert index.search(ROWS[0], where="year > 3000") == []


def test_items_come_are_replaced_and_go(index: Index) -> None:
    new = unit_clusters(20, 3)
    old = [f"item {number}" for number in range(5)]
    names = [*old, *(f"new {number}" for number in range(15))]
    columns = {"year": [2000] * 20, "colour": ["green"] * 20}
    index.add(new, names, columns=columns, contents=np.ones((20, 16), np.uint8))
    index.remove(["item 9", "item 10"])
    assert len(index) == N + 15 - 2
    assert "item 9" not in index
    assert (0 if index.engine is None else index.engine.effort) == index.promise.effort
    for name, row in zip(names, new, strict=True):
        assert index.search(row, 1)[0].id == name
        assert index.search(row, 1, where="colour = green")[0].id == name
    assert index.contents[index.names.row("item 3")].tolist() == [1] * 16
    queries = unit_clusters(40, 4)
    found = recall_of(index.nearest(queries, 10)[1], true_rows(index, queries, 10))
    assert float(found.mean()) >= 0.9
    with pytest.raises(LikewiseError, match="no item of the index has the id 'item 9'"):
        index.remove(["item 9"])
    with pytest.raises(LikewiseError, match="no item would be left"):
        index.remove(index.ids)


def test_a_saved_index_is_the_same_and_changes_are_added_to_its_files(index: Index, tmp_path: Path) -> None:
    queries = unit_clusters(10, 5)
    index.save(tmp_path)
    first = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = Index.load(tmp_path)
    assert (again.ids, again.protocol, again.promise) == (index.ids, index.protocol, index.promise)
    assert again.stats() == index.stats()
    assert again.search_batch(queries, 7, where="year < 1930") == index.search_batch(queries, 7, where="year < 1930")
    assert again.search_batch(queries, 7) == index.search_batch(queries, 7)
    for each in (again, index):
        each.add(
            unit_clusters(5, 6),
            IDS[:5],
            columns={"year": [1] * 5, "colour": ["c"] * 5},
            contents=np.zeros((5, 16), np.uint8),
        )
        each.remove(["item 20"])
    again.save(tmp_path)
    present = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert present["items-1.parquet"] == first["items-1.parquet"]  # not written again
    assert {"items-2.parquet", "gone-2.npy"} <= set(present)
    third = Index.load(tmp_path)
    assert third.ids == index.ids
    assert torch.equal(third.rows, index.rows)
    assert (
        third.columns.equals(index.columns.combine_chunks()) or third.columns.to_pylist() == index.columns.to_pylist()
    )
    assert third.search_batch(queries, 7) == index.search_batch(queries, 7)


def test_a_flipped_byte_of_any_file_is_refused(index: Index, tmp_path: Path) -> None:
    index.save(tmp_path)
    index.remove(["item 20"])
    index.save(tmp_path)
    files = [path for path in tmp_path.iterdir() if path.name != ".lock"]
    assert len(files) == 3 + (index.engine is not None)
    for path in files:
        content = path.read_bytes()
        for place in (len(content) // 3, len(content) - 2):
            path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
            with pytest.raises(LikewiseError, match=r"is damaged; make the index again: likewise index RUN DATA"):
                Index.load(tmp_path)
        path.write_bytes(content)
    files[-1].unlink()
    with pytest.raises(LikewiseError):
        Index.load(tmp_path)


def test_a_quarter_gone_is_written_as_one_file(tmp_path: Path) -> None:
    index = Index(ROWS, IDS)
    index.save(tmp_path)
    for stop in range(100, 800, 100):
        index.remove(IDS[stop - 100 : stop])
        index.save(tmp_path)
    assert sum(1 for _ in tmp_path.glob("items-*")) == 1
    assert Index.load(tmp_path).ids == index.ids
    for number in range(saved.PARTS + 3):
        index.add(ROWS[number : number + 1], [f"more {number}"])
        index.save(tmp_path)
    assert sum(1 for _ in tmp_path.glob("items-*")) <= saved.PARTS
    assert Index.load(tmp_path).ids == index.ids


KILLED = """
import sys, torch
from likewise.index import Index
index = Index.load(sys.argv[1])
print("go", flush=True)
number = 0
while True:
    index.add(torch.randn(300, 16), [f"{number} {each}" for each in range(300)])
    index.save(sys.argv[1])
    number += 1
"""


def test_kill_leaves_a_whole_generation(tmp_path: Path) -> None:
    Index(ROWS, IDS).save(tmp_path)
    random, process = np.random.default_rng(0), None
    for _ in range(20):
        if process is None or process.poll() is not None:
            process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            process.stdout.readline()
        time.sleep(random.uniform(0, 0.03))
        os.kill(process.pid, signal.SIGSTOP)  # what a kill here would leave
        index = Index.load(tmp_path)
        assert len(index) >= N
        assert (len(index) - N) % 300 == 0
        os.kill(process.pid, signal.SIGCONT)
    process.kill()
    process.wait()
    index = Index.load(tmp_path)  # and after a kill, the next save goes on
    index.remove(IDS[:1])
    index.save(tmp_path)
    named = json.loads((tmp_path / "index.json").read_bytes())["sums"]
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {*named, "index.json"}


PATCHED = """
import faiss.contrib.torch_utils, torch
from likewise.index import Index, index as module
module.AMONG = 0  # engines look among what fits
for to in ("faiss:ivf?lists=4", "faiss:hnsw"):
    index = Index(torch.eye(30), [str(row) for row in range(30)], columns={"year": list(range(30))})
    index.use(to)
    assert index.search(torch.eye(30)[3], 1)[0].id == "3"
    assert index.search(torch.eye(30)[3], 1, where="year > 5")[0].id != "3"
    index.remove(["3"])
    assert index.search(torch.eye(30)[3], 1)[0].id != "3"
"""


def test_what_other_libraries_replace_in_faiss_is_not_used() -> None:
    subprocess.run([sys.executable, "-c", PATCHED], check=True)


def test_a_promise_that_no_effort_keeps_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that never proposes a tenth of the rows, as a graph with few links that misses parts of the data."""
    index = Index(ROWS, IDS)

    class Blind:
        effort = 1

        def efforts(self) -> list[int]:
            return [1, 2, 4]

        def candidates(self, queries: torch.Tensor, count: int, among: object) -> np.ndarray:
            found = top_k(queries, ROWS, 3 * count)[1].numpy()
            return np.where(found % 10 == 0, -1, found)

    kind = KINDS["faiss:hnsw"]
    monkeypatch.setitem(KINDS, "faiss:hnsw", type(kind)(kind.name, kind.options, lambda *_: Blind(), kind.read))
    promise = index.use("faiss:hnsw")
    assert promise.recall == pytest.approx(0.9, abs=0.02)
    assert promise.effort == 4
    assert not promise.kept
    assert "The promise of 0.95 is NOT kept, whatever the effort" in promise.sentence()


def test_the_bound_holds_in_nineteen_of_twenty_samples() -> None:
    random = torch.Generator().manual_seed(0)
    for true in (0.6, 0.95, 0.999):
        below = [
            lower_bound((torch.rand(500, 10, generator=random) < true).float().mean(1)) <= true for _ in range(400)
        ]
        assert np.mean(below) >= 0.92
    assert lower_bound(torch.ones(500)) == pytest.approx(0.05 ** (1 / 500), abs=1e-3)  # the exact one


@pytest.mark.parametrize(
    ("to", "sentence"),
    [
        ("faiss:ivg", "there is no engine 'faiss:ivg'. Did you mean 'faiss:ivf'?"),
        ("faiss:ivf?list=3", "faiss:ivf has no option 'list'; it has lists"),
        ("exact?lists=3", "exact has no option 'lists'; it has none"),
        ("faiss:ivf?lists=0", "the option lists of faiss:ivf is '0'; give a whole number from 1 to 1048576"),
        ("faiss:ivf?lists=x", "the option lists of faiss:ivf is 'x'"),
    ],
)
def test_an_unknown_engine_is_refused(to: str, sentence: str) -> None:
    with pytest.raises(LikewiseError) as refused:
        engine_of(to)
    assert sentence in str(refused.value)


def test_a_missing_library_is_said_with_the_line_of_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(LikewiseError, match=r"pip install 'likewise\[faiss\]'"):
        Index(ROWS, IDS).use("faiss:ivf")
    monkeypatch.setattr("likewise.index.engines.EXACT_NUMBERS", 10)
    assert Index(ROWS, IDS).use("auto").recall == 1


def test_auto_takes_lists_where_exact_search_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index(ROWS, IDS)
    index.use("auto")
    assert index.engine_name == "exact"
    monkeypatch.setattr("likewise.index.engines.EXACT_NUMBERS", 10)
    index.use("auto")
    assert index.engine_name == "faiss:ivf"


@pytest.mark.parametrize("recall", [0, 1, float("nan"), -1, "x"])
def test_a_recall_that_none_can_promise_is_refused(recall: float) -> None:
    with pytest.raises(LikewiseError, match="recall"):
        Index(ROWS, IDS).use("faiss:ivf", recall=recall)


def test_columns_that_do_not_fit_are_refused() -> None:
    with pytest.raises(LikewiseError, match="the metadata have 2 rows, but there are 1,500 items"):
        Index(ROWS, IDS, columns={"year": [1, 2]})
    with pytest.raises(LikewiseError, match="the metadata have a column 'id', which the index has itself; rename it"):
        Index(ROWS, IDS, columns={"id": IDS})
    with pytest.raises(LikewiseError, match="the column 'tags' of the metadata holds list"):
        Index(ROWS, IDS, columns={"tags": [["a"]] * N})
    index = Index(ROWS, IDS, columns=pa.table({"year": list(range(N))}))
    with pytest.raises(LikewiseError, match=r"the items have the columns \[\], but the index has \['year'\]"):
        index.add(ROWS[:1], ["x"])
    with pytest.raises(LikewiseError, match="of other types"):
        index.add(ROWS[:1], ["x"], columns={"year": ["text"]})
    with pytest.raises(LikewiseError, match="the rows have 3 numbers, but the index holds rows of 16"):
        index.add(torch.ones(1, 3), ["x"], columns={"year": [1]})
    assert len(index) == N
