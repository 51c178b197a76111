"""``retrieve``: classes that training never saw, labels matched by name, scores with their protocol."""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from likewise.config.overrides import settings_from
from likewise.config.settings import FitSettings
from likewise.data import Items
from likewise.errors import LikewiseError
from likewise.evaluation.classify import Protocol, evaluate
from likewise.evaluation.labelled_items import describe_copies, labelled
from likewise.evaluation.retrieve import drawn_pairs, matched_labels, print_retrieval_table, retrieval_table, retrieve
from likewise.evaluation.scores import save_scores
from likewise.metrics import Score, clustering, random_pairs, retrieval, verification
from likewise.model import Model

PLAIN: FitSettings = settings_from({"encoder": {"name": "mlp", "head": "none", "centre": False}, "epochs": 1})


def blobs(n: int = 60, *, seed: int = 0, noise: float = 0.3, names: tuple[str, ...] = ("a", "b", "c")) -> Items:
    """Vectors around the corners of a simplex, one corner for each name, in turn."""
    labels = np.arange(n) % len(names)
    corner = np.array([ord(name[0]) - ord("a") for name in names])
    rows = 3 * np.eye(6)[corner[labels]] + noise * np.random.default_rng(seed).normal(size=(n, 6))
    return Items(
        ids=tuple(f"{seed}-{row}" for row in range(n)),
        values=rows.astype(np.float32),
        kind="vectors",
        labels=labels.astype(np.int64),
        label_names=names,
        source=f"blobs {seed}",
    )


def plain_model(items: Items) -> Model:
    """An embedding that is the standardised vectors themselves, made unit rows."""
    model = Model.untrained(PLAIN, items, backbone=nn.Sequential(nn.Linear(6, 6, bias=False)))
    nn.init.eye_(model.embedder.backbone[0].weight)  # type: ignore[index, arg-type]
    return model


def by_name(scores: list[Score]) -> dict[str, Score]:
    return {score.name: score for score in scores}


def test_every_measure_of_every_representation_is_that_of_its_function() -> None:
    items = blobs(90, noise=1.5)
    model = Model.untrained(settings_from({"encoder": {"name": "mlp", "hidden": 8, "dim": 4}}), items)
    with torch.no_grad():
        for weight in model.embedder.parameters():
            weight.mul_(torch.linspace(0.5, 1.5, weight.shape[-1]))
    scores = by_name(retrieve(model, gallery=items, ks=(1, 3), seeds=(4, 5), progress=False))
    measures = ["recall@1", "recall@3", "r-precision", "map@r", "map", "mrr", "worst-class", "hub-skew", "anti-hubs"]
    measures += ["nmi", "ami", "accuracy", "auc", "tar@0.1", "tar@0.01", "tar@0.001"]
    assert list(scores) == [f"{kind}/{name}" for kind in ("raw", "untrained", "learned") for name in measures]
    rows, labels = model.features(items), torch.from_numpy(np.asarray(items.labels))
    found = retrieval(rows, labels, ks=(1, 3))
    assert scores["learned/recall@3"].value == found.recall[3]
    assert scores["learned/map@r"].value == found.map_at_r
    assert scores["learned/map"].value == found.mean_average_precision
    assert scores["learned/mrr"].value == found.mrr
    assert scores["learned/r-precision"].value == found.r_precision
    assert scores["learned/worst-class"].value == found.worst_class.map_at_r
    assert scores["learned/worst-class"].protocol["class"] == items.label_names[found.worst_class.label]
    assert scores["learned/hub-skew"].value == found.hubness.skewness
    assert scores["learned/anti-hubs"].value == found.hubness.anti_hubs
    groups = clustering(rows, labels, seeds=(4, 5))
    assert (scores["learned/nmi"].value, scores["learned/nmi"].std) == (groups.nmi, groups.nmi_std)
    assert (scores["learned/ami"].value, scores["learned/ami"].std) == (groups.ami, groups.ami_std)
    pairs = verification(rows, *random_pairs(labels, 2610, seed=4))  # all alike pairs there are
    assert scores["learned/accuracy"].value == pairs.accuracy
    assert scores["learned/accuracy"].protocol["standard_error"] == pairs.standard_error
    assert scores["learned/auc"].value == pairs.auc
    assert scores["learned/tar@0.01"].value == pairs.tar_at_far[0.01]
    assert scores["untrained/map"].value != scores["learned/map"].value
    assert scores["raw/map"].value != scores["learned/map"].value


