"""The embedder, which maps items to unit rows; the library's own backbones; and embedding a batch in parts.

Letters in shapes: B items, F features of the backbone, D length of the embedding, K of its numbers that are pixels,
C channels, S image side in pixels.
"""

from collections.abc import Sequence
from typing import Final, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from likewise.distributed import processes
from likewise.errors import LikewiseError
from likewise.kernels.numerics import at_least_float32

LAYERS: Final = ("embedding", "backbone")
COARSE: Final = 16  # pixels of a side of the copy whose pixels are a part of a row
_SMALLEST_NORM: Final = 1e-6


class Embedder(nn.Module):
    """Backbone, head, centring and L2 norm: maps items to unit rows.

    With ``query``, queries have an embedder of their own: its rows stand before those of the items in train mode, (B, 2
    D), see ``roles``; in eval mode they are the layer "query".
    With ``pixels`` = w, rows in eval mode have a second part, of coarse pixels. Their cosine is (1 − w) times that of
    the learned parts plus w times that of the pixels. Training sees the learned part alone.
    Keys of the state dict: ``backbone.*``, ``head.*``, ``centre.*``, ``pixels.*``, and those of the query's embedder
    as ``query.*``.

    Args:
        backbone: (B, ...) -> (B, feature_dim).
        head: (B, feature_dim) -> (B, dim); ``nn.Identity()`` for none.
        feature_dim: F.
        dim: D.
        centre: whether to apply BatchNorm, without weights, to the head's output before the L2 norm.
        unit: whether rows have unit length in training too. In eval mode and from ``embed`` they always have it.
        pixels: w, the share of the coarse pixels of images, below 1. They add D numbers to a row; with 0 none.
        frozen: whether the backbone keeps its weights and stays in eval mode, so that only the head learns.
        query: the embedder of queries, with the same ``dim``; None: queries are embedded as items are.
    """

    backbone: nn.Module
    head: nn.Module
    centre: nn.Module
    feature_dim: int
    dim: int

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        *,
        feature_dim: int,
        dim: int,
        centre: bool = False,
        unit: bool = True,
        pixels: float = 0.0,
        frozen: bool = False,
        query: "Embedder | None" = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.centre = nn.BatchNorm1d(dim, affine=False) if centre else nn.Identity()
        self.share, self.pixels = pixels, CoarsePixels(dim) if pixels else None
        self.feature_dim = feature_dim
        self.dim = dim
        self.unit = unit
        self.frozen = frozen
        self.query = query
        if frozen:
            self.backbone.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Sets the mode; a frozen backbone stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def extra_repr(self) -> str:
        """The parameters that are not modules."""
        sizes = f"feature_dim={self.feature_dim}, dim={self.dim}"
        return f"{sizes}, unit={self.unit}, pixels={self.share}, frozen={self.frozen}"

    def forward(self, x: Tensor) -> Tensor:
        """Items -> (B, D) float32 unit rows; in training without ``unit``, rows that are not normalised.

        In eval mode with ``pixels`` they are (B, 2 D); in train mode with ``query`` too, of queries and items.

        The norm is computed in float32, under autocast too. A row shorter than 1e-6 is divided by 1e-6: zero stays
        zero, and its gradient stays finite.
        """
        rows: Tensor = self.centre(at_least_float32(self.head(self.backbone(x))))
        if self.unit or not self.training:
            rows = F.normalize(rows, dim=1, eps=_SMALLEST_NORM)
        if self.training and self.query is not None:
            return torch.cat((self.query(x), rows), 1)
        if self.pixels is None or self.training:
            return rows
        return torch.cat((rows * (1 - self.share) ** 0.5, self.pixels(x) * self.share**0.5), 1)

    def features(self, x: Tensor) -> Tensor:
        """Items -> (B, F), the unchanged output of the backbone, in its dtype."""
        features: Tensor = self.backbone(x)
        return features

    def roles(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows in train mode as those of queries and of items, each (B, D); without ``query`` they are the same."""
        return (rows, rows) if self.query is None else (rows[:, : self.dim], rows[:, self.dim :])

    def layers(self) -> dict[str, int]:
        """The layers that ``embed`` knows, and the length of their rows. A run saves them."""
        length = self.dim if self.pixels is None else 2 * self.dim
        layers = dict(zip(LAYERS, (length, self.feature_dim), strict=True))
        return layers if self.query is None else {**layers, "query": self.dim}

    def embed(self, x: Tensor, layer: str = "embedding") -> Tensor:
        """Items -> float32 rows of one layer.

        Args:
            x: a batch of views.
            layer: "embedding" for unit rows, as ``forward`` gives them; "backbone" for the features (B, F), not
                normalised; "query" for unit rows of queries, if they have an embedder of their own.

        Raises:
            LikewiseError: no such layer.
        """
        if layer == "embedding":
            rows: Tensor = self.roles(self(x))[1] if self.training else self(x)
            return rows if self.unit or not self.training else F.normalize(rows, dim=1, eps=_SMALLEST_NORM)
        if layer == "backbone":
            return self.features(x).float()
        if layer == "query" and self.query is not None:
            return self.query.embed(x)
        raise LikewiseError(f"there is no layer {layer!r} to embed; choose one of: {', '.join(self.layers())}.")


class CoarsePixels(nn.Module):
    """The pixels of a small copy of an image, as few numbers: (B, 3, S, S) -> (B, K) unit rows. Nothing is trained.

    The copy has 16 × 16 pixels, each the mean of an area. Its principal components are divided by the fourth root of
    their variance: half-way to whitening, so that brightness and the main shape do not outweigh the details.

    Args:
        count: K.

    Attributes:
        mean: (768,) of the pixels of the items that ``fit`` saw; 0 before.
        basis: (768, K) scaled components; 0 before.
    """

    mean: Tensor
    basis: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3 * COARSE * COARSE))
        self.register_buffer("basis", torch.zeros(3 * COARSE * COARSE, count))

    @torch.no_grad()
    def fit(self, pixels: Tensor) -> None:
        """Takes the components from the ``coarse`` pixels of items, (N, 768). Components without variance are 0.

        Cost: N · 768² multiplications and the eigenvectors of a matrix of 768 × 768: half a second for 5,000 items.
        """
        pixels = pixels.double()
        mean = pixels.mean(0)
        variances, components = torch.linalg.eigh((pixels - mean).T @ (pixels - mean) / len(pixels))
        variances, components = variances.flip(0), components.flip(1)
        there = variances > 1e-9 * variances[0]
        scaled = torch.where(there, components * variances.clamp_min(1e-30) ** -0.25, 0.0)[:, : self.basis.shape[1]]
        self.mean.copy_(mean)
        self.basis.zero_()[:, : scaled.shape[1]] = scaled

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S), any S -> (B, K) float32. An image equal to the mean gives zeros."""
        return F.normalize((coarse(x) - self.mean) @ self.basis, dim=1, eps=_SMALLEST_NORM)


def coarse(images: Tensor) -> Tensor:
    """The pixels of a copy of 16 × 16: (B, 3, S, S) -> (B, 768) means of areas, float32."""
    return F.adaptive_avg_pool2d(images.float(), COARSE).flatten(1)


def embed_parts(embedder: nn.Module, parts: Sequence[Tensor], *, keep: bool = True) -> Tensor:
    """Embeds each part with its own batch statistics and concatenates the rows: several (b, ...) → (Σ b, D).

    With ``keep`` the running statistics become the mean of the values that each part alone would give them. Without
    ``keep`` they do not change.
    """
    if len(parts) == 1 and keep:
        rows: Tensor = embedder(parts[0])
        return rows
    statistics, moved = running_statistics(embedder), list[dict[str, Tensor]]()
    rows = torch.cat([embed_aside(embedder, part, statistics, moved) for part in parts])
    if keep:
        settle(statistics, moved)
    return rows


def arrange(views: Sequence[Tensor], groups: Sequence[int], *, joint: bool) -> list[Tensor]:
    """The parts to encode separately: the groups of every view, or (``joint``) every group with all its views."""
    split = [torch.split(view, list(groups)) for view in views]
    if joint:
        return [torch.cat(views_of_group) for views_of_group in zip(*split, strict=True)]
    return [part for parts in split for part in parts]


def by_view(rows: Tensor, count: int, groups: Sequence[int], *, joint: bool) -> list[Tensor]:
    """The rows of each of ``count`` views, from the rows of the parts that ``arrange`` made."""
    if not joint:
        return list(rows.chunk(count))
    parts = torch.split(rows, [count * size for size in groups])
    return [torch.cat(view) for view in zip(*(part.chunk(count) for part in parts), strict=True)]


def running_statistics(embedder: nn.Module) -> dict[str, Tensor]:
    """The buffers of BatchNorm in train mode, which forward passes update, by name."""
    return {
        f"{name}.{key}" if name else key: buffer
        for name, module in embedder.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
        for key, buffer in module.named_buffers(recurse=False)
    }


def embed_aside(
    embedder: nn.Module, part: Tensor, statistics: dict[str, Tensor], moved: list[dict[str, Tensor]]
) -> Tensor:
    """Embeds a part without changing ``statistics``; appends the values they would get to ``moved``."""
    copies = {name: buffer.clone() for name, buffer in statistics.items()}
    rows: Tensor = torch.func.functional_call(embedder, copies, (part,))
    moved.append(copies)
    return rows


@torch.no_grad()
def settle(statistics: dict[str, Tensor], moved: Sequence[dict[str, Tensor]]) -> None:
    """Sets the running statistics to the mean of ``moved``, and counters to their largest value."""
    for name, buffer in statistics.items():
        ends = torch.stack([copies[name] for copies in moved])
        buffer.copy_(ends.mean(0) if buffer.is_floating_point() else ends.amax(0))


def average_statistics(embedder: nn.Module) -> None:
    """Averages the running statistics over the processes, so that they stay equal with several groups per batch."""
    processes.add_up((x for x in running_statistics(embedder).values() if x.is_floating_point()), mean=True)


Stem = Literal["small", "imagenet"]


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias (a BatchNorm follows), padded so that stride 1 keeps the size."""
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """The 1×1 projection of a block's input; None where no projection is needed."""
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
        """One block; ReLU comes after the sum, as in the paper."""
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
        """One block; ReLU comes after the sum, as in the paper."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        total: Tensor = self.relu(y + shortcut)
        return total


class ResNet(nn.Module):
    """A stem, three or four stages of residual blocks, and the mean over positions: (B, 3, S, S) -> (B, F).

    Weights start as in torchvision: convolutions He-normal over fan-out, BatchNorm at scale 1 and shift 0.

    Args:
        block: the kind of block in every stage.
        counts: number of blocks of each stage.
        widths: channels of each stage, before the block's expansion.
        strides: stride of each stage's first block.
        stem_width: output channels of the stem.
        stem: "imagenet" is 7×7 with stride 2, then a 3×3 max-pool with stride 2; "small" is one 3×3 convolution.
        patch: if above 0, the small stem is a convolution over patches of this side.
        every: pixels from one patch to the next; 0: the patch's side, so that patches are separate.

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
        every: int = 0,
    ) -> None:
        super().__init__()
        large = stem == "imagenet"
        if patch and not large:
            stride = every or patch
            self.conv1 = nn.Conv2d(3, stem_width, patch, stride, padding=(patch - stride) // 2, bias=False)
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
    """Draws weights as He et al. (ICCV 2015, eq. 10 with fan-out). BatchNorm starts at scale 1 and shift 0 anyway."""
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

    It has patches of 4×4 pixels, then three stages of one block (64, 128, 256 channels). Few pixels with many channels
    are fast on a CPU. Of the shapes that were tried, this one is the fastest, and the most accurate in equal time.
    """
    return ResNet(BasicBlock, (1, 1, 1), widths=(64, 128, 256), strides=(1, 2, 2), stem=stem, patch=4)


def resnet_fine(stem: Stem = "small") -> ResNet:
    """resnet-small with patches that overlap, 2 pixels apart: F = 256, 1.2 M parameters, 47 MMAC an image at 32 px.

    At 16 px it costs what resnet-small costs at 32 px, 12 MMAC, and has as many positions. In equal time, trained on
    views of 16 px, it learns more from photos of 32 px; the whole photos are embedded at 32 px all the same.
    """
    return ResNet(BasicBlock, (1, 1, 1), widths=(64, 128, 256), strides=(1, 2, 2), stem=stem, patch=4, every=2)


class MLP(nn.Module):
    """Two layers, each of Linear, BatchNorm and ReLU: (B, D) -> (B, H), 0 or more.

    BatchNorm (Ioffe & Szegedy 2015) removes the scale of the first layer's outputs, and so that of the inputs. The
    linear layers have no bias, because BatchNorm has a shift. Training needs B >= 2.

    Attributes:
        feature_dim: H.
    """

    feature_dim: int

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.feature_dim = hidden
        self.layers = nn.Sequential(
            nn.Linear(inputs, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) float -> (B, H)."""
        features: Tensor = self.layers(x)
        return features
