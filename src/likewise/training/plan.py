"""What a few timed steps decide before a run begins: threads, precision, size, batches, and the steps that fit."""

import copy
import math
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from likewise.config.settings import FitSettings
from likewise.data import Items
from likewise.data.pair_files import Relations
from likewise.distributed import processes
from likewise.errors import LikewiseError
from likewise.model import Model
from likewise.training.batches import Sampler, choose_sampler
from likewise.training.budget import Budget
from likewise.training.candidates import TRY_BATCH, best_of, of_views, trained
from likewise.training.pace import Pace, ThreadWatch, emulates_bf16, measure_pace, thread_choices
from likewise.training.run import Run, begin
from likewise.training.step import train_step

SHORT = 30.0  # seconds: the threads of a shorter run are not compared
LOOK = 0.03  # the share of the time that each measurement may take
ENDLESS = 10**9  # steps of a run that is timed
FASTER = 1.1  # bf16 is taken where it is faster than fp32 by this factor
PASSES = 20  # over the items that a larger size must leave time for
FEW_STEPS = 150  # below, smaller batches are better: they make more steps
SOME = 1024  # items that are stretched to another size, to time it
TRY = 0.04  # the share of the time that the training of each try may take
TRY_STEPS = 120  # fewer do not tell which views are better


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

    def of(self, settings: FitSettings) -> "Trial":
        """The same with the sampler of ``settings``."""
        return self._replace(sampler=choose_sampler(settings, self.items, self.relations))

    def stretched(self, settings: FitSettings) -> "Trial":
        """Some of the images, stretched to the size of ``settings``: as fast as if they were decoded at it."""
        size = settings.size
        some = self.items.select(range(min(len(self.items), SOME)))
        at = np.arange(size) * some.values.shape[1] // size
        items = replace(some, values=np.ascontiguousarray(some.values[:, at][:, :, at]))
        return self._replace(items=items).of(settings)

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
    settings: FitSettings,
    trial: Trial,
    *,
    began: float,
    asked: Collection[str] = (),
    resumed: bool = False,
    sizes: Sequence[int] = (),
    batches: Sequence[int] = (),
    tries: bool = False,
    progress: bool = False,
) -> Plan:
    """The plan of a run whose settings are complete but for its time.

    Args:
        settings: of the run.
        trial: makes the runs that are timed.
        began: when the items were read, by ``time.monotonic``: from then on the minutes count.
        asked: the settings that the user has set; the precision is chosen unless it is among them.
        resumed: whether a run goes on: then the precision stays.
        sizes: larger sizes of the images, rising, of which the last one with enough passes over the items is taken.
        batches: smaller batches, falling, which are taken where few steps fit.
        tries: whether other views may be tried in short trainings, where there is time.
        progress: show bars.

    Cost: some seconds; without ``minutes`` a few steps, or nothing where the number of threads is no choice.
    """
    choices = thread_choices(settings.threads, trial.device)
    if settings.threads and trial.device.type == "cpu":
        torch.set_num_threads(settings.threads)
    if settings.minutes is None:
        return _of_epochs(settings, trial, choices)
    clock = _Clock(60 * settings.minutes, began)
    early, early_cost = settings.views.small_until, 1.0
    late = settings if early == 1 else replace(settings, views=replace(settings.views, small_until=0.0))
    now = clock.time(late, trial, choices)
    notes = _of_threads(now.pace)
    if not resumed and "precision" not in asked and settings.precision == "fp32" and not emulates_bf16(trial.device):
        quick = clock.time(replace(late, precision="bf16"), trial, [now.pace.threads])
        faster = processes.number_of_first(round(100 * now.pace.seconds / quick.pace.seconds), trial.device) / 100
        if faster > FASTER:
            notes.append(f"precision=bf16: {faster:.1f}× as fast as fp32 on this machine.")
            now = quick
    if tries:
        now, lines = _tried(clock, now, asked, progress=progress)
        notes += lines
    if sizes:
        now, note = _larger(clock, now, trial, sizes)
        notes.append(note)
    if batches and (few := clock.steps(now)) < FEW_STEPS:
        now = _smaller(clock, now, batches)
        more = f"{clock.steps(now):,} such steps fit, and only {few:,} of {settings.batch_size} items"
        notes.append(f"batch_size={now.settings.batch_size}: {more}.")
    if 0 < early < 1:
        views = replace(late.views, small_until=1.0)
        small = clock.time(replace(now.settings, views=views), now.trial, [now.pace.threads])
        early_cost = small.pace.seconds / now.pace.seconds
    batch_size = settings.batch_size
    settings = replace(now.settings, views=replace(now.settings.views, small_until=early))
    used = time.monotonic() - began
    budget = Budget(seconds=clock.seconds, used=used, early=early, early_cost=early_cost)
    total = budget.steps((clock.seconds - used) / now.pace.seconds)
    total = processes.number_of_first(total, trial.device)
    trial = trial if settings.batch_size == batch_size else trial.of(settings)
    epochs = total / trial.sampler.steps_per_epoch
    speed = len(trial.items) / trial.sampler.steps_per_epoch / now.pace.seconds
    half = (
        ""
        if not early
        else " at half the size"
        if early == 1
        else (f" ({early:.0%} of the steps at half the size, {1 / early_cost:.1f}× as fast)")
    )
    of = f"{total:,} steps, {epochs:.1f} epochs of {len(trial.items):,} items"
    parts = f"batch_size={settings.batch_size}, size={settings.size}"
    notes.append(f"minutes={settings.minutes:g}: {of} at {speed:,.0f} items/s{half}; {parts}.")
    return Plan(replace(settings, epochs=math.ceil(epochs)), total, budget, ThreadWatch(choices), notes)


