"""End-to-end, memory bank or queue: accuracy against the number of negatives K, as MoCo's figure 3, on CIFAR-10.

    python benchmarks/dictionaries.py                                   # 12 cells of 15 minutes: 3 hours
    python benchmarks/dictionaries.py --only queue-4096 bank-4096       # some of them
    python benchmarks/dictionaries.py --at-once 2                       # two side by side: see below
    python benchmarks/dictionaries.py --budget-minutes 0.1 --items 20000 --results /tmp/r.jsonl --plots /tmp  # a try

Every cell trains the same encoder on the same views for the same time: first some steps of each cell are timed, with
all cores and in turns, so leave the machine alone then; afterwards each trains for as many epochs as fit in the budget
at that speed.
End-to-end, the negatives are the rest of the batch (K = batch − 1) and the learning rate grows with the batch, as in
the paper; the bank draws K of its rows at each step; the queue keeps the newest K keys. SimCLR (K = 2·batch − 2) and
the symmetric queue are points beside the curves. Measured is the weighted kNN accuracy (k=200, τ=0.1) on the 10,000
test images, the training images encoded anew as their neighbours.

With --at-once 2, two cells train side by side with half of the cores each. The epochs, and so the results, are the
same; on 2 cores it takes a fifth less time than one after the other, and other work beside it costs only time.

Each timing, and each training, is when done a line of --results. Run it again, and only those are run that failed, are
missing or had other settings, in the order of --only. Then it prints the table and draws the figure of the cells there
are.
Needs LIKEWISE_DATA/cifar10 (default ../shared/data).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from views import ROOT, cpu

if TYPE_CHECKING:
    from likewise.data import Items

BATCH = 256
RECIPE: dict[str, Any] = {  # of every cell; what is not named here is the method's own
    "encoder.name": "resnet-small",
    "encoder.head": "linear",
    "encoder.centre": True,
    "encoder.bn_groups": 1,
    "views.crop_scale": [0.2, 1.0],
    "views.hue": 0.1,
    "views.jitter": 0.8,
    "views.blur": 0.0,
    "batch_size": BATCH,
    "objective.temperature": 0.1,
    "optim.name": "sgd",
    "optim.lr": 0.12,
    "optim.weight_decay": 5e-4,
    "optim.schedule": "cosine",
    "optim.warmup": 0.0,
    "precision": "fp32",  # bf16 is emulated, and slow, on a CPU that lacks it
    "loss_weight": 1.0,
    "seed": 0,
    "knn_epochs": 0,  # no time goes into measuring
    "checkpoint_seconds": 1e9,  # nor into saving before the end
}
QUEUE = RECIPE | {"key_encoder.momentum": 0.99}  # the paper's 0.999 is for trainings of a million steps
BANK = RECIPE | {"bank.momentum": 0.5}
SIZES = (256, 1024, 4096, 16_384)
BATCHES = (256, 1024)
ALONE = {"simclr": "SimCLR", "moco-symmetric": "queue, symmetric"}
TIMED_STEPS = 15
NEIGHBOURS, TAU = 200, 0.1


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training.

    Args:
        name: as given to ``--only``.
        mechanism: its curve, or itself where it is a single point.
        negatives: K.
        method: of ``fit``.
        settings: overrides of the method's.
    """

    name: str
    mechanism: str
    negatives: int
    method: str
    settings: dict[str, Any]


def all_cells() -> dict[str, Cell]:
    cells = [
        Cell(
            name=f"end-to-end-{batch}",
            mechanism="end-to-end",
            negatives=batch - 1,
            method="end-to-end",
            settings=RECIPE | {"batch_size": batch, "optim.lr": RECIPE["optim.lr"] * batch / BATCH},
        )
        for batch in BATCHES
    ]
    for size in SIZES:
        bank = BANK | {"bank.samples": size}
        cells.append(Cell(name=f"bank-{size}", mechanism="bank", negatives=size, method="bank", settings=bank))
    for size in SIZES:
        queue = QUEUE | {"queue.size": size}
        cells.append(Cell(name=f"queue-{size}", mechanism="queue", negatives=size, method="moco", settings=queue))
    symmetric = QUEUE | {"queue.size": 4096}
    cells += [
        Cell(name="simclr", mechanism="simclr", negatives=2 * BATCH - 2, method="simclr", settings=RECIPE),
        Cell(name=(name := "moco-symmetric"), mechanism=name, negatives=4096, method=name, settings=symmetric),
    ]
    return {cell.name: cell for cell in cells}


def train_items(count: int) -> "Items":
    """The first ``count`` training images."""
    from likewise.data import open_items

    return open_items(str(data_folder() / "train.parquet"), progress=False).select(np.arange(count))


