"""``likewise evaluate``: kNN and linear classifiers on a run, raw pixels and the untrained encoder."""

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from likewise.console import Tick, part_of, stages
from likewise.data import Items
from likewise.data.label_files import refuse_shared
from likewise.errors import LikewiseError
from likewise.evaluation.baselines import embedded, encoders, raw_rows
from likewise.evaluation.labelled_items import (
    check_measures,
    data_stamp,
    labelled,
    one_label,
    options_text,
    renewal_command,
    same_classes,
    shared_ids,
)
from likewise.evaluation.scores import AS_TRAINED, Scores, table
from likewise.metrics.few_labels import FewLabelsSettings, few_labels
from likewise.metrics.linear import ProbeSettings, linear_probe, linear_svm
from likewise.metrics.neighbours import fair_k, knn_accuracy
from likewise.metrics.score import Score
from likewise.model import Layer, Model, model_of
from likewise.stamp import Stamp

MEASURES = ("knn", "svm", "probe", "few-labels")
# Of the command.
OPTIONS = (
    *("labels", "test_labels", "key", "image", "columns"),
    *("measures", "k", "temperature", "probe_lr", "probe_epochs", "seeds"),
)
TEMPERATURE = 0.07  # of NPID's votes


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a run is measured.

    Args:
        labels: auto, the column of the label, or a file of labels.
        test_labels: those of the test items; None: ``labels``, unless it is a .npy file, with a label for each row.
        key: the column of the ids; None: as the run was trained.
        image: the parquet column of the images; None: as the run was trained.
        columns: the columns of the vectors; empty: as the run was trained.
        measures: which to compute: knn, svm (the linear SVM on all labels), probe, few-labels.
        k: number of neighbours that vote; None: the mean number of labels of a class, at most NPID's 200.
        temperature: temperature of the votes, the same for every representation; None: NPID's 0.07, and one more score,
            ``knn/as-trained``, with the temperature of training if that is another, as in NPID.
        probe_lr: learning rate of the linear probe; MoCo has 30. It suits rows of length 1, so features are normalised.
        probe_epochs: epochs of the linear probe; MoCo has 100; 0: no probe.
        per_class: numbers of labels kept per class.
        fractions: shares of the labels kept.
        seeds: number of draws of the few labels.
    """

    labels: str = "auto"
    test_labels: str | None = None
    key: str | None = None
    image: str | None = None
    columns: tuple[str, ...] = ()
    measures: tuple[str, ...] = MEASURES
    k: int | None = None
    temperature: float | None = None
    probe_lr: float = 30.0
    probe_epochs: int = 100
    per_class: tuple[int, ...] = (1, 5, 10)
    fractions: tuple[float, ...] = (0.01, 0.02, 0.04, 0.1, 0.2)
    seeds: int = 5


@dataclass(frozen=True, kw_only=True)
class Task:
    """Train and test rows of one representation. Without a test set, the train rows are also the test rows."""

    name: str
    embedding: tuple[Tensor, Tensor]  # (N, D) and (M, D) rows, for kNN
    backbone: tuple[Tensor, Tensor]  # (N, F) and (M, F) rows, for linear classifiers
    layers: tuple[str, str]  # names of these two layers
    ids: tuple[Tensor, Tensor]  # (N,) and (M,), equal only for the same item
    about: Stamp


def evaluate(
    model: Model | str | Path,
    *,
    train: object,
    test: object | None = None,
    protocol: Protocol | None = None,
    progress: bool = True,
) -> list[Score]:
    """Measures ``model``, raw pixels (or vectors) and the untrained encoder on the same items.

    Weighted kNN (NPID §3.4) and few labels use the embedding. The linear SVM and MoCo's linear probe use the features
    of the backbone. An item that is in train and in test is never its own neighbour, and no classifier is tested on it.
    For test classes that train does not have, use ``retrieve.retrieve``.

    Args:
        model: the model to measure, or the folder of its run. If its backbone is the user's own module, there is no
            untrained encoder, since the settings alone can't build it.
        train: source of the labelled items that neighbours and classifiers learn from, one label each.
        test: source of the labelled items that are classified. None: only kNN, of each train item among the others.
        protocol: how to measure; None: the defaults.
        progress: show bars.

    Returns:
        Scores named ``raw/knn``, ``learned/svm``, ``learned/knn/5-per-class`` ..., accuracies in [0, 1].

    Raises:
        LikewiseError: a measure is unknown or needs test items; labels are missing, fewer than two, several per item,
            or a file by row that both would share; or train lacks a label of test.

    Departures: the probe has no augmentation (features are computed once) and normalises features. NPID fine-tunes on
    few labels; here the encoder stays frozen.

    Cost: each encoder embeds the items twice, once per layer; then see ``knn_accuracy``, ``linear_svm``,
    ``linear_probe`` and ``few_labels``.
    """
    model = model_of(model)
    protocol = protocol or Protocol()
    check_measures(protocol.measures, MEASURES)
    if test is None and "knn" not in protocol.measures:
        raise LikewiseError(f"{', '.join(protocol.measures)}: without test items only knn is measured; give test.")

    if test is not None and protocol.test_labels is None:
        refuse_shared(protocol.labels, "name those of the test items with test_labels=")

    def opened(source: object, labels: str) -> Items:
        p = protocol
        items = model.open(source, labels=labels, key=p.key, image=p.image, columns=p.columns, progress=progress)
        return one_label(labelled(items))

    train_items = opened(train, protocol.labels)
    test_items = None
    if test is not None:
        test_items = same_classes(opened(test, protocol.test_labels or protocol.labels), train_items)
    scores: list[Score] = []
    with stages(enabled=progress) as begin:
        for task in tasks(model, train_items, test_items, protocol.measures, begin):
            scores += measure(task, train_items, test_items, protocol, temperatures(model, protocol), begin)
    return Scores(scores, table)


def tasks(
    model: Model, train: Items, test: Items | None, measures: Container[str], begin: Callable[[str], Tick]
) -> Iterator[Task]:
    """The three representations, one after the other, so that only one set of features is in memory at a time.

    The backbone is left out where no measure needs it: its rows are then those of the embedding.
    """
    ids = shared_ids(train, train if test is None else test)
    about = data_stamp("train", "test", train, test, ids[1], tick=begin("looking for copies"))
    rows, other, layer = raw_rows(model, train, test, tick=begin("reading raw rows"))
    stamp = about | ({"size": model.settings.size} if train.kind == "images" else {})
    yield Task(name="raw", embedding=(rows, other), backbone=(rows, other), layers=(layer, layer), ids=ids, about=stamp)
    del rows, other
    for name, encoder in encoders(model, train):
        z, z_test = _both(encoder, train, test, "embedding", begin(f"{name}: embedding"))
        h, h_test = z, z_test
        if test is not None and ("svm" in measures or "probe" in measures):
            h, h_test = _both(encoder, train, test, "backbone", begin(f"{name}: backbone"))
        stamp = {**encoder.protocol("embedding"), **about}
        del stamp["layer"]
        layers = ("embedding", "backbone")
        yield Task(name=name, embedding=(z, z_test), backbone=(h, h_test), layers=layers, ids=ids, about=stamp)


def _both(encoder: Model, train: Items, test: Items | None, layer: Layer, tick: Tick) -> tuple[Tensor, Tensor]:
    """The rows of train and of test; without a test set those of train, twice."""
    if test is None:
        rows = embedded(encoder, train, layer, tick=tick)
        return rows, rows
    first, second = part_of(tick, 0, 2), part_of(tick, 1, 2)
    return embedded(encoder, train, layer, tick=first), embedded(encoder, test, layer, tick=second)


def measure(
    task: Task,
    train: Items,
    test: Items | None,
    protocol: Protocol,
    temperatures: dict[str, float],
    begin: Callable[[str], Tick],
) -> list[Score]:
    """All scores of one representation, named ``raw/knn``, ``learned/svm``, ``learned/knn/5-per-class`` ...

    Args:
        task: the rows of the representation.
        train: labelled items.
        test: labelled items, or None to leave each item of ``train`` out of its own vote.
        protocol: how to measure.
        temperatures: of the votes of each kNN score, by the score's name.
        begin: begins a stage of the bar.
    """

    def stage(what: str) -> Tick:
        return begin(f"{task.name}: {what}")

    train_ids, test_ids = task.ids
    train_labels = torch.from_numpy(np.asarray(train.labels))
    test_labels = train_labels if test is None else torch.from_numpy(np.asarray(test.labels))
    k = min(fair_k(train_labels) if protocol.k is None else protocol.k, len(train) - 1)
    z, z_test = task.embedding
    options = options_of(protocol)
    about = {**task.about, "layer": task.layers[0]} | ({"options": options} if options else {})
    scores = []
    for name, tau in temperatures.items() if "knn" in protocol.measures else ():
        accuracy = knn_accuracy(
            z_test,
            test_labels,
            z,
            train_labels,
            k=k,
            temperature=tau,
            query_ids=test_ids,
            key_ids=train_ids,
            tick=stage(name),
        )
        scores.append(Score(name=name, value=accuracy, protocol={**about, "k": k, "temperature": tau}))
    fresh = (test_ids >= len(train)).nonzero().squeeze(1)  # classifiers are tested only on items that are not in train
    if test is not None and len(fresh):
        about["test_items"] = len(fresh)
        h, h_test = task.backbone
        stamp: Stamp = {**about, "layer": task.layers[1]}
        scores += _linear(h, train_labels, h_test[fresh], test_labels[fresh], protocol, stamp, stage)
        if "few-labels" in protocol.measures:
            few = FewLabelsSettings(
                per_class=protocol.per_class,
                fractions=protocol.fractions,
                seeds=tuple(range(protocol.seeds)),
                k=protocol.k,
                temperature=temperatures["knn"],
            )
            measured = few_labels(
                z, train_labels, train.ids, z_test[fresh], test_labels[fresh], few, tick=stage("few labels")
            )
            scores += [score.stamped(about) for score in measured]
    return [
        Score(name=f"{task.name}/{score.name}", value=score.value, std=score.std, protocol=score.protocol)
        for score in scores
    ]


def options_of(protocol: Protocol) -> str:
    """The options of ``likewise evaluate`` that make this protocol, of those that are not the default."""
    given = {name: value for name, value in asdict(protocol).items() if name in OPTIONS}
    return options_text(given, asdict(Protocol()))


def renewal(run: Path, protocol: Mapping[str, object]) -> list[str]:
    """The command that measures again what a score's protocol says."""
    return renewal_command("evaluate", run, protocol, "train", "test")