class _Timed(NamedTuple):
    """Settings, what they were timed with, and their speed."""

    settings: FitSettings
    trial: Trial
    pace: Pace


class _Clock(NamedTuple):
    """The time of a run."""

    seconds: float
    began: float

    def time(self, settings: FitSettings, trial: Trial, threads: list[int]) -> _Timed:
        """Times some steps of ``settings``."""
        return _Timed(settings, trial, measure_pace(trial.run(settings, ENDLESS), threads, LOOK * self.seconds))

    def steps(self, timed: _Timed) -> int:
        """The steps that fit into the time that is left, the same number in all processes."""
        left = self.seconds - (time.monotonic() - self.began)
        return processes.number_of_first(max(1, int(left / timed.pace.seconds)), timed.trial.device)


def _larger(clock: _Clock, now: _Timed, whole: Trial, sizes: Sequence[int]) -> tuple[_Timed, str]:
    """The largest of the images' ``sizes``, rising, with enough passes over the ``whole`` items; and why."""

    def enough(timed: _Timed) -> bool:
        return clock.steps(timed) * timed.settings.batch_size >= PASSES * len(whole.items)

    tried = [now.settings.size]
    if enough(now):
        for size in sizes:
            tried.append(size)
            settings = replace(now.settings, size=size)
            larger = clock.time(settings, whole.stretched(settings), [now.pace.threads])
            if not enough(larger):
                break
            now = larger
    seen = f"time to see every item {PASSES} times"
    if now.settings.size == tried[0]:
        return now, f"size={tried[0]}: a larger size, such as {sizes[0]}, leaves no {seen}."
    return now, f"size={now.settings.size}: of {', '.join(map(str, tried))} the largest with {seen}."


def _smaller(clock: _Clock, now: _Timed, batches: Sequence[int]) -> _Timed:
    """The first of ``batches``, falling, of which enough steps fit if an item takes as long as now; else the last."""
    items = clock.steps(now) * now.settings.batch_size
    size = next((size for size in batches if items >= FEW_STEPS * size), batches[-1])
    settings = replace(now.settings, batch_size=size)
    return clock.time(settings, now.trial.of(settings), [now.pace.threads])


def _tried(clock: _Clock, now: _Timed, asked: Collection[str], *, progress: bool) -> tuple[_Timed, list[str]]:
    """The settings with the views that are best in short trainings; and why."""
    items = TRY * clock.seconds / now.pace.seconds * now.settings.batch_size
    steps = processes.number_of_first(int(items / TRY_BATCH), now.trial.device)
    candidates = of_views(now.settings, asked)
    if len(candidates) == 1:
        return now, []
    if steps < TRY_STEPS:
        return now, [f"other views are not compared: there is time for {steps} steps of each, not {TRY_STEPS}."]
    models = list[Model]()
    for name, settings in candidates:
        small = replace(settings, batch_size=min(TRY_BATCH, settings.batch_size))
        model = trained(now.trial.of(small).run(small, steps), name, 2 * TRY * clock.seconds, progress=progress)
        if model is None:
            return now, ["other views are not compared: their steps take twice as long as those that were timed."]
        models.append(model)
    taken, lines = best_of(candidates, models, now.trial.items, now.trial.device)
    return now._replace(settings=taken), lines


def _of_epochs(settings: FitSettings, trial: Trial, choices: list[int]) -> Plan:
    """The plan of a run of a number of epochs: the threads are compared where it is not short."""
    total = settings.epochs * trial.sampler.steps_per_epoch
    alone = len(choices) == 1 or trial.backbone is not None
    if alone or _seconds(trial.run(settings, total), total) < SHORT:
        return Plan(settings, total, None, ThreadWatch(choices), [])
    pace = measure_pace(trial.run(settings, ENDLESS), choices)
    return Plan(settings, total, None, ThreadWatch(choices), _of_threads(pace))


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
