"""``likewise recommend``: for users, from the content of what they took."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from toy import likes

import likewise as lw
from likewise.cli.main import main
from likewise.config.settings import EncoderSettings, FitSettings
from likewise.data import Items
from likewise.errors import LikewiseError
from likewise.model import Model
from likewise.recommendation import recommend as module

IDS = [f"i{number:02}" for number in range(80)]
CONTENT = likes()[1]
HEADER, *LINES = likes()[0]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Interactions, in which nobody took i79, a user took i08 alone, and another only what has no content."""
    monkeypatch.chdir(tmp_path)
    rows = [*(line for line in LINES if ",i79," not in line), "one,i08,5,1", "lost,gone,5,1", "lost,away,5,2"]
    Path("ratings.csv").write_text("\n".join([HEADER, *rows, rows[0]]) + "\n")
    return tmp_path


@pytest.fixture(scope="module")
def items() -> Items:
    return Items(ids=tuple(IDS), values=CONTENT, kind="vectors", source="content")


@pytest.fixture(scope="module")
def model(items: Items) -> Model:
    return Model.untrained(FitSettings(encoder=EncoderSettings(name="mlp", hidden=16, dim=8)), items)


def taken(user: str) -> list[int]:
    return sorted({int(line.split(",")[1][1:]) for line in LINES if line.startswith(user + ",")} - {79})


def test_the_nearest_to_the_history_without_it(here: Path, model: Model, items: Items) -> None:
    found = lw.recommend(model, "ratings.csv", items, users=["u07", "one"], history="top-2", k=5, progress=False)
    rows = model.embed(items, progress=False).rows.numpy()
    for user, history in (("u07", taken("u07")), ("one", [8])):
        scores = np.sort(rows[history] @ rows.T, axis=0)[-2:].mean(0)
        best = [number for number in np.argsort(-scores, kind="stable") if number not in history][:5]
        assert [each.item for each in found.of(user)] == [IDS[number] for number in best]
        np.testing.assert_allclose([each.score for each in found.of(user)], scores[best], rtol=1e-5)
    assert {"history": "top-2", "k": 5, "least": 0, "column_user": "user"}.items() <= found.stamp.items()
    assert found.stamp["model"] == model.weights_hash
    assert len(found) == 2


def test_new_items_are_candidates_and_blocks_change_nothing(
    here: Path, model: Model, items: Items, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = lw.recommend(model, "ratings.csv", items, history="mean", k=100, progress=False)
    assert len(found) == 61
    assert found.without == ["lost"]
    assert {each.item for each in found if each.new} == {"i79"}
    assert len(found.of("one")) == 79
    said = capsys.readouterr().err
    assert "2 of the 81 items of ratings.csv have no content in content (such as 'away'): they are in hist" in said
    assert "1 of the 62 users have one row only." in said
    assert "1 rows repeat a user and item, and count once." in said
    assert "1 users took no item with content, so nothing is recommended to them: 'lost'." in said
    monkeypatch.setattr("likewise.recommendation.measure.CELLS", 700)
    again = lw.recommend(model, "ratings.csv", items, history="mean", k=100, progress=False)
    np.testing.assert_allclose(again.scores, found.scores, atol=1e-6)
    assert again.places[:, 0].tolist() == found.places[:, 0].tolist()


def test_the_rule_is_chosen_and_said(
    here: Path, model: Model, items: Items, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for words in ({}, {"time": "none"}):
        found = lw.recommend(model, "ratings.csv", items, users=["one"], progress=False, **words)
        said.append(capsys.readouterr().err)
        assert f"history: {found.stamp['history']}, which recommends best on a validation split (" in said[-1]
    assert "per user: the last 20% of each user with 5 or more" in said[0]
    assert "cold items: 16 of 81 items" in said[1]
    Path("few.csv").write_text("user,item\na,i01\nb,i02\n")
    assert lw.recommend(model, "few.csv", items, progress=False).stamp["history"] == module.USUAL
    assert "history: softmax, for no rule can be chosen: cold items: " in capsys.readouterr().err


def test_the_command_prints_and_writes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("content.npy", CONTENT)
    Path("names.csv").write_text("\n".join([HEADER, *(line.replace(",i", ",") for line in LINES)]) + "\n")
    fit = "fit content.npy --out run --epochs 1 --encoder.hidden 8 --encoder.dim 4 --batch_size 16 --threads 1"
    assert main(fit.split()) == 0
    lines = Path("names.csv").read_text().replace(",0", ",")  # ids of an array are whole numbers
    Path("names.csv").write_text(lines)
    capsys.readouterr()
    words = ["recommend", "run", "names.csv", "content.npy", "--history", "mean", "-k", "2"]
    assert main([*words, "--user_id", "u01,u00"]) == 0
    printed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in printed] == ["u01", "u01", "u00", "u00"]
    assert main(words) == 0
    shown = capsys.readouterr().out.splitlines()
    assert (len(shown), shown[-1]) == (21, "… and 50 more users; --out FILE writes all.")
    for name in ("best.parquet", "best.csv"):
        assert main([*words, "--out", name]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"best.{end}: 2 items for each of 60 users" for end in ("parquet", "csv")
    ]
    table = pq.read_table("best.parquet")
    assert table.column_names == ["user", "rank", "item", "score", "new"]
    assert table["rank"].to_pylist() == [1, 2] * 60
    stamp = json.loads(table.schema.metadata[b"likewise"])
    assert stamp["history"] == "mean"
    assert stamp == json.loads(Path("best.csv.json").read_text())
    head, first = Path("best.csv").read_text().splitlines()[:2]
    assert head == '"user","rank","item","score","new"'
    assert first.startswith(f'"u00",1,"{table["item"][0]}",0.')
    assert first.endswith(",false")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"users": ["u7", "one"]},
            "1 of the 2 users have no row that counts in the interactions: 'u7'. Did you mean 'u",
        ),
        ({"users": ["lost"]}, "none of the 1 users took an item with content, so nothing is recommended"),
        ({"users": "u7"}, "1 of the 1 users have no row that counts in the interactions: 'u7'"),
        ({"users": [7, 8]}, "2 of the 2 users have no row that counts in the interactions: '7', '8'."),
        ({"users": []}, "users is empty"),
        ({"history": "soft"}, "there is no rule 'soft'. Did you mean 'softmax'?"),
        ({"k": 0}, "k=0 must be at least 1"),
        (
            {"interactions": "strange.csv"},
            "no item of strange.csv is in content: the one has ids such as 'x1', the oth",
        ),
        ({"least": 9}, "has no row whose weight is above 0 and at least 9; lower --least"),
    ],
)
def test_what_can_not_be_recommended_is_one_sentence(
    here: Path, model: Model, items: Items, given: dict[str, object], said: str
) -> None:
    Path("strange.csv").write_text("user,item\na,x1\na,x2\n")
    words = {"interactions": "ratings.csv", "history": "mean", "progress": False, **given}
    with pytest.raises(LikewiseError) as raised:
        lw.recommend(model, data=items, **words)  # type: ignore[arg-type]
    assert said in str(raised.value)


def test_the_command_refuses_other_files(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", "run", "ratings.csv", "content.npy", "--out", "best.txt"]) == 2
    assert "a table is written as .csv or .parquet, so best.txt must end so." in capsys.readouterr().err
    assert not Path("best.txt").exists()