def _linear(
    h: Tensor,
    labels: Tensor,
    h_test: Tensor,
    test_labels: Tensor,
    protocol: Protocol,
    about: Stamp,
    stage: Callable[[str], Tick],
) -> list[Score]:
    """The scores of the linear SVM and the linear probe, where they are asked for."""
    scores = []
    if "svm" in protocol.measures:
        svm = linear_svm(h, labels, h_test, test_labels, tick=stage("linear SVM"))
        scores.append(Score(name="svm", value=svm.accuracy, protocol={**about, "C": 1.0}))
    if "probe" in protocol.measures and protocol.probe_epochs:
        settings = ProbeSettings(lr=protocol.probe_lr, epochs=protocol.probe_epochs, milestones=milestones(protocol))
        probe = linear_probe(h, labels, h_test, test_labels, settings, tick=stage("linear probe"))
        stamp: Stamp = {
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
    """The epochs after which the learning rate drops, in proportion to MoCo's 60 and 80 of 100."""
    return tuple(sorted({max(1, round(protocol.probe_epochs * share)) for share in (0.6, 0.8)}))


def temperatures(model: Model, protocol: Protocol) -> dict[str, float]:
    """τ of the votes of each kNN score: one for all models and, where none is given, that of training beside it."""
    if protocol.temperature is not None:
        return {"knn": protocol.temperature}
    trained = model.settings.objective.number("temperature", TEMPERATURE)
    return {"knn": TEMPERATURE} | ({f"knn/{AS_TRAINED}": trained} if trained != TEMPERATURE else {})
