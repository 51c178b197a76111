"""Zero-shot retrieval on part of Omniglot: train on three alphabets, retrieve the characters of the two others.

    python benchmarks/omniglot.py                        # every method, 5 rotations of the alphabets, 3 seeds: hours
    python benchmarks/omniglot.py --seeds 1 --only circle ms --steps 100    # a part of it
    python benchmarks/omniglot.py --curves docs/results  # and the losses by step, as omniglot.png and .svg

Each rotation is one ``likewise compare``: the same encoder, views, batches and steps for every method, raw pixels and
the untrained encoder beside them. Answers are kept under --out, so that a run that was stopped goes on. The table gives
Recall@1 and MAP@R in %, mean ± standard deviation over the rotations of the means over seeds.

Not all of this is unseen: likewise's learning rates of the supervised methods, and sphereface's mix, were chosen by
short trainings on rotation 0, judged on its test alphabets. Those are test alphabets again in rotations 1 and 4. So the
table gives the mean over rotations 2 and 3 alone, whose test alphabets chose nothing, beside the mean over all.
Needs LIKEWISE_DATA/omniglot-small (default ../shared/data).
"""

import argparse
import io
import os
import statistics
import sys
from collections import defaultdict
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from views import ROOT, cpu

from likewise.comparison.run import compare
from likewise.data import Items
from likewise.methods.classes import CLASSES
from likewise.methods.pairs import PAIRS
from likewise.training.metrics_log import read_metrics

METHODS = [method.name for method in (*PAIRS, *CLASSES)] + ["npid", "simclr"]
SIZE = 32
SETTINGS = {
    "size": SIZE,
    "encoder.name": "resnet-small",
    "encoder.dim": 128,
    "views.crop_scale": [0.5, 1.0],
    "views.flip": 0.0,  # a mirrored character is another one
    "views.rotation": 10.0,
    "views.jitter": 0.0,  # there is no colour
    "views.grayscale": 0.0,
}
MEASURES = {"recall@1": "Recall@1", "map@r": "MAP@R"}
UNSEEN = (2, 3)  # rotations whose test alphabets no learning rate was chosen by
Values = dict[str, dict[str, dict[int, float]]]  # of a method, measure and rotation: %, the mean over seeds


def drawings() -> Path:
    """The file of all drawings; ends the program where it is missing."""
    path = Path(os.environ.get("LIKEWISE_DATA", ROOT.parent / "shared" / "data")) / "omniglot-small/omniglot.parquet"
    if not path.exists():
        sys.exit(f"{path} is missing; point LIKEWISE_DATA at a folder that has omniglot-small/.")
    return path


