"""The same training with pytorch-metric-learning's loss and miner in place of ours: accuracy, and the time of a step.

    python benchmarks/pml_training.py                        # 3 losses, 5 rotations of alphabets, 2 seeds: an hour
    python benchmarks/pml_training.py --only circle --rotations 0 1 --steps 50
    python benchmarks/pml_training.py --times                # the time of a step alone

Encoder and its first weights, views, batches, optimizer, rate and steps are ours on both sides, from the same seeds;
only the objective is exchanged. On Omniglot as in omniglot.py: three alphabets train, characters of the two others are
retrieved. Given is the difference of each pair of trainings, mean ± standard deviation, and p of a paired t-test: a
sum in another order moves a training as another seed does, so equal losses differ by noise, too.

Times are the best of interleaved rounds: the whole step, and the objective alone (forward and backward on the batch's
embeddings). pytorch-metric-learning is in the `dev` group. Needs LIKEWISE_DATA/omniglot-small.
"""

import argparse
import hashlib
import inspect
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import torch
from instance import interleaved
from omniglot import SETTINGS, drawings, rotations
from torch import Tensor, nn
from views import ROOT, cpu

from likewise.comparison.answers import fingerprint
from likewise.comparison.equal import equalised, resolved
from likewise.comparison.statistics import paired_t
from likewise.comparison.table import measured
from likewise.config.overrides import flatten
from likewise.config.settings import FitSettings
from likewise.data import Items
from likewise.model import Model
from likewise.objectives.interface import Objective
from likewise.stamp import code_digest
from likewise.training.loop import train
from likewise.training.run import Run
from likewise.training.run import begin as begin_run
from likewise.training.step import train_step

STEPS_TIMED = 12
MEASURES = {"recall@1": "Recall@1", "map@r": "MAP@R"}


class Peer(Objective):
    """The peer's loss over the batch, in the place of an objective of ours."""

    def __init__(self, loss: nn.Module, miner: nn.Module | None = None) -> None:
        super().__init__()
        self.loss, self.miner = loss, miner

    def forward(self, rows: Tensor, ids: Tensor) -> Tensor:
        found: Tensor = self.loss(rows, ids, None if self.miner is None else self.miner(rows, ids))
        return found

    def against(self, queries: Tensor, ids: Tensor, keys: object) -> Tensor:
        return self(queries, ids)


def peer_of(name: str) -> Peer:
    from pytorch_metric_learning import distances, losses, miners

    apart = distances.LpDistance(power=2)
    peers: dict[str, Callable[[], Peer]] = {
        "circle": lambda: Peer(losses.CircleLoss(m=0.4, gamma=80)),
        "multi-similarity": lambda: Peer(
            losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5), miners.MultiSimilarityMiner(epsilon=0.1)
        ),
        "triplet, semi-hard": lambda: Peer(
            losses.TripletMarginLoss(0.2, distance=apart), miners.TripletMarginMiner(0.2, "semihard", distance=apart)
        ),
    }
    return peers[name]()


@dataclass(frozen=True, kw_only=True)
class Loss:
    """One that both sides have: our method, and what is set beside its defaults."""

    method: str
    settings: dict[str, Any] = field(default_factory=dict)


LOSSES = {
    "circle": Loss(method="circle"),
    "multi-similarity": Loss(method="ms"),
    "triplet, semi-hard": Loss(method="facenet", settings={"negatives.policies": ["inside-margin"]}),
}
SIDES = ("ours", "peer")


def settings_of(name: str, items: Items, seed: int, steps: int) -> FitSettings:
    loss = LOSSES[name]
    return resolved(replace(equalised(loss.method, SETTINGS | loss.settings, items), seed=seed), items, steps)


def key_of(name: str, side: str, items: Items, test: Items, seed: int, steps: int) -> str:
    """Digest of what a result hangs on: settings, items, the package's code, torch; the peer's version and numbers."""
    settings = flatten(settings_of(name, items, seed, steps))
    parts = [name, side, str(steps), json.dumps(settings), fingerprint(items), fingerprint(test)]
    parts += [code_digest(), torch.__version__]
    if side == "peer":
        parts += [version("pytorch-metric-learning"), inspect.getsource(Peer), inspect.getsource(peer_of)]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()


def begin(name: str, side: str, items: Items, seed: int, steps: int) -> Run:
    """A run before its first step."""
    settings = settings_of(name, items, seed, steps)
    model = Model.untrained(settings, items)
    run = begin_run(model, items, steps, torch.device("cpu"))
    if side == "peer":
        run.session.objective = peer_of(name)
    return run


def trained(name: str, side: str, items: Items, test: Items, seed: int, steps: int) -> dict[str, float]:
    """Measures on the test classes."""
    run = begin(name, side, items, seed, steps)
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        train(run, Path(folder), progress=False)
    return measured(run.model.features(test), test)[0]


