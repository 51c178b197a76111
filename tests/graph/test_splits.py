"""A graph of the training rows alone: what it is made of, its stamp, and that held-out rows leave no trace."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy import likes

from likewise.cli.main import main
from likewise.errors import LikewiseError
from likewise.graph.build import build_graph
from likewise.graph.co_engagement import Interactions
from likewise.graph.graph_file import stamp_of
from likewise.graph.splits import SPLITS, SplitRule, cold_items


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with ratings of 60 users for 80 items."""
    monkeypatch.chdir(tmp_path)
    Path("ratings.csv").write_text("\n".join(likes()[0]) + "\n")
    return tmp_path


def cold_of(lines: list[str], seed: int) -> set[str]:
    """The cold items of the likes, as the rule draws them."""
    liked = [line.split(",") for line in lines[1:]]
    names = sorted({item for _, item, rating, _ in liked if int(rating) >= 4})
    numbers = np.array([names.index(item) for _, item, rating, _ in liked if int(rating) >= 4])
    split = cold_items(Interactions(numbers * 0, numbers, None), len(names), seed=seed)
    return {names[number] for number in np.flatnonzero(split.candidates)}


def test_a_graph_of_warm_items_says_what_is_held_out(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["graph", "ratings.csv", "--least", "4", "--split", "cold-items", "--seed", "3", "--out", "graph"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "64 items; " in said
    assert "  split     cold items: 16 of 80 items, drawn by seed 3; " in said
    cold, table = cold_of(likes()[0], 3), pq.read_table("graph/edges.parquet")
    assert len(cold) == 16
    assert not cold & {*table["item"].to_pylist(), *table["other"].to_pylist()}
    stamp = stamp_of("graph")
    assert (stamp["split"], stamp["share"], stamp["seed"], stamp["least"]) == ("cold-items", 0.2, 3, 4)
    assert stamp == json.loads(Path("graph/summary.json").read_text())["made"]
    kept = [line for line in likes()[0] if line.split(",")[1] not in cold]
    Path("warm.csv").write_text("\n".join(kept))
    assert build_graph("warm.csv", least=4).stamp["edges_hash"] == stamp["edges_hash"]
    assert build_graph("ratings.csv", least=4).stamp["split"] == "none"


@pytest.mark.parametrize("name", SPLITS)
def test_what_is_held_out_leaves_no_trace(here: Path, name: str) -> None:
    """Who took what is held out changes nothing: it goes to others, and the edges have the same bits."""
    rule = SplitRule(name=name, fewest_users=1)
    first = build_graph("ratings.csv", least=4, split=name, fewest_users=1)
    header, *lines = likes()[0]
    rows = [line.split(",") for line in lines]
    users, items = sorted({row[0] for row in rows}), sorted({row[1] for row in rows})
    liked = [row for row in rows if int(row[2]) >= 4]
    numbers = Interactions(
        np.array([users.index(row[0]) for row in liked]),
        np.array([items.index(row[1]) for row in liked]),
        np.array([int(row[3]) for row in liked]),
    )
    asked = rule.divide(numbers, len(items)).asked
    held = {(users[user], items[item]) for user, item in zip(asked.user, asked.item, strict=True)}
    places = [place for place, row in enumerate(rows) if (row[0], row[1]) in held]
    column = 0 if name == "cold-items" else 1  # who took a cold item; which item came last
    given = np.random.default_rng(1).permutation([rows[place][column] for place in places])
    for place, value in zip(places, given, strict=True):
        rows[place][column] = str(value)
    Path("ratings.csv").write_text("\n".join([header, *map(",".join, rows)]) + "\n")
    second = build_graph("ratings.csv", least=4, split=name, fewest_users=1)
    assert second.stamp["edges_hash"] == first.stamp["edges_hash"]
    assert second.stamp["interactions_hash"] != first.stamp["interactions_hash"]


def test_a_run_keeps_the_stamp_of_its_graph(here: Path) -> None:
    content = [row.tolist() for row in likes()[1]]
    pq.write_table(pa.table({"id": [f"i{n:02}" for n in range(80)], "vector": content}), "content.parquet")
    assert main(["graph", "ratings.csv", "--split", "per-user", "--out", "graph"]) == 0
    words = "--alike pairs --method facenet --encoder.hidden 8 --encoder.dim 4 --batch_size 32 --epochs 1"
    assert main(["fit", "content.parquet", "--out", "run", "--relations", "graph", *words.split()]) == 0
    assert json.loads(Path("run/data.json").read_text())["graph"] == stamp_of("graph")
    Path("pairs.csv").write_text("a,b\ni00,i06\ni01,i07\ni02,i08\n")
    assert main(["fit", "content.parquet", "--out", "other", "--relations", "pairs.csv", *words.split()]) == 0
    assert json.loads(Path("other/data.json").read_text())["graph"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--split cold-item", "there is no split 'cold-item'. Did you mean 'cold-items'?"),
        ("--split cold-items --share 1", "--share is 1.0; it must be a number above 0 and below 1."),
        ("--share 0.5", "--share is of a split; say which with --split, or leave --share out."),
        ("--split time --time none", "a time split needs a time for each interaction; name the column, or take cold"),
        ("--split time --fewest_users 61", "a split by time leaves "),
        ("--split cold-items --share 0.001", "one side would be empty; 720 rows are too few, or change share."),
    ],
)
def test_a_split_that_can_not_be_is_one_sentence(
    here: Path, words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["graph", "ratings.csv", "--out", "graph", *words.split()]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not Path("graph").exists()


def test_a_damaged_graph_has_no_stamp(here: Path) -> None:
    Path("graph").mkdir()
    Path("graph/edges.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(LikewiseError, match=r"edges.parquet can't be read as a graph"):
        stamp_of("graph")
