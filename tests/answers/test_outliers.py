"""Outliers and wrong labels: distances and votes against plain loops; planted foreign items; what is refused."""

import csv
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import roc_auc_score

import likewise as lw
from likewise.answers import outliers as module
from likewise.answers.candidates import Neighbours
from likewise.answers.foreign import distances_to, whitening
from likewise.answers.outliers import outliers
from likewise.answers.wrong_labels import votes_of_others
from likewise.cli.main import main
from likewise.config.settings import EncoderSettings
from likewise.data import Items
from likewise.errors import LikewiseError

CLASSES, EACH, FOREIGN = 3, 60, 6


def data(swapped: int = 0) -> tuple[Items, np.ndarray]:
    """Vectors in three clusters, the last six far from all of them; and which labels were swapped."""
    random = np.random.default_rng(0)
    labels = np.arange(CLASSES).repeat(EACH)
    values = 8 * np.eye(8)[labels] + 0.5 * random.normal(size=(len(labels), 8))
    far = 3 * random.normal(size=(FOREIGN, 8)) + np.eye(8)[7] * 6
    wrong = random.permutation(len(labels))[:swapped]
    given = labels.copy()
    given[wrong] = (given[wrong] + 1) % CLASSES
    items = Items(
        ids=tuple(f"<{row}>" for row in range(len(labels) + FOREIGN)),
        values=np.concatenate([values, far]).astype(np.float32),
        kind="vectors",
        labels=np.append(given, np.full(FOREIGN, -1)),
        label_names=("a", "b", "c"),
        source="clusters",
    )
    return items, wrong


def a_model(items: Items) -> lw.Model:
    """An encoder before training."""
    return lw.Model.untrained(lw.FitSettings(encoder=EncoderSettings(name="mlp", hidden=16, dim=8)), items)


def test_distances_are_those_of_a_loop() -> None:
    random = torch.Generator().manual_seed(0)
    rows, reference = torch.randn(9, 5, generator=random), 3 * torch.randn(20, 5, generator=random)
    numbers, others = torch.arange(9), torch.arange(5, 25)
    rows[7] = reference[2]  # item 7 among both
    found, nearest = distances_to(rows, numbers, reference, others, 3)
    for row in range(9):
        far = sorted((math.dist(rows[row].tolist(), reference[m].tolist()), m) for m in range(20) if 5 + m != row)
        assert float(found[row]) == pytest.approx(far[2][0], abs=1e-5)
        assert int(nearest[row]) == far[0][1]


def test_whitened_rows_have_an_equal_spread() -> None:
    rows = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2.0, 3.0]) + 5
    white = whitening(rows)(rows)
    centred = (rows - rows.mean(0)).double()
    values, vectors = np.linalg.eigh((centred.T @ centred / 500).numpy())
    expected = centred.numpy() @ vectors / np.sqrt(values + 0.1 * values.mean())
    assert white.abs().numpy() == pytest.approx(np.abs(expected), abs=1e-4)
    assert torch.isfinite(whitening(torch.ones(4, 3))(torch.ones(4, 3))).all()


def test_votes_are_those_of_a_loop() -> None:
    random = np.random.default_rng(0)
    rows = torch.nn.functional.normalize(torch.from_numpy(random.normal(size=(25, 4))), dim=1).float()
    labels = random.integers(0, 3, 25)
    found = votes_of_others(Neighbours(rows, tuple(map(str, range(25)))), labels, 6)
    cosines = (rows.double() @ rows.double().T).numpy()
    for row in range(25):
        near = sorted((other for other in range(25) if other != row), key=lambda other: -cosines[row, other])[:6]
        votes = [0.0] * 3
        for other in near:
            votes[labels[other]] += math.exp(cosines[row, other] / 0.07)
        assert int(found.expected[row]) == max(range(3), key=votes.__getitem__)
        assert float(found.share[row]) == pytest.approx(max(votes) / sum(votes), abs=1e-4)
        assert float(found.own[row]) == pytest.approx(votes[labels[row]] / sum(votes), abs=1e-4)
    for confidence in (0.01, 0.7):
        expected = [row for row in range(25) if found.expected[row] != labels[row] and found.share[row] >= confidence]
        suspects = found.suspects(labels, confidence).tolist()
        assert sorted(suspects) == expected
        assert [float(found.own[row]) for row in suspects] == sorted(float(found.own[row]) for row in suspects)