def step_times(name: str, items: Items, rounds: int) -> dict[str, float]:
    """Seconds of a step, and of its objective alone, on both sides."""
    tasks: dict[str, Callable[[], None]] = {}
    for side in SIDES:
        run = begin(name, side, items, 0, STEPS_TIMED)
        session, seen = run.session, next(run.batches())
        rows = run.model.embedder(seen.views[0]).detach().requires_grad_()
        tasks[f"{side}, step"] = lambda session=session, seen=seen: train_step(session, seen)  # type: ignore[misc]
        tasks[f"{side}, objective"] = objective_alone(session.objective, rows, seen.ids)
    for task in tasks.values():
        task()
    return interleaved(tasks, rounds)


def objective_alone(objective: nn.Module, rows: Tensor, ids: Tensor) -> Callable[[], None]:
    def run() -> None:
        rows.grad = None
        objective(rows, ids).backward()

    return run


def print_times(names: list[str], items: Items, rounds: int) -> None:
    print("\n| loss | step, ms: ours | peer | peer / ours | objective alone, ms: ours | peer | peer / ours |")
    print("|-|-|-|-|-|-|-|")
    for name in names:
        best = step_times(name, items, rounds)
        cells = []
        for what in ("step", "objective"):
            ours, peer = best[f"ours, {what}"], best[f"peer, {what}"]
            cells.append(f"{ours * 1e3:.1f} | {peer * 1e3:.1f} | {peer / ours:.2f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def print_accuracies(lines: list[dict[str, Any]], names: list[str]) -> None:
    heads = " | ".join(f"{text}: ours | peer | difference | p" for text in MEASURES.values())
    print(f"\n| loss | {heads} | pairs |\n|-|{'-|' * (4 * len(MEASURES) + 1)}")
    for name in names:
        of_side = {
            side: {_cell(x): x["found"] for x in lines if (x["loss"], x["side"]) == (name, side)} for side in SIDES
        }
        both = sorted(set(of_side["ours"]) & set(of_side["peer"]))
        if len(both) < 2:
            continue
        cells = []
        for measure in MEASURES:
            ours, peer = ([100 * of_side[side][cell][measure] for cell in both] for side in SIDES)
            apart = [a - b for a, b in zip(ours, peer, strict=True)]
            spread = f"{statistics.mean(apart):+.1f} ± {statistics.stdev(apart):.1f}"
            cells.append(
                f"{statistics.mean(ours):.1f} | {statistics.mean(peer):.1f} | {spread} | {paired_t(apart):.2f}"
            )
        print(f"| {name} | {' | '.join(cells)} | {len(both)} |")


def run_missing(
    cells: list[tuple[int, int, str, str]], parts: list[tuple[Items, Items]], steps: int, path: Path
) -> list[dict[str, Any]]:
    """Trains what has no line yet in the results with the key of the present settings and code; the cells' lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.read_text() if path.exists() else ""
    known = {line["key"]: line for line in map(json.loads, text.splitlines()) if "key" in line}
    lines = []
    for rotation, seed, name, side in cells:
        key = key_of(name, side, *parts[rotation], seed, steps)
        if key in known:
            lines.append(known[key])
            continue
        found = trained(name, side, *parts[rotation], seed, steps)
        asked = {"rotation": rotation, "seed": seed, "loss": name, "side": side, "steps": steps, "key": key}
        lines.append(asked | {"found": found})
        with path.open("a") as file:
            file.write(json.dumps(lines[-1]) + "\n")
        said = ", ".join(f"{text} {100 * found[x]:.1f}" for x, text in MEASURES.items())
        print(f"rotation {rotation}, seed {seed}, {name}, {side}: {said}", file=sys.stderr, flush=True)
    return lines


def _cell(line: dict[str, Any]) -> tuple[int, int]:
    return line["rotation"], line["seed"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(LOSSES), choices=list(LOSSES), metavar="LOSS")
    parser.add_argument("--rotations", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=20, help="of the timing")
    parser.add_argument("--times", action="store_true", help="only time a step")
    parser.add_argument("--results", type=Path, default=ROOT / "runs" / "pml_training.jsonl")
    arguments = parser.parse_args()
    path = drawings()
    torch.set_num_threads(arguments.threads)
    parts = rotations(path)
    print(f"{cpu()}, {arguments.threads} threads, torch {torch.__version__}")
    if not arguments.times:
        cells = product(arguments.rotations, range(arguments.seeds), arguments.only, SIDES)
        lines = run_missing(list(cells), parts, arguments.steps, arguments.results)
        print_accuracies(lines, arguments.only)
    print_times(arguments.only, parts[0][0], arguments.rounds)


if __name__ == "__main__":
    main()
