"""Views against Pillow, NumPy loops and their definitions. No oracle here shares code with likewise.views."""

import colorsys
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from likewise.config.settings import ViewSettings
from likewise.errors import LikewiseError
from likewise.views.draw import Drawn, colour, crop_boxes, draw_views, geometry
from likewise.views.render import Views, apply_views, gaussian_blur, plain_view
from likewise.views.vectors import VectorViews

RAW = ViewSettings(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), blur=0.5)  # outputs stay in [0, 1]
STILL = ViewSettings(
    crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grayscale=0.0, mean=RAW.mean, std=RAW.std
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=seeded(seed))


def smooth(side: int, seed: int = 0) -> torch.Tensor:
    """One photo-like image: low frequencies, mid-range colours."""
    small = np.random.default_rng(seed).integers(60, 190, (4, 4, 3), dtype=np.uint8)
    return torch.from_numpy(np.array(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)))[None]


def still(count: int, height: int, width: int, **changes: Any) -> Drawn:
    """What the identity would draw, with some of it changed."""
    identity = Drawn(
        boxes=torch.tensor([[0, 0, height, width]], dtype=torch.float64).repeat(count, 1),
        flips=torch.zeros(count, dtype=torch.bool),
        angles=torch.zeros(count, dtype=torch.float64),
        nets=None,
        factors=torch.tensor([[1.0, 1.0, 1.0, 0.0]], dtype=torch.float64).repeat(count, 1),
        orders=torch.arange(4).repeat(count, 1),
        grays=torch.zeros(count, dtype=torch.bool),
        sigmas=torch.zeros(count, dtype=torch.float64),
    )
    return replace(identity, **changes)


def chw(images: torch.Tensor) -> np.ndarray:
    return images.permute(0, 3, 1, 2).double().numpy() / 255


