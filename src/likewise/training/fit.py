"""``fit``: trains a model on items and writes it to a run folder."""

import math
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from likewise.config.checks import check
from likewise.config.overrides import as_dict, dotted, settings_from
from likewise.config.settings import FitSettings
from likewise.config.unused import unused
from likewise.config.yaml_file import CONFIG
from likewise.data import Items, describe, native_side
from likewise.data.pair_files import Relations
from likewise.distributed import processes
from likewise.distributed.layout import lay_out
from likewise.encoders.gradient_cache import normalises_batches
from likewise.errors import LikewiseError
from likewise.files import as_path
from likewise.methods import method_named, over_method
from likewise.model import NAME as MODEL
from likewise.model import Model, open_by
from likewise.training.batches import Sampler, choose_sampler, refuse_few
from likewise.training.build import pick_device
from likewise.training.checkpoint import CHECKPOINT, load_run
from likewise.training.decide import decide
from likewise.training.loop import train
from likewise.training.needs import check_memory, check_memory_unseen
from likewise.training.pace import emulates_bf16
from likewise.training.plan import Plan, Trial, plan
from likewise.training.preflight import preflight
from likewise.training.progress import TrainingProgress
from likewise.training.recipe import Recipe, for_vectors, wants_recipe, with_recipe
from likewise.training.run import Run, begin
from likewise.training.run_folder import (
    began_here,
    check_content,
    is_longer,
    make_folder,
    placed,
    read_config,
    remove_folder,
    resolve,
    write_config,
    write_data,
)
from likewise.training.run_lock import written_by_one
from likewise.training.session import Session
from likewise.training.signs import agreement
from likewise.training.step import learning_rate
from likewise.training.supervision import (
    advice_on_labels,
    keep_labelled,
    notes_on,
    read_relations,
    refuse_classes,
    refuse_small_steps,
    with_clusters,
)

PATIENCE = 60.0  # seconds in which a killed process of a restarted run gives the lock back


def fit(
    data: object,
    *,
    out: str | Path,
    method: str | None = None,
    settings: FitSettings | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    resume: bool = False,
    backbone: nn.Module | None = None,
    progress: bool = True,
) -> Model:
    """Trains an embedding of ``data`` and returns it. All files go to the folder ``out``.

    Args:
        data: a folder of images, a parquet file or folder, an array or (array, labels), a torch Dataset, or Items; or
            several of these by name, for items of several parts: ``{"image": "photos/", "title": "titles.csv"}``.
        out: the run folder; it must not hold a run unless ``resume``.
        method: the row of ``likewise methods`` that gives the defaults. Default: npid, or where the settings say what
            is alike, the method that trains with that; a resumed run keeps its own.
        settings: a whole FitSettings, or overrides by dotted name: ``{"epochs": 50, "views.flip": 0.0}``; or several
            such mappings, of which a later one wins. With ``{"minutes": 10}`` a few timed steps and a look at the items
            choose what is not set.
        resume: continue from the last checkpoint, bit for bit, with the settings of the run. Another number of epochs,
            or ``minutes``, make the run longer; it is then no longer the run that had more epochs from the beginning.
        backbone: your own ``nn.Module``, (B, 3, S, S) or (B, D) → (B, F), instead of ``settings.encoder.name``.
        progress: show bars and lines on standard error.

    Under torchrun the processes divide every batch and learn what one process learns; the first one writes the files.
    If a process dies and torchrun restarts all of them, they continue from the last checkpoint automatically.

    Raises LikewiseError for unusable data or settings, and Interrupted on Ctrl-C (the state is saved).
    """
    folder = as_path(out, "--out")
    goes_on = resume or (processes.restarted() and began_here(folder))
    asked = names_of(settings)
    settings = chosen(method, settings, goes_on=folder if goes_on else None)
    if settings.of_words:
        raise LikewiseError(f"{settings.method} learns from words, not from items: use lw.fit_words.")
    with processes.joined(settings.device):  # a resumed run's saved device decides how the processes communicate
        restarted = processes.any_of([processes.restarted()], pick_device(settings.device))[0]  # maybe on another node
        resume = resume or (restarted and began_here(folder))
        longer = resume and not restarted and is_longer(folder, settings, asked)
        settings = resolve(folder, settings, resume)
        lay_out(settings.batch_size, max(settings.encoder.bn_groups, settings.micro_batches))  # before a file is made
        if backbone is None:
            check_memory_unseen(settings)
        first = processes.rank() == 0
        made = make_folder(folder) if first else []
        with _lock(folder) if first else nullcontext():
            settings = resolve(folder, settings, resume)  # another run may have ended here meanwhile
            return _fit(data, folder, Asked(settings, asked, resume, longer), backbone, made, progress and first)


