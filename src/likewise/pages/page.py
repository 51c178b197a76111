"""A page of HTML in one file that loads no other and runs no script but its own."""

import html
import json
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files

from likewise.pages.pieces import named
from likewise.text import utf8

STYLE = "".join((files("likewise.pages") / name).read_text(encoding="utf-8") for name in ("pieces.css", "page.css"))


def whole(title: str, stamp: Mapping[str, object], body: str, *, script: str = "") -> bytes:
    """The file of a page: its title, what made it, its body, which is HTML, and its script.

    The page forbids the browser everything else by a Content-Security-Policy: other scripts and styles, by their
    hashes, and any address outside the file.
    """
    made, shown = html.escape(json.dumps(stamp, ensure_ascii=False)), named(title)
    style, run = _text_of_file(STYLE), _text_of_file(script)
    policy = f"default-src 'none'; img-src data: blob:; style-src '{_hash(style)}'; base-uri 'none'; form-action 'none'"
    policy += f"; script-src '{_hash(run)}'" if script else ""
    last = f'<script type="module">{run}</script>' if script else ""
    return utf8(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="likewise" content="{made}">'
        f"<title>{shown}</title><style>{style}</style></head>"
        f"<body><main><h1>{shown}</h1>{body}</main>{last}</body></html>"
    )


def _text_of_file(text: str) -> str:
    """A style or script as a browser reads it, whose hash is taken of that."""
    return "\n" + text.replace("\r\n", "\n").strip() + "\n"


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
