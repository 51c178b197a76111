"""Draws the random numbers of views and makes two small matrices per image of them; this module reads no pixels.

``draw_views`` draws, ``crop_boxes`` chooses the crops, ``geometry`` and ``colour`` make the two matrices. All of this
runs on the CPU in float64, so every device gets the same views.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from likewise.config.settings import ViewSettings

LUMA: Final = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's mode "L"
ATTEMPTS: Final = 10  # crops that are tried before the central one is taken, as in torchvision
CROP_UNIFORMS: Final = 2 * ATTEMPTS + 2
UNIFORMS: Final = CROP_UNIFORMS + 11  # per image; draw_views gives each its meaning
NET: Final = 4  # points of a side of the net that bends an image


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The random numbers of B views, on the CPU; float64 unless said otherwise.

    Args:
        boxes: (B, 4) top, left, height, width of each crop in whole pixels of the source.
        flips: (B,) bool, mirror left and right.
        angles: (B,) degrees, counter-clockwise.
        nets: (B, 2, 4, 4) across and down, where each point of the net takes its pixel from, as shares of the source's
            sides from its own place; None = no image is bent.
        factors: (B, 4) brightness, contrast, saturation (1 = unchanged) and hue (turns, 0 = unchanged).
        orders: (B, 4) int64, the order in which the four factors act, as indices into them.
        grays: (B,) bool, lose colour.
        sigmas: (B,) pixels of the output, 0 = no blur.
    """

    boxes: Tensor
    flips: Tensor
    angles: Tensor
    nets: Tensor | None
    factors: Tensor
    orders: Tensor
    grays: Tensor
    sigmas: Tensor

    def select(self, rows: slice | Tensor) -> "Drawn":
        """The random numbers of some of the views."""
        nets = None if self.nets is None else self.nets[rows]
        return Drawn(nets=nets, **{name: values[rows] for name, values in vars(self).items() if name != "nets"})


