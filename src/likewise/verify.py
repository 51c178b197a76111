"""The proof that processes, stops and micro-batches do not change what is learned, on one's own machine and method.

Every comparison trains the same few steps twice, in fresh processes, and compares all that was learned: losses,
gradients, weights, and the dictionary. It is small (tens of items, a few steps) but real: the run's own encoder, views,
objective, dictionary and optimizer, and the training step of ``fit``.
"""

import hashlib
import json
import math
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import yaml
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional

from likewise.config import FitSettings, check, closest, decide, flatten, settings_from
from likewise.data import Items, open_items
from likewise.encoders.parts import normalises_batches
from likewise.errors import LikewiseError
from likewise.methods import METHODS
from likewise.model import Model
from likewise.training.checkpoint import load_checkpoint, save_checkpoint
from likewise.training.loop import batches, build_sampler
from likewise.training.run import CONFIG, build_views, read_config
from likewise.training.session import Session, build_session, learning_rate
from likewise.training.step import train_step

ITEMS = 43  # in batches of 15, 14 and 14: uneven, and so are two processes' shares of the first
STEPS, HALF = 5, 2  # both within an epoch of three steps
ROUNDING = 1e-9  # of float64 sums in another order, relative to the largest value
SMALL, SMALLER, LARGE = 32, 16, 5_000_000  # sides of images, the smaller for encoders of so many weights or more
LIMIT = 300.0  # seconds; processes that wait for each other longer wait for ever
KINDS = ("loss", "gradients", "weights", "dictionary")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two ways to train the same steps, and how far apart they end.

    Args:
        name: what is compared.
        differences: of loss, gradients, weights and dictionary, the largest one, relative to the largest value of its
            kind (of a module's gradients, the largest of that module's); 0 where no bit differs; infinite where one is
            missing, no number, or of another shape. A kind that there is nothing of is left out.
        hashes_equal: whether all processes had the same bytes after every step, or the resumed run those of the
            uninterrupted one; None where there is one process.
        tolerance: up to which a difference is rounding.
        remark: what was changed for the comparison.
        impossible: why this design has no such comparison; empty where it has.
        broken: how the processes ended that should have trained; empty where they did.
    """

    name: str
    differences: Mapping[str, float]
    hashes_equal: bool | None
    tolerance: float
    remark: str = ""
    impossible: str = ""
    broken: str = ""

    @property
    def verdict(self) -> Literal["equal", "DIFFERENT", "BROKEN", "not possible"]:
        """What came out."""
        if self.impossible or self.broken:
            return "not possible" if self.impossible else "BROKEN"
        fine = all(value <= self.tolerance for value in self.differences.values()) and self.hashes_equal is not False
        return "equal" if fine else "DIFFERENT"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is trained, and in words how it differs from the run itself.

    Args:
        settings: the small ones.
        items: at most 43.
        notes: where the items are from, and what was made small: a sentence each.
        backbone: a module of one's own.
        asked: the settings as they were.
    """

    settings: FitSettings
    items: Items
    notes: tuple[str, ...]
    backbone: nn.Module | None
    asked: FitSettings


def verify(
    run_or_method: str | Path,
    data: object = None,
    settings: Mapping[str, Any] | None = None,
    *,
    backbone: nn.Module | None = None,
) -> list[Comparison]:
    """Trains a few steps of a run or method in several ways that must not differ, and compares what was learned.

    Two processes ≡ one; killed and resumed ≡ uninterrupted, bit for bit; micro-batches ≡ the full batch. On the CPU,
    in fresh processes of one thread each; some 20 s for a small encoder.

    Args:
        run_or_method: a run folder, or the name of a method.
        data: what to train on; default: the run's own data, or made-up items where there is none. 43 are used.
        settings: overrides by dotted name, as in ``fit``.
        backbone: the run's own module; it must be importable, for it is sent to other processes.

    Raises LikewiseError on an unknown run or method, and on data or settings that no run could use. A difference that
    was found is no error: see ``Comparison.verdict``.
    """
    return prove(prepare(run_or_method, data, settings, backbone=backbone))


