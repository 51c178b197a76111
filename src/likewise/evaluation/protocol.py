"""``likewise evaluate``: a run beside raw pixels and the untrained encoder, every number with its protocol."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from likewise.data import Items
from likewise.data.items import content_digest
from likewise.errors import LikewiseError
from likewise.evaluation.fewlabels import FewLabelsSettings, few_labels
from likewise.evaluation.linear import ProbeSettings, linear_probe, linear_svm
from likewise.evaluation.measures import Score, raw_pixels
from likewise.evaluation.neighbours import knn_accuracy
from likewise.files import atomic_write
from likewise.model import Model
from likewise.progress import track

REPRESENTATIONS = ("raw", "untrained", "learned")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a run is measured.

    Args:
        labels: auto, or the parquet column of the label.
        key: the parquet column of the ids; None: as the run was trained.
        k: neighbours that vote; NPID's 200.
        temperature: of the votes; None: as trained, as in NPID.
        svm: whether to fit the linear SVM on all labels.
        probe_lr: of the linear probe; MoCo's 30. It suits unit rows: the features are normalised first.
        probe_epochs: MoCo's 100; 0 leaves the probe out.
        few_labels: whether to measure with few labels too.
        per_class: how many labels per class.
        fractions: which shares of the labels.
        seeds: draws of the few labels.
    """

    labels: str = "auto"
    key: str | None = None
    k: int = 200
    temperature: float | None = None
    svm: bool = True
    probe_lr: float = 30.0
    probe_epochs: int = 100
    few_labels: bool = True
    per_class: tuple[int, ...] = (1, 5, 10)
    fractions: tuple[float, ...] = (0.01, 0.02, 0.04, 0.1, 0.2)
    seeds: int = 5


@dataclass(frozen=True, kw_only=True)
class Task:
    """Labelled train and test rows of one representation. Without a test, train is measured against itself."""

    name: str
    embedding: tuple[Tensor, Tensor]  # neighbours are sought among these
    backbone: tuple[Tensor, Tensor]  # linear classifiers are fit on these
    layers: tuple[str, str]
    ids: tuple[Tensor, Tensor]  # equal for the same item only
    about: dict[str, str | int | float]


def evaluate(
    model: Model,
    *,
    train: object,
    test: object | None = None,
    protocol: Protocol | None = None,
    progress: bool = True,
) -> list[Score]:
    """Measures ``model`` beside raw pixels (or vectors) and the untrained encoder on the same items.

    Weighted kNN (NPID §3.4) on the embedding, linear SVM and MoCo's linear probe on the backbone's features, and few
    labels on the embedding. An item that is in both train and test is never its own neighbour, and is left out where a
    classifier is fit. Without ``test`` there is kNN alone, each item left out of its own neighbours. A
    backbone of one's own can't be built again, so a model with one has no untrained encoder beside it.

    Raises LikewiseError when labels are missing, fewer than two or several for one item, or test labels are unknown to
    train: where test has classes of its own, ``zero_shot.evaluate_retrieval`` measures.
    Departures: the probe has no augmentation (features are computed once) and normalises features; NPID's few labels
    fine-tune, these stay frozen.
    """
    protocol = protocol or Protocol()
    labels, key = protocol.labels, protocol.key
    train_items = _one_label(labelled(model.open(train, labels=labels, key=key, progress=progress)))
    test_items = None
    if test is not None:
        test_items = _one_label(labelled(model.open(test, labels=labels, key=key, progress=progress)))
        test_items = same_classes(test_items, train_items)
    scores: list[Score] = []
    with track("measuring", len(REPRESENTATIONS), enabled=progress) as tick:
        for number, task in enumerate(tasks(model, train_items, test_items)):
            scores += measure(task, train_items, test_items, protocol, _temperature(model, protocol))
            tick(number + 1)
    return scores


def labelled(items: Items, least: int = 2) -> Items:
    """The items that carry a label, one or several. Raises LikewiseError when there are none, or too few classes."""
    if items.labels is None or len(items.label_names) < least:
        raise LikewiseError(
            f"{items.source} has {'one label only' if items.label_names else 'no labels'}, so there is nothing to "
            "tell apart; put images in a folder per class, or name the parquet column with --labels."
        )
    known = (items.labels.reshape(len(items), -1) >= 0).any(1)
    return items if known.all() else items.select(np.flatnonzero(known))


def _one_label(items: Items) -> Items:
    """The items themselves. Raises LikewiseError when they carry several labels each: classifiers take one."""
    if items.labels is not None and items.labels.ndim != 1:
        raise LikewiseError(
            f"{items.source} has several labels per item, and classifiers need one; measure retrieval with --gallery."
        )
    return items


