"""`likewise index --to postgresql://...` and `likewise search`, with a real server."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from likewise.cli.main import main
from likewise.model import Model, load
from likewise.run_index import open_index, renew_index
from likewise.training.fit import fit

pytest.importorskip("psycopg", reason="not tested: an index on servers; pip install 'likewise[postgresql]'")

from postgres_servers import USER, Server, servers

N, D = 60, 5
IDS = [f"id {number}" for number in range(N)]
VECTORS = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


def write(place: Path, vectors: np.ndarray = VECTORS, ids: list[str] = IDS, *, year: int = 0) -> None:
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), D)
    years = [year, *range(1, len(ids))]
    pq.write_table(pa.table({"id": ids, "vector": lists, "year": years}), place / "data.parquet")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with servers(1) as started:
        yield started[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("trained")
    write(place)
    encoder = {"encoder.name": "mlp", "encoder.dim": 4, "encoder.hidden": 8}
    settings = {"epochs": 1, "batch_size": 16, "columns": ["vector"], "labels": "none", **encoder}
    fit(place / "data.parquet", out=place / "run", settings=settings, progress=False)
    return place


@pytest.fixture
def place(trained: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    (tmp_path / "run").mkdir()
    for name in ("model.safetensors", "config.yaml"):
        (tmp_path / "run" / name).write_bytes((trained / "run" / name).read_bytes())
    server.sql("DROP SCHEMA IF EXISTS likewise CASCADE")
    return tmp_path


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out + err


def test_an_index_goes_to_a_server_is_searched_there_and_stays(
    place: Path, server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    to = f"postgresql://{USER}:secret@{server}/items"
    assert command(capsys, "index", "run", "data.parquet")[0] == 0
    here = command(capsys, "search", "run", "id 7", "--where", "year < 30")[1]
    code, said = command(capsys, "index", "run", "data.parquet", "--to", to)
    assert (code, "60 items embedded: there was no index." in said) == (0, True)
    assert f"postgresql://{USER}@{server}/items?table=run: 60 items" in said
    assert "exact: every row is compared" in said
    assert "Columns for --where: year." in said
    assert sorted(path.name for path in (place / "run" / "index").iterdir() if path.suffix) == ["servers.json"]
    assert "secret" not in (place / "run" / "index" / "servers.json").read_text() + said
    assert command(capsys, "search", "run", "id 7", "--where", "year < 30")[1] == here
    assert len(here.splitlines()) == 10
    np.save("query.npy", VECTORS[7])
    assert command(capsys, "search", "run", "query.npy", "-k", "1")[1] == "1.0000\tid 7\n"
    assert [hit.id for hit in load("run").search("query.npy", 1)] == ["id 7"]
    code, said = command(capsys, "search", "run", "--batch", "data.parquet", "-k", "1", "--where", "year < 30")
    assert [line.split("\t")[0] for line in said.splitlines()] == IDS
    asked: list[int] = []
    kept = Model.features
    monkeypatch.setattr(
        Model, "features", lambda self, items, **rest: asked.append(len(items)) or kept(self, items, **rest)
    )
    assert "0 new, 0 changed, 0 gone; 60 as they were." in command(capsys, "index", "run", "data.parquet")[1]
    assert asked == []
    vectors = np.concatenate([VECTORS[:50], VECTORS[:2] + 2])
    vectors[3] += 1
    write(place, vectors, [*IDS[:50], "new 1", "new 2"], year=99)
    code, said = command(capsys, "index", "run", "data.parquet")
    assert "52 items. 2 new, 2 changed, 10 gone; 48 as they were." in said
    assert asked == [3]
    assert [hit.id for hit in open_index("run").search(np.zeros(4, np.float32), where="year = 99")] == ["id 0"]
    assert "new 2" in command(capsys, "search", "run", "new 1", "-k", "60")[1]
    index = load("run").load_index()
    assert (len(index), [hit.id for hit in index.search("query.npy", 1)]) == (52, ["id 7"])
    code, said = command(capsys, "index", "run", "data.parquet", "--to", "exact")
    assert "52 items embedded: there was no index" in said
    assert not (place / "run" / "index" / "servers.json").exists()
    code, said = command(capsys, "index", "run", "data.parquet", "--to", to)
    assert "52 as they were" in said


def test_a_promise_that_is_not_kept_gives_an_exit_code(
    place: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    to = f"postgresql://{USER}@{server}/items?engine=hnsw"
    code, said = command(capsys, "index", "run", "data.parquet", "--to", to, "--recall", "0.999")
    assert (code, "The promise of 0.999 is NOT kept" in said) == (1, True)
    assert "take engine=exact" in said


def test_another_model_is_refused(place: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    to = f"postgresql://{USER}@{server}/items"
    command(capsys, "index", "run", "data.parquet", "--to", to)
    model = load("run")
    changed = load("run")
    changed.epoch = 7
    changed.save(place / "run" / "model.safetensors")
    code, said = command(capsys, "search", "run", "id 7")
    assert code == 2
    assert "was made with another model than the run has now; make it again with: likewise index run data" in said
    assert model.search("id 7", 1)
    code, said = command(capsys, "index", "run", "data.parquet")
    assert "60 items embedded: another model made the former index" in said
    assert command(capsys, "search", "run", "id 7")[0] == 0
    code, said = command(capsys, "index", "run", "data.parquet", "--anew", "--to", f"{to}?table=other")
    assert "60 items embedded: as asked for" in said
    assert server.sql("SELECT count(*) FROM likewise.other") == [(60,)]


def test_queries_with_an_encoder_of_their_own(place: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of the backbone stand for those of the second encoder."""
    monkeypatch.setattr(Model, "layer_of_queries", lambda self, layer: "backbone" if layer == "embedding" else layer)
    monkeypatch.setattr("likewise.run_index._embedded", lambda model, items, layer, progress: (a[: len(items)], b))
    a = load("run").embed("data.parquet", progress=False).rows
    b = a.roll(1, 0)
    renew_index(load("run"), "data.parquet", to=f"postgresql://{USER}@{server}/items", progress=False)
    hits = open_index("run").search("id 7", 1, exclude_id="")
    assert (hits[0].id, round(hits[0].score, 5)) == ("id 6", 1.0)


