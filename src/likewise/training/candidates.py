"""Short trainings with milder and stronger views, compared by signs that need no label, before the run itself."""

import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch

from likewise.config.overrides import about, flatten, settings_from
from likewise.config.settings import FitSettings
from likewise.console import track
from likewise.data import Items
from likewise.distributed import processes
from likewise.model import Model
from likewise.training.run import Run
from likewise.training.signs import Signs, signs_of
from likewise.training.step import train_step

OWN = "the recipe's views"
STRENGTHS = {"milder views": 0.5, "stronger views": 1.7}  # factors of the differences between a view and its item
SCALED = ("rotation", "deform", "brightness", "contrast", "saturation", "hue", "noise", "dropout")
TRY_BATCH = 64  # items of a step of a short training
LOOK_STEPS = 10  # between two looks at the clock
LEAST_AREA = 0.08  # of a crop, as in SimCLR
CLEARLY = 1.1  # times the agreement of the recipe's views
COLLAPSED = 0.5  # of their effective rank


class Candidate(NamedTuple):
    """Settings that a run could have."""

    name: str  # in words
    settings: FitSettings


def of_views(settings: FitSettings, asked: Collection[str]) -> list[Candidate]:
    """``settings``, and the same with milder and with stronger views, but for what the user has ``asked`` for."""
    now, found = flatten(settings), [Candidate(OWN, settings)]
    for name, factor in STRENGTHS.items():
        least, most = settings.views.crop_scale
        changed = {"views.crop_scale": (max(LEAST_AREA, 1 - factor * (1 - least)), most)}
        changed |= {each: factor * now[each] for each in (f"views.{field}" for field in SCALED)}
        changed = {each: value for each, value in changed.items() if value != now[each] and not about(each, asked)}
        if changed:
            found.append(Candidate(name, settings_from(changed, settings)))
    return found


def trained(run: Run, name: str, limit: float, *, progress: bool) -> Model | None:
    """The model of a run after all its steps; None where they take more than ``limit`` seconds. No file is written."""
    end = time.monotonic() + limit
    with track(f"trying {name}", run.session.total, enabled=progress) as done:
        for batch in run.batches():
            train_step(run.session, batch)
            done(run.session.step)
            if run.session.step % LOOK_STEPS == 0:
                late = processes.any_of([time.monotonic() > end], run.session.device)[0]
                if late:
                    return None
    return run.model


def best_of(
    candidates: Sequence[Candidate], models: Sequence[Model], items: Items, device: torch.device
) -> tuple[FitSettings, list[str]]:
    """The settings to take, and lines that tell why: the first candidate, unless ``choose`` takes another."""
    signs = signs_of(models, items)
    place = processes.number_of_first(choose(signs), device)
    lines = [f"tried: {each.name}: {sign.line()}." for each, sign in zip(candidates, signs, strict=True)]
    why = "no other agrees clearly more" if not place else "they agree clearly more, with a rank that is no collapse"
    return candidates[place].settings, [*lines, f"taken: {candidates[place].name}: {why}."]


def choose(signs: Sequence[Signs]) -> int:
    """The place of the embedding to take: the first, unless another agrees clearly more and has not collapsed."""
    first = signs[0]
    others = [
        place
        for place, sign in enumerate(signs)
        if sign.agreement > CLEARLY * first.agreement and sign.rank > COLLAPSED * first.rank
    ]
    return max(others, key=lambda place: signs[place].agreement, default=0)
