"""Near-copies among pictures: their candidates, and what changed copies of the same pictures say of a threshold."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.answers.candidates import Begin, Floats, Neighbours, Numbers, Search
from likewise.answers.changed_copies import changed_copies
from likewise.answers.same_picture import between, similarities, small_pictures
from likewise.answers.unlike_pairs import unlike_pairs
from likewise.console import part_of
from likewise.data import Items
from likewise.data.items import Pixels
from likewise.evaluation.baselines import embedded, raw_pixels
from likewise.index.all_rows import Known
from likewise.model import Model

COPIES = 500  # of which recall is the share that is found
_LOWEST = 0.01  # share of the copies that may lie below a reach or the threshold
_USUAL = 0.25  # as _LOWEST, where there are too few pairs to estimate from
_LEAST_SIMILAR = 0.95  # and the threshold then


def usual_threshold(of_copies: Floats) -> float:
    """The similarity of three quarters of changed copies with their originals, and at least 0.95."""
    return max(_LEAST_SIMILAR, float(np.quantile(of_copies, _USUAL)))


class Changed(NamedTuple):
    """Changed copies of some of the pictures; see ``changed_copies``.

    Args:
        places: (C,) int64 places among the pictures of their originals.
        pictures: (C, S, S, 3) uint8.
        k: among how many of its nearest each should find its original.
    """

    places: Numbers
    pictures: Pixels
    k: int


class Finder(NamedTuple):
    """Rows of the pictures, their neighbours, what makes such rows of other pictures, and those of changed copies."""

    rows: Tensor
    neighbours: Neighbours
    embed: Callable[[Pixels], Tensor]
    known: Known

    def cosines(self) -> Floats:
        """(C,) of each changed copy and its original."""
        found: Floats = (self.known.rows * self.rows[self.known.places]).sum(1).double().numpy()
        return found

    def found(self) -> npt.NDArray[np.bool_]:
        """(C,) whether each changed copy finds its original."""
        return self.known.found(self.neighbours.of_rows(self.known.rows, self.known.k)[1])


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
        changed = Changed(drawn, copies, k)
        finders = [small_finder(items, distinct, changed, begin)]
        if model is not None:
            finders.append(_by_model(items, distinct, changed, model, begin))
        cosines = [each.cosines() for each in finders]
        self.search = Search(
            [each.neighbours for each in finders],
            lambda places, tick: similarities(items.values, distinct[places], tick),
            len(distinct),
            k,
        )
        used = self.search.look([float(np.quantile(each, _LOWEST)) for each in cosines], begin)
        kept = [each.found() & (near >= reach) for each, near, reach in zip(finders, cosines, used, strict=True)]
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


def small_finder(items: Items, distinct: Numbers, changed: Changed, begin: Begin) -> Finder:
    """By small pictures of 8 × 8, of the rows ``distinct``."""
    tick = begin("making small pictures")
    small = small_pictures(items.values, part_of(tick, 0, 2))[distinct]
    rows, mean = raw_pixels(small, tick=part_of(tick, 1, 2))
    return _finder(
        items, distinct, rows, lambda pictures: raw_pixels(small_pictures(pictures), mean)[0], changed, begin
    )


def _by_model(items: Items, distinct: Numbers, changed: Changed, model: Model, begin: Begin) -> Finder:
    rows = embedded(model, items, tick=begin("embedding"))[torch.from_numpy(distinct)]

    def embed(pictures: Pixels) -> Tensor:
        named = tuple(map(str, range(len(pictures))))
        return model.features(Items(ids=named, values=pictures, kind="images", source="changed copies"))

    return _finder(items, distinct, rows, embed, changed, begin)


def _finder(
    items: Items, distinct: Numbers, rows: Tensor, embed: Callable[[Pixels], Tensor], changed: Changed, begin: Begin
) -> Finder:
    known = Known(embed(changed.pictures), changed.places, changed.k)
    ids = tuple(items.ids[row] for row in distinct.tolist())
    return Finder(rows, Neighbours(rows, ids, begin("preparing the search"), known), embed, known)