def bilinear(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """The (H, W, 3) image at continuous (x, y), pixel centres at i + ½, border repeated."""
    height, width, _ = image.shape
    x, y = min(max(x - 0.5, 0), width - 1), min(max(y - 0.5, 0), height - 1)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    a, b = x - left, y - top
    upper = (1 - a) * image[top, left] + a * image[top, right]
    lower = (1 - a) * image[bottom, left] + a * image[bottom, right]
    return (1 - b) * upper + b * lower


def slow_geometry(
    image: np.ndarray, box: tuple[int, int, int, int], flip: bool, degrees: float, height: int, width: int
) -> np.ndarray:
    """Walk every output pixel back: rotate clockwise about the centre, mirror, place in the box."""
    top, left, h, w = box
    out = np.zeros((3, height, width))
    for i, j in itertools.product(range(height), range(width)):
        turned = complex(j + 0.5 - width / 2, -(i + 0.5 - height / 2)) * complex(
            math.cos(-math.radians(degrees)), math.sin(-math.radians(degrees))
        )
        x, y = turned.real + width / 2, -turned.imag + height / 2
        if flip:
            x = width - x
        out[:, i, j] = bilinear(image, left + x * w / width, top + y * h / height)
    return out / 255


# Geometry


@pytest.mark.parametrize(("height", "width", "tolerance"), [(32, 32, 0), (7, 10, 1e-6), (224, 224, 2e-5)])
def test_identity_returns_the_image(height: int, width: int, tolerance: float) -> None:
    images = noise(2, height, width)
    views = Views(replace(STILL, crop_ratio=(width / height, width / height)))(images, seeded())
    expected = plain_view(images, STILL.mean, STILL.std)
    np.testing.assert_allclose(views, expected, rtol=0, atol=max(tolerance, 1e-7))


def test_flip_mirrors_exactly() -> None:
    images = noise(3, 16, 16)
    views = Views(replace(STILL, flip=1.0))(images, seeded())
    np.testing.assert_allclose(views, chw(images.flip(2)), atol=1e-6)


@pytest.mark.parametrize(
    ("box", "flip", "degrees", "size"),
    [
        ((3, 2, 9, 7), False, 0.0, (12, 12)),
        ((0, 5, 12, 4), True, 0.0, (12, 12)),
        ((2, 2, 6, 8), False, 0.0, (9, 5)),
        ((0, 0, 12, 15), False, 30.0, (12, 15)),
        ((1, 4, 8, 7), True, -75.0, (10, 13)),
        ((1, 4, 8, 7), True, 200.0, (20, 11)),
    ],
)
def test_geometry_equals_a_loop_over_pixels(
    box: tuple[int, int, int, int], flip: bool, degrees: float, size: tuple[int, int]
) -> None:
    images = noise(1, 12, 15)
    drawn = still(
        1,
        12,
        15,
        boxes=torch.tensor([box]),
        flips=torch.tensor([flip]),
        angles=torch.tensor([degrees]),
    )
    view = Views(RAW, size).apply(images, drawn)[0]
    expected = slow_geometry(images[0].double().numpy(), box, flip, degrees, *size)
    np.testing.assert_allclose(view, expected, atol=2e-6)


def test_a_net_bends_as_a_loop_over_pixels() -> None:
    """Each pixel adds to its place in the source a bilinear mean of the net's four nearest points."""
    images, nets = noise(2, 12, 15), 0.1 * torch.randn(2, 2, 4, 4, generator=seeded(), dtype=torch.float64)
    drawn = still(2, 12, 15, boxes=torch.tensor([[1.0, 4, 8, 7], [0, 0, 12, 15]], dtype=torch.float64), nets=nets)
    views = Views(STILL, (10, 13)).apply(images, drawn)
    for image, box, net, view in zip(images.numpy(), drawn.boxes.tolist(), nets.numpy(), views, strict=True):
        top, left, h, w = box
        for i, j in itertools.product(range(10), range(13)):
            down, across = 3 * i / 9, 3 * j / 12
            x, y = bilinear(net.transpose(1, 2, 0), across + 0.5, down + 0.5)
            place = left + (j + 0.5) * w / 13 + 15 * x, top + (i + 0.5) * h / 10 + 12 * y
            np.testing.assert_allclose(view[:, i, j], bilinear(image, *place) / 255, atol=1e-5)


def test_crop_equals_pillow_transform() -> None:
    images = noise(1, 24, 24)
    top, left, h, w = 5, 3, 14, 17
    drawn = still(1, 24, 24, boxes=torch.tensor([[top, left, h, w]]))
    view = Views(RAW, 24).apply(images, drawn)[0]
    pillow = Image.fromarray(images[0].numpy()).transform(
        (24, 24), Image.Transform.EXTENT, (left, top, left + w, top + h), Image.Resampling.BILINEAR
    )
    np.testing.assert_allclose(255 * view, np.asarray(pillow).transpose(2, 0, 1), atol=1.01)  # it truncates


def test_quarter_turn_is_counter_clockwise() -> None:
    images = noise(1, 16, 16)
    view = Views(RAW).apply(images, still(1, 16, 16, angles=torch.tensor([90.0])))
    np.testing.assert_allclose(view[0], chw(torch.rot90(images, 1, (1, 2)))[0], atol=1e-6)
    pillow = np.asarray(Image.fromarray(images[0].numpy()).rotate(90))
    np.testing.assert_allclose(255 * view[0], pillow.transpose(2, 0, 1), atol=1e-3)


def test_geometry_maps_corners() -> None:
    """Corners of the output land on corners of the box, mirrored where flipped."""
    boxes = torch.tensor([[2.0, 3.0, 10.0, 20.0], [2.0, 3.0, 10.0, 20.0]])
    maps = geometry(boxes, torch.tensor([False, True]), torch.zeros(2), 8, 8)
    assert maps.shape == (2, 2, 3)
    corners = torch.tensor([[0.0, 0, 1], [8, 8, 1]], dtype=torch.float64)
    found = corners @ maps.mT
    np.testing.assert_allclose(found[0], [[3, 2], [23, 12]])
    np.testing.assert_allclose(found[1], [[23, 2], [3, 12]])


# Colour


@pytest.mark.parametrize(
    ("position", "enhancer"),
    [(0, ImageEnhance.Brightness), (1, ImageEnhance.Contrast), (2, ImageEnhance.Color)],
)
@pytest.mark.parametrize("factor", [0.0, 0.6, 1.4])
def test_one_factor_equals_pillow(position: int, enhancer: Callable[..., Any], factor: float) -> None:
    images = smooth(24)
    factors = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    factors[0, position] = factor
    view = Views(RAW).apply(images, still(1, 24, 24, factors=factors))[0]
    expected = np.asarray(enhancer(Image.fromarray(images[0].numpy())).enhance(factor)).transpose(2, 0, 1)
    np.testing.assert_allclose(255 * view, expected, atol=2.0)  # Pillow rounds the gray, its mean and the blend
    assert np.abs(255 * view.numpy() - expected).mean() < 0.7


def test_contrast_mean_is_that_of_the_crop() -> None:
    images = smooth(24, seed=3)
    drawn = still(1, 24, 24, boxes=torch.tensor([[0, 0, 12, 12]]), factors=torch.tensor([[1.0, 0.0, 1.0, 0.0]]))
    view = Views(RAW, 12).apply(images, drawn)[0]
    gray = np.asarray(images[0, :12, :12]) @ [0.299, 0.587, 0.114] / 255
    np.testing.assert_allclose(view, np.full((3, 12, 12), gray.mean()), atol=1e-5)


def test_grayscale_equals_pillow() -> None:
    images = smooth(24)
    view = Views(RAW).apply(images, still(1, 24, 24, grays=torch.tensor([True])))[0]
    expected = np.asarray(Image.fromarray(images[0].numpy()).convert("L"))
    for channel in view:
        np.testing.assert_allclose(255 * channel, expected, atol=0.6)


def slow_jitter(image: np.ndarray, factors: list[float], order: tuple[int, ...], gray: bool) -> np.ndarray:
    """The four changes one after the other on an (H, W, 3) image, the mean measured when contrast comes."""
    luma = np.array([0.299, 0.587, 0.114])
    brightness, contrast, saturation, hue = factors
    axis = np.ones(3) / math.sqrt(3)
    angle = 2 * math.pi * hue
    for step in order:
        if step == 0:
            image = brightness * image
        elif step == 1:
            image = contrast * image + (1 - contrast) * (image @ luma).mean()
        elif step == 2:
            image = saturation * image + (1 - saturation) * (image @ luma)[..., None]
        else:  # Rodrigues' formula, pixel by pixel
            along = (image @ axis)[..., None] * axis
            image = along + (image - along) * math.cos(angle) + np.cross(axis, image) * math.sin(angle)
    return np.repeat((image @ luma)[..., None], 3, -1) if gray else image


def test_all_orders_equal_the_steps_one_by_one() -> None:
    orders = list(itertools.permutations(range(4)))
    images = smooth(8).repeat(24, 1, 1, 1)
    factors = [0.8, 1.3, 0.7, 0.06]
    grays = torch.arange(24) % 5 == 0
    drawn = still(24, 8, 8, factors=torch.tensor([factors]).repeat(24, 1), orders=torch.tensor(orders), grays=grays)
    views = Views(RAW).apply(images, drawn)
    for view, order, gray in zip(views, orders, grays, strict=True):
        expected = slow_jitter(images[0].double().numpy() / 255, factors, order, bool(gray))
        assert expected.min() > 0
        assert expected.max() < 1
        np.testing.assert_allclose(view, expected.transpose(2, 0, 1), atol=2e-6)


def test_colour_is_a_weighted_sum_that_keeps_gray_images_gray() -> None:
    drawn = draw_views(ViewSettings(grayscale=0.0), 50, 8, 8, seeded())
    matrix = colour(drawn.factors, drawn.orders, drawn.grays)
    gray = torch.full((6,), 0.5, dtype=torch.float64)  # a flat gray image: pixel = mean = 0.5
    out = matrix @ gray
    np.testing.assert_allclose(out, 0.5 * drawn.factors[:, :1].expand(50, 3), atol=1e-12)


def hue_of(rgb: np.ndarray) -> float:
    return colorsys.rgb_to_hsv(*rgb)[0]


def test_hue_keeps_gray_permutes_at_thirds_and_follows_hsv() -> None:
    def turn(hue: float) -> np.ndarray:
        factors = torch.tensor([[1.0, 1.0, 1.0, hue]])
        return colour(factors, torch.arange(4)[None], torch.tensor([False]))[0, :, :3].numpy()

    np.testing.assert_allclose(turn(0.1) @ [0.3, 0.3, 0.3], [0.3, 0.3, 0.3], atol=1e-12)
    np.testing.assert_allclose(turn(1 / 3), np.eye(3)[[2, 0, 1]], atol=1e-7)  # red -> green -> blue
    colours = np.random.default_rng(0).uniform(0.2, 0.8, (500, 3))
    for shift in (-0.1, -0.05, 0.05, 0.1):
        turned = [hue_of(c) - hue_of(b) - shift for b, c in zip(colours, colours @ turn(shift).T, strict=True)]
        error = np.abs((np.array(turned) + 0.5) % 1 - 0.5)
        assert error.max() < 0.02  # turns: the hexagon runs at most so far ahead of the circle
        hsv = [colorsys.rgb_to_hsv(*c) for c in colours]
        faithful = np.array([colorsys.hsv_to_rgb((h + shift) % 1, s, v) for h, s, v in hsv])
        assert np.abs(faithful - colours @ turn(shift).T).mean() < 0.06


def test_clamped_once_and_then_normalised() -> None:
    settings = replace(RAW, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    images = noise(1, 8, 8)
    order = torch.tensor([[0, 1, 2, 3]])
    # Brightness 2 leaves [0, 1] and contrast ½ of it comes back: no clamp between may cut it.
    drawn = still(1, 8, 8, factors=torch.tensor([[2.0, 0.5, 1.0, 0.0]]), orders=order)
    view = Views(settings).apply(images, drawn)[0]
    raw = slow_jitter(images[0].double().numpy() / 255, [2.0, 0.5, 1.0, 0.0], (0, 1, 2, 3), False)
    assert raw.max() > 1
    expected = (raw.clip(0, 1) - settings.mean) / settings.std
    np.testing.assert_allclose(view, expected.transpose(2, 0, 1), atol=1e-5)


def test_blur_equals_a_convolution() -> None:
    images = torch.rand(3, 2, 9, 13, generator=seeded())
    sigmas = torch.tensor([0.1, 0.8, 2.0])
    result = gaussian_blur(images, sigmas)
    for image, sigma, blurred in zip(images.numpy(), sigmas.tolist(), result, strict=True):
        radius = math.ceil(3 * sigma)
        kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
        kernel /= kernel.sum()
        for plane, found in zip(image, blurred, strict=True):
            padded = np.pad(plane, radius, mode="reflect")
            down = np.stack([np.convolve(column, kernel, "valid") for column in padded.T], 1)
            across = np.stack([np.convolve(row, kernel, "valid") for row in down])
            np.testing.assert_allclose(found, across, atol=1e-6)


def test_only_the_drawn_are_blurred() -> None:
    images = noise(3, 16, 16)
    views = Views(RAW)
    sharp = views.apply(images, still(3, 16, 16))
    mixed = views.apply(images, still(3, 16, 16, sigmas=torch.tensor([0.0, 1.5, 0.0])))
    assert torch.equal(mixed[0::2], sharp[0::2])
    expected = gaussian_blur(sharp[1:2], torch.tensor([1.5]))[0]
    np.testing.assert_allclose(mixed[1], expected, atol=1e-6)


# Distributions; bounds are those of a Kolmogorov-Smirnov test at p = 0.001


def assert_uniform(values: torch.Tensor, low: float, high: float) -> None:
    found = np.sort((values.double().numpy() - low) / (high - low))
    steps = np.arange(len(found) + 1) / len(found)
    distance = max(np.abs(found - steps[1:]).max(), np.abs(found - steps[:-1]).max())
    assert distance < 1.95 / math.sqrt(len(found))


def assert_same_distribution(a: np.ndarray, b: np.ndarray) -> None:
    points = np.concatenate((a, b))
    first = np.searchsorted(np.sort(a), points, side="right") / len(a)
    second = np.searchsorted(np.sort(b), points, side="right") / len(b)
    assert np.abs(first - second).max() < 1.95 * math.sqrt((len(a) + len(b)) / (len(a) * len(b)))


def assert_share(hits: torch.Tensor, probability: float) -> None:
    spread = math.sqrt(probability * (1 - probability) / len(hits))
    assert abs(hits.double().mean().item() - probability) <= 3.3 * spread


def slow_box(
    rng: np.random.Generator, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """The rule of RandomResizedCrop for one image."""
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1)), h, w
    if width / height < ratio[0]:
        h, w = round(width / ratio[0]), width
    elif width / height > ratio[1]:
        h, w = height, round(height * ratio[1])
    else:
        h, w = height, width
    return (height - h) // 2, (width - w) // 2, h, w


def test_crop_area_and_ratio_where_every_try_fits() -> None:
    """On a huge square with areas up to ½, nothing is rejected and rounding does not show."""
    u = torch.rand(4000, 22, generator=seeded(1), dtype=torch.float64)
    top, left, h, w = crop_boxes(u, 10**6, 10**6, scale=(0.1, 0.5), ratio=(3 / 4, 4 / 3)).unbind(1)
    assert_uniform(h * w / 1e12, 0.1, 0.5)
    assert_uniform((w / h).log(), math.log(3 / 4), math.log(4 / 3))
    assert_uniform(top / (10**6 - h), 0, 1)
    assert_uniform(left / (10**6 - w), 0, 1)


@pytest.mark.parametrize(
    ("height", "width", "scale", "ratio"),
    [
        (32, 32, (0.2, 1.0), (3 / 4, 4 / 3)),
        (20, 60, (0.5, 1.0), (3 / 4, 4 / 3)),  # mostly the fallback
        (60, 20, (0.3, 1.0), (1 / 2, 2.0)),
        (5, 6, (0.02, 1.0), (1 / 2, 2.0)),
    ],
)
def test_crops_are_distributed_as_by_the_loop(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    rng = np.random.default_rng(2)
    slow = np.array([slow_box(rng, height, width, scale, ratio) for _ in range(4000)])
    u = torch.rand(4000, 22, generator=seeded(2), dtype=torch.float64)
    boxes = crop_boxes(u, height, width, scale=scale, ratio=ratio).numpy()
    assert (boxes == boxes.round()).all()
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 0] + boxes[:, 2] <= height).all()
    assert (boxes[:, 1] + boxes[:, 3] <= width).all()
    for column in range(4):
        assert_same_distribution(boxes[:, column], slow[:, column].astype(float))
    assert_same_distribution(boxes[:, 2] * boxes[:, 3], (slow[:, 2] * slow[:, 3]).astype(float))