def test_the_protocol_says_all_that_is_needed() -> None:
    gallery, queries = blobs(30), blobs(12, seed=1)
    model = plain_model(gallery)
    for name, score in by_name(retrieve(model, gallery=gallery, queries=queries, progress=False)).items():
        protocol = score.protocol
        assert (protocol["gallery"], protocol["queries"]) == ("blobs 0", "blobs 1")
        assert (protocol["gallery_items"], protocol["query_items"]) == (30, 12)
        assert (protocol["gallery_ids_hash"], protocol["query_ids_hash"]) == (gallery.ids_hash, queries.ids_hash)
        assert protocol["layer"] == ("standardised vectors" if name.startswith("raw/") else "embedding")
        kind = name.partition("/")[2].partition("@")[0]
        if kind in ("recall", "map", "mrr", "r-precision", "worst-class", "hub-skew", "anti-hubs"):
            assert (protocol["queries_counted"], protocol["queries_without_relevant"]) == (12, 0)
            assert protocol["ties"] == "by gallery row"
        if kind in ("nmi", "ami"):
            assert (protocol["clusters"], protocol["seeds"]) == (3, "0,1,2")
        if kind in ("accuracy", "auc", "tar"):
            assert (protocol["pairs"], protocol["pairs_alike"], protocol["pairs_seed"]) == (270, 135, 0)
    alone = retrieve(model, gallery=gallery, progress=False)
    assert {score.protocol["queries"] for score in alone} == {"gallery, each left out"}


def test_classes_that_training_never_saw() -> None:
    train, unseen = blobs(30), blobs(30, seed=1, names=("d", "e", "f"))
    model = plain_model(train)
    model.vector_mean, model.vector_std = torch.zeros(6), torch.ones(6)
    scores = by_name(retrieve(model, gallery=unseen, progress=False))
    assert scores["learned/recall@1"].value == 1.0
    with pytest.raises(LikewiseError, match="has labels that blobs 0 lacks: d, e, f"):
        evaluate(model, train=train, test=unseen, progress=False)


def test_labels_are_matched_by_name_and_those_unknown_to_the_gallery_do_not_count() -> None:
    gallery, queries = blobs(30, names=("a", "b", "c")), blobs(20, seed=1, names=("c", "f", "a", "b"))
    names, labels = matched_labels(gallery, queries)
    assert names == ("a", "b", "c", "f")
    assert labels.tolist() == [2, 3, 0, 1] * 5
    several = replace(queries, labels=np.array([[0, -1], [3, 1]] * 10))
    assert matched_labels(gallery, several)[1].tolist() == [[2, -1], [1, 3]] * 10
    scores = by_name(retrieve(plain_model(gallery), gallery=gallery, queries=queries, progress=False))
    assert scores["raw/recall@1"].value == 1.0
    assert scores["raw/recall@1"].protocol["queries_counted"] == 15
    assert scores["raw/recall@1"].protocol["queries_without_relevant"] == 5
    other = replace(queries, label_names=("p", "q", "r", "s"))
    with pytest.raises(LikewiseError, match="none of the 20 queries has another item of its label"):
        retrieve(plain_model(gallery), gallery=gallery, queries=other, progress=False)


def test_an_item_that_is_query_and_gallery_never_finds_itself() -> None:
    corners = np.repeat(np.eye(8, dtype=np.float32), 2, axis=0)  # pairs of equal rows with different labels
    items = Items(
        ids=tuple(map(str, range(16))),
        values=corners,
        kind="vectors",
        labels=np.arange(16, dtype=np.int64) % 2,
        label_names=("0", "1"),
        source="pairs",
    )
    model = Model.untrained(PLAIN, items, backbone=nn.Linear(8, 8))
    for queries in (None, items, items.select(range(16))):
        scores = by_name(retrieve(model, gallery=items, queries=queries, progress=False))
        assert scores["raw/recall@1"].value == 0.0
    renamed = replace(items, ids=tuple(f"other {row}" for row in range(16)))
    scores = by_name(retrieve(model, gallery=items, queries=renamed, progress=False))
    assert scores["raw/recall@1"].value == 0.5  # the first of each pair finds itself


def test_several_labels_per_item_have_retrieval_alone() -> None:
    items = blobs(30)
    single = np.asarray(items.labels)
    several = replace(
        items,
        labels=np.stack([single, np.where(single == 2, -1, 3)], 1),
        label_names=("a", "b", "c", "not c"),
    )
    none = several.labels.copy()  # type: ignore[union-attr]
    none[4] = -1
    assert len(labelled(replace(several, labels=none))) == 29
    scores = by_name(retrieve(plain_model(items), gallery=several, progress=False))
    assert not any(name.endswith(("nmi", "ami", "auc", "accuracy")) for name in scores)
    assert scores["raw/worst-class"].protocol["class"] in several.label_names
    assert scores["raw/map@r"].value < 1  # a and b share a label but lie apart
    with pytest.raises(LikewiseError, match="several labels per item, and classifiers need one"):
        evaluate(plain_model(items), train=several, progress=False)


