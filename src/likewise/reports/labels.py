"""What is said of an item in the report: its label or its id, and whether two items have another label."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from likewise.data import Items

NONE = "no label"


def columns_of(items: Items) -> Tensor | None:
    """(N, L) int64 labels, below 0 where there is none; None of items without labels."""
    if items.labels is None:
        return None
    return torch.from_numpy(np.asarray(items.labels)).reshape(len(items), -1)


def label_of(items: Items, row: int) -> str:
    """The labels of an item as text."""
    assert items.labels is not None
    return text_of(np.atleast_1d(items.labels[row]).tolist(), items.label_names) or NONE


def text_of(labels: Iterable[int], names: Sequence[str]) -> str | None:
    """The names of an item's labels, with commas between several; None where all are below 0."""
    return ", ".join(names[label] for label in labels if label >= 0) or None


def called(items: Items, row: int) -> str:
    """What stands below an item's picture: its label; its id where items have no labels."""
    return items.ids[row] if items.labels is None else label_of(items, row)


def differ(labels: Tensor, rows: Tensor, others: Tensor) -> Tensor:
    """(Q, k) bool: whether an item and each of its others both have labels, and none in common.

    Args:
        labels: (N, L) int64, below 0: none.
        rows: (Q,) int64.
        others: (Q, k) int64, below 0: no item, which never differs.
    """
    wide = labels.shape[1]
    common = torch.zeros(others.shape, dtype=torch.bool)
    there = others >= 0
    theirs = labels[others.clamp_min(0)]  # (Q, k, L)
    for column in range(wide):
        mine = labels[rows, column][:, None, None]
        common |= ((theirs == mine) & (mine >= 0)).any(2)
    known = (labels[rows] >= 0).any(1)[:, None] & (theirs >= 0).any(2) & there
    return known & ~common
