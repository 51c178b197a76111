"""A number with its protocol, two monitors of collapse, and the baseline every encoder must beat: raw pixels."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from likewise.errors import LikewiseError
from likewise.evaluation.checks import check_finite, check_rows

_PIXEL_TILE = 4096  # images; bounds the float copy made on the way


@dataclass(frozen=True, kw_only=True)
class Score:
    """One measured number and how it was measured; neither travels without the other.

    Args:
        name: what was measured, such as ``knn`` or ``svm/1-per-class``.
        value: the number; accuracies are shares in [0, 1]. NaN when the measurement failed.
        std: standard deviation over seeds (n − 1 in the denominator), None when measured once.
        protocol: everything needed to repeat it: layer, k, temperature, data, ids_hash, epoch, seeds ...

    Raises:
        LikewiseError: an empty protocol, or a protocol value that is not text, an integer or a float.
    """

    name: str
    value: float
    std: float | None = None
    protocol: dict[str, str | int | float]

    def __post_init__(self) -> None:
        """Refuse a number without a protocol."""
        if not self.protocol:
            raise LikewiseError(f"score {self.name!r} has an empty protocol; say how it was measured.")
        for key, value in self.protocol.items():
            if not isinstance(value, str | int | float):
                raise LikewiseError(
                    f"protocol entry {key!r} of score {self.name!r} is a {type(value).__name__}; "
                    "write it as text, an integer or a float."
                )

    def stamped(self, protocol: Mapping[str, str | int | float]) -> "Score":
        """The same score with more protocol entries; LikewiseError when one contradicts what is there."""
        for key, value in protocol.items():
            if self.protocol.get(key, value) != value:
                raise LikewiseError(
                    f"score {self.name!r} was measured with {key} = {self.protocol[key]!r}, not {value!r}."
                )
        return replace(self, protocol={**self.protocol, **protocol})

    def as_dict(self) -> dict[str, object]:
        """Plain values for a larger JSON document; a number that is not finite becomes None."""
        return {
            "name": self.name,
            "value": self.value if math.isfinite(self.value) else None,
            "std": self.std if self.std is not None and math.isfinite(self.std) else None,
            "protocol": dict(self.protocol),
        }

    def to_json(self) -> str:
        """One line of standard JSON."""
        return json.dumps(self.as_dict(), ensure_ascii=False)


def effective_rank(rows: Tensor) -> float:
    """exp of the entropy of the singular values over their sum (RankMe, Garrido et al. 2023, eq. 1).

    Between 1 (all rows on one line: collapsed) and min(N, D). Rows are neither centred nor normalised, as in
    the paper. All-zero rows have rank 0.

    Args:
        rows: (N, D) float; a few thousand rows are enough.

    Raises:
        LikewiseError: wrong shape, NaN or infinity (by row).

    Cost: O(N·D·min(N, D)) in float64. Departure: singular values are the roots of the smaller Gram matrix's
    eigenvalues, which is faster and loses only those below 1e-8 of the largest; no ε is added to the shares.
    """
    check_rows("rows", rows)
    check_finite("rows", rows)
    exact = rows.detach().double()
    peak = exact.abs().max()
    if float(peak) == 0.0:
        return 0.0
    exact = exact / peak  # so that squares neither overflow nor vanish
    gram = exact.T @ exact if exact.shape[0] >= exact.shape[1] else exact @ exact.T
    singular = torch.linalg.eigvalsh(gram).clamp_min(0.0).sqrt()
    share = singular / singular.sum()
    return float(torch.exp(-torch.xlogy(share, share).sum()))


def collapse_std(rows: Tensor) -> float:
    """Mean over columns of the standard deviation of the L2-normalised rows, times √D (SimSiam, fig. 2).

    Near 1 when rows spread over the whole sphere, 0 when all are the same point.

    Args:
        rows: (N, D) float, N ≥ 2.

    Raises:
        LikewiseError: wrong shape, fewer than two rows, NaN or infinity (by row).

    Cost: O(N·D).
    """
    check_rows("rows", rows)
    check_finite("rows", rows)
    if rows.shape[0] < 2:
        raise LikewiseError("the spread of one row is undefined; give at least two rows.")
    unit = torch.nn.functional.normalize(rows.detach().double(), dim=1)
    return float(unit.std(dim=0, correction=0).mean()) * math.sqrt(rows.shape[1])


def raw_pixels(images: NDArray[np.uint8], mean: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Images as unit rows of their pixels, centred: what an encoder must beat.

    Give no mean for the training images, and the training images' mean for the test images::

        train, mean = raw_pixels(train_images)
        test, _ = raw_pixels(test_images, mean)

    Args:
        images: uint8 (N, S, S, 3), for instance a memory-mapped cache.
        mean: float32 (S·S·3,), in units of pixel values; the images' own when not given.

    Returns:
        rows: float32 (N, S·S·3), each (pixels − mean) divided by its length; an image equal to the mean stays zero.
        mean: float32 (S·S·3,), the one used.

    Raises:
        LikewiseError: not uint8 (N, H, W, 3), empty, or a mean of another length.

    Cost: two passes over the images; the rows take 4 bytes a pixel value.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise LikewiseError(f"images must be uint8 (N, S, S, 3), but are {images.dtype} of shape {images.shape}.")
    count, width = images.shape[0], math.prod(images.shape[1:])
    if count == 0 or width == 0:
        raise LikewiseError(f"images are empty (shape {images.shape}); there is nothing to measure.")
    if mean is None:
        # Whole numbers up to 255 · N: exact, so the mean does not depend on the order of the images.
        mean = torch.from_numpy(images.sum(axis=0, dtype=np.int64).reshape(width) / count).float()
    if mean.shape != (width,):
        raise LikewiseError(f"mean has shape {tuple(mean.shape)}, but these images have {width} pixel values.")
    rows = torch.empty(count, width)
    for start in range(0, count, _PIXEL_TILE):
        part = torch.from_numpy(images[start : start + _PIXEL_TILE].reshape(-1, width).astype(np.float32))
        rows[start : start + _PIXEL_TILE] = torch.nn.functional.normalize(part - mean, dim=1)
    return rows, mean
