"""Random views of images: changes after which an image is still alike to itself.

Two small matrices make the view of an image. All geometry (random resized crop, flip, rotation) is one affine map of
coordinates, which a net may bend; the image is sampled once. All colour (brightness, contrast, saturation, hue,
grayscale) and the normalisation are one affine map of RGB, applied once. Names, ranges and distributions are those of
torchvision's RandomResizedCrop, RandomHorizontalFlip, RandomRotation, ColorJitter, RandomGrayscale and GaussianBlur.
docs/views.md says where this differs from one transform after the other, and by how much.

All random numbers come from the given generator, on the CPU. Their number per image does not depend on the pixels, so
the same generator state gives the same views on any device.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from likewise.config.ranges import check_numbers
from likewise.config.settings import ViewSettings
from likewise.errors import LikewiseError
from likewise.views.draw import Drawn, colour, crop_boxes, draw_views, geometry

__all__ = [
    "Drawn",
    "Share",
    "Views",
    "apply_views",
    "colour",
    "crop_boxes",
    "draw_views",
    "gaussian_blur",
    "geometry",
    "plain_view",
    "sample",
]
# Output pixels of a chunk, per thread. A chunk fits the L2 cache. The C allocator keeps memory of this size:
# giving the memory back to the system and getting it again doubled the time at 32 px.
CHUNK_PIXELS: Final = 1 << 15


def sample(images: Tensor, maps: Tensor, height: int, width: int) -> Tensor:
    """Samples images bilinearly at affinely mapped pixels. Beyond the border the pixels of the border are repeated.

    Args:
        images: (B, H, W, 3) uint8.
        maps: (B, 2, 3) from ``geometry``, on the CPU.
        height: of the output.
        width: of the output.

    Returns:
        (B, 3, height, width) float32 in 0...255.
    """
    across, down = _grid_lines(maps, images, height, width)
    return _sample_at(images, across, down, None)


def _grid_lines(maps: Tensor, images: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The sampling grid as two sums: (B, 2, 1, width) + (B, 2, height, 1), in grid_sample's units.

    These parts are small even for a whole batch; the sum is made for one chunk at a time. They are computed in float64
    on the CPU, so that all devices sample at the same places.
    """
    to_grid = torch.tensor([2 / images.shape[2], 2 / images.shape[1]], dtype=torch.float64)
    x, y, shift = (maps * to_grid[:, None])[..., None].unbind(2)
    across = x * torch.arange(0.5, width, dtype=torch.float64)
    down = y * torch.arange(0.5, height, dtype=torch.float64) + (shift - 1)
    return across.float()[:, :, None, :].to(images.device), down.float()[:, :, :, None].to(images.device)


def _sample_at(images: Tensor, across: Tensor, down: Tensor, nets: Tensor | None) -> Tensor:
    # Transposed as bytes, which are a quarter of the floats.
    planes = images.permute(0, 3, 1, 2).contiguous().float()
    # Sums of whole planes, then a view as (x, y) pairs: three times as fast as adding into pairs, and read as fast.
    planes_of_grid = across + down
    if nets is not None:  # 2: grid_sample's units go from -1 to 1
        moved = F.interpolate(nets, size=planes_of_grid.shape[2:], mode="bilinear", align_corners=True)
        planes_of_grid.add_(moved, alpha=2)
    grid = planes_of_grid.permute(0, 2, 3, 1)
    return F.grid_sample(planes, grid, mode="bilinear", padding_mode="border", align_corners=False)


def gaussian_blur(images: Tensor, sigmas: Tensor) -> Tensor:
    """Each image convolved with its own Gaussian, cut off at ⌈3σ⌉ pixels and normalised; edges are reflected.

    Three standard deviations have 99.7 % of a Gaussian. The blur is separable and takes 2 (2 ⌈3σ⌉ + 1) multiplications
    per value, with the largest σ of the batch. It is computed as a sum of shifted images; a grouped convolution is not
    faster on the CPU.

    Args:
        images: (B, C, H, W) float, B > 0.
        sigmas: (B,) > 0, pixels; on the CPU.

    Returns:
        (B, C, H, W), in new memory. In small images the kernel is cut off further, at min(H, W) − 1 pixels.
    """
    height, width = images.shape[2:]
    reach = (3 * sigmas).ceil().clamp(max=min(height, width) - 1)
    radius = int(reach.max())
    offsets = torch.arange(-radius, radius + 1, dtype=sigmas.dtype)
    logits = -0.5 * (offsets / sigmas[:, None]) ** 2
    weights = torch.softmax(logits.masked_fill(offsets.abs() > reach[:, None], -math.inf), 1)
    weights = weights.to(images)[:, :, None, None, None]
    padded = F.pad(images, (radius,) * 4, mode="reflect")
    rows = padded[:, :, :height] * weights[:, 0]
    for k in range(1, 2 * radius + 1):
        rows.addcmul_(padded[:, :, k : k + height], weights[:, k])
    result = rows[..., :width] * weights[:, 0]
    for k in range(1, 2 * radius + 1):
        result.addcmul_(rows[..., k : k + width], weights[:, k])
    return result


