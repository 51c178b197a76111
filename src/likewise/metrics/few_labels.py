"""Accuracy of an embedding with few labels: 1, 5, 10 labels per class, and 1 to 20 % of them."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from likewise.alike import Ids, as_ids
from likewise.console import Tick, part_of, untold
from likewise.errors import LikewiseError, at_least_one
from likewise.metrics.checks import Rows, as_labels, as_rows, check_classes, check_ids, check_positive, check_same_width
from likewise.metrics.linear import linear_svm
from likewise.metrics.neighbours import fair_k, knn_accuracy
from likewise.metrics.score import Score


@dataclass(frozen=True, kw_only=True)
class FewLabelsSettings:
    """The labelled subsets, and the settings of the two classifiers on them.

    Args:
        per_class: numbers of labels kept of each class; a class with fewer keeps all its labels.
        fractions: shares of the labels kept of each class, rounded to the nearest whole number, at least one label.
        seeds: for each seed a subset is drawn; mean and standard deviation are over the seeds.
        k: number of neighbours that vote, at most the number of labels kept. None: the mean number of labels of a
            class, at most NPID's 200, so that never all labels vote.
        temperature: τ of the votes.
        C: weight of the errors of the linear SVM.

    Raises:
        LikewiseError: τ, C, k, a number or a share out of range; seeds that are empty or repeat.
    """

    per_class: tuple[int, ...] = (1, 5, 10)
    fractions: tuple[float, ...] = (0.01, 0.02, 0.04, 0.1, 0.2)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    k: int | None = None
    temperature: float = 0.07
    C: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn or measured."""
        check_positive("temperature", self.temperature)
        check_positive("C", self.C)
        if self.k is not None:
            at_least_one("k", self.k, "it is a number of neighbours")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise LikewiseError(f"seeds must be one or more different numbers, but are {self.seeds}.")
        for count in self.per_class:
            at_least_one("per_class", count, "each is a number of labels")
        if any(not 0 < share <= 1 for share in self.fractions):
            raise LikewiseError(f"fractions must be above 0 and at most 1, but are {self.fractions}.")


def draw_order(ids: Sequence[str], seed: int) -> Tensor:
    """A random order of items that depends on the seed and the set of ids, not on their given order.

    Items are sorted by the BLAKE2b hash of seed and id. Two items therefore keep their order when the data set is
    shuffled or grows.

    Args:
        ids: N different strings.
        seed: any integer.

    Returns:
        int64 (N,), places in ``ids``.

    Cost: O(N log N), about 2 µs an item.
    """
    prefix = f"{seed}\0"
    marks = [hashlib.blake2b((prefix + item).encode("utf-8", "surrogateescape")).digest() for item in ids]
    return torch.tensor(sorted(range(len(ids)), key=marks.__getitem__), dtype=torch.int64)


def labelled_rows(labels: Ids, order: Tensor, keep: int | float) -> Tensor:
    """The rows whose labels are kept: the first of each class in ``order``.

    Subsets of the same order are nested: the 5 labels of a class include its 1 label.

    Args:
        labels: (N,) integers.
        order: int64 (N,), from :func:`draw_order`.
        keep: an int keeps that many of each class, or all where there are fewer; a float keeps that share of
            each class, rounded half up, at least one.

    Returns:
        int64 rows, class by class, and within a class in ``order``. The order of the data set does not change which
        items these are, nor their sequence.
    """
    ordered = as_ids("labels", labels).cpu().long()[order]
    kept = []
    for label in torch.unique(ordered):
        rows = order[ordered == label]
        kept.append(rows[: _number_kept(rows.numel(), keep)])
    return torch.cat(kept)


def _number_kept(size: int, keep: int | float) -> int:
    """How many labels a class of ``size`` keeps."""
    return min(size, keep if isinstance(keep, int) else max(1, math.floor(keep * size + 0.5)))


def _different(plans: Iterable[int | float], labels: Tensor) -> list[int | float]:
    """The plans without those that keep the same labels as an earlier one."""
    sizes = torch.unique(labels, return_counts=True)[1].tolist()
    first: dict[tuple[int, ...], int | float] = {}
    for keep in plans:
        first.setdefault(tuple(_number_kept(size, keep) for size in sizes), keep)
    return list(first.values())


