"""Proves, on the user's machine, that processes, stops and micro-batches do not change what a method learns.

Every comparison trains the same few steps twice, in fresh processes, and compares everything that was learned: losses,
gradients, weights, and the dictionary. It uses few items and steps, but the run's own encoder, views, objective,
dictionary and optimizer, and the training step of ``fit``.
"""

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from likewise.config.overrides import assigned
from likewise.console import Tick, stages, untold
from likewise.encoders.gradient_cache import normalises_batches
from likewise.errors import LikewiseError
from likewise.model import Model
from likewise.proof.jobs import STEPS, Job, Learned, Results, Unlearned, started
from likewise.proof.small_run import Plan, draws_random_numbers, in_parts, make_plan, remark_on_parts
from likewise.text import readable
from likewise.training.batches import choose_sampler
from likewise.training.checkpoint import CHECKPOINT

HALF = 2  # the step of STEPS after which the run is killed
ROUNDING = 1e-9  # a difference up to this is rounding: float64 sums in another order
MOST = 1e-5  # the largest tolerance for an encoder that magnifies rounding
MAGNIFIED = 10.0  # the tolerance is this multiple of the effect of changed last bits
LIMIT = 300.0  # seconds; processes that take longer probably wait for each other
KINDS = ("loss", "gradients", "weights", "dictionary")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two ways to train the same steps, and how far their results are apart.

    Args:
        name: what is compared.
        differences: for loss, gradients, weights and dictionary, the largest difference, relative to the largest value
            of the same kind and module. 0: no bit differs. Infinite: a value is missing, is NaN, or has another shape.
            A kind without values is left out.
        hashes_equal: whether all processes had the same bytes after every step; for the resumed run, whether it had the
            same bytes as the uninterrupted run. None where there is nothing to compare.
        tolerance: the largest difference that counts as rounding.
        remark: what was changed for the comparison.
        impossible: why the comparison is not possible with these settings; empty if it is.
        broken: how the training processes ended; empty if they finished.
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
        """The largest of the differences."""
        return max(self.differences.values(), default=0.0)

    @property
    def verdict(self) -> Literal["equal", "DIFFERENT", "BROKEN", "impossible"]:
        """The result in one word."""
        if self.impossible or self.broken:
            return "impossible" if self.impossible else "BROKEN"
        return "equal" if self.largest <= self.tolerance and self.hashes_equal is not False else "DIFFERENT"


def verify(
    run_or_method: str | Path,
    data: object = None,
    settings: Mapping[str, Any] | None = None,
    *,
    backbone: nn.Module | None = None,
) -> list[Comparison]:
    """Trains a few steps of a run or method in several ways that must agree, and compares what was learned.

    It compares two processes with one, a killed and resumed run with an uninterrupted one (bit for bit), and
    micro-batches with the full batch. Training runs on the CPU, in fresh processes of one thread each.

    Args:
        run_or_method: a run folder, or the name of a method.
        data: the data to train on, of which at most 43 items are used. Default: the run's own data, or made-up items if
            there are none.
        settings: overrides by dotted name, as in ``fit``.
        backbone: the run's own module. Its class must be importable, because other processes receive the module.

    Raises:
        LikewiseError: an unknown run or method, or data or settings that no run could use. A difference raises no
            error: see ``Comparison.verdict``.

    Cost: about 10 s for a small encoder.
    """
    return prove(make_plan(run_or_method, data, settings, backbone=backbone))


def prove(plan: Plan, begin: Callable[[str], Tick] | None = None) -> list[Comparison]:
    """The comparisons of a plan. Both sides of each comparison train in fresh processes. ``begin`` shows a bar."""
    stage = begin or (lambda what: untold)
    s, model = plan.settings, Model.untrained(plan.settings, plan.items, backbone=deepcopy(plan.backbone))
    total = s.epochs * choose_sampler(s, plan.items, plan.relations).steps_per_epoch
    job = Job(
        settings=replace(s, precision="fp32"),
        items=plan.items,
        relations=plan.relations,
        backbone=plan.backbone,
        total=total,
    )
    own = replace(job, settings=s, double=False)  # the run's own precision
    jobs = {"one": job, "own": own}
    normalises, random = normalises_batches(model.embedder), draws_random_numbers(model, plan.items)
    not_shared = not_in_parts = ""
    if random:
        not_shared = "the encoder draws random numbers (dropout), and each process draws them for its own rows alone"
    try:
        parted = in_parts(job.settings, grouped=normalises or random)
        jobs |= {"parts": replace(job, settings=parted)}
        jobs |= {"full": replace(job, settings=replace(parted, micro_batches=1))}
    except LikewiseError as error:
        not_in_parts = str(error)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        learned = _train(Path(name), jobs, own, None if not_shared else job, stage("training"))
        comparisons = [
            compare("2 processes ≡ 1", learned["one"], learned["shared"], impossible=not_shared),
            compare("resumed ≡ unstopped", learned["own"], learned["resumed"], resumed_at=HALF),
            compare(
                "micro-batch ≡ full",
                learned.get("full", []),
                learned.get("parts", []),
                remark=remark_on_parts(plan.asked, normalises, random),
                impossible=not_in_parts,
            ),
        ]
        if any(ROUNDING < each.largest <= MOST for each in comparisons):  # does the encoder magnify rounding?
            stage("how far rounding goes")
            with started(Path(name) / "jolted", {"one": replace(job, jolted=True)}, limit=LIMIT) as jolted:
                floor = compare("", learned["one"], jolted()["one"]).largest
            tolerance = min(MOST, max(ROUNDING, MAGNIFIED * floor))
            comparisons = [each if not each.tolerance else replace(each, tolerance=tolerance) for each in comparisons]
    return comparisons


