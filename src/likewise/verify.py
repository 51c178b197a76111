"""The proof that processes, stops and micro-batches do not change what is learned, on one's own machine and method.

Every comparison trains the same few steps twice, in fresh processes, and compares all that was learned: losses,
gradients, weights, and the dictionary. It is small (tens of items, a few steps) but real: the run's own encoder, views,
objective, dictionary and optimizer, and the training step of ``fit``.
"""

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from likewise.config import EXACT_ITEMS, FitSettings, closest, decide, flatten, settings_from
from likewise.config_checks import check
from likewise.data import Items, open_items
from likewise.data.relations import Pairs, Triplets
from likewise.encoders.parts import normalises_batches
from likewise.errors import LikewiseError
from likewise.methods import METHODS
from likewise.model import NAME as MODEL
from likewise.model import Model
from likewise.training.checkpoint import CHECKPOINT
from likewise.training.loop import choose_sampler
from likewise.training.run import CONFIG, assigned, read_config
from likewise.trials import STEPS, Job, Learned, Results, Unlearned, started

HALF = 2  # of STEPS: after it the run is killed
ITEMS, BATCH, SIDE = 43, 16, 32  # batches of 15, 14 and 14: uneven, and so are two processes' shares of the first
LARGE, FEW, SMALL_BATCH, SMALL_SIDE = 5_000_000, 22, 8, 16  # encoders of so many weights or more: batches of 8, 7 and 7
LEAST, LABELS = 8, 8  # items, and labels
ROUNDING, MOST = 1e-9, 1e-5  # of float64 sums in another order; and what no magnified rounding may pass
MAGNIFIED = 10.0  # times what changing last bits does, and still rounding
OF_MANY = (
    f"objective.kind=auto is nce here, as for more than {EXACT_ITEMS:,} items; --set objective.kind=softmax proves the "
    "exact softmax of fewer."
)
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
    def largest(self) -> float:
        """Of the differences."""
        return max(self.differences.values(), default=0.0)

    @property
    def verdict(self) -> Literal["equal", "DIFFERENT", "BROKEN", "impossible"]:
        """What came out."""
        if self.impossible or self.broken:
            return "impossible" if self.impossible else "BROKEN"
        return "equal" if self.largest <= self.tolerance and self.hashes_equal is not False else "DIFFERENT"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is trained, and in words how it differs from the run itself.

    Args:
        settings: the small ones.
        items: at most 43.
        relations: made-up pairs or triplets of these, where such say what is alike.
        notes: where the items are from, and what was made small: a sentence each.
        backbone: a module of one's own.
        asked: the settings as they were.
    """

    settings: FitSettings
    items: Items
    relations: Pairs | Triplets | None
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
    run, name = Path(run_or_method), str(run_or_method)
    is_run = (run / CONFIG).is_file()
    if not is_run and name not in METHODS:
        if run.is_dir():
            raise LikewiseError(f"{run} holds no run ({CONFIG} is missing); give a run folder, or a method's name.")
        raise LikewiseError(
            f"there is no run folder and no method {name!r}.{closest(name, METHODS)} Methods: {', '.join(METHODS)}."
        )
    if is_run and backbone is None and _has_own_backbone(run):
        raise LikewiseError(f"{run} was trained with a backbone of one's own; verify it from Python with backbone=.")
    if isinstance(backbone, torch.jit.ScriptModule):
        raise LikewiseError("TorchScript can't be sent to the other processes; give the module that it was made of.")
    if "method" in (settings or {}):
        raise LikewiseError("the method is what is verified: name it instead of setting it.")
    asked = settings_from(settings or {}, read_config(run) if is_run else METHODS[name].settings)
    items, note = _items(asked, data, run if is_run else None)
    if len(items) < LEAST:
        raise LikewiseError(f"{items.source} holds {len(items)} usable items; to verify takes at least {LEAST}.")
    decided = decide(asked, len(items) if is_run else max(len(items), EXACT_ITEMS + 1))
    plan = _made_small(check(decided), items, note, backbone)
    if asked.objective.kind == "auto" and decided.objective.kind == "nce" and not is_run:
        return replace(plan, notes=(*plan.notes, OF_MANY))
    return plan


def prove(plan: Plan) -> list[Comparison]:
    """The comparisons of a plan, each side trained in fresh processes."""
    s, model = plan.settings, Model.untrained(plan.settings, plan.items, backbone=deepcopy(plan.backbone))
    total = s.epochs * choose_sampler(s, plan.items, plan.relations).steps_per_epoch
    one = Job(
        settings=replace(s, precision="fp32"),
        items=plan.items,
        relations=plan.relations,
        backbone=plan.backbone,
        total=total,
    )
    own = replace(one, settings=s, double=False)  # the run's own precision
    jobs = {"one": one, "own": own}
    normalises, random = normalises_batches(model.embedder), _draws_random_numbers(model, plan.items)
    not_shared = not_in_parts = ""
    if random:
        not_shared = "the encoder draws random numbers (dropout), which each process draws for its own rows alone"
    try:
        in_parts = _in_parts(one.settings, grouped=normalises or random)
        jobs |= {"parts": replace(one, settings=in_parts)}
        jobs |= {"full": replace(one, settings=replace(in_parts, micro_batches=1))}
    except LikewiseError as error:
        not_in_parts = str(error)
    with tempfile.TemporaryDirectory() as name:
        learned = _train(Path(name), jobs, own, None if not_shared else one)
        found = [
            compare("2 processes ≡ 1", learned["one"], learned["shared"], impossible=not_shared),
            compare("resumed ≡ unstopped", learned["own"], learned["resumed"], resumed_at=HALF),
            compare(
                "micro-batch ≡ full",
                learned.get("full", []),
                learned.get("parts", []),
                remark=_remark_on_parts(plan.asked, normalises, random),
                impossible=not_in_parts,
            ),
        ]
        if any(ROUNDING < each.largest <= MOST for each in found):  # see whether the encoder magnifies rounding
            with started(Path(name) / "jolted", {"one": replace(one, jolted=True)}, limit=LIMIT) as jolted:
                floor = compare("", learned["one"], jolted()["one"]).largest
            tolerance = min(MOST, max(ROUNDING, MAGNIFIED * floor))
            found = [each if not each.tolerance else replace(each, tolerance=tolerance) for each in found]
    return found


def _train(place: Path, jobs: Mapping[str, Job], own: Job, shared: Job | None) -> Results:
    """What is learned in ``jobs``, by ``own`` killed and "resumed", and by "shared" in two processes."""
    checkpoint = place / "run"
    checkpoint.mkdir()
    with (
        started(place / "alone", jobs, limit=LIMIT) as alone,
        started(place / "killed", {"own": replace(own, stop=HALF, killed=checkpoint)}, limit=LIMIT) as killed,
    ):
        broken = _not_killed(killed()["own"][0], checkpoint / CHECKPOINT)
        if broken is None:
            with started(place / "resumed", {"own": replace(own, resumes=checkpoint)}, limit=LIMIT) as resumed:
                found = resumed()["own"]
        learned = alone() | {"resumed": [broken] if broken is not None else found, "shared": []}
    if shared is not None:
        with started(place / "shared", {"one": shared}, count=2, limit=LIMIT) as two:
            learned["shared"] = two()["one"]
    return learned


def _not_killed(ended: Learned | Unlearned, checkpoint: Path) -> Unlearned | None:
    """Why the process that was to be killed after its checkpoint left nothing to resume; None where it did."""
    if isinstance(ended, Unlearned) and not ended.killed:
        return ended
    if isinstance(ended, Learned) or not checkpoint.exists():
        how = "was not killed" if isinstance(ended, Learned) else f"was killed before it had written {checkpoint.name}"
        return Unlearned(f"the process that was to be killed at step {HALF} {how}", False)
    return None


def main(run_or_method: str, data: str | None, assignments: Sequence[str]) -> int:
    """``likewise verify``: prints the table; 0 when all is equal, 1 when something differs or broke."""
    plan = prepare(run_or_method, data, assigned(assignments))
    print(
        *plan.notes,
        f"Training {STEPS} steps in 5 fresh processes; this takes about half a minute ...",
        sep="\n",
        flush=True,
    )
    comparisons = prove(plan)
    print_table(comparisons)
    if all(each.verdict in ("equal", "impossible") for each in comparisons):
        return 0
    print("What differs is no mistake of yours: please report it, with this table and the settings.")
    return 1


def print_table(comparisons: Sequence[Comparison]) -> None:
    """The table on standard output: a line for each comparison, and its remark below."""
    table = Table(box=None, pad_edge=False)
    for header in ("compared", *KINDS, "hashes", "verdict"):
        table.add_column(header, no_wrap=True)
    for each in comparisons:
        numbers = [_number(each.differences.get(kind)) for kind in KINDS]
        hashes = {None: "–", True: "equal", False: "differ"}[each.hashes_equal]
        table.add_row(each.name, *numbers, hashes, each.verdict)
    console = Console()
    console.print(table)
    for each in comparisons:
        said = each.impossible or each.broken or each.remark
        if said:
            console.print(f"{each.name}: {said}", markup=False, highlight=False, soft_wrap=True)
    rounding = max(each.tolerance for each in comparisons)
    magnified = "" if rounding <= ROUNDING else ", as this encoder magnifies it: measured by changing last bits"
    console.print(
        "Differences are the largest, relative to the largest value of their kind. In float64 up to "
        f"{rounding:.0e} is rounding{magnified}; a resumed run is the same to the last bit.",
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
    resumed_at: int = 0,
    remark: str = "",
    impossible: str = "",
) -> Comparison:
    """How far what the processes of ``found`` learned is from what ``expected`` learned, in one process.

    Args:
        name: of the comparison.
        expected: one.
        found: one for each process.
        resumed_at: the step from which ``found`` trained; above 0 it must be the same to the last bit.
        remark: as in Comparison.
        impossible: why there is nothing to compare.
    """
    tolerance = 0.0 if resumed_at else ROUNDING
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


def _items(asked: FitSettings, data: object, run: Path | None) -> tuple[Items, str]:
    """All items, and where they are from in a sentence."""
    if data is not None:
        items = open_items(data, size=asked.size, labels="none", key=asked.key, cache=asked.cache)
        return items, f"Items: the first of {items.source}."
    kind, why = "vectors" if asked.encoder.name == "mlp" else "images", "no --data is given"
    if run is not None:
        about = _about(run)
        kind, source, why = about.get("kind", kind), about.get("source"), "the run's own can't be opened"
        try:
            if isinstance(source, str) and Path(source).exists():
                items = open_items(
                    source, size=asked.size, labels="none", key=asked.key, cache=asked.cache, progress=False
                )
                if items.kind == kind:
                    return items, f"Items: the first of the run's own, {source}."
        except LikewiseError:
            pass
    random, ids = np.random.default_rng(0), tuple(map(str, range(ITEMS)))
    note = f"Items: made-up {kind}, since {why}."
    if kind == "vectors":
        vectors = random.normal(size=(ITEMS, 16)).astype(np.float32)
        return Items(ids=ids, values=vectors, kind="vectors", source="made-up vectors"), note
    pixels = random.integers(0, 256, (ITEMS, asked.size, asked.size, 3), dtype=np.uint8)
    return Items(ids=ids, values=pixels, kind="images", source="made-up images"), note


def _has_own_backbone(run: Path) -> bool:
    """Whether a finished run says so; one that has not ended can't."""
    try:
        with safe_open(run / MODEL, "pt") as file:
            return bool(json.loads((file.metadata() or {})["likewise"])["own"])
    except (SafetensorError, OSError, KeyError, ValueError):
        return False


