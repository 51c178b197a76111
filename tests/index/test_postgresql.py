"""An index on real servers of PostgreSQL with pgvector, held to exact search on this machine."""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import index_properties as properties
import pyarrow as pa
import pytest
import torch
from index_properties import COLUMNS, IDS, NONE, ROWS, N
from toy import unit_clusters

from likewise.errors import LikewiseError
from likewise.index import pointer
from likewise.index.items_table import as_columns
from likewise.index.postgresql import parse

pytest.importorskip("psycopg", reason="not tested: an index on servers; pip install 'likewise[postgresql]'")

from postgres_servers import USER, Server, servers

from likewise.index.postgresql import search, shards
from likewise.index.postgresql.index import ServerIndex
from likewise.index.postgresql.renewal import Renewal

ENGINES = ("engine=exact", "engine=hnsw", "engine=hnsw&halfvec=1", "engine=hnsw&bits=1")
MANNERS = [(engine, count) for engine in ENGINES for count in (1, 3)]


@pytest.fixture(scope="module")
def three() -> Iterator[list[Server]]:
    with servers(3) as started:
        yield started


@pytest.fixture(autouse=True)
def empty(request: pytest.FixtureRequest) -> None:
    """Our schema is made anew for each test that does not use what the module has made."""
    if "three" in request.fixturenames and "made" not in request.fixturenames:
        for server in request.getfixturevalue("three"):
            server.sql("DROP SCHEMA IF EXISTS likewise CASCADE")


def url(hosts: list[Server], options: str = "engine=exact", table: str = "t", user: str = USER) -> str:
    return f"postgresql://{user}@{','.join(map(str, hosts))}/items?{options}&table={table}"


def renewal(to: str, folder: Path) -> Renewal:
    return Renewal(folder, parse(to), lambda what: lambda share: None)


def make(to: str, folder: Path, *, columns: object = COLUMNS, model: str = "m", recall: float = 0.9) -> Renewal:
    new = renewal(to, folder)
    table = as_columns(columns, N)
    new.make(ROWS, IDS, {"model": model}, query_rows=None, columns=table, contents=NONE)
    new.finish(new, recall, moved=True)
    return new


@pytest.fixture(scope="module", params=MANNERS, ids=lambda each: f"{each[0]}-{each[1]}")
def made(request: pytest.FixtureRequest, three: list[Server], tmp_path_factory: pytest.TempPathFactory) -> ServerIndex:
    for server in three:
        server.sql("DROP SCHEMA IF EXISTS likewise CASCADE")
    options, count = request.param
    to = url(three[:count], options)
    make(to, tmp_path_factory.mktemp("index"))
    return ServerIndex(parse(to))


@pytest.mark.parametrize("limit", [0, search.AMONG], ids=["by the graph", "by comparing"])
@pytest.mark.parametrize("holds", properties.ON_ONE, ids=properties.name_of)
def test_all_hold(holds: object, made: ServerIndex, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "AMONG", limit)
    holds(made, made.about.engine == "exact")


@pytest.mark.parametrize("holds", properties.ON_ITS_OWN, ids=properties.name_of)
@pytest.mark.parametrize(
    ("options", "count"), [("engine=exact", 3), ("engine=hnsw&halfvec=1&links=8", 3), ("engine=hnsw&links=8", 1)]
)
def test_all_hold_of_one_that_changes(
    holds: object, three: list[Server], tmp_path: Path, options: str, count: int
) -> None:
    holds(url(three[:count], options), tmp_path, "exact" in options)


def test_threads_search_at_once(made: ServerIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "AMONG", 0)  # so that each search changes the mode of the session
    queries, found = unit_clusters(16, 5), dict[int, list]()

    def ask(place: int) -> None:
        where = "percent < 50" if place % 2 else ()
        found[place] = [made.search(query, 5, where=where) for query in queries]

    asking = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
    for each in asking:
        each.start()
    for each in asking:
        each.join()
    assert (found[0], found[1]) == (found[2], found[3])
    assert len(found) == 4


def test_the_promise_is_measured(made: ServerIndex) -> None:
    promise = made.about.promise
    assert promise is not None
    assert (promise.kept, promise.rows, promise.served) == (True, N, True)
    assert (promise.effort > 0) == (made.about.engine == "hnsw")
    assert promise.queries == (512 if promise.effort else 64)
    assert "queries a second" in promise.sentence()
    assert "CPU" not in promise.sentence()


def test_three_servers_give_the_ids_of_one(three: list[Server], tmp_path: Path) -> None:
    rows = (ROWS * 8).round() / 8  # with equal scores
    for count in (1, 3):
        new = renewal(url(three[:count], table=f"of_{count}"), tmp_path / str(count))
        new.make(rows, IDS, {"model": "m"}, query_rows=None, columns=None, contents=NONE)
        new.finish(new, 0.9, moved=True)
    one, parts = (ServerIndex(parse(url(three[:count], table=f"of_{count}"))) for count in (1, 3))
    counts = [server.sql("SELECT count(*) FROM likewise.of_3")[0][0] for server in three]
    assert min(counts) > N / 4
    for k in (1, 10, 100):
        assert parts.search_batch(rows[:50], k) == one.search_batch(rows[:50], k)


