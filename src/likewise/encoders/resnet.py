"""Residual networks (He et al., CVPR 2016) whose parameter and buffer names are torchvision's.

So a public ``state_dict`` of torchvision, MoCo or NPID loads by name. ``fc`` is no part of a backbone: the embedding's
head takes its place. Letters in shapes: B items, C channels, S image side in pixels, F features.
"""

from collections.abc import Sequence
from typing import Final, Literal

import torch
from torch import Tensor, nn

Stem = Literal["small", "imagenet"]


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias (a BatchNorm follows), padded so that stride 1 keeps the size."""
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """The 1×1 projection of a block's input; None where the identity fits."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut: (B, inputs, S, S) -> (B, width, S/stride, S/stride)."""

    expansion: Final[int] = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """One block; the sum is rectified last, as in the paper."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        total: Tensor = self.relu(y + shortcut)
        return total


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolutions and a shortcut: (B, inputs, S, S) -> (B, 4·width, S/stride, S/stride).

    Departure from the paper, as in torchvision ("ResNet v1.5"): the stride is in the 3×3 convolution.
    """

    expansion: Final[int] = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = _conv(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """One block; the sum is rectified last, as in the paper."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        total: Tensor = self.relu(y + shortcut)
        return total


class ResNet(nn.Module):
    """A stem, three or four stages of residual blocks, and the mean over the positions: (B, 3, S, S) -> (B, F).

    Weights start as in torchvision: convolutions He-normal over fan-out, BatchNorm at scale 1 and shift 0.

    Args:
        block: the kind of block in every stage.
        counts: blocks in each of the stages.
        widths: channels of each stage before the block's expansion; the stem has ``stem_width``.
        strides: of each stage's first block.
        stem_width: channels that leave the stem.
        stem: "imagenet" is 7×7 with stride 2, then a 3×3 max-pool with stride 2; "small" is one 3×3 convolution.
        patch: where above 0, the small stem is a convolution of patches of that side, which do not overlap.

    Attributes:
        feature_dim: F, the last stage's channels.
    """

    feature_dim: int

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        counts: Sequence[int],
        *,
        widths: Sequence[int] = (64, 128, 256, 512),
        strides: Sequence[int] = (1, 2, 2, 2),
        stem_width: int = 64,
        stem: Stem = "small",
        patch: int = 0,
    ) -> None:
        super().__init__()
        large = stem == "imagenet"
        if patch and not large:
            self.conv1 = nn.Conv2d(3, stem_width, patch, patch, bias=False)
        else:
            self.conv1 = _conv(3, stem_width, 7, 2) if large else _conv(3, stem_width, 3)
        self.bn1 = nn.BatchNorm2d(stem_width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if large else nn.Identity()
        inputs, stages = stem_width, list[nn.Module]()
        for count, width, stride in zip(counts, widths, strides, strict=True):
            first = block(inputs, width, stride)
            inputs = width * block.expansion
            stages.append(nn.Sequential(first, *(block(inputs, width, 1) for _ in range(count - 1))))
        self.layer1, self.layer2, self.layer3 = stages[:3]
        self.layer4 = stages[3] if len(stages) > 3 else nn.Identity()
        self.feature_dim = inputs
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) float, any S and memory format -> (B, F), in the dtype of the last convolution."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean(dim=(2, 3))


def _initialise(network: ResNet) -> None:
    """Set He et al.'s (ICCV 2015, eq. 10 with fan-out) weights; BatchNorm starts at 1 and 0 by itself."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def resnet18(stem: Stem = "small") -> ResNet:
    """ResNet-18: F = 512, 11.2 M parameters, 0.56 GMAC an image at 32 px (small stem), 1.8 at 224 px (imagenet)."""
    return ResNet(BasicBlock, (2, 2, 2, 2), stem=stem)


def resnet50(stem: Stem = "small") -> ResNet:
    """ResNet-50: F = 2048, 23.5 M parameters, 1.3 GMAC an image at 32 px (small stem), 4.1 at 224 px (imagenet)."""
    return ResNet(Bottleneck, (3, 4, 6, 3), stem=stem)


def resnet_small(stem: Stem = "small") -> ResNet:
    """A small ResNet for few CPU cores: F = 256, 1.2 M parameters, 12 MMAC an image at 32 px.

    Patches of 4×4 pixels, then three stages of one block (64, 128, 256 channels). Few pixels with many channels suit a
    CPU's matrix products: of the shapes tried it was the quickest and the most accurate at equal time.
    """
    return ResNet(BasicBlock, (1, 1, 1), widths=(64, 128, 256), strides=(1, 2, 2), stem=stem, patch=4)
