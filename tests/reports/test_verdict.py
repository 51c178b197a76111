"""The verdict of a report: the final state in plain words, worse than raw pixels first, and what to try next."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from likewise.config.overrides import settings_from
from likewise.data import Items
from likewise.evaluation.retrieve import FILE, retrieve
from likewise.evaluation.scores import save_scores
from likewise.metrics import Score
from likewise.reports.html import write_report
from likewise.reports.verdict import (
    Evidence,
    Pair,
    judge,
    nearest_pairs,
    saved_pairs,
    shared_neighbours,
)
from likewise.training.fit import fit
from likewise.training.health import Health
from likewise.training.supervision import advice_on_labels

WELL = Health(loss=2.0, chance=5.0, rank=40.0, spread=0.9, most=128)
NONE = Evidence(
    settings=settings_from({"epochs": 20}),
    raw="raw pixels",
    health=WELL,
    by_labels=(),
    seen=False,
    of_views=Pair("a random view finds its item", 0.8, 0.3),
    shared=(0.3, 0.01),
    method=None,
    said="",
)
WORSE = replace(NONE, by_labels=[Pair("Recall@1", 0.16, 0.209)], method="normface")
NUMBERS = "(Recall@1: learned 16.0%, raw pixels 20.9%)"


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (WORSE, f"The embedding is worse than raw pixels {NUMBERS}."),
        (replace(WORSE, health=replace(WELL, loss=5.2)), f"The embedding is worse than raw pixels {NUMBERS}."),
        (replace(WORSE, by_labels=[Pair("Recall@1", 0.3, 0.2)]), "The embedding is better than raw pixels (Recall@1"),
        (replace(WORSE, by_labels=[Pair("Recall@1", 0.3, 0.3)]), "The embedding is about as good as raw pixels ("),
        (NONE, "The embedding has learned its task (a random view finds its item: learned 80.0%, raw pixels 30.0%)."),
        (replace(WORSE, by_labels=[Pair("nearest", 0.2, 0.16, 0.1)]), "The embedding is about as good as raw pixels ("),
        (replace(WORSE, by_labels=[Pair("nearest", 0.1, 0.16, 0.1)]), "The embedding is about as good as raw pixels ("),
        (replace(NONE, of_views=Pair("views", 0.2, 0.3)), "The embedding is worse than raw pixels (views: learned 20"),
        (replace(NONE, of_views=Pair("views", 0.3, 0.3)), "The embedding is no better than raw pixels (views: learned"),
        (replace(NONE, health=replace(WELL, loss=4.99)), "Nothing was learned: the loss ended at 4.990, and chance is"),
        (replace(NONE, health=replace(WELL, rank=1.0)), "The training failed by collapse: all items get nearly the"),
        (
            replace(NONE, settings=settings_from({"alike": "pairs"}), of_views=Pair("views", 0.2, 0.3)),
            "Nothing says whether the embedding is better than raw pixels: the items have no labels.",
        ),
    ],
)
def test_the_sentence_is_of_the_final_state(found: Evidence, sentence: str) -> None:
    assert judge(found).sentence.startswith(sentence)


def advice(found: Evidence) -> str:
    return " ".join(judge(found).advice)


def test_the_advice_fits_what_was_found() -> None:
    assert "--views.crop_scale 0.5,1 --views.flip 0 --views.grayscale 0 --views.jitter 0" in advice(WORSE)
    assert "--method normface" in advice(WORSE)
    assert "more --epochs than 20" in advice(WORSE)
    mild = settings_from({"views.crop_scale": (0.5, 1.0), "views.flip": 0.0, "views.jitter": 0.0}, NONE.settings)
    assert ": --views.grayscale 0." in advice(replace(WORSE, settings=mild))
    assert "Milder" not in advice(replace(WORSE, raw="raw vectors"))
    assert "--optim.lr 0.01." in advice(replace(NONE, health=replace(WELL, rank=1.0)))
    assert "likewise evaluate RUN --train LABELLED" in advice(NONE)
    better = replace(WORSE, by_labels=[Pair("Recall@1", 0.5, 0.2)], settings=settings_from({"alike": "label"}))
    assert advice(better) == "Use it: likewise index RUN DATA, then likewise search RUN QUERY."
    assert "likewise retrieve RUN --gallery OTHER" in advice(replace(better, seen=True))
    assert any("flatter it" in line for line in judge(replace(better, seen=True)).signs)


def test_saved_scores_and_neighbours_are_the_evidence() -> None:
    values = {"raw/knn": 0.4, "learned/knn": 0.5, "raw/map@r": 0.1, "learned/map@r": 0.2, "learned/recall@1": 0.9}
    scores = [Score(name=name, value=value, protocol={"k": 1}) for name, value in values.items()]
    assert saved_pairs(scores) == [Pair("weighted kNN", 0.5, 0.4), Pair("MAP@R", 0.2, 0.1)]
    rows = torch.nn.functional.normalize(torch.randn(40, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    other = torch.nn.functional.normalize(torch.randn(40, 5, generator=torch.Generator().manual_seed(1)), dim=1)
    near = [set((each @ each.T - 2 * torch.eye(40)).topk(10).indices[0].tolist()) for each in (rows, other)]
    shares = [shared_neighbours(rows, each, lambda share: None) for each in (rows, other)]
    assert shares[0] == (1.0, 10 / 39)
    assert len(near[0] & near[1]) < 10
    assert 0.1 < shares[1][0] < 0.5
    labels = np.arange(40) % 2
    items = Items(
        ids=tuple(map(str, range(40))), values=rows.numpy(), kind="vectors", labels=labels, label_names=("a", "b")
    )
    right = (rows @ rows.T - 2 * torch.eye(40)).argmax(1).numpy() % 2 == labels
    (pair,) = nearest_pairs(items, rows, other)
    assert pair.learned == pytest.approx(right.mean())
    assert nearest_pairs(replace(items, labels=None, label_names=()), rows, other) == []


def test_the_report_begins_with_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
    labels = np.arange(24, dtype=np.int64) % 2
    names = tuple(map(str, range(24)))
    items = Items(
        ids=names, values=pixels, kind="images", labels=labels, label_names=("even", "odd"), source="pictures"
    )
    settings = settings_from({"size": 16, "encoder.dim": 8, "epochs": 1, "batch_size": 8})
    model = fit(items, out=tmp_path / "run", settings=settings)
    assert "advice: the items have 2 labels, which only measure here; --method normface" in capsys.readouterr().err
    page = write_report(tmp_path / "run", items=items).read_text()
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("verdict: The ")
    assert said[1].startswith("next: ")
    first = verdict_in(page)
    assert first.startswith(f'Verdict</h2><p class="verdict"><strong>{said[0].removeprefix("verdict: ")}')
    assert "What to try next" in first
    assert "nearest item of the same label, among 24 items" in first
    save_scores(tmp_path / "run" / FILE, retrieve(model, gallery=items, progress=False))
    page = write_report(tmp_path / "run", items=items, progress=False).read_text()
    assert "Recall@1: learned " in verdict_in(page)
    assert capsys.readouterr().err == ""
    without = replace(items, labels=None, label_names=())
    page = write_report(tmp_path / "run", items=without, data=None).read_text()
    assert "a random view" in verdict_in(page).lower()


def verdict_in(page: str) -> str:
    """The first section."""
    return page.split("<h2>")[1]


def test_labels_are_advised_only_where_they_say_what_is_alike() -> None:
    def said(labels: np.ndarray | None, names: int, **settings: object) -> str:
        shown = tuple(map(str, range(names)))
        values = np.zeros((8, 2), np.float32)
        items = Items(ids=tuple("abcdefgh"), values=values, kind="vectors", labels=labels, label_names=shown)
        return "".join(advice_on_labels(settings_from(settings), items))

    assert "8 items" not in said(np.arange(8) % 4, 4)
    assert "--method normface trains with them (--alike label)." in said(np.arange(8) % 4, 4)
    assert "--method ms" in said(np.arange(16).reshape(8, 2) % 4, 4)
    assert said(np.arange(8) % 4, 4, alike="label") == ""
    assert said(np.arange(8), 8) == said(np.zeros(8, int), 1) == said(None, 0) == ""


def test_a_difference_among_few_items_may_be_chance() -> None:
    random = np.random.default_rng(0)
    for count, least in ((20, 0.1), (1000, 0.02)):
        labels = np.arange(count) % 2
        items = Items(
            ids=tuple(map(str, range(count))),
            values=np.zeros((count, 2), np.float32),
            kind="vectors",
            labels=labels,
            label_names=("a", "b"),
        )
        rows = [torch.nn.functional.normalize(torch.from_numpy(random.normal(size=(count, 8)))).float() for _ in "ab"]
        hits = []
        for each in rows:  # the nearest other item of each, by a plain product
            near = (each @ each.T - 2 * torch.eye(count)).argmax(1).numpy()
            hits.append((labels[near] == labels).astype(float))
        (pair,) = nearest_pairs(items, *rows)
        assert pair.learned - pair.raw == pytest.approx((hits[0] - hits[1]).mean())
        assert pair.least == pytest.approx(2 * (hits[0] - hits[1]).std() / count**0.5)
        assert pair.least > least
