"""What turns the pictures or vectors of requests into rows."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from likewise.blocks import Block
from likewise.data import Items
from likewise.model import Layer, Model

Values = npt.NDArray[Any]  # uint8 (B, S, S, 3), or float32 (B, D)


class Encoder(Protocol):
    """Embeds the contents of requests."""

    @property
    def engine(self) -> str:
        """The library that computes."""

    def rows(self, values: Values, layer: Layer) -> Tensor:
        """(B, F) float32 rows of length 1 of pictures or vectors. Raises LikewiseError on what can't be embedded."""


class TorchEncoder:
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