class Asked(NamedTuple):
    """What is asked of a run."""

    settings: FitSettings
    names: Collection[str]  # of the settings that the user has set
    resume: bool
    longer: bool  # whether a resumed run gets more epochs or minutes than it had


def _lock(folder: Path) -> AbstractContextManager[None]:
    """Holds the lock of the run folder. Raises LikewiseError when another run has it."""
    return written_by_one(folder, patience=PATIENCE if processes.restarted() else 0.0)


def _fit(
    data: object, folder: Path, asked: Asked, backbone: nn.Module | None, made: Sequence[Path], progress: bool
) -> Model:
    device = pick_device(asked.settings.device)
    run = None
    try:
        run, planned = _begun(data, asked, device, backbone, progress)
        complete(run, folder, planned, resume=asked.resume, longer=asked.longer, progress=progress)
    except LikewiseError:
        if run is None or run.session.step == 0:
            remove_folder(made)
        raise
    return run.model


def _begun(
    data: object, asked: Asked, device: torch.device, backbone: nn.Module | None, progress: bool
) -> tuple[Run, Plan]:
    """The run before its first step. It writes no file."""
    settings = asked.settings
    items = _opened(settings, data, progress)
    began = time.monotonic()
    if len(items) < 2:
        raise LikewiseError(f"{items.source} holds {len(items)} usable item; training needs at least 2.")
    recipe = _recipe(settings, asked, items, data, own=backbone is not None)
    settings, items, relations, sampler, notes = prepare(recipe.settings, items, backbone)
    trial = Trial(items, relations, sampler, device, backbone)
    planned = plan(
        settings,
        trial,
        began=began,
        asked=asked.names,
        resumed=asked.resume,
        sizes=recipe.sizes,
        batches=recipe.batches,
        tries=recipe.tries,
        progress=progress,
    )
    if planned.settings.size != settings.size:
        items = _opened(planned.settings, data, progress)
    if (planned.settings.size, planned.settings.batch_size) != (settings.size, settings.batch_size):
        settings, items, relations, sampler, notes = prepare(planned.settings, items, backbone)
    model = Model.untrained(planned.settings, items, backbone=backbone)
    lines = [*recipe.notes, *_choices(model.settings, asked, items), *notes, *planned.notes]
    announce(model, items, planned.total, lines, enabled=progress)
    run = begin(model, items, planned.total, device, relations=relations, sampler=sampler)
    if planned.budget is not None:
        planned.budget.used = time.monotonic() - began
    return run, planned


def _choices(settings: FitSettings, asked: Asked, items: Items) -> Iterator[str]:
    """What is to be said of the method, where the data chose it, and of settings that are not used."""
    given, method = asked.settings, method_named(settings.method)
    if settings.alike != "instance" and not {"method", "dictionary"}.intersection(asked.names) and not asked.resume:
        yield f"method {method.name}, as alike={settings.alike}; --method names another."
    yield from unused(settings, given, asked.names, method.settings, None if items.blocks else items.kind)


def _opened(settings: FitSettings, data: object, progress: bool) -> Items:
    """The items. The first process decodes them into the cache; the others read them there."""
    with processes.first_first():
        return open_by(settings, data, progress=progress)


