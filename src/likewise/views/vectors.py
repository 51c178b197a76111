"""Random views of vectors: noise, and features set to their mean. The scale in which vectors are given to an encoder.

Dimension legend: N items, B of a batch, D features.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from likewise.blocks import Blocks, masked
from likewise.config.ranges import RANGES
from likewise.errors import LikewiseError
from likewise.views.render import Share, check_generator


class VectorViews:
    """Random views of vectors: Gaussian noise in units of each feature's spread, and features set to their mean.

    Args:
        noise: standard deviation of the noise, as a share of the feature's.
        dropout: probability that a feature is set to its mean, without noise.
        mean: (D,) mean of each feature over the data.
        std: (D,) standard deviation of each feature over the data.
        blocks: of items of several parts: the content of a missing part stays 0; images, and the columns that say which
            parts are there, stay as they are.

    Raises:
        LikewiseError: noise below 0, dropout outside [0, 1], or mean and std that are not two rows of one length.
    """

    def __init__(self, noise: float, dropout: float, mean: Tensor, std: Tensor, blocks: Blocks = ()) -> None:
        for name, value in (("views.noise", noise), ("views.dropout", dropout)):
            RANGES[name].read(name, value)
        if mean.ndim != 1 or mean.shape != std.shape:
            raise LikewiseError(
                f"The features' mean has shape {tuple(mean.shape)} and their std {tuple(std.shape)}, "
                "but both must be (D,)."
            )
        self.noise = noise
        self.dropout = dropout
        self.mean = mean.float()
        self.std = std.float()
        self.blocks = tuple(blocks)

    def __repr__(self) -> str:
        named = f", blocks={[block.name for block in self.blocks]}" if self.blocks else ""
        return f"VectorViews(noise={self.noise}, dropout={self.dropout}, {len(self.mean)} features{named})"

    def __call__(self, rows: Tensor, generator: torch.Generator, share: Share | None = None) -> Tensor:
        """One view of each row: (B, D) float32, on the same device and in the same units; see ``Views``.

        Raises:
            LikewiseError: rows of another type or width, or a generator that is not on the CPU.
        """
        if rows.ndim != 2 or rows.dtype != torch.float32 or rows.shape[1] != len(self.mean):
            raise LikewiseError(
                f"Views of vectors need float32 rows of shape (B, {len(self.mean)}), "
                f"but got {rows.dtype} of shape {tuple(rows.shape)}."
            )
        check_generator(generator)
        device = rows.device
        share = share or Share(len(rows), slice(None))
        shape = (share.total, rows.shape[1])
        normal = torch.randn(shape, generator=generator)[share.rows].to(device)
        lost = (torch.rand(shape, generator=generator)[share.rows] < self.dropout).to(device)
        noisy = torch.addcmul(rows, normal, (self.noise * self.std).to(device))
        seen = torch.where(lost, self.mean.to(device), noisy)
        for block in self.blocks:
            kept = slice(block.start if block.kind == "image" else block.stop, block.stop + 1)
            seen[:, kept] = rows[:, kept]
        return masked(seen, self.blocks)


def scales_of(
    rows: Tensor, blocks: Blocks = (), *, mean: Sequence[float] = (0, 0, 0), std: Sequence[float] = (1, 1, 1)
) -> tuple[Tensor, Tensor]:
    """(D,) what is subtracted from each feature, and (D,) what it is then divided by.

    They are the mean and the standard deviation, or 1 where this is 0; in a block, those over the items that have the
    part. Two kinds of blocks have other ones. Words: 0 and 1 / √(number of their columns), so that a row has the length
    that standardised numbers have on average. Each column by its own deviation would make a rare word, which hardly
    deviates, as large as √N. Pixels: ``mean`` and ``std`` of their channel, in units of 255. Columns that say whether a
    part is there stay as they are.

    Args:
        rows: (N, D) vectors.
        blocks: the columns of each part; empty: all are numbers.
        mean: of each channel of images, in [0, 1].
        std: as ``mean``.
    """
    if not blocks:
        return _spread(rows)
    shift, scale = torch.zeros(rows.shape[1]), torch.ones(rows.shape[1])
    for block in blocks:
        content = block.content
        if block.kind == "words":
            scale[content] = block.width**-0.5
        elif block.kind == "image":
            shift[content] = 255 * torch.tensor(mean).repeat(block.size**2)
            scale[content] = 255 * torch.tensor(std).repeat(block.size**2)
        elif bool((has := rows[:, block.stop] > 0).any()):
            shift[content], scale[content] = _spread(rows[has, content])
    return shift, scale


def _spread(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of each column, and its standard deviation; 1 where this is 0."""
    std = rows.std(0, correction=0)
    return rows.mean(0), torch.where(std == 0, 1.0, std)
