"""Peak memory beyond the inputs and time of exact retrieval, beside the float64 product of matrices alone.

    python benchmarks/retrieval.py                                       # 2,000 queries against 1,000,000 × 128
    python benchmarks/retrieval.py --queries 0 --gallery 20000           # a set against itself
    python benchmarks/retrieval.py --queries 200 --relevant 100000       # ten classes of a million items

Each measurement is a process of its own. Memory is the peak resident size (VmHWM, set back before the call) less the
resident size before it, when the inputs are there and torch's threads have run. The floor is the product of the same
queries and gallery in float64, which exact scores need, in tiles; rounds of all tasks alternate and the best of each is
kept. On a machine that is shared, CPU seconds tell more than the clock's.
"""

import argparse
import multiprocessing
import time
from pathlib import Path

import torch
from torch.nn import functional

from likewise.metrics import retrieval, top_k


def resident(name: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at its peak."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def product(queries: torch.Tensor, gallery: torch.Tensor) -> None:
    """The floor: every score once, in float64, nothing kept."""
    out = torch.empty(512, 8192, dtype=torch.float64)
    exact = queries.double()
    for start in range(0, len(gallery), 8192):
        block = gallery[start : start + 8192].double()
        for first in range(0, len(queries), 512):
            part = exact[first : first + 512]
            torch.mm(part, block.T, out=out[: len(part), : len(block)])


def measure(queries: int, items: int, dim: int, relevant: int, rounds: int, threads: int) -> None:
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    gallery = functional.normalize(torch.randn(items, dim, generator=generator), dim=1)
    classes = max(1, items // relevant)
    labels = torch.randint(classes, (items,), generator=generator)
    gallery += 0.5 * functional.normalize(torch.randn(classes, dim, generator=generator), dim=1)[labels]
    rows = torch.randperm(items, generator=generator)[: queries or items].sort().values
    q, q_labels = (gallery, labels) if not queries else (gallery[rows], labels[rows])
    ids = torch.arange(items)
    few = slice(0, 600)
    retrieval(gallery[few], labels[few] % 2)
    inputs = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on

    def full() -> None:
        found = retrieval(q, q_labels, gallery, labels, query_ids=rows, gallery_ids=ids)
        print(f"  MAP@R {found.map_at_r:.4f}, mAP {found.mean_average_precision:.4f}", flush=True)

    full()
    peak = resident("VmHWM")
    print(f"{len(q):,} queries, {items:,} × {dim} items, {items // classes:,} relevant to each on average")
    print(f"  peak {peak - inputs:,.0f} MiB beyond the {inputs:,.0f} MiB resident before", flush=True)
    tasks = {"product alone": lambda: product(q, gallery), "top_k, k = 10": lambda: top_k(q, gallery, 10)}
    best = dict.fromkeys([*tasks, "retrieval"], (float("inf"), float("inf")))
    for _ in range(rounds):
        for name, task in {**tasks, "retrieval": full}.items():
            start, busy = time.perf_counter(), time.process_time()
            task()
            now = (time.perf_counter() - start, time.process_time() - busy)
            best[name] = (min(best[name][0], now[0]), min(best[name][1], now[1]))
    for name, (wall, cpu) in best.items():
        floor = best["product alone"]
        ratios = f"{wall / floor[0]:6.2f} × {cpu:8.2f} CPU s {cpu / floor[1]:6.2f} ×"
        print(f"  {name:15s} {wall:8.2f} s {ratios}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=2000, help="0: the gallery itself")
    parser.add_argument("--gallery", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--relevant", type=int, default=200, help="gallery items of each label, on average")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {arguments.threads} threads")
    process = multiprocessing.get_context("spawn").Process(target=measure, args=tuple(vars(arguments).values()))
    process.start()
    process.join()
    raise SystemExit(process.exitcode)