def prepare(
    run_or_method: str | Path,
    data: object = None,
    settings: Mapping[str, Any] | None = None,
    *,
    backbone: nn.Module | None = None,
) -> Plan:
    """The settings and items of ``verify``, made small. Raises LikewiseError as it does."""
    folder = Path(run_or_method)
    if (folder / CONFIG).is_file():
        base, made_up = read_config(folder), _kind(folder)
    elif str(run_or_method) in METHODS:
        base, made_up = METHODS[str(run_or_method)].settings, None
    elif folder.is_dir():
        raise LikewiseError(f"{folder} holds no run ({CONFIG} is missing); give a run folder, or a method's name.")
    else:
        known = ", ".join(METHODS)
        raise LikewiseError(
            f"there is no run folder and no method {str(run_or_method)!r}.{closest(str(run_or_method), METHODS)} "
            f"Methods: {known}."
        )
    asked = settings_from(settings or {}, base)
    made_up = made_up or ("vectors" if asked.encoder.name == "mlp" else "images")
    items, note = _items(asked, data, folder if (folder / CONFIG).is_file() else None, made_up)
    if len(items) < 8:
        raise LikewiseError(f"{items.source} holds {len(items)} usable items; to verify takes at least 8.")
    asked = check(decide(asked, len(items)))
    return _made_small(asked, items, note, backbone)


def prove(plan: Plan) -> list[Comparison]:
    """The comparisons of a plan, each side trained in fresh processes."""
    s, model = plan.settings, Model.untrained(plan.settings, plan.items, backbone=deepcopy(plan.backbone))
    total = s.epochs * build_sampler(s, len(plan.items)).steps_per_epoch
    whole = Job(settings=replace(s, precision="fp32"), items=plan.items, backbone=plan.backbone, total=total)
    own = replace(whole, settings=s, double=False)  # the run's own precision
    normalises, random = normalises_batches(model.embedder), _draws_random_numbers(model, plan.items)
    alone = {"one": whole, "own": own}
    parts_refused = ""
    try:
        cached = _in_parts(whole.settings, grouped=normalises or random)
        alone |= {"parts": replace(whole, settings=cached)}
        alone |= {"full": replace(whole, settings=replace(cached, micro_batches=1))}
    except LikewiseError as error:
        parts_refused = str(error)
    shared_refused = (
        "the encoder draws random numbers (dropout), each process for its own rows, so that two draw others than one"
        if random
        else ""
    )
    with tempfile.TemporaryDirectory() as place:
        group, checkpoint = Path(place), Path(place) / "checkpoint.pt"
        with (
            started(group / "alone", alone) as one_process,
            started(group / "killed", {"own": replace(own, stop=HALF, killed=checkpoint)}) as killed,
        ):
            killed()
            with started(group / "resumed", {"own": replace(own, resumes=checkpoint)}) as resumed:
                again = resumed()["own"]
            learned = one_process()
        shared = learned["one"]
        if not shared_refused:
            with started(group / "two", {"one": whole}, 2) as two_processes:
                shared = two_processes()["one"]
    return [
        compare("two processes, one", learned["one"], shared, tolerance=ROUNDING, impossible=shared_refused),
        compare("killed and resumed, uninterrupted", learned["own"], again, resumed_at=HALF, remark="bit for bit"),
        compare(
            "micro-batches, full batch",
            learned.get("full", []),
            learned.get("parts", []),
            tolerance=ROUNDING,
            remark=_remark_on_parts(plan.asked, normalises, random),
            impossible=parts_refused,
        ),
    ]


def main(run_or_method: str, data: str | None, assignments: Sequence[str]) -> int:
    """``likewise verify``: prints the table; 0 when all is equal, 1 when something differs or broke."""
    values = {}
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign:
            raise LikewiseError(f"--set takes NAME=VALUE, such as encoder.bn_groups=4, not {assignment!r}.")
        values[name] = yaml.safe_load(text)
    plan = prepare(run_or_method, data, values)
    print(*plan.notes, f"Training {STEPS} steps in 5 fresh processes; this takes some 20 s ...", sep="\n", flush=True)
    comparisons = prove(plan)
    print_table(comparisons)
    if all(each.verdict in ("equal", "not possible") for each in comparisons):
        return 0
    print("What differs is no mistake of yours: please report it, with this table and the settings.")
    return 1


