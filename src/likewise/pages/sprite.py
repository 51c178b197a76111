"""Many small pictures in one JPEG."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from likewise.pages.pictures import Pixels, jpeg

MOST_BYTES = 800_000
QUALITY = 75  # of JPEG
SIDES = ((400, 64), (1000, 48), (10**9, 32))  # at most so many pictures, and the side of each in pixels


class Sprite(NamedTuple):
    """Small pictures in one JPEG: of which rows, how large each is, and how many stand side by side."""

    rows: tuple[int, ...]
    side: int
    across: int
    content: bytes


def sprite_of(picture: Callable[[int], Pixels], rows: Sequence[int]) -> Sprite:
    """The pictures of items, in a grid; every second one is left out until they take at most ``MOST_BYTES``.

    Args:
        picture: gives the picture of a row.
        rows: which rows, at least one.
    """
    from PIL import Image

    side = next(side for most, side in SIDES if len(rows) <= most)
    side = min(side, max(picture(rows[0]).shape[:2]))
    across = max(1, round(len(rows) ** 0.5))
    sheet = Image.new("RGB", (across * side, -(-len(rows) // across) * side), "white")
    for place, row in enumerate(rows):
        tile = Image.fromarray(picture(row)).resize((side, side), Image.Resampling.BOX)
        sheet.paste(tile, (place % across * side, place // across * side))
    content = jpeg(np.asarray(sheet), QUALITY)
    if len(content) > MOST_BYTES and len(rows) > 1:
        return sprite_of(picture, rows[::2])
    return Sprite(tuple(rows), side, across, content)
