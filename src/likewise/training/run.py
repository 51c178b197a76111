"""One run of training. ``fit``, ``compare``, Lightning and the proof all start it here."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from likewise.data import Items
from likewise.data.pair_files import Relations
from likewise.model import Model
from likewise.training.batches import Sampler, ViewFunction, batches, choose_sampler
from likewise.training.build import build_session, build_small_views, build_views
from likewise.training.session import Session
from likewise.training.step import Seen


@dataclass(frozen=True, kw_only=True)
class Run:
    """A model, its data, and the state of its training.

    Args:
        model: the model that is trained.
        items: the training items.
        relations: the pairs, triplets or graded relevance that say which items are alike; None where there are none.
        sampler: chooses the items of each step.
        views: draws a random view of each item.
        small_views: the same of half the side, for the first part of the training; None where there is none.
        session: the state that training changes.
    """

    model: Model
    items: Items
    relations: Relations | None
    sampler: Sampler
    views: ViewFunction
    small_views: ViewFunction | None
    session: Session

    def batches(self) -> Iterator[Seen]:
        """This process' part of every remaining step."""
        return batches(self.items, self.sampler, self.views, self.session, self.relations, self.small_views)

    @property
    def epoch(self) -> float:
        """Number of epochs done; a fraction within an epoch."""
        return self.session.step / self.sampler.steps_per_epoch


def begin(
    model: Model,
    items: Items,
    total: int,
    device: torch.device,
    *,
    relations: Relations | None = None,
    sampler: Sampler | None = None,
) -> Run:
    """A new run of ``total`` steps with the settings of ``model``, in train mode, before its first step.

    Raises LikewiseError as ``build_session`` and ``choose_sampler`` do.
    """
    sampler = sampler or choose_sampler(model.settings, items, relations)
    session = build_session(model.settings, model.embedder, items, total, device, relations)
    session.train()
    return Run(
        model=model,
        items=items,
        relations=relations,
        sampler=sampler,
        views=build_views(model),
        small_views=build_small_views(model),
        session=session,
    )
