"""What a few timed steps decide before a run begins: threads, precision, and the steps that fit into its minutes."""

import copy
import math
import time
from collections.abc import Collection
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import torch
from torch import nn

from likewise.config.settings import FitSettings
from likewise.data import Items
from likewise.data.pair_files import Relations
from likewise.distributed import processes
from likewise.errors import LikewiseError
from likewise.model import Model
from likewise.training.batches import Sampler
from likewise.training.budget import Budget
from likewise.training.pace import Pace, ThreadWatch, emulates_bf16, measure_pace, thread_choices
from likewise.training.run import Run, begin
from likewise.training.step import train_step

SHORT = 30.0  # seconds: the threads of a shorter run are not compared
LOOK = 0.03  # the share of the time that each measurement may take
ENDLESS = 10**9  # steps of a run that is timed
FASTER = 1.1  # bf16 is taken where it is faster than fp32 by this factor


class Plan(NamedTuple):
    """The steps of a run, and what watches its time."""

    settings: FitSettings
    total: int
    budget: Budget | None  # where the run has a number of minutes
    threads: ThreadWatch
    notes: list[str]


class Trial(NamedTuple):
    """What a run is made of; each :meth:`run` is a new one, to be thrown away after some steps."""

    items: Items
    relations: Relations | None
    sampler: Sampler
    device: torch.device
    backbone: nn.Module | None

    def run(self, settings: FitSettings, total: int) -> Run:
        """A run with ``settings`` before its first step. The user's own backbone is copied.

        Raises LikewiseError when it can't be copied.
        """
        try:
            backbone = copy.deepcopy(self.backbone)
        except Exception as error:  # what a user's module raises
            what = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            raise LikewiseError(
                f"the backbone can't be copied for the steps that are timed ({what}); set epochs instead of minutes."
            ) from error
        model = Model.untrained(settings, self.items, backbone=backbone)
        return begin(model, self.items, total, self.device, relations=self.relations, sampler=self.sampler)


def plan(
    settings: FitSettings, trial: Trial, *, began: float, asked: Collection[str] = (), resumed: bool = False
) -> Plan:
    """The plan of a run whose settings are complete but for its time.

    Args:
        settings: of the run.
        trial: makes the runs that are timed.
        began: when the items were read, by ``time.monotonic``: from then on the minutes count.
        asked: the settings that the user has set; the precision is chosen unless it is among them.
        resumed: whether a run goes on: then the precision stays.

    Cost: some seconds; without ``minutes`` a few steps, or nothing where the number of threads is no choice.
    """
    choices = thread_choices(settings.threads, trial.device)
    if settings.threads and trial.device.type == "cpu":
        torch.set_num_threads(settings.threads)
    total = settings.epochs * trial.sampler.steps_per_epoch
    if settings.minutes is None:
        alone = len(choices) == 1 or trial.backbone is not None
        if alone or _seconds(trial.run(settings, total), total) < SHORT:
            return Plan(settings, total, None, ThreadWatch(choices), [])
        pace = measure_pace(trial.run(settings, ENDLESS), choices)
        return Plan(settings, total, None, ThreadWatch(choices), _of_threads(pace))
    minutes, limit = settings.minutes, LOOK * 60 * settings.minutes
    early, early_cost = settings.views.small_until, 1.0
    late = settings if early == 1 else replace(settings, views=replace(settings.views, small_until=0.0))
    pace = measure_pace(trial.run(late, ENDLESS), choices, limit)
    notes = _of_threads(pace)
    if not resumed and "precision" not in asked and settings.precision == "fp32" and not emulates_bf16(trial.device):
        other = replace(late, precision="bf16")
        quick = measure_pace(trial.run(other, ENDLESS), [pace.threads], limit)
        if quick.seconds * FASTER < pace.seconds:
            notes.append(f"precision=bf16: {pace.seconds / quick.seconds:.1f}× as fast as fp32 on this machine.")
            settings, late, pace = replace(settings, precision="bf16"), other, quick
    if 0 < early < 1:
        small = replace(late, views=replace(late.views, small_until=1.0))
        early_cost = measure_pace(trial.run(small, ENDLESS), [pace.threads], limit).seconds / pace.seconds
    used = time.monotonic() - began
    budget = Budget(seconds=60 * minutes, used=used, early=early, early_cost=early_cost)
    total = budget.steps((budget.seconds - used) / pace.seconds)
    total = processes.number_of_first(total, trial.device)
    epochs = math.ceil(total / trial.sampler.steps_per_epoch)
    speed = len(trial.items) / trial.sampler.steps_per_epoch / pace.seconds
    half = (
        ""
        if not early
        else " at half the size"
        if early == 1
        else (f" ({early:.0%} of the steps at half the size, {1 / early_cost:.1f}× as fast)")
    )
    of = f"{total:,} steps, {total / trial.sampler.steps_per_epoch:.1f} epochs of {len(trial.items):,} items"
    sizes = f"batch_size={settings.batch_size}, size={settings.size}"
    notes.append(f"minutes={minutes:g}: {of} at {speed:,.0f} items/s{half}; {sizes}.")
    return Plan(replace(settings, epochs=epochs), total, budget, ThreadWatch(choices), notes)


def _seconds(run: Run, total: int) -> float:
    """A rough guess of the seconds of a run, from two steps; the first one warms up."""
    seconds = 0.0
    for batch in islice(run.batches(), 2):
        start = time.perf_counter()
        float(train_step(run.session, batch)[0])
        seconds = time.perf_counter() - start
    return seconds * total


def _of_threads(pace: Pace) -> list[str]:
    """A line about the threads, where fewer than usual were taken."""
    if not pace.compared or pace.threads == max(pace.compared):
        return []
    many = max(pace.compared)
    ratio = pace.compared[many] / pace.seconds
    return [f"threads={pace.threads}: {ratio:.1f}× as fast as {many} on this machine now, which is busy or limited."]
