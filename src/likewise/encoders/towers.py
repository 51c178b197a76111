"""Encoders of items of several parts: a tower for each part, and their fusion.

Letters in shapes: B items, D columns of an item, P parts, F_p features of the tower of part p.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from likewise.blocks import Block, Blocks, there
from likewise.encoders.embedder import resnet_small
from likewise.encoders.synced_batchnorm import waits_for_others


class Towers(nn.Module):
    """A tower for each part: (B, D) -> (B, F) with F = Σ F_p + P, the towers' features and which parts are there.

    ``h_p = tower_p(x_p)`` where the item has part p, else 0. The tower of an image is resnet-small on its pixels, F_p =
    256; that of a vector or of words is Linear and ReLU, F_p = ``hidden``. An image that is missing takes no part in
    BatchNorm; the only image of a batch, which has no spread, is normalised by the running statistics.
    Relations: with one part it is that part's tower.
    Cost: the images that are there, and Σ D_p · F_p multiplications for each item.
    Paper: the lower layers of Lee et al., Collaborative Deep Metric Learning for Video Understanding, KDD 2018.

    Args:
        blocks: the columns of the parts.
        hidden: F_p of vectors and words.

    Attributes:
        widths: F_p of each part, and last P.
        feature_dim: F.
    """

    feature_dim: int

    def __init__(self, blocks: Blocks, hidden: int) -> None:
        super().__init__()
        self.blocks = tuple(blocks)
        self.towers = nn.ModuleList(_tower(block, hidden) for block in blocks)
        self.widths = (*(_features(block, hidden) for block in blocks), len(self.blocks))
        self.feature_dim = sum(self.widths)

    def extra_repr(self) -> str:
        """The names of the parts."""
        return ", ".join(block.name for block in self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) float -> (B, F)."""
        has = there(x, self.blocks)
        parts = [
            _where(has[:, place], x[:, block.content], tower, width)
            for place, (block, tower, width) in enumerate(zip(self.blocks, self.towers, self.widths, strict=False))
        ]
        return torch.cat([*parts, has.to(parts[0].dtype)], 1)


class LateFusion(nn.Module):
    """The element-wise product of a head for each part: (B, F) of ``Towers`` -> (B, dim).

    ``z = Π_p (head_p(h_p) if the item has part p, else 1)``.
    Departures: what stands for a missing part is ours.
    Paper: as ``Towers``, "late fusion".

    Args:
        widths: F_p of each part, and last P.
        heads: P modules, (B, F_p) -> (B, dim).
    """

    def __init__(self, widths: Sequence[int], heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.heads = nn.ModuleList(heads)

    def forward(self, x: Tensor) -> Tensor:
        """(B, F) -> (B, dim)."""
        *features, has = torch.split(x, list(self.widths), 1)
        rows = [torch.where(has[:, [place]] > 0, head(h), 1.0) for place, (head, h) in enumerate(self._pairs(features))]
        product = rows[0]
        for row in rows[1:]:
            product = product * row
        return product

    def _pairs(self, features: Sequence[Tensor]) -> list[tuple[nn.Module, Tensor]]:
        return list(zip(self.heads, features, strict=True))


class _Pixels(nn.Module):
    """(B, S·S·3) -> (B, 3, S, S)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x.view(-1, self.size, self.size, 3).permute(0, 3, 1, 2)


def _tower(block: Block, hidden: int) -> nn.Module:
    if block.kind == "image":
        return nn.Sequential(_Pixels(block.size), resnet_small())
    return nn.Sequential(nn.Linear(block.width, hidden), nn.ReLU())


def _features(block: Block, hidden: int) -> int:
    return 256 if block.kind == "image" else hidden


def _where(has: Tensor, content: Tensor, tower: nn.Module, width: int) -> Tensor:
    """(B, F_p): the tower's features of the items that have the part, 0 for the others."""
    rows = has.nonzero().squeeze(1)
    if not len(rows) and not waits_for_others(tower):  # BatchNorm takes no empty batch; the weights get gradient 0
        nothing = torch.stack([weight.sum() for weight in tower.parameters()]).sum() * 0.0
        return nothing.expand(len(content), width)
    alone = len(rows) == 1 and not waits_for_others(tower)
    features = _as_measured(tower, content[rows]) if alone else tower(content[rows])
    whole: Tensor = features.new_zeros(len(content), width).index_copy(0, rows, features)
    return whole


def _as_measured(tower: nn.Module, x: Tensor) -> Tensor:
    """The tower's output in eval mode, whatever the modes of its layers are."""
    modes = [(layer, layer.training) for layer in tower.modules()]
    features: Tensor = tower.eval()(x)
    for layer, training in modes:
        layer.training = training
    return features