def _recipe(settings: FitSettings, asked: Asked, items: Items, data: object, *, own: bool) -> Recipe:
    """The recipe of ``items`` where settings are left to it; a resumed run keeps its own."""
    if asked.resume:
        return Recipe(settings, [])
    if not wants_recipe(settings):
        return for_vectors(settings, items, asked.names, own=own)
    pictures = items.kind == "images"
    side = native_side(data, key=settings.key, image=settings.image, split=settings.split) if pictures else 0
    return with_recipe(settings, items, asked.names, own=own, side=side)


def complete(
    run: Run, folder: Path, planned: Plan | None = None, *, resume: bool, longer: bool = False, progress: bool
) -> None:
    """Trains to the last step and saves the model. With ``resume`` it starts from the folder's checkpoint, if any.

    Only the first process writes files. Raises as ``likewise.training.loop.train`` does.

    Args:
        run: before its first step.
        folder: of the run.
        planned: what watches the time; None watches nothing.
        resume: whether a run goes on.
        longer: whether it gets more epochs or minutes than it had.
        progress: show bars and lines.
    """
    session, device, first = run.session, run.session.device, processes.rank() == 0
    budget = None if planned is None else planned.budget
    if resume and (folder / CHECKPOINT).exists():  # a run killed before its first checkpoint starts anew
        say(check_content(folder, run.items), enabled=progress)
        say([f"warning: {change}" for change in load_run(folder, session)], enabled=progress)
        say(_go_on(session, planned, longer=longer), enabled=progress)
    if session.step >= session.total:
        say([f"all {session.total:,} steps of the run are done already: nothing is trained."], enabled=progress)
    elif first:
        write_config(folder, run.model.settings)
        write_data(folder, run.items, run.model.settings, goes_on=session.step > 0)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        train(run, folder, budget=budget, threads=None if planned is None else planned.threads, progress=progress)
    if budget is not None:  # the clock had the last word
        epochs = math.ceil(session.total / run.sampler.steps_per_epoch)
        run.model.settings = replace(run.model.settings, epochs=epochs)
        if first:
            write_config(folder, run.model.settings)
    run.model.epoch, run.model.run = run.epoch, folder
    if first:
        run.model.save(folder / MODEL)
    if budget is not None and first and run.model.settings.relations is None:  # relations look for others than views
        say([agreement(run.model, run.items).line()], enabled=progress)
    processes.wait()
    run.model.embedder.eval()


def _go_on(session: Session, planned: Plan | None, *, longer: bool) -> list[str]:
    """Sets the end of a resumed run. Returns a line about it if the run is longer than it was."""
    budget = None if planned is None else planned.budget
    if budget is not None and planned is not None:
        if not longer:
            budget.used += session.seconds
            return []
        session.total, session.seconds = session.step + planned.total, 0.0
    if not longer or session.step >= session.total:
        return []
    rate = learning_rate(session.settings.optim, session.step, session.total)
    return [
        f"the run goes on from step {session.step:,} to step {session.total:,}: the learning rate starts again at "
        f"{rate:.3g}, and its schedule ends there."
    ]


class Prepared(NamedTuple):
    """The inputs of a run, checked and complete."""

    settings: FitSettings  # with nothing left on auto
    items: Items  # the items that training uses
    relations: Relations | None
    sampler: Sampler
    notes: list[str]  # about the items and relations, one line each


def prepare(settings: FitSettings, items: Items, backbone: nn.Module | None = None) -> Prepared:
    """The inputs of a run with checked ``settings``.

    Raises LikewiseError when the items or relations are unusable, and when the run does not fit into memory.
    """
    notes = list[str]()
    if settings.alike == "clusters":
        items, notes = with_clusters(settings, items)
    if settings.by_label:
        total, items = len(items), keep_labelled(items)
        if len(items) < total:
            notes.append(f"left out, with no label: {total - len(items):,} of the {total:,} items (skipped.csv).")
    refuse_few(settings, len(items))
    asked, settings = settings.objective, decide(settings, len(items))
    unused = [name for name in asked.parameters if name not in settings.objective.parameters]
    if unused:
        names = ", ".join(f"objective.{name}" for name in unused)
        notes.append(f"warning: {names} is not used: for {len(items):,} items auto is {settings.objective.title()}.")
    refuse_classes(settings, items)
    relations = read_relations(settings, items)
    sampler = choose_sampler(settings, items, relations)
    refuse_small_steps(settings, sampler, settings.epochs * sampler.steps_per_epoch)
    notes += [*notes_on(settings, relations, sampler), *check_memory(settings, items, backbone)]
    return Prepared(settings, items, relations, sampler, notes)