@pytest.mark.parametrize(("height", "width"), [(10, 101), (101, 10), (17, 17)])
def test_crop_falls_back_to_the_centre(height: int, width: int) -> None:
    """Ratios for which a box of the whole area never fits, whatever is drawn."""
    ratio = (0.5, 1.5) if height != width else (1.3, 1.5)
    u = torch.rand(5, 22, generator=seeded(), dtype=torch.float64)
    boxes = crop_boxes(u, height, width, scale=(1.0, 1.0), ratio=ratio)
    expected = slow_box(np.random.default_rng(0), height, width, (1.0, 1.0), ratio)
    assert (boxes == torch.tensor(expected, dtype=torch.float64)).all()


def test_draws_are_distributed_as_defined() -> None:
    settings = ViewSettings(
        rotation=20.0, brightness=0.4, contrast=1.5, saturation=0.3, hue=0.1, jitter=0.7, blur=0.3, flip=0.25
    )
    drawn = draw_views(settings, 6000, 32, 32, seeded(3))
    assert_share(drawn.flips, 0.25)
    assert_share(drawn.grays, 0.2)
    assert_uniform(drawn.angles, -20, 20)
    blurred = drawn.sigmas > 0
    assert_share(blurred, 0.3)
    assert_uniform(drawn.sigmas[blurred], 0.1, 2.0)
    jittered = (drawn.factors != torch.tensor([1.0, 1.0, 1.0, 0.0])).any(1)
    assert_share(jittered, 0.7)
    for column, (low, high) in enumerate([(0.6, 1.4), (0.0, 2.5), (0.7, 1.3), (-0.1, 0.1)]):
        assert_uniform(drawn.factors[jittered, column], low, high)
    counts = torch.unique(drawn.orders, dim=0, return_counts=True)[1]
    assert len(counts) == 24
    assert ((counts - 250.0) ** 2 / 250).sum() < 49.7  # χ², 23 degrees of freedom, p = 0.001
    columns = torch.stack((drawn.flips, drawn.grays, blurred, drawn.angles, *drawn.factors.T, *drawn.boxes.T[:2]))[
        :, jittered
    ]
    correlations = torch.corrcoef(columns) - torch.eye(len(columns))
    correlations[-1, -2] = correlations[-2, -1] = 0  # top and left share the size of the box
    assert correlations.abs().max() < 0.06


