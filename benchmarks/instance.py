"""Times and memory of the instance objectives: forward + backward, B=128, n=50,000, m=4096, D=128.

    python benchmarks/instance.py            # times, against a plain gather-based twin of NCE in the same run
    python benchmarks/instance.py --memory   # peak memory of the exact softmax at n=1,281,167, B=256

The floor is the matrix products alone. Rounds are interleaved and the best of each is kept: the machine may be shared.
"""

import argparse
import resource
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from likewise.dictionaries import MemoryBank
from likewise.objectives import NCE, NonParametricSoftmax

BATCH, ITEMS, NOISE, DIM, TAU = 128, 50_000, 4096, 128, 0.07


def gather_nce(queries: Tensor, ids: Tensor, keys: Tensor, log_z: float) -> Tensor:
    """NCE as papers' code writes it: a (B, m+1, D) gather and one batched product. Stated, not optimised."""
    rows = torch.randint(len(keys), (len(queries), NOISE + 1))
    rows[:, 0] = ids
    logits = torch.bmm(keys[rows.view(-1)].view(*rows.shape, -1), queries.unsqueeze(2)).squeeze(2) / TAU
    log_odds = logits - log_z - torch.tensor(NOISE / len(keys)).log()
    return (functional.softplus(-log_odds[:, 0]) + functional.softplus(log_odds[:, 1:]).sum(1)).mean()


def interleaved(
    tasks: dict[str, Callable[[], None]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    best = dict.fromkeys(tasks, float("inf"))
    for _ in range(rounds):
        for name, task in tasks.items():
            start = clock()
            task()
            best[name] = min(best[name], clock() - start)
    return best


def times(rounds: int) -> None:
    torch.manual_seed(0)
    bank = MemoryBank(ITEMS, DIM)
    queries = functional.normalize(torch.randn(BATCH, DIM), dim=1).requires_grad_()
    ids = torch.randperm(ITEMS)[:BATCH]
    shared, per_example = NCE(noise=NOISE), NCE(noise=NOISE, draw="per-example")
    softmax = NonParametricSoftmax()

    def step(loss: Callable[[], Tensor]) -> Callable[[], None]:
        def run() -> None:
            queries.grad = None
            loss().backward()

        return run

    detached, noise = queries.detach(), bank.rows[:NOISE].clone()

    def floor(keys: Tensor) -> Callable[[], None]:
        block = 4096

        def run() -> None:
            for start in range(0, len(keys), block):
                (detached @ keys[start : start + block].T) @ keys[start : start + block]

        return run

    best = interleaved(
        {
            "NCE, shared noise": step(lambda: shared(queries, ids, bank.rows)),
            "NCE, per-example noise": step(lambda: per_example(queries, ids, bank.rows)),
            "NCE, plain gather twin": step(lambda: gather_nce(queries, ids, bank.rows, 11.5)),
            "exact softmax": step(lambda: softmax(queries, ids, bank.rows)),
            "floor of shared NCE (2 products)": floor(noise),
            "floor of exact softmax (2 products)": floor(bank.rows),
        },
        rounds,
    )
    reference = best["NCE, shared noise"]
    print(f"B={BATCH} n={ITEMS} m={NOISE} D={DIM} fp32, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| what | ms | × shared NCE |\n|-|-|-|")
    for name, seconds in best.items():
        print(f"| {name} | {seconds * 1e3:.2f} | {seconds / reference:.2f} |")
    print(f"\nshared NCE is {best['NCE, plain gather twin'] / reference:.1f}× as fast as the gather (target ≥ 5)")
    print(f"exact softmax takes {best['exact softmax'] / reference:.1f}× the time of shared NCE (target ≤ 3)")


def memory() -> None:
    bank = MemoryBank(1_281_167, DIM)
    queries = functional.normalize(torch.randn(256, DIM), dim=1).requires_grad_()
    NonParametricSoftmax()(queries[:2], torch.arange(2), bank.rows[:100]).backward()  # libraries' own buffers
    with open("/proc/self/clear_refs", "w") as file:  # the peak restarts from what is resident now
        file.write("5")
    before = resident("VmRSS")
    NonParametricSoftmax()(queries, torch.arange(256), bank.rows).backward()
    peak = resident("VmHWM")
    print(
        f"n=1,281,167 D=128 B=256: bank {bank.rows.nbytes / 2**20:.0f} MiB, resident before {before:.0f} MiB, ", end=""
    )
    print(f"peak beyond it {peak - before:.1f} MiB (target ≤ 200); whole process {maximum():.0f} MiB")


def resident(field: str) -> float:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field)) / 1024


def maximum() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    memory() if arguments.memory else times(arguments.rounds)
