"""Losses and measures of ranked lists: CPU time of one thread beside one masked log-softmax, and memory.

    python benchmarks/ranking.py                        # 256 lists of 1,000 items
    python benchmarks/ranking.py --lists 64 --items 200

The floor is ``log_softmax`` of the masked scores with its gradient. Each objective computes its loss and the gradient
of the scores; the rounds are interleaved, and the smallest of each is shown. Relevance: grades 0 to 4, all of them
common ("dense"), or 10 relevant items a list ("sparse"), for pairs are made by the better items alone. Memory is by how
much a step raises the peak of a process of its own, after the floor. The last line is NDCG, MAP, MRR, hits and recall
of a million queries.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from likewise import objectives
from likewise.metrics import Ranking

NAMES = (
    *("Regression", "Logistic", "Ordinal", "ListNet", "ListSoftmax", "ListMLE"),
    *("RankNet", "PairHinge", "LambdaRank", "ApproxNDCG"),
)


def lists(count: int, items: int, *, sparse: bool) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    relevance = torch.randint(0, 5, (count, items)).float()
    if sparse:
        relevance[:, 10:] = 0
    mask = torch.arange(items) < torch.randint(items // 2, items + 1, (count, 1))
    return torch.randn(count, items, requires_grad=True), relevance, mask


def floor(scores: Tensor, relevance: Tensor, mask: Tensor) -> None:
    logs = torch.log_softmax(scores.masked_fill(~mask, -1e9), 1)
    torch.autograd.grad(logs.masked_fill(~mask, 0).sum(), scores)


def step(name: str, scores: Tensor, relevance: Tensor, mask: Tensor) -> None:
    torch.autograd.grad(vars(objectives)[name]()(scores, relevance, mask), scores)


def seconds(call: Callable[[], None]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def peak() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(name: str, count: int, items: int) -> str:
    """MiB beyond the inputs, in a process of its own."""
    words = [sys.executable, __file__, "--memory", name, "--lists", str(count), "--items", str(items)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def million() -> None:
    meter = Ranking()
    scores, relevance, _ = lists(20_000, 50, sparse=False)
    before = peak()
    taken = sum(seconds(lambda: meter.update(scores, relevance)) for _ in range(50))
    found = meter.compute()
    about = f"{taken:.1f} s, {peak() - before:.0f} MiB; NDCG@10 {found['ndcg@10'].interval()}"
    print(f"{len(meter):,} queries of 50: {about}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lists", type=int, default=256)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", choices=NAMES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.memory:
        made = lists(given.lists, given.items, sparse=False)
        floor(*made)
        before = peak()
        step(given.memory, *made)
        print(f"{peak() - before:.0f}")
        return
    print(f"{given.lists} lists of {given.items}, float32, one thread\n")
    print("| objective | dense, ms | × floor | sparse, ms | × floor | MiB |\n|-|-|-|-|-|-|")
    times: dict[tuple[str, bool], float] = {}
    for sparse in (False, True):
        made = lists(given.lists, given.items, sparse=sparse)
        for _ in range(given.rounds):
            for name in ("floor", *NAMES):
                taken = seconds(lambda n=name, m=made: floor(*m) if n == "floor" else step(n, *m))  # type: ignore[misc]
                times[name, sparse] = min(taken, times.get((name, sparse), taken))
    for name in ("floor", *NAMES):
        cells = [f"{times[name, s] * 1e3:.1f} | {times[name, s] / times['floor', s]:.1f}" for s in (False, True)]
        print(f"| {name} | {' | '.join(cells)} | {'' if name == 'floor' else memory(name, given.lists, given.items)} |")
    print()
    million()


if __name__ == "__main__":
    main()
