"""Pages with rows of pictures of items, in one file of HTML that loads no other."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from likewise.data import Items
from likewise.errors import LikewiseError
from likewise.files import atomic_write, place_for
from likewise.pages.page import whole
from likewise.pages.pictures import PLAIN, Mark, thumbnail
from likewise.pages.pieces import named
from likewise.stamp import Stamp


class Cell(NamedTuple):
    """An item in a row of pictures, with its caption and its frame."""

    row: int
    caption: str
    mark: Mark = PLAIN


def page_file(path: str | Path) -> Path:
    """The path of a page to write. Raises LikewiseError unless it ends in .html and can be written."""
    place = place_for(path, "--html")
    if place.suffix.lower() not in (".html", ".htm"):
        raise LikewiseError(f"a page is written as .html, so {place} must end so.")
    return place


def write_page(path: str | Path, title: str, stamp: Stamp, sections: Iterable[tuple[str, str]]) -> None:
    """Writes a page of sections, each a heading and its HTML, whole or not at all; ``stamp`` is what made it.

    Raises LikewiseError unless the path ends in .html, OSError from the file system.
    """
    place = page_file(path)
    body = "".join(f"<h2>{named(heading)}</h2>{content}" for heading, content in sections)
    with atomic_write(place) as file:
        file.write(whole(title, stamp, body))


def shelf(items: Items, cells: Sequence[Cell]) -> str:
    """A row of pictures with their captions; of items without pictures, a line of their names."""
    if items.pictured:
        shown = (thumbnail(items.picture(each.row), items.ids[each.row], each.caption, each.mark) for each in cells)
        return f'<div class="row">{"".join(shown)}</div>'
    ids = (items.ids[each.row] for each in cells)
    texts = (
        each.caption if id in each.caption else f"{id} ({each.caption})" for id, each in zip(ids, cells, strict=True)
    )
    return f"<p>{'; '.join(map(named, texts))}</p>"
