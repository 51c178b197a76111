"""The items with content of a command that recommends, joined with the interactions, and their embedding.

Dimension legend: N items, D numbers of an embedding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from likewise.console import Tick, say
from likewise.data import Items
from likewise.graph.interactions import Log
from likewise.model import Model
from likewise.recommendation.catalogue import Catalogue, catalogue


class WithContent(NamedTuple):
    """The items as a model takes them, and with those of the interactions under one numbering."""

    items: Items
    known: Catalogue

    def embedding(self, model: Model, tick: Tick) -> npt.NDArray[np.float32]:
        """(N, D) of all items; zeros for an item without content. Cost: one pass of the model over the items."""
        rows = model.features(self.items, tick=lambda done: tick(done / len(self.items)))
        return self.known.spread(rows.numpy())


def open_content(
    model: Model, log: Log, data: object, *, key: str | None, image: str | None, columns: Sequence[str]
) -> WithContent:
    """Open the items and join them with the interactions; what is to be known of both is said on standard error.

    Raises LikewiseError as ``Model.open`` and :func:`likewise.recommendation.catalogue.catalogue` do.
    """
    items = model.open(data, labels="none", key=key, image=image, columns=columns, progress=False)
    known = catalogue(log, items)
    say(known.notes)
    return WithContent(items, known)
