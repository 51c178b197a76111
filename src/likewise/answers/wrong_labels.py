"""Labels that an item's neighbours contradict.

Dimension legend: N items, k neighbours.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.answers.candidates import Neighbours
from likewise.console import Tick, untold
from likewise.metrics.neighbours import vote

VOTERS = 20  # neighbours
TEMPERATURE = 0.07  # of their votes
_BLOCK = 4096


class Votes(NamedTuple):
    """What the neighbours of each item say of its label.

    Args:
        own: (N,) share of the votes for the item's label.
        expected: (N,) int64, the label with most votes; of equal votes the smaller.
        share: (N,) its share of the votes.
    """

    own: Tensor
    expected: Tensor
    share: Tensor

    def suspects(self, labels: npt.NDArray[np.int64], confidence: float) -> npt.NDArray[np.int64]:
        """Rows whose neighbours give another label at least this share of their votes, those with least for their own
        label first."""
        other = (self.expected.numpy() != labels) & (self.share.numpy() >= confidence)
        rows = np.flatnonzero(other)
        return rows[np.lexsort((rows, -self.share.numpy()[rows], self.own.numpy()[rows]))]


def votes_of_others(
    neighbours: Neighbours, labels: npt.NDArray[np.int64], voters: int = VOTERS, tick: Tick = untold
) -> Votes:
    """Each item's nearest others vote with weight exp(cosine / 0.07), as in ``knn_classify``; its own label does not.

    Args:
        neighbours: of N rows of items that all have a label.
        labels: (N,) ≥ 0.
        voters: number of neighbours that vote, ≥ 1.
        tick: told the share of the work that is done.
    """
    known, parts = torch.from_numpy(labels), list[Votes]()
    for asked in torch.split(torch.arange(len(labels)), _BLOCK):
        cosines, near = neighbours.of_own(asked, voters)
        classes, votes = vote(cosines, known[near.clamp_min(0)], TEMPERATURE)
        shares = votes / votes.sum(1, keepdim=True)
        own = (shares * (classes == known[asked, None])).sum(1)
        parts.append(Votes(own, classes[:, 0], shares[:, 0]))
        tick((int(asked[-1]) + 1) / len(labels))
    return Votes(*(torch.cat(each) for each in zip(*parts, strict=True)))
