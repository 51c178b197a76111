"""Shards: embedding in one process, by shards and by workers of Ray; the memory of a stream of many rows to servers.

    python benchmarks/shards.py embed RUN DATA --workers 2
    python benchmarks/shards.py stream "postgresql://USER@HOST/DATABASE?engine=exact" --rows 5000000 --folder FOLDER

``embed`` runs `likewise embed` into a file, into shards, and into shards with Ray, each in a process of its own:
seconds of the clock on the wall, CPU seconds of the process and all that it starts, and whether the bits are the same.

``stream`` writes random rows of length 1 as shards into a folder (4 · rows · 128 bytes), and then runs `likewise index
RUN SHARDS --to URL` in a process of its own, whose largest memory is told: once into an empty table, and once again.
Give ``engine=exact`` where a graph would take too long.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import torch

import likewise as lw
from likewise.config.settings import EncoderSettings
from likewise.data.items import content_digest
from likewise.model import Model
from likewise.shards import Manifest, read_shards
from likewise.shards.manifest import new_token, shard_name
from likewise.shards.place import place_of
from likewise.shards.shard import as_parquet

DIM = 128
AWAKE = 0.1  # seconds between looks at the processes


def run(*words: str) -> tuple[float, float, str]:
    """Runs a command of likewise: seconds, CPU seconds with all that it started, and what it said."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "likewise", *words], stdout=subprocess.PIPE, text=True)
    spent: dict[int, float] = {}

    def look() -> None:
        root = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                for each in [root, *root.children(recursive=True)]:
                    times = each.cpu_times()
                    spent[each.pid] = times.user + times.system
            except psutil.Error:
                pass
            time.sleep(AWAKE)

    watcher = threading.Thread(target=look)
    watcher.start()
    said = process.communicate()[0]
    seconds = time.perf_counter() - began
    watcher.join()
    if process.returncode not in (0, 1):
        raise SystemExit(said)
    return seconds, sum(spent.values()), said


def rows_of(folder: Path) -> tuple[list[str], np.ndarray]:
    """The ids and rows of a folder of shards."""
    blocks = list(read_shards(folder)[1])
    return [item for block in blocks for item in block.ids], np.concatenate([block.rows for block in blocks])


def embed(model: str, data: str, workers: int, shard_rows: int) -> None:
    """Compares the three ways."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = ["--shard_rows", str(shard_rows)]
        ways = {
            "a file, the first time": ["--out", str(folder / "one.parquet")],
            "a file, decoded before": ["--out", str(folder / "one.parquet")],
            "shards": ["--out", f"{folder / 'shards'}/", *shards],
            f"shards, Ray with {workers} workers": [
                "--out", f"{folder / 'ray'}/", *shards, "--engine", "ray", "--workers", str(workers),
            ],
        }  # fmt: skip
        for way, words in ways.items():
            seconds, cpu, _ = run("embed", model, data, *words)
            count = len(lw.index.read_embedding(folder / "one.parquet").ids)
            each = f"{1e3 * cpu / count:.2f} ms of CPU a row"
            print(f"{way}: {count / seconds:,.0f} rows/s, {seconds:.1f} s; {each}, {cpu:.1f} s", flush=True)
        whole = lw.index.read_embedding(folder / "one.parquet")
        for way in ("shards", "ray"):
            ids, rows = rows_of(folder / way)
            far = float(np.abs(rows - whole.rows.numpy()).max())
            print(f"{way}: the same ids in order: {tuple(ids) == whole.ids}; largest difference {far:g}")


def write(folder: Path, rows: int, shard_rows: int) -> Path:
    """A run, and shards of random rows that name its model; the run's folder."""
    home = folder / "run"
    home.mkdir(parents=True, exist_ok=True)
    vectors = np.random.default_rng(0).normal(size=(100, DIM)).astype(np.float32)
    settings = lw.FitSettings(encoder=EncoderSettings(name="mlp", hidden=8, dim=DIM))
    Model.untrained(settings, lw.open_items(vectors, progress=False)).save(home / "model.safetensors")
    model, place = lw.load(home), place_of(folder / "shards")
    manifest = Manifest(
        about={**model.protocol("embedding"), "data": "random rows"},
        listing=f"{rows} random rows",
        items=rows,
        shard_rows=shard_rows,
        dim=DIM,
        token=new_token(),
    )
    place.ready()
    for number in range(manifest.count):
        start, stop = manifest.span(number)
        drawn = np.random.default_rng(number).normal(size=(stop - start, DIM)).astype(np.float32)
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        about = {**manifest.about, "shard": number, "token": manifest.token, "skipped": []}
        ids = [f"photos/{row:09}.jpg" for row in range(start, stop)]
        place.write(
            shard_name(number), as_parquet(ids, torch.from_numpy(drawn), [content_digest(row) for row in drawn], about)
        )
    spans = [manifest.span(number) for number in range(manifest.count)]
    manifest.finished({number: stop - start for number, (start, stop) in enumerate(spans)}).write(place)
    return home


def stream(to: str, rows: int, folder: Path, shard_rows: int) -> None:
    """The memory and time of an index of many rows on servers."""
    home = folder / "run"
    if not (folder / "shards" / "shards.json").exists():
        home = write(folder, rows, shard_rows)
    for what in ("into an empty table", "again"):
        seconds, cpu, said = run("index", str(home), str(folder / "shards"), "--to", to)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(said)
        client = f"the client's largest memory {peak:,.0f} MiB, its CPU {cpu:.0f} s"
        print(f"{what}: {rows:,} × {DIM}, {client}, {seconds:.0f} s in all", flush=True)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    one = parts.add_parser("embed")
    one.add_argument("run")
    one.add_argument("data")
    one.add_argument("--workers", type=int, default=2)
    one.add_argument("--shard_rows", type=int, default=2048)
    two = parts.add_parser("stream")
    two.add_argument("to")
    two.add_argument("--rows", type=int, default=5_000_000)
    two.add_argument("--folder", type=Path, required=True)
    two.add_argument("--shard_rows", type=int, default=16_384)
    given = parser.parse_args()
    if given.part == "embed":
        embed(given.run, given.data, given.workers, given.shard_rows)
    else:
        stream(given.to, given.rows, given.folder, given.shard_rows)


if __name__ == "__main__":
    main()