def _train(place: Path, jobs: Mapping[str, Job], own: Job, shared: Job | None, tick: Tick) -> Results:
    """The results of ``jobs``, of ``own`` killed and resumed ("resumed"), and of ``shared`` in two processes."""
    checkpoint = place / "run"
    checkpoint.mkdir()
    with (
        started(place / "alone", jobs, limit=LIMIT) as alone,
        started(place / "killed", {"own": replace(own, stop=HALF, killed=checkpoint)}, limit=LIMIT) as killed,
    ):
        tick(0.0)
        broken = _not_killed(killed()["own"][0], checkpoint / CHECKPOINT)
        tick(0.25)
        if broken is None:
            with started(place / "resumed", {"own": replace(own, resumes=checkpoint)}, limit=LIMIT) as resumed:
                continued = resumed()["own"]
        tick(0.5)
        learned = alone() | {"resumed": [broken] if broken is not None else continued, "shared": []}
    tick(0.75)
    if shared is not None:
        with started(place / "shared", {"one": shared}, count=2, limit=LIMIT) as two:
            learned["shared"] = two()["one"]
    return learned


def _not_killed(ended: Learned | Unlearned, checkpoint: Path) -> Unlearned | None:
    """Why the job that is killed after its checkpoint left nothing to resume; None if it can be resumed."""
    if isinstance(ended, Unlearned) and not ended.killed:
        return ended
    if isinstance(ended, Learned) or not checkpoint.exists():
        how = "was not killed" if isinstance(ended, Learned) else f"was killed before it had written {checkpoint.name}"
        return Unlearned(f"the process that was to be killed at step {HALF} {how}", False)
    return None


def main(run_or_method: str, data: object, assignments: Sequence[str]) -> int:
    """``likewise verify``: prints the table. Returns 0 if all results are equal, 1 if one differs or a run broke."""
    plan = make_plan(run_or_method, data, assigned(assignments))
    print(
        *map(readable, plan.notes),
        f"Training {STEPS} steps in 5 fresh processes; this takes about ten seconds ...",
        sep="\n",
        flush=True,
    )
    with stages() as begin:
        comparisons = prove(plan, begin)
    print_table(comparisons)
    if all(each.verdict in ("equal", "impossible") for each in comparisons):
        return 0
    print("The difference is not your mistake: please report it, with this table and the settings.")
    return 1


def print_table(comparisons: Sequence[Comparison]) -> None:
    """Prints a table with a line for each comparison, and the remarks below it."""
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
            console.print(readable(f"{each.name}: {said}"), markup=False, highlight=False, soft_wrap=True)
    rounding = max(each.tolerance for each in comparisons)
    magnified = "" if rounding <= ROUNDING else ", because this encoder magnifies it (measured by changing last bits)"
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
    learned: Sequence[Learned | Unlearned],
    *,
    resumed_at: int = 0,
    remark: str = "",
    impossible: str = "",
) -> Comparison:
    """Compares what several processes learned with what one process learned.

    Args:
        name: the name of the comparison.
        expected: the result of the one process, in a list.
        learned: the results of the other processes.
        resumed_at: the step at which training was resumed. If it is above 0, every bit must agree.
        remark: as in ``Comparison``.
        impossible: as in ``Comparison``.
    """
    tolerance = 0.0 if resumed_at else ROUNDING
    ends = (end for end in (*expected, *learned) if isinstance(end, Unlearned))
    failed = sorted(ends, key=lambda end: not end.refused)
    if impossible or failed:
        refused = impossible or (failed[0].reason if failed[0].refused else "")
        broken = "" if refused else failed[0].reason
        result = Comparison(name=name, differences={}, hashes_equal=None, tolerance=tolerance, remark=remark)
        return replace(result, impossible=refused, broken=broken)
    (wanted,), done = ([each for each in side if isinstance(each, Learned)] for side in (expected, learned))
    worst = [differences(wanted.values, each.values, resumed_at) for each in done]
    hashes = [each.hashes for each in done] + ([wanted.hashes[resumed_at:]] if resumed_at else [])
    return Comparison(
        name=name,
        differences={kind: max(each[kind] for each in worst) for kind in worst[0]},
        hashes_equal=all(each == hashes[0] for each in hashes) if len(hashes) > 1 else None,
        tolerance=tolerance,
        remark=remark,
    )


def differences(expected: Mapping[str, Tensor], learned: Mapping[str, Tensor], resumed_at: int = 0) -> dict[str, float]:
    """For each kind, the largest difference, relative to the largest value of its module; see ``Comparison``."""
    modules: dict[str, list[str]] = {}
    for name in sorted(expected.keys() | learned.keys()):
        modules.setdefault(".".join(name.split(".")[:2]), []).append(name)
    worst = dict[str, float]()
    for module, names in modules.items():
        kind = module.split(".")[0]
        pairs = [(expected.get(name), learned.get(name)) for name in names]
        if kind == "loss":
            pairs = [(None if a is None else a[resumed_at:], b) for a, b in pairs]
        worst[kind] = max(worst.get(kind, 0.0), _apart(pairs))
    return worst


def _apart(pairs: Sequence[tuple[Tensor | None, Tensor | None]]) -> float:
    """The largest difference of one module's tensors, relative to their largest value; infinite between integers."""
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
