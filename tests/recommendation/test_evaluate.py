"""``likewise evaluate --split``: what is asked and among what, who is ahead, and the refusal of a run that knows it."""

import json
import math
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy import likes

import likewise as lw
from likewise.cli.main import main
from likewise.errors import LikewiseError
from likewise.graph.co_engagement import Interactions
from likewise.graph.splits import cold_items
from likewise.recommendation import baselines
from likewise.recommendation.content import _Weighed, joined, tuned
from likewise.recommendation.related import Cosines, RelatedItems

IDS = [f"i{number:02}" for number in range(80)]
FIT = (
    "--alike pairs --method facenet --encoder.hidden 16 --encoder.dim 8 --batch_size 64 --epochs 4 --optim.name adamw "
    "--optim.lr 0.01 --views.noise 0 --threads 1"
)


def write(folder: Path, split: str, lines: list[str] | None = None) -> None:
    """Ratings, content, a graph of the training rows, and a run."""
    (folder / "ratings.csv").write_text("\n".join(lines or likes()[0]) + "\n")
    pq.write_table(pa.table({"id": IDS, "vector": [row.tolist() for row in likes()[1]]}), folder / "content.parquet")
    graph = ["graph", f"{folder}/ratings.csv", "--least", "4", "--split", split, "-k", "4", "--out", f"{folder}/graph"]
    assert main(graph) == 0
    fit = ["fit", f"{folder}/content.parquet", "--out", f"{folder}/run", "--relations", f"{folder}/graph", *FIT.split()]
    assert main(fit) == 0


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learned from warm items."""
    folder = tmp_path_factory.mktemp("cold")
    write(folder, "cold-items")
    return folder


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learned from the first rows of each user."""
    folder = tmp_path_factory.mktemp("warm")
    write(folder, "per-user")
    return folder


@pytest.fixture
def here(cold: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(cold)
    yield cold
    Path("run/recommendation.json").unlink(missing_ok=True)


ASK = ["evaluate", "run", "content.parquet", "--interactions", "ratings.csv", "--split"]


def test_cold_items_are_measured_by_content_and_all_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ASK, "cold-items"]) == 0
    said = capsys.readouterr()
    assert "related items: cold items: 16 of 80 items, drawn by seed 0; " in said.out
    assert "items with 5 users or more, each among 80 items" in said.out
    assert "each among 16 items without those of the history" in said.out
    assert "Left out: popularity, item neighbours, EASE, ALS (implicit), BPR (implicit): they know no item" in said.out
    found = json.loads(Path("run/recommendation.json").read_text())
    related, history = found["tables"]
    assert [row["model"] for row in related["rows"]] == [
        "this run",
        "content, cosine",
        "popularity",
        "content → factors",
    ]
    assert [row["model"] for row in history["rows"]] == [
        "this run",
        "content, cosine",
        "content → factors",
        "ridge per user",
    ]
    assert {"split": "cold-items", "share": 0.2, "seed": 0, "least": 4, "k": 10}.items() <= found["made"].items()
    assert found["made"]["learned_from"] == "a graph of this split"
    for table in found["tables"]:
        assert table["verdict"] in said.out
        assert len(table["asked"]) == len(table["rows"][0]["values"])
        for row in table["rows"]:
            kept = [value for value in row["values"] if value is not None]
            assert np.mean(kept) == pytest.approx(row["measures"]["ndcg@10"]["mean"], abs=1e-6)
        only = ["ndcg@10"] if table is related else ["ndcg@10", "recall@10", "map@10"]
        assert list(table["rows"][0]["measures"]) == only
        for row in table["rows"]:
            ndcg = row["measures"]["ndcg@10"]
            assert 0 <= ndcg["low"] <= ndcg["mean"] <= ndcg["high"] <= 1
    for row in history["rows"]:
        assert f"{row['model']}: {row['chosen']}" in said.out
    assert related["rows"][0]["measures"]["ndcg@10"]["mean"] > related["rows"][2]["measures"]["ndcg@10"]["mean"]


