"""The views one transform after the other, as torchvision does: slow, and what likewise.views is held against.

``SequentialViews`` has the constructor and the call of ``likewise.views.Views`` and draws the same numbers, but
crops, resizes, flips, rotates, jitters in the drawn order (clamping after every step, hue in HSV), grays, blurs and
normalises each image by itself. Training with one and then the other says what composing costs.

Run as a script, it prints how far the two are apart, pixel by pixel, under the same draws:

    python benchmarks/sequential_views.py                     # 400 patches of the two photos scikit-learn ships
    python benchmarks/sequential_views.py --images some.npy   # uint8 (N, S, S, 3)

It departs from torchvision in two ways that are not what is measured: values stay floats between the steps instead
of being rounded to bytes, and rotation is bilinear, not nearest.
"""

import argparse
import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from likewise.config.settings import ViewSettings
from likewise.views.draw import Drawn
from likewise.views.render import Share, Views


def resized_crop(image: Tensor, box: Sequence[int], size: tuple[int, int]) -> Tensor:
    """(3, H, W) float to (3, *size): cut, then resize what was cut, with antialiasing as torchvision's default."""
    top, left, height, width = box
    cut = image[None, :, top : top + height, left : left + width]
    return F.interpolate(cut, size, mode="bilinear", align_corners=False, antialias=True)[0]


def rotated(image: Tensor, degrees: float) -> Tensor:
    """Counter-clockwise about the centre; black comes in at the corners."""
    height, width = image.shape[1:]
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    back = torch.tensor([[[c, -s * height / width, 0.0], [s * width / height, c, 0.0]]])
    grid = F.affine_grid(back, [1, 3, height, width], align_corners=False)
    return F.grid_sample(image[None], grid, padding_mode="zeros", align_corners=False)[0]


def gray_of(image: Tensor) -> Tensor:
    """(3, H, W) to (1, H, W)."""
    return (0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2])[None]


def with_brightness(image: Tensor, factor: float) -> Tensor:
    return (factor * image).clamp(0, 1)


def with_contrast(image: Tensor, factor: float) -> Tensor:
    return (factor * image + (1 - factor) * gray_of(image).mean()).clamp(0, 1)


def with_saturation(image: Tensor, factor: float) -> Tensor:
    return (factor * image + (1 - factor) * gray_of(image)).clamp(0, 1)


def with_hue(image: Tensor, turns: float) -> Tensor:
    """To HSV, the hue turned, and back (Smith 1978)."""
    value, largest = image.max(0)
    chroma = value - image.min(0).values
    r, g, b = image
    safe = chroma.clamp(min=1e-12)
    sixths = torch.where(
        largest == 0, (g - b) / safe, torch.where(largest == 1, (b - r) / safe + 2, (r - g) / safe + 4)
    )
    hue = sixths / 6 + turns
    # Travis's closed form of the way back: f(n) = v − c · clamp(min(k, 4 − k), 0, 1), k = (n + 6h) mod 6
    k = (torch.tensor([5.0, 3.0, 1.0])[:, None, None] + 6 * hue) % 6
    return value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)


def blurred(image: Tensor, sigma: float, radius: int) -> Tensor:
    """A square Gaussian kernel, edges reflected."""
    line = torch.exp(-0.5 * (torch.arange(-radius, radius + 1.0) / sigma) ** 2)
    kernel = torch.outer(line, line) / line.sum() ** 2
    padded = F.pad(image[:, None], (radius,) * 4, mode="reflect")
    return F.conv2d(padded, kernel[None, None])[:, 0]


JITTERS = (with_brightness, with_contrast, with_saturation, with_hue)


