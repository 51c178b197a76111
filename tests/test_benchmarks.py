"""Benchmarks: what their tables say of how many a mean is, which results they keep, and what they measure."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from likewise.cli.main import main
from likewise.data import Items
from likewise.graph.graph_file import edges_hash
from likewise.metrics import knn_accuracy, top_k

PLACE = Path(__file__).parents[1] / "benchmarks"
STEPS = 3


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """The modules omniglot and pml_training, which are of no package."""
    monkeypatch.syspath_prepend(str(PLACE))
    import omniglot
    import pml_training

    return omniglot, pml_training


def test_omniglots_table_gives_unseen_rotations_alone_and_says_of_how_many(benchmarks: tuple[Any, Any]) -> None:
    omniglot, _ = benchmarks
    each = {"circle": {0: 50.0, 1: 40.0, 2: 30.0, 3: 20.0, 4: 60.0}, "ms": {0: 90.0, 2: 80.0}, "npid": {0: 99.0}}
    values = {name: {"recall@1": found, "map@r": found} for name, found in each.items()}
    head, _, *rows = omniglot.table(values, [0, 1, 2, 3, 4])
    assert head == (
        "| | Recall@1, all rotations | MAP@R, all rotations "
        "| Recall@1, rotations 2 and 3 alone | MAP@R, rotations 2 and 3 alone |"
    )
    assert rows == [
        "| circle | 40.0 ± 15.8 | 40.0 ± 15.8 | 25.0 ± 7.1 | 25.0 ± 7.1 |",
        "| ms | 85.0 ± 7.1 (2 of 5 rotations) | 85.0 ± 7.1 (2 of 5 rotations) "
        "| 80.0 (1 of 2 rotations) | 80.0 (1 of 2 rotations) |",
        "| npid | 99.0 (1 of 5 rotations) | 99.0 (1 of 5 rotations) | – | – |",
    ]


def test_a_result_of_other_settings_or_code_is_made_anew(
    benchmarks: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, pml = benchmarks
    pytest.importorskip("pytorch_metric_learning")
    labels = np.arange(40) % 10
    one = {"kind": "images", "labels": labels, "label_names": tuple("abcdefghij")}
    items = Items(ids=tuple(map(str, range(40))), values=np.zeros((40, 8, 8, 3), np.uint8), **one)
    seen, path = list[str](), tmp_path / "results.jsonl"

    def trained(name: str, side: str, *given: Any) -> dict[str, float]:
        seen.append(side)
        return {"recall@1": 0.5, "map@r": 0.5}

    monkeypatch.setattr(pml, "trained", trained)

    def run(steps: int = STEPS) -> list[str]:
        seen.clear()
        lines = pml.run_missing([(0, 0, "circle", side) for side in pml.SIDES], [(items, items)], steps, path)
        assert [line["side"] for line in lines] == ["ours", "peer"]
        assert all(line["steps"] == steps for line in lines)
        return list(seen)

    path.write_text(json.dumps({"rotation": 0, "seed": 0, "loss": "circle", "side": "ours", "steps": STEPS}) + "\n")
    assert run() == ["ours", "peer"]  # the line says nothing of what made it
    assert run() == []
    assert run(steps=4) == ["ours", "peer"]
    with monkeypatch.context() as patch:
        patch.setattr(pml, "code_digest", lambda: "another")
        assert run() == ["ours", "peer"]
    with monkeypatch.context() as patch:
        patch.setattr(pml, "SETTINGS", pml.SETTINGS | {"encoder.dim": 16})
        assert run() == ["ours", "peer"]
    with monkeypatch.context() as patch:
        patch.setattr(pml, "version", lambda name: "0.0")
        assert run() == ["peer"]
    assert run() == []


def test_the_votes_of_the_first_run_are_those_of_knn_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PLACE))
    import first_run

    pixels = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 3), np.uint8)
    labels, ids = torch.arange(60) % 3, tuple(map(str, range(60)))
    items = Items(ids=ids, values=pixels, kind="images", labels=labels.numpy(), label_names=("a", "b", "c"), source="")
    rows = first_run.raw(items)(items)
    scores, found = top_k(rows, rows, 20, query_ids=torch.arange(60), key_ids=torch.arange(60))
    for tau in first_run.TEMPERATURES:
        expected = knn_accuracy(rows, labels, k=20, temperature=tau)
        assert first_run.right(scores.double(), labels[found], labels, tau) == expected
    assert torch.allclose(first_run.histogram(items).square().sum(1), torch.ones(60))
    assert torch.allclose(first_run.dhash(items).square().sum(1), torch.ones(60))


def test_the_ablations_options_are_those_of_fit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(PLACE))
    import first_run_ablation as ablation

    options = (ablation.FIRST | ablation.PHOTOS | ablation.DRAWINGS | ablation.LAST).values()
    command = ["fit", str(tmp_path / "none"), "--out", str(tmp_path / "run"), "--minutes", "1"]
    assert main([*command, *shlex.split(" ".join(options))]) == 2  # the parser takes a second, so all at once
    assert "none does not exist" in capsys.readouterr().err


def test_the_engines_of_the_graph_give_the_same_edges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PLACE))
    import graph

    path = tmp_path / "interactions.parquet"
    graph.draw(path, 4_000, 0)
    (ours, facts), (theirs, _) = graph.with_scipy(path), graph.with_duckdb(path)
    assert edges_hash(ours) == edges_hash(theirs)
    assert len(ours) > 500
    assert facts["items"] <= 40
