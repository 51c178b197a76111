"""The content of items as rows of numbers, and how much each block of columns counts: what a trained model must beat.

Dimension legend: N items, F numbers of an item's content, Q items that are asked.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from likewise.console import Tick, untold
from likewise.recommendation.embedded import unit
from likewise.recommendation.related import Cosines, RelatedItems

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]
WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
PASSES = 2  # over the blocks
MOST_ASKED = 300


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
    only = drawn(task.queries, MOST_ASKED)
    best, found = -1.0, (first, [1.0] * len(names))
    for number, (form, blocks) in enumerate(forms.items()):
        weights = [1.0] * len(blocks)
        value = _value(task, blocks, weights, only)
        for step in range(PASSES * len(blocks) if len(blocks) > 1 else 0):
            for weight in WEIGHTS:
                place = step % len(blocks)
                other = [*weights[:place], weight, *weights[place + 1 :]]
                if other != weights and any(other) and (tried := _value(task, blocks, other, only)) > value:
                    value, weights = tried, other
            tick((number + (step + 1) / (PASSES * len(blocks))) / len(forms))
        if value > best:
            best, found = value, (form, weights)
    form, weights = found
    return Content(joined(forms[form], weights), _words(form, names, weights))


def drawn(numbers: Ints, most: int) -> Ints:
    """All numbers, or ``most`` of them, drawn by a fixed seed, in their order."""
    if len(numbers) <= most:
        return numbers
    return np.sort(np.random.default_rng(0).permutation(numbers)[:most])


def _value(task: RelatedItems, blocks: Sequence[Floats], weights: Sequence[float], only: Ints) -> float:
    return float(task.measure(Cosines(joined(blocks, weights)), only=only, names=("ndcg",))["ndcg@10"])


def _words(form: str, names: Sequence[str], weights: Sequence[float]) -> str:
    counted = ", ".join(f"{name} × {weight:g}" for name, weight in zip(names, weights, strict=True))
    return f"{form}, {counted}" if len(names) > 1 else form
