"""Training where something is known of which items are alike: labels, pairs, triplets; every method, and bad input."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy import clusters

from likewise.config.checks import check
from likewise.config.overrides import settings_from
from likewise.data import Items
from likewise.errors import LikewiseError
from likewise.methods import METHODS
from likewise.methods.classes import CLASSES
from likewise.methods.pairs import PAIRS
from likewise.model import Model
from likewise.training.checkpoint import load_checkpoint, save_checkpoint
from likewise.training.decide import decide
from likewise.training.fit import fit, prepare
from likewise.training.health import Health, verdict
from likewise.training.metrics_log import read_metrics
from likewise.training.run_folder import read_config

SUPERVISED = [method.name for method in (*PAIRS, *CLASSES)]
SMALL: dict[str, Any] = {
    "encoder.name": "mlp",
    "encoder.hidden": 32,
    "encoder.dim": 8,
    "batch_size": 24,
    "sampler.per_class": 3,
    "epochs": 25,
    "optim.lr": 0.02,
    "knn_epochs": 0,
    "views.noise": 0.1,
    "views.dropout": 0.0,
}
pytestmark = pytest.mark.filterwarnings("ignore::likewise.errors.LikewiseWarning")


class Fails(nn.Linear):
    """A backbone that refuses its batches in training."""

    def __init__(self) -> None:
        super().__init__(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            raise LikewiseError("the first step is refused")
        return super().forward(x)


def right(rows: Tensor, labels: np.ndarray) -> float:
    """Share of items whose nearest other is of their class."""
    similarity = rows @ rows.T
    similarity.fill_diagonal_(-9)
    return float((labels[similarity.argmax(1).numpy()] == labels).mean())


def embedded(model: Model, x: np.ndarray) -> Tensor:
    return torch.as_tensor(model.embed(x).rows)


@pytest.mark.parametrize("method", SUPERVISED)
def test_every_method_learns_what_labels_say(method: str, tmp_path: Path) -> None:
    """Where raw vectors know little: most of their directions are noise."""
    x, labels = clusters()
    standard = (x - x.mean(0)) / x.std(0)
    raw = right(torch.nn.functional.normalize(torch.from_numpy(standard), dim=1), labels)
    model = fit((x, labels), out=tmp_path / "run", method=method, settings=SMALL, progress=False)
    learned = right(embedded(model, x), labels)
    assert learned > raw + 0.25, f"raw {raw:.2f}, learned {learned:.2f}"
    losses = [float(line["loss"]) for line in read_metrics(tmp_path / "run")]
    assert all(np.isfinite(losses))
    norms = embedded(model, x).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))  # raw rows are for training alone


@pytest.mark.parametrize("method", SUPERVISED)
def test_the_papers_numbers_are_data(method: str) -> None:
    settings = check(METHODS[method].settings)
    assert settings.method == method
    assert settings.alike == "label"
    found = decide(settings, 100).objective
    wanted: dict[str, tuple[str, dict[str, Any]]] = {
        "facenet": ("triplet", {"margin": 0.2, "distance": "squared", "soft": False, "pairs": "active"}),
        "contrastive": (
            "contrastive",
            {"positive_margin": 0.0, "negative_margin": 1.0, "squared": True, "pairs": "active"},
        ),
        "npair": ("npair", {"penalty": 0.002}),
        "lifted": ("lifted-structure", {"margin": 1.0, "generalised": False}),
        "margin": (
            "margin",
            {"alpha": 0.2, "beta": 1.2, "learn": False, "classes": None, "nu": 0.0, "pairs": "active"},
        ),
        "ms": ("multi-similarity", {"alpha": 2.0, "beta": 50.0, "base": 0.5, "epsilon": 0.1}),
        "circle": ("circle", {"gamma": 80.0, "margin": 0.4}),
        "histogram": ("histogram", {"bins": 100}),
        "angular": ("angular", {"degrees": 40.0}),
        "arcface": ("arcface", {"scale": 64.0, "margin": 0.5, "gradient": "true"}),
        "cosface": ("am-softmax", {"scale": 64.0, "margin": 0.35}),
        "sphereface": ("a-softmax", {"margin": 4, "mix": 5.0}),
        "normface": ("normface", {"scale": 20.0, "learn": False}),
    }
    assert (found.kind, dict(found.parameters)) == wanted[method]


def pairs_file(path: Path, labels: np.ndarray, seed: int = 0) -> Path:
    random = np.random.default_rng(seed)
    lines = ["a,b,alike"]
    seen = set[tuple[int, int]]()
    for a in range(len(labels)):
        same = np.flatnonzero((labels == labels[a]) & (np.arange(len(labels)) != a))
        for b in (*random.choice(same, 2, replace=False), *random.choice(np.flatnonzero(labels != labels[a]), 4)):
            pair = (min(a, int(b)), max(a, int(b)))
            if pair not in seen:
                seen.add(pair)
                lines.append(f"{a},{b},{int(labels[a] == labels[b])}")
    path.write_text("\n".join(lines) + "\n")
    return path


def triplets_file(path: Path, labels: np.ndarray, seed: int = 0) -> Path:
    random = np.random.default_rng(seed)
    lines = {"anchor,positive,negative": 0}
    for a in range(len(labels)):
        same = np.flatnonzero((labels == labels[a]) & (np.arange(len(labels)) != a))
        for p, n in zip(random.choice(same, 4), random.choice(np.flatnonzero(labels != labels[a]), 4), strict=True):
            lines[f"{a},{p},{n}"] = 0
    path.write_text("\n".join(lines) + "\n")
    return path


def listed(kind: str, path: Path) -> dict[str, Any]:
    objective = {"pairs": "contrastive", "triplets": "triplet"}[kind]
    return {
        **{name: value for name, value in SMALL.items() if name != "sampler.per_class"},
        "alike": kind,
        "relations": str(path),
        "dictionary": "batch",
        "batch.keys": "same",
        "objective.kind": objective,
        "batch_size": 48,
    }


@pytest.mark.parametrize("kind", ["pairs", "triplets"])
def test_files_of_pairs_and_triplets_teach(kind: str, tmp_path: Path) -> None:
    x, labels = clusters()
    write = pairs_file if kind == "pairs" else triplets_file
    settings = listed(kind, write(tmp_path / "file.csv", labels))
    model = fit(x, out=tmp_path / "run", method="npid", settings=settings, progress=False)  # no labels are given
    assert right(embedded(model, x), labels) > 0.7


@pytest.mark.parametrize(
    "values",
    [
        {"method": "facenet"},
        {"method": "margin"},  # draws
        {"method": "arcface"},
        {"method": "sphereface"},
        {"method": "facenet", "dictionary": "queue", "queue.size": 50, "encoder.bn_groups": 2},
        {"method": "facenet", "dictionary": "queue", "queue.size": 50, "several": True},
        {"method": "circle", "dictionary": "queue", "queue.size": 50, "several": True},
        {"method": "facenet", "negatives": {"policies": ["easy", "random"], "at": [0.5], "by": "active"}},
        {"method": "circle", "sampler.kind": "balanced"},
        {"method": "npid", "alike": "pairs"},
        {"method": "npid", "alike": "triplets"},
    ],
    ids=lambda values: "-".join(map(str, values.values()))[:40],
)
def test_resumed_is_uninterrupted_to_the_last_bit(values: dict[str, Any], tmp_path: Path) -> None:
    x, labels = clusters()
    settings = {**SMALL, "epochs": 4, "checkpoint_seconds": 0.0, **values}
    several = settings.pop("several", False)
    if "alike" in values:
        write = pairs_file if values["alike"] == "pairs" else triplets_file
        of_file = listed(values["alike"], write(tmp_path / "file.csv", labels))
        settings = {**of_file, "epochs": 4, "checkpoint_seconds": 0.0}
    data: Any = x if "alike" in values else (x, two_labels(labels) if several else labels)
    whole = fit(data, out=tmp_path / "whole", method=values["method"], settings=settings, progress=False)

    from likewise.training import loop

    real, done = loop.train_step, []

    def stops(session: Any, batch: Any) -> Any:
        if len(done) == 5:
            raise RuntimeError("killed")
        done.append(1)
        return real(session, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train_step", stops)
        with pytest.raises(RuntimeError, match="killed"):
            fit(data, out=tmp_path / "killed", method=values["method"], settings=settings, progress=False)
    resumed = fit(
        data, out=tmp_path / "killed", resume=True, method=values["method"], settings=settings, progress=False
    )
    for name, value in whole.embedder.state_dict().items():
        assert torch.equal(value, resumed.embedder.state_dict()[name]), name


def test_items_without_a_label_are_left_out_and_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, labels = clusters()
    some = [None if i % 3 == 0 else int(label) for i, label in enumerate(labels)]
    model = fit((x, some), out=tmp_path / "run", method="circle", settings={**SMALL, "epochs": 1})
    assert model.epoch == 1
    data = (tmp_path / "run" / "data.json").read_text()
    assert f'"items": {sum(label is not None for label in some)}' in data
    assert "left out, with no label: 36 of the 108 items (skipped.csv)." in capsys.readouterr().err
    skipped = (tmp_path / "run" / "skipped.csv").read_text().splitlines()
    assert skipped == ["id,reason", *(f"{row},no label" for row in range(0, 108, 3))]


def two_labels(labels: np.ndarray) -> list[list[str]]:
    return [[f"class {label}", f"half {label % 2}"] if i % 2 else [f"class {label}"] for i, label in enumerate(labels)]


@pytest.mark.parametrize("dictionary", ["batch", "queue"])
def test_several_labels_an_item(dictionary: str, tmp_path: Path) -> None:
    """Alike when any label agrees."""
    x, labels = clusters()
    settings = {**SMALL, "dictionary": dictionary, "queue.size": 50, "key_encoder.momentum": 0.9}
    model = fit((x, two_labels(labels)), out=tmp_path / "run", method="facenet", settings=settings, progress=False)
    assert right(embedded(model, x), labels) > 0.6


@pytest.mark.parametrize("method", ["contrastive", "margin", "ms", "lifted", "histogram", "angular", "npair"])
def test_every_objective_takes_a_queue_of_several_labels(method: str, tmp_path: Path) -> None:
    x, labels = clusters()
    settings = {**SMALL, "epochs": 2, "dictionary": "queue", "queue.size": 50}
    fit((x, two_labels(labels)), out=tmp_path / "run", method=method, settings=settings, progress=False)
    assert all(np.isfinite(float(line["loss"])) for line in read_metrics(tmp_path / "run"))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"alike": "pairs"}, "alike=pairs needs relations=FILE"),
    ({"bank.sharded": True}, "bank.sharded=true needs the exact softmax: objective nonparametric-softmax"),
    (
        {"relations": "file.csv"},
        "lists pairs, triplets or graded relevance; set alike=pairs (of a graph too), alike=triplets, alike=graded or",
    ),
    ({"alike": "graded"}, "alike=graded needs relations=FILE, a CSV or parquet file of relevance by the ids of query"),
    ({"objective": "ranknet"}, "takes the graded relevance of a query's items: set alike=graded and relations=FILE"),
    ({"method": "circle", "alike": "graded", "relations": "f.csv"}, "needs an objective of lists (regression,"),
    ({"method": "ranking", "relations": "f.csv", "negatives": "hard"}, "objective lambdarank is not one"),
    ({"method": "ranking", "relations": "f.csv", "dictionary": "queue"}, "batch.keys=same, as method ranking does."),
    (
        {"method": "ranking", "relations": "f.csv", "objective": "auto", "negatives": "hard"},
        "objective auto is not one",
    ),
    ({"alike": "label"}, "a memory bank has a row for each item, not for each label"),
    ({"alike": "triplets", "relations": "f.csv"}, "set dictionary=batch and batch.keys=same"),
    ({"objective.kind": "arcface", "dictionary": "proxies"}, "has a proxy for each class: set alike=label"),
    (
        {"dictionary": "batch", "batch.keys": "same", "objective.kind": "infonce"},
        "leaves an item without a positive view",
    ),
    ({"sampler.kind": "classes"}, "composes batches by class: set alike=label"),
    ({"method": "facenet", "batch_size": 50}, "must be sampler.per_class=4 times a number of classes"),
    ({"method": "angular", "negatives.policies": ["hard"]}, "objective angular is not one"),
    ({"method": "npair", "objective.margin": 0.3}, "objective npair has no parameter 'margin'. It has penalty."),
    (
        {"method": "arcface", "objective.mix": 5.0},
        "objective arcface has no parameter 'mix'. It has scale, margin, gradient.",
    ),
    ({"method": "facenet", "objective.gamma": 3.0}, "objective triplet has no parameter 'gamma'"),
    ({"method": "facenet", "negatives.policies": ["easy", "hard"]}, "one number for each of the 1 changes"),
    ({"method": "facenet", "negatives": "inside-margin", "negatives.margin": -1.0}, "negatives.margin' is -1.0"),
]


@pytest.mark.parametrize(("values", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_what_makes_no_sense_is_refused_in_a_sentence(values: dict[str, Any], message: str) -> None:
    base = METHODS[values.get("method", "npid")].settings
    with pytest.raises(LikewiseError) as refused:
        check(settings_from({name: value for name, value in values.items() if name != "method"}, base))
    assert message in str(refused.value)


def test_bad_data_for_labels(tmp_path: Path) -> None:
    x, labels = clusters()
    with pytest.raises(LikewiseError, match="has no labels, and alike=label needs two"):
        fit(x, out=tmp_path / "a", method="facenet", settings=SMALL, progress=False)
    with pytest.raises(LikewiseError, match="has one label only"):
        fit((x, [1] * len(x)), out=tmp_path / "b", method="facenet", settings=SMALL, progress=False)
    too_many = r"42 classes of sampler.per_class=3 items, but .* only 12 labels; set batch_size to 36"
    with pytest.raises(LikewiseError, match=too_many):
        fit((x, labels), out=tmp_path / "c", method="facenet", settings={**SMALL, "batch_size": 126}, progress=False)
    (tmp_path / "bad.csv").write_text("a,b,alike\n0,nobody,1\n0,1,1\n")
    with pytest.raises(LikewiseError, match="nobody"):
        fit(x, out=tmp_path / "d", method="npid", settings=listed("pairs", tmp_path / "bad.csv"), progress=False)
    assert not (tmp_path / "a" / "config.yaml").exists()


FEW = {"method": "margin", **SMALL}
LATE = [  # settings, backbone, message
    (FEW | {"objective.classes": 2}, None, "objective.classes=2 is fewer than the 12 labels of .*; set it to 12."),
    (FEW | {"encoder.name": "resnet-small"}, None, "encoder 'resnet-small' does not fit the items"),
    (FEW, nn.Linear(3, 8), "the backbone Linear fails on a batch of shape"),
    (FEW, Fails(), "the first step is refused"),
]


@pytest.mark.parametrize(("values", "backbone", "message"), LATE)
def test_what_is_refused_late_leaves_no_folder(
    values: dict[str, Any], backbone: nn.Module | None, message: str, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "run"
    with pytest.raises(LikewiseError, match=message):
        fit(clusters(), out=out, settings=values, backbone=backbone, progress=False)
    assert not out.parent.exists()
    out.mkdir(parents=True)  # a folder of the user stays, with what is in it
    (out / "notes.txt").write_text("mine")
    with pytest.raises(LikewiseError, match=message):
        fit(clusters(), out=out, settings=values, backbone=backbone, progress=False)
    assert (out / "notes.txt").read_text() == "mine"


def test_classes_of_the_objective_need_one_label_each(tmp_path: Path) -> None:
    x, labels = clusters()
    both = np.stack([labels, labels], 1)
    values = FEW | {"objective.classes": 12}
    with pytest.raises(
        LikewiseError, match="needs one label for each item, not several labels of an item; leave it out"
    ):
        fit((x, both), out=tmp_path / "run", settings=values, progress=False)
    pairs = values | {"alike": "pairs", "relations": str(tmp_path / "pairs.csv")}
    with pytest.raises(LikewiseError, match="needs one label for each item, not alike=pairs; leave it out"):
        fit(x, out=tmp_path / "run", settings=pairs, progress=False)


def test_what_a_triplet_loss_has_to_learn_from_is_logged(tmp_path: Path) -> None:
    fit(clusters(), out=tmp_path / "run", method="facenet", settings=SMALL, progress=False)
    first, *_, last = read_metrics(tmp_path / "run")
    assert first["valid_anchors"] == last["valid_anchors"] == 1.0
    assert float(last["active_triplets"]) < float(first["active_triplets"]) <= 1.0
    assert float(last["violation"]) > 0
    assert 0 < float(last["active"]) <= 1


def test_a_loss_stuck_at_the_margin_is_said_and_a_healthy_one_is_not(tmp_path: Path) -> None:
    """The loss of a triplet is its margin where all items are the same."""
    x, labels = clusters()
    stuck = Health(loss=0.2005, chance=None, rank=6.0, spread=0.6, most=8, margin=0.2)
    said = verdict(stuck)
    assert said is not None
    assert said.kind == "margin"
    assert "stuck at the margin (0.2)" in said.text
    assert verdict(replace(stuck, loss=0.15)) is None
    assert verdict(replace(stuck, margin=None)) is None
    hard = {"negatives.policies": ["hard"], "epochs": 4, "encoder.centre": False, "views.noise": 0.0}
    fit((np.ones_like(x), labels), out=tmp_path / "stuck", method="facenet", settings={**SMALL, **hard}, progress=False)
    assert any("collapse" in str(line.get("verdict", "")) for line in read_metrics(tmp_path / "stuck"))
    fit((x, labels), out=tmp_path / "well", method="facenet", settings=SMALL, progress=False)
    assert not any("margin" in str(line.get("verdict", "")) for line in read_metrics(tmp_path / "well"))


def test_batches_without_positives_are_said(tmp_path: Path) -> None:
    x, labels = clusters(classes=54, each=2)
    settings = {**SMALL, "sampler.kind": "instance", "epochs": 4}
    fit((x, labels), out=tmp_path / "run", method="facenet", settings=settings, progress=False)
    said = [str(line.get("verdict", "")) for line in read_metrics(tmp_path / "run")]
    assert any("set sampler.kind=classes" in text for text in said)


# Data that can't teach


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([None] * 108, "has no label for any of its 108 items, and alike=label needs two"),
        (["a"] + [None] * 107, "has a label for one of its 108 items only"),
        ([["a", "b"]] + [None] * 107, "has a label for one of its 108 items only"),
        (["a"] * 107 + [None], r"has one label only \('a'\), and alike=label needs two"),
        (np.full(108, -1), "has no label for any of its 108 items"),
    ],
)
def test_labels_that_teach_nothing_are_refused_with_the_reason(labels: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(LikewiseError, match=message):
        fit((clusters()[0], labels), out=tmp_path / "run", method="facenet", settings=SMALL, progress=False)


def test_label_names_that_no_item_has_do_not_count(tmp_path: Path) -> None:
    x, _ = clusters()
    ids, one = tuple(map(str, range(len(x)))), np.ones(len(x), np.int64)
    for names, message in ((("a", "b"), r"one label only \('b'\)"), (("a",), "labels up to 1, but only 1 label_names")):
        items = Items(ids=ids, values=x, kind="vectors", labels=one, label_names=names, source="mine")
        with pytest.raises(LikewiseError, match=f"mine has {message}"):
            fit(items, out=tmp_path / "run", method="arcface", settings=SMALL, progress=False)


def kept_pairs(path: Path, keep: str) -> Path:
    """A file of pairs of which only those are left."""
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *(row for row in rows if row.endswith(f",{keep}"))]) + "\n")
    return path


KINDS = ("infonce", "supcon", "triplet", "circle", "multi-similarity", "npair", "angular", "lifted", "histogram")


@pytest.mark.parametrize("kind", [*KINDS, "contrastive", "margin"])
def test_pairs_that_only_push_are_refused(kind: str, tmp_path: Path) -> None:
    x, labels = clusters()
    path = kept_pairs(pairs_file(tmp_path / "p.csv", labels), "0")
    with pytest.raises(LikewiseError, match=r"p\.csv has no pair that is alike, so there are no positives; add some"):
        fit(x, out=tmp_path / "run", settings={**listed("pairs", path), "objective.kind": kind}, progress=False)


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_of_different_items_are_refused_where_nothing_would_be_learned(kind: str, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("a,b,alike\n0,1,1\n2,3,0\n4,5,1\n")  # no item is in both
    settings = {**listed("pairs", tmp_path / "p.csv"), "objective.kind": kind}
    both = rf"no item in both a pair that is alike and one that is not .*, and objective {kind}(-structure)? compares"
    with pytest.raises(LikewiseError, match=both):
        fit(clusters()[0], out=tmp_path / "run", settings=settings, progress=False)


def test_pairs_about_an_item_that_could_not_be_used_are_left_out_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, labels = clusters()
    path = pairs_file(tmp_path / "p.csv", labels)
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    lost = [number for number, row in enumerate(rows, 2) if "5" in row[:2]]
    x[5] = np.nan
    fit(x, out=tmp_path / "run", settings={**listed("pairs", path), "epochs": 1})
    reason = "'5' could not be used: not finite (holds NaN, infinity, or more than float32 can)"
    said = f"left out: {len(lost)} of the {len(rows)} rows of {path} (line {lost[0]}: {reason})."
    assert said in capsys.readouterr().err


def test_a_batch_without_room_for_a_triplet_is_refused_as_the_user_set_it(tmp_path: Path) -> None:
    x, labels = clusters()
    settings = {**listed("triplets", triplets_file(tmp_path / "t.csv", labels)), "batch_size": 2}
    with pytest.raises(LikewiseError, match=r"batch_size=2 has no room for a triplet, .* it must be at least 3\."):
        fit(x, out=tmp_path / "run", settings=settings, progress=False)
    fit(x, out=tmp_path / "run", settings={**settings, "batch_size": 3, "epochs": 1}, progress=False)


@pytest.mark.parametrize("kind", ["pairs", "triplets"])
def test_a_step_of_too_few_items_for_its_groups_is_refused_before_it(kind: str, tmp_path: Path) -> None:
    """A star: every pair has item 0, so that the four of a step have five items."""
    x, _ = clusters()
    text = "a,b,alike\n" if kind == "pairs" else "anchor,positive,negative\n"
    text += "".join(f"0,{i},{i % 2}\n" if kind == "pairs" else f"0,{i},{i + 1}\n" for i in range(1, 60))
    (tmp_path / "star.csv").write_text(text)
    size = 8 if kind == "pairs" else 9
    settings = {**listed(kind, tmp_path / "star.csv"), "batch_size": size, "encoder.bn_groups": 4, "epochs": 2}
    with pytest.raises(LikewiseError) as refused:
        fit(x, out=tmp_path / "run", settings=settings, progress=False)
    few = r"step \d+ would hold the (pairs|triplets) of only \d items, too few for encoder.bn_groups=4 groups of two: "
    assert re.match(few + rf".*; raise batch_size={size}, or lower that number\.", str(refused.value))
    fit(x, out=tmp_path / "run", settings={**settings, "encoder.bn_groups": 2}, progress=False)


def test_relations_may_be_a_path_and_a_run_goes_on_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, labels = clusters()
    pairs_file(tmp_path / "p.csv", labels)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    settings = {**listed("pairs", Path("p.csv")), "relations": Path("p.csv"), "epochs": 1}
    fit(x, out=tmp_path / "run", settings=settings, progress=False)
    assert read_config(tmp_path / "run").relations == str(tmp_path / "p.csv")
    fit(x, out=tmp_path / "run", settings={**settings, "relations": "p.csv"}, resume=True, progress=False)
    monkeypatch.chdir(tmp_path / "elsewhere")
    fit(x, out=tmp_path / "run", resume=True, progress=False)
    with pytest.raises(LikewiseError, match=r"p\.csv does not exist; relations of the run .* was"):
        fit(x, out=tmp_path / "run", settings=settings, resume=True, progress=False)


# Going on where something changed


def named(x: np.ndarray, labels: np.ndarray, names: int = 12) -> Items:
    ids = tuple(f"v{row}" for row in range(len(x)))
    known = tuple(f"c{number}" for number in range(names))
    return Items(ids=ids, values=x, kind="vectors", labels=labels, label_names=known, source="mine")


QUEUE = {"dictionary": "queue", "queue.size": 50}


@pytest.mark.parametrize(("method", "values"), [("arcface", {}), ("facenet", QUEUE)])
def test_proxies_and_queues_of_labels_go_on_with_other_items_of_the_same_labels(
    method: str, values: dict[str, Any], tmp_path: Path
) -> None:
    """A proxy is a class's and a queue's key has its label's number: items may come, go and change places."""
    x, labels = clusters(each=18)
    first, settings = np.arange(216) % 18 < 9, {**SMALL, "epochs": 2, **values}
    fit(named(x, labels).select(first.nonzero()[0]), out=tmp_path / "run", method=method, settings=settings)
    before = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    other = named(x, labels).select(np.random.default_rng(0).permutation(216)[:200])
    model = fit(other, out=tmp_path / "run", resume=True)  # the run's own method
    after = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert (len(before["item_ids"]), len(after["item_ids"])) == (108, 200)
    assert after["step"] > before["step"]
    assert model.epoch == 2