def _about(run: Path) -> dict[str, Any]:
    """A run's data.json; empty where it can't be read."""
    try:
        about = json.loads((run / "data.json").read_text())
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _made_small(asked: FitSettings, items: Items, note: str, backbone: nn.Module | None) -> Plan:
    """The plan with few items, small batches and images, and a queue that wraps around."""
    model = Model.untrained(asked, items, backbone=deepcopy(backbone))  # raises what no run could use
    large = sum(weight.numel() for weight in model.embedder.parameters()) >= LARGE
    count, batch, side = (FEW, SMALL_BATCH, SMALL_SIDE) if large else (ITEMS, BATCH, SIDE)
    items = items.select(np.arange(min(count, len(items))))
    items = replace(items, values=np.array(items.values), labels=None)
    if asked.alike == "label":  # the first items of a folder may all have one label
        items = replace(items, labels=np.arange(len(items)) % LABELS, label_names=tuple(map(str, range(LABELS))))
        note += f" Their labels are made-up, {LABELS} in turn."
    batch = min(asked.batch_size, batch, len(items))
    relations = _made_up(asked.alike, len(items), batch)
    if relations is not None:
        note += f" Their {asked.alike} are made-up too."
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
    if small.objective.kind == "nce":
        small = replace(small, objective=replace(asked.objective, noise=min(asked.objective.noise, 24)))
    small = replace(small, epochs=-(-STEPS // choose_sampler(small, items, relations).steps_per_epoch))
    if items.kind == "images" and small.size > side:
        try:
            smaller = replace(small, size=side)
            Model.untrained(smaller, items, backbone=deepcopy(backbone))
            small, items = smaller, _shrunk(items, side)
        except LikewiseError:
            pass  # an encoder that takes one size only
    before, after = flatten(asked), flatten(check(small))
    changed = [f"{name} {before[name]} → {value}" for name, value in after.items() if value != before[name]]
    notes = (note, f"Made small: {len(items)} items; {', '.join(changed)}.")
    return Plan(settings=small, items=items, relations=relations, notes=notes, backbone=backbone, asked=asked)


def _made_up(alike: str, count: int, batch: int) -> Pairs | Triplets | None:
    """Pairs or triplets of ``count`` items for three uneven batches of an epoch, as if the items had labels in turn."""
    if alike not in ("pairs", "triplets"):
        return None
    width, labels, random = (2 if alike == "pairs" else 3), min(LABELS, count // 2), np.random.default_rng(0)
    anchors = random.integers(0, count, max(1, 3 * (batch // width) - 1))
    near = [random.choice([j for j in range(a % labels, count, labels) if j != a]) for a in anchors]
    far = [random.choice([j for j in range(count) if j % labels != a % labels]) for a in anchors]
    if alike == "triplets":
        return Triplets(rows=torch.from_numpy(np.stack([anchors, near, far], 1)), source="made-up triplets")
    are_alike = np.arange(len(anchors)) % 2 == 0
    others = np.where(are_alike, near, far)
    rows = torch.from_numpy(np.stack([anchors, others], 1))
    return Pairs(rows=rows, alike=torch.from_numpy(are_alike), source="made-up pairs")


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
