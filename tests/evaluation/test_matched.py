"""``retrieve`` where names, or a file of pairs, say which items are the same thing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from likewise.config.overrides import settings_from
from likewise.data import Items
from likewise.errors import LikewiseError
from likewise.evaluation.matched import matched, stem
from likewise.evaluation.retrieve import retrieve
from likewise.metrics import retrieval
from likewise.model import Model


def vectors(ids: list[str], seed: int = 0, source: str = "photos") -> Items:
    values = np.random.default_rng(seed).normal(size=(len(ids), 6)).astype(np.float32)
    return Items(ids=tuple(ids), values=values, kind="vectors", source=source)


GALLERY = vectors(["b/1.png", "b/2.png", "b/3.png", "b/9.png", "c/2.jpg"], 0, "gallery")
QUERIES = vectors(["a/3.jpg", "a/1.jpg", "a/2.jpg", "a/7.jpg"], 1, "queries")


def same(gallery: Items, queries: Items) -> list[set[str]]:
    """For each query the ids of the gallery with a common label."""
    names = [
        [{items.label_names[label] for label in np.atleast_1d(each) if label >= 0} for each in items.labels]
        for items in (queries, gallery)
    ]
    return [{id for id, other in zip(gallery.ids, names[1], strict=True) if mine & other} for mine in names[0]]


def test_a_stem_is_the_name_of_a_file_without_folders_and_ending():
    assert [stem(id) for id in ("front/17.png", "17", "a.b/x.tar.gz", "row 7")] == ["17", "17", "x.tar", "row 7"]


def test_the_same_name_in_two_folders_is_the_same_thing():
    gallery, queries = matched("stem", GALLERY, QUERIES)
    assert same(gallery, queries) == [{"b/3.png"}, {"b/1.png"}, {"b/2.png", "c/2.jpg"}, set()]
    alone, none = matched("stem", GALLERY, None)
    assert none is None
    assert same(alone, alone)[1] == {"b/2.png", "c/2.jpg"}


def test_a_file_of_pairs_says_what_matches(tmp_path: Path):
    path = tmp_path / "pairs.csv"
    path.write_text("a,b\na/3.jpg,b/9.png\na/3.jpg,b/1.png\na/7.jpg,b/1.png\n")
    gallery, queries = matched(str(path), GALLERY, QUERIES)
    assert same(gallery, queries) == [{"b/9.png", "b/1.png"}, set(), set(), {"b/1.png"}]
    path.write_text("a,b\nb/1.png,b/9.png\n")
    alone, _ = matched(str(path), GALLERY, None)
    assert same(alone, alone) == [{"b/1.png", "b/9.png"}, set(), set(), {"b/1.png", "b/9.png"}, set()]


@pytest.mark.parametrize("pairs", [False, True])
def test_the_scores_are_those_of_the_matches(pairs: bool, tmp_path: Path):
    path = tmp_path / "pairs.csv"
    path.write_text("a,b\na/3.jpg,b/3.png\na/1.jpg,b/1.png\na/2.jpg,b/2.png\na/2.jpg,c/2.jpg\n")
    model = Model.untrained(settings_from({"encoder": {"name": "mlp", "hidden": 8, "dim": 4}}), GALLERY)
    match, detail = str(path) if pairs else "stem", tmp_path / "tables"
    scores = retrieve(model, gallery=GALLERY, queries=QUERIES, match=match, ks=(1, 2), detail=detail, progress=False)
    by_name = {score.name: score for score in scores}
    found = retrieval(
        model.features(QUERIES), [3, 1, 2, 7], model.features(GALLERY), torch.tensor([1, 2, 3, 9, 2]), ks=(1, 2)
    )
    assert by_name["learned/recall@2"].value == found.recall[2]
    assert by_name["learned/map@r"].value == found.map_at_r
    assert by_name["learned/map@r"].protocol["queries_counted"] == 3
    assert by_name["learned/map@r"].protocol["options"] == f"--match {match} --ks 1,2"
    assert not any(name.split("/")[1] in ("worst-class", "nmi", "auc") for name in by_name)
    assert (detail / "classes.csv").read_text().count("\n") == 1


@pytest.mark.parametrize(
    ("match", "sentence"),
    [
        ("stm", r"--match is 'stm'; it must be stem, or a .csv or .parquet file of pairs. Did you mean 'stem'\?"),
        ("unknown.csv", r"unknown.csv, line 2: 'b/33.png' is no item of the gallery. Did you mean 'b/3.png'\?"),
        ("swapped.csv", r"swapped.csv, line 2: 'b/1.png' is no item of the queries"),
        ("none.csv", r"none.csv holds no pairs"),
        ("alike.csv", r"alike.csv says which pairs are alike; leave only those, and the columns a and b"),
        ("column.csv", r"column.csv has no column 'b'"),
        ("away.csv", r"away.csv does not exist"),
    ],
)
def test_a_wrong_rule_is_said(match: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("unknown.csv").write_text("a,b\na/3.jpg,b/33.png\n")
    Path("swapped.csv").write_text("a,b\nb/1.png,a/1.jpg\n")
    Path("none.csv").write_text("a,b\n")
    Path("alike.csv").write_text("a,b,alike\na/3.jpg,b/3.png,1\n")
    Path("column.csv").write_text("a,c\na/3.jpg,b/3.png\n")
    with pytest.raises(LikewiseError, match=sentence):
        matched(match, GALLERY, QUERIES)


def test_names_that_do_not_match_are_said():
    with pytest.raises(LikewiseError, match=r"no name of queries, such as 'x', is one of gallery, such as '1'"):
        matched("stem", GALLERY, replace(vectors(["x.png", "y.png"]), source="queries"))
    with pytest.raises(LikewiseError, match=r"no two items of queries have the same name"):
        matched("stem", QUERIES, None)
    with pytest.raises(LikewiseError, match=r"each item of queries matches itself alone: queries has the same items"):
        matched("stem", QUERIES, replace(QUERIES))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"measures": ["retrieval", "clusters"]}, r"clusters needs labels, and match gives none"),
        ({"labels": "kind"}, r"match says which items are the same thing; leave labels out"),
        ({"query_labels": "kind"}, r"match says which items are the same thing; leave labels out"),
    ],
)
def test_match_stands_in_the_place_of_labels(given: dict[str, object], sentence: str):
    model = Model.untrained(settings_from({"encoder": {"name": "mlp", "hidden": 8, "dim": 4}}), GALLERY)
    with pytest.raises(LikewiseError, match=sentence):
        retrieve(model, gallery=GALLERY, queries=QUERIES, match="stem", progress=False, **given)  # type: ignore[arg-type]
