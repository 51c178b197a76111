"""`likewise index` and `likewise search`: only what changed is embedded, conditions, batches, files, and mistakes."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from likewise.cli.main import main
from likewise.errors import LikewiseError
from likewise.index import Index, promise
from likewise.model import Model, load
from likewise.run_index import renew_index, search_run
from likewise.training.fit import fit

N, D = 60, 5
IDS = [f"id {number}" for number in range(N)]


def write(place: Path, vectors: np.ndarray, ids: list[str], year: list[int | None]) -> None:
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), D)
    pq.write_table(
        pa.table({"id": ids, "vector": lists, "year": year, "tags": [["x"]] * len(ids)}), place / "data.parquet"
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("renew")
    write(place, np.random.default_rng(0).normal(size=(N, D)).astype(np.float32), IDS, [*range(N)])
    settings = {
        "epochs": 1,
        "encoder.dim": 4,
        "encoder.hidden": 8,
        "batch_size": 16,
        "columns": ["vector"],
        "labels": "none",
    }
    fit(place / "data.parquet", out=place / "run", settings={**settings, "encoder.name": "mlp"}, progress=False)
    return place


@pytest.fixture
def place(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, np.random.default_rng(0).normal(size=(N, D)).astype(np.float32), IDS, [*range(N)])
    (tmp_path / "run").mkdir()
    for name in ("model.safetensors", "config.yaml"):
        (tmp_path / "run" / name).write_bytes((trained / "run" / name).read_bytes())
    return tmp_path


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out + err


def test_again_only_what_is_new_or_changed_is_embedded(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = command(capsys, "index", "run", "data.parquet")
    assert (code, "60 items embedded: there was no index" in said) == (0, True)
    assert "Columns for --where: year." in said
    asked: list[int] = []
    kept = Model.features
    monkeypatch.setattr(
        Model, "features", lambda self, items, **rest: asked.append(len(items)) or kept(self, items, **rest)
    )
    assert "0 new, 0 changed, 0 gone; 60 as they were." in command(capsys, "index", "run", "data.parquet")[1]
    assert asked == []
    vectors = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
    vectors[3] += 1
    ids = [*IDS[:50], "new 1", "new 2"]
    rows = np.concatenate([vectors[:50], vectors[:2] + 2])
    write(place, rows, ids, [*range(49), None, 1, 1])
    code, said = command(capsys, "index", "run", "data.parquet")
    assert "2 new, 2 changed, 10 gone; 48 as they were." in said
    assert asked == [3]  # metadata alone changed of one
    index, anew = load("run").load_index(), load("run").index("data.parquet", progress=False)
    assert sorted(index.ids) == sorted(anew.ids)
    for name in ids:
        assert dict(index.search(name, 60)) == pytest.approx(dict(anew.search(name, 60)), abs=1e-6)
    assert index.columns["year"][index.names.row("id 49")].as_py() is None
    assert index.protocol == anew.protocol | {"data": index.protocol["data"]}


@pytest.mark.parametrize(
    "why", ["another model made", "has the layer", "have other columns", "is damaged", "no hashes"]
)
def test_all_is_embedded_where_the_former_index_does_not_fit(
    place: Path, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command(capsys, "index", "run", "data.parquet")
    layer = []
    if why == "has the layer":
        layer = ["--layer", "backbone"]
    elif why == "have other columns":
        Path("other.csv").write_text("id,colour\n" + "\n".join(f"{name},red" for name in IDS))
        layer = ["--metadata", "other.csv"]
    elif why == "is damaged":
        Path("run/index/index.json").write_text("{")
    else:
        former = Index.load("run/index")
        about = {**former.protocol, "model": "x"} if why == "another model made" else former.protocol
        contents = former.contents if why == "another model made" else None
        Index(former.rows, former.ids, about, columns=former.columns, contents=contents).save("run/index")
    said = command(capsys, "index", "run", "data.parquet", *layer)[1]
    assert "60 items embedded: " in said
    assert why in said
    assert "as asked for" in command(capsys, "index", "run", "data.parquet", "--anew", *layer)[1]


def test_an_index_of_another_model_is_refused_with_the_command_that_renews_it(place: Path) -> None:
    main(["index", "run", "data.parquet"])
    content = json.loads(Path("run/index/index.json").read_bytes())
    assert content["about"]["protocol"]["model"] == load("run").weights_hash
    index = Index.load("run/index")
    index.protocol["model"] = "another"
    index.save("run/index")
    with pytest.raises(
        LikewiseError, match=r"was made with another model .* make it again with: likewise index run data.parquet"
    ):
        search_run(Path("run"), "id 3", 3)


def test_metadata_in_a_file_of_its_own(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("about.csv").write_text(
        "name,colour,price,sold\n"
        + "\n".join(f"id {n},{'red' if n % 2 else 'blue'},{n}.5,2020-01-01T00:00:{n:02}" for n in range(40))
    )
    command(capsys, "index", "run", "data.parquet", "--metadata", "about.csv", "--key", "id")
    code, said = command(capsys, "index", "run", "data.parquet", "--metadata", "about.csv")
    assert (code, said) == (
        2,
        "likewise: about.csv has no column 'id' of ids. It has name, colour, price, sold; name it with --key.\n",
    )
    Path("about.csv").write_text(Path("about.csv").read_text().replace("name,", "id,"))
    command(capsys, "index", "run", "data.parquet", "--metadata", "about.csv")
    assert "60 as they were" in command(capsys, "index", "run", "data.parquet", "--metadata", "about.csv")[1]
    hits = search_run(Path("run"), "id 1", 100, ["colour = red", "price < 20", "sold < 2020-01-02T00:00:00"])
    assert {hit.id for hit in hits} == {f"id {n}" for n in range(3, 20, 2)}
    for text, sentence in (
        (
            "id,colour\nx,red\n",
            "no id of about.csv is that of an item: items have ids such as 'id 0', the file such as 'x'",
        ),
        ("id,colour\nid 1,red\nid 1,red\n", "about.csv names the id 'id 1' twice"),
        ("id,colour\nid 1\n", "about.csv can't be read as CSV"),
    ):
        Path("about.csv").write_text(text)
        code, said = command(capsys, "index", "run", "data.parquet", "--metadata", "about.csv")
        assert (code, sentence in said) == (2, True), said
    assert (
        "does not exist. Did you mean 'about.csv'?"
        in command(capsys, "index", "run", "data.parquet", "--metadata", "abuot.csv")[1]
    )


def test_a_batch_of_queries_and_its_files(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(capsys, "index", "run", "data.parquet")
    code, said = command(capsys, "search", "run", "--batch", "data.parquet", "-k", "2", "--where", "year < 9")
    lines = [line.split("\t") for line in said.splitlines()]
    assert (code, len(lines)) == (0, 2 * N)
    assert lines[2 * 5][0] == lines[2 * 5][2] == "id 5"  # a query of a batch may be an item: it finds itself
    for file in ("hits.csv", "hits.parquet"):
        assert command(capsys, "search", "run", "id 3", "-k", "4", "--out", file)[1] == f"{file}: the hits of 1 query\n"
    rows = list(csv.DictReader(Path("hits.csv").read_text().splitlines()))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["id"] for row in rows] == [hit.id for hit in search_run(Path("run"), "id 3", 4)]
    assert pq.read_table("hits.parquet").column_names == ["query", "rank", "id", "score"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("search run", "give one of QUERY and --batch DATA"),
        ("search run x --batch data.parquet", "give one of QUERY and --batch DATA"),
        (
            "search run id33",
            "'id33' is neither a file nor the id of an indexed item; ids look like 'id 0'. Did you mean 'id 33'?",
        ),
        ("search run id --where yaer=3", "has no column 'yaer'. Did you mean 'year'?"),
        ("search run x --out hits.txt", "a table is written as .csv or .parquet"),
        ("search run x -k 0", "-k is 0; it must be"),
        ("index run data.parquet --to fiass:ivf", "there is no engine 'fiass:ivf'. Did you mean 'faiss:ivf'?"),
        ("index run data.parquet --recall 1", "--recall is 1"),
    ],
)
def test_a_mistake_is_one_sentence(place: Path, words: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    command(capsys, "index", "run", "data.parquet")
    if "id --where" in words:
        words = words.replace("id --where", "data.npy --where")
        np.save("data.npy", np.ones(D, np.float32))
    try:
        code, said = command(capsys, *words.split())
    except SystemExit as left:
        code, said = int(str(left.code)), capsys.readouterr().err
    assert (code, sentence in said) == (2, True), said


def test_a_promise_that_is_not_kept_is_the_exit_code(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promise, "recall_of", lambda found, true: (found[:, 0] >= 0).float() * 0.9)
    code, said = command(capsys, "index", "run", "data.parquet", "--to", "faiss:ivf")
    assert code == 1
    assert "The promise of 0.95 is NOT kept" in said
    assert len(load("run").load_index()) == N  # it is there, and can be searched
    assert command(capsys, "index", "run", "data.parquet", "--to", "faiss:ivf")[0] == 1


def test_the_promise_is_measured_again_when_many_items_came(place: Path) -> None:
    model = load("run")
    first = renew_index(model, "data.parquet", progress=False).made.promise
    write(
        place,
        np.random.default_rng(1).normal(size=(N + 5, D)).astype(np.float32),
        [*IDS, *map(str, range(5))],
        [0] * (N + 5),
    )
    few = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
    more = np.random.default_rng(1).normal(size=(20, D)).astype(np.float32)
    write(place, np.concatenate([few, more[:5]]), [*IDS, *map(str, range(5))], [*range(N), *range(5)])
    assert renew_index(model, "data.parquet", progress=False).made.promise == first
    write(place, np.concatenate([few, more]), [*IDS, *map(str, range(20))], [*range(N), *range(20)])
    again = renew_index(model, "data.parquet", progress=False).made.promise
    assert again is not None
    assert again.rows == N + 20