@pytest.mark.parametrize(("method", "values"), [("arcface", {}), ("facenet", QUEUE)])
def test_proxies_and_queues_of_labels_do_not_go_on_with_other_labels(
    method: str, values: dict[str, Any], tmp_path: Path
) -> None:
    x, labels = clusters()
    items, out = named(x, labels), tmp_path / "run"
    fit(items, out=out, method=method, settings={**SMALL, "epochs": 1, **values}, progress=False)
    bound = "proxies of arcface" if method == "arcface" else "queue's keys"
    belong = f", and the {bound} belong to the old labels; use the labels of the run, or start a new run"
    permuted = labels.copy()
    permuted[[0, 20, 40]] = labels[[20, 40, 0]]
    names = items.label_names
    for other, message in (
        (replace(items, labels=permuted), "the labels of 3 of the 108 items changed since the checkpoint"),
        (replace(items, label_names=(*names, "d")), r"the labels changed since the checkpoint \('d' is new\)"),
        (replace(items, label_names=names[::-1]), r"the labels changed .* \(they are in another order\)"),
        (replace(items, labels=labels % 11, label_names=names[:11]), r"changed since the checkpoint \('c11' is gone\)"),
    ):
        with pytest.raises(LikewiseError, match=message + belong):
            fit(other, out=out, method=method, resume=True, progress=False)
    fit(items, out=out, method=method, resume=True, progress=False)


