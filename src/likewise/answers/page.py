"""The page of an answer: rows of pictures in one file of HTML that loads no other."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from likewise.answers.duplicates import Duplicates, Pair
from likewise.answers.outliers import Outliers
from likewise.data import Items
from likewise.errors import LikewiseError
from likewise.files import atomic_write, place_for
from likewise.pages.page import whole
from likewise.pages.pictures import PLAIN, QUERY, Mark, thumbnail
from likewise.pages.pieces import named, note

GROUPS, MEMBERS, SHOWN = 200, 30, 100  # groups, members of a group, and items that a page shows at most


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


def write_page(path: str | Path, title: str, items: Items, sections: Iterable[tuple[str, str]]) -> None:
    """Writes a page of sections, each a heading and its HTML, whole or not at all.

    Raises LikewiseError unless the path ends in .html, OSError from the file system.
    """
    place = page_file(path)
    body = "".join(f"<h2>{named(heading)}</h2>{content}" for heading, content in sections)
    with atomic_write(place) as file:
        file.write(whole(title, items.stamp("data"), body))


def shelf(items: Items, cells: Sequence[Cell]) -> str:
    """A row of pictures with their captions; of items without pictures, a line of their names."""
    if items.pictured:
        shown = (thumbnail(items.picture(each.row), items.ids[each.row], each.caption, each.mark) for each in cells)
        return f'<div class="row">{"".join(shown)}</div>'
    return f"<p>{'; '.join(f'{named(items.ids[each.row])} ({named(each.caption)})' for each in cells)}</p>"


def duplicates_page(path: str | Path, found: Duplicates) -> None:
    """Writes the groups, and the pairs near the threshold. Raises as ``write_page``."""
    groups = note("Framed: the item that stands for the group. The others with their value for it.")
    for group in found.groups[:GROUPS]:
        cells = [Cell(group.centre, found.items.ids[group.centre], QUERY)]
        cells += [Cell(each.second, f"{each.value:.3f}") for each in group.members[:MEMBERS]]
        more = len(group.members) - MEMBERS
        groups += shelf(found.items, cells) + (note(f"and {more:,} more") if more > 0 else "")
    if len(found) > GROUPS:
        groups += note(f"and {len(found) - GROUPS:,} more groups")
    sections = [("What was found", note(found.sentence()) + note(found.about())), ("Groups", groups)]
    looks = note("Pairs near the threshold, the most alike first. Those before the line count as alike.")
    for alike in (True, False):
        looks += "" if alike else "<hr>"
        looks += "".join(_pair(found.items, each) for each in found.look if found.alike(each) == alike)
    write_page(path, f"likewise: duplicates in {found.items.source}", found.items, [*sections, ("To look at", looks)])


def _pair(items: Items, pair: Pair) -> str:
    first, second = items.ids[pair.first], items.ids[pair.second]
    return shelf(items, [Cell(pair.first, f"{pair.value:.4f} {first}"), Cell(pair.second, second)])


def outliers_page(path: str | Path, found: Outliers, count: int) -> None:
    """Writes the ``count`` furthest items with what is nearest to each, and the suspect labels, as ``write_page``."""
    furthest = note(
        f"Framed: an item, with its distance to its neighbour {found.k}; 1 is the median. Then the nearest."
    )
    for row in found.order[: min(count, SHOWN)].tolist():
        near = int(found.nearest[row])
        cells = [Cell(row, f"{found.distances[row]:.2f}", QUERY), Cell(near, found.items.ids[near])]
        furthest += shelf(found.items, cells)
    sections = [("What was found", note(found.sentence())), ("Furthest from the others", furthest)]
    if found.votes is not None:
        labels = note("Each with its label, and what its neighbours say instead with the share of their votes.")
        for row, each in found.suspects()[: min(count, SHOWN)]:
            labels += shelf(found.items, [Cell(row, f"{each.label}: {each.expected} {each.confidence:.0%}")])
        sections.append(("Labels that are likely wrong", labels))
    write_page(path, f"likewise: outliers in {found.items.source}", found.items, sections)
