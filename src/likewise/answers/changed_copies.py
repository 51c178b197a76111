"""Changed copies of one's own pictures, by which thresholds are set: what a copy looks like is then known."""

import io

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.data.items import Pixels
from likewise.views.draw import geometry
from likewise.views.render import sample

CHANGES = "shifted by up to 1 px, resized, 0.8 to 1.2 times as bright, saved as JPEG"
_SHIFT = 1.0  # pixels
_SMALLEST = 0.7  # of the side, from which half the copies are enlarged again
_BRIGHT = 0.2
_QUALITY = 50, 95  # of JPEG


def changed_copies(
    images: Pixels, among: npt.NDArray[np.int64], count: int, seed: int = 0
) -> tuple[npt.NDArray[np.int64], Pixels]:
    """The places in ``among`` that were drawn, and a changed copy of each: (count, S, S, 3) uint8.

    Every copy is shifted by up to a pixel each way, then half of them are made as small as 0.7 of the side and enlarged
    again; each is made brighter or darker by up to a fifth, and saved as JPEG of quality 50 to 95. All draws are
    uniform. Each picture is drawn once before any is drawn twice.

    Args:
        images: (N, S, S, 3) uint8.
        among: rows of the images that are drawn from.
        count: number of copies.
        seed: of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    rounds = -(-count // len(among))
    drawn = torch.cat([torch.randperm(len(among), generator=generator) for _ in range(rounds)])[:count].sort().values
    places: npt.NDArray[np.int64] = drawn.numpy()
    values = torch.rand(count, 5, generator=generator, dtype=torch.float64)
    moved = _moved(torch.from_numpy(np.asarray(images)[among[places]]), _SHIFT * (2 * values[:, :2] - 1))
    made = np.empty((count, *images.shape[1:]), np.uint8)
    for place, (_, _, small, bright, quality) in enumerate(values.tolist()):
        factor = 1 - _BRIGHT + 2 * _BRIGHT * bright
        side = images.shape[1] if small < 0.5 else round(images.shape[1] * (1 - (1 - _SMALLEST) * (2 * small - 1)))
        made[place] = _saved(moved[place].numpy(), side, factor, _QUALITY[0] + int(quality * (1 + np.ptp(_QUALITY))))
    return places, made


def _moved(images: Tensor, shifts: Tensor) -> Tensor:
    """(B, S, S, 3) uint8, shifted by parts of pixels; the border's pixels are repeated."""
    side = images.shape[1]
    boxes = torch.cat([shifts, torch.full_like(shifts, side)], 1)
    still = torch.zeros(len(images))
    found = sample(images, geometry(boxes, still.bool(), still, side, side), side, side)
    return found.permute(0, 2, 3, 1).round().byte()


def _saved(pixels: Pixels, side: int, factor: float, quality: int) -> Pixels:
    """A picture after it was resized to a side and back, made brighter, and saved."""
    from PIL import Image

    whole, bilinear = pixels.shape[0], Image.Resampling.BILINEAR
    image = Image.fromarray(pixels)
    if side != whole:
        image = image.resize((side, side), bilinear).resize((whole, whole), bilinear)
    lit = np.clip(np.asarray(image) * factor, 0, 255).round().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(lit).save(file, "JPEG", quality=quality)
    with Image.open(file) as read:
        return np.asarray(read.convert("RGB"))
