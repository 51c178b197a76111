"""Bytes and CPU seconds of a report of many pictures, of an untrained run, which costs as much as any other.

python benchmarks/report_size.py --items 100000

The pictures are those of --data, turned and mirrored until they are enough. The worst case is noise: its bound is in
tests/reports/test_map.py.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import likewise as lw
from likewise.model import Model
from likewise.reports.html import write_report


def enlarged(items: lw.Items, count: int) -> lw.Items:
    """``count`` items: the given ones, these turned by 90, 180 and 270 degrees, and all mirrored; with new ids."""
    parts = [np.asarray(items.values)]
    turns = [np.rot90(parts[0], turn, (1, 2)) for turn in (1, 2, 3)]
    parts += turns + [each[:, :, ::-1] for each in (parts[0], *turns)]
    rounds = -(-count // len(items))
    if rounds > len(parts):
        raise SystemExit(f"{count:,} items need at least {-(-count // len(parts)):,} pictures.")
    ids = tuple(f"{turn}/{name}" for turn in range(rounds) for name in items.ids)[:count]
    labels = None if items.labels is None else np.tile(items.labels, rounds)[:count]
    values = np.concatenate(parts[:rounds])[:count]
    return replace(items, ids=ids, values=values, labels=labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/cifar10/train.parquet", help="pictures with labels")
    parser.add_argument("--items", type=int, default=100_000)
    arguments = parser.parse_args()
    items = enlarged(lw.open_items(arguments.data, size=32, progress=False), arguments.items)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        run.mkdir()
        Model.untrained(lw.FitSettings(size=32), items).save(run / "model.safetensors")
        start = time.process_time()
        path = write_report(run, model=lw.load(run), items=items, progress=False)
        seconds, size = time.process_time() - start, path.stat().st_size
        what = f"{len(items):,} items, {len(items.label_names)} labels"
        print(f"{what}: {size / 1e6:.2f} MB, {seconds:.0f} s of CPU time")


if __name__ == "__main__":
    main()
