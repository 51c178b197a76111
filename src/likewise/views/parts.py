"""Random views of items of several parts."""

import torch
from torch import Tensor

from likewise.blocks import Blocks, masked
from likewise.config.settings import ViewSettings
from likewise.views.render import Share, Views
from likewise.views.vectors import VectorViews


class PartViews:
    """Random views of items of several parts: images as ``Views`` shows them, the rest as ``VectorViews`` does.

    Parts are drawn one by one, so that each has its own changes. What an item lacks stays 0.

    Args:
        settings: what varies and how much.
        mean: (D,) what the standardised items have subtracted.
        std: (D,) what they are divided by.
        blocks: the columns of the parts.
    """

    def __init__(self, settings: ViewSettings, mean: Tensor, std: Tensor, blocks: Blocks) -> None:
        self.mean, self.std, self.blocks = mean, std, tuple(blocks)
        self.images = [(block, Views(settings, block.size)) for block in blocks if block.kind == "image"]
        zero, one = torch.zeros_like(mean), torch.ones_like(std)
        self.vectors = VectorViews(settings.noise, settings.dropout, zero, one, blocks)

    def __repr__(self) -> str:
        return f"PartViews(images={[block.name for block, _ in self.images]}, {self.vectors})"

    def __call__(self, rows: Tensor, generator: torch.Generator, share: Share | None = None) -> Tensor:
        """One view of each row: (B, D) items as they are stored -> (B, D) standardised.

        Raises:
            LikewiseError: as ``VectorViews`` and ``Views``.
        """
        share = share or Share(len(rows), slice(None))
        seen = self.vectors((rows - self.mean.to(rows.device)) / self.std.to(rows.device), generator, share)
        for block, views in self.images:
            has = (rows[:, block.stop] > 0).nonzero().squeeze(1)
            drawn = views.draw(share.total, block.size, block.size, generator).select(share.rows).select(has.cpu())
            pixels = rows[has, block.content].view(-1, block.size, block.size, 3).to(torch.uint8)
            if len(has):
                shown = views.apply(pixels, drawn).permute(0, 2, 3, 1).flatten(1)
                seen[has, block.content] = shown.to(seen.dtype)
        return masked(seen, self.blocks)
