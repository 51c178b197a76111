"""The pages of ``likewise classify`` and ``likewise select``: the items as pictures, or as ids where there are none."""

from collections.abc import Sequence

import torch

from likewise.answers.classified import Classified
from likewise.answers.select import Selected
from likewise.data import Items
from likewise.metrics.neighbours import top_k
from likewise.pages import grid, named, thumbnail
from likewise.text import readable

Table = tuple[list[str], list[list[str]]]  # header and rows
SHOWN = 12  # items in a row
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
    """A row for each class: its labels, the items that got it, their mean confidence, its AUROC if unknown."""
    aurocs = {each.label: f"{each.auroc:.2f}" for each in found.held_out}
    rows = []
    for number, name in enumerate(found.names):
        mine = found.labels == number
        fresh = mine & ~found.given
        mean = f"{float(found.confidence[fresh].mean()):.2f}" if bool(fresh.any()) else ""
        counts = f"{int((mine & found.given).sum()):,}", f"{int(fresh.sum()):,}"
        rows.append([readable(name), *counts, mean, aurocs.get(name, "")])
    return ["label", "given", "found", "mean confidence", "AUROC of unlike"], rows


def classified_page(found: Classified, items: Items, lines: Sequence[str]) -> str:
    """The body of the page of a classification; ``lines`` are what the command prints."""
    fresh = (~found.given).nonzero().flatten()
    body = "".join(f"<p>{named(line)}</p>" for line in lines)
    body += "<h2>Reliability</h2>" + grid(*methods_table(found)) + grid(*reliability_table(found))
    body += "<h2>Classes</h2>" + grid(*classes_table(found))

    def shown(title: str, order: torch.Tensor, values: torch.Tensor) -> str:
        rows = fresh[order][:SHOWN].tolist()
        captions = [f"{found.label(row)} {float(values[row]):.2f}" for row in rows]
        return f"<h2>{named(title)}</h2>{_row(items, rows, captions)}"

    body += shown("Least certain", found.confidence[fresh].argsort(stable=True), found.confidence)
    body += shown("Most unlike anything labelled", (-found.unlike[fresh]).argsort(stable=True), found.unlike)
    body += "<h2>Each class: its labels, framed, and what is most certainly of it</h2>"
    for number, name in enumerate(found.names[:MOST_CLASSES]):
        mine = found.labels == number
        given = (mine & found.given).nonzero().flatten()[:3].tolist()
        rest = (mine & ~found.given).nonzero().flatten()
        rest = rest[(-found.confidence[rest]).argsort(stable=True)][:SHOWN]
        captions = [name] * len(given) + [f"{float(found.confidence[row]):.2f}" for row in rest]
        body += _row(items, given + rest.tolist(), captions, framed=len(given))
    return body


def selected_page(found: Selected, items: Items, rows: torch.Tensor, lines: Sequence[str]) -> str:
    """The body of the page of a selection: each item, framed, and its nearest ones by ``rows`` (N, D)."""
    body = "".join(f"<p>{named(line)}</p>" for line in lines)
    asked = found.rows
    near = top_k(rows[asked], rows, min(6, len(rows) - 1), query_ids=asked, key_ids=torch.arange(len(rows)))
    for place, row in enumerate(asked.tolist()):
        others = near[1][place].tolist()
        captions = [f"{int(found.stands_for[place]):,} items", *(f"{score:.2f}" for score in near[0][place].tolist())]
        body += _row(items, [row, *others], captions, framed=1)
    return body


def _row(items: Items, rows: Sequence[int], captions: Sequence[str], framed: int = 0) -> str:
    """Items beside each other, the first ones framed."""
    if not items.pictured:
        return grid(["id", ""], [[items.ids[row], caption] for row, caption in zip(rows, captions, strict=True)])
    cells = [
        thumbnail(items.picture(row), items.ids[row], caption, "query" if place < framed else "")
        for place, (row, caption) in enumerate(zip(rows, captions, strict=True))
    ]
    return f'<div class="row">{"".join(cells)}</div>'
