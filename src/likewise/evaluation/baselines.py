"""The baselines of every measurement: raw pixels or vectors, and the encoder before training."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from likewise.console import Tick, part_of, untold
from likewise.data import Items
from likewise.data.items import refuse_cut
from likewise.errors import LikewiseError
from likewise.model import Layer, Model

_PIXEL_TILE = 4096  # images converted to float at once


def raw_pixels(images: NDArray[np.uint8], mean: Tensor | None = None, *, tick: Tick = untold) -> tuple[Tensor, Tensor]:
    """The pixels of images as centred rows of length 1: the baseline that an encoder must beat.

    The mean of the training images is also subtracted from the test images::

        train, mean = raw_pixels(train_images)
        test, _ = raw_pixels(test_images, mean)

    Args:
        images: uint8 (N, S, S, 3), for instance a memory-mapped cache.
        mean: float32 (S·S·3,), in units of pixel values; None: the mean of these images.
        tick: told the share of the work that is done.

    Returns:
        rows: float32 (N, S·S·3), each (pixels − mean) divided by its length; zero for an image equal to the mean.
        mean: float32 (S·S·3,), the mean that was subtracted.

    Raises:
        LikewiseError: images that are not uint8 (N, S, S, 3) or are empty, or a mean of another length.

    Cost: two passes over the images; the rows take 4 bytes a pixel value.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise LikewiseError(f"images must be uint8 (N, S, S, 3), but are {images.dtype} of shape {images.shape}.")
    count, width = images.shape[0], math.prod(images.shape[1:])
    if count == 0 or width == 0:
        raise LikewiseError(f"images are empty (shape {images.shape}); there is nothing to measure.")

    def tiles() -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for start in range(0, count, _PIXEL_TILE):
            refuse_cut(images, "the raw pixels")
            yield start, images[start : start + _PIXEL_TILE].reshape(-1, width)

    if mean is None:
        # Sums of whole numbers are exact, so the mean does not depend on the order of the images.
        total = np.sum([tile.sum(axis=0, dtype=np.int64) for _, tile in tiles()], axis=0)
        mean = torch.from_numpy(total / count).float()
    if mean.shape != (width,):
        raise LikewiseError(f"mean has shape {tuple(mean.shape)}, but these images have {width} pixel values.")
    rows = torch.empty(count, width)
    for start, tile in tiles():
        part = torch.from_numpy(tile.astype(np.float32))
        rows[start : start + _PIXEL_TILE] = torch.nn.functional.normalize(part - mean, dim=1)
        tick(min(1.0, (start + _PIXEL_TILE) / count))
    return rows, mean


REPRESENTATIONS = ("raw", "untrained", "learned")


def raw_rows(model: Model, train: Items, test: Items | None, *, tick: Tick = untold) -> tuple[Tensor, Tensor, str]:
    """Raw rows of length 1 of train and of test, float32 (N, F) and (M, F), and the name of this layer.

    Rows are pixels centred by the mean of train, or standardised vectors. Without a test set, the rows of train are
    returned twice. ``tick`` is told the share of the work that is done.
    """
    if train.kind == "images":
        parts = 1 if test is None else 2
        rows, mean = raw_pixels(train.values, tick=part_of(tick, 0, parts))
        others = rows if test is None else raw_pixels(test.values, mean, tick=part_of(tick, 1, parts))[0]
        return rows, others, "pixels, centred"
    rows, *more = (
        functional.normalize(model.standardise(items.batch(np.arange(len(items)))), dim=1)
        for items in (train, *(() if test is None else (test,)))
    )
    return rows, more[0] if more else rows, "standardised vectors"


def encoders(model: Model, items: Items) -> Iterator[tuple[str, Model]]:
    """The untrained encoder and the learned one. With a user's own backbone only the learned one can be given."""
    if not model.own_backbone:
        untrained = Model.untrained(model.settings, items)
        untrained.vector_mean, untrained.vector_std = model.vector_mean, model.vector_std
        yield "untrained", untrained
    yield "learned", model


def embedded(encoder: Model, items: Items, layer: Layer = "embedding", *, tick: Tick = untold) -> Tensor:
    """``encoder.features``, with a ``tick`` that is told the share of the items that are done."""
    return encoder.features(items, layer=layer, tick=lambda done: tick(done / len(items)))
