"""Memory, traffic, flops and time of a step of the sharded softmax at 1, 2 and 4 processes on this machine.

    OMP_NUM_THREADS=1 python benchmarks/sharding.py      # about two minutes, 1.5 GB

A step is the objective forwards and backwards and the bank's update, without an encoder. Each process has one thread:
more processes than cores share them, and then CPU seconds tell more than the clock's. Bytes sent are what the process
wrote to its sockets (Linux: /proc/self/io).
docs/scaling.md computes from these figures what larger runs need.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, multiprocessing
from torch import distributed as dist
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from likewise.dictionaries import MemoryBank
from likewise.dictionaries.sharded import ShardedMemoryBank, sharded_weight
from likewise.distributed.processes import gather_rows, rank, shares, size
from likewise.distributed.shard_files import load_sharded, save_sharded
from likewise.objectives import NCE, NonParametricSoftmax
from likewise.objectives.sharded import ShardedSoftmax

BATCH, DIM, NOISE, QUEUE = 256, 128, 4096, 65536
COLUMNS = ("what", "n", "processes", "rows held, MB", "sent, kB", "flops, G", "CPU s", "s per step")
HEADER = f"| {' | '.join(COLUMNS)} |\n" + "|-" * len(COLUMNS) + "|"


def sent_bytes() -> int:
    with open("/proc/self/io") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))


def measure(step: Callable[[], None], repeats: int) -> list[float]:
    """Of this process and a step: kB sent, Gflop, least CPU and wall seconds."""
    with FlopCounterMode(display=False) as flops:
        step()
    sent, cpu, wall = sent_bytes(), float("inf"), float("inf")
    for _ in range(repeats):
        start, busy = time.perf_counter(), time.process_time()
        step()
        wall, cpu = min(wall, time.perf_counter() - start), min(cpu, time.process_time() - busy)
    return [(sent_bytes() - sent) / 1e3 / repeats, flops.get_total_flops() / 1e9, cpu, wall]


def row(what: str, n: int, held: int, figures: list[float]) -> None:
    """The largest of the processes' figures, as a line of the table."""
    sent, flops, cpu, wall = gather_rows(torch.tensor([figures], dtype=torch.float64)).amax(0).tolist()
    if rank() == 0:
        print(f"| {what} | {n:,} | {size()} | {held / 1e6:.1f} | {sent:.0f} ", end="")
        print(f"| {flops:.2f} | {cpu:.3f} | {wall:.3f} |", flush=True)


def batch(n: int) -> tuple[Tensor, Tensor, list[int]]:
    """This process' queries (B_r, D) and ids (B_r,), and B_r of all."""
    generator, sizes = torch.Generator().manual_seed(1), shares(BATCH, size())
    queries = functional.normalize(torch.randn(BATCH, DIM, generator=generator), dim=1).split(sizes)[rank()]
    ids = torch.randperm(n, generator=generator)[:BATCH].split(sizes)[rank()]
    return queries.clone().requires_grad_(), ids, sizes


def sharded_bank(n: int, repeats: int) -> None:
    queries, ids, sizes = batch(n)
    start = time.process_time()
    bank = ShardedMemoryBank(n, DIM, generator=torch.Generator().manual_seed(0))
    drawn = time.process_time() - start
    objective = ShardedSoftmax(n)

    def step() -> None:
        queries.grad = None
        objective(queries, ids, bank.rows, sizes).backward()
        bank.update(gather_rows(queries.detach(), sizes), gather_rows(ids, sizes))

    row("bank, full softmax", n, bank.rows.nbytes, measure(step, repeats))
    if rank() == 0:
        print(f"  (its first rows: {drawn:.1f} CPU s in each process)", flush=True)


def sharded_weights(n: int, repeats: int) -> None:
    queries, ids, sizes = batch(n)
    weight = sharded_weight(n, DIM, generator=torch.Generator().manual_seed(0))
    objective = ShardedSoftmax(n, temperature=1.0, keys_learn=True)

    def step() -> None:
        queries.grad = weight.grad = None
        objective(queries, ids, weight, sizes).backward()

    row("weights, full softmax", n, weight.nbytes, measure(step, repeats))


def unsharded(counts: list[int], repeats: int) -> None:
    """What others ask of one process: NCE on a whole bank, and a softmax over as many keys as a queue has."""
    softmax, nce = NonParametricSoftmax(), NCE(noise=NOISE)
    cases: list[tuple[str, NCE | NonParametricSoftmax, int]] = [(f"bank, NCE m={NOISE}", nce, n) for n in counts]
    for what, objective, n in [*cases, ("queue-sized softmax", softmax, QUEUE)]:
        queries, ids, _ = batch(n)
        bank = MemoryBank(n, DIM)
        step = unsharded_step(objective, queries, ids, bank)
        row(what, n, bank.rows.nbytes, measure(step, repeats))


def unsharded_step(
    objective: NCE | NonParametricSoftmax, queries: Tensor, ids: Tensor, bank: MemoryBank
) -> Callable[[], None]:
    def step() -> None:
        queries.grad = None
        objective(queries, ids, bank.rows).backward()
        bank.update(queries, ids)

    return step


def files(n: int, folder: Path) -> None:
    rows = {"rows": ShardedMemoryBank(n, DIM).rows}
    start = time.perf_counter()
    save_sharded(folder / "saved", rows, n)
    saved = time.perf_counter() - start
    start = time.perf_counter()
    load_sharded(folder / "saved", ["rows"], n)
    loaded = time.perf_counter() - start
    if rank() == 0:
        print(f"  (checkpoint of {n:,} rows: saved in {saved:.2f} s, loaded in {loaded:.2f} s)", flush=True)


def work(process: int, world: int, folder: Path, counts: list[int], repeats: int) -> None:
    torch.set_num_threads(1)
    meeting = (folder / f"meeting-{world}").as_uri()
    dist.init_process_group("gloo", init_method=meeting, rank=process, world_size=world)
    for n in counts:
        sharded_bank(n, repeats)
    sharded_weights(counts[0], repeats)
    if world == 1:
        unsharded(counts, repeats)
    files(counts[0], folder)
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print(f"B={BATCH} in all, D={DIM}, float32, gloo, 1 thread each, torch {torch.__version__}\n\n{HEADER}")
    with tempfile.TemporaryDirectory() as name:
        for world in (1, 2, 4):
            multiprocessing.spawn(work, (world, Path(name), arguments.counts, arguments.repeats), nprocs=world)
