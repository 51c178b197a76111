"""A model as one module, from items as they are stored to unit rows: what is exported.

Letters in shapes: B items, S side in pixels, D columns of a vector, P parts, K length of a row.
"""

from collections.abc import Sequence
from copy import copy, deepcopy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from likewise.blocks import Blocks, masked, there
from likewise.encoders.embedder import COARSE, CoarsePixels, Embedder
from likewise.encoders.towers import Towers
from likewise.model import FAR, Layer, Model

THERE = "parts.there"  # no part has such a name, for it holds a point
Array = npt.NDArray[np.generic]


@dataclass(frozen=True, kw_only=True)
class Input:
    """An input of an exported model.

    Args:
        name: "images", "vectors", or of items of several parts: a part's name, and ``parts.there`` for which are there.
        shape: of one item.
        dtype: uint8, float32 or bool.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str

    def zeros(self, count: int) -> Array:
        """(count, *shape) zeros."""
        return np.zeros((count, *self.shape), self.dtype)


def inputs_of(model: Model) -> tuple[Input, ...]:
    """The inputs, in order."""
    if model.kind == "images":
        size = model.settings.size
        return (Input(name="images", shape=(size, size, 3), dtype="uint8"),)
    if not model.blocks:
        assert model.vector_mean is not None
        return (Input(name="vectors", shape=(len(model.vector_mean),), dtype="float32"),)
    parts = [
        Input(name=block.name, shape=(block.size, block.size, 3), dtype="uint8")
        if block.kind == "image"
        else Input(name=block.name, shape=(block.width,), dtype="float32")
        for block in model.blocks
    ]
    return (*parts, Input(name=THERE, shape=(len(model.blocks),), dtype="bool"))


def split_inputs(batch: Tensor, blocks: Blocks) -> tuple[Tensor, ...]:
    """A batch of ``Items.batch`` as the inputs of ``inputs_of``, in that order."""
    if not blocks:
        return (batch,)
    parts = [
        batch[:, block.content].reshape(len(batch), block.size, block.size, 3).to(torch.uint8)
        if block.kind == "image"
        else batch[:, block.content].contiguous()
        for block in blocks
    ]
    return (*parts, there(batch, blocks))


def on_cpu(model: Model) -> Model:
    """The model with a copy of its embedder, on the CPU, in eval mode; the given one stays as it is."""
    same = copy(model)
    same.embedder = deepcopy(model.embedder).cpu().eval()
    return same


class Network(nn.Module):
    """Scaling, a layer of a model, and the L2 norm: items as they are stored -> (B, K) unit rows, float32.

    The inputs are those of ``inputs_of``: uint8 (B, S, S, 3) of images, float32 (B, D) of vectors, or those of each
    part and which are there. It computes what ``Model.features`` computes. The row of a vector that ``Model.features``
    refuses, NaN or more than ``FAR`` standard deviations from the mean, is NaN.

    Args:
        model: it gives a copy of its embedder, on the CPU.
        layer: the layer.

    Raises:
        LikewiseError: the model does not have this layer.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, model: Model, layer: Layer = "embedding") -> None:
        super().__init__()
        model.width(layer)
        self.embedder = _plain(on_cpu(model).embedder, model.settings.size)
        self.layer, self.kind, self.blocks = layer, model.kind, model.blocks
        shift, scale = scaling(model)
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)
        self.eval().requires_grad_(False)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Items -> (B, K) unit rows."""
        x = self.scaled(inputs)
        rows = F.normalize(self.embedder.embed(x, self.layer), dim=1)
        return rows if self.kind == "images" else torch.where(x.abs().amax(1, keepdim=True) <= FAR, rows, torch.nan)

    def scaled(self, inputs: Sequence[Tensor]) -> Tensor:
        """The inputs as the embedder takes them: see ``Model.prepare``."""
        if self.kind == "images":
            return (inputs[0].permute(0, 3, 1, 2).contiguous().float() - self.shift) * self.scale
        if not self.blocks:
            return (inputs[0] - self.shift) / self.scale
        *contents, has = inputs
        columns = list[Tensor]()
        for place, content in enumerate(contents):
            columns += [content.flatten(1).float(), has[:, place : place + 1].float()]
        return masked((torch.cat(columns, 1) - self.shift) / self.scale, self.blocks)


def scaling(model: Model) -> tuple[Tensor, Tensor]:
    """What is subtracted from the inputs, and their factor (of images) or divisor (of vectors)."""
    if model.kind == "images":
        views = model.settings.views
        shift, scale = [255 * each for each in views.mean], [1 / (255 * each) for each in views.std]
        return torch.tensor(shift).view(3, 1, 1), torch.tensor(scale).view(3, 1, 1)
    assert model.vector_mean is not None
    assert model.vector_std is not None
    return model.vector_mean.cpu(), model.vector_std.cpu()


def _plain(embedder: Embedder, size: int) -> Embedder:
    """The embedder with the same sums written without what can't be exported; in place."""
    for part in (embedder, embedder.query):
        if part is None:
            continue
        if isinstance(part.backbone, Towers):
            part.backbone = EveryTower(part.backbone)
        if part.pixels is not None:
            part.pixels = AveragedPixels(part.pixels, size)
    return embedder


class AveragedPixels(CoarsePixels):
    """``CoarsePixels`` of images of one size, with the means of areas as two products of matrices."""

    areas: Tensor

    def __init__(self, pixels: CoarsePixels, size: int) -> None:
        super().__init__(pixels.basis.shape[1])
        self.load_state_dict(pixels.state_dict())
        self.register_buffer("areas", F.adaptive_avg_pool1d(torch.eye(size)[None], COARSE)[0].T.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """As ``CoarsePixels``; S is the size."""
        coarse = (self.areas @ x @ self.areas.T).flatten(1)
        return F.normalize((coarse - self.mean) @ self.basis, dim=1, eps=1e-6)


class EveryTower(nn.Module):
    """``Towers`` in eval mode, which also encodes the parts that are missing and then puts zeros in their place."""

    def __init__(self, towers: Towers) -> None:
        super().__init__()
        self.blocks, self.towers = towers.blocks, towers.towers

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, F)."""
        has = there(x, self.blocks)
        parts = [
            torch.where(has[:, place : place + 1], tower(x[:, block.content]), 0.0)
            for place, (block, tower) in enumerate(zip(self.blocks, self.towers, strict=True))
        ]
        return torch.cat([*parts, has.to(x.dtype)], 1)
