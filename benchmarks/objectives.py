"""Every objective against the floor of its three matrix products, and against pytorch-metric-learning.

    python benchmarks/objectives.py              # forward + backward, fp32, D=128, 4 per class, N=1024 and 4096
    python benchmarks/objectives.py --rivals     # CPU time of one thread, N=64, 256 and 1024, class level with 64 and
                                                 # 50,000 classes, against pytorch-metric-learning (in the `dev` group)
    python benchmarks/objectives.py --memory     # N=16,384: peak memory beyond inputs and gradients, a process each
    python benchmarks/objectives.py --gpu        # N=65,536 in batch, and 256 × 10,000,000: time, memory, error

The floor is QKᵀ, GK and GᵀQ of the same sizes. Rounds are interleaved and the best of each is kept: machines are
shared. Class-level objectives have as many proxies as the batch has classes, so their floor is a quarter; with --rivals
they have 64 and 50,000. --rivals measures CPU time, which other programs of the machine disturb less.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from instance import interleaved
from torch import Tensor, nn
from torch.nn import functional

from likewise import objectives as lw

DIM, PER_CLASS = 128, 4
Make = Callable[[int], nn.Module]

LOG_SUM_EXP: dict[str, Make] = {
    "UnifiedPairSimilarity": lambda _: lw.UnifiedPairSimilarity(),
    "Circle": lambda _: lw.Circle(),
    "InfoNCE (each)": lambda _: lw.InfoNCE(),
    "InfoNCE (sum)": lambda _: lw.InfoNCE(positives="sum"),
    "SupCon": lambda _: lw.SupCon(),
    "NPair": lambda _: lw.NPair(),
    "MultiSimilarity, mined": lambda _: lw.MultiSimilarity(),
    "LiftedStructure, generalised": lambda _: lw.LiftedStructure(generalised=True),
}
CLASS_LEVEL: dict[str, Make] = {
    "Softmax": lambda n: lw.Softmax(n, DIM),
    "L2Softmax": lambda n: lw.L2Softmax(n, DIM),
    "LargeMarginSoftmax": lambda n: lw.LargeMarginSoftmax(n, DIM),
    "ASoftmax": lambda n: lw.ASoftmax(n, DIM),
    "NormFace": lambda n: lw.NormFace(n, DIM),
    "AMSoftmax": lambda n: lw.AMSoftmax(n, DIM),
    "ArcFace": lambda n: lw.ArcFace(n, DIM),
    "CircleClassifier": lambda n: lw.CircleClassifier(n, DIM),
}
OTHERS: dict[str, Make] = {
    "Contrastive": lambda _: lw.Contrastive(),
    "Margin": lambda _: lw.Margin(),
    "Triplet, squared": lambda _: lw.Triplet(),
    "Triplet, euclidean": lambda _: lw.Triplet(distance="euclidean"),
    "Triplet, soft": lambda _: lw.Triplet(soft=True),
    "Angular": lambda _: lw.Angular(),
    "LiftedStructure": lambda _: lw.LiftedStructure(),
    "Histogram": lambda _: lw.Histogram(),
}
EVERY = LOG_SUM_EXP | CLASS_LEVEL | OTHERS


def batch(n: int, device: str = "cpu") -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    rows = functional.normalize(torch.randn(n, DIM, device=device), dim=1).requires_grad_()
    return rows, torch.arange(n // PER_CLASS, device=device).repeat(PER_CLASS)[torch.randperm(n, device=device)]


def step_of(objective: nn.Module, rows: Tensor, ids: Tensor) -> Callable[[], None]:
    def step() -> None:
        rows.grad = None
        objective.zero_grad()
        objective(rows, ids).backward()

    return step


def floor_of(n: int, keys: int) -> Callable[[], None]:
    q, k, g = torch.randn(n, DIM), torch.randn(keys, DIM), torch.randn(n, keys)

    def floor() -> None:
        _ = q @ k.T, g @ k, g.T @ q

    return floor


def times(sizes: list[int], only: str) -> None:
    heads = " | ".join(f"N={n}: ms, × floor" for n in sizes)
    print(f"| objective | {heads} | target |\n|-|{'-|' * (len(sizes) + 1)}")
    for name, make in EVERY.items():
        if only.lower() not in name.lower():
            continue
        cells = []
        for n in sizes:
            rows, ids = batch(n)
            keys = n // PER_CLASS if name in CLASS_LEVEL else n
            rounds = 60 if n <= 1024 else 12
            best = interleaved({"it": step_of(make(keys), rows, ids), "floor": floor_of(n, keys)}, rounds)
            cells.append(f"{best['it'] * 1e3:.1f}, {best['it'] / best['floor']:.2f}×")
        print(f"| {name} | {' | '.join(cells)} | {'4' if name in OTHERS else '2.0, 1.6'} |", flush=True)


class OnePairPerClass(nn.Module):
    """N-pair as the peer has it: the first two rows of each class, an anchor and its positive, and no penalty."""

    def __init__(self) -> None:
        super().__init__()
        self.objective = lw.NPair(penalty=0.0)

    def forward(self, rows: Tensor, ids: Tensor) -> Tensor:
        pairs = ids.argsort(stable=True).view(-1, PER_CLASS)[:, :2].T.flatten()
        anchors, positives = rows.index_select(0, pairs).chunk(2)
        anchor_ids, positive_ids = ids[pairs].chunk(2)
        return self.objective(anchors, anchor_ids, positives, positive_ids)


Peer = tuple[Callable[[], nn.Module], Callable[[], Callable[[Tensor, Tensor], Tensor]]]


def peers() -> dict[str, Peer]:
    """The pair-level losses that both have: ours, and theirs, each at the peer's own settings."""
    from pytorch_metric_learning import distances, losses, miners

    def mined(loss: nn.Module, miner: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda rows, ids: loss(rows, ids, miner(rows, ids))

    euclidean = distances.LpDistance(power=2)
    return {
        "Circle": (lw.Circle, losses.CircleLoss),
        "InfoNCE / NTXent": (lw.InfoNCE, losses.NTXentLoss),
        "SupCon": (lw.SupCon, losses.SupConLoss),
        "NPair, one pair per class": (OnePairPerClass, losses.NPairsLoss),
        "MultiSimilarity, mined": (
            lw.MultiSimilarity,
            lambda: mined(losses.MultiSimilarityLoss(), miners.MultiSimilarityMiner()),
        ),
        "LiftedStructure": (lw.LiftedStructure, losses.LiftedStructureLoss),
        "LiftedStructure, generalised": (
            lambda: lw.LiftedStructure(generalised=True),
            losses.GeneralizedLiftedStructureLoss,
        ),
        "Contrastive": (lambda: lw.Contrastive(squared=False), losses.ContrastiveLoss),
        "Triplet": (lw.Triplet, lambda: losses.TripletMarginLoss(margin=0.2, distance=euclidean)),
        "Triplet, soft": (
            lambda: lw.Triplet(soft=True),
            lambda: losses.TripletMarginLoss(margin=0.2, distance=euclidean, smooth_loss=True),
        ),
        "Margin": (lw.Margin, losses.MarginLoss),
        "Angular": (lw.Angular, losses.AngularLoss),
        "Histogram": (lw.Histogram, lambda: losses.HistogramLoss(n_bins=100)),
    }


def class_peers(n: int) -> dict[str, Peer]:
    """The class-level losses that both have, with n classes."""
    from pytorch_metric_learning import losses

    return {
        "NormFace": (lambda: lw.NormFace(n, DIM), lambda: losses.NormalizedSoftmaxLoss(n, DIM)),
        "LargeMarginSoftmax": (lambda: lw.LargeMarginSoftmax(n, DIM), lambda: losses.LargeMarginSoftmaxLoss(n, DIM)),
        "ASoftmax / SphereFace": (lambda: lw.ASoftmax(n, DIM), lambda: losses.SphereFaceLoss(n, DIM)),
        "AMSoftmax / CosFace": (lambda: lw.AMSoftmax(n, DIM), lambda: losses.CosFaceLoss(n, DIM)),
        "ArcFace": (lambda: lw.ArcFace(n, DIM), lambda: losses.ArcFaceLoss(n, DIM)),
    }


TOO_LARGE = {"InfoNCE / NTXent": 512, "LiftedStructure": 512}  # beyond, theirs needs tens of GiB
CLASSES = 64, 50_000


def rivals(sizes: list[int], only: str) -> None:
    torch.set_num_threads(1)
    ratios = []

    def row(name: str, peer: Peer, keys: int | None) -> str:
        cells = []
        for n in sizes:
            if n > TOO_LARGE.get(name, n):
                cells.append("–")
                continue
            rows, ids = batch(n)
            ids = ids if keys is None else torch.arange(n) % keys
            best = against(peer, rows, ids, n if keys is None else keys)
            ratios.append(best["theirs"] / best["ours"])
            floor = f", {best['ours'] / best['floor']:.2f}× floor" if keys and keys > n else ""
            cells.append(f"{best['ours'] * 1e3:.2f} ms, **{ratios[-1]:.2f}×**{floor}")
        return f"| {name} | {' | '.join(cells)} |"

    print("CPU time of one thread: ours, theirs / ours, and against the floor where classes outnumber rows\n")
    print(f"| | {' | '.join(f'N={n}' for n in sizes)} |\n|-|{'-|' * len(sizes)}")
    for name, peer in peers().items():
        if only.lower() in name.lower():
            print(row(name, peer, None), flush=True)
    for classes in CLASSES:
        for name, peer in class_peers(classes).items():
            if only.lower() in name.lower():
                print(row(f"{name}, {classes:,} classes", peer, classes), flush=True)
    print(f"\nsmallest {min(ratios):.2f}×, median {statistics.median(ratios):.1f}×")


def against(made: Peer, rows: Tensor, ids: Tensor, keys: int) -> dict[str, float]:
    """The best CPU times, in seconds, of interleaved rounds of ours, theirs and the floor."""
    objective, peer = (make() for make in made)
    weights = [*objective.parameters(), *(peer.parameters() if isinstance(peer, nn.Module) else ()), rows]

    def step(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], None]:
        def run() -> None:
            for weight in weights:
                weight.grad = None
            loss(rows, ids).backward()

        return run

    start = time.process_time()
    step(peer)()
    rounds = max(3, min(300, int(3 / (time.process_time() - start))))
    tasks = {"ours": step(objective), "theirs": step(peer), "floor": floor_of(len(rows), keys)}
    return interleaved(tasks, rounds, time.process_time)


