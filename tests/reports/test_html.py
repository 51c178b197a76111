"""The report's pairs that an embedding gets most wrong, and its tables."""

import re
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

from likewise.config.overrides import settings_from
from likewise.config.settings import FitSettings
from likewise.data import Items
from likewise.evaluation.retrieve import DETAIL, FILE, retrieve
from likewise.evaluation.scores import save_scores
from likewise.metrics import retrieval
from likewise.reports import mistakes
from likewise.reports.html import write_report
from likewise.reports.mistakes import OfClass, by_class, classes_of, looked_up, wrong_pairs
from likewise.reports.summary import TAUGHT_BY
from likewise.training.fit import fit


def pictures(n: int = 24) -> Items:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
    return Items(
        ids=tuple(f"picture <{row}>" for row in range(n)),
        values=pixels,
        kind="images",
        labels=np.arange(n, dtype=np.int64) % 2,
        label_names=("even & flat", "odd"),
        source="pictures",
    )


def circle(angles: list[float]) -> torch.Tensor:
    turns = torch.tensor(angles) * torch.pi / 180
    return torch.stack([turns.cos(), turns.sin()], 1)


ANGLES = [0.0, 10.0, 11.0, 90.0, 180.0, 200.0]  # rows 1 and 2 are near, 0 and 4 of one label far
LABELS = np.array([0, 0, 1, 1, 0, 1])


def pairs_of(items: Items, rows: torch.Tensor) -> str:
    found = looked_up(items, rows)
    return found if isinstance(found, str) else wrong_pairs(items, found)


def test_the_wrong_pairs_are_shown_with_pictures_labels_and_cosines() -> None:
    items = replace(pictures(6), labels=LABELS)
    page = pairs_of(items, circle(ANGLES))
    near, far = page.split("<h3>")[1:]
    assert "Different labels, nearest to each other" in near
    assert "The same label, furthest apart" in far
    first = near.partition('<div class="row">')[2].partition("</div>")[0]
    assert first.count("<img") == 2
    assert 'title="picture &lt;1&gt;"' in first
    assert 'title="picture &lt;2&gt;"' in first
    assert re.search(r'<figure class="hit query">.*</span>even &amp; flat</figcaption>', first)
    assert re.search(r'<figure class="hit wrong">.*another label: </span><b .*>✗</b> 1.00 · odd</figcaption>', first)
    first = far.partition('<div class="row">')[2].partition("</div>")[0]
    assert 'title="picture &lt;0&gt;"' in first
    assert 'title="picture &lt;4&gt;"' in first
    assert "−1.00 · even &amp; flat" in first
    assert "wrong" not in first
    found = retrieval(circle(ANGLES), torch.from_numpy(LABELS))
    assert f"MAP@R {found.map_at_r:.1%}" in page
    assert "6 items looked up among 6" in page


def test_the_weakest_label_comes_first_with_its_own_figures() -> None:
    items = replace(pictures(6), labels=LABELS)
    found = looked_up(items, circle(ANGLES))
    assert not isinstance(found, str)
    classes = classes_of(items, found)
    wanted = retrieval(circle(ANGLES), torch.from_numpy(LABELS))
    assert min(each.map_at_r for each in classes) == wanted.worst_class.map_at_r
    many = [OfClass(f"<{number}>", 1, number / 100) for number in range(60, 20, -1)]
    page = by_class(many, "Measured so.", "All: there.")
    shown = re.findall(r"<tr><td>&lt;(\d+)&gt;</td><td>1</td><td>([\d.]+)%", page)
    assert shown == [(str(number), f"{number}.0") for number in range(21, 41)]
    assert "20 stronger labels are left out; the strongest, &lt;60&gt;: 60.0%. All: there." in page


def test_items_without_a_label_are_neither_shown_nor_counted() -> None:
    labels = LABELS.copy()
    labels[1] = -1
    page = pairs_of(replace(pictures(6), labels=labels), circle(ANGLES))
    assert "5 items looked up among 5" in page
    assert "picture &lt;1&gt;" not in page


def test_some_are_looked_up_among_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mistakes, "some_of", lambda count: torch.tensor([0, 5]))
    page = pairs_of(replace(pictures(6), labels=LABELS), circle(ANGLES))
    assert "2 items looked up among 6" in page
    assert set(re.findall(r'<figure class="hit query"><img[^>]* alt="picture &lt;(\d)&gt;"', page)) == {"0", "5"}


def test_vectors_have_names_for_pictures_and_several_labels_are_all_named() -> None:
    several = np.stack([LABELS, np.full(6, 2)], 1)
    several[:, 1][[2, 3]] = -1
    items = replace(
        pictures(6), kind="vectors", values=np.zeros((6, 2), np.float32), labels=several, label_names=("a", "b", "c<")
    )
    page = pairs_of(items, circle(ANGLES))
    assert "<img" not in page
    assert '<p class="word">picture &lt;1&gt; (a, c&lt;)</p>' in page
    assert "<li>1.00 · picture &lt;2&gt; (b) <b" in page


