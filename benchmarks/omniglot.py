"""Zero-shot retrieval on part of Omniglot: train on three alphabets, retrieve the characters of the two others.

    python benchmarks/omniglot.py                        # every method, 5 rotations of the alphabets, 3 seeds: hours
    python benchmarks/omniglot.py --seeds 1 --only circle ms --steps 100    # a part of it

Each rotation is one ``likewise compare``: the same encoder, views, batches and steps for every method, raw pixels and
the untrained encoder beside them. Answers are kept under --out, so that a run that was stopped goes on. The table gives
Recall@1 and MAP@R in %, mean ± standard deviation over the rotations of the means over seeds.
Needs LIKEWISE_DATA/omniglot-small (default ../shared/data).
"""

import argparse
import io
import os
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from views import ROOT, cpu

from likewise.compare import compare
from likewise.data import Items
from likewise.methods.classes import CLASSES
from likewise.methods.pairs import PAIRS

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="of every training, 128 drawings each")
    parser.add_argument("--only", nargs="+", default=METHODS, choices=METHODS, metavar="METHOD")
    parser.add_argument("--rotations", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "omniglot")
    arguments = parser.parse_args()
    path = Path(os.environ.get("LIKEWISE_DATA", ROOT.parent / "shared" / "data")) / "omniglot-small/omniglot.parquet"
    if not path.exists():
        sys.exit(f"{path} is missing; point LIKEWISE_DATA at a folder that has omniglot-small/.")
    torch.set_num_threads(arguments.threads)
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
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
                values[row.method][measure].append(100 * row.mean[measure])
    print(f"\n{cpu()}, torch {torch.__version__}; {arguments.steps} steps, {arguments.seeds} seeds\n")
    print(f"| | {' | '.join(MEASURES.values())} |\n|-|{'-|' * len(MEASURES)}")
    for name, found_values in sorted(values.items(), key=lambda item: -statistics.mean(item[1]["map@r"])):
        cells = []
        for measure in MEASURES:
            each = found_values[measure]
            spread = f" ± {statistics.stdev(each):.1f}" if len(each) > 1 else ""
            cells.append(f"{statistics.mean(each):.1f}{spread}")
        print(f"| {name} | {' | '.join(cells)} |")
    for name, reason in failed.items():
        print(f"FAILED {name}: {reason}")


if __name__ == "__main__":
    main()