def memory_of(name: str, n: int) -> None:
    """Prints the peak of one step beyond inputs and gradients, in MiB. Run in a process of its own."""
    rows, ids = batch(n)
    objective = EVERY[name](n // PER_CLASS)
    small, small_ids = batch(64)
    EVERY[name](64 // PER_CLASS)(small, small_ids).backward()  # threads, libraries
    rows.grad = torch.zeros_like(rows)
    for parameter in objective.parameters():
        parameter.grad = torch.zeros_like(parameter)
    _ = rows.detach() @ rows.detach()[:64].T  # the matrix library's own buffers
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    objective(rows, ids).backward()
    print(f"{(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024:.1f}")


def memory(n: int, only: str) -> None:
    print(f"| objective | peak beyond inputs and gradients at N={n:,}, MiB |\n|-|-|")
    for name in EVERY:
        if only.lower() in name.lower():
            command = [sys.executable, __file__, "--memory-of", name, "--sizes", str(n)]
            found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            print(f"| {name} | {found} |", flush=True)


def gpu() -> None:
    """In-batch InfoNCE and Circle at N=65,536 and the non-parametric softmax over 10,000,000 keys."""

    def timed(task: Callable[[], object]) -> tuple[float, float]:
        task()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        start = time.perf_counter()
        for _ in range(3):
            task()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / 3, (torch.cuda.max_memory_allocated() - before) / 2**20

    rows, ids = batch(65_536, "cuda")
    fixed = rows.detach()

    def floor(block: int = 4096) -> None:
        for start in range(0, len(fixed), block):
            tile = fixed[start : start + block] @ fixed.T
            _ = tile @ fixed, tile.T @ fixed[start : start + block]

    floor_time, _ = timed(floor)
    for name, objective in {"InfoNCE": lw.InfoNCE(reduction="none"), "Circle": lw.Circle(reduction="none")}.items():
        mean = type(objective)()
        took, peak = timed(step_of(mean, rows, ids))
        keep = torch.arange(256, device="cuda")
        exact = objective(fixed[keep].double(), ids[keep], fixed.double(), ids, own=keep)
        with torch.no_grad():
            error = (objective(fixed[keep], ids[keep], fixed, ids, own=keep) - exact).abs().max()
        ratio = took / floor_time
        print(f"{name}, N=65,536: {took * 1e3:.0f} ms, {ratio:.2f}× floor, {peak:.0f} MiB, error {error:.1e}")
    bank = functional.normalize(torch.randn(10_000_000, DIM, device="cuda"), dim=1)
    queries, ids = bank[:256].clone().requires_grad_(), torch.arange(256, device="cuda")
    softmax = lw.NonParametricSoftmax()
    took, peak = timed(lambda: softmax(queries, ids, bank).backward())

    def bank_floor(block: int = 65_536) -> None:
        for start in range(0, len(bank), block):
            _ = (queries.detach() @ bank[start : start + block].T) @ bank[start : start + block]

    floor_time, _ = timed(bank_floor)
    part = bank[:1_000_000]
    error = (softmax(queries, ids, part) - softmax(queries.double(), ids, part.double())).abs()
    print(
        f"NonParametricSoftmax, 256 × 10,000,000: {took * 1e3:.0f} ms, {took / floor_time:.2f}× floor, {peak:.0f} MiB, "
        f"error on 1,000,000 keys {error.item():.1e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rivals", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--memory-of", default="", help=argparse.SUPPRESS)
    parser.add_argument("--only", default="", help="objectives whose name has this")
    parser.add_argument("--sizes", type=int, nargs="+")
    given = parser.parse_args()
    if given.memory_of:
        memory_of(given.memory_of, given.sizes[0])
    elif given.memory:
        memory((given.sizes or [16_384])[0], given.only)
    elif given.rivals:
        rivals(given.sizes or [64, 256, 1024], given.only)
    elif given.gpu:
        gpu()
    else:
        times(given.sizes or [1024, 4096], given.only)


if __name__ == "__main__":
    main()