def test_without_labels_or_with_labels_of_one_item_the_report_says_why_nothing_is_shown() -> None:
    items = pictures(3)
    rows = circle([0.0, 10.0, 20.0])
    assert "The items have no labels" in pairs_of(replace(items, labels=None, label_names=()), rows)
    alone = replace(items, labels=np.arange(3), label_names=("a", "b", "c"))
    assert "No label has two items" in pairs_of(alone, rows)
    unknown = replace(items, labels=np.full(3, -1))
    assert "No label has two items" in pairs_of(unknown, rows)


def test_the_report_has_the_section_and_the_table_of_retrieval(tmp_path: Path) -> None:
    settings = settings_from({"size": 16, "encoder.dim": 8, "epochs": 1, "batch_size": 8})
    items, run = pictures(8), tmp_path / "run"
    model = fit(items, out=run, settings=settings, progress=False)
    page = write_report(run, model=model, items=items).read_text()
    assert "Not measured yet" in page
    order = ["Verdict", "What was done", "How good it is", "Label by label", "Learning curves", "Map"]
    order += ["Nearest neighbours", "Pairs it gets most wrong", "Every setting"]
    assert re.findall("<h2>(.*?)</h2>", page) == order
    save_scores(run / FILE, retrieve(model, gallery=items, progress=False))
    page = write_report(run, model=model, items=items).read_text()
    assert "Not measured yet" not in page
    assert "<td>Recall@8</td>" in page
    assert "queries_without_relevant" in page
    assert "weighted kNN" not in page
    assert "picture <" not in page


@pytest.mark.parametrize("method", ["facenet", "circle", "arcface", "contrastive", "moco"])
def test_every_sort_of_method_has_its_report(method: str, tmp_path: Path) -> None:
    """A loss without a chance level has no such line, and what taught is said as it was."""
    settings = {"size": 16, "encoder.dim": 8, "epochs": 1, "batch_size": 8, "encoder.bn_groups": 1, "queue.size": 16}
    settings["sampler.per_class"] = 4
    items = pictures(16)
    fit(items, out=tmp_path / "run", method=method, settings=settings, progress=False)
    page = write_report(tmp_path / "run", items=items).read_text()
    assert ("no label used to train" in page) == (method == "moco")
    assert ("trained with their labels" in page) == (method != "moco")
    assert ("temperature 0.07" in page) == (method == "moco")


def test_the_report_of_items_with_several_labels(tmp_path: Path) -> None:
    labels = np.stack([np.arange(16) % 2, np.where(np.arange(16) % 3, -1, 2)], 1)
    items = replace(pictures(16), labels=labels, label_names=("even & flat", "odd", "third"))
    settings = {"size": 16, "encoder.dim": 8, "epochs": 1, "batch_size": 8}
    fit(items, out=tmp_path / "run", method="contrastive", settings=settings, progress=False)
    assert "<h2>Map</h2>" in write_report(tmp_path / "run", items=items).read_text()


def test_the_report_shows_the_curve_the_weakest_classes_and_wrong_pairs_of_a_gallery(tmp_path: Path) -> None:
    settings = settings_from({"size": 16, "encoder.dim": 8, "epochs": 1, "batch_size": 8})
    items, run = pictures(), tmp_path / "run"
    model = fit(items, out=run, settings=settings, progress=False)
    save_scores(run / FILE, retrieve(model, gallery=items, detail=run / DETAIL, progress=False))
    page = write_report(run, model=model, items=items).read_text()
    assert "By likewise retrieve, in its gallery. Weakest first." in page
    assert "<td>even &amp; flat</td>" in page
    assert "Nearest different, by id" in page
    assert "<li>picture &lt;" in page
    said = re.findall(r"<desc[^>]*>([^<]*)</desc>", page)
    assert [text.partition(" ")[0] for text in said] == ["Alike", "loss", "effective", "kNN"]


def test_the_report_of_one_item(tmp_path: Path) -> None:
    settings = {"size": 16, "encoder.dim": 8, "epochs": 1, "batch_size": 8}
    items = pictures(8)
    fit(items, out=tmp_path / "run", settings=settings, progress=False)
    page = write_report(tmp_path / "run", items=items.select([3]), progress=False).read_text()
    for text in ("There is one item only, so nothing says", "it has no neighbours", "too few items for a map"):
        assert text in page


def test_the_report_says_for_each_kind_of_run_what_taught_it() -> None:
    of_words = {"window"}  # their report is another one
    assert set(TAUGHT_BY) | of_words == set(get_args(get_type_hints(FitSettings)["alike"]))
