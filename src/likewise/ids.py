"""Ids, labels and row numbers: what they may be, and the sentence where they are something else.

Dimension legend: N items, L labels of an item.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.derivatives import traced
from likewise.errors import LikewiseError

Ids = Tensor | npt.NDArray[np.integer[Any]] | Sequence[int] | Sequence[Sequence[int]]
Flags = Tensor | npt.NDArray[np.bool_] | Sequence[bool]


def as_ids(name: str, ids: Ids, device: torch.device | None = None) -> Tensor:
    """Ids, labels or row numbers as int64. An int64 tensor stays as it is; other integers are converted.

    It reads no value of a tensor, so nothing waits for a device; of uint64 alone it does.

    Args:
        name: the argument's, for messages.
        ids: integers of any shape, signed or not.
        device: where an array or a list goes; None: the CPU.

    Raises:
        LikewiseError: floats, bools, text, numbers beyond 63 bits, or rows of different lengths.
    """
    found = ids if isinstance(ids, Tensor) else _integers(name, ids, device)
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        said = f"{name} are {found.dtype}; they must be integers, such as torch.int64"
        if name == "ids" and found.ndim == 2:
            said += ". Two views z0, z1 of the same items go in as objective(*likewise.objectives.from_views(z0, z1))"
        raise LikewiseError(f"{said}.")
    numbers = found.long()
    if found.dtype == torch.uint64 and not traced() and bool((numbers < 0).any()):
        raise LikewiseError(f"{name} go beyond 64 bits with a sign; number them from 0.")
    return numbers


def as_flags(name: str, flags: Flags, device: torch.device | None = None) -> Tensor:
    """Flags (N,) as a bool tensor. Raises LikewiseError on other dtypes."""
    found = flags if isinstance(flags, Tensor) else torch.as_tensor(np.array(flags), device=device)
    if found.dtype != torch.bool:
        raise LikewiseError(f"{name} are {found.dtype}; they must be torch.bool, one for each.")
    return found


def check_rows(name: str, ids: Tensor, count: int, what: str, *, none: bool = False, wait: bool = False) -> None:
    """Raises LikewiseError that names the first id which is no number of a row, and its place.

    Args:
        name: the argument's, for messages.
        ids: int64 of any shape.
        count: number of rows; they are numbered from 0.
        what: the rows, in words.
        none: numbers below 0 are fine: they name no row.
        wait: look on every device. By default on the CPU alone, where looking does not wait for the device.
    """
    if traced() or not ids.numel() or not (wait or ids.device.type == "cpu"):
        return
    least, most = map(int, ids.aminmax()) if ids.is_cpu else torch.stack(ids.aminmax()).tolist()
    if most < count and (none or least >= 0):
        return
    wrong = (ids >= count) if none else (ids >= count) | (ids < 0)
    place = wrong.nonzero()[0].tolist()
    where, value = ", ".join(map(str, place)), int(ids[tuple(place)])
    raise LikewiseError(f"{name}[{where}] is {value}, but there are {count} {what}, numbered from 0.")


def check_labels(name: str, labels: Tensor) -> None:
    """Raises LikewiseError where (N, L) labels are a table of zeros and ones, one column per class.

    Read as labels, every row would have the labels 0 and 1, and all items would be alike. It reads values, so it waits
    for the device.
    """
    if labels.ndim != 2 or labels.shape[1] < 2 or not len(labels):
        return
    if torch.stack(labels.aminmax()).tolist() != [0, 1]:
        return
    ones, columns = labels.sum(1), labels.shape[1]
    mixed = (ones > 0) & (ones < columns)
    if not bool(mixed.any() if columns > 2 else mixed.all()):
        return
    advice = f"{name}.argmax(1)" if bool((ones == 1).all()) else "the numbers of each row's classes, padded with -1"
    raise LikewiseError(
        f"{name} {tuple(labels.shape)} are zeros and ones, as a table with a column per class has; here each row lists "
        f"its labels: pass {advice}."
    )


def _integers(name: str, ids: Ids, device: torch.device | None) -> Tensor:
    """Makes a tensor of an array or a list: int64 for integers. The caller refuses floats and bools."""
    try:
        array = np.asarray(ids)
    except ValueError:
        said = f"{name} are rows of different lengths; pad the shorter ones with −1, which is no label."
        raise LikewiseError(said) from None
    if array.size == 0:
        array = array.astype(np.int64)  # an empty list has no dtype of its own
    if array.dtype.kind not in "biufc":
        raise LikewiseError(
            f"{name} hold {str(array.flat[0])!r}, which is not an integer; number them first, for example with "
            f"numpy.unique({name}, return_inverse=True)[1]."
        )
    if array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max:
        raise LikewiseError(f"{name} go up to {array.max()}, beyond 64 bits with a sign; number them from 0.")
    return torch.from_numpy(array.astype(np.int64 if array.dtype.kind in "iu" else array.dtype)).to(device)
