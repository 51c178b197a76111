"""Loads matplotlib, of the extra ``plot``, when something is drawn; marks pictures, so that none becomes an item."""

import io
from typing import Any

from likewise.errors import LikewiseError


def matplotlib_module() -> Any:
    """matplotlib with ``matplotlib.figure``. Such figures need no window and do not change a notebook's backend.

    Raises:
        LikewiseError: matplotlib is not installed.
    """
    try:
        import matplotlib
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise LikewiseError('plots are drawn with matplotlib; pip install "likewise[plot]".') from None
    return matplotlib


SOFTWARE = "likewise"  # in the text chunk "Software" of every PNG that likewise draws
HEAD = 128  # bytes at the beginning of a PNG that hold this chunk


def png_of(figure: Any, *, dpi: int) -> bytes:
    """A matplotlib figure as PNG that :func:`is_drawn` knows."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": SOFTWARE})
    return buffer.getvalue()


def is_drawn(head: bytes) -> bool:
    """Whether the first ``HEAD`` bytes of a file are those of a PNG that likewise drew."""
    return head.startswith(b"\x89PNG") and b"tEXtSoftware\0" + SOFTWARE.encode() in head[:HEAD]
