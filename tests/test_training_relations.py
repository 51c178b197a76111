"""Training where something is known of which items are alike: labels, pairs, triplets; every method, and bad input."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from likewise.config import settings_from
from likewise.config_checks import check
from likewise.errors import LikewiseError
from likewise.methods import METHODS
from likewise.methods.classes import CLASSES
from likewise.methods.pairs import PAIRS
from likewise.model import Model
from likewise.training.monitors import Health, read_metrics, verdict
from likewise.training.run import fit

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


def clusters(classes: int = 12, each: int = 9, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors whose class is in a few of many directions, the others much louder: raw neighbours hardly know it."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, 4))
    labels = np.repeat(np.arange(classes), each)
    quiet = centres[labels] + 0.15 * random.normal(size=(len(labels), 4))
    loud = random.normal(size=(len(labels), 12))
    return np.concatenate([quiet, loud], 1).astype(np.float32), labels


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
    found = settings.objective
    wanted = {
        "facenet": ("triplet", 0.2, None),
        "contrastive": ("contrastive", 1.0, None),
        "npair": ("npair", None, None),
        "lifted": ("lifted", 1.0, None),
        "margin": ("margin", 0.2, None),
        "ms": ("multi-similarity", None, None),
        "circle": ("circle", 0.4, 80.0),
        "histogram": ("histogram", None, None),
        "angular": ("angular", None, None),
        "arcface": ("arcface", 0.5, 64.0),
        "cosface": ("am-softmax", 0.35, 64.0),
        "sphereface": ("a-softmax", 4.0, None),
        "normface": ("normface", None, 20.0),
    }
    assert (found.kind, found.margin, found.gamma) == wanted[method]


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
        {"method": "facenet", "negatives": {"policies": ["easy", "random"], "at": [0.5], "by": "active"}},
        {"method": "circle", "sampler.kind": "balanced"},
        {"method": "npid", "alike": "pairs"},
        {"method": "npid", "alike": "triplets"},
    ],
    ids=lambda values: "-".join(map(str, values.values()))[:40],
)
def test_resumed_is_uninterrupted_to_the_last_bit(values: dict[str, Any], tmp_path: Path) -> None:
    x, labels = clusters()
    settings = {**SMALL, "epochs": 4, "checkpoint_seconds": -1.0, **values}
    if "alike" in values:
        write = pairs_file if values["alike"] == "pairs" else triplets_file
        of_file = listed(values["alike"], write(tmp_path / "file.csv", labels))
        settings = {**of_file, "epochs": 4, "checkpoint_seconds": -1.0}
    data: Any = x if "alike" in values else (x, labels)
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


def test_items_without_a_label_are_left_out(tmp_path: Path) -> None:
    x, labels = clusters()
    some = [None if i % 3 == 0 else int(label) for i, label in enumerate(labels)]
    model = fit((x, some), out=tmp_path / "run", method="circle", settings={**SMALL, "epochs": 1}, progress=False)
    assert model.epoch == 1
    data = (tmp_path / "run" / "data.json").read_text()
    assert f'"items": {sum(label is not None for label in some)}' in data


def test_several_labels_an_item(tmp_path: Path) -> None:
    """Alike when any label agrees."""
    x, labels = clusters()
    several = [
        [f"class {label}", f"half {label % 2}"] if i % 2 else [f"class {label}"] for i, label in enumerate(labels)
    ]
    model = fit((x, several), out=tmp_path / "run", method="facenet", settings={**SMALL, "epochs": 10}, progress=False)
    assert right(embedded(model, x), labels) > 0.6


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"alike": "pairs"}, "alike=pairs needs relations=FILE"),
    ({"relations": "file.csv"}, "lists pairs or triplets; say which"),
    ({"alike": "label"}, "a memory bank has a row for each item, not for each label"),
    ({"alike": "triplets", "relations": "f.csv"}, "set dictionary=batch and batch.keys=same"),
    ({"objective.kind": "arcface", "dictionary": "proxies"}, "has a proxy for each class: set alike=label"),
    ({"dictionary": "batch", "batch.keys": "same", "objective.kind": "infonce"}, "leaves an item no other view"),
    ({"sampler.kind": "classes"}, "composes batches by class: set alike=label"),
    ({"method": "facenet", "batch_size": 50}, "is not a number of classes, two at least, times sampler.per_class=4"),
    ({"method": "angular", "negatives.policies": ["hard"]}, "objective.kind=angular does not"),
    ({"method": "npair", "objective.margin": 0.3}, "objective.kind=npair has no margin"),
    ({"method": "arcface", "objective.mix": 5.0}, "objective.kind=arcface has no mix"),
    ({"method": "facenet", "objective.gamma": 3.0}, "objective.kind=triplet has no gamma"),
    ({"method": "facenet", "negatives.policies": ["easy", "hard"]}, "one number for each of the 1 changes"),
    ({"method": "facenet", "negatives.margin": -1.0}, "negatives.margin' is -1.0"),
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


def test_a_queue_of_labels_does_not_go_on_with_other_items(tmp_path: Path) -> None:
    """Its keys have numbers of labels for ids: as rows of items they would be renamed to anything."""
    x, labels = clusters()
    settings = {**SMALL, "dictionary": "queue", "queue.size": 50, "epochs": 1}
    fit((x, labels), out=tmp_path / "run", method="facenet", settings=settings, progress=False)
    with pytest.raises(LikewiseError, match="known by the numbers of their labels"):
        fit((x[3:], labels[3:]), out=tmp_path / "run", method="facenet", resume=True, progress=False)
