"""Near-copies among pictures: their candidates, and what changed copies of the same pictures say of a threshold."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.answers.candidates import Begin, Floats, Known, Neighbours, Numbers, Search
from likewise.answers.changed_copies import changed_copies
from likewise.answers.same_picture import between, similarities, small_pictures
from likewise.answers.unlike_pairs import unlike_pairs
from likewise.console import Tick, part_of
from likewise.data import Items
from likewise.data.items import Pixels
from likewise.evaluation.baselines import embedded, raw_pixels
from likewise.model import Model

COPIES = 500  # of which recall is the share that is found
_LOWEST = 0.01  # share of the copies that may lie below a reach or the threshold
_USUAL = 0.25  # as _LOWEST, where there are too few pairs to estimate from
_LEAST_SIMILAR = 0.95  # and the threshold then


class _Finder(NamedTuple):
    """The neighbours of pictures, and of changed copies of some: their cosine with the original, and if it is found."""

    neighbours: Neighbours
    cosines: Floats
    found: npt.NDArray[np.bool_]


class PictureSearch:
    """Candidates among pictures, measured, and how good a threshold is.

    Args:
        items: pictures.
        distinct: the rows of those that are no exact copies, at least two.
        model: whose embedding proposes candidates too; None: small pictures alone do.
        k: number of candidates from each.
        begin: begins a stage of the work.
    """

    def __init__(self, items: Items, distinct: Numbers, model: Model | None, k: int, begin: Begin) -> None:
        begin("changing copies")
        drawn, copies = changed_copies(items.values, distinct, COPIES)
        numbers = np.stack([distinct[drawn], np.arange(COPIES)], 1)
        self._similar = between(items.values, copies, numbers)
        ids = tuple(items.ids[row] for row in distinct.tolist())

        def finder(rows: Tensor, of_copies: Tensor) -> _Finder:
            known = Known(of_copies, drawn, k)
            neighbours = Neighbours(rows, ids, begin("preparing the search"), known)
            cosines = (of_copies * rows[torch.from_numpy(drawn)]).sum(1).double().numpy()
            return _Finder(neighbours, cosines, known.found(neighbours.of_rows(of_copies, k)[1]))

        finders = [finder(*_small(items, distinct, copies, begin("making small pictures")))]
        if model is not None:
            finders.append(finder(*_by_model(items, distinct, copies, model, begin("embedding"))))
        self.search = Search(
            [each.neighbours for each in finders],
            lambda places, tick: similarities(items.values, distinct[places], tick),
            len(distinct),
            k,
        )
        used = self.search.look([float(np.quantile(each.cosines, _LOWEST)) for each in finders], begin)
        kept = [each.found & (each.cosines >= reach) for each, reach in zip(finders, used, strict=True)]
        self._found = np.logical_or.reduce(kept)
        self._unlike = unlike_pairs(self.search.pairs.closeness, self._similar)

    def threshold(self, precision: float) -> float:
        """The lowest similarity with this estimated precision, not below that of 99 in 100 of the copies."""
        if self._unlike is None:
            return max(_LEAST_SIMILAR, float(np.quantile(self._similar, _USUAL)))
        return max(self._unlike.threshold(precision), float(np.quantile(self._similar, _LOWEST)))

    def precision(self, threshold: float) -> float | None:
        """Estimated; None with fewer candidates than an estimate needs."""
        return None if self._unlike is None else self._unlike.precision(threshold)

    def recall(self, threshold: float) -> float:
        """The share of the changed copies whose original is a candidate, and as similar."""
        return float((self._found & (self._similar >= threshold)).mean())


def _small(items: Items, distinct: Numbers, copies: Pixels, tick: Tick) -> tuple[Tensor, Tensor]:
    """Rows of small pictures, and those of the copies."""
    rows, mean = raw_pixels(small_pictures(items.values, part_of(tick, 0, 2))[distinct], tick=part_of(tick, 1, 2))
    return rows, raw_pixels(small_pictures(copies), mean)[0]


def _by_model(items: Items, distinct: Numbers, copies: Pixels, model: Model, tick: Tick) -> tuple[Tensor, Tensor]:
    """Rows of a model, and those of the copies."""
    named = tuple(map(str, range(len(copies))))
    of_copies = model.features(Items(ids=named, values=copies, kind="images", source="changed copies"))
    return embedded(model, items, tick=tick)[torch.from_numpy(distinct)], of_copies
