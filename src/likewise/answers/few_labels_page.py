"""The pages of ``likewise classify`` and ``likewise select``: the items as pictures, or as ids where there are none."""

from pathlib import Path

import torch

from likewise.answers.classified import Classified
from likewise.answers.select import Selected
from likewise.data import Items
from likewise.evaluation.picture_page import Cell, shelf, write_page
from likewise.metrics.neighbours import top_k
from likewise.pages.pictures import QUERY, scored
from likewise.pages.pieces import grid, note

Table = tuple[list[str], list[list[str]]]  # header and rows
SHOWN, NEAREST = 12, 6  # items in a row; the nearest ones of an item
MOST_CLASSES = 50


def methods_table(found: Classified) -> Table:
    """A row for each method that was tried, the one that is used first."""
    rows = [[each.words, f"{each.right:,} of {each.tried:,}", f"{each.loss:.3f}"] for each in found.trials]
    return ["method", "labels found when left out", "−log confidence"], rows


def reliability_table(found: Classified) -> Table:
    """A row for each bin of confidence, of labelled items that are left out in turn."""
    rows = [
        [f"{each.least:.2f} to {each.most:.2f}", f"{each.mean:.2f}", f"{each.right:.2f}", f"{each.number:,}"]
        for each in found.trials[0].bins
    ]
    return ["confidence", "mean", "right", "labels left out"], rows


def classes_table(found: Classified) -> Table:
    """A row for each of the classes with most items, at most 50: its labels, the items that got it, their mean
    confidence, its AUROC if unknown."""
    aurocs = {each.label: f"{each.auroc:.2f}" for each in found.held_out}
    fresh, many = found.labels[~found.given], len(found.names)
    given = torch.bincount(found.labels[found.given], minlength=many)
    got = torch.bincount(fresh, minlength=many)
    sure = torch.bincount(fresh, weights=found.confidence[~found.given], minlength=many)
    most = (-(given + got)).argsort(stable=True)[:MOST_CLASSES].sort().values if many > MOST_CLASSES else range(many)
    rows = []
    for number in map(int, most):
        mean = f"{float(sure[number] / got[number]):.2f}" if got[number] else ""
        name = found.names[number]
        rows.append([name, f"{int(given[number]):,}", f"{int(got[number]):,}", mean, aurocs.get(name, "")])
    if many > MOST_CLASSES:
        rows.append([f"… and {many - MOST_CLASSES:,} smaller ones", "", "", "", ""])
    return ["label", "given", "found", "mean confidence", "AUROC of unlike"], rows


def classified_page(path: Path, found: Classified, items: Items) -> None:
    """Writes how far the classification can be trusted, and items of each kind. Raises as ``write_page``."""
    fresh = (~found.given).nonzero().flatten()

    def first(order: torch.Tensor, values: torch.Tensor) -> str:
        rows = fresh[order][:SHOWN].tolist()
        return shelf(items, [Cell(row, f"{float(values[row]):.2f} · {found.label(row)}") for row in rows])

    classes = note("Each class: three of its labels, framed, and what is most certainly of it.")
    for number, name in enumerate(found.names[:MOST_CLASSES]):
        mine = found.labels == number
        rest = (mine & ~found.given).nonzero().flatten()
        rest = rest[(-found.confidence[rest]).argsort(stable=True)][:SHOWN]
        cells = [Cell(row, name, QUERY) for row in (mine & found.given).nonzero().flatten()[:3].tolist()]
        classes += shelf(
            items, [*cells, *(Cell(row, scored(float(found.confidence[row]), name)) for row in rest.tolist())]
        )
    sections = [
        ("What was found", "".join(map(note, found.lines()))),
        ("Reliability", grid(*methods_table(found)) + grid(*reliability_table(found)) + grid(*classes_table(found))),
        ("Least certain", first(found.confidence[fresh].argsort(stable=True), found.confidence)),
        ("Most unlike anything labelled", first((-found.unlike[fresh]).argsort(stable=True), found.unlike)),
        ("Classes", classes),
    ]
    write_page(path, f"likewise: {items.source} by few labels", found.stamp, sections)


def selected_page(path: Path, found: Selected, items: Items, rows: torch.Tensor) -> None:
    """Writes what was selected, each with its nearest items by ``rows`` (N, D). Raises as ``write_page``."""
    asked = found.rows
    ids = torch.arange(len(rows))
    near = top_k(rows[asked], rows, min(NEAREST, len(rows) - 1), query_ids=asked, key_ids=ids)
    shelves = note("Framed: an item to label, with the number of items that it stands for. Then the nearest.")
    for place, row in enumerate(asked.tolist()):
        others = zip(near[1][place].tolist(), near[0][place].tolist(), strict=True)
        cells = [Cell(row, f"{items.ids[row]}: {int(found.stands_for[place]):,} items", QUERY)]
        shelves += shelf(items, [*cells, *(Cell(other, scored(score, items.ids[other])) for other, score in others)])
    sections = [("What was selected", note(found.sentence())), ("To label first", shelves)]
    write_page(path, f"likewise: to label first in {items.source}", found.stamp, sections)