def test_likewise_serve_asks_the_servers(place: Path, server: Server) -> None:
    pytest.importorskip("fastapi", reason="not tested: a server of an index on servers; pip install 'likewise[serve]'")
    from likewise.serving.asked import Ask, answer_all
    from likewise.serving.loaded import load_all
    from likewise.serving.refused import Refused
    from likewise.serving.settings import Serving

    model = load(place / "run")
    url = f"postgresql://{USER}@{server}/items"
    renew_index(model, "data.parquet", to=url, progress=False)
    wanted = open_index(place / "run").search("id 7", 3)
    for serving in (Serving(run=place / "run"), Serving(run=place / "run", index=f"{url}?table=run")):
        loaded = load_all(serving, lambda stage: None)
        vector = VECTORS[7].tolist()
        asks = [Ask(then="search", id="id 7", k=3), Ask(then="search", vector=vector, k=4, where=("year > 40",))]
        asks += [Ask(then="search", id="data.parquet"), Ask(then="search", id="\0"), Ask(then="health")]
        by_id, by_vector, path, odd, health = answer_all(loaded, asks, 1.0)
        assert [hit["id"] for hit in by_id["hits"]] == [hit.id for hit in wanted]
        assert len(by_vector["hits"]) == 4
        assert all(hit["row"] is None for hit in by_id["hits"])
        assert [isinstance(each, Refused) and each.status for each in (path, odd)] == [404, 404]
        assert health["ok"]


@pytest.mark.parametrize(
    ("to", "sentence"),
    [
        ("postgresql://h", "names no database"),
        ("postgresql://nobody@127.0.0.1:1/db", "the server 127.0.0.1:1 is away ("),
        ("postgres:h", "there is no engine 'postgres:h'"),
    ],
)
def test_mistakes_are_told_before_work(place: Path, capsys: pytest.CaptureFixture[str], to: str, sentence: str) -> None:
    code, said = command(capsys, "index", "run", "data.parquet", "--to", to)
    assert (code, sentence in said, "Traceback" in said) == (2, True, False), said