def test_nets_are_drawn_after_all_else_and_change_no_other_draw() -> None:
    plain, bent = (draw_views(ViewSettings(deform=deform), 500, 32, 32, seeded()) for deform in (0.0, 0.1))
    assert plain.nets is None
    assert bent.nets is not None
    assert bent.nets.shape == (500, 2, 4, 4)
    assert_uniform(bent.nets.flatten(), -0.1, 0.1)
    assert torch.equal(plain.boxes, bent.boxes)
    assert torch.equal(plain.sigmas, bent.sigmas)
    some = bent.select(slice(3, 5)).nets
    assert some is not None
    assert torch.equal(some, bent.nets[3:5])


# Behaviour as a whole


@pytest.mark.parametrize("blur", [0.0, 0.5])
def test_same_generator_state_same_views(blur: float) -> None:
    images = noise(6, 20, 20)
    views = Views(ViewSettings(blur=blur, rotation=10.0))
    first, other = seeded(5), seeded(5)
    a, b = views(images, first), views(images, other)
    assert torch.equal(a, b)
    assert torch.equal(first.get_state(), other.get_state())
    assert not torch.equal(a, views(images, first))


def test_draws_depend_on_neither_pixels_nor_other_settings() -> None:
    generators = [seeded(6) for _ in range(3)]
    Views(ViewSettings())(noise(5, 16, 16, seed=1), generators[0])
    Views(ViewSettings())(torch.zeros(5, 16, 16, 3, dtype=torch.uint8), generators[1])
    Views(ViewSettings(flip=0.0, jitter=0.0, blur=1.0))(noise(5, 16, 16), generators[2])
    assert len({g.get_state().numpy().tobytes() for g in generators}) == 1
    some = draw_views(ViewSettings(), 9, 16, 16, seeded())
    less = draw_views(ViewSettings(flip=0.0, hue=0.0, jitter=1.0), 9, 16, 16, seeded())
    assert torch.equal(some.boxes, less.boxes)
    assert torch.equal(some.grays, less.grays)


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_chunks_do_not_show(chunk: int) -> None:
    images = noise(7, 12, 12)
    drawn = draw_views(replace(RAW, rotation=15.0, deform=0.1), 7, 12, 12, seeded())
    maps = geometry(drawn.boxes, drawn.flips, drawn.angles, 12, 12)
    colours = colour(drawn.factors, drawn.orders, drawn.grays)

    def run(chunk: int) -> torch.Tensor:
        return apply_views(
            images,
            maps,
            colours,
            size=(12, 12),
            mean=RAW.mean,
            std=RAW.std,
            nets=drawn.nets,
            sigmas=drawn.sigmas,
            chunk=chunk,
        )

    np.testing.assert_allclose(run(chunk), run(7), atol=1e-6)