def test_a_run_knows_what_comes_next(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "content.parquet", "--out", f"{tmp_path}/run", "--relations", "graph", *FIT.split()]
    assert main([*words, "--epochs", "1"]) == 0
    graph = f"{here}/ratings.csv"
    command = f"evaluate {tmp_path}/run content.parquet --split cold-items --interactions {graph}"
    assert f"Next: likewise {command}; likewise index " in capsys.readouterr().out
    assert main(["graph", graph, "--least", "4", "-k", "4", "--out", f"{tmp_path}/all"]) == 0
    words = ["fit", "content.parquet", "--out", f"{tmp_path}/other", "--relations", f"{tmp_path}/all", *FIT.split()]
    assert main([*words, "--epochs", "1"]) == 0
    assert f"Next: likewise recommend {tmp_path}/other {graph} content.parquet; likew" in capsys.readouterr().out
    assert main(["recommend", "run", "ratings.csv", "content.parquet", "--history", "mean", "--user_id", "u01"]) == 0
    assert "rows of weight 4 and more count, as in the run's graph; --least takes others." in capsys.readouterr().err


def test_a_run_that_goes_on_with_another_graph_is_refused(
    cold: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    graph = ["graph", f"{cold}/ratings.csv", "--least", "4", "-k", "4", "--out", "graph"]
    fit = ["fit", f"{cold}/content.parquet", "--out", "run", "--relations", "graph", *FIT.split(), "--epochs"]
    ask = [
        "evaluate",
        "run",
        f"{cold}/content.parquet",
        "--interactions",
        f"{cold}/ratings.csv",
        "--split",
        "cold-items",
    ]
    assert main(graph) == 0
    assert main([*fit, "1"]) == 0
    assert main([*graph, "--split", "cold-items"]) == 0
    assert main([*fit, "2", "--resume"]) == 0
    assert main(ask) == 2
    assert "run learned from several graphs, one after the other, perhaps also from what" in capsys.readouterr().err
    assert main([*fit, "3", "--resume"]) == 0  # with the same graph now; what it learned before stays
    assert main(ask) == 2


def test_known_items_have_all_baselines(warm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(warm)
    assert main([*ASK, "per-user", "--history", "top-2", "--k", "5"]) == 0
    (table,) = json.loads(Path("run/recommendation.json").read_text())["tables"]
    chosen = {row["model"]: row["chosen"] for row in table["rows"]}
    assert list(chosen)[4:] == ["popularity", "item neighbours", "EASE", "ALS (implicit)", "BPR (implicit)"]
    assert chosen["this run"] == "top-2"
    assert re.fullmatch(r"λ = \d+", chosen["EASE"])
    assert table["left_out"] == []
    assert "ndcg@5" in table["rows"][0]["measures"]
    assert 0 < table["rows"][0]["catalogue"]["coverage"] <= 1


def test_what_can_not_be_measured_is_left_out_by_name(warm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(warm)
    monkeypatch.setattr(baselines, "MOST_ITEMS", 20)
    monkeypatch.setattr(baselines, "MOST_NUMBERS", 900)
    monkeypatch.setitem(sys.modules, "implicit", None)
    assert main([*ASK, "per-user", "--history", "mean"]) == 0
    (table,) = json.loads(Path("run/recommendation.json").read_text())["tables"]
    assert table["left_out"] == [
        "content → factors: a ridge on 80 items of 12 numbers takes more than 4 GB.",
        "ridge per user: a ridge on 80 items of 12 numbers takes more than 4 GB.",
        "EASE: EASE needs a matrix of all pairs of 80 items; it takes up to 20.",
        'ALS (implicit): ALS and BPR are those of implicit; pip install "likewise[recommend]".',
        'BPR (implicit): ALS and BPR are those of implicit; pip install "likewise[recommend]".',
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cold-items", "--seed", "1"], "run learned from a graph with --seed 0, and --seed 1 holds other rows out, "),
        (["cold-items", "--share", "0.5"], "with --share 0.2, and --share 0.5 holds other rows out"),
        (["cold-items", "--least", "5"], "with --least 4.0, and --least 5.0 holds other rows out"),
        (["per-user"], "with --split cold-items, and --split per-user holds other rows out"),
        (["cold-item"], "there is no split 'cold-item'. Did you mean 'cold-items'?"),
        (["cold-items", "--history", "top"], "there is no rule 'top'. "),
        (["cold-items", "--user", "usr"], "has no column 'usr'. Did you mean 'user'?"),
        (["cold-items", "--test", "photos"], "--split measures recommendation, without labels; leave --test out."),
    ],
)
def test_a_leak_is_refused(here: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ASK, *words]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not Path("run/recommendation.json").exists()


def test_other_interactions_and_a_graph_of_all_are_a_leak(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = [line for line in likes()[0] if not line.startswith("u00")]
    Path("other.csv").write_text("\n".join(other))
    words = [word.replace("ratings.csv", "other.csv") for word in ASK]
    assert main([*words, "cold-items"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "other.csv is not the file that run learned from, " in error
    assert "likewise graph other.csv --user user --item item --weight rating --time time --least 4 --split" in error
    about = json.loads(Path("run/data.json").read_text())
    made = {**about["graph"], "split": "none"}
    try:
        Path("run/data.json").write_text(json.dumps({**about, "graph": made}))
        assert main([*ASK, "cold-items"]) == 2
        assert "run learned from a graph of all interactions, those too that are held" in capsys.readouterr().err
        Path("run/data.json").write_text(json.dumps({**about, "graph": {}}))  # a graph without a stamp
        assert main([*ASK, "cold-items", "--least", "4", "--history", "mean"]) == 0
        assert "warning: run does not say that it learned from a graph, so it may have" in capsys.readouterr().err
        assert json.loads(Path("run/recommendation.json").read_text())["made"]["learned_from"] == "unknown"
    finally:
        Path("run/data.json").write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "evaluate run",
            "`likewise evaluate` needs --train, labelled items, or --split, to measure recommendation, or --pairs",
        ),
        ("evaluate run content.parquet --train x", "DATA is of a measurement on interactions; say with --split which"),
        ("evaluate run --train x --seed 1", "--seed is of a measurement on interactions; say with --split which"),
        ("evaluate run --split time", "--split needs DATA, the items with their content, and --interactions FILE."),
    ],
)
def test_the_two_forms_are_told_apart(here: Path, words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    assert said in capsys.readouterr().err


def test_who_took_cold_items_changes_no_bit_of_the_embedding(cold: Path, tmp_path: Path) -> None:
    """The whole way: other users take the cold items, and graph and weights stay the same to the last bit."""
    write(tmp_path, "cold-items")
    header, *lines = likes()[0]
    rows = [line.split(",") for line in lines]
    liked = np.array([IDS.index(row[1]) for row in rows if int(row[2]) >= 4])
    held = {IDS[number] for number in np.flatnonzero(cold_items(Interactions(liked, liked, None), 80).candidates)}
    places = [place for place, row in enumerate(rows) if row[1] in held]
    for place, user in zip(
        places, np.random.default_rng(1).permutation([rows[each][0] for each in places]), strict=True
    ):
        rows[place][0] = str(user)
    other = tmp_path / "other"
    other.mkdir()
    write(other, "cold-items", lines=[header, *map(",".join, rows)])
    assert (other / "ratings.csv").read_bytes() != (tmp_path / "ratings.csv").read_bytes()
    embeddings = [lw.load(folder / "run").embed(folder / "content.parquet") for folder in (tmp_path, other)]
    assert embeddings[0].rows.numpy().tobytes() == embeddings[1].rows.numpy().tobytes()


def test_related_items_are_their_loop() -> None:
    rng = np.random.default_rng(0)
    taken = rng.random((30, 12)) < 0.4
    user, item = np.nonzero(taken)
    asked, candidates = rng.random(12) < 0.5, rng.random(12) < 0.8
    content = rng.normal(size=(12, 3)).astype(np.float32)
    content[4] = 0
    task = RelatedItems(Interactions(user, item, None), 30, 12, asked=asked, candidates=candidates, fewest=8)
    assert task.queries.tolist() == [i for i in range(12) if asked[i] and taken[:, i].sum() >= 8]
    units = content / np.maximum(np.linalg.norm(content, axis=1, keepdims=True), 1e-9)
    values = []
    for query in task.queries:
        others = [i for i in range(12) if candidates[i] and i != query]
        both = (taken[:, [query]] & taken[:, others]).sum(0)
        gain = dict(zip(others, both / np.sqrt(taken[:, query].sum() * taken[:, others].sum(0)), strict=True))
        order = sorted(others, key=lambda i: (-round(float(units[query] @ units[i]), 5), i))[:4]
        best = sorted(gain.values(), reverse=True)[:4]
        values.append(
            sum(gain[i] / math.log2(place + 2) for place, i in enumerate(order))
            / sum(each / math.log2(place + 2) for place, each in enumerate(best))
        )
    np.testing.assert_allclose(task.measure(Cosines(content), k=4)["ndcg@4"].values, values)
    with pytest.raises(LikewiseError, match="no item that is held out has 31 users or more, so none can be asked"):
        RelatedItems(Interactions(user, item, None), 30, 12, asked=asked, candidates=candidates, fewest=31)


def test_a_block_that_says_nothing_gets_no_weight() -> None:
    lines, content = likes()
    rows = [line.split(",") for line in lines[1:]]
    user, item = np.array([int(row[0][1:]) for row in rows]), np.array([int(row[1][1:]) for row in rows])
    every = np.ones(80, dtype=bool)
    task = RelatedItems(Interactions(user, item, None), 60, 80, asked=every, candidates=every)
    found = tuned({"as given": [content[:, :6], content[:, 6:]]}, ["group", "noise"], task)
    weights = re.fullmatch(r"as given, group × ([\d.]+), noise × ([\d.]+)", found.words)
    assert weights is not None
    assert float(weights[1]) > 3 * float(weights[2])
    worse = task.measure(Cosines(joined([content[:, :6], content[:, 6:]], [1, 1])))["ndcg@10"]
    assert float(task.measure(Cosines(found.rows))["ndcg@10"]) > float(worse)
    blocks = [content[:, :6].copy(), content[:, 6:]]
    blocks[0][::7] = 0  # items without this part
    for weights in ([1.0, 1.0], [0.5, 2.0], [0.0, 1.0]):
        whole = task.measure(Cosines(joined(blocks, weights)))["ndcg@10"]
        assert _Weighed(blocks, task).value(weights) == pytest.approx(float(whole), abs=1e-6)
    assert tuned({"as given": [content]}, ["content"], None).words == "as given"


def test_the_parts_of_the_content_are_weighed(cold: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --features: a part that says the group counts more than one of noise."""
    monkeypatch.chdir(tmp_path)
    content = likes()[1]
    for name, part in (("group", content[:, :6]), ("noise", content[:, 6:])):
        pq.write_table(pa.table({"id": IDS, name: [row.tolist() for row in part]}), f"{name}.parquet")
    parts = ["--features", "group=group.parquet", "--features", "noise=noise.parquet"]
    assert main(["fit", *parts, "--out", "run", "--relations", f"{cold}/graph", *FIT.split()]) == 0
    ask = ["evaluate", "run", *parts, "--interactions", f"{cold}/ratings.csv", "--split", "cold-items"]
    assert main([*ask, "--history", "mean"]) == 0
    rows = json.loads(Path("run/recommendation.json").read_text())["tables"][0]["rows"]
    chosen = next(row["chosen"] for row in rows if row["model"] == "content, cosine")
    weights = re.fullmatch(r"(?:as given|standardised), group × ([\d.]+), noise × ([\d.]+)", chosen)
    assert weights is not None
    assert float(weights[1]) > float(weights[2])


def test_splits_are_pooled_by_who_is_asked(tmp_path: Path) -> None:
    pooled = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "pooled_splits.py"))
    for name, asked, ours, theirs in (
        ("a", ["u", "v"], [1.0, 0.5], [0.5, None]),
        ("b", ["u", "w"], [0.0, 1.0], [0, 0]),
    ):
        rows = [{"model": model, "values": values, "chosen": name} for model, values in (("run", ours), ("it", theirs))]
        (tmp_path / name).mkdir()
        table = {"task": "t", "asked": asked, "rows": rows}
        (tmp_path / name / "recommendation.json").write_text(json.dumps({"tables": [table]}))
    values, gaps, chosen = pooled["tables"]([tmp_path / "a", tmp_path / "b"])["t"]["it"]
    assert (dict(values), dict(gaps)) == ({"u": [0.5, 0], "w": [0]}, {"u": [0.5, 0.0], "w": [1.0]})
    assert chosen == ["a", "b"]
    assert pooled["interval"](gaps) == "0.5000 [0.2500 1.0000]"


def test_without_enough_users_related_items_are_not_measured(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(RelatedItems.__init__, "__kwdefaults__", {"fewest": 61})
    assert main([*ASK, "cold-items", "--history", "mean"]) == 0
    assert "related items are not measured: no item that is held out has 61 users or more" in capsys.readouterr().err
    assert len(json.loads(Path("run/recommendation.json").read_text())["tables"]) == 1
