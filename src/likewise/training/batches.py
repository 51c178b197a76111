"""Builds the sampler of the settings, and prepares the batches of a run with their random views."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor

from likewise.config.settings import FitSettings
from likewise.data import Items
from likewise.data.pair_files import Graded, Pairs, Relations
from likewise.distributed.layout import Layout, lay_out
from likewise.errors import LikewiseError
from likewise.training.pair_graph import PairGraph
from likewise.training.planted import PlantedSampler, planted
from likewise.training.samplers import (
    BalancedSampler,
    ClassSampler,
    EpochSampler,
    GradedSampler,
    Lists,
    PairSampler,
    stable_seed,
)
from likewise.training.session import Session
from likewise.training.step import Judged, Seen
from likewise.views.render import Share

Sampler = EpochSampler | ClassSampler | BalancedSampler | PairSampler | PlantedSampler | GradedSampler
ViewFunction = Callable[[Tensor, torch.Generator, Share], Tensor]


def build_sampler(settings: FitSettings, n: int) -> EpochSampler:
    """The sampler of ``n`` items. A batch has at least two rows per BatchNorm group and one per micro-batch."""
    smallest = max(2 * settings.encoder.bn_groups, settings.micro_batches)
    return EpochSampler(n, settings.batch_size, settings.seed, smallest=smallest)


def refuse_few(settings: FitSettings, n: int) -> None:
    """Raises LikewiseError when ``n`` items, or their smallest batch, are too few for the groups and micro-batches."""
    groups, parts = settings.encoder.bn_groups, settings.micro_batches
    if n < 2 * groups:
        raise LikewiseError(
            f"{n} items do not fill encoder.bn_groups={groups} groups of two; set it to {max(1, n // 16)}."
        )
    if n < parts:
        raise LikewiseError(f"{n} items do not fill micro_batches={parts} parts; set it to {n} or less.")
    lay_out(n // build_sampler(settings, n).steps_per_epoch, max(groups, parts))


def _advice(s: FitSettings, known: int) -> str:
    """What to set if batches have more than the ``known`` classes: the largest size, or what no size fits."""
    size = known * s.sampler.per_class
    parts = {"encoder.bn_groups": 2 * s.encoder.bn_groups, "micro_batches": s.micro_batches}
    for name, least in parts.items():
        if size < least:
            return f"no batch_size fits both this and {name}, which needs {least} items or more: lower {name}"
    return f"set batch_size to {size}"


def choose_sampler(settings: FitSettings, items: Items, relations: Relations | None = None) -> Sampler:
    """The sampler that ``settings.sampler`` names, over ``items``; where there are ``relations``, theirs.

    Raises LikewiseError when there are no labels, or too few items or classes.
    """
    s = settings
    if isinstance(relations, Graded):
        return GradedSampler(relations.rows, s.batch_size, s.seed)
    if isinstance(relations, Pairs):
        added = planted(s, relations, len(items))
        if added is not None:
            return PlantedSampler(relations.rows, s.batch_size // (2 + added.per_pair), s.seed, added)
    if relations is not None:
        return PairSampler(relations.rows, s.batch_size // relations.rows.shape[1], s.seed)
    if s.sampler.kind == "instance":
        return build_sampler(s, len(items))
    if items.labels is None:
        raise LikewiseError(f"sampler.kind={s.sampler.kind} needs labels, and {items.source} has none.")
    if s.sampler.kind == "classes":
        classes, known = s.batch_size // s.sampler.per_class, len(items.label_names)
        if classes > known:
            raise LikewiseError(
                f"batch_size={s.batch_size} is {classes} classes of sampler.per_class={s.sampler.per_class} items, but "
                f"{items.source} has only {known} labels; {_advice(s, known)}."
            )
        return ClassSampler(items.labels, classes, s.sampler.per_class, s.seed)
    smallest = max(2 * s.encoder.bn_groups, s.micro_batches)
    return BalancedSampler(items.labels, s.batch_size, s.seed, smallest=smallest)


def batches(
    items: Items,
    sampler: Sampler,
    views: ViewFunction,
    session: Session,
    relations: Relations | None = None,
    small_views: ViewFunction | None = None,
) -> Iterator[Seen]:
    """This process' part of every remaining step. With an accelerator, a thread prepares one step more in advance.

    On a CPU this thread would compete with the training step for cores: training without it is about a tenth faster.
    The views of a step depend on (seed, step) alone, so a step prepared in advance needs no saved state. Every process
    draws the random numbers of the whole batch, so an item's views are the same in any process.
    """
    device, settings = session.device, session.settings
    groups = max(settings.encoder.bn_groups, settings.micro_batches)
    labels = torch.from_numpy(np.array(items.labels)) if settings.by_label else None
    alike, graph, of_graph = None, None, isinstance(relations, Pairs) and relations.weight is not None
    if isinstance(relations, Pairs):
        alike = relations.alike
        graph = PairGraph(relations.rows, len(items)) if relations.all_alike else None
    graded = relations.relevance if isinstance(relations, Graded) else torch.empty(0)

    def draw(step: int) -> Seen:
        lists = sampler.lists(step) if isinstance(sampler, GradedSampler) else None
        drawn = sampler.tuples(step) if isinstance(sampler, PairSampler) else None
        added: Tensor | None = None
        if isinstance(sampler, PlantedSampler):
            drawn, added = sampler.tuples(step)
        named = lists or drawn
        rows = sampler.rows(step) if named is None else named.rows
        layout = lay_out(len(rows), groups)
        values = items.batch(rows[layout.rows])
        if device.type == "cuda":
            values = values.pin_memory()
        values, share = values.to(device, non_blocking=True), Share(len(rows), layout.rows)
        generator = torch.Generator().manual_seed(stable_seed(sampler.seed, "views", step))
        early = step < settings.views.small_until * session.total
        show = views if small_views is None or not early else small_views
        seen = [show(values, generator, share) for _ in range(settings.views_per_item)]
        if values.ndim == 4:
            seen = [view.contiguous(memory_format=torch.channels_last) for view in seen]
        ids = rows if labels is None else labels[rows]
        ids, rows = ids.to(device, non_blocking=True), rows.to(device, non_blocking=True)
        if lists is not None:
            judged = Judged(*(part.to(device) for part in padded(lists, graded[lists.which])))
            return see(settings, step, seen, ids, layout, rows, judged=judged)
        if drawn is None:
            return see(settings, step, seen, ids, layout, rows)
        if graph is not None:  # an edge that another step draws is no positive here, and no negative
            joined, neither = (drawn.local, graph.joined(drawn.rows)) if of_graph else graph.within(drawn.rows)
            added = None if added is None else added.to(device)
            joined, neither = joined.to(device), neither.to(device)
            return see(settings, step, seen, ids, layout, rows, joined, neither=neither, planted=added)
        of_pairs = None if alike is None else alike[drawn.which].to(device)
        return see(settings, step, seen, ids, layout, rows, drawn.local.to(device), of_pairs)

    step = session.step
    if device.type == "cpu":
        while step < session.total:  # a run with a budget of time changes it
            yield draw(step)
            step += 1
        return
    follow = (
        partial(torch.cuda.set_device, device) if device.type == "cuda" else None
    )  # each thread has its own current device
    with ThreadPoolExecutor(1, initializer=follow) as reader:
        ahead = reader.submit(draw, step)
        while step < session.total:
            ready = ahead.result()
            step += 1
            ahead = reader.submit(draw, step)
            yield ready


def padded(lists: Lists, relevance: Tensor) -> Judged:
    """Lists that follow each other, with the relevance (m,) of their items, as padded ones."""
    lengths = lists.offsets.diff()
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    items = torch.zeros(mask.shape, dtype=torch.int64).masked_scatter(mask, lists.places[:, 1])
    values = torch.zeros(mask.shape).masked_scatter(mask, relevance.to(torch.get_default_dtype()))
    return Judged(lists.places[lists.offsets[:-1], 0], items, values, mask)


def see(
    settings: FitSettings,
    step: int,
    views: Sequence[Tensor],
    ids: Tensor,
    layout: Layout,
    items: Tensor,
    tuples: Tensor | None = None,
    alike: Tensor | None = None,
    neither: Tensor | None = None,
    judged: Judged | None = None,
    planted: Tensor | None = None,
) -> Seen:
    """The input of step ``step``, with the seed of this process and the orders that shuffle keys (MoCo §3.3)."""
    seed = stable_seed(settings.seed, f"dropout {layout.rank}", step)
    orders: list[Tensor] = []
    if settings.dictionary == "queue" and settings.key_encoder.shuffle and settings.encoder.bn_groups > 1:
        for view in (0, 1):
            generator = torch.Generator().manual_seed(stable_seed(settings.seed, f"shuffle {view}", step))
            orders.append(torch.randperm(len(ids), generator=generator))
    return Seen(views, ids, layout, items, tuples, alike, neither, judged, planted, seed, orders)
