"""Near-copies among pictures: their candidates, and what changed copies of the same pictures say of a threshold."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from likewise.answers.candidates import Begin, Floats, Neighbours, Numbers, Search
from likewise.answers.changed_copies import changed_copies
from likewise.answers.same_picture import between, similarities, small_pictures
from likewise.answers.unlike_pairs import unlike_pairs
from likewise.data import Items
from likewise.data.items import Pixels
from likewise.evaluation.baselines import embedded, raw_pixels
from likewise.model import Model

COPIES = 500  # of which recall is the share that is found
_LOWEST = 0.01  # share of the copies that may lie below a reach or the threshold
_USUAL = 0.25  # as _LOWEST, where there are too few pairs to estimate from
_LEAST_SIMILAR = 0.95  # and the threshold then


def usual_threshold(of_copies: Floats) -> float:
    """The similarity of three quarters of changed copies with their originals, and at least 0.95."""
    return max(_LEAST_SIMILAR, float(np.quantile(of_copies, _USUAL)))


class Finder(NamedTuple):
    """Rows of the pictures, their neighbours, and what makes such rows of other pictures."""

    rows: Tensor
    neighbours: Neighbours
    embed: Callable[[Pixels], Tensor]


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
        finders = [small_finder(items, distinct, begin)]
        if model is not None:
            finders.append(_by_model(items, distinct, model, begin))
        drawn, copies = changed_copies(items.values, distinct, COPIES)
        numbers = np.stack([distinct[drawn], np.arange(COPIES)], 1)
        self._similar = between(items.values, copies, numbers)
        cosines, near = list[Floats](), list[np.ndarray]()
        for each in finders:
            rows = each.embed(copies)
            cosines.append((rows * each.rows[drawn]).sum(1).double().numpy())
            found = each.neighbours.of_rows(rows, k)[1]
            near.append((found == torch.from_numpy(drawn)[:, None]).any(1).numpy())
        self.search = Search(
            [each.neighbours for each in finders],
            lambda places, tick: similarities(items.values, distinct[places], tick),
            len(distinct),
            k,
        )
        used = self.search.look([float(np.quantile(each, _LOWEST)) for each in cosines], begin)
        kept = [place & (cosine >= reach) for place, cosine, reach in zip(near, cosines, used, strict=True)]
        self._found = np.logical_or.reduce(kept)
        self._unlike = unlike_pairs(self.search.pairs.closeness, self._similar)

    def threshold(self, precision: float) -> float:
        """The lowest similarity with this estimated precision, not below that of 99 in 100 of the copies."""
        if self._unlike is None:
            return usual_threshold(self._similar)
        return max(self._unlike.threshold(precision), float(np.quantile(self._similar, _LOWEST)))

    def precision(self, threshold: float) -> float | None:
        """Estimated; None with fewer candidates than an estimate needs."""
        return None if self._unlike is None else self._unlike.precision(threshold)

    def recall(self, threshold: float) -> float:
        """The share of the changed copies whose original is a candidate, and as similar."""
        return float((self._found & (self._similar >= threshold)).mean())


def small_finder(items: Items, distinct: Numbers, begin: Begin) -> Finder:
    """By small pictures of 8 × 8, of the rows ``distinct``."""
    tick = begin("making small pictures")
    small = small_pictures(items.values)[distinct]
    rows, mean = raw_pixels(small, tick=tick)
    ids = tuple(items.ids[row] for row in distinct.tolist())
    neighbours = Neighbours(rows, ids, begin("preparing the search"))
    return Finder(rows, neighbours, lambda pictures: raw_pixels(small_pictures(pictures), mean)[0])


def _by_model(items: Items, distinct: Numbers, model: Model, begin: Begin) -> Finder:
    rows = embedded(model, items, tick=begin("embedding"))[torch.from_numpy(distinct)]
    ids = tuple(items.ids[row] for row in distinct.tolist())

    def embed(pictures: Pixels) -> Tensor:
        named = tuple(map(str, range(len(pictures))))
        return model.features(Items(ids=named, values=pictures, kind="images", source="changed copies"))

    return Finder(rows, Neighbours(rows, ids, begin("preparing the search")), embed)