def few_labels(
    train_features: Rows,
    train_labels: Ids,
    train_ids: Sequence[str],
    test_features: Rows,
    test_labels: Ids,
    settings: FewLabelsSettings | None = None,
    tick: Tick = untold,
) -> list[Score]:
    """Test accuracy of weighted kNN and of a linear SVM, from few labelled training rows.

    The subsets depend only on ids, labels and seeds, so all representations of the same data use the same subsets.
    Departure: NPID's figure 6 fine-tunes the network on the labelled images; here it stays frozen.

    Args:
        train_features: (N, D) float32 or float64; unit rows for the kNN.
        train_labels: (N,) integers ≥ 0, at least two different.
        train_ids: N different strings.
        test_features: (M, D).
        test_labels: (M,) integers ≥ 0.
        settings: None: the defaults.
        tick: told the share of the work that is done.

    Returns:
        Scores named ``knn/1-per-class``, ``svm/1-per-class``, ..., ``knn/20%``, ``svm/20%``: mean over seeds, std
        with n − 1 (None for one seed). The protocol has the total number of labels kept, k or C, and the seeds. Where
        several numbers or shares keep the same labels, as with few items, only the first has scores.

    Raises:
        LikewiseError: wrong shapes or lengths, NaN (by row), one class only, an id twice.

    Cost: a kNN and an SVM for each seed and subset.
    """
    settings = settings or FewLabelsSettings()
    train_features = as_rows("train_features", train_features)
    test_features = as_rows("test_features", test_features)
    check_same_width("train_features", train_features, "test_features", test_features)
    train_labels = as_labels("train_labels", train_labels, train_features)
    test_labels = as_labels("test_labels", test_labels, test_features)
    check_classes(train_labels)
    check_ids(train_features, train_ids)
    plans = _different([*map(int, settings.per_class), *map(float, settings.fractions)], train_labels)
    accuracies: dict[tuple[int, str], list[float]] = {}
    test_ids = torch.arange(len(test_features)) + len(train_features)  # each is another item than the training rows
    kept: dict[int, tuple[int, int]] = {}  # the number of labels, and k
    for drawn, seed in enumerate(settings.seeds):
        order = draw_order(train_ids, seed)
        for number, keep in enumerate(plans):
            rows = labelled_rows(train_labels, order, keep).to(train_features.device)
            task = train_features[rows], train_labels.to(rows.device)[rows]
            k = min(rows.numel(), fair_k(task[1]) if settings.k is None else settings.k)
            kept[number] = rows.numel(), k
            knn = knn_accuracy(
                *(test_features, test_labels, *task),
                k=k,
                temperature=settings.temperature,
                query_ids=test_ids,
                key_ids=rows,
            )
            svm = linear_svm(*task, test_features, test_labels, C=settings.C).accuracy
            accuracies.setdefault((number, "knn"), []).append(knn)
            accuracies.setdefault((number, "svm"), []).append(svm)
            part_of(tick, drawn, len(settings.seeds))((number + 1) / len(plans))
    return [
        _score(classifier, plans[number], *kept[number], values, settings)
        for (number, classifier), values in accuracies.items()
    ]


def _score(
    classifier: str, keep: int | float, kept: int, k: int, values: list[float], settings: FewLabelsSettings
) -> Score:
    """Mean and spread over the seeds, with the protocol of the subset and the classifier."""
    protocol: dict[str, str | int | float] = {
        "labels_kept": f"{keep} per class" if isinstance(keep, int) else f"{keep * 100:g} % of each class, at least 1",
        "labels_total": kept,
        "seeds": ",".join(map(str, settings.seeds)),
    }
    if classifier == "knn":
        protocol |= {"k": k, "temperature": settings.temperature}
    else:
        protocol |= {"C": settings.C}
    accuracies = torch.tensor(values, dtype=torch.float64)
    return Score(
        name=f"{classifier}/{keep}-per-class" if isinstance(keep, int) else f"{classifier}/{keep * 100:g}%",
        value=float(accuracies.mean()),
        std=float(accuracies.std()) if len(values) > 1 else None,
        protocol=protocol,
    )