def print_table(comparisons: Sequence[Comparison]) -> None:
    """The table on standard output: a line for each comparison, and its remark below."""
    table = Table("learned the same by", *KINDS, "hashes equal", "verdict", show_edge=False)
    for each in comparisons:
        numbers = [_number(each.differences.get(kind)) for kind in KINDS]
        hashes = {None: "–", True: "yes", False: "no"}[each.hashes_equal]
        table.add_row(each.name, *numbers, hashes, each.verdict)
    console = Console()
    console.print(table)
    for each in comparisons:
        said = each.impossible or each.broken or each.remark
        if said:
            console.print(f"{each.name}: {said}", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"Differences are the largest, relative to the largest value of their kind; up to {ROUNDING:.0e} is the "
        "rounding of float64.",
        soft_wrap=True,
        highlight=False,
    )


def _number(value: float | None) -> str:
    return "–" if value is None else "0" if value == 0 else f"{value:.0e}"


def compare(
    name: str,
    expected: Sequence[Learned | Unlearned],
    found: Sequence[Learned | Unlearned],
    *,
    tolerance: float = 0.0,
    resumed_at: int = 0,
    remark: str = "",
    impossible: str = "",
) -> Comparison:
    """How far what the processes of ``found`` learned is from what ``expected`` learned, in one process.

    Args:
        name: of the comparison.
        expected: one.
        found: one for each process.
        tolerance: as in Comparison.
        resumed_at: the step from which ``found`` trained; above 0 its hashes must be those of ``expected``.
        remark: as in Comparison.
        impossible: why there is nothing to compare.
    """
    failed = sorted((each for each in (*expected, *found) if isinstance(each, Unlearned)), key=lambda x: not x.refused)
    if impossible or failed:
        refused = impossible or (failed[0].reason if failed[0].refused else "")
        broken = "" if refused else failed[0].reason
        result = Comparison(name=name, differences={}, hashes_equal=None, tolerance=tolerance, remark=remark)
        return replace(result, impossible=refused, broken=broken)
    (wanted,), learned = [x for x in expected if isinstance(x, Learned)], [x for x in found if isinstance(x, Learned)]
    worst = [differences(wanted.values, each.values, resumed_at) for each in learned]
    hashes = [each.hashes for each in learned] + ([wanted.hashes[resumed_at:]] if resumed_at else [])
    return Comparison(
        name=name,
        differences={kind: max(each[kind] for each in worst) for kind in worst[0]},
        hashes_equal=all(each == hashes[0] for each in hashes) if len(hashes) > 1 else None,
        tolerance=tolerance,
        remark=remark,
    )


def differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], resumed_at: int = 0) -> dict[str, float]:
    """The largest difference of each kind, relative to the largest value of its module; see ``Comparison``."""
    modules: dict[str, list[str]] = {}
    for name in sorted(expected.keys() | found.keys()):
        modules.setdefault(".".join(name.split(".")[:2]), []).append(name)
    worst = dict[str, float]()
    for module, names in modules.items():
        kind = module.split(".")[0]
        pairs = [(expected.get(name), found.get(name)) for name in names]
        if kind == "loss":
            pairs = [(None if a is None else a[resumed_at:], b) for a, b in pairs]
        worst[kind] = max(worst.get(kind, 0.0), _apart(pairs))
    return worst


def _apart(pairs: Sequence[tuple[Tensor | None, Tensor | None]]) -> float:
    """The largest difference of one module's tensors, relative to its largest value; of whole numbers none is small."""
    largest = apart = 0.0
    for a, b in pairs:
        if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
            return math.inf
        if torch.equal(a, b):
            largest = max(largest, float(a.abs().max())) if a.is_floating_point() and a.numel() else largest
            continue
        gap = float((a - b).abs().max()) if a.is_floating_point() else math.inf
        if not math.isfinite(gap):
            return math.inf
        largest, apart = max(largest, float(a.abs().max())), max(apart, gap)
    return apart and (apart / largest if largest else math.inf)


def _items(asked: FitSettings, data: object, run: Path | None, made_up: str) -> tuple[Items, str]:
    """All items, and where they are from in a sentence."""
    source, why = data, "none was given"
    if data is None and run is not None:
        source, why = _source(run), "the run's own can't be opened"
    if data is not None or source is not None:
        try:
            items = open_items(
                source, size=asked.size, labels="none", key=asked.key, cache=asked.cache, progress=data is not None
            )
            if data is not None or items.kind == made_up:
                return items, f"Items: the first {min(ITEMS, len(items))} of {items.source}."
        except LikewiseError:
            if data is not None:
                raise
    random = np.random.default_rng(0)
    shape = (ITEMS, asked.size, asked.size, 3)
    pixels = random.integers(0, 256, shape, dtype=np.uint8) if made_up == "images" else None
    values = pixels if pixels is not None else random.normal(size=(ITEMS, 16)).astype(np.float32)
    kind: Literal["images", "vectors"] = "images" if made_up == "images" else "vectors"
    items = Items(ids=tuple(map(str, range(ITEMS))), values=values, kind=kind, source=f"made-up {kind}")
    return items, f"Items: {ITEMS} made-up {kind}, as {why}; name others with --data."