class SequentialViews:
    """Same constructor and call as ``likewise.views.Views``; about torchvision's speed, CPU only."""

    def __init__(self, settings: ViewSettings, size: int | tuple[int, int] | None = None) -> None:
        self.settings = settings
        self.composed = Views(settings, size)  # checks the settings and draws

    def __call__(self, images: Tensor, generator: torch.Generator, share: Share | None = None) -> Tensor:
        count, height, width, _ = images.shape
        share = share or Share(count, slice(None))
        return self.apply(images, self.composed.draw(share.total, height, width, generator).select(share.rows))

    def apply(self, images: Tensor, drawn: Drawn) -> Tensor:
        """(B, H, W, 3) uint8 to (B, 3, *size) float32, normalised."""
        return torch.stack([self._one(image, drawn, row) for row, image in enumerate(images)])

    def _one(self, image: Tensor, drawn: Drawn, row: int) -> Tensor:
        height, width = self.composed.size or (image.shape[0], image.shape[1])
        box = [int(side) for side in drawn.boxes[row].tolist()]
        view = resized_crop(image.permute(2, 0, 1).float() / 255, box, (height, width))
        if drawn.flips[row]:
            view = view.flip(2)
        if drawn.angles[row] != 0:
            view = rotated(view, float(drawn.angles[row]))
        factors = drawn.factors[row].tolist()
        if factors != [1, 1, 1, 0]:
            for step in drawn.orders[row].tolist():
                view = JITTERS[step](view, factors[step])
        if drawn.grays[row]:
            view = gray_of(view).expand(3, -1, -1)
        if drawn.sigmas[row] > 0:
            sigma = float(drawn.sigmas[row])
            view = blurred(view, sigma, min(math.ceil(3 * sigma), height - 1, width - 1))
        mean, std = torch.tensor(self.settings.mean), torch.tensor(self.settings.std)
        return (view - mean[:, None, None]) / std[:, None, None]


def photo_patches(count: int = 400, side: int = 32) -> Tensor:
    """(count, side, side, 3) uint8: squares of the two photos scikit-learn ships, resized."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    photos = itertools.cycle(load_sample_images().images)
    patches = []
    for photo in itertools.islice(photos, count):
        edge = int(rng.integers(2 * side, 6 * side))
        top, left = rng.integers(0, photo.shape[0] - edge), rng.integers(0, photo.shape[1] - edge)
        cut = Image.fromarray(photo[top : top + edge, left : left + edge])
        patches.append(np.array(cut.resize((side, side), Image.Resampling.BICUBIC)))
    return torch.from_numpy(np.stack(patches))


def difference(settings: ViewSettings, images: Tensor, passes: int = 2) -> Tensor:
    """Absolute difference of composed and sequential views under the same draws, in grey levels of 255: (n,)."""
    raw = replace(settings, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))
    composed, sequential = Views(raw), SequentialViews(raw)
    generator = torch.Generator().manual_seed(0)
    count, height, width, _ = images.shape
    gaps = []
    for _ in range(passes):
        drawn = composed.draw(count, height, width, generator)
        gaps.append((composed.apply(images, drawn) - sequential.apply(images, drawn)).abs().flatten())
    return torch.cat(gaps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", help="a .npy file, uint8 (N, S, S, 3); the first 400 are used")
    path = parser.parse_args().images
    torch.set_num_threads(1)  # the images are tiny: threads only get in each other's way
    images = torch.from_numpy(np.load(path)[:400].copy()) if path else photo_patches()
    usual = ViewSettings()
    still = replace(usual, jitter=0.0, grayscale=0.0, flip=0.0, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))
    rows = [
        ("the default settings", usual),
        ("… with blur 0.5", replace(usual, blur=0.5)),
        ("… without hue", replace(usual, hue=0.0)),
        ("… at SimCLR's full strength (0.8, 0.8, 0.8, 0.2)", _jitter(usual, 0.8, 0.8, 0.8, 0.2)),
        ("only crop and flip", replace(usual, jitter=0.0, grayscale=0.0)),
        ("only brightness, contrast, saturation, always", _jitter(still, 0.4, 0.4, 0.4, 0.0)),
        ("only brightness, always", _jitter(still, 0.4, 0.0, 0.0, 0.0)),
        ("only contrast, always", _jitter(still, 0.0, 0.4, 0.0, 0.0)),
        ("only saturation, always", _jitter(still, 0.0, 0.0, 0.4, 0.0)),
        ("only hue, always", _jitter(still, 0.0, 0.0, 0.0, 0.1)),
        ("only rotation by up to 15°", replace(still, rotation=15.0)),
    ]
    print("| views | mean difference | 99 % below | largest |\n| --- | --- | --- | --- |")
    for name, settings in rows:
        gap = difference(settings, images).numpy()
        print(f"| {name} | {gap.mean():.2f} | {np.quantile(gap, 0.99):.1f} | {gap.max():.1f} |")


def _jitter(base: ViewSettings, brightness: float, contrast: float, saturation: float, hue: float) -> ViewSettings:
    jitter = base.jitter or 1.0
    return replace(base, brightness=brightness, contrast=contrast, saturation=saturation, hue=hue, jitter=jitter)


if __name__ == "__main__":
    main()
