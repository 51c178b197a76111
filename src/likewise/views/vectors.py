"""Random views of vectors: noise, and features set to their mean."""

import torch
from torch import Tensor

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

    Raises:
        LikewiseError: noise below 0, dropout outside [0, 1], or mean and std that are not two rows of one length.
    """

    def __init__(self, noise: float, dropout: float, mean: Tensor, std: Tensor) -> None:
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

    def __repr__(self) -> str:
        return f"VectorViews(noise={self.noise}, dropout={self.dropout}, {len(self.mean)} features)"

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
        return torch.where(lost, self.mean.to(device), noisy)
