"""Checks of the input of every measure; an error is one sentence that names the argument and the row."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.alike import Ids, as_ids, check_dense, refuse_masked
from likewise.config.ranges import POSITIVE
from likewise.config.values import as_float
from likewise.errors import LikewiseError, number
from likewise.text import quoted

Rows = Tensor | npt.NDArray[np.floating[Any]] | Sequence[Sequence[float]]
_TILE = 8192  # rows copied at once


def as_rows(name: str, rows: Rows) -> Tensor:
    """Rows as a float tensor (N, D): a tensor unchanged, an array as a view of its memory, a list as a copy.

    Raises LikewiseError if there are no rows or columns, on another shape, and on a dtype that is not floating point.
    O(1), except for a list.
    """
    rows = as_tensor(name, rows)
    if rows.ndim != 2:
        raise LikewiseError(f"{name} must have shape (N, D), one row per item, but has shape {tuple(rows.shape)}.")
    if not rows.is_floating_point():
        raise LikewiseError(f"{name} must be floating point, but is {rows.dtype}; convert with .float().")
    if rows.shape[0] == 0 or rows.shape[1] == 0:
        raise LikewiseError(f"{name} is empty (shape {tuple(rows.shape)}); there is nothing to measure.")
    return rows


def as_tensor(name: str, rows: Rows | Sequence[float]) -> Tensor:
    """A dense tensor as it is; an array in any byte order or a list as a tensor. Raises LikewiseError on others."""
    if isinstance(rows, Tensor):
        check_dense(name, rows)
        return rows
    refuse_masked(name, rows)
    try:
        array = np.asarray(rows)
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape)
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    except (TypeError, ValueError):
        raise LikewiseError(
            f"{name} can't be read as numbers: give a tensor, an array, or lists of numbers, all of one length."
        ) from None


def check_finite(name: str, rows: Tensor, first: int = 0) -> None:
    """Raise LikewiseError naming the first row of (N, D) ``rows`` that holds NaN or infinity.

    ``first`` is the number of the first given row, if a larger set is checked in tiles. One pass over the rows, with
    the memory of one tile.
    """
    for start in range(0, rows.shape[0], _TILE):
        check_peaks(name, peaks(rows[start : start + _TILE]), first + start)


def peaks(rows: Tensor) -> Tensor:
    """Largest magnitude of each of (N, D) rows, (N,); NaN or infinity if an entry is. Copies the rows once."""
    return rows.detach().abs().amax(1)  # fifteen times as fast on a CPU as torch's infinity norm


def check_peaks(name: str, largest: Tensor, first: int = 0) -> None:
    """``check_finite`` for a caller that has computed each row's largest magnitude, (N,)."""
    bad = ~torch.isfinite(largest)
    if bool(bad.any()):
        row = first + int(bad.nonzero()[0])
        raise LikewiseError(f"{name} row {row} holds NaN or infinity; check the encoder's output for that item.")


def as_labels(name: str, labels: Ids, rows: Tensor | None = None) -> Tensor:
    """Labels as an integer tensor (N,), none negative; with ``rows``, one label for each row.

    Raises LikewiseError on anything else.
    """
    labels = as_ids(name, labels)
    if rows is None and labels.ndim != 1:
        raise LikewiseError(f"{name} must be (N,), one label per item, but have shape {tuple(labels.shape)}.")
    if rows is not None and (labels.ndim != 1 or labels.shape[0] != rows.shape[0]):
        raise LikewiseError(
            f"{name} must hold one label per row: {rows.shape[0]} rows but labels of shape {tuple(labels.shape)}."
        )
    if bool((labels < 0).any()):
        row = int((labels < 0).nonzero()[0])
        raise LikewiseError(f"{name} row {row} is {int(labels[row])}: leave unlabelled items out before measuring.")
    return labels


def check_ids(rows: Tensor, ids: Sequence[str]) -> None:
    """Raise LikewiseError unless there is one id per row and none occurs twice. O(N)."""
    if len(ids) != rows.shape[0]:
        raise LikewiseError(f"there are {len(ids)} ids but {rows.shape[0]} rows; give one id per row.")
    seen = set[str]()
    for item in ids:
        if item in seen:
            raise LikewiseError(f"id {quoted(item)} occurs twice; ids must name one item each.")
        seen.add(item)


def check_same_width(name: str, rows: Tensor, other_name: str, other: Tensor) -> None:
    """Raise LikewiseError unless both sets of rows have the same number of columns."""
    if rows.shape[1] != other.shape[1]:
        raise LikewiseError(
            f"{name} have {rows.shape[1]} columns but {other_name} have {other.shape[1]}: "
            "embed both with the same encoder and layer."
        )


def check_positive(name: str, value: float) -> None:
    """Raise LikewiseError unless ``value`` is above zero and fits into float32."""
    if not POSITIVE.holds(as_float(number(name, value))):
        raise LikewiseError(f"{name} must be {POSITIVE.words()}, but is {value}.")


def check_classes(labels: Tensor) -> Tensor:
    """The distinct labels, ascending, int64 (C,). Raises LikewiseError if there are fewer than two."""
    classes: Tensor = torch.unique(labels).long()
    if classes.numel() < 2:
        raise LikewiseError(
            f"every training label is {int(classes[0])}: a linear classifier needs at least two classes."
        )
    return classes
