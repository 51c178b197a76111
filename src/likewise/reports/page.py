"""Pieces of a page: names, tables, pictures."""

import base64
import html
from collections.abc import Sequence
from typing import Any

from likewise.plots import png_of
from likewise.text import readable, shortened

LONGEST = 200  # characters of a name that are shown


def named(text: str) -> str:
    """A name of a file, an item or a label for the page: readable, escaped, and cut where it is very long."""
    return html.escape(readable(shortened(text, LONGEST)), quote=True)


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    text = "<table><tr>" + "".join(f"<th>{named(cell)}</th>" for cell in header) + "</tr>"
    for row in rows:
        text += "<tr>" + "".join(f"<td>{named(cell)}</td>" for cell in row) + "</tr>"
    return text + "</table>"


def picture(figure: Any) -> str:
    """A drawn figure, as PNG within the page."""
    source = base64.b64encode(png_of(figure, dpi=110, box="tight")).decode()
    return f'<img class="wide" alt="" src="data:image/png;base64,{source}">'
