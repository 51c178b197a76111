"""`likewise index RUN SHARDS`: in the run's folder, and in a stream to a real server."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shards_of import VECTORS, N, run_of_vectors

from likewise.cli.main import main
from likewise.errors import LikewiseError
from likewise.model import load
from likewise.run_index import open_index, renew_index
from likewise.shards import embed_shards

IDS = [f"id {row}" for row in range(N)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    run_of_vectors(tmp_path / "run")
    return tmp_path


@pytest.fixture(scope="module")
def servers_of() -> Iterator[list[str]]:
    """The addresses of two real servers."""
    pytest.importorskip("psycopg", reason="not tested: an index on servers; pip install 'likewise[postgresql]'")
    from postgres_servers import USER, servers

    with servers(2) as started:
        yield [f"{USER}@{started[0]}", str(started[1])]


def write(vectors: np.ndarray, ids: list[str]) -> None:
    """data.parquet, and the folder of its shards."""
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    pq.write_table(pa.table({"id": ids, "vector": lists}), "data.parquet")
    embed_shards("run", "data.parquet", "shards", shard_rows=200, anew=True, progress=False)


def another() -> tuple[np.ndarray, list[str]]:
    """Some items fewer, two that are others, and two more."""
    vectors = np.concatenate([VECTORS[:650], VECTORS[:2] + 2])
    vectors[[3, 400]] += 1
    return vectors, [*IDS[:650], "new 1", "new 2"]


def hits() -> list[tuple[str, float]]:
    """What the index finds for a row."""
    return [(hit.id, round(hit.score, 5)) for hit in open_index("run").search(np.eye(4, dtype=np.float32)[0], 20)]


@pytest.mark.parametrize("where", ["folder", "one server", "two servers"])
def test_shards_are_indexed_as_their_data(
    place: Path, where: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    addresses = [] if where == "folder" else request.getfixturevalue("servers_of")
    table = where.replace(" ", "_")
    to = {
        "folder": "exact",
        "one server": f"postgresql://{addresses[0]}/items?table={table}" if addresses else "",
        "two servers": f"postgresql://{','.join(addresses)}/items?table={table}",
    }[where]
    write(VECTORS, IDS)
    assert main(["index", "run", "data.parquet", "--to", "exact"]) == 0
    first = hits()
    for path in (place / "run" / "index").iterdir():
        path.unlink()
    capsys.readouterr()
    assert main(["index", "run", "shards/", "--to", to]) == 0
    assert "700 items taken from the shards: there was no index." in capsys.readouterr().out
    assert hits() == first
    assert main(["index", "run", "data.parquet"]) == 0  # the data itself have the same hashes
    assert "0 new, 0 changed, 0 gone; 700 as they were." in capsys.readouterr().out
    write(*another())
    assert main(["index", "run", "shards"]) == 0
    assert "2 new, 2 changed, 50 gone; 648 as they were." in capsys.readouterr().out
    changed = hits()
    assert main(["index", "run", "data.parquet", "--to", "exact", "--anew"]) == 0
    assert hits() == changed
    assert changed != first


def test_a_stream_replaces_the_table_where_much_is_new(
    place: Path, servers_of: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    to = f"postgresql://{servers_of[0]}/items?table=much&engine=hnsw"
    write(VECTORS, IDS)
    main(["index", "run", "shards", "--to", to, "--recall", "0.5"])
    write(VECTORS + 1, [*IDS[:600], *(f"new {row}" for row in range(N - 600))])
    main(["index", "run", "shards", "--recall", "0.5"])
    assert "100 new, 600 changed, 100 gone; 0 as they were." in capsys.readouterr().out
    found = [hit.id for hit in open_index("run").search("new 5", 5)]
    renew_index(load("run"), "shards", to="exact", anew=True, progress=False)
    assert found == [hit.id for hit in open_index("run").search("new 5", 5)]


@pytest.mark.parametrize("where", ["folder", "server"])
def test_metadata_of_shards_are_given_by_id(
    place: Path, where: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    to = "exact" if where == "folder" else f"postgresql://{request.getfixturevalue('servers_of')[0]}/items?table=meta"
    write(VECTORS, IDS)
    pq.write_table(pa.table({"id": IDS[::-1], "year": range(N)}), "years.parquet")
    assert main(["index", "run", "shards", "--to", to, "--metadata", "years.parquet"]) == 0
    assert "Columns for --where: year." in capsys.readouterr().out
    assert [hit.id for hit in open_index("run").search("id 3", where="year < 1")] == ["id 699"]
    pq.write_table(pa.table({"id": IDS[::-1], "year": [5, *range(1, N)]}), "years.parquet")
    assert main(["index", "run", "shards", "--to", to, "--metadata", "years.parquet"]) == 0
    assert "0 new, 1 changed, 0 gone; 699 as they were." in capsys.readouterr().out
    assert main(["index", "run", "shards", "--to", to]) == 0
    assert "the metadata have other columns than before" in capsys.readouterr().out


def test_shards_of_another_model_or_layer_or_unfinished_ones_are_refused(place: Path) -> None:
    write(VECTORS, IDS)
    run_of_vectors(place / "other", seed=1)
    with pytest.raises(
        LikewiseError,
        match=r"shards was made with another model than the run has now; make it again with: "
        r"likewise embed other data.parquet --out shards/ --anew$",
    ):
        renew_index(load("other"), "shards", progress=False)
    with pytest.raises(LikewiseError, match=r"shards holds rows of the layer embedding; add --layer embedding"):
        renew_index(load("run"), "shards", layer="backbone", progress=False)
    with pytest.raises(LikewiseError, match=r"shards holds shards, which are embedded already; leave out key"):
        renew_index(load("run"), "shards", key="id", progress=False)
    (place / "shards" / "part-00002.parquet").unlink()
    with pytest.raises(LikewiseError, match=r"part-00002.parquet is missing; make it again by the same command"):
        renew_index(load("run"), "shards", progress=False)
    assert not (place / "run" / "index").exists()
    (place / "shards" / "shards.json").unlink()
    with pytest.raises(LikewiseError, match=r"shards holds no images, it has only 4 other files"):
        renew_index(load("run"), "shards", progress=False)


def test_a_damaged_shard_leaves_the_former_items_on_the_server(place: Path, servers_of: list[str]) -> None:
    to = f"postgresql://{servers_of[0]}/items?table=damaged"
    write(VECTORS, IDS)
    renew_index(load("run"), "shards", to=to, progress=False)
    before = hits()
    write(*another())
    last = place / "shards" / "part-00003.parquet"
    last.write_bytes(last.read_bytes()[:-20])
    with pytest.raises(LikewiseError, match=r"part-00003.parquet is damaged"):
        renew_index(load("run"), "shards", progress=False)
    assert hits() == before