def apply_views(
    images: Tensor,
    maps: Tensor,
    colours: Tensor,
    *,
    size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    nets: Tensor | None = None,
    sigmas: Tensor | None = None,
    chunk: int | None = None,
) -> Tensor:
    """The part of a view that computes pixels: sample, recolour, clamp to [0, 1], normalise, blur.

    Args:
        images: (B, H, W, 3) uint8.
        maps: (B, 2, 3) from ``geometry``, on the CPU.
        colours: (B, 3, 6) from ``colour``, on the CPU.
        size: height and width of the output.
        mean: per channel, in units of [0, 1].
        std: per channel.
        nets: (B, 2, 4, 4) as in ``Drawn``, on the CPU; None = no image is bent.
        sigmas: (B,) on the CPU, 0 = no blur; None = no image is blurred.
        chunk: images computed at once; by default all on a GPU, and on the CPU as many as fit the caches.

    Returns:
        (B, 3, *size) float32.

    Cost: time O(B · pixels); about 40 bytes of memory per pixel of a chunk, beyond the result.
    """
    count, (height, width) = len(images), size
    result = torch.empty(count, 3, height, width, dtype=torch.float32, device=images.device)
    bounds = [((0 - m) / s, (1 - m) / s) for m, s in zip(mean, std, strict=True)]
    means = torch.tensor(mean, dtype=torch.float64)[:, None]
    stds = torch.tensor(std, dtype=torch.float64)[:, None]
    # One affine map goes from bytes to normalised values: x ↦ linear x + of_mean μ + shift.
    linear, of_mean = (colours / (255 * stds)).float().to(images.device).tensor_split(2, 2)
    shift = (-means / stds).float().to(images.device)
    across, down = _grid_lines(maps, images, height, width)
    bent = None if nets is None else nets.float().to(images.device)
    step = chunk or _chunk(images, height * width)
    for start in range(0, count, step):
        part = slice(start, start + step)
        net = None if bent is None else bent[part]
        pixels = _sample_at(images[part], across[part], down[part], net).flatten(2)
        offset = torch.baddbmm(shift, of_mean[part], pixels.mean(2, keepdim=True))
        out = result[part].flatten(2)
        torch.baddbmm(offset, linear[part], pixels, out=out)
        for channel, (low, high) in enumerate(bounds):
            out[:, channel].clamp_(low, high)
        if sigmas is not None and (rows := sigmas[part].nonzero()[:, 0]).numel():
            # Blurring does not change constants, so it gives the same after the normalisation as before.
            there = rows.to(images.device)
            blurred = gaussian_blur(result[part][there], sigmas[part][rows])
            result[part].index_copy_(0, there, blurred)
    return result


def _chunk(images: Tensor, pixels: int) -> int:
    """How many images are computed at once; this changes the speed, not the views."""
    if images.device.type != "cpu":
        return max(1, len(images))
    return max(1, CHUNK_PIXELS // pixels) * torch.get_num_threads()


class Share(NamedTuple):
    """The part of a batch that a process has: ``rows`` of ``total``."""

    total: int
    rows: slice


class Views:
    """Random views of a batch of images, as ``settings`` say.

    Args:
        settings: what varies and how much.
        size: side, or height and width, of the views in pixels; None: as the images. There is no antialiasing, so a
            view should not be much smaller than a crop.

    Raises:
        LikewiseError: a setting outside its range, named.
    """

    def __init__(self, settings: ViewSettings, size: int | tuple[int, int] | None = None) -> None:
        check_numbers({f"views.{name}": value for name, value in vars(settings).items()})
        self.settings = settings
        self.size = (size, size) if isinstance(size, int) else size
        if self.size is not None and min(self.size) < 1:
            raise LikewiseError(f"The size of the views is {size}, but must be at least 1 pixel.")

    def __repr__(self) -> str:
        return f"Views({self.settings}, size={self.size})"

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> Drawn:
        """Draws the random numbers of ``count`` images of ``height`` × ``width`` pixels; advances the generator."""
        return draw_views(self.settings, count, height, width, generator)

    def apply(self, images: Tensor, drawn: Drawn) -> Tensor:
        """The views that ``drawn`` makes of (B, H, W, 3) uint8 images: (B, 3, *size) float32, normalised."""
        height, width = self.size or (images.shape[1], images.shape[2])
        maps = geometry(drawn.boxes, drawn.flips, drawn.angles, height, width)
        colours = colour(drawn.factors, drawn.orders, drawn.grays)
        return apply_views(
            images,
            maps,
            colours,
            size=(height, width),
            mean=self.settings.mean,
            std=self.settings.std,
            nets=drawn.nets,
            sigmas=drawn.sigmas if self.settings.blur else None,
        )

    def __call__(self, images: Tensor, generator: torch.Generator, share: Share | None = None) -> Tensor:
        """One view of each image.

        Args:
            images: (B, H, W, 3) uint8, on any device.
            generator: on the CPU; the only source of randomness.
            share: the part of a larger batch that these images are. They get the views of that part.

        Returns:
            (B, 3, *size) float32 on the images' device, normalised with the settings' mean and std.

        Raises:
            LikewiseError: images of another type or shape, or a generator that is not on the CPU.
        """
        _check_images(images)
        check_generator(generator)
        count, height, width, _ = images.shape
        share = share or Share(count, slice(None))
        return self.apply(images, self.draw(share.total, height, width, generator).select(share.rows))


def plain_view(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Images as they are, for evaluation: (B, H, W, 3) uint8 to normalised (B, 3, H, W) float32.

    Raises:
        LikewiseError: images of another type or shape.
    """
    _check_images(images)
    result = images.permute(0, 3, 1, 2).contiguous().float()
    for channel, (m, s) in enumerate(zip(mean, std, strict=True)):
        result[:, channel].sub_(255 * m).mul_(1 / (255 * s))
    return result


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != torch.uint8 or 0 in images.shape[1:]:
        raise LikewiseError(
            f"Views need uint8 images of shape (B, H, W, 3), but got {images.dtype} of shape {tuple(images.shape)}."
        )


def check_generator(generator: torch.Generator) -> None:
    """Raise LikewiseError unless the generator is on the CPU."""
    if generator.device.type != "cpu":
        raise LikewiseError(
            f"The views' generator is on {generator.device}, but must be on the CPU: "
            "the same seed then gives the same views on any device."
        )