def announce(model: Model, items: Items, total: int, notes: Sequence[str] = (), *, enabled: bool = True) -> None:
    """Prints a description of the items, the ``notes``, and the pre-flight's advice for a run of ``total`` steps."""
    settings, batch_norm = model.settings, normalises_batches(model.embedder)
    advised = preflight(settings, len(items), total, processes=processes.size(), batch_norm=batch_norm)
    lines = [
        describe(items),
        *notes,
        *advice_on_labels(settings, items),
        *(f"advice: {advice.line()}" for advice in advised),
    ]
    if settings.precision == "bf16" and emulates_bf16(pick_device(settings.device)):
        lines.append(
            "advice: precision=bf16 is emulated on this CPU, which has no AVX-512: a small ResNet is ten times slower "
            "than in fp32; consider --precision fp32."
        )
    say(lines, enabled=enabled)


def say(lines: Sequence[str], *, enabled: bool = True) -> None:
    """Prints plain lines on standard error."""
    with TrainingProgress(1, enabled=enabled) as bar:
        for line in lines:
            bar.say(line)


def names_of(settings: FitSettings | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None) -> frozenset[str]:
    """The dotted names of the settings that are set; of whole settings, all."""
    parts = _parts(as_dict(settings) if isinstance(settings, FitSettings) else settings)
    return frozenset(name for part in parts for name in dotted(part))


def _parts(settings: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None) -> list[Mapping[str, Any]]:
    """The mappings of settings, in order. Raises LikewiseError on anything else."""
    parts = [settings] if isinstance(settings, Mapping) else settings or ()
    if not isinstance(parts, Sequence) or not all(isinstance(part, Mapping) for part in parts):
        raise LikewiseError(f"settings can't be {settings!r}; give FitSettings, or a mapping such as {{'epochs': 5}}.")
    return list(parts)


def chosen(
    method: str | None,
    settings: FitSettings | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None,
    *,
    goes_on: Path | None = None,
) -> FitSettings:
    """The method's defaults with the overrides, or whole settings unchanged. Raises LikewiseError on invalid settings.

    ``goes_on`` is the folder of a resumed run: its saved settings are the defaults, unless another method is named.
    """
    whole = settings if isinstance(settings, FitSettings) else None
    parts = [] if isinstance(settings, FitSettings) else _parts(settings)
    named = [part["method"] for part in parts if "method" in part][-1:] if whole is None else [whole.method]
    if method is not None and named and method_named(str(named[0])) != method_named(method):
        raise LikewiseError(f"method={method!r} and the settings' method {named[0]!r} are two; leave one out.")
    if whole is not None:
        whole = settings_from(as_dict(whole))  # checks names and values
        return placed(check(replace(whole, method=method_named(whole.method).name)))
    parts = ([] if method is None else [{"method": method}]) + [
        {**part, "relations": os.fspath(part["relations"])} if isinstance(part.get("relations"), os.PathLike) else part
        for part in parts
    ]
    saved = read_config(goes_on) if goes_on is not None and (goes_on / CONFIG).exists() else None
    merged = over_method(*parts, saved=saved)
    lengths = [{"minutes", "epochs"}.intersection(dotted(part)) for part in parts]
    if [each for each in lengths if each][-1:] == [{"epochs"}]:  # named after the minutes
        merged = replace(merged, minutes=None)
    return placed(check(merged))