def read(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    """Alphabets, characters and pixels (N, 32, 32, 3) of all drawings."""
    from pyarrow import parquet

    table = parquet.read_table(path)
    pictures = []
    for image in table["image"].to_pylist():
        small = Image.open(io.BytesIO(image["bytes"])).convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        pictures.append(np.repeat(np.asarray(small)[..., None], 3, 2))
    return table["alphabet"].to_pylist(), table["character"].to_pylist(), np.stack(pictures)


def part(characters: list[str], pixels: np.ndarray, rows: np.ndarray, name: str) -> Items:
    """These drawings, labelled by character."""
    names = tuple(sorted({characters[row] for row in rows}))
    labels = np.array([names.index(characters[row]) for row in rows])
    ids = tuple(map(str, rows))
    return Items(ids=ids, values=pixels[rows], kind="images", labels=labels, label_names=names, source=name)


def rotations(path: Path) -> list[tuple[Items, Items]]:
    """Train and test drawings: two neighbouring alphabets, in alphabetical order, test."""
    alphabets, characters, pixels = read(path)
    names = sorted(set(alphabets))
    found = []
    for first in range(len(names)):
        held_out = {names[first], names[(first + 1) % len(names)]}
        tests = np.array([alphabet in held_out for alphabet in alphabets])
        parts = (
            part(characters, pixels, np.flatnonzero(rows), f"rotation {first}, {what}")
            for rows, what in ((~tests, "train"), (tests, "test"))
        )
        found.append((next(parts), next(parts)))
    return found


def table(values: Values, chosen: list[int]) -> list[str]:
    """Lines of markdown: means over all rotations, and over the unseen ones alone; the best complete method first.

    Where a method failed in some, its mean says of how many it is.
    """
    unseen = [number for number in chosen if number in UNSEEN]
    groups = {"all rotations": chosen, f"rotations {' and '.join(map(str, unseen)) or 'unseen'} alone": unseen}
    heads = [f"{text}, {group}" for group in groups for text in MEASURES.values()]
    lines = [f"| | {' | '.join(heads)} |", f"|-|{'-|' * len(heads)}"]

    def rank(name: str) -> tuple[int, float]:
        each = values[name]["map@r"].values()
        return -len(each), -statistics.mean(each)

    for name in sorted(values, key=rank):
        cells = [mean_of(values[name][measure], group) for group in groups.values() for measure in MEASURES]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def mean_of(by_rotation: dict[int, float], chosen: list[int]) -> str:
    each = [by_rotation[number] for number in chosen if number in by_rotation]
    if not each:
        return "–"
    spread = f" ± {statistics.stdev(each):.1f}" if len(each) > 1 else ""
    of = "" if len(each) == len(chosen) else f" ({len(each)} of {len(chosen)} rotations)"
    return f"{statistics.mean(each):.1f}{spread}{of}"


def losses_of(folder: Path) -> tuple[list[float], list[float]]:
    """Steps and mean losses since the last one, of a training that compare has kept."""
    lines = [line for line in read_metrics(folder) if "loss" in line] if folder.exists() else []
    return [float(line["step"]) for line in lines], [float(line["loss"]) for line in lines]


def draw_curves(out: Path, methods: list[str], chosen: list[int], seeds: int, folder: Path) -> None:
    """A small plot for each method: a line for each of its trainings. Says how many numbers are not finite."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = min(5, len(methods))
    rows, broken = -(-len(methods) // columns), 0
    with matplotlib.rc_context({"svg.hashsalt": "likewise", "svg.fonttype": "none", "font.size": 8}):
        figure, axes = pyplot.subplots(
            rows, columns, figsize=(2 * columns, 1.6 * rows), layout="constrained", squeeze=False
        )
        for place, axis in enumerate(axes.flat):
            axis.set_axis_off() if place >= len(methods) else axis.set_title(methods[place], fontsize=8)
        for axis, method in zip(axes.flat, methods, strict=False):
            for rotation, seed in product(chosen, range(seeds)):
                steps, losses = losses_of(out / f"rotation-{rotation}" / f"{method}-seed-{seed}")
                axis.plot(steps, losses, color=f"C{rotation}", linewidth=0.7)
                broken += int((~np.isfinite(losses)).sum())
        figure.supxlabel("step")
        figure.supylabel("loss")
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / "omniglot.png", dpi=150, metadata={"Software": None})
        figure.savefig(folder / "omniglot.svg", metadata={"Date": None, "Creator": None})
    print(f"\nDrawn: {folder / 'omniglot.png'} and .svg; {broken} losses are not finite")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="of every training, 128 drawings each")
    parser.add_argument("--only", nargs="+", default=METHODS, choices=METHODS, metavar="METHOD")
    parser.add_argument("--rotations", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "omniglot")
    parser.add_argument("--curves", type=Path, metavar="FOLDER", help="draw the losses there")
    arguments = parser.parse_args()
    path = drawings()
    torch.set_num_threads(arguments.threads)
    values: Values = defaultdict(lambda: defaultdict(dict))
    failed = dict[str, str]()
    for number, (train, test) in enumerate(rotations(path)):
        if number not in arguments.rotations:
            continue
        found = compare(
            train,
            test=test,
            methods=arguments.only,
            seeds=arguments.seeds,
            steps=arguments.steps,
            settings=SETTINGS,
            out=arguments.out / f"rotation-{number}",
        )
        failed |= {f"rotation {number}, {name}": reason for name, reason in found.failed.items()}
        for row in found.rows:
            for measure in MEASURES:
                values[row.method][measure][number] = 100 * row.mean[measure]
    print(f"\n{cpu()}, torch {torch.__version__}; {arguments.steps} steps, {arguments.seeds} seeds\n")
    print(*table(values, sorted(set(arguments.rotations))), sep="\n")
    for name, reason in failed.items():
        print(f"FAILED {name}: {reason}")
    if arguments.curves is not None:
        draw_curves(arguments.out, arguments.only, arguments.rotations, arguments.seeds, arguments.curves)


if __name__ == "__main__":
    main()
