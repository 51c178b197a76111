"""Small pictures of items within a page, with captions and marks."""

import base64
import io
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from likewise.pages.pieces import named

Pixels = npt.NDArray[np.uint8]
SIDE = 96  # pixels of a picture that is larger
SHOWN = 72  # pixels of a picture on the page
QUALITY = 80  # of JPEG
MOST = 8192  # bytes of a picture; above it has a lower quality


class Mark(NamedTuple):
    """How a picture is framed: the class of its style, a sign in the caption, and what it means in words."""

    style: str = ""
    sign: str = ""
    means: str = ""


PLAIN, QUERY, WRONG = Mark(), Mark("query", "", "query"), Mark("wrong", "✗", "another label")


def encoded(pixels: Pixels, side: int = SIDE) -> tuple[str, bytes]:
    """The type and the bytes of a picture of at most ``side`` pixels a side: PNG or JPEG, whichever is smaller.

    Args:
        pixels: uint8 (H, W, 3).
        side: its longer side at most; a larger picture is made smaller.
    """
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.BOX)
    small = np.asarray(image)
    kind, content = min(("png", png(small, 9)), ("jpeg", jpeg(small, QUALITY)), key=lambda each: len(each[1]))
    quality = QUALITY
    while len(content) > MOST and quality > 20:
        quality -= 20
        kind, content = "jpeg", jpeg(small, quality)
    return f"image/{kind}", content


def png(pixels: Pixels, level: int = 6) -> bytes:
    """A picture (H, W, 3) as the bytes of a PNG; level 1 is quick, 9 is small."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=level)
    return file.getvalue()


def jpeg(pixels: Pixels, quality: int) -> bytes:
    """A picture (H, W, 3) as the bytes of a JPEG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, optimize=True)
    return file.getvalue()


def source(pixels: Pixels) -> str:
    """A picture as the address of an image within the page."""
    kind, content = encoded(pixels)
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def thumbnail(pixels: Pixels, name: str, caption: str, mark: Mark = PLAIN) -> str:
    """A picture of uint8 (S, S, 3) with its caption; its name is said where it can't be seen."""
    said = f'<span class="unseen">{mark.means}: </span>' if mark.means else ""
    sign = f'<b class="sign" aria-hidden="true">{mark.sign}</b> ' if mark.sign else ""
    small = ' class="small"' if max(pixels.shape[:2]) < SHOWN else ""
    return (
        f'<figure class="hit {mark.style}"><img{small} width="{SHOWN}" height="{SHOWN}" alt="{named(name)}" '
        f'title="{named(name)}" src="{source(pixels)}">'
        f'<figcaption title="{named(caption)}">{said}{sign}{named(caption)}</figcaption></figure>'
    )


def scored(score: float, name: str) -> str:
    """The caption of a hit: its cosine, and its label or id."""
    return f"{score:.2f}".replace("-", "−") + f" · {name}"
