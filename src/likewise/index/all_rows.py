"""The nearest other rows of each row, and the index by which they are found."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.console import Tick, part_of, untold
from likewise.index.index import Index

_ALL_PAIRS = 5e11  # products of numbers, some half a minute on a core, beyond which an engine searches
_BLOCK = 4096  # rows whose neighbours are searched at once
_MISSED = 0.01  # share of the known rows that an engine may miss


class Known(NamedTuple):
    """Rows whose neighbour is known, by which the effort of an engine is chosen.

    Args:
        rows: (Q, D) unit rows, such as those of changed copies.
        places: (Q,) int64 the row that each must find.
        k: among how many.
    """

    rows: Tensor
    places: npt.NDArray[np.int64]
    k: int

    def found(self, near: Tensor) -> npt.NDArray[np.bool_]:
        """(Q,) whether (Q, k) places have the right one among them."""
        there: npt.NDArray[np.bool_] = (near == torch.from_numpy(self.places)[:, None]).any(1).numpy()
        return there


def index_of_all(rows: Tensor, ids: Sequence[str], tick: Tick = untold, known: Known | None = None) -> Index:
    """An index of (N, D) unit rows: exact, or by ``faiss:ivf`` where exact search of all rows would take long and faiss
    is there.

    Args:
        rows: (N, D) float32 unit rows.
        ids: their ids.
        tick: told the share of the building of an engine that is done.
        known: chooses the effort of the engine: the least that finds as many of these rows as exact search, but for 1
            in 100. Near-copies are easier to find than other neighbours, so this saves most of the work. None: the
            engine has a recall of 0.95 of the 10 nearest.
    """
    index = Index(rows, ids)
    if len(rows) ** 2 * rows.shape[1] <= _ALL_PAIRS or find_spec("faiss") is None:
        return index
    if known is None:
        index.use("faiss:ivf", tick=tick)
        return index
    least = known.found(index.nearest(known.rows, known.k, tick=part_of(tick, 0, 2))[1]).mean() - _MISSED
    engine = index.build("faiss:ivf", part_of(tick, 1, 2))
    for effort in engine.efforts():
        engine.effort = effort
        if known.found(index.nearest(known.rows, known.k)[1]).mean() >= least:
            break
    return index


def nearest_of_all(rows: Tensor, k: int, tick: Tick = untold) -> tuple[Tensor, Tensor]:
    """(N, k) float32 cosines and int64 places of the other rows nearest to each of (N, D) unit rows; 0 ≤ k < N.

    Where an engine finds fewer they are −inf and −1.

    Cost: N² D products, or beyond 5·10¹¹ of them a search by faiss with a recall of 0.95, if it is installed.
    """
    if k == 0:
        return torch.empty(len(rows), 0), torch.empty(len(rows), 0, dtype=torch.int64)
    index, found = index_of_all(rows, tuple(map(str, range(len(rows)))), part_of(tick, 0, 2)), []
    for asked in torch.split(torch.arange(len(rows)), _BLOCK):
        found.append(index.nearest(rows[asked], k, excluded=asked))
        tick(0.5 + 0.5 * (int(asked[-1]) + 1) / len(rows))
    cosines, places = zip(*found, strict=True)
    return torch.cat(cosines), torch.cat(places)
