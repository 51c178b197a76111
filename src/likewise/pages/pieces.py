"""Pieces of a page: names as text, notes, tables."""

import html
from collections.abc import Sequence

from likewise.text import readable, shortened

LONGEST = 200  # characters of a name that are shown


def named(text: str) -> str:
    """A name of a file, an item or a label for the page: readable, escaped, and cut where it is very long."""
    return html.escape(readable(shortened(text, LONGEST)), quote=True)


def note(text: str) -> str:
    """A line of explanation."""
    return f'<p class="note">{html.escape(readable(text))}</p>'


def scrolled(table: str, about: str) -> str:
    """A table that scrolls within the page where it is too wide; ``about`` names it for a screen reader."""
    return f'<div class="scroll" tabindex="0" role="group" aria-label="{named(about)}">{table}</div>'


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of names and numbers."""
    text = "<table><thead><tr>" + "".join(f'<th scope="col">{named(cell)}</th>' for cell in header) + "</tr></thead>"
    text += "<tbody>"
    for row in rows:
        text += "<tr>" + "".join(f"<td>{named(cell)}</td>" for cell in row) + "</tr>"
    return scrolled(text + "</tbody></table>", f"table: {', '.join(cell for cell in header if cell)}")


def folded(title: str, text: str) -> str:
    """Text that is shown when its title is clicked."""
    shown = html.escape("\n".join(map(readable, text.split("\n"))))
    return f"<details><summary>{named(title)}</summary><pre>{shown}</pre></details>"


def listed(facts: Sequence[tuple[str, str]]) -> str:
    """Facts, each with its name, as HTML; values are HTML already."""
    return "<dl>" + "".join(f"<dt>{named(name)}</dt><dd>{value}</dd>" for name, value in facts) + "</dl>"
