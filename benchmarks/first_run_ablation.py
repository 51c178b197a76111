"""What is each choice of the recipe worth? Each row takes one of them away; the budget is the same for all.

    python benchmarks/first_run_ablation.py --only cifar10 --minutes 3             # half an hour
    python benchmarks/first_run_ablation.py --only omniglot --minutes 1 --threads 1

The sets and measures are those of ``first_run.py``, and so is what they need. A row is one seed; compare rows that ran
on an equally busy machine. A run that is finished in --out with the same options is measured, not trained again.
"""

import argparse
import shlex
import sys
from pathlib import Path

import torch
from first_run import learned, slug, tasks
from views import ROOT, cpu

import likewise as lw

FIRST = {"the recipe": "", "SGD (rate 0.12) instead of Muon": "--optim.name sgd"}
LAST = {
    "fp32 instead of bf16": "--precision fp32",
    "batches of 512 instead of 256": "--batch_size 512",
    "embeddings not centred": "--encoder.centre false",
    "simclr's own recipe": "--recipe paper --method simclr",
}
PHOTOS = {
    "resnet-small, whole pictures from 70 % on": "--encoder.name resnet-small",
    "resnet-small, whole pictures throughout": "--encoder.name resnet-small --views.small_until 0",
    "whole pictures from 70 % on": "--views.small_until 0.7",
    "τ = 0.2": "--objective.temperature 0.2",
    "learned numbers alone, no pixels": "--encoder.pixels 0",
    "crops from 8 %": "--views.crop_scale '[0.08, 1.0]'",
    "no flips": "--views.flip 0",
}
DRAWINGS = {
    "learned numbers alone, no pixels": "--encoder.pixels 0",
    "pictures not bent": "--views.deform 0",
    "a head of two layers": "--encoder.head mlp",
    "τ = 0.2": "--objective.temperature 0.2",
    "crops from 20 %": "--views.crop_scale '[0.2, 1.0]'",
    "crops of any shape from 3:4 to 4:3": "--views.crop_ratio '[0.75, 1.3333]'",
    "flips": "--views.flip 0.5",
    "no turns": "--views.rotation 0",
    "colours change as with photos": (
        "--views.brightness 0.4 --views.contrast 0.4 --views.saturation 0.4 --views.hue 0.1 --views.grayscale 0.2"
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path.home() / ".cache" / "likewise-first-run", metavar="FOLDER")
    parser.add_argument("--only", nargs="+", default=["cifar10"], choices=tasks(Path()), metavar="SET")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as suit the machine when a run begins")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "first_run_ablation", metavar="FOLDER")
    arguments = parser.parse_args()
    common = ["--minutes", f"{arguments.minutes:g}", "--seed", str(arguments.seed)]
    common += ["--threads", str(arguments.threads)] if arguments.threads else []
    print(f"{cpu()}, torch {torch.__version__}, {' '.join(common)}")
    for name in arguments.only:
        task = tasks(arguments.data)[name]
        if missing := [str(path) for path in task[:3] if not path.exists()]:
            sys.exit(f"{missing[0]} is missing; see first_run.py --help.")
        print(f"\n| {name} | epochs | {task.measure}, % | difference |\n|-|-|-|-|", flush=True)
        whole = None
        for row, options in (FIRST | (PHOTOS if name == "cifar10" else DRAWINGS) | LAST).items():
            given = [*common, *shlex.split(options)]
            run = arguments.out / slug(name, *given)
            value = float(learned(task, run, given).split()[0])
            whole = value if whole is None else whole
            print(f"| {row} | {lw.load(run).epoch:.1f} | {value:.1f} | {value - whole:+.1f} |", flush=True)


if __name__ == "__main__":
    main()
