"""What each query of a retrieval finds, against plain loops: the table, the page, the commands."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import likewise as lw
from likewise.cli.main import main
from likewise.config.overrides import settings_from
from likewise.data import Items
from likewise.errors import LikewiseError
from likewise.evaluation.looked_up import look_up
from likewise.evaluation.retrieve import retrieve
from likewise.model import Model


def items(ids: str, kind: str = "vectors") -> Items:
    return Items(ids=tuple(ids), values=np.zeros((len(ids), 2), np.float32), kind="vectors", source=kind)


def test_hits_are_right_where_a_loop_finds_a_common_label() -> None:
    random = torch.Generator().manual_seed(0)
    rows = [torch.nn.functional.normalize(torch.randn(n, 5, generator=random), dim=1) for n in (9, 4)]
    labels = [torch.randint(-1, 3, (n, 2), generator=random) for n in (9, 4)]
    ids = torch.arange(9), torch.tensor([20, 3, 21, 22])
    relevant = torch.tensor([1, 1, 0, 1])
    found = look_up(
        (rows[0], rows[1]), (items("abcdefghi"), items("wxyz")), (labels[0], labels[1]), ids, relevant, 3, {}
    )
    for query in range(4):
        cosines = (rows[0].double() @ rows[1][query].double()).tolist()
        order = sorted((place for place in range(9) if ids[0][place] != ids[1][query]), key=lambda at: -cosines[at])
        assert found.places[query].tolist() == order[:3]
        own = {label for label in labels[1][query].tolist() if label >= 0}
        assert found.right[query].tolist() == [bool(own & set(labels[0][place].tolist())) for place in order[:3]]
    right = int(found.right[[0, 1, 3], 0].sum())
    assert (
        found.sentence()
        == f"{right} of 3 queries have a right item first. 1 more have nothing of their kind in the gallery."
    )


def test_fewer_items_than_hits_leave_no_rows(tmp_path: Path) -> None:
    rows = torch.eye(2)
    one = torch.zeros(2, dtype=torch.int64)
    both = items("ab")
    found = look_up((rows, rows), (both, both), (one, one), (torch.arange(2), torch.arange(2)), one + 1, 8, {})
    found.save(tmp_path / "t.parquet")
    assert pq.read_table(tmp_path / "t.parquet").to_pydict() == {
        "query": ["a", "b"],
        "rank": [1, 1],
        "id": ["b", "a"],
        "score": [0.0, 0.0],
        "right": [True, True],
    }


def test_hits_need_retrieval(tmp_path: Path) -> None:
    model = Model.untrained(settings_from({"encoder": {"name": "mlp", "hidden": 8, "dim": 4}}), items("ab"))
    for given in ({"hits": tmp_path / "t.csv"}, {"page": tmp_path / "t.html"}):
        with pytest.raises(LikewiseError, match="hits and page show what retrieval finds"):
            retrieve(model, gallery=items("ab"), measures=["clusters"], progress=False, **given)  # type: ignore[arg-type]
    for given, said in (({"hits": "t.txt"}, "written as .csv or .parquet"), ({"page": "t.txt"}, "written as .html")):
        with pytest.raises(LikewiseError, match=said):
            retrieve(model, gallery=items("ab"), progress=False, **given)  # type: ignore[arg-type]


def test_the_command_writes_hits_and_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIKEWISE_CACHE", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for number in range(5):
        pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        for folder, change in (("front", 0), ("back <b>", 9)):
            Path(folder).mkdir(exist_ok=True)
            if (folder, number) != ("back <b>", 4):
                Image.fromarray(pixels ^ change).save(f"{folder}/it's {number}.png")
    settings = settings_from({"size": 8, "encoder": {"name": "resnet-small", "dim": 8}})
    Path("run").mkdir()
    Model.untrained(settings, lw.open_items("front", size=8, progress=False)).save(Path("run/model.safetensors"))
    asked = ["retrieve", "run", "--gallery", "back <b>", "--queries", "front", "--match", "stem", "--ks", "2"]
    assert main([*asked, "--out", "hits.csv", "--html", "page.html"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"What each query finds: {name}" for name in ("hits.csv", "page.html")
    ]
    with open("hits.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    assert {row["query"] for row in rows} == {f"it's {number}.png" for number in range(5)}
    assert all((row["query"] == row["id"]) == (row["right"] == "true") for row in rows)
    stamp = json.loads(Path("hits.csv.json").read_text())
    assert (stamp["command"], stamp["model"]) == ("retrieve", lw.load("run").weights_hash)
    first = [row["right"] == "true" for row in rows if row["rank"] == "1" and row["query"] != "it's 4.png"]
    page = Path("page.html").read_text()
    assert f"{sum(first)} of 4 queries have a right item first. 1 more have nothing of their kind" in page
    assert page.count('class="hit query"') == 5
    assert page.count('class="hit wrong"') == sum(row["right"] == "false" for row in rows)
    assert "back <b>" not in page
    assert "http:" not in page
    assert Path("run/retrieval.json").is_file()
    assert main([*asked[:4], "--relations", "r.csv", "--out", "hits.csv"]) == 2
    assert "must end in .json" in capsys.readouterr().err
