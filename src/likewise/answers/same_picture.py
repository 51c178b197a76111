"""How alike two pictures are, pixel by pixel, where one may be a changed copy of the other.

Dimension legend: N pictures, P pairs, S side in pixels.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from likewise.console import Tick, untold
from likewise.data.items import Pixels, refuse_cut
from likewise.errors import LikewiseError

SMALL = 8  # side of the small pictures by which candidates are found
LEAST_SIDE = 8  # of pictures that are compared: smaller ones have too few pixels for nine weights
_RIDGE = 1e-3  # times the mean square of the shifted pictures, added to the diagonal of the nine equations
_NUMBERS = 1 << 20  # of shifted pictures at once, 4 MB: they stay in a core's cache
_PICTURES = 4096  # made small at once


def small_pictures(images: Pixels, tick: Tick = untold) -> Pixels:
    """(N, s, s, 3) uint8 means of squares of pixels, s = min(S, 8). Cost: one pass; 192 bytes a picture."""
    side = min(SMALL, images.shape[1])
    small = np.empty((len(images), side, side, 3), np.uint8)
    for start in range(0, len(images), _PICTURES):
        refuse_cut(images, "the pictures")
        part = torch.from_numpy(np.array(images[start : start + _PICTURES])).permute(0, 3, 1, 2).float()
        means = functional.adaptive_avg_pool2d(part, side).round_().byte()
        small[start : start + _PICTURES] = means.permute(0, 2, 3, 1).numpy()
        tick(start / len(images))
    return small


def similarity(first: Tensor, second: Tensor) -> Tensor:
    """(P,) float64 in [0, 1]: how well one picture of each pair is the best mix of nine shifts of the other.

    For pictures a and b, shifted by (d, e) in {−1, 0, 1}², without their borders of one pixel and with their means
    subtracted, r(a → b) is the correlation of b with the mix Σ w_de a_de that is nearest to it::

        w = argmin |b − Σ w_de a_de|² + λ |w|²,    r(a → b) = √(Σ w_de ⟨a_de, b⟩ / |b|²)

    and the similarity is max(r(a → b), r(b → a)). All pixels of all channels share the nine weights. Brightness,
    contrast, a shift of up to a pixel or a part of it, and a blur, as resizing leaves it, are such mixes: they do not
    make a pair less alike. The plain correlation over nine shifts is the case of a single weight. λ is 0.001 times the
    mean of |a_de|², so that flat pictures have one answer.

    Args:
        first: (P, S, S, 3) uint8 or float, S ≥ 3.
        second: as ``first``.

    Returns:
        0 for a picture of a single colour.

    Cost: 18² products of S² · 3 numbers for each pair, some 70 µs on a core at 32 px.
    """
    shifted = torch.cat([_shifts(first.float()), _shifts(second.float())], 1)
    shifted -= shifted.mean(2, keepdim=True)
    products = (shifted @ shifted.transpose(1, 2)).double()
    return torch.maximum(
        _explained(products[:, :9, :9], products[:, :9, 13], products[:, 13, 13]),
        _explained(products[:, 9:, 9:], products[:, 9:, 4], products[:, 4, 4]),
    )


def _shifts(images: Tensor) -> Tensor:
    """(P, 9, (S − 2)² · 3) the nine shifts; the fifth is the picture itself."""
    side = images.shape[1] - 2
    places = [(down, across) for down in range(3) for across in range(3)]
    return torch.stack([images[:, d : d + side, a : a + side] for d, a in places], 1).flatten(2)


def _explained(among: Tensor, with_other: Tensor, other: Tensor) -> Tensor:
    """(P,) the correlation with the best mix, from the products of the nine shifts, with the other, and of that."""
    scale = among.diagonal(dim1=1, dim2=2).mean(1)
    flat = (scale < 1e-6) | (other < 1e-6)
    ridge = torch.where(flat, 1.0, _RIDGE * scale)[:, None, None] * torch.eye(9, dtype=among.dtype)
    weights = torch.linalg.solve(among + ridge, with_other[:, :, None])[..., 0]
    share = (weights * with_other).sum(1) / torch.where(flat, 1.0, other)
    return torch.where(flat, 0.0, share.clamp(0, 1)).sqrt()


def similarities(images: Pixels, pairs: npt.NDArray[np.int64], tick: Tick = untold) -> npt.NDArray[np.float64]:
    """(P,) the similarity of each pair of rows, (P, 2), of (N, S, S, 3) images. Memory: a few MB beyond the result."""
    return between(images, images, pairs, tick)


def between(
    images: Pixels, others: Pixels, pairs: npt.NDArray[np.int64], tick: Tick = untold
) -> npt.NDArray[np.float64]:
    """As ``similarities``, of a row of ``images`` and a row of ``others``."""
    side, found = images.shape[1], np.empty(len(pairs))
    step = max(1, _NUMBERS // (18 * 3 * side * side))
    for start in range(0, len(pairs), step):
        if start % (64 * step) == 0:
            refuse_cut(images, "the pictures")
            tick(start / len(pairs))
        part = pairs[start : start + step]
        first, second = _taken(images, part[:, 0]), _taken(others, part[:, 1])
        found[start : start + step] = similarity(first, second).numpy()
    return found


def _taken(images: Pixels, rows: npt.NDArray[np.int64]) -> Tensor:
    values: npt.NDArray[Any] = np.asarray(images)[rows]
    return torch.from_numpy(values)


def check_side(images: Pixels, source: str) -> None:
    """Raises LikewiseError on pictures that are too small to compare."""
    if images.shape[1] < LEAST_SIDE:
        raise LikewiseError(
            f"the pictures of {source} are {images.shape[1]} px wide, which is too small to tell copies from "
            f"look-alikes; open them at a size of {LEAST_SIDE} or more."
        )