def test_a_queue_of_labels_does_not_go_on_where_items_have_more_of_them(tmp_path: Path) -> None:
    x, labels = clusters()
    labels = np.stack([labels, np.full(108, -1)], 1)
    items = named(x[:-1], labels[:-1])
    settings = {**SMALL, "epochs": 1, **QUEUE}
    fit(items, out=tmp_path / "run", method="facenet", settings=settings, progress=False)
    three = np.pad(labels, ((0, 0), (0, 1)), constant_values=-1)
    three[-1] = [3, 4, 5]
    with pytest.raises(LikewiseError, match="the most labels of an item changed since the checkpoint"):
        fit(named(x, three), out=tmp_path / "run", method="facenet", resume=True, progress=False)


def test_a_batch_goes_on_with_other_labels_and_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, labels = clusters()
    items, out = named(x, labels), tmp_path / "run"
    fit(items, out=out, method="circle", settings={**SMALL, "epochs": 1})
    fit(items, out=out, method="circle", resume=True)
    fit(
        replace(items, labels=11 - labels, label_names=items.label_names[::-1]), out=out, method="circle", resume=True
    )  # the same
    fit(items.select(np.arange(107, 2, -1)), out=out, method="circle", resume=True)
    assert "warning: the labels" not in capsys.readouterr().err
    changed = labels.copy()
    changed[[0, 107]] = [5, -1]
    fit(replace(items, labels=changed), out=out, method="circle", resume=True)
    said = capsys.readouterr().err
    assert (
        "warning: the labels of 1 of the 107 items changed since the checkpoint; training continues with the new"
        in said
    )