def test_permuting_images_and_draws_permutes_views() -> None:
    images = noise(8, 12, 12)
    views = Views(replace(RAW, rotation=15.0, deform=0.1))
    drawn = views.draw(8, 12, 12, seeded())
    assert drawn.nets is not None
    order = torch.randperm(8, generator=seeded(1))
    shuffled = Drawn(
        boxes=drawn.boxes[order],
        flips=drawn.flips[order],
        angles=drawn.angles[order],
        nets=drawn.nets[order],
        factors=drawn.factors[order],
        orders=drawn.orders[order],
        grays=drawn.grays[order],
        sigmas=drawn.sigmas[order],
    )
    np.testing.assert_allclose(views.apply(images[order], shuffled), views.apply(images, drawn)[order], atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((1, 10, 10, 3), None, (1, 3, 10, 10)),
        ((3, 9, 14, 3), None, (3, 3, 9, 14)),
        ((2, 20, 30, 3), 8, (2, 3, 8, 8)),
        ((2, 8, 8, 3), (16, 12), (2, 3, 16, 12)),
        ((2, 1, 1, 3), None, (2, 3, 1, 1)),
        ((0, 8, 8, 3), None, (0, 3, 8, 8)),
    ],
)
def test_shapes(shape: tuple[int, ...], size: int | tuple[int, int] | None, expected: tuple[int, ...]) -> None:
    views = Views(ViewSettings(blur=0.5, rotation=5.0, deform=0.1), size)(
        torch.zeros(shape, dtype=torch.uint8), seeded()
    )
    assert views.shape == expected
    assert views.dtype == torch.float32
    assert views.is_contiguous()
    assert torch.isfinite(views).all()