def test_foreign_items_are_the_furthest(monkeypatch: pytest.MonkeyPatch) -> None:
    items, _ = data()
    model = a_model(items)
    found = lw.outliers(model, items, progress=False)
    assert found.k == 18
    foreign = np.arange(len(items)) >= CLASSES * EACH
    assert roc_auc_score(foreign, found.distances) > 0.95
    assert np.median(found.distances) == pytest.approx(1)
    first = found.furthest(3)
    assert [each.distance for each in first] == sorted((each.distance for each in found.furthest(9)), reverse=True)[:3]
    assert first[0].id == items.ids[found.order[0]]
    assert found.suspects() == []
    rows = model.features(items, layer="backbone", unit=False)
    lengths = rows.norm(dim=1, keepdim=True)
    assert torch.allclose(rows / lengths, model.features(items, layer="backbone"), atol=1e-6)
    monkeypatch.setattr(module, "REFERENCE", 120)
    monkeypatch.setattr(module, "_BLOCK", 50)
    some = outliers(model, items, progress=False)
    assert roc_auc_score(foreign, some.distances) > 0.95
    assert all(row != near for row, near in enumerate(some.nearest.tolist()))


def test_swapped_labels_are_found() -> None:
    items, wrong = data(swapped=9)
    found = outliers(a_model(items), items, labels="auto", confidence=0.6, progress=False)
    rows = {row for row, _ in found.suspects()}
    assert len(rows & set(wrong.tolist())) >= 8
    assert len(rows) <= 11
    row, first = found.suspects()[0]
    assert first.id == items.ids[row]
    assert first.label == items.label_names[items.labels[row]]  # type: ignore[index]
    assert first.expected != first.label
    assert first.confidence >= 0.6
    assert outliers(a_model(items), items, labels="auto", confidence=1.0, progress=False).suspects() != []


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items, _ = data(swapped=9)
    labels = [["a", "b", "c", ""][label] for label in items.labels]  # type: ignore[union-attr]
    table = {"id": list(items.ids), "v": items.values.tolist(), "label": labels}
    pq.write_table(pa.table(table), tmp_path / "v.parquet")
    (tmp_path / "run").mkdir()
    a_model(items).save(tmp_path / "run" / "model.safetensors")
    out, page = tmp_path / "out.csv", tmp_path / "page.html"
    words = ["outliers", str(tmp_path / "run"), str(tmp_path / "v.parquet"), "-n", "4"]
    assert main([*words, "--labels", "label", "--out", str(out), "--html", str(page)]) == 0
    printed = capsys.readouterr().out
    assert "the furthest is" in printed
    assert "Labels that are likely wrong:" in printed
    with open(out, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(items)
    assert list(rows[0]) == [*("rank", "id", "distance", "nearest", "label", "expected", "confidence", "own_share")]
    assert [row["id"] for row in rows if row["label"] == ""] != []
    assert all(row["confidence"] == "" for row in rows if row["label"] == "")
    far = [float(row["distance"]) for row in rows]
    assert far == sorted(far, reverse=True)
    text = page.read_text(encoding="utf-8")
    assert f"&lt;{rows[0]['id'][1:-1]}&gt;" in text
    assert "Labels that are likely wrong" in text
    for more, sentence in (
        (["-k", "186"], "k=186, but an item has 185 others that are compared with it; give a smaller k."),
        (["-k", "0"], "-k is 0; it must be"),
        (["--confidence", "2"], "--confidence is 2"),
        (["--layer", "heads"], "there is no layer 'heads'"),
        (["--labels", "colour"], "colour"),
        (["--html", str(tmp_path / "page.txt")], "a page is written as .html"),
    ):
        assert main([*words, *more]) == 2
        assert sentence in capsys.readouterr().err


def test_what_outliers_refuses(tmp_path: Path) -> None:
    items, _ = data()
    model = a_model(items)
    with pytest.raises(LikewiseError, match=r"there is no run"):
        outliers(tmp_path / "none", items)
    with pytest.raises(LikewiseError, match=r"holds one item only"):
        outliers(model, items.select([0]))
    with pytest.raises(LikewiseError, match=r"has one label only|has no labels"):
        outliers(model, Items(ids=items.ids, values=items.values, kind="vectors", source="bare"), labels="auto")
    with pytest.raises(LikewiseError, match=r"confidence=0 must be above 0"):
        outliers(model, items, confidence=0)
    with pytest.raises(LikewiseError, match=r"count=0 must be at least 1"):
        outliers(model, items, progress=False).furthest(0)
