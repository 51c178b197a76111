"""What a notebook shows: HTML of models, hits, retrieval, scores and comparisons, with every name escaped."""

import copy
import html
import pickle
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import likewise as lw
from likewise.comparison.table import Outcome, summarise
from likewise.config.settings import EncoderSettings
from likewise.evaluation.retrieve import FILE, retrieve
from likewise.evaluation.scores import save_scores
from likewise.index.hits import SHOWN, Hits, Looks
from likewise.model import Model
from likewise.run_index import renew_index

ODD = '<script>"a"</script>'


class Tags(HTMLParser):
    """The tags of a piece of HTML, and whether every opened one is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        assert not self.opened

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag not in ("img", "rect", "br"):
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag


def shown(value: object) -> str:
    """The HTML of a value, which is whole and has no script."""
    text: str = value._repr_html_()  # type: ignore[attr-defined]
    assert "script" not in Tags(text).tags
    return text


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos of two kinds, an untrained run, its index, and its saved scores."""
    place = tmp_path_factory.mktemp("notebooks")
    random = np.random.default_rng(0)
    for number in range(12):
        folder = place / "photos" / f"{number % 2} & more"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"<b>{number}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIKEWISE_CACHE", str(place / "cache"))
        settings = lw.FitSettings(size=8, encoder=EncoderSettings(dim=4), cache=str(place / "cache"))
        items = lw.open_items(place / "photos", size=8, cache=place / "cache", progress=False)
        (place / "run").mkdir()
        Model.untrained(settings, items).save(place / "run/model.safetensors")
        model = lw.load(place / "run")
        renew_index(model, place / "photos", progress=False)
        scores = retrieve(model, gallery=place / "photos", measures=("retrieval",), progress=False)
        save_scores(place / "run" / FILE, scores)
    return place


def test_hits_are_the_list_that_they_were() -> None:
    index = lw.Index(torch.eye(3), ["a", ODD, "c"])
    hits = index.search([1.0, 0.5, 0.0], 2)
    assert hits == [lw.Hit("a", 1.0), lw.Hit(ODD, 0.5)]
    assert (hits[0].id, len(hits), [hit.score for hit in hits]) == ("a", 2, [1.0, 0.5])
    assert repr(hits) == repr(list(hits))
    assert pickle.loads(pickle.dumps(hits)) == hits
    assert index.search_batch(torch.eye(3)[:1], 1) == [[lw.Hit("a", 1.0)]]
    text = shown(hits)
    assert "<td>&lt;script&gt;&quot;a&quot;&lt;/script&gt;</td><td>0.5000</td>" in text
    many = Hits([lw.Hit(str(number), 0.5) for number in range(SHOWN + 3)])
    assert "and 3 more" in shown(many)
    assert "<tbody></tbody>" in shown(Hits())


def test_hits_become_a_table_of_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    hits = Hits([lw.Hit("a", 1.0), lw.Hit("b", 0.5)])
    table = hits.to_pandas()
    assert table.to_dict("list") == {"id": ["a", "b"], "score": [1.0, 0.5]}
    assert [*Hits().to_pandas()] == ["id", "score"]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(lw.LikewiseError, match="pip install pandas"):
        hits.to_pandas()


def pictures_in(text: str) -> list[str]:
    """The ids of the pictures, in order."""
    return re.findall('alt="(.*?)"', text)


def test_hits_have_the_pictures_of_their_items_where_these_are_known(place: Path) -> None:
    model = lw.load(place / "run")
    index = model.index(place / "photos", progress=False)
    for hits in (index.search(index.ids[2], 3), model.search(index.ids[2], 3)):
        text = shown(hits)
        wanted = [name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for name in hits_of(hits)]
        assert pictures_in(text)[1:] == wanted
        assert 'class="hit query"' in text
        assert f"{hits[0].score:.2f} · ".replace("-", "−") in text
        assert pickle.loads(pickle.dumps(hits)) == copy.deepcopy(hits) == hits
    assert len(pickle.loads(pickle.dumps(index))) == 12
    file = str(place / "photos" / index.ids[2])
    found = index.search(file, 2)
    assert html.unescape(pictures_in(shown(found))[0]) == file
    assert pictures_in(shown(index.search(index.rows[0], 2)))[0] == pictures_in(shown(index.search(index.ids[0], 1)))[0]


