"""lightly's MoCo and SimCLR beside ours, end to end on CIFAR-10: images/s, and accuracy after the same time.

    python benchmarks/views.py --setup                         # once: the rivals' environment
    python benchmarks/lightly_side_by_side.py                  # images/s: about 7 minutes
    python benchmarks/lightly_side_by_side.py --accuracy 15    # and 15 minutes' training of each: 90 minutes
    python benchmarks/lightly_side_by_side.py --seconds 5 --items 5000 --only "lightly simclr" "likewise simclr"

lightly's side is what its examples/pytorch/moco.py and simclr.py do, setting by setting: transforms, heads, NTXentLoss,
DataLoader, batch 256, SGD with a constant rate of 0.06, momentum from 0.996 to 1 by epochs. Two things differ: the
backbone is our resnet-small (256 features), so that both sides train the same encoder, and there are as many workers as
cores where the examples have 8. Images are a uint8 array in memory, made Pillow images one by one, as torchvision's
CIFAR10 does. Our side is one call of ``fit``.

Each contestant runs in a process of its own, one after the other, with torch.set_num_threads(cores). An image counts
once, though it is seen in two views; time is the wall clock, with loading and views. Ours is timed from outside, by
when lines reach its log. In the race for accuracy lightly trains until the time is up; ours for the epochs that fit,
since its learning rate falls to 0 at the end. Nobody reads labels until the features are saved; then both are measured
by weighted kNN (k=200, τ=0.1), the training images as neighbours of the 10,000 test images.
Needs LIKEWISE_DATA/cifar10 (default ../shared/data).
"""

import argparse
import copy
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from views import RIVALS, ROOT, cpu, import_torchvision, python_of

CORES = os.cpu_count() or 1
WORKERS = min(8, CORES)
BATCH = 256
WARM_UP_STEPS = 20  # of lightly; ours warms up for an epoch
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of both sides
EXAMPLE_EPOCHS = 10
K, TAU = 200, 0.1

# Ours: the recipes of docs/results.md, with the batch and the queue of lightly's examples, in float32 as they are.
COMMON = {
    "encoder.name": "resnet-small",
    "encoder.centre": True,
    "encoder.bn_groups": 1,  # one device, as theirs
    "views.crop_scale": (0.2, 1.0),
    "batch_size": BATCH,
    "knn_epochs": 0,
}
QUEUE = COMMON | {"queue.size": 4096, "key_encoder.momentum": 0.99, "objective.temperature": 0.1}
SETTINGS: dict[str, dict[str, Any]] = {
    "moco": QUEUE | {"optim.lr": 0.12, "optim.weight_decay": 5e-4, "optim.schedule": "cosine"},
    "moco-symmetric": QUEUE,
    "simclr": COMMON
    | {
        "objective.temperature": 0.2,
        "optim": {"name": "sgd", "lr": 0.12, "weight_decay": 5e-4, "warmup": 0.0},
    },
}
CONTESTANTS = ("lightly moco", "likewise moco", "likewise moco-symmetric", "lightly simclr", "likewise simclr")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a contestant's process is told.

    Args:
        name: one of CONTESTANTS.
        seconds: how long lightly trains, or how long either is timed.
        epochs: how long ours trains, and over what lightly's momentum rises; 0: only time it.
        items: how many training images.
        folder: where images.npz is, and where features.npz goes.
    """

    name: str
    seconds: float
    epochs: int = 0
    items: int
    folder: str


# lightly's side


@dataclass(frozen=True)
class Example:
    """One of lightly's examples: what is trained, how a view is drawn, and the loss of two views in an epoch."""

    backbone: nn.Module
    head: nn.Module
    transform: Callable[[Any], list[Tensor]]
    loss: Callable[[Tensor, Tensor, int], Tensor]


def lightly_moco(epochs: int) -> Example:
    from lightly.loss import NTXentLoss
    from lightly.models.modules import MoCoProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum
    from lightly.transforms import MoCoV2Transform
    from lightly.utils.scheduler import cosine_schedule

    from likewise.encoders import resnet_small

    backbone = resnet_small()
    head = MoCoProjectionHead(backbone.feature_dim, 512, 128)
    key_backbone, key_head = copy.deepcopy(backbone), copy.deepcopy(head)
    deactivate_requires_grad(key_backbone)
    deactivate_requires_grad(key_head)
    criterion = NTXentLoss(memory_bank_size=(4096, 128))

    def loss(x_query: Tensor, x_key: Tensor, epoch: int) -> Tensor:
        momentum = cosine_schedule(min(epoch, epochs - 1), epochs, 0.996, 1)
        update_momentum(backbone, key_backbone, m=momentum)
        update_momentum(head, key_head, m=momentum)
        query = head(backbone(x_query))
        key = key_head(key_backbone(x_key)).detach()
        return criterion(query, key)

    return Example(backbone, head, MoCoV2Transform(input_size=32), loss)


