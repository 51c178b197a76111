"""Pairs of rows that may be alike, and are measured: the nearest rows of each, without comparing all with all.

Dimension legend: N rows, P pairs, D numbers of a row.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.console import Tick, untold
from likewise.index.all_rows import Known, index_of_all, nearest_of_all

Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Measure = Callable[[Numbers, Tick], Floats]  # (P, 2) places to (P,) closeness: more is more alike
Begin = Callable[[str], Tick]

_BLOCK = 4096  # rows whose neighbours are searched at once
_LEAST = 200_000  # pairs that are measured however far apart they are
_DEEPEST = 64  # times k: neighbours of a row all of whose neighbours are alike
_MOST = 10_000_000  # pairs that are looked for further: a quarter of an hour on a core, and 400 MB


class Pairs(NamedTuple):
    """(P, 2) places, the lower first, each pair once; and (P,) how close they are."""

    places: Numbers
    closeness: Floats

    def beyond(self, limit: float) -> "Pairs":
        """Those at least as close."""
        close = self.closeness >= limit
        return Pairs(self.places[close], self.closeness[close])


class Neighbours:
    """The nearest rows of each row, by cosine.

    Args:
        rows: (N, D) float32 unit rows.
        ids: their ids.
        tick: told the share of the building of an engine that is done.
        known: as for ``index_of_all``, by which an engine searches where there are many rows.
    """

    def __init__(self, rows: Tensor, ids: tuple[str, ...], tick: Tick = untold, known: Known | None = None) -> None:
        self._rows, self._index = rows, index_of_all(rows, ids, tick, known)

    def of_rows(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """(Q, ≤ k) cosines and places of the nearest rows of other rows."""
        return self._index.nearest(queries, k)

    def of_own(self, asked: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """(Q, ≤ k) cosines and places of the nearest other rows of some of these rows, −1 where there are none."""
        return self._index.nearest(self._rows[asked], min(k, len(self._rows) - 1), excluded=asked)

    def pairs(self, k: int, among: Numbers, tick: Tick = untold) -> Pairs:
        """The pairs of some rows with their k nearest, and their cosines.

        Cost: memory of 40 bytes for each row and neighbour.
        """
        many, codes, cosines = len(self._rows), list[Numbers](), list[npt.NDArray[np.float32]]()
        for start in range(0, len(among), _BLOCK):
            asked = torch.from_numpy(among[start : start + _BLOCK])
            scores, near = self.of_own(asked, k)
            own, other = asked[:, None].expand_as(near), near
            held = near >= 0
            low, high = torch.minimum(own, other)[held], torch.maximum(own, other)[held]
            codes.append((low * many + high).numpy())
            cosines.append(scores[held].numpy())
            tick(min(1.0, (start + _BLOCK) / len(among)))
        unique, first = np.unique(np.concatenate(codes), return_index=True)
        return Pairs(np.stack(np.divmod(unique, many), 1), np.concatenate(cosines)[first].astype(np.float64))


def nearest_others(rows: Tensor, k: int, tick: Tick = untold) -> tuple[Tensor, Tensor]:
    """As ``nearest_of_all``; where an engine proposes too few, the place is that of the row itself."""
    cosines, places = nearest_of_all(rows, k, tick)
    return cosines, torch.where(places < 0, torch.arange(len(rows))[:, None], places)


def reached(cosines: Floats, reach: float) -> float:
    """The cosine from which pairs are measured: ``reach``, or less where fewer than 200,000 pairs would be."""
    if len(cosines) <= _LEAST:
        return -2.0
    return min(reach, float(-np.partition(-cosines, _LEAST)[_LEAST]))


class Search:
    """Candidates among N rows by several kinds of neighbours, and how close their pairs are.

    Args:
        neighbours: each proposes the k nearest of a row.
        measure: how close the pairs are that they propose.
        many: N.
        k: number of candidates of a row from each.
    """

    def __init__(self, neighbours: Sequence[Neighbours], measure: Measure, many: int, k: int) -> None:
        self._neighbours, self._measure, self._many, self._k = neighbours, measure, many, k
        self.pairs = Pairs(np.empty((0, 2), np.int64), np.empty(0))

    def look(self, reaches: Sequence[float], begin: Begin) -> list[float]:
        """Measures the candidates; of each kind those whose cosine is at least its reach, which is returned.

        Where that would be fewer than 200,000 pairs, the reach is lower.
        """
        used, found = list[float](), np.empty((0, 2), np.int64)
        for each, reach in zip(self._neighbours, reaches, strict=True):
            places, cosines = each.pairs(self._k, np.arange(self._many), begin("looking for candidates"))
            used.append(reached(cosines, reach))
            found = np.concatenate([found, places[cosines >= used[-1]]])
        places = self._unique(found)
        self.pairs = Pairs(places, self._measure(places, begin("comparing candidates")))
        return used

    def beyond(self, limit: float, begin: Begin) -> Pairs:
        """The pairs at least as close as a limit, with more candidates for rows all of whose candidates are.

        Where that would be more than ten million pairs, as among the frames of a camera that sees nothing move, there
        are no more.
        """
        close, k = self.pairs.beyond(limit), self._k
        while k < min(_DEEPEST * self._k, self._many - 1):
            full = np.flatnonzero(np.bincount(close.places.ravel(), minlength=self._many) >= k)
            if not len(full) or 4 * k * len(full) > _MOST:
                break
            k *= 4
            found = [each.pairs(k, full, begin("looking further")).places for each in self._neighbours]
            known = self._codes(self.pairs.places)
            places = self._unique(np.concatenate(found))
            places = places[~np.isin(self._codes(places), known)]
            more = Pairs(places, self._measure(places, begin("comparing candidates")))
            self.pairs = Pairs(*(np.concatenate(both) for both in zip(self.pairs, more, strict=True)))
            close = self.pairs.beyond(limit)
        return close

    def around(self, limit: float, count: int) -> Pairs:
        """Up to ``count`` pairs on each side of the limit, those nearest to it, the closest first."""
        order = np.argsort(-self.pairs.closeness, kind="stable")
        first = int((self.pairs.closeness >= limit).sum())
        some = order[max(0, first - count) : first + count]
        return Pairs(self.pairs.places[some], self.pairs.closeness[some])

    def _codes(self, places: Numbers) -> Numbers:
        return places[:, 0] * self._many + places[:, 1]

    def _unique(self, places: Numbers) -> Numbers:
        return np.stack(np.divmod(np.unique(self._codes(places)), self._many), 1)
