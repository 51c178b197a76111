"""Affinity clustering of a large graph: CPU time, memory beyond the graph, and the sizes of the clusters.

    python benchmarks/affinity.py                       # a million items with 10 edges each
    python benchmarks/affinity.py --items 100000 --ties

Items lie on a ring of topics; an edge goes to an item nearby, the distance has a long tail (Cauchy), and weights are
uniform in (0, 1), or all 1 with --ties.
"""

import argparse
import resource
import time

import numpy as np
import scipy.sparse  # noqa: F401  # so that its memory does not count

from likewise.graph.affinity import Siblings, affinity


def peak() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--edges", type=int, default=10, help="of each item")
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--ties", action="store_true", help="all weights are equal")
    given = parser.parse_args()
    rng, count = np.random.default_rng(0), given.items * given.edges
    item = np.repeat(np.arange(given.items), given.edges)
    other = (item + np.rint(rng.standard_cauchy(count) * 3).astype(np.int64)) % given.items
    weight = np.ones(count) if given.ties else rng.random(count)
    before, start = peak(), time.process_time()
    found = affinity(item, other, weight, given.items, levels=given.levels)
    print(f"{count:,} edges: {time.process_time() - start:.1f} CPU s, {peak() - before:.0f} MiB beyond the graph")
    for level in range(len(found.labels)):
        sizes = found.sizes(level)
        print(f"level {level}: {len(sizes):,} clusters, median {np.median(sizes):.0f}, largest {sizes.max():,}")
    print(*found.notes, sep="\n", end="")
    siblings, start = Siblings(found), time.process_time()
    siblings.draw(rng.integers(0, given.items, 100_000), rng)
    print(f"{siblings}; 100,000 negatives in {(time.process_time() - start) * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