def lightly_simclr() -> Example:
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    from likewise.encoders import resnet_small

    backbone = resnet_small()
    head = SimCLRProjectionHead(backbone.feature_dim, 512, 128)
    criterion = NTXentLoss()

    def loss(x0: Tensor, x1: Tensor, epoch: int) -> Tensor:
        return criterion(head(backbone(x0)), head(backbone(x1)))

    return Example(backbone, head, SimCLRTransform(input_size=32, gaussian_blur=0.0), loss)


class Photos(torch.utils.data.Dataset):
    """torchvision's CIFAR10 once it is in memory."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: Callable[[Any], list[Tensor]]) -> None:
        self.images, self.labels, self.transform = images, labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[list[Tensor], int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[row])), self.labels[row]


def lightly_steps(example: Example, dataset: Photos) -> Iterator[int]:
    """The examples' training loop, without end; says after each step how many images it had."""
    loader = torch.utils.data.DataLoader(dataset, BATCH, shuffle=True, drop_last=True, num_workers=WORKERS)
    optimizer = torch.optim.SGD([*example.backbone.parameters(), *example.head.parameters()], lr=0.06)
    for epoch in count():
        total = torch.zeros(())
        for (x0, x1), _ in loader:
            loss = example.loss(x0, x1, epoch)
            total += loss.detach()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            yield len(x0)


def run_lightly(job: Job) -> dict[str, float]:
    """In the rivals' environment."""
    arrays = np.load(Path(job.folder) / "images.npz")
    images = arrays["train"]
    example = lightly_moco(job.epochs or EXAMPLE_EPOCHS) if job.name == "lightly moco" else lightly_simclr()
    done, start = 0, time.perf_counter()
    with closing(lightly_steps(example, Photos(images, arrays["labels"], example.transform))) as steps:
        if not job.epochs:
            for _ in range(WARM_UP_STEPS):
                next(steps)
            start = time.perf_counter()
        while (seconds := time.perf_counter() - start) < job.seconds:
            done += next(steps)
    if job.epochs:
        layers = {"backbone": example.backbone, "embedding": nn.Sequential(example.backbone, example.head)}
        save_features(job, layers, {"train": images, "test": arrays["test"]})
    return {"images": done, "seconds": seconds}


# our side


def run_likewise(job: Job) -> dict[str, float]:
    from likewise.data import open_items
    from likewise.training.fit import fit

    items = open_items(str(data_folder() / "train.parquet"), progress=False).select(np.arange(job.items))
    method, run = job.name.split()[1], Path(job.folder) / "run"
    if not job.epochs:
        endless = settings(method, 10**6)
        return timed_by_log(run, job, lambda: fit(items, out=run, method=method, settings=endless, progress=False))
    start = time.perf_counter()
    model = fit(items, out=run, method=method, settings=settings(method, job.epochs), progress=False)
    seconds = time.perf_counter() - start
    test = open_items(str(data_folder() / "test.parquet"), progress=False)
    embedder = model.embedder
    save_features(
        job, {"backbone": embedder.features, "embedding": embedder}, {"train": items.values, "test": test.values}
    )
    return {"images": job.epochs * len(items), "seconds": seconds}


def settings(method: str, epochs: int) -> dict[str, Any]:
    return SETTINGS[method] | {"epochs": epochs}


def timed_by_log(run: Path, job: Job, train: Callable[[], object]) -> dict[str, float]:
    """Watches the run's log beside the training, and stops it (Ctrl-C) when there are ``seconds`` after one epoch."""
    from likewise.errors import Interrupted

    log, marks = run / "metrics.jsonl", list[tuple[float, float]]()

    def watch() -> None:
        while len(marks) < 2 or marks[-1][0] - marks[0][0] < job.seconds:
            time.sleep(0.05)
            lines = log.read_text().splitlines(keepends=True) if log.exists() else []
            if lines and lines[-1].endswith("\n"):
                epoch = json.loads(lines[-1])["epoch"]
                if not marks or epoch > marks[-1][1]:
                    marks.append((time.perf_counter(), epoch))
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()
    with suppress(Interrupted):
        train()
    return {"images": (marks[-1][1] - marks[0][1]) * job.items, "seconds": marks[-1][0] - marks[0][0]}


# both


@torch.no_grad()
def save_features(job: Job, layers: Mapping[str, Callable[[Tensor], Tensor]], images: Mapping[str, np.ndarray]) -> None:
    """Unit rows of each layer and set, of plain images in eval mode, to features.npz."""
    from likewise.views.render import plain_view

    for layer in layers.values():
        if isinstance(layer, nn.Module):
            layer.eval()
    rows: dict[str, np.ndarray] = {}
    for of, pixels in images.items():
        parts: dict[str, list[Tensor]] = {name: [] for name in layers}
        for start in range(0, len(pixels), BATCH):
            batch = plain_view(torch.from_numpy(pixels[start : start + BATCH].copy()), MEAN, STD)
            for name, layer in layers.items():
                parts[name].append(nn.functional.normalize(layer(batch).float(), dim=1))
        rows |= {f"{of} {name}": torch.cat(found).numpy() for name, found in parts.items()}
    np.savez(Path(job.folder) / "features.npz", **rows)


