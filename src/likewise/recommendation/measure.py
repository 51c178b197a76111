"""Measures recommenders by full ranking: every candidate is ranked, none is sampled.

Dimension legend: U users, N items, C candidates, B users or items of a block.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.console import Tick, untold
from likewise.errors import LikewiseError, at_least_one
from likewise.graph.splits import Split
from likewise.metrics.conventions import Convention
from likewise.metrics.ranking import Ranked, Ranking
from likewise.metrics.recommended import coverage, popularity
from likewise.recommendation.baselines import Recommender, matrix

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating[Any]]
CELLS = 1 << 22  # scores of a block
NAMES = ("ndcg", "recall", "map", "mrr", "hit")
MOST_ASKED = 500  # users or items of a validation split, by whom a setting is chosen
NO_GRADES = Convention(empty="skip")  # relevance is 0 or 1


class Lists(NamedTuple):
    """The candidates of some users or items: scores and relevance, float (B, C), and which are ranked, bool (B, C)."""

    scores: Floats
    relevance: Floats
    ranked: Bools


@dataclass(frozen=True, kw_only=True)
class Recommended:
    """How good a recommender is.

    Args:
        measures: each measure of the users who are asked, by name.
        coverage: the share of the candidates that are among the first k of anyone.
        popularity: the mean place of what is recommended, by users in training: 0.5 without regard to popularity.
        users: (U',) the users who are asked, in the order of the measures.
    """

    measures: Mapping[str, Ranked]
    coverage: float
    popularity: float
    users: Ints


def asked_users(split: Split, users: int, items: int) -> Ints:
    """(U',) the users with a row on both sides. Raises LikewiseError where there are none."""
    sides = [np.bincount(rows.user, minlength=users) > 0 for rows in (split.train, split.asked)]
    chosen = np.flatnonzero(sides[0] & sides[1])
    if not len(chosen):
        raise LikewiseError(f"{split.about}: no user has items on both sides, so nobody can be asked.")
    return chosen


def recommended(
    split: Split,
    model: Recommender,
    users: int,
    items: int,
    *,
    k: int = 10,
    only: Ints | None = None,
    names: Sequence[str] = NAMES,
    tick: Tick = untold,
) -> Recommended:
    """Ranks all candidates that a user has not taken in training, for each user who is asked and has a history.

    Relevance is 1 for an item that is held out for the user. Gains of NDCG are then the same under every convention; a
    tie is by the item's number.

    Args:
        split: the rows of training, those that are asked, and the candidates.
        model: gives the scores.
        users: U.
        items: N.
        k: the places that count.
        only: some of ``asked_users``, such as a draw of them; None: all.
        names: the measures.
        tick: is told the share of the work that is done.

    Raises LikewiseError where no user with a history is asked. Cost: that of the scores, and a sort for each user.
    """
    at_least_one("k", k, "it is a number of places")
    chosen = asked_users(split, users, items) if only is None else only
    seen, asked = matrix(split.train, users, items), matrix(split.asked, users, items)
    columns = np.flatnonzero(split.candidates)

    def parts() -> Iterator[Lists]:
        for part in blocks(chosen, items):
            taken, wanted = (rows[part].toarray()[:, columns] for rows in (seen, asked))
            yield Lists(np.asarray(model.scores(part))[:, columns], wanted, taken == 0)

    measures, first = full_ranking(parts(), len(chosen), k=k, names=names, tick=tick)
    first = np.where(first >= 0, columns[first], -1)
    return Recommended(
        measures=measures,
        coverage=coverage(first, items) * items / len(columns),
        popularity=popularity(first, np.asarray(seen.sum(0))),
        users=chosen,
    )


def full_ranking(
    parts: Iterable[Lists],
    count: int,
    *,
    k: int,
    names: Sequence[str] = NAMES,
    convention: Convention = NO_GRADES,
    tick: Tick = untold,
) -> tuple[dict[str, Ranked], Ints]:
    """The measures of all lists, by name, and the places of the first k of each: int64 (count, k), −1 for none."""
    meter, firsts = Ranking(names, k=k, convention=convention), list[Tensor]()
    for part in parts:
        scores, ranked = torch.from_numpy(np.array(part.scores, np.float32)), torch.from_numpy(part.ranked)
        meter.update(scores, torch.from_numpy(np.asarray(part.relevance)), mask=ranked)
        best, place = scores.masked_fill(~ranked, -torch.inf).sort(dim=1, descending=True, stable=True)
        firsts.append(place[:, :k].masked_fill(best[:, :k] == -torch.inf, -1))
        tick(len(meter) / count)
    return meter.compute(), torch.cat(firsts).numpy()


def blocks(numbers: Ints, items: int) -> Iterator[Ints]:
    """Parts of some users or items, with about four million scores each."""
    step = max(1, CELLS // items)
    for start in range(0, len(numbers), step):
        yield numbers[start : start + step]
