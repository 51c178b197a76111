"""Makes a small run of the settings that the user wants to verify."""

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from likewise.config.checks import check
from likewise.config.names import called
from likewise.config.objective_table import AUTO, AUTO_FEW, AUTO_MANY, objective
from likewise.config.overrides import flatten, settings_from
from likewise.config.settings import FitSettings
from likewise.config.yaml_file import CONFIG
from likewise.data import Items, open_items
from likewise.data.id_rows import all_alike_in
from likewise.data.pair_files import Graded, Pairs, Relations, Triplets
from likewise.errors import LikewiseError
from likewise.graph.graph_file import holds_graph
from likewise.methods import METHODS, Method
from likewise.model import NAME as MODEL
from likewise.model import Model, open_by
from likewise.proof.jobs import STEPS
from likewise.training.batches import choose_sampler
from likewise.training.decide import EXACT_ITEMS, decide
from likewise.training.needs import check_memory
from likewise.training.recipe import PARTS, VECTORS
from likewise.training.run_folder import read_config, read_data, training_items

ITEMS, BATCH, SIDE = 43, 16, 32  # batches of 15, 14 and 14: uneven, and so are two processes' shares of the first
LARGE, FEW, SMALL_BATCH, SMALL_SIDE = 5_000_000, 22, 8, 16  # with this many weights or more: batches of 8, 7 and 7
LEAST, LABELS = 8, 8  # the fewest items, and the number of made-up labels
OF_FILES = {"pairs": "pairs are", "triplets": "triplets are", "graded": "relevance is"}
SAMPLES = 24  # most samples of a sampled objective
OF_MANY = (
    f"objective {AUTO} is {AUTO_MANY} here, as for more than {EXACT_ITEMS:,} items; --set objective={AUTO_FEW} proves "
    "the exact softmax of fewer."
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The small run, and how it differs from the run that the user wants to verify.

    Args:
        settings: the settings of the small run.
        items: at most 43 items.
        relations: made-up pairs, triplets or graded relevance of these items, where such say which items are alike.
        notes: one sentence on where the items are from, and one on what was made small.
        backbone: a user's own module.
        asked: the settings before they were made small.
    """

    settings: FitSettings
    items: Items
    relations: Relations | None
    notes: tuple[str, ...]
    backbone: nn.Module | None
    asked: FitSettings


def make_plan(
    run_or_method: str | Path,
    data: object = None,
    settings: Mapping[str, Any] | None = None,
    *,
    backbone: nn.Module | None = None,
) -> Plan:
    """Makes the settings and items of ``verify`` small. Raises LikewiseError as ``verify`` does."""
    run, name = Path(run_or_method), str(run_or_method)
    is_run = (run / CONFIG).is_file()
    usual = read_config(run) if is_run else _method(name, run).settings
    if is_run and backbone is None and _has_own_backbone(run):
        raise LikewiseError(f"{run} was trained with the user's own backbone; verify it from Python with backbone=.")
    if isinstance(backbone, torch.jit.ScriptModule):
        raise LikewiseError("TorchScript can't be sent to the other processes; give the module that it was made from.")
    if "method" in (settings or {}):
        raise LikewiseError("the method can't be a setting here: name it in place of the run folder.")
    asked = settings_from(settings or {}, usual)
    if asked.of_words:
        raise LikewiseError(
            f"{asked.method} trains in one process and without micro-batches: there is nothing to verify."
        )
    if asked.related and asked.relations is None:  # a method has no file
        asked = replace(asked, relations="made-up")
    items, note = _items(asked, data, run if is_run else None)
    if len(items) < LEAST:
        raise LikewiseError(f"{items.source} holds {len(items)} usable items; verify needs at least {LEAST}.")
    decided = decide(asked, len(items) if is_run else max(len(items), EXACT_ITEMS + 1))
    plan = _made_small(check(decided), items, note, backbone)
    if asked.objective.kind == AUTO and decided.objective.kind == AUTO_MANY and not is_run:
        return replace(plan, notes=(*plan.notes, OF_MANY))
    return plan


def _method(name: str, folder: Path) -> Method:
    try:
        return called(name, METHODS.values(), "run folder and no method")
    except LikewiseError:
        if folder.is_dir():
            raise LikewiseError(
                f"{folder} holds no run ({CONFIG} is missing); give a run folder, or a method's name."
            ) from None
        raise


def _items(asked: FitSettings, data: object, run: Path | None) -> tuple[Items, str]:
    """The items, and a sentence on where they are from."""
    if data is not None:
        items = open_by(replace(asked, labels="none"), data)
        return items, f"Items: the first of {items.source}."
    kind, why = "vectors" if asked.encoder.name in (VECTORS, PARTS) else "images", "no --data is given"
    if run is not None:
        why = "the run's own can't be opened"
        try:
            kind = (read_data(run) or {"kind": kind})["kind"]
            items = training_items(run, asked)
            return items, f"Items: the first of the run's own, {items.source}."
        except LikewiseError:
            pass
    random, ids = np.random.default_rng(0), tuple(map(str, range(ITEMS)))
    note = f"Items: made-up {kind}, since {why}."
    if kind == "vectors":
        vectors = random.normal(size=(ITEMS, 16)).astype(np.float32)
        if asked.encoder.name == PARTS:
            parts: dict[str, object] = {"a": vectors[:, :8], "b": vectors[: ITEMS // 2, 8:]}
            return open_items(parts, progress=False), note
        return Items(ids=ids, values=vectors, kind="vectors", source="made-up vectors"), note
    pixels = random.integers(0, 256, (ITEMS, asked.size, asked.size, 3), dtype=np.uint8)
    return Items(ids=ids, values=pixels, kind="images", source="made-up images"), note


def _has_own_backbone(run: Path) -> bool:
    """Whether a finished run has a user's own backbone; an unfinished run does not say."""
    try:
        with safe_open(run / MODEL, "pt") as file:
            return bool(json.loads((file.metadata() or {})["likewise"])["own"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return False


def _made_small(asked: FitSettings, items: Items, note: str, backbone: nn.Module | None) -> Plan:
    """The plan with few items, small batches and images, and a queue that wraps around."""
    check_memory(replace(asked, queue=replace(asked.queue, size=1)), items, backbone)  # the queue is made small below
    model = Model.untrained(asked, items, backbone=deepcopy(backbone))  # raises if no run could use the settings
    large = sum(weight.numel() for weight in model.embedder.parameters()) >= LARGE
    count, batch, side = (FEW, SMALL_BATCH, SMALL_SIDE) if large else (ITEMS, BATCH, SIDE)
    items = items.select(np.arange(min(count, len(items))))
    items = replace(items, values=np.array(items.values), labels=None)
    if asked.by_label:  # the first items of a folder may all have one label
        items = replace(items, labels=np.arange(len(items)) % LABELS, label_names=tuple(map(str, range(LABELS))))
        note += f" Their labels are made-up, {LABELS} in turn."
    batch = min(asked.batch_size, batch, len(items))
    relations = _made_up(asked.alike, len(items), batch, all_alike=_all_alike(asked))
    if relations is not None:
        note += f" Their {OF_FILES[asked.alike]} made-up too."
    groups, micro = (_few_groups(number) for number in (asked.encoder.bn_groups, asked.micro_batches))
    small = replace(
        asked,
        batch_size=batch,
        micro_batches=min(micro, batch // 2),
        encoder=replace(asked.encoder, bn_groups=min(groups, batch // 2)),
    )
    if small.sampler.kind == "classes":
        small = replace(small, batch_size=batch - batch % 4, sampler=replace(asked.sampler, per_class=4))
    if small.dictionary == "queue":  # so that it wraps around
        small = replace(small, queue=replace(asked.queue, size=min(asked.queue.size, 2 * batch + 1)))
    if small.dictionary == "bank":
        small = replace(small, bank=replace(asked.bank, samples=min(asked.bank.samples, 16)))
    drawn = objective(small.objective.kind).draws
    if drawn:
        few = min(int(small.objective.number(drawn, SAMPLES)), SAMPLES)
        small = settings_from({f"objective.{drawn}": few}, small)
    classes = int(small.objective.number("classes", 0))
    if classes:  # the labels, or the items, are others than those of the run
        few = LABELS if asked.by_label else len(items)
        small = settings_from({"objective.classes": max(classes, few)}, small)
    small = replace(small, epochs=-(-STEPS // choose_sampler(small, items, relations).steps_per_epoch))
    if items.kind == "images" and small.size > side:
        try:
            smaller = replace(small, size=side)
            Model.untrained(smaller, items, backbone=deepcopy(backbone))
            small, items = smaller, _shrunk(items, side)
        except LikewiseError:
            pass  # an encoder that takes one size only
    before, after = flatten(asked), flatten(check(small))
    changed = [f"{name} {before.get(name)} → {value}" for name, value in after.items() if value != before.get(name)]
    notes = (note, f"Made small: {len(items)} items; {', '.join(changed)}.")
    return Plan(settings=small, items=items, relations=relations, notes=notes, backbone=backbone, asked=asked)


def _all_alike(settings: FitSettings) -> bool:
    """Whether the run's file of pairs, if it is still there, has only pairs that are alike."""
    if settings.alike != "pairs" or settings.relations is None:
        return False
    planted = settings.sampler.planted != "none"
    return planted or holds_graph(settings.relations) or all_alike_in(Path(settings.relations))


def _made_up(alike: str, count: int, batch: int, *, all_alike: bool) -> Relations | None:
    """Made-up relations of ``count`` items, as if labels repeated in turn; an epoch has 3 uneven batches."""
    if alike not in OF_FILES:
        return None
    if alike == "graded":
        return _made_up_lists(count, batch)
    width, labels, random = (2 if alike == "pairs" else 3), min(LABELS, count // 2), np.random.default_rng(0)
    anchors = random.integers(0, count, max(1, 3 * (batch // width) - 1))
    near = [random.choice([j for j in range(a % labels, count, labels) if j != a]) for a in anchors]
    far = [random.choice([j for j in range(count) if j % labels != a % labels]) for a in anchors]
    if alike == "triplets":
        return Triplets(rows=torch.from_numpy(np.stack([anchors, near, far], 1)), source="made-up triplets")
    are_alike = np.arange(len(anchors)) % 2 == 0 if not all_alike else np.ones(len(anchors), dtype=bool)
    others = np.where(are_alike, near, far)
    rows = torch.from_numpy(np.stack([anchors, others], 1))
    return Pairs(rows=rows, alike=torch.from_numpy(are_alike), source="made-up pairs")


def _made_up_lists(count: int, batch: int) -> Graded:
    """Queries with three items each, of relevance 0 to 3."""
    random = np.random.default_rng(0)
    queries = random.permutation(count)[: max(1, 3 * (batch // 4) - 1)]
    items = [random.permutation([j for j in range(count) if j != query])[:3] for query in queries]
    rows = np.stack([queries.repeat(3), np.concatenate(items)], 1)
    relevance = torch.from_numpy(random.integers(0, 4, len(rows)).astype(np.float64))
    return Graded(rows=torch.from_numpy(rows), relevance=relevance, source="made-up relevance")


def _few_groups(number: int) -> int:
    """At most 3 groups, odd if ``number`` is odd: with few groups each has enough rows, and rounding stays small."""
    return min(number, 3) if number % 2 else 2


def _shrunk(items: Items, size: int) -> Items:
    """The images in another size; each new pixel is the mean over its area."""
    pixels = torch.from_numpy(items.values).permute(0, 3, 1, 2).float()
    small = functional.interpolate(pixels, (size, size), mode="area").round().to(torch.uint8)
    return replace(items, values=small.permute(0, 2, 3, 1).contiguous().numpy())


def in_parts(settings: FitSettings, *, grouped: bool) -> FitSettings:
    """The settings with two micro-batches. Raises LikewiseError if micro-batches do not fit the other choices."""
    groups = 2 if grouped else settings.encoder.bn_groups
    return check(replace(settings, micro_batches=2, encoder=replace(settings.encoder, bn_groups=groups)))


def remark_on_parts(asked: FitSettings, normalises: bool, random: bool) -> str:
    """How the settings of the comparison with micro-batches differ from the user's; empty where they don't."""
    if not normalises:
        return "both in 2 parts, because dropout draws random numbers for each part" if random else ""
    if asked.encoder.bn_groups == 1:
        return (
            "with encoder.bn_groups=2 on both sides; yours is 1, BatchNorm over the whole batch, whose statistics "
            "can't be computed in parts, so fit refuses micro_batches"
        )
    return "with encoder.bn_groups=2 on both sides"


@torch.no_grad()
def draws_random_numbers(model: Model, items: Items) -> bool:
    """Whether the encoder, in train mode, gives different rows for the same batch in two calls."""
    embedder, batch = deepcopy(model.embedder).train(), model.prepare(items.batch(np.arange(len(items))))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first: Tensor = embedder(batch)
        return not torch.equal(first, embedder(batch))
