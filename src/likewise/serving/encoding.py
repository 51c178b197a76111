"""What turns the pictures or vectors of requests into rows."""

import logging
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.blocks import Block
from likewise.data import Items
from likewise.errors import LikewiseError
from likewise.exporting.runtime import NEEDED
from likewise.model import Layer, Model
from likewise.serving.kept_network import kept_runner
from likewise.serving.settings import FOLDER

CLOSE = 1e-4  # between rows of ONNX Runtime and of the model

log = logging.getLogger("likewise.serving")

Values = npt.NDArray[Any]  # uint8 (B, S, S, 3), or float32 (B, D)


class Encoder(Protocol):
    """Embeds the contents of requests."""

    @property
    def engine(self) -> str:
        """The library that computes."""

    def rows(self, values: Values, layer: Layer) -> Tensor:
        """(B, F) float32 rows of length 1 of pictures or vectors. Raises LikewiseError on what can't be embedded."""


class ModelEncoder:
    """The run's model itself. A model of several parts gets the content as its only part of that kind.

    Args:
        model: of a run.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    @property
    def engine(self) -> str:
        """See ``Encoder``."""
        return "torch"

    def rows(self, values: Values, layer: Layer) -> Tensor:
        """See ``Encoder``."""
        model, images = self._model, values.dtype == np.uint8
        if model.blocks:
            block = part_of(model, images)
            assert block is not None
            alone = np.zeros((len(values), model.blocks[-1].stop + 1), np.float32)
            alone[:, block.content], alone[:, block.stop] = values.reshape(len(values), -1), 1
            values = alone
        ids = tuple(map(str, range(len(values))))
        items = Items(ids=ids, values=values, kind=model.kind, source="the request", blocks=tuple(model.blocks))
        return model.features(items, layer=layer)


class FastEncoder:
    """The model as ONNX Runtime runs it: quick for few items at once.

    Args:
        model: of one part.
        layers: those whose rows are asked for.
        run: its folder, in which the exported network is kept.

    Raises LikewiseError when a layer of the model can't be exported, or runs otherwise than the model. Cost: some 5
    seconds for each layer that is not kept.
    """

    def __init__(self, model: Model, layers: Collection[Layer], run: Path) -> None:
        self._run = {layer: kept_runner(model, layer, run) for layer in layers}
        values, own = example_of(model), ModelEncoder(model)
        for layer in layers:
            off = float((self.rows(values, layer) - own.rows(values, layer)).abs().max())
            if not off <= CLOSE:
                raise LikewiseError(f"what {run / FOLDER} has of the model gives another row; delete this folder.")

    @property
    def engine(self) -> str:
        """See ``Encoder``."""
        return "ONNX Runtime"

    def rows(self, values: Values, layer: Layer) -> Tensor:
        """See ``Encoder``."""
        return torch.from_numpy(self._run[layer](values))


def encoder_of(model: Model, layers: Collection[Layer], run: Path) -> Encoder:
    """ONNX Runtime where it is installed and takes the model, else torch."""
    if model.blocks or any(find_spec(name) is None for name in NEEDED):
        return ModelEncoder(model)
    try:
        return FastEncoder(model, layers, run)
    except LikewiseError as error:
        log.warning("torch embeds, for %s", error)
        return ModelEncoder(model)


def example_of(model: Model) -> Values:
    """(1, ...) what a model embeds: a picture of all grey levels, or a vector, the training's mean."""
    if side := side_of(model):
        return np.linspace(0, 255, side * side * 3).astype(np.uint8).reshape(1, side, side, 3)
    return np.zeros((1, dim_of(model)), np.float32) if model.vector_mean is None else model.vector_mean[None].numpy()


def part_of(model: Model, images: bool) -> Block | None:
    """The part of a model that a picture or a vector is: its only one of that kind; None without one, or of several."""
    fitting = [block for block in model.blocks if block.kind == ("image" if images else "vector")]
    return fitting[0] if len(fitting) == 1 else None


def side_of(model: Model) -> int:
    """The side in pixels of the pictures that a model embeds; 0 where it embeds none."""
    if model.blocks:
        block = part_of(model, True)
        return 0 if block is None else block.size
    return model.settings.size if model.kind == "images" else 0


def dim_of(model: Model) -> int:
    """How many numbers a vector has that a model embeds; 0 where it embeds none."""
    if model.blocks:
        block = part_of(model, False)
        return 0 if block is None else block.width
    return 0 if model.vector_mean is None else len(model.vector_mean)
