"""Measures recommenders by full ranking: every candidate is ranked, none is sampled.

Dimension legend: U users, N items, B users of a block.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.console import Tick, untold
from likewise.errors import LikewiseError, at_least_one
from likewise.graph.splits import Split
from likewise.metrics.ranking import Convention, Ranked, Ranking, coverage, popularity
from likewise.recommend.baselines import Recommender, matrix

Ints = npt.NDArray[np.int64]
CELLS = 1 << 22  # scores of a block
NAMES = ("ndcg", "recall", "map", "mrr", "hit")


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


def recommended(
    split: Split, model: Recommender, users: int, items: int, *, k: int = 10, tick: Tick = untold
) -> Recommended:
    """Ranks all candidates that a user has not taken in training, for each user who is asked and has a history.

    Relevance is 1 for an item that is held out for the user. Gains of NDCG are then the same under every convention; a
    tie is by the item's number.

    Raises LikewiseError where no user with a history is asked. Cost: that of the scores, and a sort for each user.
    """
    at_least_one("k", k, "it is a number of places")
    seen, asked = matrix(split.train, users, items), matrix(split.asked, users, items)
    has = (np.diff(seen.indptr) > 0) & (np.diff(asked.indptr) > 0)
    chosen = np.flatnonzero(has)
    if not len(chosen):
        raise LikewiseError(f"{split.about}: no user has items on both sides, so nobody can be asked.")
    meter = Ranking(NAMES, k=k, convention=Convention(empty="skip"))
    counts, firsts = np.asarray(seen.sum(0)), list[Tensor]()
    candidates = torch.from_numpy(split.candidates)
    for part in _blocks(chosen, items):
        scores = torch.from_numpy(np.array(model.scores(part), np.float32))
        open_to = candidates & ~torch.from_numpy(seen[part].toarray() > 0)
        meter.update(scores, torch.from_numpy(asked[part].toarray()), mask=open_to)
        best, place = scores.masked_fill(~open_to, -torch.inf).sort(dim=1, descending=True, stable=True)
        firsts.append(place[:, :k].masked_fill(best[:, :k] == -torch.inf, -1))
        tick(len(meter) / len(chosen))
    first = torch.cat(firsts)
    return Recommended(
        measures=meter.compute(),
        coverage=coverage(first, items) * items / int(split.candidates.sum()),
        popularity=popularity(first, counts),
        users=chosen,
    )


def _blocks(users: Ints, items: int) -> Iterator[Ints]:
    step = max(1, CELLS // items)
    for start in range(0, len(users), step):
        yield users[start : start + step]
