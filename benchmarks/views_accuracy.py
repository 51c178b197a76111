"""Does composing the views cost accuracy? The same training with composed and with sequential views, several seeds.

    python benchmarks/views_accuracy.py --items 10000 --epochs 10 --seeds 3

Needs LIKEWISE_DATA/cifar10 (default ../shared/data). Prints the kNN accuracy on the test set of each run, the mean
difference and its standard error over seeds (paired: a seed's weights, order and crops are the same on both sides).
"""

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from sequential_views import SequentialViews

from likewise.config.overrides import settings_from
from likewise.data import Items, open_items
from likewise.metrics import knn_accuracy
from likewise.model import Model
from likewise.training.batches import build_sampler
from likewise.training.decide import decide
from likewise.training.loop import train
from likewise.training.run import begin


def accuracy(name: str, seed: int, items: Items, test: Items, epochs: int) -> float:
    settings = settings_from(
        {"epochs": epochs, "seed": seed, "knn_epochs": 0, "optim.lr": 0.1, "objective.temperature": 0.1}
    )
    settings, total = decide(settings, len(items)), epochs * build_sampler(settings, len(items)).steps_per_epoch
    model = Model.untrained(settings, items)
    run = begin(model, items, total, torch.device("cpu"))
    if name == "sequential":
        run = replace(run, views=SequentialViews(settings.views, settings.size))
    with tempfile.TemporaryDirectory() as folder:
        train(run, Path(folder), progress=False)
    labels, test_labels = (torch.from_numpy(np.asarray(x.labels)) for x in (items, test))
    return knn_accuracy(model.features(test), test_labels, model.features(items), labels, k=200, temperature=0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    data = Path(os.environ.get("LIKEWISE_DATA", "../shared/data")) / "cifar10"
    if not (data / "train.parquet").exists():
        raise SystemExit(f"{data}/train.parquet is missing; point LIKEWISE_DATA at a folder that has cifar10/.")
    whole = open_items(str(data / "train.parquet"))
    items = whole.select(np.sort(np.random.default_rng(0).permutation(len(whole))[: arguments.items]))
    test = open_items(str(data / "test.parquet")).select(np.arange(5000))
    print("| seed | composed, % | sequential, % |\n|-|-|-|")
    differences = []
    for seed in range(arguments.seeds):
        both = [100 * accuracy(name, seed, items, test, arguments.epochs) for name in ("composed", "sequential")]
        differences.append(both[0] - both[1])
        print(f"| {seed} | {both[0]:.2f} | {both[1]:.2f} |", flush=True)
    error = np.std(differences, ddof=1) / len(differences) ** 0.5 if len(differences) > 1 else float("nan")
    print(f"\ncomposed − sequential: {np.mean(differences):+.2f} ± {error:.2f} points (standard error)")


if __name__ == "__main__":
    main()