def crop_boxes(
    uniforms: Tensor, height: int, width: int, *, scale: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    """Boxes of random resized crops (Szegedy et al. 2015), by torchvision's rule, for all images at once.

    Ten boxes are drawn: area uniform in ``scale`` (a share of the source's area), aspect ratio width/height log-uniform
    in ``ratio``, sides rounded to whole pixels. The first box that fits is placed uniformly. If none fits, the box is
    the largest central one with an allowed ratio.

    Args:
        uniforms: (B, 22) in [0, 1): ten areas, ten ratios, the place down, the place across.
        height: of the source, pixels.
        width: of the source, pixels.
        scale: range of the area.
        ratio: range of width / height.

    Returns:
        (B, 4) float64: top, left, height, width; whole numbers.
    """
    u = uniforms.double()
    areas = height * width * (scale[0] + (scale[1] - scale[0]) * u[:, :ATTEMPTS])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    ratios = torch.exp(low + (high - low) * u[:, ATTEMPTS : 2 * ATTEMPTS])
    widths, heights = (areas * ratios).sqrt_().round_(), (areas / ratios).sqrt_().round_()
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first = fits.int().argmax(1, keepdim=True)  # argmax gives the first of equals
    fitted = fits.any(1)
    h = torch.where(fitted, heights.gather(1, first)[:, 0], max(1, min(height, round(width / ratio[0]))))
    w = torch.where(fitted, widths.gather(1, first)[:, 0], max(1, min(width, round(height * ratio[1]))))
    sides = torch.stack((h, w), 1)
    space = torch.tensor([height, width]) - sides
    corners = torch.where(fitted[:, None], u[:, 2 * ATTEMPTS :] * (space + 1), space / 2).floor_()
    return torch.cat((corners, sides), 1)


def draw_views(settings: ViewSettings, count: int, height: int, width: int, generator: torch.Generator) -> Drawn:
    """Draw the random numbers of ``count`` views of images of ``height`` × ``width``.

    The generator gives one (B, 33) block of uniform numbers, and where images are bent one of (B, 2, 4, 4); view b
    depends on row b alone.
    """
    u = torch.rand(count, UNIFORMS, generator=generator, dtype=torch.float64)
    crop, rest = u[:, :CROP_UNIFORMS], u[:, CROP_UNIFORMS:]
    flip, angle, jitter, gray, blur, sigma = rest[:, :6].unbind(1)
    strength = torch.tensor(
        [settings.brightness, settings.contrast, settings.saturation, settings.hue], dtype=torch.float64
    )
    neutral = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    low = neutral - strength
    low[:3].clamp_(min=0)
    factors = low + (neutral + strength - low) * rest[:, 6:10]
    nets = None
    if settings.deform:
        nets = settings.deform * (2 * torch.rand(count, 2, NET, NET, generator=generator, dtype=torch.float64) - 1)
    first, last = settings.blur_sigma
    orders = torch.tensor(list(itertools.permutations(range(4))))
    return Drawn(
        boxes=crop_boxes(crop, height, width, scale=settings.crop_scale, ratio=settings.crop_ratio),
        flips=flip < settings.flip,
        angles=settings.rotation * (2 * angle - 1),
        nets=nets,
        factors=torch.where((jitter < settings.jitter)[:, None], factors, neutral),
        orders=orders[(rest[:, 10] * len(orders)).long()],
        grays=gray < settings.grayscale,
        sigmas=torch.where(blur < settings.blur, first + (last - first) * sigma, 0.0),
    )


def geometry(boxes: Tensor, flips: Tensor, angles: Tensor, height: int, width: int) -> Tensor:
    """One affine map per image from output pixels to source pixels: it undoes the rotation, the flip and the crop.

    Coordinates are continuous: pixel i covers [i, i + 1], its centre is i + ½ (align_corners=False).

    Args:
        boxes: (B, 4) top, left, height, width of the crop in the source.
        flips: (B,) bool.
        angles: (B,) degrees, counter-clockwise about the centre of the output.
        height: of the output, pixels.
        width: of the output, pixels.

    Returns:
        (B, 2, 3) float64; source (x, y) = map · (x, y, 1).
    """
    top, left, box_height, box_width = boxes.double().unbind(1)
    radians = angles.double() * (math.pi / 180)
    cosine, sine = radians.cos(), radians.sin()
    x_scale = torch.where(flips, -box_width, box_width) / width
    y_scale = box_height / height
    linear = torch.stack((x_scale * cosine, -x_scale * sine, y_scale * sine, y_scale * cosine), 1).view(-1, 2, 2)
    centre = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    shift = torch.stack((left + box_width / 2, top + box_height / 2), 1) - linear @ centre
    return torch.cat((linear, shift[:, :, None]), 2)


def colour(factors: Tensor, orders: Tensor, grays: Tensor) -> Tensor:
    """One linear map per image from RGB and the image's mean RGB to RGB: the jitter in its order, then gray.

    Contrast mixes in the mean gray of the image as it is before that step. Every step is linear, so this mean is the
    map so far, applied to the mean of the crop. The whole jitter is therefore x ↦ M x + N μ, where μ is the mean RGB of
    the crop, and M and N do not depend on the pixels. Hue rotates RGB about the gray axis (1, 1, 1) by ``hue`` turns.
    Unlike a shift of HSV's hue this is linear; at multiples of a third of a turn the two are equal.

    Args:
        factors: (B, 4) brightness, contrast, saturation, hue.
        orders: (B, 4) int64 permutations: which factor acts first, second, third, fourth.
        grays: (B,) bool, whether gray replaces the colours at the end.

    Returns:
        (B, 3, 6) float64: [M | N].
    """
    brightness, contrast, saturation, hue = factors.double()[:, :, None, None].unbind(1)
    eye = torch.eye(3, dtype=torch.float64)
    luma = torch.tensor(LUMA, dtype=torch.float64).expand(3, 3)  # every row: RGB -> its gray
    steps = torch.stack(
        (
            brightness * eye,
            contrast * eye,
            saturation * eye + (1 - saturation) * luma,
            _gray_axis_rotation(hue),
        ),
        1,
    )
    fade = 1 - contrast
    both = torch.eye(3, 6, dtype=torch.float64).expand(len(factors), 3, 6)
    for step in orders.unbind(1):
        gray = luma[:1] @ both
        mean_gray = gray[..., :3] + gray[..., 3:]  # of the image at this step, as weights on μ
        both = steps[torch.arange(len(steps)), step] @ both
        both[..., 3:] += torch.where((step == 1)[:, None, None], fade * mean_gray, 0.0)
    return torch.where(grays[:, None, None], luma @ both, both)


def _gray_axis_rotation(turns: Tensor) -> Tensor:
    """(B, 1, 1) turns to (B, 3, 3): Rodrigues' rotation about (1, 1, 1)/√3, red towards green."""
    angle = turns * (2 * math.pi)
    cross = torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=torch.float64) / math.sqrt(3)
    third = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    return angle.cos() * (torch.eye(3, dtype=torch.float64) - third) + third + angle.sin() * cross