def test_a_promise_that_is_not_kept_is_said(
    three: list[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("likewise.index.postgresql.measure.EFFORTS", (20, 40))
    made = make(url(three[:1], "engine=hnsw&links=4"), tmp_path, recall=0.9999)
    assert made.promise is not None
    assert not made.promise.kept
    assert "The promise of 0.9999 is NOT kept, whatever the effort: take engine=exact" in made.promise.sentence()


def test_rows_that_the_graph_does_not_find_are_compared(
    three: list[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = url(three, "engine=hnsw&links=4")
    make(to, tmp_path)
    monkeypatch.setattr(search, "_UNLIMITED", "1")
    monkeypatch.setattr(search, "AMONG", 0)
    assert len(ServerIndex(parse(to)).search(ROWS[0], 100, where="percent < 50")) == 100


def test_a_renewal_that_is_cut_off_is_told_apart_and_mended(
    three: list[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = url(three)
    make(to, tmp_path)
    cut = renewal(to, tmp_path)
    cut.load()
    cut.add(ROWS[:1], ["new"], columns=pa.table({"percent": [1], "colour": ["x"]}), contents=NONE[:1])
    assert len(ServerIndex(parse(to))) == N  # as after a kill at any moment before this one
    monkeypatch.setattr("likewise.index.postgresql.renewal._commit", lambda shard: shard.number or _commit(shard))
    cut.finish(cut, 0.9, moved=False)  # the first part alone is committed
    monkeypatch.undo()
    monkeypatch.setattr("likewise.index.postgresql.index.PAUSE", 0.001)
    with pytest.raises(LikewiseError, match=r"are of different generations \(.*: 2, .*: 1, .*: 1\), since a renewal"):
        ServerIndex(parse(to))
    with pytest.raises(LikewiseError, match="a renewal was cut off"):
        renewal(to, tmp_path).load()
    make(to, tmp_path)
    assert len(ServerIndex(parse(to))) == N


def _commit(shard: shards.Shard) -> None:
    shard.connection.execute("COMMIT")


def test_two_renewals_at_once(three: list[Server], tmp_path: Path) -> None:
    to = url(three)
    make(to, tmp_path)
    late = renewal(to, tmp_path)
    late.load()
    make(to, tmp_path)
    with pytest.raises(LikewiseError, match=r"another process has renewed likewise\.t meanwhile; try again"):
        late.remove(["item 3"])


def test_searches_go_on_while_the_index_is_made_anew(three: list[Server], tmp_path: Path) -> None:
    to = url(three, "engine=hnsw&links=4")
    make(to, tmp_path)
    index, stop, counts = ServerIndex(parse(to)), threading.Event(), []

    def ask() -> None:
        while not stop.is_set():
            counts.append(len(index.search(ROWS[0], 10)))
            time.sleep(0.01)

    asking = threading.Thread(target=ask)
    asking.start()
    make(to, tmp_path)
    time.sleep(0.1)
    stop.set()
    asking.join()
    assert set(counts) == {10}
    make(url(three), tmp_path, model="another")
    for _ in range(2):
        with pytest.raises(LikewiseError, match="another model has renewed"):
            index.search(ROWS[0], 10)


def test_a_server_that_is_away_is_named(three: list[Server], tmp_path: Path) -> None:
    to = url(three)
    make(to, tmp_path)
    index = ServerIndex(parse(to))
    three[1].stop()
    try:
        for act in (lambda: index.search(ROWS[0]), lambda: ServerIndex(parse(to)), lambda: renewal(to, tmp_path)):
            with pytest.raises(LikewiseError) as refused:
                act()
            assert f"the server {three[1]} (part 2 of 3) is away (" in str(refused.value)
            assert "its items would be missing. Start it with: pg_ctl -D FOLDER start" in str(refused.value)
            assert "\n" not in str(refused.value)
    finally:
        three[1].start()
    assert len(index.search(ROWS[0])) == 10


def test_servers_in_another_order_are_refused(three: list[Server], tmp_path: Path) -> None:
    make(url(three), tmp_path)
    with pytest.raises(LikewiseError, match=r"holds part 3 of 3 of likewise\.t: name the same servers in the same"):
        ServerIndex(parse(url(three[::-1])))
    with pytest.raises(LikewiseError, match=r"holds part 1 of 3"):
        ServerIndex(parse(url(three[:1])))
    with pytest.raises(LikewiseError, match=r"has no table likewise\.none; make the index again"):
        ServerIndex(parse(url(three, table="none")))


def test_what_is_not_ours_is_left_alone(three: list[Server], tmp_path: Path) -> None:
    to = url(three[:1], table="theirs")
    make(url(three[:1]), tmp_path)
    three[0].sql("CREATE TABLE likewise.theirs (a int)", "INSERT INTO likewise.theirs VALUES (3)")
    with pytest.raises(LikewiseError, match=r"has a table likewise\.theirs that likewise did not make; it is left"):
        renewal(to, tmp_path)
    assert three[0].sql("SELECT a FROM likewise.theirs") == [(3,)]
    with pytest.raises(LikewiseError, match=r"the table likewise\.t of .* belongs to the run .*; name another with"):
        renewal(url(three[:1]), tmp_path / "other")
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / pointer.FILE).write_bytes((tmp_path / pointer.FILE).read_bytes())
    assert renewal(url(three[:1]), moved).load() is not None
    three[0].sql("DROP SCHEMA likewise CASCADE", "CREATE SCHEMA likewise", "CREATE TABLE likewise.indexes (name text)")
    with pytest.raises(LikewiseError, match=r"has a table likewise\.indexes that likewise did not make"):
        renewal(to, tmp_path)
    three[0].sql("DROP SCHEMA likewise CASCADE", "CREATE TABLE mine (a int)")
    before = three[0].sql("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1")
    make(to, tmp_path)
    after = three[0].sql("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1")
    assert before == after
    three[0].sql("DROP TABLE mine")


def refused(to: str, folder: Path) -> str:
    with pytest.raises(LikewiseError) as error:
        make(to, folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_mistakes_are_one_sentence(
    three: list[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = three[:1]
    monkeypatch.setenv("PGPASSWORD", "wrong")
    said = refused(url(one, user="guarded"), tmp_path)
    assert "does not let guarded in (" in said
    assert "give the password in PGPASSWORD or ~/.pgpass" in said
    monkeypatch.delenv("PGPASSWORD")
    assert "does not let guarded in (" in refused(url(one, user="guarded:pass%20word"), tmp_path)
    assert "pass word" not in refused(url(one, user="guarded:pass%20word"), tmp_path)
    assert "has no such database or user" in refused(url(one).replace("/items", "/nothing"), tmp_path)
    said = refused(url(one).replace("/items", "/plain"), tmp_path)
    assert said.endswith("has no pgvector in the database plain: as its administrator: CREATE EXTENSION vector.")
    one[0].sql("CREATE ROLE reader LOGIN")
    said = refused(url(one, user="reader"), tmp_path)
    assert "refuses the user reader (permission denied for database items); as its administrator: GRANT CREATE" in said
    one[0].sql("DROP ROLE reader")
    make(url(one), tmp_path)
    with pytest.raises(LikewiseError, match="the column 'ctid' of the metadata is a name of the server's own; rename"):
        make(url(one), tmp_path, columns={"ctid": [1] * N})
    with pytest.raises(LikewiseError, match=r"could not do it \(.*\); the former index is whole"):
        make(url(one), tmp_path, columns={"text": ["nul \0"] * N})
    assert len(ServerIndex(parse(url(one)))) == N
    wide = renewal(url(one, "engine=hnsw", table="wide"), tmp_path)
    wide.make(torch.ones(3, 2001), IDS[:3], {}, query_rows=None, columns=None, contents=NONE[:3])
    with pytest.raises(
        LikewiseError, match=r"2,001 numbers, but a graph .* takes 2,000: give .* halfvec=1, wh.* or bits"
    ):
        wide.finish(wide, 0.9, moved=True)
    assert one[0].sql("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'") == [(0,)]


def test_a_standby_answers_after_the_server_was_killed(tmp_path: Path) -> None:
    with servers(1) as (primary,):
        standby = primary.standby()
        try:
            to = f"postgresql://{USER}@{primary}|{standby}/items?engine=hnsw&table=t"
            make(to, tmp_path)
            deadline = time.monotonic() + 20
            while not standby.sql("SELECT to_regclass('likewise.t') IS NOT NULL")[0][0] and time.monotonic() < deadline:
                time.sleep(0.02)
            first = ServerIndex(parse(to.replace(f"{primary}|{standby}", f"{primary}")))
            expected = first.search(ROWS[5], 10)
            index = ServerIndex(parse(to))  # reads of the standby
            assert index.search(ROWS[5], 10) == expected
            only = parse(to)
            both = ServerIndex(only)
            both.shards.each[0]._writing = True  # connected to the primary
            both.shards.each[0].close()
            assert both.search(ROWS[5], 10) == expected
            both.shards.each[0]._writing = False
            primary.stop(signal.SIGKILL)
            began = time.monotonic()
            assert both.search(ROWS[5], 10) == expected
            assert index.search("item 5", 10)
            print(f"read again after {time.monotonic() - began:.3f} s")
            with pytest.raises(LikewiseError, match="takes no changes"):
                renewal(to, tmp_path)
        finally:
            standby.stop()
