"""Mining: every policy against the floor of one matrix product, and against pytorch-metric-learning's miner and loss.

    python benchmarks/mining.py              # forward + backward, fp32, D=128, N=1024, 4 per class
    python benchmarks/mining.py --n 4096     # ours alone: the peer would list billions of triplets
    python benchmarks/mining.py --memory     # peak memory beyond inputs and gradients at N=16,384

The floor is QKᵀ of the same size. Rounds are interleaved and the best of each is kept: machines are shared. The peer
(in the `dev` group) is timed with the miner of the same name and the loss it is used with; the two sides choose the
same triplets, but for what is drawn.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from instance import interleaved
from objectives import DIM, batch, step_of
from torch import Tensor, nn

from likewise import negatives as policies
from likewise import objectives as lw

POLICIES: dict[str, Callable[[], nn.Module]] = {
    "all": lambda: lw.Triplet(),
    "semi-hard, inside the margin": lambda: lw.Mined(lw.Triplet(), negatives=policies.InsideMargin(0.2)),
    "semi-hard, hardest beyond": lambda: lw.Mined(lw.Triplet(), negatives=policies.HardestBeyond()),
    "batch-hard": lambda: lw.Mined(lw.Triplet(), negatives=policies.Hard(), positives="hard"),
    "distance-weighted": lambda: lw.Mined(lw.Margin(), negatives=policies.DistanceWeighted()),
    "multi-similarity": lambda: lw.MultiSimilarity(),
    "random": lambda: lw.Mined(lw.Triplet(), negatives=policies.Random()),
    "easy": lambda: lw.Mined(lw.Triplet(), negatives=policies.Easy()),
}
TARGETS = {
    "semi-hard, inside the margin": 50,
    "semi-hard, hardest beyond": 50,
    "distance-weighted": 50,
    "multi-similarity": 5,
}


def peers() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """The peer's miner and loss, for each policy that it has."""
    from pytorch_metric_learning import distances, losses, miners

    apart = distances.LpDistance(power=2)
    triplet = losses.TripletMarginLoss(0.2, distance=apart)

    def mined(loss: nn.Module, miner: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda rows, ids: loss(rows, ids, miner(rows, ids))

    inside = mined(triplet, miners.TripletMarginMiner(0.2, "semihard", distance=apart))
    return {
        "all": lambda rows, ids: triplet(rows, ids),
        "semi-hard, inside the margin": inside,
        "semi-hard, hardest beyond": inside,  # the peer's is of all triplets, or of one positive an anchor
        "batch-hard": mined(triplet, miners.BatchHardMiner(distance=apart)),
        "distance-weighted": mined(losses.MarginLoss(), miners.DistanceWeightedMiner()),
        "multi-similarity": mined(losses.MultiSimilarityLoss(), miners.MultiSimilarityMiner()),
    }


def times(n: int, rivals: bool, only: str, rounds: int) -> None:
    theirs = peers() if rivals else {}
    print("| policy | ours, ms | × floor | peer, ms | ours is quicker by | target |\n|-|-|-|-|-|-|")
    for name, make in POLICIES.items():
        if only not in name:
            continue
        rows, ids = batch(n)
        keys = rows.detach()
        runs = {"it": step_of(make(), rows, ids), "floor": lambda keys=keys: keys @ keys.T}
        best = interleaved(runs, rounds)
        cells = f"{best['it'] * 1e3:.1f} | {best['it'] / best['floor']:.1f}"
        if name not in theirs:
            print(f"| {name} | {cells} | | | |", flush=True)
            continue
        peer = step_of_peer(theirs[name], rows, ids)
        start = time.perf_counter()
        peer()
        again = 1 if time.perf_counter() - start > 2 else 8
        beside = interleaved({"it": runs["it"], "peer": peer}, again)
        best["it"], best["peer"] = min(best["it"], beside["it"]), beside["peer"]
        ratio = best["peer"] / best["it"]
        print(f"| {name} | {cells} | {best['peer'] * 1e3:,.0f} | {ratio:.1f}× | {TARGETS.get(name, '')} |", flush=True)


def step_of_peer(loss: Callable[[Tensor, Tensor], Tensor], rows: Tensor, ids: Tensor) -> Callable[[], None]:
    def step() -> None:
        rows.grad = None
        loss(rows, ids).backward()

    return step


def memory(n: int) -> None:
    """Peak memory beyond inputs and gradients, a process for each policy."""
    print("| policy | MiB |\n|-|-|")
    for name in POLICIES:
        command = [sys.executable, __file__, "--peak", name, "--n", str(n)]
        print(f"| {name} | {subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()} |")


def peak(name: str, n: int) -> None:
    small, ids = batch(256)
    step_of(POLICIES[name](), small, ids)()  # what loads lazily
    rows, ids = batch(n)
    rows.grad = torch.zeros_like(rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step_of(POLICIES[name](), rows, ids)()
    beyond = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 - n * DIM * 4 / 2**20
    print(f"{max(0.0, beyond):.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=None, help="rows of the batch")
    parser.add_argument("--only", default="", help="policies whose name has this")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        peak(arguments.peak, arguments.n)
    elif arguments.memory:
        memory(arguments.n or 16_384)
    else:
        n = arguments.n or 1024
        times(n, n <= 1024, arguments.only, arguments.rounds)


if __name__ == "__main__":
    main()