def same_classes(test: Items, train: Items) -> Items:
    """``test`` with its labels numbered as train's. Raises LikewiseError on a label that train does not have."""
    unknown = [name for name in test.label_names if name not in train.label_names]
    if unknown:
        raise LikewiseError(f"{test.source} has labels that {train.source} lacks: {', '.join(unknown[:5])}.")
    number = np.array([train.label_names.index(name) for name in test.label_names])
    assert test.labels is not None
    return Items(
        ids=test.ids,
        values=test.values,
        kind=test.kind,
        labels=number[test.labels],
        label_names=train.label_names,
        skipped=test.skipped,
        source=test.source,
    )


def shared_ids(train: Items, test: Items) -> tuple[Tensor, Tensor]:
    """int64 ids of train's and test's items: equal only for the same item, that is, same name and same content."""
    if test is train:
        return torch.arange(len(train)), torch.arange(len(train))
    where = {name: row for row, name in enumerate(train.ids)}
    ids = np.arange(len(train), len(train) + len(test))
    for row, name in enumerate(test.ids):
        other = where.get(name)
        if other is not None and np.array_equal(test.values[row], train.values[other]):
            ids[row] = other
    return torch.arange(len(train)), torch.from_numpy(ids)


def copies(train: Items, test: Items, test_ids: Tensor) -> int:
    """How many of test's items have the content of one of train's under another id: they find themselves.

    ``test_ids`` are those of ``shared_ids``. Cost: one pass over the bytes of both, none where all ids are shared.
    """
    apart = test.values[(test_ids >= len(train)).numpy()]
    known = {content_digest(value) for value in train.values} if len(apart) else set()
    return sum(content_digest(value) in known for value in apart)


def said_of_copies(scores: Sequence[Score]) -> str:
    """A sentence on ``copies`` for people; empty where there are none."""
    found = {int(score.protocol.get("copies", 0)) for score in scores}
    count = max(found, default=0)
    if not count:
        return ""
    return (
        f"{count:,} of the items looked up {'is' if count == 1 else 'are'} among those searched too, under another id, "
        "and so find themselves: figures are too good. Name the column of ids with --key, or take them out."
    )


def tasks(model: Model, train: Items, test: Items | None) -> Iterator[Task]:
    """The three representations, one after the other so that one set of features is in memory at a time."""
    ids = shared_ids(train, train if test is None else test)
    about: dict[str, str | int | float] = {
        "train": train.source,
        "train_items": len(train),
        "train_ids_hash": train.ids_hash,
        "test": "train, each left out" if test is None else test.source,
        "test_items": len(train if test is None else test),
        "test_ids_hash": (train if test is None else test).ids_hash,
        "copies": 0 if test is None else copies(train, test, ids[1]),
    }
    rows, other, layer = raw_rows(model, train, test)
    stamp = about | ({"size": model.settings.size} if train.kind == "images" else {})
    yield Task(name="raw", embedding=(rows, other), backbone=(rows, other), layers=(layer, layer), ids=ids, about=stamp)
    del rows, other
    for name, one in encoders(model, train):
        z = one.features(train)
        h = one.features(train, layer="backbone")
        z_test = z if test is None else one.features(test)
        h_test = h if test is None else one.features(test, layer="backbone")
        stamp = {**one.protocol("embedding"), **about}
        del stamp["layer"]
        layers = ("embedding", "backbone")
        yield Task(name=name, embedding=(z, z_test), backbone=(h, h_test), layers=layers, ids=ids, about=stamp)


def raw_rows(model: Model, train: Items, test: Items | None) -> tuple[Tensor, Tensor, str]:
    """Unit rows of train and of test (train's again without one), and what they are.

    Pixels centred by train's mean, or standardised vectors.
    """
    if train.kind == "images":
        rows, mean = raw_pixels(train.values)
        return rows, rows if test is None else raw_pixels(test.values, mean)[0], "pixels, centred"
    rows = functional.normalize(model.standardise(torch.from_numpy(np.array(train.values))), dim=1)
    other = rows
    if test is not None:
        other = functional.normalize(model.standardise(torch.from_numpy(np.array(test.values))), dim=1)
    return rows, other, "standardised vectors"


def encoders(model: Model, items: Items) -> Iterator[tuple[str, Model]]:
    """The untrained encoder and the learned one; a backbone of one's own has no untrained twin."""
    if not model.own_backbone:
        untrained = Model.untrained(model.settings, items)
        untrained.vector_mean, untrained.vector_std = model.vector_mean, model.vector_std
        yield "untrained", untrained
    yield "learned", model