def kinds(scores: Sequence[Score]) -> set[str]:
    """Which of the measures the scores are of."""
    names = {score.name.partition("/")[2] for score in scores}
    signs = {"retrieval": "recall@1", "clusters": "nmi", "verification": "auc"}
    return {kind for kind, name in signs.items() if name in names}


def test_measures_are_chosen_and_few_pairs_leave_themselves_out(capsys: pytest.CaptureFixture[str]) -> None:
    items = blobs(30)
    model = plain_model(items)
    assert kinds(retrieve(model, gallery=items)) == {"retrieval", "clusters", "verification"}
    for asked in (["retrieval"], ["clusters", "verification"]):
        scores = retrieve(model, gallery=items, measures=asked)
        assert kinds(scores) == set(asked)
        assert scores[0].protocol["options"] == f"--measures {','.join(asked)}"
    assert capsys.readouterr().err == ""
    assert kinds(retrieve(model, gallery=items.select(range(12)), progress=False)) == {"retrieval", "clusters"}


def test_clusters_of_few_items_are_left_out_with_a_line_unless_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    few = blobs(30).select(range(9))
    model = plain_model(few)
    assert kinds(retrieve(model, gallery=few)) == {"retrieval"}
    said = "clusters: left out, for a label has 3.0 items on average; --measures clusters computes them.\n"
    assert capsys.readouterr().err == said
    assert kinds(retrieve(model, gallery=few, measures=("retrieval", "clusters"))) == {"retrieval", "clusters"}
    assert capsys.readouterr().err == ""


def test_a_measure_that_is_unknown_or_impossible_is_one_sentence() -> None:
    items = blobs(30)
    model = plain_model(items)
    known = "Did you mean 'clusters'? Known: retrieval, clusters, verification."
    with pytest.raises(LikewiseError, match=re.escape(f"there is no measure 'cluster'. {known}")):
        retrieve(model, gallery=items, measures=["cluster"])
    with pytest.raises(LikewiseError, match=r"Did you mean 'probe'\? Known: knn, svm, probe, few-labels"):
        evaluate(model, train=items, protocol=Protocol(measures=("knn", "prob")))
    with pytest.raises(LikewiseError, match="svm, probe: without test items only knn is measured; give test"):
        evaluate(model, train=items, protocol=Protocol(measures=("svm", "probe")))
    several = replace(items, labels=np.zeros((30, 2), np.int64))
    with pytest.raises(LikewiseError, match="several labels per item, and verification needs one"):
        retrieve(model, gallery=several, measures=["retrieval", "verification"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": None, "label_names": ()}, "blobs 0 has no labels"),
        ({"labels": np.zeros(9, np.int64), "label_names": ("a",)}, "blobs 0 has one label only"),
    ],
)
def test_items_without_two_labels_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(LikewiseError, match=message):
        retrieve(plain_model(blobs(9)), gallery=replace(blobs(9), **change), progress=False)