def test_input_is_untouched_and_may_be_strided() -> None:
    images = noise(4, 12, 12)
    kept = images.clone()
    a = Views(ViewSettings())(images, seeded())
    strided = images.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    b = Views(ViewSettings())(strided, seeded())
    assert torch.equal(images, kept)
    assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (torch.zeros(2, 8, 8, 3), r"uint8 images of shape \(B, H, W, 3\), but got torch.float32"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), r"of shape \(2, 3, 8, 8\)"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), r"of shape \(8, 8, 3\)"),
        (torch.zeros(2, 0, 8, 3, dtype=torch.uint8), r"of shape \(2, 0, 8, 3\)"),
    ],
)
def test_wrong_images_are_refused(images: torch.Tensor, match: str) -> None:
    with pytest.raises(LikewiseError, match=match):
        Views(ViewSettings())(images, seeded())
    with pytest.raises(LikewiseError, match=match):
        plain_view(images, RAW.mean, RAW.std)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"flip": 1.5}, r"'views.flip' is 1.5; it must be a number from 0 to 1\."),
        ({"grayscale": -0.1}, "grayscale"),
        ({"hue": 0.6}, "hue' is 0.6"),
        ({"contrast": -1.0}, "contrast"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale"),
        ({"crop_scale": (0.5, 0.2)}, "crop_scale"),
        ({"crop_ratio": (2.0, 1.0)}, "crop_ratio"),
        ({"blur_sigma": (0.0, 1.0)}, "blur_sigma"),
        ({"std": (0.0, 1.0, 1.0)}, "std"),
        ({"rotation": -1.0}, "rotation"),
        ({"jitter": float("nan")}, "jitter"),
    ],
)
def test_wrong_settings_are_refused_by_name(change: dict[str, Any], match: str) -> None:
    with pytest.raises(LikewiseError, match=match):
        Views(replace(ViewSettings(), **change))