def measure(task: Task, train: Items, test: Items | None, protocol: Protocol, temperature: float) -> list[Score]:
    """All scores of one representation, named ``raw/knn``, ``learned/svm``, ``learned/knn/5-per-class`` ..."""
    train_ids, test_ids = task.ids
    train_labels = torch.from_numpy(np.asarray(train.labels))
    test_labels = train_labels if test is None else torch.from_numpy(np.asarray(test.labels))
    k = min(protocol.k, len(train) - 1)
    z, z_test = task.embedding
    accuracy = knn_accuracy(
        z_test, test_labels, z, train_labels, k=k, temperature=temperature, query_ids=test_ids, key_ids=train_ids
    )
    about = {**task.about, "layer": task.layers[0]}
    scores = [Score(name="knn", value=accuracy, protocol={**about, "k": k, "temperature": temperature})]
    fresh = (test_ids >= len(train)).nonzero().squeeze(1)  # a classifier is not tested on what it was fit on
    if test is not None and len(fresh):
        about["test_items"] = len(fresh)
        h, h_test = task.backbone
        scores += _linear(
            h, train_labels, h_test[fresh], test_labels[fresh], protocol, {**about, "layer": task.layers[1]}
        )
        if protocol.few_labels:
            few = FewLabelsSettings(
                per_class=protocol.per_class,
                fractions=protocol.fractions,
                seeds=tuple(range(protocol.seeds)),
                k=protocol.k,
                temperature=temperature,
            )
            found = few_labels(z, train_labels, train.ids, z_test[fresh], test_labels[fresh], few)
            scores += [score.stamped(about) for score in found]
    return [
        Score(name=f"{task.name}/{score.name}", value=score.value, std=score.std, protocol=score.protocol)
        for score in scores
    ]


def _linear(
    h: Tensor,
    labels: Tensor,
    h_test: Tensor,
    test_labels: Tensor,
    protocol: Protocol,
    about: dict[str, str | int | float],
) -> list[Score]:
    scores = []
    if protocol.svm:
        svm = linear_svm(h, labels, h_test, test_labels)
        scores.append(Score(name="svm", value=svm.accuracy, protocol={**about, "C": 1.0}))
    if protocol.probe_epochs:
        settings = ProbeSettings(lr=protocol.probe_lr, epochs=protocol.probe_epochs, milestones=milestones(protocol))
        probe = linear_probe(h, labels, h_test, test_labels, settings)
        stamp: dict[str, str | int | float] = {
            **about,
            "lr": settings.lr,
            "weight_decay": settings.weight_decay,
            "probe_epochs": settings.epochs,
            "best_epoch_by_test": probe.best_epoch,
            "best_by_test": probe.accuracy_best,
        }
        stamp |= {"trouble": probe.trouble} if probe.trouble else {}
        scores.append(Score(name="probe", value=probe.accuracy_last, protocol=stamp))
    return scores


def milestones(protocol: Protocol) -> tuple[int, ...]:
    """MoCo's 60 and 80 of 100 epochs, in proportion."""
    return tuple(sorted({max(1, round(protocol.probe_epochs * share)) for share in (0.6, 0.8)}))


def _temperature(model: Model, protocol: Protocol) -> float:
    return model.settings.objective.temperature if protocol.temperature is None else protocol.temperature


def save_scores(path: Path, scores: Sequence[Score]) -> None:
    """Writes all scores with their protocols as JSON, atomically. Raises LikewiseError when it can't."""
    try:
        with atomic_write(path) as file:
            file.write(json.dumps([score.as_dict() for score in scores], indent=1, ensure_ascii=False).encode())
    except OSError as error:
        raise LikewiseError(f"can't write {path}: {error.strerror}; choose another --out.") from error


def table(scores: Sequence[Score]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of text: measures down, representations across."""
    return lay_out(scores, "accuracy, %", describe_measure, percent)


def lay_out(
    scores: Sequence[Score], corner: str, describe: Callable[[str], str], cell: Callable[[Score], str]
) -> tuple[list[str], list[list[str]]]:
    """``table`` with its words: those of the corner, of a measure's name, and of a number."""
    value = {score.name: score for score in scores}
    names = list(dict.fromkeys(score.name.partition("/")[2] for score in scores))
    shown = [name for name in REPRESENTATIONS if any(score.name.startswith(name + "/") for score in scores)]
    rows = []
    for name in names:
        cells = [value.get(f"{representation}/{name}") for representation in shown]
        rows.append([describe(name), *("" if found is None else cell(found) for found in cells)])
    return [corner, *("untrained encoder" if name == "untrained" else name for name in shown)], rows


def describe_measure(name: str) -> str:
    """``knn/5-per-class`` in words."""
    kind, _, subset = name.partition("/")
    words = {"knn": "weighted kNN", "svm": "linear SVM", "probe": "linear probe"}[kind]
    return f"{words}, {subset.replace('-per-class', ' per class') if subset else 'all labels'}"


def percent(score: Score) -> str:
    """``12.3`` or ``12.3 ± 0.4``; a failed measurement says so."""
    if score.value != score.value:
        return "diverged"
    return f"{100 * score.value:.1f}" + (f" ± {100 * score.std:.1f}" if score.std is not None else "")


def print_table(scores: Sequence[Score]) -> None:
    """The table on standard output."""
    print_rows(*table(scores))


def print_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows of text in columns on standard output."""
    from rich.console import Console
    from rich.table import Table

    drawn = Table(*(header[:1]), show_edge=False)
    for name in header[1:]:
        drawn.add_column(name, justify="right")
    for row in rows:
        drawn.add_row(*row)
    Console().print(drawn)
