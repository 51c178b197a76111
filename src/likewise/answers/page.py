"""The pages of ``likewise duplicates`` and ``likewise outliers``."""

from pathlib import Path

from likewise.answers.duplicates import Duplicates, Pair
from likewise.answers.outliers import Outliers
from likewise.data import Items
from likewise.evaluation.picture_page import Cell, shelf, write_page
from likewise.pages.pictures import QUERY
from likewise.pages.pieces import note

GROUPS, MEMBERS, SHOWN = 200, 30, 100  # groups, members of a group, and items that a page shows at most


def duplicates_page(path: str | Path, found: Duplicates) -> None:
    """Writes the groups, and the pairs near the threshold. Raises as ``write_page``."""
    groups = note("Framed: the item that stands for the group. The others with their value for it.")
    ids = found.items.ids
    for group in found.groups[:GROUPS]:
        cells = [Cell(group.centre, ids[group.centre], QUERY)]
        cells += [Cell(each.second, f"{each.value:.3f} · {ids[each.second]}") for each in group.members[:MEMBERS]]
        more = len(group.members) - MEMBERS
        groups += shelf(found.items, cells) + (note(f"and {more:,} more") if more > 0 else "")
    if len(found) > GROUPS:
        groups += note(f"and {len(found) - GROUPS:,} more groups")
    sections = [("What was found", note(found.sentence()) + note(found.about())), ("Groups", groups)]
    looks = note("Pairs near the threshold, the most alike first. Those before the line count as alike.")
    for alike in (True, False):
        looks += "" if alike else "<hr>"
        pairs = "".join(_pair(found.items, each) for each in found.look if found.alike(each) == alike)
        looks += f'<div class="pairs">{pairs}</div>'
    write_page(path, f"likewise: duplicates in {found.items.source}", found.stamp, [*sections, ("To look at", looks)])


def _pair(items: Items, pair: Pair) -> str:
    first, second = items.ids[pair.first], items.ids[pair.second]
    return shelf(items, [Cell(pair.first, first, QUERY), Cell(pair.second, f"{pair.value:.4f} · {second}")])


def outliers_page(path: str | Path, found: Outliers, count: int) -> None:
    """Writes the ``count`` furthest items with what is nearest to each, and the suspect labels, as ``write_page``."""
    furthest = note(
        f"Framed: an item, with its distance to its neighbour {found.k}; 1 is the median. Then the nearest."
    )
    for row in found.order[: min(count, SHOWN)].tolist():
        near = int(found.nearest[row])
        cells = [
            Cell(row, f"{found.distances[row]:.2f} · {found.items.ids[row]}", QUERY),
            Cell(near, found.items.ids[near]),
        ]
        furthest += shelf(found.items, cells)
    sections = [("What was found", note(found.sentence())), ("Furthest from the others", furthest)]
    if found.votes is not None:
        labels = note("Each with its label, and what its neighbours say instead with the share of their votes.")
        for row, each in found.suspects()[: min(count, SHOWN)]:
            labels += shelf(found.items, [Cell(row, f"{each.label}: {each.expected} {each.confidence:.0%}")])
        sections.append(("Labels that are likely wrong", labels))
    write_page(path, f"likewise: outliers in {found.items.source}", found.stamp, sections)
