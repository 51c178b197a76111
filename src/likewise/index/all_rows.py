"""An index by which each of its own rows is searched among the others."""

from collections.abc import Sequence
from importlib.util import find_spec

from torch import Tensor

from likewise.console import Tick, untold
from likewise.index.index import Index

_ALL_PAIRS = 5e11  # products of numbers, some half a minute on a core, beyond which an engine searches


def index_of_all(rows: Tensor, ids: Sequence[str], tick: Tick = untold) -> Index:
    """An index of (N, D) unit rows: exact, or by ``faiss:ivf`` with a recall of 0.95 where exact search of all rows
    would take long and faiss is there. ``tick`` is told the share of the building of an engine that is done."""
    index = Index(rows, ids)
    if len(rows) ** 2 * rows.shape[1] > _ALL_PAIRS and find_spec("faiss") is not None:
        index.use("faiss:ivf", tick=tick)
    return index
