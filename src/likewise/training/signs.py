"""Signs of what an embedding has learned that need no label: whether it finds an item from another view of it."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from likewise.data import Items
from likewise.model import Model
from likewise.training.build import build_views
from likewise.training.traits import sample_of
from likewise.views.render import Share

BATCH = 250  # of the encoder


class Agreement(NamedTuple):
    """The share of items of which one view is nearest to the item's other view, among the other views of all items."""

    learned: float
    raw: float  # by the pixels, or by the standardised numbers, of the views

    def line(self) -> str:
        """Both in words."""
        both = (
            f"a view finds the other view of its item for {self.learned:.0%} of the items, by raw values {self.raw:.0%}"
        )
        if self.learned < self.raw:
            return (
                f"warning: without labels, the embedding is worse than no training: {both}. Train longer, with weaker "
                "views, or with a lower learning rate."
            )
        return f"without labels: {both}."


@torch.no_grad()
def agreement(model: Model, items: Items) -> Agreement:
    """Compares two views of up to 1,000 items, drawn as in training and the same each time. Cost: about a second.

    The model is in eval mode afterwards.
    """
    rows = sample_of(items)
    views, generator, values = build_views(model), torch.Generator().manual_seed(0), items.batch(rows)
    share = Share(len(rows), slice(0, len(rows)))
    seen = [views(values, generator, share) for _ in range(2)]
    model.embedder.eval()
    device = next(model.embedder.parameters()).device
    learned = [
        torch.cat([model.embedder(part.to(device)) for part in torch.split(view, BATCH)]).float().cpu() for view in seen
    ]
    centre = torch.cat(seen).mean(0)
    return Agreement(_found(learned), _found([(view - centre).flatten(1) for view in seen]))


def _found(views: list[Tensor]) -> float:
    """The share of the rows of the first view whose nearest row of the second is their own."""
    one, other = (functional.normalize(view, dim=1) for view in views)
    return float(((one @ other.T).argmax(1) == torch.arange(len(one))).float().mean())