@pytest.mark.parametrize("kind", ["pairs", "triplets"])
def test_other_relations_are_said_and_other_items_are_not(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, labels = clusters()
    items, write = named(x, labels), pairs_file if kind == "pairs" else triplets_file

    def rename(path: Path) -> None:
        header, *rows = path.read_text().splitlines()
        ends = [row.split(",") for row in rows]
        width = 2 if kind == "pairs" else 3
        lines = [",".join([*(f"v{end}" for end in row[:width]), *row[width:]]) for row in ends]
        path.write_text("\n".join([header, *lines]) + "\n")

    rename(write(tmp_path / "r.csv", labels))
    fit(items, out=tmp_path / "run", settings={**listed(kind, tmp_path / "r.csv"), "epochs": 1})
    more = Items(ids=("new", *items.ids), values=np.concatenate([x[:1], x]), kind="vectors", source="mine")
    fit(more, out=tmp_path / "run", resume=True)
    assert "warning: the pairs" not in capsys.readouterr().err
    rename(write(tmp_path / "r.csv", labels, seed=1))
    fit(items, out=tmp_path / "run", resume=True)
    said = "the pairs, triplets or graded relevance changed since the checkpoint; training continues with the new ones."
    assert f"warning: {said}" in capsys.readouterr().err


@pytest.mark.parametrize(("method", "values"), [("arcface", {}), ("facenet", QUEUE), ("circle", {})])
def test_checkpoints_of_older_versions_still_load(method: str, values: dict[str, Any], tmp_path: Path) -> None:
    """They say nothing of labels, so that proxies and queues need the very same items."""
    x, labels = clusters()
    items, out = named(x, labels), tmp_path / "run"
    fit(items, out=out, method=method, settings={**SMALL, "epochs": 1, **values}, progress=False)
    state = load_checkpoint(out / "checkpoint.pt")
    del state["taught"]
    save_checkpoint(out / "checkpoint.pt", state)
    fewer = items.select(np.arange(3, 108))
    if method == "circle":
        fit(fewer, out=out, method=method, resume=True, progress=False)
    else:
        with pytest.raises(LikewiseError, match=r"the items changed .*, which an older version wrote without their"):
            fit(fewer, out=out, method=method, resume=True, progress=False)
        fit(items, out=out, method=method, resume=True, progress=False)


def test_parameters_that_auto_leaves_out_are_said() -> None:
    items = Items(ids=tuple("abcdefgh"), values=np.eye(8, dtype=np.float32), kind="vectors", source="eight")
    settings = settings_from({**SMALL, "objective.noise": 32, "batch_size": 4})
    assert "warning: objective.noise is not used: for 8 items auto is" in "".join(prepare(check(settings), items).notes)