def time_cells(cells: list[Cell], count: int) -> dict[str, float]:
    """Images/s of each: the median of a few steps, views included, in turns, as a machine is not always as quick."""
    from likewise.model import Model
    from likewise.training.decide import decide
    from likewise.training.fit import chosen
    from likewise.training.run import begin
    from likewise.training.step import train_step

    items, turns, seconds = train_items(count), {}, {cell.name: list[float]() for cell in cells}
    for cell in cells:
        settings = decide(chosen(cell.method, cell.settings), len(items))
        model = Model.untrained(settings, items)
        run = begin(model, items, TIMED_STEPS + 1, torch.device("cpu"))
        turns[cell.name] = run.session, run.batches()
    for turn in range(TIMED_STEPS + 1):
        for name, (session, feed) in turns.items():
            start = time.perf_counter()
            batch = next(feed)
            train_step(session, batch)
            if turn:
                seconds[name].append((time.perf_counter() - start) / len(batch.items))
    return {name: 1 / statistics.median(found) for name, found in seconds.items()}


def train_cell(cell: Cell, epochs: int, count: int) -> dict[str, float]:
    """Trains, and measures."""
    from likewise.data import open_items
    from likewise.metrics import knn_accuracy
    from likewise.training.fit import fit

    items, test = train_items(count), open_items(str(data_folder() / "test.parquet"), progress=False)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        settings = cell.settings | {"epochs": epochs}
        model = fit(items, out=Path(folder) / "run", method=cell.method, settings=settings, progress=False)
        found: dict[str, float] = {"epochs": epochs, "seconds": time.perf_counter() - start}
    labels, test_labels = (torch.from_numpy(np.asarray(x.labels)) for x in (items, test))
    for layer in ("embedding", "backbone"):
        queries, keys = model.features(test, layer=layer), model.features(items, layer=layer)
        found[layer] = knn_accuracy(queries, test_labels, keys, labels, k=NEIGHBOURS, temperature=TAU)
    return found


def data_folder() -> Path:
    return Path(os.environ.get("LIKEWISE_DATA", ROOT.parent / "shared" / "data")) / "cifar10"


def question(cell: Cell, minutes: float, count: int) -> dict[str, Any]:
    """What a line of results answers; it stands only while this is the same."""
    return asdict(cell) | {"budget_minutes": minutes, "items": count}


def answers(path: Path) -> list[dict[str, Any]]:
    """The lines of results. One that a crash cut off is dropped."""
    lines = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            print(f"{path}: dropped a line that is not whole")
    return lines


def answer(asked: dict[str, Any], lines: list[dict[str, Any]], what: str) -> dict[str, Any] | None:
    """The line that answers ``asked`` with "timed" or "found", if there is one."""
    return next((line for line in lines if line["question"] == asked and what in line), None)


def time_missing(asked: list[dict[str, Any]], lines: list[dict[str, Any]], path: Path) -> bool:
    """Times the cells that have no line yet, in one process, and adds their lines. Returns whether all went well."""
    missing = [one for one in asked if answer(one, lines, "timed") is None]
    if not missing:
        return True
    print(f"timing {len(missing)} cells", flush=True)
    threads = os.cpu_count() or 1
    speeds = run_process({"questions": missing, "threads": threads})
    for one in missing if speeds is not None else []:
        timed = {"speed": speeds[one["name"]]}
        print(f"{one['name']}: {timed['speed']:,.0f} images/s", flush=True)
        add_line({"question": one, "timed": timed, "machine": machine(threads, 1)}, lines, path)
    return speeds is not None


