"""``likewise graph``: the folder that it writes, what it says, and what it refuses."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from likewise.cli.main import main
from likewise.data.parquet import is_own
from likewise.errors import LikewiseError
from likewise.graph.build import build_graph
from likewise.graph.graph_file import edges_hash


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with ratings of 60 users for 30 items, and a few bad rows."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    user, item = (60 * generator.random(900) ** 2).astype(int), (30 * generator.random(900) ** 2).astype(int)
    lines = [f"u{u},i{i},{1 + (u + i) % 5},{t}" for t, (u, i) in enumerate(zip(user, item, strict=True))]
    lines += ["alone,i1,5,1", ",i1,5,1", "u1,i2,-1,1", "u1,rare,5,1"]
    Path("ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *lines]) + "\n")
    return tmp_path


def test_the_folder_and_what_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "ratings.csv", "--out", "deep/graph", "--newest", "20", "-k", "5"]) == 0
    said = capsys.readouterr()
    assert "ratings.csv: user 'userId', item 'movieId', weight 'rating', time 'timestamp'." in said.err
    assert "left out: 1 rows: the weight is negative (such as user 'u1', item 'i2': '-1')." in said.err
    assert "left out: 1 rows: no user (empty, or null, none, nan, …) (such as item 'i1')." in said.err
    assert "ratings.csv: a weight only decides whether a row counts: all above 0 do; --least leaves out" in said.err
    assert sorted(path.name for path in Path("deep/graph").iterdir()) == [
        "edges.parquet",
        "items.parquet",
        "summary.json",
    ]
    assert [path.name for path in Path("deep").iterdir()] == ["graph"]

    table, summary = pq.read_table("deep/graph/edges.parquet"), json.loads(Path("deep/graph/summary.json").read_text())
    assert {field.name: str(field.type) for field in table.schema} == {
        "item": "string",
        "other": "string",
        "count": "int64",
        "weight": "double",
    }
    made = summary["made"]
    assert json.loads(table.schema.metadata[b"likewise"]) == made
    assert made["edges_hash"] == edges_hash(table)
    assert made["interactions_path"] == str(here / "ratings.csv")
    assert (made["weighting"], made["support"], made["k"], made["newest"]) == ("cosine", 2, 5, 20)
    assert is_own(Path("deep/graph/edges.parquet"))

    assert (summary["rows"], summary["lone_users"], summary["items"]) == (904, 1, 31)
    assert summary["edges"] == len(table) == sum(np.unique(table["item"].to_pylist(), return_counts=True)[1])
    assert summary["degrees"] == {"least": 0, "tenth": 5, "half": 5, "nine_tenths": 5, "most": 5}
    assert summary["isolated"] == 1  # "rare"
    assert [each["support"] for each in summary["at"]] == [1, 2, 3]
    assert summary["left_out"][0]["rows"] == 1
    assert f"{len(table):,} edges of 31 items; 1 (3.2%) are isolated: they have no edge" in said.out
    assert "users only the 20 newest items count: 'u0' with " in said.out
    assert "(this graph)" in said.out.splitlines()[-3]
    assert made["edges_hash"] in said.out.splitlines()[-1]


def test_a_graph_is_replaced_and_nothing_else_is(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "ratings.csv", "--out", "graph"]) == 0
    before = Path("graph/edges.parquet").read_bytes()
    assert main(["graph", "ratings.csv", "--out", "graph", "--support", "99"]) == 2
    assert Path("graph/edges.parquet").read_bytes() == before
    assert main(["graph", "ratings.csv", "--out", "graph", "--weighting", "PMI", "--least", "3"]) == 0
    assert json.loads(Path("graph/summary.json").read_text())["made"]["weighting"] == "pmi"
    capsys.readouterr()
    Path("graph/notes.txt").write_text("mine")
    assert main(["graph", "ratings.csv", "--out", "graph"]) == 2
    assert capsys.readouterr().err == (
        "likewise: graph holds notes.txt, which is no part of a graph; name another --out.\n"
    )
    assert main(["graph", "ratings.csv", "--out", "ratings.csv"]) == 2
    assert "ratings.csv is a file, and a graph is a folder" in capsys.readouterr().err
    assert sorted(path.name for path in here.iterdir()) == ["graph", "ratings.csv"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["ratings.csv", "--support", "99"],
            r"no two items have 99 users in common, so the graph has no edges; --support",
        ),
        (["lone.csv"], r"no user has two items or more, so no items have users in common; if the columns are others"),
        (["rating.csv"], r"rating.csv does not exist. Did you mean 'ratings.csv'\?"),
        (["ratings.csv", "--weighting", "cosin"], r"there is no weighting 'cosin'. Did you mean 'cosine'\?"),
        (["ratings.csv", "--newest", "1"], r"--newest is 1; it must be a whole number from 2"),
        (["ratings.csv", "--least", "6"], r"no row whose weight is above 0 and at least 6; lower --least"),
    ],
)
def test_what_makes_no_graph_is_one_sentence(
    here: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("lone.csv").write_text("user,item\na,x\nb,x\nc,y\n")
    assert main(["graph", *words, "--out", "graph"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("likewise: ")
    with pytest.raises(LikewiseError, match=said):
        raise LikewiseError(error)
    assert not Path("graph").exists()


def test_raw_counts_are_warned_of_and_pmi_below_chance_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "ratings.csv", "--out", "graph", "--weighting", "count"]) == 0
    assert "warning: the weights are raw counts, so that popular items fill the lists;" in capsys.readouterr().err
    graph = build_graph("ratings.csv", weighting="pmi")
    below = int(np.count_nonzero(graph.table["weight"].to_numpy() <= 0))
    assert below > 0
    assert f"  pmi       {below:,} edges have a weight of 0 or below" in "\n".join(graph.lines)
    assert "raw counts" not in capsys.readouterr().err


def test_lines_within_quotes_are_warned_of(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("r.csv").write_text('user,item,title\na,x,"t\na,y,"t\na,x,t\na,y,t\nb,x,t\nb,y,t\n')
    build_graph("r.csv")
    assert "warning: 1 lines of r.csv lie within quotes, and are no rows: if no text has" in capsys.readouterr().err


def test_users_without_times_keep_the_first_items(here: Path) -> None:
    graph = build_graph("ratings.csv", time="none", newest=9)
    assert "users only the 9 first (by id, for there are no times) items count" in "\n".join(graph.lines)
    assert graph.stamp["column_time"] == "none"


def test_without_scipy_the_extra_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(LikewiseError, match=r'a graph is counted by SciPy; pip install "likewise\[graph\]"\.'):
        build_graph("ratings.csv", "graph")
    assert not Path("graph").exists()


def test_a_least_weight_that_is_no_number(here: Path) -> None:
    with pytest.raises(LikewiseError, match="least=nan must be a finite number"):
        build_graph("ratings.csv", least=float("nan"))
