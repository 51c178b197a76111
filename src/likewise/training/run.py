"""A run, whoever wants it: ``fit``, ``compare``, Lightning and the proof all begin one here."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from likewise.data import Items
from likewise.data.pair_files import Pairs, Triplets
from likewise.model import Model
from likewise.training.batches import Sampler, ViewFunction, batches, choose_sampler
from likewise.training.build import build_session, build_views
from likewise.training.session import Session
from likewise.training.step import Seen


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is trained, on what, in which order.

    Args:
        model: what comes of it.
        items: what it learns from.
        relations: the pairs or triplets that say what is alike, where such do.
        sampler: which items each step sees.
        views: how a view of an item is drawn.
        session: all that changes.
    """

    model: Model
    items: Items
    relations: Pairs | Triplets | None
    sampler: Sampler
    views: ViewFunction
    session: Session

    def batches(self) -> Iterator[Seen]:
        """This process' part of each step to come."""
        return batches(self.items, self.sampler, self.views, self.session, self.relations)

    @property
    def epoch(self) -> float:
        """How many epochs are done."""
        return self.session.step / self.sampler.steps_per_epoch


def begin(
    model: Model,
    items: Items,
    total: int,
    device: torch.device,
    *,
    relations: Pairs | Triplets | None = None,
    sampler: Sampler | None = None,
) -> Run:
    """A run of ``total`` steps before its first one, with the settings of ``model``, in train mode.

    Raises LikewiseError where there is no such run: see ``build_session`` and ``choose_sampler``.
    """
    sampler = sampler or choose_sampler(model.settings, items, relations)
    session = build_session(model.settings, model.embedder, items, total, device, relations)
    session.train()
    views = build_views(model)
    return Run(model=model, items=items, relations=relations, sampler=sampler, views=views, session=session)
