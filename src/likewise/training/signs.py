"""Signs of what an embedding has learned that need no label: whether it finds an item from another view of it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from likewise.data import Items
from likewise.metrics import effective_rank
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
    seen = _views(model, items, sample_of(items))
    centre = torch.cat(seen).mean(0)
    return Agreement(_found(_embedded(model, seen)), _found([(view - centre).flatten(1) for view in seen]))


class Signs(NamedTuple):
    """What is known without labels of one of several embeddings of the same items. Larger is better."""

    agreement: float  # the share of views that find the other view of their item; of the views of all the embeddings
    rank: float  # the effective rank of the views

    def line(self) -> str:
        """Both in words."""
        return f"{self.agreement:.1%} of the views find their item, effective rank {self.rank:.1f}"


@torch.no_grad()
def signs_of(models: Sequence[Model], items: Items) -> list[Signs]:
    """The signs of each model, whose settings may differ in their views: each looks at the views of all.

    Two views of up to 500 items are drawn as each model draws them. All models are in eval mode afterwards. Cost: the
    embeddings of 1,000 views for each pair of models.
    """
    rows = sample_of(items)[::2]
    seen = [_views(model, items, rows) for model in models]
    found = list[Signs]()
    for model in models:
        embedded = [_embedded(model, views) for views in seen]
        agreement = sum(map(_found, embedded)) / len(embedded)
        ranks = [effective_rank(torch.cat(views)) for views in embedded]
        found.append(Signs(agreement, sum(ranks) / len(ranks)))
    return found


def _views(model: Model, items: Items, rows: Tensor) -> list[Tensor]:
    """Two views of each of ``rows``, drawn as in training and the same each time."""
    views, generator, values = build_views(model), torch.Generator().manual_seed(0), items.batch(rows)
    share = Share(len(rows), slice(0, len(rows)))
    return [views(values, generator, share) for _ in range(2)]


def _embedded(model: Model, views: Sequence[Tensor]) -> list[Tensor]:
    """The embedding of each of the views, in eval mode."""
    model.embedder.eval()
    device = next(model.embedder.parameters()).device
    return [
        torch.cat([model.embedder(part.to(device)) for part in torch.split(view, BATCH)]).float().cpu()
        for view in views
    ]


def _found(views: list[Tensor]) -> float:
    """The share of the rows of the first view whose nearest row of the second is their own."""
    one, other = (functional.normalize(view, dim=1) for view in views)
    return float(((one @ other.T).argmax(1) == torch.arange(len(one))).float().mean())
