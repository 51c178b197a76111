"""Pages of HTML in one file that loads no other, and their pieces: names, tables, pictures."""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from likewise.plots import png_of
from likewise.text import readable, shortened, utf8

LONGEST = 200  # characters of a name that are shown
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2733;background:#fff}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.5rem}table{border-collapse:collapse}
th,td{padding:.3rem .8rem;text-align:right;border-bottom:1px solid #d8dee4}
th:first-child,td:first-child{text-align:left}
.row{display:flex;gap:4px;align-items:end;margin:.4rem 0;overflow-x:auto}
figure{margin:0;text-align:center;font-size:.7rem}
figure img{width:64px;height:64px;image-rendering:pixelated;border-radius:4px}.query img{outline:3px solid #0a66c2}
.wrong img{outline:3px solid #c0392b}
.query{margin-right:14px}.pairs{display:flex;flex-wrap:wrap;gap:10px 26px}.pairs .query{margin-right:6px}
.legend{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:0 1.2rem;font-size:.9rem}
.note{color:#5a6875;font-size:.9rem}details pre{background:#f5f7f9;padding:1rem;overflow:auto}
img.wide{max-width:100%}figcaption{max-width:64px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
"""


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


def thumbnail(pixels: npt.NDArray[np.uint8], name: str, caption: str, kind: str = "") -> str:
    """A picture of uint8 (S, S, 3) with its caption; its name is said where it can't be seen.

    The kind ``query`` frames it in blue, ``wrong`` in red.
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(buffer, "PNG")
    source = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<figure class="{kind}"><img alt="{named(name)}" title="{named(name)}" src="data:image/png;base64,{source}">'
        f"<figcaption>{named(caption)}</figcaption></figure>"
    )


def whole(title: str, stamp: Mapping[str, object], body: str) -> bytes:
    """The file of a page: its title, what made it, and its body, which is HTML."""
    made, shown = html.escape(json.dumps(stamp, ensure_ascii=False)), named(title)
    return utf8(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta name="likewise" content="{made}">'
        f"<title>{shown}</title><style>{STYLE}</style><h1>{shown}</h1>{body}</html>"
    )