def _about(run: Path) -> dict[str, Any]:
    """A run's data.json; empty where it can't be read."""
    try:
        about = json.loads((run / "data.json").read_text())
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _kind(run: Path) -> str | None:
    kind = _about(run).get("kind")
    return kind if kind in ("images", "vectors") else None


def _source(run: Path) -> str | None:
    source = _about(run).get("source")
    return source if isinstance(source, str) and Path(source).exists() else None


def _made_small(asked: FitSettings, items: Items, note: str, backbone: nn.Module | None) -> Plan:
    """The plan with few items, small batches and images, and a queue that wraps around."""
    items = items.select(np.arange(min(ITEMS, len(items))))
    items = replace(items, values=np.array(items.values), labels=None)
    groups, micro = (_few_groups(number) for number in (asked.encoder.bn_groups, asked.micro_batches))
    batch = min(asked.batch_size, 16, len(items))
    small = replace(
        asked,
        batch_size=batch,
        micro_batches=min(micro, batch),
        encoder=replace(asked.encoder, bn_groups=min(groups, max(1, batch // 2))),
        queue=replace(asked.queue, size=min(asked.queue.size, 33)),
        bank=replace(asked.bank, samples=min(asked.bank.samples, 16)),
        objective=replace(asked.objective, noise=min(asked.objective.noise, 24)),
    )
    small = replace(small, epochs=-(-STEPS // build_sampler(small, len(items)).steps_per_epoch))
    model = Model.untrained(small, items, backbone=deepcopy(backbone))  # raises what no run could use
    side = SMALL if sum(weight.numel() for weight in model.embedder.parameters()) < LARGE else SMALLER
    if items.kind == "images" and small.size > side:
        try:
            smaller = replace(small, size=side)
            Model.untrained(smaller, items, backbone=deepcopy(backbone))
            small, items = smaller, _shrunk(items, side)
        except LikewiseError:
            pass  # an encoder that takes one size only
    check(small)
    before, after = flatten(asked), flatten(small)
    changed = [f"{name} {before[name]} → {value}" for name, value in after.items() if value != before[name]]
    changes = f"Made small: {', '.join(changed)}." if changed else "Nothing had to be made small."
    return Plan(settings=small, items=items, notes=(note, changes), backbone=backbone, asked=asked)


def _few_groups(number: int) -> int:
    """As few groups as keep a number odd or even: BatchNorm over very few rows would magnify rounding."""
    return min(number, 3) if number % 2 else 2


def _shrunk(items: Items, size: int) -> Items:
    """Images of another size: the mean over each place."""
    pixels = torch.from_numpy(items.values).permute(0, 3, 1, 2).float()
    small = functional.interpolate(pixels, (size, size), mode="area").round().to(torch.uint8)
    return replace(items, values=small.permute(0, 2, 3, 1).contiguous().numpy())


def _in_parts(settings: FitSettings, *, grouped: bool) -> FitSettings:
    """With two micro-batches. Raises LikewiseError where micro-batches do not go with the other choices."""
    groups = 2 if grouped else settings.encoder.bn_groups
    return check(replace(settings, micro_batches=2, encoder=replace(settings.encoder, bn_groups=groups)))


def _remark_on_parts(asked: FitSettings, normalises: bool, random: bool) -> str:
    if not normalises:
        return "both in 2 parts, as dropout draws for a part" if random else ""
    if asked.encoder.bn_groups == 1:
        return (
            "with encoder.bn_groups=2 on both sides; yours is 1, BatchNorm over the whole batch, whose statistics "
            "can't be had in parts, so that fit refuses micro_batches"
        )
    return "with encoder.bn_groups=2 on both sides"


@torch.no_grad()
def _draws_random_numbers(model: Model, items: Items) -> bool:
    """Whether the encoder in training gives the same batch other rows each time."""
    embedder, batch = deepcopy(model.embedder).train(), model.prepare(items.batch(np.arange(len(items))))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first: Tensor = embedder(batch)
        return not torch.equal(first, embedder(batch))
