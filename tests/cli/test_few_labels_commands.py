"""``likewise select`` and ``likewise classify``: the files they write, their pages, and mistakes in one sentence."""

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

import likewise as lw
from likewise.cli.main import main
from likewise.config.overrides import settings_from
from likewise.model import Model

EACH = 14


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 42 pictures of three colours and a run that never trained; and one with vectors."""
    folder = tmp_path_factory.mktemp("few")
    random = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for number in range(3 * EACH):
        pixels = random.integers(0, 90, (8, 8, 3))
        pixels[:, :, number % 3] += 150
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "photos" / f"{number:02}.png")
    settings = settings_from({"size": 8, "encoder": {"name": "resnet-small", "dim": 8}})
    (folder / "run").mkdir()
    model = Model.untrained(settings, lw.open_items(folder / "photos", size=8, progress=False))
    model.save(folder / "run" / "model.safetensors")
    rows = 3 * np.eye(3, 5)[np.arange(30) % 3] + 0.2 * random.normal(size=(30, 5))
    np.save(folder / "vectors.npy", rows.astype(np.float32))
    plain = settings_from({"encoder": {"name": "mlp", "hidden": 16, "dim": 8}})
    (folder / "vectors").mkdir()
    items = lw.open_items(folder / "vectors.npy", progress=False)
    Model.untrained(plain, items).save(folder / "vectors" / "model.safetensors")
    return folder


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def read(path: str) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(path: str, labels: dict[str, str]) -> None:
    Path(path).write_text("id,label\n" + "".join(f"{id},{label}\n" for id, label in labels.items()), encoding="utf-8")


def colour(id: str) -> str:
    return "rgb"[int(id.split(".")[0]) % 3]


def test_what_is_selected_is_labelled_and_classifies_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["select", "run", "photos", "-n", "9", "--out", "first.csv", "--html", "first.html"]) == 0
    said = capsys.readouterr().out
    assert "9 of 42 items to label first, by probcover." in said
    assert "Next: likewise classify run DATA --labels first.csv" in said
    rows = read("first.csv")
    assert [list(row) for row in rows] == [["id", "label", "stands_for"]] * 9
    assert sum(int(row["stands_for"]) for row in rows) == 42
    page = Path("first.html").read_text(encoding="utf-8")
    assert page.count("<figure") == 9 * 7
    assert not re.search(r'(src|href)="(?!data:)', page)

    write("few.csv", {row["id"]: colour(row["id"]) for row in rows})
    assert main(["classify", "run", "photos", "--labels", "few.csv", "--out", "all.parquet", "--html", "all.html"]) == 0
    said = capsys.readouterr().out
    assert "33 items labelled by" in said
    assert "Leave-one-out: " in said
    table = parquet.read_table("all.parquet").to_pylist()
    assert list(table[0]) == ["id", "label", "confidence", "unlike", "given"]
    assert [row["id"] for row in table] == [f"{number:02}.png" for number in range(42)]
    assert sum(row["given"] for row in table) == 9
    assert all(row["label"] == colour(row["id"]) for row in table if row["given"])
    assert all(0 <= row["confidence"] <= 1 and 0 <= row["unlike"] <= 1 for row in table)
    assert "<figure" in Path("all.html").read_text(encoding="utf-8")

    model = lw.load("run")
    labels = {row["id"]: colour(row["id"]) for row in rows}
    found = lw.classify(model, "photos", labels=labels, progress=False)
    assert [found.label(row) for row in range(42)] == [row["label"] for row in table]
    assert lw.select(model, "photos", 9, progress=False).ids == tuple(row["id"] for row in rows)


def test_what_is_labelled_is_not_selected_again_and_stays_in_the_file() -> None:
    write("few.csv", {"00.png": "r", "01.png": "g"})
    assert (
        main(["select", "run", "photos", "-n", "5", "--labels", "few.csv", "--method", "k-center", "--out", "more.csv"])
        == 0
    )
    rows = read("more.csv")
    assert [(row["id"], row["label"]) for row in rows[:2]] == [("00.png", "r"), ("01.png", "g")]
    assert [row["label"] for row in rows[2:]] == [""] * 5
    assert not {"00.png", "01.png"} & {row["id"] for row in rows[2:]}
    assert main(["classify", "run", "photos", "--labels", "more.csv"]) == 0


def test_vectors_have_pages_of_ids() -> None:
    write("few.csv", {str(number): "rgb"[number % 3] for number in range(8)})
    assert (
        main(["classify", "vectors", "vectors.npy", "--labels", "few.csv", "--html", "ids.html", "--out", "ids.csv"])
        == 0
    )
    assert main(["select", "vectors", "vectors.npy", "-n", "3", "--html", "chosen.html"]) == 0
    assert "<figure" not in Path("ids.html").read_text(encoding="utf-8")
    assert {row["label"] for row in read("ids.csv")} == set("rgb")


def test_the_label_of_a_picture_that_can_not_be_read_is_left_out(tmp_path: Path) -> None:
    for number in range(12):
        shutil.copy(f"photos/{number:02}.png", tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    labels = {f"{number:02}.png": colour(f"{number}.png") for number in range(6)} | {"broken.png": "r"}
    found = lw.classify("run", tmp_path, labels=labels, progress=False)
    assert len(found) == 12
    assert int(found.given.sum()) == 6


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "classify run photos --labels wrong.csv",
            r"a label for '0.png', which is no item of photos. Did you mean '.0.png'\?",
        ),
        ("classify run photos --labels one.csv", r"all 2 labels are 'r', so there is nothing to tell apart"),
        (
            "classify run photos --labels empty.csv",
            r"no item of photos has a label yet; write some into the column label",
        ),
        ("classify run photos --labels twice.csv", r"gives '00.png' the labels 'r' and 'g'"),
        ("classify run photos --labels away.csv", r"the file of labels away.csv does not exist"),
        ("classify run photos --labels two.csv --method prop", r"no method 'prop'"),
        ("classify run photos --labels two.csv -k 42", r"k=42 must be from 1 to 41: an item has 41 others"),
        ("classify run photos --labels two.csv --out all.txt", r"a table is written as .csv or .parquet"),
        ("classify away photos --labels two.csv", r"there is no run away; train one first"),
        ("classify run photos", r"`likewise classify` needs --labels"),
        ("select run photos -n 43", r"n=43 is more than the 42 items there are"),
        ("select run photos -n 41 --labels two.csv", r"n=41 is more than the 40 items without a label there are"),
        ("select run photos -n 0", r"--n is 0; it must be a whole number"),
        ("select run photos -n 3 --method typiclus", r"no method 'typiclus'. Did you mean 'typiclust'\?"),
    ],
)
def test_a_mistake_is_one_sentence(words: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    write("wrong.csv", {"0.png": "r", "01.png": "g"})
    write("one.csv", {"00.png": "r", "03.png": "r"})
    write("two.csv", {"00.png": "r", "01.png": "g"})
    write("empty.csv", {"00.png": "", "01.png": ""})
    Path("twice.csv").write_text("id,label\n00.png,r\n00.png,g\n", encoding="utf-8")
    try:
        code = main(words.split())
    except SystemExit as end:
        code = int(str(end.code))
    said = capsys.readouterr().err.strip()
    assert code == 2
    assert re.search(sentence, said), said
    assert len(said.splitlines()) == 1
