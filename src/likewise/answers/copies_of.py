"""Near-copies, among the items, of a picture that is none of them."""

from typing import NamedTuple

import numpy as np
import torch

from likewise.answers.candidates import Numbers
from likewise.answers.changed_copies import changed_copies
from likewise.answers.picture_search import COPIES, Changed, small_finder, usual_threshold
from likewise.answers.same_picture import between, check_side
from likewise.console import untold
from likewise.data import Items
from likewise.data.items import Pixels
from likewise.errors import LikewiseError

NEAR = 64  # candidates by small pictures


class Copy(NamedTuple):
    """An item by its row, and how alike it is to the picture; see ``same_picture.similarity``."""

    row: int
    similarity: float


class CopiesOf:
    """Looks for copies of pictures among items.

    Args:
        items: pictures.

    ``threshold`` is the similarity of three quarters of 500 changed copies of the items, and at least 0.95: as in
    ``duplicates``, where there is nothing to estimate a precision from.

    Raises LikewiseError on items that are no pictures, or too small ones.

    Cost: a pass over the pictures; 960 bytes for each.
    """

    def __init__(self, items: Items) -> None:
        if items.kind != "images":
            raise LikewiseError(f"{items.source} holds {items.noun}, which can't be compared pixel by pixel.")
        check_side(items.values, items.source)
        every = np.arange(len(items))
        drawn, copies = changed_copies(items.values, every, COPIES)
        self.threshold = usual_threshold(between(items.values, copies, np.stack([drawn, np.arange(COPIES)], 1)))
        changed = Changed(drawn, copies, NEAR)
        self._items, self._finder = items, small_finder(items, every, changed, lambda what: untold)

    def of(self, picture: Pixels, others: Numbers, threshold: float) -> list[Copy]:
        """The copies of a picture, the most alike first.

        Args:
            picture: (S, S, 3) uint8, of the size of the items.
            others: rows of items that are compared too, such as the nearest by the embedding.
            threshold: the lowest similarity of a copy.

        Cost: 70 µs for each candidate, at 32 px.
        """
        near = self._finder.neighbours.of_rows(self._finder.embed(picture[None]), NEAR)[1][0].numpy()
        rows = np.unique(np.concatenate([near[near >= 0], others]))
        similar = between(self._items.values, picture[None], np.stack([rows, np.zeros_like(rows)], 1))
        same = (self._items.batch(rows) == torch.from_numpy(picture.copy())).flatten(1).all(1).numpy()
        similar = np.where(same, 1.0, similar)
        order = np.lexsort((rows, -similar))
        return [Copy(int(rows[place]), float(similar[place])) for place in order if similar[place] >= threshold]
