"""Items of several parts on the command line: from fit to search, and what each mistake is told."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from likewise.cli.main import main
from likewise.config.overrides import flatten, settings_from
from likewise.data import open_items
from likewise.model import load
from likewise.proof.small_run import make_plan
from likewise.training.run_folder import read_data

SMALL = ("--size", "8", "--words", "16", "--encoder.hidden", "8", "--encoder.dim", "4", "--batch_size", "8")
PARTS = ("--features", "image=photos/", "--features", "audio=audio.parquet", "--features", "title=movies.csv")
N = 24


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of half of the items, vectors of two thirds, titles of some, and a trained run with its index."""
    place = tmp_path_factory.mktemp("features")
    random, ids = np.random.default_rng(0), [f"m{number:02}" for number in range(N)]
    (place / "photos").mkdir()
    for id in ids[: N // 2]:
        pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / "photos" / f"{id}.png")
    vectors = random.normal(size=(16, 5))
    vectors[2, 1] = np.nan
    pd.DataFrame({"id": ids[:16], "v": list(vectors)}).to_parquet(place / "audio.parquet")
    titles = [f"word{number % 5} film" if number % 3 else "" for number in range(N)]
    pd.DataFrame({"id": ids, "title": titles, "year": 1990}).to_csv(place / "movies.csv", index=False)
    pd.DataFrame({"id": ids, "label": np.arange(N) % 3}).to_csv(place / "labels.csv", index=False)
    pairs = [(a, b, grade) for grade in (1, 2) for a, b in zip(ids, ids[2 + grade :], strict=False)]
    pd.DataFrame(pairs, columns=["query", "item", "relevance"]).to_csv(place / "graded.csv", index=False)
    np.save(place / "numbers.npy", vectors)
    np.save(place / "one.npy", vectors[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("LIKEWISE_CACHE", str(place / "cache"))
        assert main(["fit", *PARTS, "--out", "run", *SMALL, "--epochs", "2"]) == 0
        assert main(["index", "run", *PARTS]) == 0
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may change."""
    shutil.copytree(made, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    monkeypatch.setenv("LIKEWISE_CACHE", str(made / "cache"))
    return tmp_path / "place"


def test_from_fit_to_search(made: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = load("run")
    assert [(block.name, block.kind, block.width) for block in model.blocks] == [
        ("image", "image", 192),
        ("audio", "vector", 5),
        ("title", "words", 16),
    ]
    about = read_data(Path("run"))
    assert about is not None
    assert about["parts"]["title"] == str(made / "movies.csv")
    skipped = Path("run/skipped.csv").read_text()
    assert 'm02,"audio: not finite' in skipped
    assert 'm18,"it has no part (image, audio, title)"' in skipped
    assert main(["embed", "run", *PARTS, "--out", "z.parquet"]) == 0
    said = capsys.readouterr().err
    assert "image: 10 of the 21 items lack it, such as 'm12'; it is masked there." in said
    table = pq.read_table("z.parquet").to_pydict()
    rows = {id: torch.tensor(row) for id, row in zip(table["id"], table["embedding"], strict=True)}
    assert len(rows) == 21
    assert main(["search", "run", "m04", "-k", "3"]) == 0
    found = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    nearest = sorted((float(-row @ rows["m04"]), id) for id, row in rows.items() if id != "m04")[:3]
    assert [id for _, id in found] == [id for _, id in nearest]
    assert [float(score) for score, _ in found] == pytest.approx([-score for score, _ in nearest], abs=1e-4)
    assert main(["search", "run", "photos/m04.png", "-k", "3"]) == 0
    assert main(["search", "run", "one.npy", "-k", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6
    # cold items, from one part alone
    assert main(["embed", "run", "--features", "title=movies.csv", "--out", "cold.parquet"]) == 0
    assert "audio: no source is given, so it is masked in all 16 items." in capsys.readouterr().err


def test_every_command_with_data_takes_parts(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ("--labels", "labels.csv")
    assert main(["evaluate", "run", *PARTS, *labels, "--measures", "knn"]) == 0
    test = ("--test_features", "title=movies.csv", "--test_features", "audio=audio.parquet")
    assert main(["evaluate", "run", *PARTS, *test, *labels, "--measures", "knn"]) == 0
    assert main(["retrieve", "run", *PARTS, *labels, "--measures", "retrieval"]) == 0
    queries = ("--query_features", "title=movies.csv")
    assert main(["retrieve", "run", *PARTS, *queries, *labels, "--measures", "retrieval"]) == 0
    assert main(["retrieve", "run", *PARTS, "--relations", "graded.csv"]) == 0
    assert main(["report", "run"]) == 0
    assert main(["report", "run", *PARTS]) == 0
    assert 'title="m04" src="data:image/png' in Path("run/report.html").read_text(encoding="utf-8")
    capsys.readouterr()
    again = ["fit", *PARTS, "--out", "run", "--resume", *SMALL, "--epochs", "3"]
    assert main(again) == 0
    assert "Next: likewise evaluate run --features image=photos/ --features" in capsys.readouterr().out
    assert main(["search", "run", "m04"]) == 2  # the index is of another model: the sentence makes it again
    command = capsys.readouterr().err.partition("likewise index ")[2].split()
    assert main(["index", *command]) == 0
    assert main(["search", "run", "m04"]) == 0
    assert main(["report", "run"]) == 2
    said = capsys.readouterr().err
    assert "likewise evaluate run --features image=" in said
    assert "--test_features title=" in said


@pytest.mark.filterwarnings("ignore:LambdaRank", "ignore:.*copies")  # few items, and few whole lists in a batch
def test_fit_learns_from_relations_of_parts(place: Path) -> None:
    options = [*SMALL, "--epochs", "1", "--encoder.fusion", "late", "--method", "ranking", "--relations", "graded.csv"]
    assert main(["fit", *PARTS, "--out", "ranked", *options]) == 0
    assert flatten(load("ranked").settings)["encoder.fusion"] == "late"
    compared = ["compare", *PARTS[2:], "--labels", "labels.csv", "--methods", "circle", "--seeds", "1", "--steps", "2"]
    sets = ["--set", "words=8", "encoder.dim=4"]
    pd.DataFrame({"id": [f"m{row:02}" for row in range(N)], "label": np.arange(N) % 4}).to_csv(
        "labels.csv", index=False
    )
    assert main([*compared, "--out", "compared", *sets]) == 0


def test_verify_takes_a_run_of_parts_and_makes_up_others(place: Path) -> None:
    own = make_plan("run")
    assert own.items.blocks == load("run").blocks
    made_up = make_plan("simclr", settings={"encoder.name": "towers", "encoder.fusion": "late", "encoder.hidden": 8})
    assert [block.name for block in made_up.items.blocks] == ["a", "b"]


def test_embedded_vectors_are_a_frozen_lower_tower(place: Path) -> None:
    images = [str(place / "photos"), "--out", "lower", "--size", "8", "--epochs", "1", "--batch_size", "4"]
    assert main(["fit", *images, "--encoder.dim", "4"]) == 0
    assert main(["embed", "lower", "photos", "--out", "embedded.parquet"]) == 0
    items = open_items({"image": "embedded.parquet", "title": "movies.csv"}, progress=False)
    first, _ = items.blocks
    assert (first.name, first.kind, first.width) == ("image", "vector", 4)
    assert items.ids[:3] == ("m00", "m01", "m02")


MISTAKES = [
    ("fit photos --features image=photos --out x", "DATA and --features both name the items; leave one out."),
    ("fit --out x", "`likewise fit` needs DATA"),
    ("fit --features image --out x", "--features takes NAME=SOURCE, such as image=photos/, not 'image'."),
    ("fit --features =photos --out x", "--features takes NAME=SOURCE, such as image=photos/, not '=photos'."),
    ("fit --features image= --out x", "--features takes NAME=SOURCE"),
    ("fit --features a=photos --features a=photos --out x", "--features names the part 'a' twice; leave one out."),
    ("fit --features a.b=photos --out x", "'a.b' is no name of a part; use letters, digits, _ and -"),
    ("fit --features image=photo --out x", "image: photo does not exist. Did you mean 'photos'?"),
    (
        "fit --features image=photos --features n=numbers.npy --out x",
        "no id of n is among those of image: n has ids su",
    ),
    ("fit --features image=photos --columns v --out x", "columns= is for a single source"),
    ("fit --features image=photos --labels one.npy --out x", "several parts meet by id; give labels by id"),
    ("fit audio.parquet --encoder.name towers --out x", "encoder 'towers' does not fit the items, which are vectors"),
    ("fit photos --encoder.fusion late --out x", "encoder.fusion=late is for items of several parts"),
    ("fit photos --encoder.frozen true --encoder.head none --out x", "encoder.frozen=true leaves nothing to learn"),
    ("embed run --out z.parquet", "`likewise embed` needs DATA."),
    ("embed run photos --out z.parquet", "this model takes items of several parts (image, audio, title): give each by"),
    ("embed run photos --features image=photos --out z.parquet", "DATA and --features both name the items"),
    ("embed run --features titel=movies.csv --out z.parquet", "the model has no part 'titel'. Did you mean 'title'?"),
    ("embed run --features image=movies.csv --out z.parquet", "image holds vectors, but the model was trained with im"),
    ("evaluate run --train photos --features image=photos", "--train and --features both name the items"),
    ("evaluate run --test photos --features image=photos --test_features a=b", "--test and --test_features both name"),
    ("retrieve run --features image=photos --relations graded.csv --query_features a=b", "leave --query_features out"),
    ("search run nope.png", "'nope.png' is neither a file nor the id of an indexed item"),
]


@pytest.mark.parametrize(("line", "sentence"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_one_sentence(line: str, sentence: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(Path().rglob("*"))
    try:
        code: object = main(line.split())
    except SystemExit as stop:
        code = stop.code
    said = [each for each in capsys.readouterr().err.splitlines() if each.startswith("likewise: ")]
    assert code == 2
    assert len(said) == 1
    assert sentence in said[0]
    assert sorted(Path().rglob("*")) == before


def test_settings_of_towers_are_saved() -> None:
    settings = settings_from({"encoder.fusion": "late", "encoder.frozen": True, "words": 64})
    assert json.loads(json.dumps(flatten(settings)))["encoder.fusion"] == "late"
