"""Splits classes into training, validation and test; no class is in two parts."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from likewise.config.overrides import settings_from
from likewise.config.settings import FitSettings
from likewise.data import Items
from likewise.data.items import content_digest
from likewise.data.label_files import refuse_shared
from likewise.errors import LikewiseError, LikewiseWarning
from likewise.model import open_by
from likewise.text import quoted

BATCH, CLASSES = 128, 32  # the largest number of items and of classes in a batch: 4 items of each class


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Train and test items, which share no class. With trials, train is also divided into fit and validation."""

    train: Items
    test: Items
    fit: Items | None  # what trials train on
    validation: Items | None  # what trials are measured on
    said: str  # how the split was made, for the protocol


def of_data(overrides: Mapping[str, Any]) -> FitSettings:
    """The settings that all methods share: the overrides without those of objective and negatives."""
    own = ("objective", "negatives")
    return settings_from({name: value for name, value in overrides.items() if name.partition(".")[0] not in own})


def split_classes(
    data: object,
    test: object | None,
    overrides: Mapping[str, Any],
    test_share: float,
    validation: float,
    seed: int,
    *,
    progress: bool = True,
) -> Split:
    """Splits items by class into train and test, and train into fit and validation if ``validation`` > 0.

    The split depends only on the classes' names, the shares and ``seed``. See ``compare``.
    """
    settings = of_data(overrides)
    if test is not None:
        refuse_shared(settings.labels, "give labels by id, as a .parquet or .csv file")
    items = _one_label(open_by(settings, data, progress=progress))
    order = np.random.default_rng(seed).permutation(np.unique(np.asarray(items.labels)))
    if test is None:
        order, taken = _divided(order, test_share, items, "training and test need two each")
        train, tested = of_classes(items, order), of_classes(items, taken)
        said = f"{len(taken)} of {len(order) + len(taken)} classes, drawn by seed {seed}, are test classes"
        said += _said_of_copies(train, tested)
    else:
        train, tested = (
            of_classes(items, order),
            _one_label(open_by(replace(settings, split=None), test, progress=progress)),
        )
        if tested.kind != train.kind:
            raise LikewiseError(f"{tested.source} holds {tested.kind}, but {items.source} holds {items.kind}.")
        tested = of_classes(tested, np.unique(np.asarray(tested.labels)))
        shared = len(set(train.label_names) & set(tested.label_names))
        _refuse_copies(train, tested)
        said = f"{shared or 'none'} of the {len(tested.label_names)} classes of {tested.source} have a training name"
    _check_parts(train, tested)
    if not validation:
        return Split(train=train, test=tested, fit=None, validation=None, said=said)
    kept, held = _divided(order, validation, items, "trials' training and validation classes need two each")
    fit, held_out = of_classes(items, kept), of_classes(items, held)
    _check_parts(fit, held_out)
    return Split(train=train, test=tested, fit=fit, validation=held_out, said=said)


def _check_parts(train: Items, test: Items) -> None:
    """Raises LikewiseError if train has one class only, or if no test class has two items."""
    if len(train.label_names) < 2:
        raise LikewiseError(f"{train.source} has one label only; training by labels needs two classes at least.")
    if np.bincount(np.asarray(test.labels)).max() < 2:
        raise LikewiseError(
            f"of the {len(test.label_names)} classes held out of {test.source} none has two items, so there is "
            "nothing to retrieve."
        )


def _copies(train: Items, test: Items) -> Iterator[tuple[str, str]]:
    """Pairs of ids: a test item and a training item with the same content. One pass over both."""
    known = {content_digest(value): row for row, value in enumerate(train.each())}
    for name, value in zip(test.ids, test.each(), strict=True):
        row = known.get(content_digest(value))
        if row is not None:
            yield name, train.ids[row]


def _refuse_copies(train: Items, test: Items) -> None:
    """Raises LikewiseError on the first test item that has the content of a training item."""
    for name, trained in _copies(train, test):
        raise LikewiseError(
            f"item {quoted(name)} of {test.source} has the content of item {quoted(trained)} of {train.source}, so it "
            "would be trained on; test with items that no training sees."
        )


def _said_of_copies(train: Items, test: Items) -> str:
    """Warns if test items are copies of training items; returns a clause for the protocol, empty without copies."""
    copies = list(_copies(train, test))
    if not copies:
        return ""
    first, trained = copies[0]
    said = (
        f"{len(copies)} of the {len(test):,} test items are copies of training items under another label (such as "
        f"{quoted(first)} of {quoted(trained)}), so training sees them"
    )
    warnings.warn(f"{said}; leave one of each pair out.", LikewiseWarning, stacklevel=2)
    return f", and {said}"


def _divided(order: Any, share: float, items: Items, why: str) -> tuple[Any, Any]:
    """Divides classes in two: ``share`` of them is the second part. Each part has at least two classes."""
    if len(order) < 4:
        raise LikewiseError(f"{items.source} has too few classes: {len(order)} are left to divide, and {why}.")
    go = min(max(2, round(share * len(order))), len(order) - 2)
    return order[go:], order[:go]


def of_classes(items: Items, classes: Any) -> Items:
    """The items of these classes, in their order, with labels numbered from 0; other classes do not appear."""
    classes = np.sort(classes)
    labels = np.asarray(items.labels)
    part = items.select(np.flatnonzero(np.isin(labels, classes)))
    names = tuple(items.label_names[number] for number in classes)
    return replace(part, labels=np.searchsorted(classes, np.asarray(part.labels)), label_names=names, skipped=())


def _one_label(items: Items) -> Items:
    """The items with a label. Raises LikewiseError if there are none, or if an item has several."""
    if items.labels is None or not (items.labels >= 0).any():
        raise LikewiseError(
            f"{items.source} has no labels, which the split by classes needs: put images in a folder per class, or "
            "give --labels: a column, or a file of labels."
        )
    if items.labels.ndim != 1:
        raise LikewiseError(f"{items.source} has several labels per item; a split by classes needs one each.")
    return items if (items.labels >= 0).all() else items.select(np.flatnonzero(items.labels >= 0))
