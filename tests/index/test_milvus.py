"""An index on a real server of Milvus, held to exact search on this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import index_properties as properties
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from index_properties import COLUMNS, IDS, NONE, ROWS, N, make, reopened

from likewise.cli.main import main
from likewise.errors import LikewiseError
from likewise.index import pointer
from likewise.index.asked import Searched
from likewise.index.layout import Part
from likewise.model import INDEX, load
from likewise.run_index import place_of
from likewise.training.fit import fit

pytest.importorskip("pymilvus", reason="not tested: an index on Milvus; pip install 'likewise[milvus]'")

from milvus_server import TOKEN, Server, server

from likewise.index.milvus import search
from likewise.index.milvus.client import Milvus
from likewise.index.milvus.index import MilvusIndex
from likewise.index.milvus.url import parse

ENGINES = ("exact", pytest.param("hnsw", marks=pytest.mark.slow))  # what is slow is in `make test-all`


@pytest.fixture(scope="module")
def milvus() -> Iterator[Server]:
    with server() as started:
        yield started


def url(at: Server, name: str, engine: str = "exact") -> str:
    return f"milvus://{at}/{name}?engine={engine}"


@pytest.fixture(scope="module", params=ENGINES)
def made(request: pytest.FixtureRequest, milvus: Server, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    run = tmp_path_factory.mktemp("run")
    make(url(milvus, f"made_{request.param}", request.param), run)
    return reopened(run)


@pytest.mark.parametrize("holds", properties.ON_ONE, ids=properties.name_of)
def test_all_hold(holds: Any, made: MilvusIndex) -> None:
    holds(made, made.about.engine == "exact")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("holds", properties.ON_ITS_OWN, ids=properties.name_of)
def test_all_hold_of_one_that_changes(holds: Any, milvus: Server, tmp_path: Path, engine: str) -> None:
    name = f"{engine}_{holds.__name__[:20]}"
    holds(url(milvus, name, engine), tmp_path, engine == "exact")


def test_the_promise_is_measured(made: MilvusIndex) -> None:
    promise = made.about.promise
    assert promise is not None
    assert (promise.kept, promise.rows, promise.served) == (True, N, True)
    assert (promise.effort > 0) == (made.about.engine == "hnsw")


def test_rows_that_the_graph_does_not_find_are_compared(made: MilvusIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = search._asked
    monkeypatch.setattr(search, "_asked", lambda *given: [hits[: len(hits) // 2] for hits in kept(*given)])
    for where, k in (("percent < 50", 100), ((), N)):
        true = [hit.id for hit in properties.LOCAL.search(ROWS[0], k, where=where)]
        assert [hit.id for hit in made.search(ROWS[0], k, where=where)] == true


@pytest.mark.slow
def test_another_engine_is_a_copy_and_the_former_goes(milvus: Server, tmp_path: Path) -> None:
    to = url(milvus, "moves")
    queries = ROWS.roll(1, 0)
    place = place_of(tmp_path, to)
    made = place.make(ROWS, IDS, {"model": "m"}, query_rows=queries, columns=None, contents=NONE)
    place.finish(made, 0.9, moved=True)
    before = reopened(tmp_path)
    place = place_of(tmp_path, to.replace("exact", "hnsw"))
    again = place.load()
    assert again is not None
    assert again.has_query_rows
    again.remove(["item 3"])
    place.finish(again, 0.9, moved=False)
    for index in (before, reopened(tmp_path)):  # who reads already finds its collection gone, and looks again
        assert [hit.id for hit in index.search("item 8", 1, exclude_id="")] == ["item 7"]
        assert len(index.search(ROWS[0], N)) == N - 1
    known = Milvus(parse(to))
    names = known.ask(lambda client: client.list_collections())
    assert [name for name in names if name.startswith("likewise_moves_")] == ["likewise_moves_2"]


def refused(act: Any) -> str:
    with pytest.raises(LikewiseError) as error:
        act()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.slow
def test_what_is_not_ours_is_left_alone(milvus: Server, tmp_path: Path) -> None:
    to = url(milvus, "theirs")
    known = Milvus(parse(to))
    known.ask(lambda client: client.create_collection("likewise_theirs_1", dimension=4))
    said = refused(lambda: make(to, tmp_path))
    assert "has a collection likewise_theirs_1 that this run did not make; it is left as it is" in said
    assert known.ask(lambda client: client.has_collection("likewise_theirs_1"))
    make(url(milvus, "mine"), tmp_path)
    said = refused(lambda: place_of(tmp_path / "other", url(milvus, "mine")))
    assert "the index mine of the server" in said
    assert "belongs to the run" in said
    moved = tmp_path / "moved" / INDEX
    moved.mkdir(parents=True)
    (moved / pointer.FILE).write_bytes((tmp_path / INDEX / pointer.FILE).read_bytes())
    assert place_of(tmp_path / "moved", "auto").load() is not None
    assert TOKEN not in (moved / pointer.FILE).read_text()
    said = refused(lambda: MilvusIndex(parse(url(milvus, "none"))))
    assert "has no index none; make it again: likewise index RUN DATA --to 'milvus://" in said


@pytest.mark.slow
def test_two_renewals_at_once(milvus: Server, tmp_path: Path) -> None:
    to = url(milvus, "twice")
    make(to, tmp_path)
    late, first = place_of(tmp_path, to), place_of(tmp_path, to)
    one, other = late.load(), first.load()
    assert one is not None
    assert other is not None
    other.remove(["item 1"])
    assert "another process renews the index of" in refused(lambda: one.remove(["item 3"]))
    first.finish(other, 0.9, moved=False)
    assert "another process has renewed milvus://" in refused(lambda: one.remove(["item 3"]))
    index = reopened(tmp_path)
    make(to, tmp_path, model="another")
    properties.eventually(lambda: "another model has renewed" in str(_error(lambda: index.search(ROWS[0]))))
    assert "another model has renewed" in refused(lambda: index.search(ROWS[0]))


def _error(act: Any) -> LikewiseError | None:
    try:
        act()
    except LikewiseError as error:
        return error
    return None


def test_who_is_not_let_in_is_told(milvus: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to = url(milvus, "guarded")
    root = Milvus(parse(to))
    root.ask(lambda client: client.create_user(user_name="reader", password="Secret12"))
    for token in ("root:wrong", ""):
        monkeypatch.setenv("MILVUS_TOKEN", token)
        said = refused(lambda: place_of(tmp_path, to))
        assert f"the server {milvus} does not let us in (" in said
        assert said.endswith("give MILVUS_TOKEN=USER:PASSWORD in the environment.")
    monkeypatch.setenv("MILVUS_TOKEN", "reader:Secret12")
    assert f"the server {milvus} refuses this user (" in refused(lambda: make(to, tmp_path))
    monkeypatch.setenv("MILVUS_TOKEN", TOKEN)
    assert "has no such database (" in refused(lambda: make(f"{to}&database=nothing", tmp_path))


def test_limits_are_one_sentence(made: MilvusIndex, milvus: Server, tmp_path: Path) -> None:
    crowd = made.about._replace(items=20_000)
    with pytest.raises(LikewiseError, match=r"gives 16,384 hits of a query at most, but k=17,000; give a smaller k"):
        search.nearest(made._milvus, crowd, ROWS[:1].numpy(), 17_000, [None], (), level="Strong", effort=0)
    for columns, sentence in (
        ({"far": pa.array([None] * N, pa.decimal128(5, 2))}, "the column 'far' of the metadata holds decimal128"),
        ({f"c{n}": [0] * N for n in range(40)}, "have 40 columns, but a collection of Milvus takes 28"),
        ({"long": ["x" * 70_000] * N}, "of 'item 0' has over 65,535 bytes, which Milvus can't hold"),
    ):
        table = pa.table(columns)
        place = place_of(tmp_path, url(milvus, f"limits_{made.about.engine}"))
        made_of = {"query_rows": None, "columns": table, "contents": NONE}
        assert sentence in refused(lambda place=place, made_of=made_of: place.make(ROWS, IDS, {}, **made_of))
    left = made._milvus.ask(lambda client: client.list_collections())
    assert [name for name in left if "limits" in name] == []


@pytest.mark.slow
def test_a_stream_writes_what_is_new_or_changed(milvus: Server, tmp_path: Path) -> None:
    def streamed(ids: list[str], contents: np.ndarray, *, kept: bool) -> tuple[int, int, int]:
        place = place_of(tmp_path, url(milvus, "stream"))
        taken = place.streamed
        assert taken is not None
        assert (taken.look() is not None) == kept
        rows = [IDS.index(item) for item in ids]
        whole = Part(ids, ROWS[rows], None, contents, COLUMNS.take(rows))
        parts = [whole.take(range(start, min(start + 500, len(ids)))) for start in range(0, len(ids), 500)]
        counts = taken.stream(parts, len(ids), 16, {"model": "m"}, columns=whole.columns, kept=kept)
        place.finish(taken, 0.9, moved=False)
        return counts

    assert streamed(IDS[:1000], NONE[:1000], kept=False) == (1000, 0, 0)
    other = NONE[10:].copy()
    other[:3] = 1
    assert streamed(IDS[10:], other, kept=True) == (200, 3, 10)
    assert streamed(IDS[10:], other, kept=True) == (0, 0, 0)
    assert {hit.id for hit in reopened(tmp_path).search(ROWS[0], N)} == set(IDS[10:])


@pytest.mark.slow
def test_the_commands_index_and_search(
    milvus: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*words: str) -> tuple[int, str]:
        code = main(list(words))
        out, err = capsys.readouterr()
        return code, out + err

    def write(vectors: np.ndarray, ids: list[str]) -> None:
        lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 5)
        pq.write_table(pa.table({"id": ids, "vector": lists, "year": range(len(ids))}), "data.parquet")

    monkeypatch.chdir(tmp_path)
    vectors, ids = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32), [f"id {n}" for n in range(60)]
    write(vectors, ids)
    encoder = {"encoder.name": "mlp", "encoder.dim": 4, "encoder.hidden": 8}
    settings = {"epochs": 1, "batch_size": 16, "columns": ["vector"], "labels": "none", **encoder}
    fit("data.parquet", out="run", settings=settings, progress=False)
    command("index", "run", "data.parquet")
    here = command("search", "run", "id 7", "--where", "year < 30")[1]
    to = f"milvus://{milvus}"
    code, said = command("index", "run", "data.parquet", "--to", to)
    assert (code, f"{to}/run: 60 items. 60 items embedded: there was no index." in said) == (0, True)
    assert "Columns for --where: year." in said
    assert command("search", "run", "id 7", "--where", "year < 30")[1] == here
    assert len(here.splitlines()) == 10
    assert "0 new, 0 changed, 0 gone; 60 as they were." in command("index", "run", "data.parquet")[1]
    vectors[3] += 1
    write(np.concatenate([vectors[:50], vectors[:2] + 2]), [*ids[:50], "new 1", "new 2"])
    assert "52 items. 2 new, 1 changed, 10 gone; 49 as they were." in command("index", "run", "data.parquet")[1]
    np.save("query.npy", vectors[3])
    assert command("search", "run", "query.npy", "-k", "1")[1] == "1.0000\tid 3\n"
    assert len(load("run").load_index()) == 52
    changed = load("run")
    changed.epoch = 7
    changed.save(tmp_path / "run" / "model.safetensors")
    code, said = command("search", "run", "id 7")
    assert (code, "was made with another model than the run has now; make it again with: likewise" in said) == (2, True)
    assert "another model made the former index" in command("index", "run", "data.parquet")[1]
    assert "52 items embedded: there was no index" in command("index", "run", "data.parquet", "--to", "exact")[1]


@pytest.mark.slow
def test_a_server_that_is_away_is_named(milvus: Server, tmp_path: Path) -> None:
    """The last test: it stops the server."""
    to = url(milvus, "away")
    make(to, tmp_path)
    index = reopened(tmp_path)
    milvus.stop()
    for act in (lambda: index.search(ROWS[0]), lambda: reopened(tmp_path), lambda: place_of(tmp_path, to)):
        said = refused(act)
        assert f"the server {milvus} is away (" in said
        assert "Start it, such as with: docker start milvus-standalone, or correct the URL." in said