def test_size_below_one_is_refused() -> None:
    with pytest.raises(LikewiseError, match="at least 1 pixel"):
        Views(ViewSettings(), 0)


def test_plain_view_scales_and_normalises() -> None:
    images = noise(2, 5, 6)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    expected = (images.double().numpy() / 255 - mean) / std
    np.testing.assert_allclose(plain_view(images, mean, std), expected.transpose(0, 3, 1, 2), atol=1e-6)


# Vectors


def test_vector_noise_has_each_features_scale() -> None:
    std = torch.tensor([0.0, 1.0, 100.0])
    views = VectorViews(0.1, 0.0, torch.zeros(3), std)
    rows = torch.ones(20000, 3)
    change = views(rows, seeded()) - rows
    np.testing.assert_allclose(change.std(0), 0.1 * std, rtol=0.03)
    np.testing.assert_allclose(change.mean(0), 0, atol=0.3)
    assert (change[:, 0] == 0).all()


def test_vector_dropout_sets_the_mean() -> None:
    mean = torch.tensor([5.0, -7.0])
    rows = torch.zeros(20000, 2)
    dropped = VectorViews(0.0, 0.3, mean, torch.ones(2))(rows, seeded()) == mean
    for column in dropped.T:
        assert_share(column, 0.3)
    assert (dropped[:, 0] != dropped[:, 1]).any()
    everything = VectorViews(1.0, 1.0, mean, torch.ones(2))(rows, seeded())
    assert torch.equal(everything, mean.expand(20000, 2))
    nothing = VectorViews(0.0, 0.0, mean, torch.ones(2))(rows, seeded())
    assert torch.equal(nothing, rows)


def test_vector_views_repeat_and_refuse() -> None:
    views = VectorViews(0.1, 0.1, torch.zeros(4), torch.ones(4))
    rows = torch.randn(5, 4, generator=seeded())
    assert torch.equal(views(rows, seeded(1)), views(rows, seeded(1)))
    with pytest.raises(LikewiseError, match=r"shape \(B, 4\), but got torch.float32 of shape \(5, 3\)"):
        views(rows[:, :3], seeded())
    with pytest.raises(LikewiseError, match=r"torch.float64"):
        views(rows.double(), seeded())
    with pytest.raises(LikewiseError, match="noise' is -1"):
        VectorViews(-1.0, 0.1, torch.zeros(4), torch.ones(4))
    with pytest.raises(LikewiseError, match="dropout' is 2"):
        VectorViews(0.1, 2.0, torch.zeros(4), torch.ones(4))
    with pytest.raises(LikewiseError, match=r"mean has shape \(4,\) and their std \(3,\)"):
        VectorViews(0.1, 0.1, torch.zeros(4), torch.ones(3))
