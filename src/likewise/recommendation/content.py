"""The content of items as rows of numbers, and how much each block of columns counts: what a trained model must beat.

Dimension legend: N items, F numbers of an item's content, Q items that are asked.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from likewise.console import Tick, untold
from likewise.recommendation.embedded import Units, unit
from likewise.recommendation.measure import Lists, full_ranking
from likewise.recommendation.related import GRADED, RelatedItems

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]
WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
PASSES = 2  # over the blocks
MOST_ASKED, FEW_ASKED = 300, 20
CELLS = 1 << 26  # cosines of a block of content that are kept, unless the fewest queries need more


class Content(NamedTuple):
    """Content whose blocks have their weights.

    Args:
        rows: (N, F) float32.
        words: what was chosen.
    """

    rows: Floats
    words: str


def joined(blocks: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """(N, F) the blocks side by side: each of unit rows, times its weight. A block of weight 0 is left out."""
    return np.concatenate([weight * unit(block) for block, weight in zip(blocks, weights, strict=True) if weight], 1)


def tuned(
    forms: Mapping[str, Sequence[Floats]], names: Sequence[str], task: RelatedItems | None, *, tick: Tick = untold
) -> Content:
    """The form of the content, and the weights of its blocks, whose cosines find related items best.

    Each block in turn takes the best of the weights 0 to 4, twice; measured by NDCG@10.

    Args:
        forms: the blocks of the content (N, F_b), in each form that it may have.
        names: of the blocks.
        task: related items among those of training, of which up to 300 are asked; None: nothing can be measured, and
            the first form with equal weights is taken.
        tick: is told the share of the work that is done.

    Cost: 10 rankings for each block of a form, if there are several blocks; else one for each form.
    """
    first = next(iter(forms))
    if task is None or (len(forms) == 1 and len(names) == 1):
        return Content(joined(forms[first], [1.0] * len(names)), _words(first, names, [1.0] * len(names)))
    best, found = -1.0, (first, [1.0] * len(names))
    for number, (form, blocks) in enumerate(forms.items()):
        weighed, weights = _Weighed(blocks, task), [1.0] * len(blocks)
        value = weighed.value(weights)
        for step in range(PASSES * len(blocks) if len(blocks) > 1 else 0):
            place = step % len(blocks)
            for weight in WEIGHTS:
                other = [*weights[:place], weight, *weights[place + 1 :]]
                if other != weights and any(other) and (tried := weighed.value(other)) > value:
                    value, weights = tried, other
            tick((number + (step + 1) / (PASSES * len(blocks))) / len(forms))
        if value > best:
            best, found = value, (form, weights)
    form, weights = found
    return Content(joined(forms[form], weights), _words(form, names, weights))


class _Weighed:
    """The blocks of a form with any weights: their cosines for some queries are computed once.

    With weights w the cosine of two items is ``Σ_b w_b² cos_b``, divided by the lengths √(Σ_b w_b²) of both, over the
    blocks that an item has.
    """

    def __init__(self, blocks: Sequence[Floats], task: RelatedItems) -> None:
        queries = drawn(task.queries, min(MOST_ASKED, max(FEW_ASKED, CELLS // len(task.columns))))
        every = task.columns
        units = [Units(block) for block in blocks]
        self._cosines = [each.cosines(queries, every) for each in units]
        self._there = [(each.there[queries], each.there[every]) for each in units]
        self._relevance, self._ranked = task.relevance(queries), queries[:, None] != every

    def value(self, weights: Sequence[float]) -> float:
        """NDCG@10 of related items."""
        squares = [np.float32(weight * weight) for weight in weights]
        scores: Floats = np.zeros(self._ranked.shape, np.float32)
        for square, each in zip(squares, self._cosines, strict=True):
            scores = scores + square * each
        for side, axis in ((0, 1), (1, 0)):
            has = np.stack([each[side] for each in self._there], 1)  # (Q or C, blocks)
            length = np.sqrt(has @ np.array(squares))
            scores = scores / np.expand_dims(np.where(length > 0, length, 1), axis)
        lists = Lists(scores, self._relevance, self._ranked)
        found, _ = full_ranking([lists], len(self._ranked), k=10, names=("ndcg",), convention=GRADED)
        return float(found["ndcg@10"])


def drawn(numbers: Ints, most: int) -> Ints:
    """All numbers, or ``most`` of them, drawn by a fixed seed, in their order."""
    if len(numbers) <= most:
        return numbers
    return np.sort(np.random.default_rng(0).permutation(numbers)[:most])


def _words(form: str, names: Sequence[str], weights: Sequence[float]) -> str:
    counted = ", ".join(f"{name} × {weight:g}" for name, weight in zip(names, weights, strict=True))
    return f"{form}, {counted}" if len(names) > 1 else form