def test_the_table_in_words(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    about: dict[str, str | int | float] = {"layer": "embedding"}
    scores = [
        Score(name="raw/recall@4", value=0.5, protocol=about),
        Score(name="learned/recall@4", value=0.876, protocol=about),
        Score(name="learned/map@r", value=0.25, protocol=about),
        Score(name="learned/map", value=0.3, protocol=about),
        Score(name="learned/hub-skew", value=1.234, protocol=about),
        Score(name="learned/nmi", value=0.5, std=0.01, protocol=about),
        Score(name="learned/accuracy", value=0.9, protocol={**about, "standard_error": 0.005}),
        Score(name="learned/tar@0.001", value=math.nan, protocol=about),
    ]
    header, rows = retrieval_table(scores)
    assert header == ["%", "raw", "learned"]
    assert rows == [
        ["Recall@4", "50.0", "87.6"],
        ["MAP@R", "", "25.0"],
        ["mAP of the full ranking", "", "30.0"],
        ["hubs: skewness (no %)", "", "1.23"],
        ["clusters: NMI", "", "50.0 ± 1.0"],
        ["verification: accuracy", "", "90.0 ± 0.5"],
        ["verification: TAR at FAR 0.001", "", "too few pairs"],
    ]
    print_retrieval_table(scores)
    assert "Recall@4" in capsys.readouterr().out
    save_scores(tmp_path / "scores.json", scores)


def test_items_of_the_gallery_under_other_names_are_counted_and_said() -> None:
    gallery = blobs(30)
    renamed = replace(gallery.select(np.arange(5)), ids=tuple(f"new {row}" for row in range(5)), source="renamed")
    model = plain_model(gallery)
    found = retrieve(model, gallery=gallery, queries=renamed, progress=False)
    assert {score.protocol["copies"] for score in found} == {5}
    assert describe_copies(found).startswith(
        "5 of the items looked up are also among the items searched, with another id"
    )
    same = retrieve(model, gallery=gallery, queries=gallery.select(np.arange(5)), progress=False)
    assert {score.protocol["copies"] for score in same} == {0}
    assert describe_copies(same) == ""
    assert evaluate(model, train=gallery, test=renamed, progress=False)[0].protocol["copies"] == 5


def test_queries_of_one_label_are_looked_up() -> None:
    gallery, queries = blobs(30), blobs(30, seed=1).select(np.arange(0, 30, 3))
    one = replace(queries, label_names=("a",), labels=np.zeros(10, dtype=np.int64))
    scores = by_name(retrieve(plain_model(gallery), gallery=gallery, queries=one, progress=False))
    assert scores["raw/recall@1"].value == 1.0
    none = replace(queries, label_names=(), labels=None)
    with pytest.raises(LikewiseError, match="blobs 1 has no labels, so there is nothing to tell apart"):
        retrieve(plain_model(gallery), gallery=gallery, queries=none, progress=False)


def test_folds_of_verification_share_no_label_where_there_are_enough() -> None:
    many = blobs(200, names=tuple("abcdef"[n % 6] + str(n) for n in range(40)))
    model = plain_model(many)
    protocols = by_name(retrieve(model, gallery=many, progress=False))["learned/accuracy"].protocol
    assert protocols["folds_share_labels"] == "no"
    few = by_name(retrieve(plain_model(blobs()), gallery=blobs(), progress=False))
    assert few["learned/accuracy"].protocol["folds_share_labels"] == "yes, there are too few labels"


def test_classes_wrong_pairs_and_the_curve_are_written(tmp_path: Path) -> None:
    items = blobs(60, noise=1.5)
    model = plain_model(items)
    scores = by_name(retrieve(model, gallery=items, detail=tmp_path / "detail", progress=False))
    tables = {}
    for name in ("classes", "wrong", "roc"):
        with (tmp_path / "detail" / f"{name}.csv").open(newline="") as file:
            tables[name] = list(csv.DictReader(file))
    found = retrieval(model.features(items), torch.from_numpy(np.asarray(items.labels)), worst=100)
    classes = [row for row in tables["classes"] if row["representation"] == "learned"]
    assert [row["class"] for row in classes] == ["a", "b", "c"]
    assert [float(row["map@r"]) for row in classes] == found.per_class.map_at_r.tolist()
    wrong = [(row["query"], row["gallery"]) for row in tables["wrong"] if row["sort"] == "nearest different"]
    assert wrong == [(items.ids[pair.query], items.ids[pair.gallery]) for pair in found.nearest_different]
    curve = [row for row in tables["roc"] if row["representation"] == "learned"]
    x, y = ([float(row[f"{kind}_positive_rate"]) for row in curve] for kind in ("false", "true"))
    assert np.trapezoid(y, x) == pytest.approx(scores["learned/auc"].value, abs=2e-3)
    assert (x[0], x[-1], y[-1]) == (0.0, 1.0, 1.0)


def test_pairs_of_few_labels_are_drawn_without_folds_of_labels() -> None:
    """Ten folds that share no label take more labels than three."""
    labels = torch.arange(60) % 3
    found = drawn_pairs(labels, 200, 0)
    assert found is not None
    pairs, same, folds = found
    assert folds == 10
    assert torch.equal(same, labels[pairs[:, 0]] == labels[pairs[:, 1]])
    assert int(same.sum()) * 2 == len(pairs) == 200
    assert drawn_pairs(torch.arange(5), 200, 0) is None


def test_the_folder_of_a_run_is_measured_as_its_model(tmp_path: Path) -> None:
    items = blobs(30)
    model = Model.untrained(settings_from({"encoder": {"name": "mlp", "hidden": 8, "dim": 4}}), items)
    (tmp_path / "run").mkdir()
    model.save(tmp_path / "run" / "model.safetensors")
    of_model, of_folder = (
        by_name(retrieve(which, gallery=items, measures=["retrieval"], progress=False))
        for which in (model, tmp_path / "run")
    )
    assert {name: score.value for name, score in of_folder.items()} == {
        name: score.value for name, score in of_model.items()
    }