def hits_of(hits: list[lw.Hit]) -> list[str]:
    return [hit.id for hit in hits]


def test_hits_are_a_table_where_the_data_are_gone_or_are_vectors() -> None:
    def gone() -> lw.Items:
        raise lw.LikewiseError("gone.")

    vectors = lw.open_items(np.zeros((2, 3), np.float32))
    for look in (Looks(gone), Looks(lambda: vectors)):
        text = shown(Hits([lw.Hit("0", 0.25)], query="1", look=look))
        assert "<td>0</td><td>0.2500</td>" in text
        assert "<img" not in text


def test_data_are_opened_once_and_only_when_they_are_shown() -> None:
    opened = []
    items = lw.open_items(np.zeros((3, 8, 8, 3), np.uint8), size=8, progress=False)

    def open_them() -> lw.Items:
        opened.append(1)
        return items

    hits = Hits([lw.Hit("2", 0.5)], look=Looks(open_them))
    assert hits.to_pandas().shape == (1, 2)
    assert not opened
    assert pictures_in(shown(hits)) == pictures_in(shown(hits)) == ["2"]
    assert len(opened) == 1


def test_a_model_shows_what_it_is_its_scores_and_examples(place: Path) -> None:
    model = lw.load(place / "run")
    text = shown(model)
    assert f"<dd>{model.weights_hash}</dd>" in text
    recall = {score.name: score.value for score in retrieve_saved(place)}["learned/recall@1"]
    assert re.search(f"<td>recall@1</td><td>{recall:.3f}</td><td>", text)
    assert text.count('class="hit query"') == 3
    assert "saved scores" not in shown(Model.untrained(model.settings, model.open(place / "photos", progress=False)))


def retrieve_saved(place: Path) -> list[lw.metrics.Score]:
    from likewise.metrics.saved import read_scores

    return read_scores(place / "run" / FILE)


def test_scores_of_another_model_and_damaged_files_are_said(place: Path, tmp_path: Path) -> None:
    model = lw.load(place / "run")
    model.save(tmp_path / "model.safetensors")
    scores = [
        lw.metrics.Score(name=score.name, value=0.5, protocol={**score.protocol, "model": "other"})
        for score in retrieve_saved(place)
    ]
    save_scores(tmp_path / FILE, scores)
    assert "retrieval.json is of another model" in shown(lw.load(tmp_path))
    (tmp_path / FILE).write_text("[3]")
    assert "retrieval.json is damaged" in shown(lw.load(tmp_path))


def test_retrieval_and_scores_are_tables(place: Path) -> None:
    rows, labels = (
        torch.nn.functional.normalize(torch.randn(30, 4, generator=torch.Generator().manual_seed(0))),
        [0, 1, 2] * 10,
    )
    found = lw.retrieval(rows, labels)
    text = shown(found)
    assert "tensor" not in repr(found)
    assert f"<td>MAP@R</td><td>{100 * found.map_at_r:.1f}</td>" in text
    assert f"<td>{found.worst_class.label}</td><td>10</td><td>{found.worst_class.map_at_r:.1%}</td>" in text
    scores = retrieve(lw.load(place / "run"), gallery=place / "photos", measures=("retrieval",), progress=False)
    assert isinstance(scores, list)
    text = shown(scores)
    assert "<td>Recall@1</td>" in text
    assert "queries_without_relevant" in text


def test_a_comparison_is_a_table_with_its_differences() -> None:
    random = np.random.default_rng(0)

    def outcome(method: str, seed: int, value: float) -> Outcome:
        measures = {"map@r": value, "recall@1": value, "r-precision": value}
        return Outcome(method=method, seed=seed, measures=measures, per_query=random.uniform(size=(3, 20)))

    cells = [outcome("circle", 0, 0.6), outcome(ODD, 0, 0.45)]
    text = shown(summarise(cells, test_labels=np.repeat(np.arange(5), 4), protocol="A <b>."))
    assert "<td>circle</td><td>60.0</td>" in text
    assert "<td>−15.0</td>" in text
    assert "A &lt;b&gt;." in text