def data_folder() -> Path:
    return Path(os.environ.get("LIKEWISE_DATA", ROOT.parent / "shared" / "data")) / "cifar10"


def contest(job: Job) -> dict[str, float] | None:
    """What the contestant's process reports; None, and its own words on standard error, when it failed."""
    python = str(python_of(RIVALS)) if job.name.startswith("lightly") else sys.executable
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "images.npz").symlink_to(Path(job.folder) / "images.npz")
        told = json.dumps(asdict(replace(job, folder=folder)))
        done = subprocess.run([python, __file__, "--job", told], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            print(f"{job.name} failed, see above", flush=True)
            return None
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        if job.epochs:
            found |= accuracies(Path(folder) / "features.npz", Path(job.folder) / "images.npz")
    print(f"{job.name}: {found['images'] / found['seconds']:,.0f} images/s over {found['seconds']:.0f} s", flush=True)
    return found


def accuracies(features: Path, images: Path) -> dict[str, float]:
    """kNN accuracy on the test set, by layer."""
    from likewise.metrics import knn_accuracy

    rows, labels = np.load(features), np.load(images)
    train, test = torch.from_numpy(labels["labels"]), torch.from_numpy(labels["test_labels"])
    return {
        name: knn_accuracy(
            torch.from_numpy(rows[f"test {name}"]),
            test,
            torch.from_numpy(rows[f"train {name}"]),
            train,
            k=K,
            temperature=TAU,
        )
        for name in ("backbone", "embedding")
    }


def rival(name: str) -> str:
    return name.replace("likewise", "lightly").removesuffix("-symmetric")


def race(names: list[str], rounds: int, job: Job) -> dict[str, float]:
    """Images/s of each contestant: the median of its turns. Prints the table."""
    turns: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            found = contest(replace(job, name=name))
            if found is not None:
                turns[name].append(found["images"] / found["seconds"])
    speeds = {name: statistics.median(found) for name, found in turns.items() if found}
    print("\n| | images/s | times lightly's |\n| --- | --- | --- |")
    for name, speed in speeds.items():
        ratio = f"{speed / speeds[rival(name)]:.2f}×" if name.startswith("likewise") and rival(name) in speeds else ""
        print(f"| {name} | {speed:,.0f} | {ratio} |", flush=True)
    return speeds


def accuracy_race(speeds: Mapping[str, float], job: Job) -> None:
    """Trains each for ``job.seconds`` and prints how well it then does."""
    rows = []
    for name, speed in speeds.items():
        epochs = job.seconds * speed / job.items
        whole = math.ceil(epochs) if name.startswith("lightly") else math.floor(epochs)
        found = contest(replace(job, name=name, epochs=max(1, whole)))
        if found is not None:
            rows.append((name, found))
    print("\n| | epochs | minutes | kNN of the backbone, % | kNN of the embedding, % |\n|" + " --- |" * 5)
    for name, found in rows:
        measured = f"{100 * found['backbone']:.2f} | {100 * found['embedding']:.2f}"
        print(f"| {name} | {found['images'] / job.items:.1f} | {found['seconds'] / 60:.2f} | {measured} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="each contestant is timed for so long")
    parser.add_argument("--rounds", type=int, default=1, help="turns of each contestant; the median counts")
    parser.add_argument("--accuracy", type=float, metavar="MINUTES", help="also train each for so long, and measure")
    parser.add_argument("--items", type=int, default=50_000, help="training images; fewer for a quick look")
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=CONTESTANTS, metavar="NAME")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job is not None:
        torch.set_num_threads(CORES)
        torch.manual_seed(0)
        job = Job(**json.loads(arguments.job))
        if job.name.startswith("lightly"):
            sys.path.insert(0, str(ROOT / "src"))  # the rivals' environment has no likewise
            import_torchvision()
            print(json.dumps(run_lightly(job)))
        else:
            print(json.dumps(run_likewise(job)))
        return
    if not python_of(RIVALS).exists():
        sys.exit("The rivals are not installed; run: python benchmarks/views.py --setup")
    if not (data_folder() / "train.parquet").exists():
        sys.exit(f"{data_folder()}/train.parquet is missing; point LIKEWISE_DATA at a folder that has cifar10/.")
    from likewise.data import open_items

    print(f"{cpu()}, {CORES} cores; torch {torch.__version__}; {WORKERS} workers of lightly's; batch {BATCH}\n")
    train, test = (open_items(str(data_folder() / f"{part}.parquet"), progress=False) for part in ("train", "test"))
    train = train.select(np.arange(arguments.items))
    with tempfile.TemporaryDirectory() as folder:
        np.savez(
            Path(folder) / "images.npz",
            train=train.values,
            labels=train.labels,
            test=test.values,
            test_labels=test.labels,
        )
        job = Job(name="", seconds=arguments.seconds, items=arguments.items, folder=folder)
        names = [name for name in CONTESTANTS if name in arguments.only]
        speeds = race(names, arguments.rounds, job)
        if arguments.accuracy:
            accuracy_race(speeds, replace(job, seconds=60 * arguments.accuracy))


if __name__ == "__main__":
    main()
