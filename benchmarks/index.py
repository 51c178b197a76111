"""The index: build, memory, recall and queries a second beside faiss itself, conditions, and what a change costs.

    python benchmarks/index.py                                   # 100,000 × 128, two sets
    python benchmarks/index.py --engine exact
    python benchmarks/index.py --rows 1000000 --sets clustered   # a million: two minutes
    python benchmarks/index.py --rows 1000000 --sets clustered --engine "faiss:hnsw?links=16"   # a broken promise

Sets: clustered (a centre for every 100 rows, at most 10,000, rows .05 a number around them), hard (20 overlapping
clusters, each 40-dimensional), real (words of --vectors FILE, in word2vec's format, repeated with noise up to --rows).
Queries are rows with noise of .02. One thread, CPU seconds; MiB are those beyond the rows and the ids. The rival is
faiss on its own with the same lists, without our exact scores, at every number of lists that it looks into: what counts
is its rate where its recall is no lower than ours.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from likewise.index import Index, Promise
from likewise.index.faiss_engines import IVF
from likewise.index.promise import recall_of
from likewise.metrics import top_k

DIM, K, QUERIES = 128, 10, 4096


def clustered(rows: int, random: torch.Generator) -> Tensor:
    """Rows around centres that lie apart."""
    centres = functional.normalize(torch.randn(min(10_000, max(1, rows // 100)), DIM, generator=random), dim=1)
    parts = []
    for start in range(0, rows, 1 << 16):
        many = min(rows - start, 1 << 16)
        own = centres[torch.randint(len(centres), (many,), generator=random)]
        parts.append(functional.normalize(own + 0.05 * torch.randn(many, DIM, generator=random), dim=1))
    return torch.cat(parts)


def hard(rows: int, random: torch.Generator) -> Tensor:
    """Rows of 20 clusters that overlap."""
    bases, centres = torch.randn(20, 40, DIM, generator=random) / 40**0.5, 0.3 * torch.randn(20, DIM, generator=random)
    own = torch.randint(20, (rows,), generator=random)
    found = torch.empty(rows, DIM)
    for cluster in range(20):
        inside = (own == cluster).nonzero().flatten()
        found[inside] = centres[cluster] + torch.randn(len(inside), 40, generator=random) @ bases[cluster]
    return functional.normalize(found, dim=1)


def real(rows: int, random: torch.Generator, vectors: Path) -> Tensor:
    """Vectors of words, each repeated with noise until there are enough."""
    from likewise.words.word2vec_files import read_word2vec

    words = read_word2vec(vectors).embed().rows
    many = words.repeat(-(-rows // len(words)), 1)[:rows]
    return functional.normalize(many + 0.3 / many.shape[1] ** 0.5 * torch.randn(many.shape, generator=random), dim=1)


def seconds(work: Callable[[], Any]) -> tuple[Any, float]:
    """What a function gives, and its CPU seconds."""
    began = time.process_time()
    return work(), time.process_time() - began


def mib() -> float:
    """Memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def measure(name: str, rows: Tensor, engine: str, random: torch.Generator) -> None:
    """Prints the lines of one set."""
    ids = [f"item {number:07d}" for number in range(len(rows))]
    year, side = np.random.default_rng(0).integers(0, 100, len(rows)), (rows[:, 0] > rows[:, 0].median()).numpy()
    before = mib()
    index, made = seconds(lambda: Index(rows, ids, columns={"year": year, "side": side}))
    assert isinstance(index, Index)
    promise, built = seconds(lambda: index.use(engine))
    assert isinstance(promise, Promise)
    print(f"\n{name}, {len(rows):,} × {rows.shape[1]}, {engine}")
    print(f"  built in {made + built:.1f} CPU s, {mib() - before:.0f} MiB beyond the rows")
    print(f"  {index.engine_name}: {promise.sentence()}")
    queries = rows[torch.randint(len(rows), (QUERIES,), generator=random)]
    queries = functional.normalize(queries + 0.02 * torch.randn(queries.shape, generator=random), dim=1)
    true = top_k(queries[:512], index.rows, K)[1]
    index.nearest(queries[:64])
    (_, found), spent = seconds(lambda: index.nearest(queries))
    times = [seconds(lambda each=each: index.search(each, K))[1] for each in queries[:50]]
    recall = float(recall_of(found[:512], true).mean())
    print(
        f"  ours: recall {recall:.3f}, {QUERIES / spent:,.0f} queries a second; one: {1e3 * sorted(times)[25]:.2f} ms"
    )
    alone(index, rows, queries, true)
    apart = {"side = true": side, "side = false": ~side}  # these have to do with where the rows lie
    for where, fits in ({f"year < {most}": year < most for most in (1, 10, 50)} | apart).items():
        among = torch.from_numpy(np.flatnonzero(fits))
        true = among[top_k(queries[:200], index.rows[among], K)[1]]
        (_, found), spent = seconds(lambda where=where: index.nearest(queries[:200], where=where))
        times = [seconds(lambda each=each, where=where: index.search(each, K, where=where))[1] for each in queries[:9]]
        recall = float(recall_of(found, true).mean())
        rate = f"{200 / spent:,.0f} queries a second; one: {1e3 * sorted(times)[4]:.1f} ms"
        print(f"  where {where} ({len(among) / len(rows):.0%}): recall {recall:.3f}, {rate}", flush=True)
    changes(index, rows, ids, made + built, random)


