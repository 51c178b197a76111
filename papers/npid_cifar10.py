"""NPID's CIFAR-10 experiment (Wu et al., CVPR 2018, Table 1: kNN 80.8 exact softmax, 80.4 NCE with m = 4096).

    python papers/npid_cifar10.py --full --objective softmax    # ResNet-18, 200 epochs: wants a GPU
    python papers/npid_cifar10.py --full --objective nce
    python papers/npid_cifar10.py                              # small mode: seconds, on made-up images

The recipe is the released code's: ResNet-18 with a 3×3 stem, 128 numbers, τ = 0.1, SGD lr 0.03 momentum 0.9 weight
decay 5e-4, batches of 128, ×0.1 at epochs 120 and 160; crops of (0.2, 1) of the area, jitter 0.4 always, grayscale
0.2, no flip; bank momentum 0.5; no centring. Data: LIKEWISE_DATA/cifar10/{train,test}.parquet with columns image and
label. Accuracy is weighted kNN, k = 200, τ = 0.1, train images re-encoded, last epoch (the released script prints the
best epoch on the test set, with the bank's stale rows).
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from likewise.config.overrides import settings_from
from likewise.config.settings import FitSettings
from likewise.evaluation.classify import Protocol, evaluate
from likewise.evaluation.scores import print_table, save_scores
from likewise.methods import NPID
from likewise.training.fit import fit
from likewise.training.metrics_log import read_metrics

RECIPE = settings_from(
    {
        "encoder": {"name": "resnet18", "stem": "small", "head": "linear", "dim": 128, "centre": False},
        "objective": {"temperature": 0.1, "noise": 4096},
        "bank.momentum": 0.5,
        "optim": {"lr": 0.03, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "steps", "milestones": [0.6, 0.8]},
        "views": {"crop_scale": [0.2, 1.0], "hue": 0.4, "jitter": 1.0, "grayscale": 0.2, "flip": 0.0},
        "epochs": 200,
        "batch_size": 128,
        "knn_epochs": 10,
    },
    NPID.settings,
)
SMALL = {"size": 16, "epochs": 4, "batch_size": 32, "encoder.name": "resnet-small"}
OBJECTIVES: dict[str, dict[str, float]] = {
    "nce": {},
    "nonparametric-softmax": {},
    "parametric-softmax": {"objective.scale": 10.0},  # 1/τ
}


def made_up_images(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of ten colours with noise: (n, 16, 16, 3) uint8 and labels, for the small mode."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 10
    colours = np.random.default_rng(0).integers(40, 216, (10, 1, 1, 3))
    images = colours[labels] + random.integers(-40, 40, (n, 16, 16, 3))
    return images.clip(0, 255).astype(np.uint8), labels


def run(settings: FitSettings, train: object, test: object, out: Path) -> float:
    """Trains and measures; returns the learned encoder's kNN accuracy."""
    start = time.perf_counter()
    model = fit(train, out=out, settings=settings)
    seconds = time.perf_counter() - start
    protocol = Protocol(measures=("knn",))
    scores = evaluate(model, train=train, test=test, protocol=protocol)
    save_scores(out / "evaluation.json", scores)
    print_table(scores)
    speed = [float(line["items_per_second"]) for line in read_metrics(out) if "items_per_second" in line]
    print(f"{settings.objective.kind}: trained {seconds:,.0f} s, median {np.median(speed):,.0f} images/s, in {out}")
    return next(score.value for score in scores if score.name == "learned/knn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the paper's recipe on CIFAR-10")
    parser.add_argument("--objective", choices=OBJECTIVES, default="nce")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    chosen = {"objective": arguments.objective, **OBJECTIVES[arguments.objective], "precision": arguments.precision}
    settings = settings_from(chosen, RECIPE)
    if not arguments.full:
        settings = settings_from(SMALL | ({"objective.noise": 64} if arguments.objective == "nce" else {}), settings)
    if arguments.epochs:
        settings = settings_from({"epochs": arguments.epochs}, settings)
    if arguments.full:
        data = Path(os.environ.get("LIKEWISE_DATA", "../shared/data")) / "cifar10"
        if not (data / "train.parquet").exists():
            raise SystemExit(f"{data}/train.parquet is missing; point LIKEWISE_DATA at a folder that has cifar10/.")
        out = arguments.out or Path(f"runs/npid-cifar10-{arguments.objective}")
        run(settings, str(data / "train.parquet"), str(data / "test.parquet"), out)
    else:
        with tempfile.TemporaryDirectory() as folder:
            run(settings, made_up_images(320, 1), made_up_images(100, 2), arguments.out or Path(folder) / "run")


if __name__ == "__main__":
    main()