def train_missing(asked: list[dict[str, Any]], lines: list[dict[str, Any]], path: Path, at_once: int) -> bool:
    """Trains the cells that have no line yet, each in its own process, and adds its line. Whether all went well."""
    threads = max(1, (os.cpu_count() or 1) // at_once)
    jobs = []
    for one in asked:
        timed = answer(one, lines, "timed")
        if timed is not None and answer(one, lines, "found") is None:
            epochs = max(1, round(60 * one["budget_minutes"] * timed["timed"]["speed"] / one["items"]))
            jobs.append({"question": one, "epochs": epochs, "threads": threads})
    well = True
    with ThreadPoolExecutor(at_once) as pool:
        waited = {pool.submit(run_process, job): job["question"] for job in jobs}
        for number, future in enumerate(as_completed(waited), 1):
            one, found = waited[future], future.result()
            if found is None:
                print(f"{number}/{len(jobs)} {one['name']} failed, see above; going on", flush=True)
                well = False
                continue
            print(f"{number}/{len(jobs)} {one['name']}: {found}", flush=True)
            add_line({"question": one, "found": found, "machine": machine(threads, at_once)}, lines, path)
    return well


def add_line(line: dict[str, Any], lines: list[dict[str, Any]], path: Path) -> None:
    lines.append(line)
    cut_off = path.exists() and not path.read_text().endswith("\n")
    with path.open("a") as file:
        file.write("\n" * cut_off + json.dumps(line) + "\n")


def machine(threads: int, at_once: int) -> str:
    return f"{cpu()}, {os.cpu_count()} cores, {at_once} at once with {threads} threads each"


def run_process(job: dict[str, Any]) -> dict[str, Any] | None:
    """What a job found, or None if it failed."""
    if "epochs" in job:
        print(f"{job['question']['name']}: {job['epochs']} epochs", flush=True)
    done = subprocess.run([sys.executable, __file__, "--job", json.dumps(job)], stdout=subprocess.PIPE, text=True)
    return None if done.returncode else json.loads(done.stdout.splitlines()[-1])


def run_job(job: dict[str, Any]) -> dict[str, float]:
    """The timing of some cells, or one training."""
    torch.set_num_threads(job["threads"])
    if "questions" in job:
        return time_cells([cell_of(one) for one in job["questions"]], job["questions"][0]["items"])
    return train_cell(cell_of(job["question"]), job["epochs"], job["question"]["items"])


def cell_of(question: dict[str, Any]) -> Cell:
    return Cell(**{name: value for name, value in question.items() if name not in ("budget_minutes", "items")})


def table(lines: list[dict[str, Any]]) -> str:
    text = "| | K | images/s | epochs | minutes | kNN of the embedding, % | kNN of the backbone, % |\n|" + " --- |" * 7
    for line in lines:
        asked, found, timed = line["question"], line["found"], line["timed"]
        speed = f"{timed['speed']:,.0f} | {found['epochs']} | {found['seconds'] / 60:.1f}"
        measured = f"{100 * found['embedding']:.2f} | {100 * found['backbone']:.2f}"
        text += f"\n| {asked['mechanism']} | {asked['negatives']:,} | {speed} | {measured} |"
    return text


def draw(lines: list[dict[str, Any]], layer: str, folder: Path) -> None:
    """dictionaries.png and dictionaries.svg: accuracy against K."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    points: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        asked = line["question"]
        points.setdefault(asked["mechanism"], []).append((asked["negatives"], 100 * line["found"][layer]))
    with matplotlib.rc_context({"svg.hashsalt": "likewise", "svg.fonttype": "none"}):
        figure, axis = pyplot.subplots(figsize=(6, 4), layout="constrained")
        for mechanism, found in points.items():
            look = {"marker": "*", "markersize": 11, "linestyle": "none"} if mechanism in ALONE else {"marker": "o"}
            axis.plot(*zip(*sorted(found), strict=True), label=ALONE.get(mechanism, mechanism), **look)
        axis.set_xscale("log", base=2)
        axis.set_xlim(SIZES[0] / 2**0.5, SIZES[-1] * 2**0.5)
        axis.set_xticks(SIZES, [f"{size:,}" for size in SIZES])
        axis.set_xlabel("negatives K")
        axis.set_ylabel(f"kNN accuracy of the {layer}, %")
        minutes = lines[0]["question"]["budget_minutes"]
        axis.set_title(f"CIFAR-10, {lines[0]['question']['settings']['encoder.name']}, {minutes:g} minutes each")
        axis.grid(alpha=0.3)
        axis.legend()
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / "dictionaries.png", dpi=150, metadata={"Software": None})
        figure.savefig(folder / "dictionaries.svg", metadata={"Date": None, "Creator": None})
    print(f"\nDrawn: {folder / 'dictionaries.png'} and .svg")


def main() -> None:
    cells = all_cells()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget-minutes", type=float, default=15, help="each cell trains for so long")
    parser.add_argument("--only", nargs="+", choices=list(cells), default=list(cells), metavar="NAME", help="cells")
    parser.add_argument("--items", type=int, default=50_000, help="training images; fewer for a quick look")
    parser.add_argument("--results", type=Path, default=ROOT / "runs" / "dictionaries.jsonl")
    parser.add_argument("--plots", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--layer", choices=("embedding", "backbone"), default="embedding", help="which one is drawn")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="train N cells side by side")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job is not None:
        print(json.dumps(run_job(json.loads(arguments.job))))
        return
    if not (data_folder() / "train.parquet").exists():
        sys.exit(f"{data_folder()}/train.parquet is missing; point LIKEWISE_DATA at a folder that has cifar10/.")
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    every = {name: question(cell, arguments.budget_minutes, arguments.items) for name, cell in cells.items()}
    known = answers(arguments.results)
    asked = [every[name] for name in arguments.only]
    timed_well = time_missing(asked, known, arguments.results)
    well = train_missing(asked, known, arguments.results, arguments.at_once) and timed_well
    lines = []
    for one in every.values():
        timed, found = answer(one, known, "timed"), answer(one, known, "found")
        if timed is not None and found is not None:
            lines.append(timed | found)
    if lines:
        print(f"\n{cpu()}, {os.cpu_count()} cores, torch {torch.__version__}\n\n{table(lines)}")
        draw(lines, arguments.layer, arguments.plots)
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