def alone(index: Index, rows: Tensor, queries: Tensor, true: Tensor) -> None:
    """The library without us: the same lists, or every row."""
    if isinstance(index.engine, IVF):
        raw = index.engine._index
        for effort in [
            each for each in index.engine.efforts() if index.engine.effort <= each <= 8 * index.engine.effort
        ]:
            raw.nprobe = effort
            answer, spent = seconds(lambda: raw.search(queries.numpy(), K)[1])
            recall = float(recall_of(torch.from_numpy(answer[:512]), true).mean())
            print(f"  faiss alone, {effort} lists: recall {recall:.3f}, {QUERIES / spent:,.0f} queries a second")
    elif index.engine is None:
        import faiss

        faiss.omp_set_num_threads(1)
        flat = faiss.IndexFlatIP(rows.shape[1])
        flat.add(rows.numpy())
        _, spent = seconds(lambda: flat.search(queries.numpy(), K))
        print(f"  faiss Flat: {QUERIES / spent:,.0f} queries a second")


def changes(index: Index, rows: Tensor, ids: list[str], built: float, random: torch.Generator) -> None:
    """Writing, reading, adding one in a hundred, removing a thousand."""
    with tempfile.TemporaryDirectory() as folder:
        _, wrote = seconds(lambda: index.save(folder))
        loaded, read = seconds(lambda: Index.load(folder))
        assert isinstance(loaded, Index)
        many = len(rows) // 100
        new = functional.normalize(rows[:many] + 0.05 * torch.randn(rows[:many].shape, generator=random), dim=1)
        more = {"year": [5] * many, "side": [True] * many}
        _, added = seconds(lambda: loaded.add(new, [f"new {number}" for number in range(many)], columns=more))
        _, kept = seconds(lambda: loaded.save(folder))
        _, removed = seconds(lambda: loaded.remove(ids[:1000]))
        share = f"{(added + kept) / (built + wrote):.1%} of a build"
        print(f"  written in {wrote:.1f} s, read in {read:.1f} s; 1,000 removed in {removed:.2f} s")
        print(f"  1 % added in {added:.2f} s and saved in {kept:.2f} s: {share}")


def main() -> None:
    """Measures each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--sets", nargs="+", default=["clustered", "hard"], choices=["clustered", "hard", "real"])
    parser.add_argument("--engine", default="faiss:ivf")
    parser.add_argument("--vectors", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.sets:
        random = torch.Generator().manual_seed(0)
        if name == "real":
            if arguments.vectors is None:
                raise SystemExit("--sets real needs --vectors FILE.")
            rows = real(arguments.rows, random, arguments.vectors)
        else:
            rows = {"clustered": clustered, "hard": hard}[name](arguments.rows, random)
        measure(name, rows, arguments.engine, random)


if __name__ == "__main__":
    main()
