"""Draws docs/demo-neighbours.png: test digits of the demo and the digits that its model finds nearest.

likewise demo --out runs/demo
python docs/draw_neighbours.py runs/demo

The queries are the first test digit of each kind, so nothing is chosen by hand.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

import likewise as lw
from likewise.cli.demo import digits
from likewise.metrics import top_k

PICTURE = Path(__file__).parent / "demo-neighbours.png"
SIDE, PAD, BLOCK = 48, 4, 24  # pixels: a digit, the gap around it, the gap beside a query and between the two blocks
NEIGHBOURS = 8
RIGHT, WRONG = (170, 190, 220), (213, 50, 40)


def draw(run: Path) -> tuple[Image.Image, int]:
    """The picture, and how many of the neighbours shown are another digit than their query."""
    _, items = digits()
    rows = torch.from_numpy(np.asarray(items.labels))
    ids = torch.arange(len(items))
    queries = torch.tensor([int((rows == label).nonzero()[0]) for label in rows.unique()])
    z = lw.load(run).features(items)
    _, nearest = top_k(z[queries], z, NEIGHBOURS, query_ids=queries, key_ids=ids)
    step = SIDE + 2 * PAD
    wide = (NEIGHBOURS + 1) * step + BLOCK
    half = -(-len(queries) // 2)
    picture = Image.new("RGB", (2 * wide + BLOCK, half * step), "white")
    wrong = 0
    for number, (query, neighbours) in enumerate(zip(queries.tolist(), nearest.tolist(), strict=True)):
        left, top = number // half * (wide + BLOCK), number % half * step
        paste(picture, items.values[query], left, top, (0, 0, 0))
        for place, row in enumerate(neighbours):
            same = bool(rows[row] == rows[query])
            wrong += not same
            paste(picture, items.values[row], left + step + BLOCK + place * step, top, RIGHT if same else WRONG)
    return picture.quantize(32), wrong


def paste(picture: Image.Image, pixels: np.ndarray, left: int, top: int, frame: tuple[int, int, int]) -> None:
    """One digit, dark on white, with a frame."""
    digit = Image.fromarray(255 - np.asarray(pixels)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    picture.paste(digit, (left + PAD, top + PAD))
    box = (left + PAD - 2, top + PAD - 2, left + PAD + SIDE + 1, top + PAD + SIDE + 1)
    ImageDraw.Draw(picture).rectangle(box, outline=frame, width=2)


if __name__ == "__main__":
    picture, wrong = draw(Path(sys.argv[1]))
    picture.save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes; {wrong} neighbours are another digit than their query")
