"""``evaluate``: which items are neighbours, how labels are matched, and scores that are known beforehand."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from likewise.comparison.split import split_classes
from likewise.config.overrides import settings_from
from likewise.config.settings import FitSettings
from likewise.data import Items
from likewise.errors import LikewiseError
from likewise.evaluation import classify as module
from likewise.evaluation.classify import Protocol, evaluate, milestones
from likewise.evaluation.labelled_items import labelled, same_classes, shared_ids
from likewise.evaluation.retrieve import retrieve
from likewise.evaluation.scores import percent, save_scores, table
from likewise.metrics.score import Score
from likewise.model import Model, load
from likewise.training.fit import fit

IMAGES: FitSettings = settings_from({"size": 16, "encoder.dim": 8, "epochs": 1, "batch_size": 16})
PLAIN: FitSettings = settings_from({"encoder": {"name": "mlp", "head": "none", "centre": False}, "epochs": 1})
QUICK = Protocol(measures=("knn", "svm"))


def blobs(n: int = 60, *, seed: int = 0, noise: float = 0.1, first: int = 0) -> Items:
    """Three classes of vectors at the corners of a triangle, in turn."""
    labels = np.arange(n) % 3
    rows = 3 * np.eye(3, 5)[labels] + noise * np.random.default_rng(seed).normal(size=(n, 5))
    return Items(
        ids=tuple(f"v{first + row}" for row in range(n)),
        values=rows.astype(np.float32),
        kind="vectors",
        labels=labels.astype(np.int64),
        label_names=("a", "b", "c"),
        source=f"blobs {seed}",
    )


def pictures(n: int = 20) -> Items:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
    return Items(
        ids=tuple(map(str, range(n))),
        values=pixels,
        kind="images",
        labels=np.arange(n, dtype=np.int64) % 2,
        label_names=("even", "odd"),
        source="pictures",
    )


def plain_model(items: Items) -> Model:
    """An embedding that is the standardised vectors themselves, made unit rows."""
    model = Model.untrained(PLAIN, items, backbone=nn.Sequential(nn.Linear(5, 5, bias=False)))
    nn.init.eye_(model.embedder.backbone[0].weight)  # type: ignore[index, arg-type]
    return model


def by_name(scores: list[Score]) -> dict[str, float]:
    return {score.name: score.value for score in scores}


# Who is whose neighbour


def test_an_item_is_itself_only_with_the_same_name_and_the_same_content() -> None:
    train = blobs(6)
    values = train.values[[3, 1, 2, 5, 0, 4]].copy()
    values[1] += 1  # v1 has changed
    test = replace(train, ids=("v3", "v1", "w2", "v0", "x", "v4"), values=values)
    train_ids, test_ids = shared_ids(train, test)
    assert train_ids.tolist() == [0, 1, 2, 3, 4, 5]
    # same | changed | other name | the name of another | other name | same
    assert [row for row in test_ids.tolist() if row < 6] == [3, 4]
    assert test_ids[0] == 3
    assert test_ids[5] == 4
    assert len(set(test_ids.tolist())) == 6
    assert shared_ids(train, train)[1].tolist() == [0, 1, 2, 3, 4, 5]
    copy = replace(train, values=train.values.copy())
    assert shared_ids(train, copy)[1].tolist() == [0, 1, 2, 3, 4, 5]


def test_nobody_votes_for_oneself() -> None:
    # Pairs of equal rows with different labels: the one nearest that is not oneself is always wrong. A row that could
    # find itself would be right (equal scores come in the order of rows) for every first of a pair.
    corners = np.repeat(np.eye(8, dtype=np.float32), 2, axis=0)
    items = Items(
        ids=tuple(map(str, range(16))),
        values=corners,
        kind="vectors",
        labels=np.arange(16, dtype=np.int64) % 2,
        label_names=("0", "1"),
        source="pairs",
    )
    model = Model.untrained(PLAIN, items, backbone=nn.Linear(8, 8))
    nearest = replace(QUICK, k=1)
    assert by_name(evaluate(model, train=items, protocol=nearest, progress=False))["raw/knn"] == 0
    same_again = by_name(evaluate(model, train=items, test=items.select(range(16)), protocol=nearest, progress=False))
    assert same_again == {"raw/knn": 0, "learned/knn": 0}  # nothing is left to test a classifier on
    other_names = replace(items, ids=tuple(f"other {row}" for row in range(16)))
    found = by_name(evaluate(model, train=items, test=other_names, protocol=nearest, progress=False))
    assert found["raw/knn"] == 0.5


def test_classifiers_are_tested_on_what_they_were_not_fit_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    original = module.linear_svm

    def spy(
        rows: torch.Tensor, labels: torch.Tensor, others: torch.Tensor, other_labels: torch.Tensor, **more: Any
    ) -> Any:
        seen.append((len(rows), len(others)))
        return original(rows, labels, others, other_labels, **more)

    monkeypatch.setattr(module, "linear_svm", spy)
    train, model = blobs(60), plain_model(blobs(60))
    fresh = blobs(12, seed=1, first=1000)
    both = replace(
        fresh,
        ids=train.ids[:30] + fresh.ids,
        values=np.concatenate([train.values[:30], fresh.values]),
        labels=np.concatenate([np.asarray(train.labels)[:30], np.asarray(fresh.labels)]),
    )
    scores = {score.name: score for score in evaluate(model, train=train, test=both, protocol=QUICK, progress=False)}
    assert scores["raw/knn"].protocol["test_items"] == 42
    assert scores["raw/svm"].protocol["test_items"] == 12
    assert seen == [(60, 12), (60, 12)]


# Labels


def test_test_labels_take_the_numbers_of_train() -> None:
    train = blobs(9)
    test = replace(blobs(6, first=50), label_names=("c", "a", "b"))
    moved = same_classes(test, train)
    assert moved.label_names == ("a", "b", "c")
    assert [moved.label_names[label] for label in np.asarray(moved.labels)] == ["c", "a", "b", "c", "a", "b"]
    assert moved.ids == test.ids
    assert np.asarray(test.labels).tolist() == [0, 1, 2, 0, 1, 2]  # the given ones are left alone
    fewer = replace(blobs(4, first=50), labels=np.array([0, 1, 1, 0]), label_names=("a", "c"))
    assert np.asarray(same_classes(fewer, train).labels).tolist() == [0, 2, 2, 0]


def test_renumbered_labels_give_the_same_scores() -> None:
    train, test = blobs(60), blobs(30, seed=1, noise=1.5, first=100)
    model = plain_model(train)
    renamed = replace(test, label_names=("c", "a", "b"), labels=(np.asarray(test.labels) + 1) % 3)
    one = by_name(evaluate(model, train=train, test=test, protocol=QUICK, progress=False))
    two = by_name(evaluate(model, train=train, test=renamed, protocol=QUICK, progress=False))
    assert one == two
    assert 0.4 < one["raw/knn"] < 1


def test_a_label_unknown_to_train_is_refused_by_name() -> None:
    test = replace(blobs(6, first=50), label_names=("a", "b", "zebra"))
    with pytest.raises(LikewiseError, match="blobs 0 has labels that blobs 0 lacks: zebra"):
        evaluate(plain_model(blobs(9)), train=blobs(9), test=test, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": None, "label_names": ()}, "blobs 0 has no labels"),
        ({"labels": np.zeros(9, np.int64), "label_names": ("a",)}, "blobs 0 has one label only"),
    ],
)
def test_items_without_two_labels_are_refused(change: dict[str, Any], message: str) -> None:
    items = replace(blobs(9), **change)
    for train, test in ((items, None), (items, blobs(9)), (blobs(9), items)):
        with pytest.raises(LikewiseError, match=message):
            evaluate(plain_model(blobs(9)), train=train, test=test, progress=False)


def test_items_without_a_label_of_their_own_are_left_out() -> None:
    items = blobs(12)
    some = np.asarray(items.labels).copy()
    some[[0, 5, 11]] = -1
    kept = labelled(replace(items, labels=some))
    assert kept.ids == tuple(f"v{row}" for row in (1, 2, 3, 4, 6, 7, 8, 9, 10))
    assert (np.asarray(kept.labels) >= 0).all()
    assert labelled(items) is items
    scores = evaluate(plain_model(items), train=replace(items, labels=some), protocol=QUICK, progress=False)
    assert {score.protocol["train_items"] for score in scores} == {9}
    without = by_name(evaluate(plain_model(items), train=kept, protocol=QUICK, progress=False))
    assert by_name(scores) == without


# Numbers known beforehand


def test_separate_classes_score_one_and_random_labels_chance() -> None:
    train, test = blobs(60), blobs(30, seed=1, first=100)
    model = plain_model(train)
    protocol = Protocol(k=5, probe_epochs=20, seeds=2, fractions=(0.1,))
    scores = by_name(evaluate(model, train=train, test=test, protocol=protocol, progress=False))
    assert set(scores) == {
        f"{kind}/{name}"
        for kind in ("raw", "learned")
        for name in (
            *("knn", "svm", "probe", "knn/10%", "svm/10%"),
            *(f"{classifier}/{few}-per-class" for few in (1, 5, 10) for classifier in ("knn", "svm")),
        )
    }
    assert set(scores.values()) == {1.0}
    mixed = np.random.default_rng(3).permutation(np.asarray(test.labels))
    wrong = by_name(evaluate(model, train=train, test=replace(test, labels=mixed), protocol=QUICK, progress=False))
    assert wrong["raw/knn"] == pytest.approx(float((mixed == np.arange(30) % 3).mean()))


def test_an_encoder_that_does_nothing_scores_as_the_vectors_themselves() -> None:
    train, test = blobs(90, noise=2.0), blobs(60, seed=1, noise=2.0, first=100)
    scores = by_name(evaluate(plain_model(train), train=train, test=test, protocol=QUICK, progress=False))
    assert scores["learned/knn"] == scores["raw/knn"]
    assert scores["learned/svm"] == scores["raw/svm"]
    assert 0.4 < scores["raw/knn"] < 0.95


def test_knn_by_hand() -> None:
    train, test = blobs(60, noise=2.0), blobs(40, seed=1, noise=2.0, first=100)
    model = plain_model(train)
    scores = evaluate(model, train=train, test=test, protocol=replace(QUICK, k=7, temperature=0.3), progress=False)
    mean, std = train.values.mean(0), train.values.std(0)
    rows, queries = ((items.values - mean) / std for items in (train, test))
    rows, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rows, queries))
    right = 0
    for query, label in zip(queries, np.asarray(test.labels), strict=True):
        cosines = rows @ query
        votes = np.zeros(3)
        for row in np.argsort(-cosines)[:7]:
            votes[np.asarray(train.labels)[row]] += math.exp(cosines[row] / 0.3)
        right += int(votes.argmax() == label)
    assert by_name(scores)["raw/knn"] == pytest.approx(right / 40)
    assert scores[0].protocol["k"] == 7
    assert scores[0].protocol["temperature"] == 0.3


def test_raw_pixels_of_the_test_images_are_centred_by_the_training_images() -> None:
    def shades(n: int, bright: int, name: str) -> Items:
        level = np.where(np.arange(n) < bright, 160, 90)
        noise = np.random.default_rng(n).integers(-20, 21, (n, 16, 16, 3))
        return Items(
            ids=tuple(f"{name}{row}" for row in range(n)),
            values=(level[:, None, None, None] + noise).astype(np.uint8),
            kind="images",
            labels=(level == 160).astype(np.int64),
            label_names=("dark", "bright"),
            source=name,
        )

    train, test = shades(20, 10, "train"), shades(20, 19, "test")  # around their own mean the bright ones are noise
    model = Model.untrained(IMAGES, train)
    scores = by_name(evaluate(model, train=train, test=test, protocol=replace(QUICK, k=5), progress=False))
    assert scores["raw/knn"] == 1


def test_the_untrained_encoder_encodes_both_sides() -> None:
    train, test = blobs(60, noise=2.0), blobs(60, seed=1, noise=2.0, first=100)
    settings = settings_from({"encoder": {"name": "mlp", "hidden": 8, "dim": 4}})
    model = Model.untrained(settings, train)
    nothing = by_name(evaluate(model, train=train, test=test, protocol=QUICK, progress=False))
    assert nothing["learned/knn"] == nothing["untrained/knn"]
    assert nothing["learned/svm"] == nothing["untrained/svm"]
    with torch.no_grad():
        for weight in model.embedder.parameters():
            weight.normal_(generator=torch.Generator().manual_seed(1))
    changed = by_name(evaluate(model, train=train, test=test, protocol=QUICK, progress=False))
    assert changed["untrained/knn"] == nothing["untrained/knn"]
    assert changed["untrained/svm"] == nothing["untrained/svm"]
    assert (changed["learned/knn"], changed["learned/svm"]) != (nothing["learned/knn"], nothing["learned/svm"])


def test_every_representation_votes_alike_and_training_changes_no_baseline() -> None:
    """k is the number of labels of a class; τ is 0.07, and that of training stands beside it."""
    train, test = blobs(60, noise=2.0), blobs(60, seed=1, noise=2.0, first=100)
    model = plain_model(train)
    plain = evaluate(model, train=train, test=test, protocol=QUICK, progress=False)
    assert {(s.protocol["k"], s.protocol["temperature"]) for s in plain if "knn" in s.name} == {(20, 0.07)}
    model.settings = settings_from({"objective.temperature": 0.5}, model.settings)
    scores = evaluate(model, train=train, test=test, protocol=QUICK, progress=False)
    trained = {s.name: s.protocol["temperature"] for s in scores if "as-trained" in s.name}
    assert trained == {f"{name}/knn/as-trained": 0.5 for name in ("raw", "learned")}
    assert by_name(plain).items() <= by_name(scores).items()
    assert [row[0] for row in table(scores)[1] if "trained" in row[0]] == ["weighted kNN, all labels, τ as trained"]


# The models that are measured


def test_the_untrained_encoder_is_the_same_each_time_and_leaves_random_numbers_alone() -> None:
    items = pictures()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = Model.untrained(IMAGES, items)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    two = Model.untrained(IMAGES, items)
    other = Model.untrained(replace(IMAGES, seed=1), items)
    assert torch.equal(one.features(items), two.features(items))
    assert not torch.equal(one.features(items), other.features(items))


def test_the_untrained_encoder_is_the_one_that_training_began_with(tmp_path: Path) -> None:
    still = replace(IMAGES, optim=replace(IMAGES.optim, lr=1e-30, weight_decay=0.0))
    trained = fit(pictures(), out=tmp_path / "run", settings=still, progress=False)
    untrained = Model.untrained(still, pictures())
    for (name, one), two in zip(trained.embedder.named_parameters(), untrained.embedder.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-20, msg=name)


def test_evaluate_measures_learned_and_untrained_apart(tmp_path: Path) -> None:
    items = pictures()
    model = fit(items, out=tmp_path / "run", settings=IMAGES, progress=False)
    scores = {score.name: score for score in evaluate(model, train=items, protocol=QUICK, progress=False)}
    assert list(scores) == ["raw/knn", "untrained/knn", "learned/knn"]
    assert "epoch" not in scores["raw/knn"].protocol
    assert scores["untrained/knn"].protocol["epoch"] == 0
    assert scores["learned/knn"].protocol["epoch"] == 1
    again = {score.name: score for score in evaluate(load(tmp_path / "run"), train=items, protocol=QUICK)}
    assert again == scores


def test_a_backbone_of_ones_own_has_no_untrained_twin_and_must_be_given(tmp_path: Path) -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.linear(x.mean((2, 3)))
            return result

    run, items = tmp_path / "run", pictures()
    fit(items, out=run, settings=IMAGES, backbone=Mean(), progress=False)
    with pytest.raises(LikewiseError, match=r"trained with the user's own backbone; load it from Python"):
        load(run)
    with pytest.raises(LikewiseError, match=r"the weights in .* are of another encoder"):
        load(run, backbone=nn.Sequential(nn.Flatten(), nn.Linear(768, 6)))
    model = load(run, backbone=Mean())
    scores = evaluate(model, train=items, protocol=QUICK, progress=False)
    assert [score.name for score in scores] == ["raw/knn", "learned/knn"]
    assert scores[1].protocol["encoder"] == "Mean"


# The encoder while it is measured


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layer", ["embedding", "backbone"])
def test_features_are_in_eval_mode_which_is_undone(training: bool, layer: Any) -> None:
    model, items = Model.untrained(IMAGES, pictures()), pictures()
    before = {name: value.clone() for name, value in model.embedder.state_dict().items()}
    model.embedder.train(training)
    seen: list[bool] = []
    model.embedder.backbone.register_forward_hook(lambda module, *_: seen.append(module.training))
    rows = model.features(items, layer=layer)
    assert seen == [False]
    assert model.embedder.training is training
    assert all(torch.equal(value, before[name]) for name, value in model.embedder.state_dict().items())
    model.embedder.train(not training)
    assert torch.equal(model.features(items, layer=layer), rows)
    assert not rows.requires_grad
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(20))


def test_the_mode_comes_back_after_an_error_too() -> None:
    model = Model.untrained(IMAGES, pictures())
    model.embedder.train()

    def fail(done: int) -> None:
        raise RuntimeError(str(done))

    with pytest.raises(RuntimeError, match="8"):
        model.features(pictures(), batch_size=8, tick=fail)
    assert model.embedder.training


@pytest.mark.parametrize("layer", ["embedding", "backbone"])
def test_features_do_not_depend_on_the_batch_size(layer: Any, tmp_path: Path) -> None:
    items = pictures()
    model = fit(items, out=tmp_path / "run", settings=IMAGES, progress=False)  # statistics that are not 0 and 1
    whole = model.features(items, layer=layer)
    assert whole.shape == (20, 8 if layer == "embedding" else model.embedder.feature_dim)
    for batch_size in (1, 7, 19):
        ticks: list[int] = []
        rows = model.features(items, layer=layer, batch_size=batch_size, tick=ticks.append)
        torch.testing.assert_close(rows, whole, rtol=1e-4, atol=1e-5)
        assert ticks == [*range(batch_size, 20, batch_size), 20]
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.features(items.select(order), layer=layer), whole[order], rtol=1e-4, atol=1e-5)


def test_vectors_are_standardised_by_the_training_items_and_saved_so(tmp_path: Path) -> None:
    train = blobs(60)
    train.values[:, 4] = 7  # constant: not divided by nothing
    model = fit(
        train,
        out=tmp_path / "run",
        settings={"encoder": {"name": "mlp", "hidden": 8, "dim": 4}, "epochs": 1},
        progress=False,
    )
    rows = model.standardise(torch.from_numpy(train.values))
    torch.testing.assert_close(rows.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows[:, :4].std(0, correction=0), torch.ones(4))
    assert torch.equal(rows[:, 4], torch.zeros(60))
    loaded = load(tmp_path / "run")
    assert torch.equal(loaded.features(train), model.features(train))
    shifted = replace(train, values=train.values + 1)
    assert torch.equal(loaded.prepare(shifted.batch([0])), (shifted.batch([0]) - model.vector_mean) / model.vector_std)


# What is written and shown


def test_scores_are_saved_as_plain_json_and_shown_as_percent(tmp_path: Path) -> None:
    about: dict[str, str | int | float] = {"layer": "embedding"}
    scores = [
        Score(name="raw/knn", value=0.5, protocol=about),
        Score(name="learned/knn", value=0.876, protocol=about),
        Score(name="learned/probe", value=math.nan, protocol=about),
        Score(name="learned/knn/5-per-class", value=0.25, std=0.0125, protocol=about),
    ]
    save_scores(tmp_path / "scores.json", scores)
    read = json.loads((tmp_path / "scores.json").read_text(), parse_constant=pytest.fail)
    assert [entry["value"] for entry in read] == [0.5, 0.876, None, 0.25]
    assert read[0]["protocol"] == about
    header, rows = table(scores)
    assert header == ["accuracy, %", "raw", "learned"]
    assert rows == [
        ["weighted kNN, all labels", "50.0", "87.6"],
        ["linear probe, all labels", "", "diverged"],
        ["weighted kNN, 5 per class", "", "25.0 ± 1.2"],
    ]
    assert percent(scores[0]) == "50.0"


def test_the_probes_drops_scale_with_its_epochs() -> None:
    assert milestones(Protocol()) == (60, 80)  # MoCo's
    assert milestones(Protocol(probe_epochs=10)) == (6, 8)
    assert milestones(Protocol(probe_epochs=1)) == (1,)


def test_train_and_test_have_label_files_of_their_own(tmp_path: Path) -> None:
    """One file with a label for each row would give the test items the labels of the training items."""
    train, test = blobs(30, seed=1), blobs(30, seed=2)
    for name, items, labels in (("x", train, train.labels), ("t", test, np.asarray(test.labels)[::-1])):
        np.save(tmp_path / f"{name}.npy", items.values)
        np.save(tmp_path / f"{name}-labels.npy", labels)
    of = {"labels": str(tmp_path / "x-labels.npy")}
    model, data = plain_model(train), (str(tmp_path / "x.npy"), str(tmp_path / "t.npy"))
    said = "x-labels.npy has a label for each row, so two sources can't share it; name those of the"
    with pytest.raises(LikewiseError, match=f"{said} test items with test_labels="):
        evaluate(model, train=data[0], test=data[1], protocol=replace(QUICK, **of), progress=False)
    with pytest.raises(LikewiseError, match=f"{said} queries with query_labels="):
        retrieve(model, gallery=data[0], queries=data[1], **of, progress=False)
    with pytest.raises(LikewiseError, match=r"can't share it; give labels by id, as a .parquet or .csv file"):
        split_classes(data[0], data[1], of, 0.5, 0.0, 0)
    own = replace(QUICK, **of, test_labels=str(tmp_path / "t-labels.npy"), measures=("knn",))
    scores = evaluate(model, train=data[0], test=data[1], protocol=own, progress=False)
    assert by_name(scores)["learned/knn"] == pytest.approx(1 / 3)  # the middle of three classes keeps its place
    assert "--test_labels" in str(scores[0].protocol["options"])
    found = retrieve(
        model, gallery=data[0], queries=data[1], **of, query_labels=own.test_labels, ks=[1], progress=False
    )
    assert by_name(found)["learned/recall@1"] == pytest.approx(1 / 3)
