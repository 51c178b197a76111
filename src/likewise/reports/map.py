"""The interactive map of a report: points in the plane with labels, errors, names and a sample of small pictures.

All of it stands in the page, compressed. ``map.js`` draws it with ``raster.js`` and ``gestures.js``, as the page of a
server does.
"""

import gzip
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.console import Tick, part_of, untold
from likewise.data import Items
from likewise.maps import layout, nearest
from likewise.maps.tsne import NEIGHBOURS as NEAR
from likewise.pages.colours import LABELS, REST
from likewise.pages.pieces import named, note
from likewise.pages.sprite import Sprite, sprite_of
from likewise.reports.labels import columns_of, differ
from likewise.reports.neighbours import NEIGHBOURS, some_of
from likewise.text import readable, shortened
from likewise.viewer.columns import pack_columns

POINTS = 100_000  # of a map; of more items these are drawn at random
LEAST = 3  # items of a map
BINS = (1, 4, 7)  # of how many of the nearest have another label: the least of each but the first
TEXT_BYTES = 800_000  # of the names of items, and of labels, compressed; where they take more, numbers stand for them
LONGEST = 80  # characters of a name
PICTURED = 2_000  # items that have a picture, drawn at random
ERRORS = (  # how many of the nearest have another label: darker is more
    ("#bcd3e8", "none"),
    ("#f0b060", "1 to 3"),
    ("#d55e00", "4 to 6"),
    ("#7a0000", "7 and more"),
)
WAYS = {  # to colour by: its name, and the heading of its legend
    "label": ("label", "labels shown"),
    "error": ("wrong neighbours", f"shown, by how many of the {NEIGHBOURS} nearest have another label"),
}
FIND = (
    '<label>find <input type="search" id="map-find" placeholder="name or label"></label>'
    '<output id="map-count"></output>'
)


class Key(NamedTuple):
    """An entry of a legend: its place in the palette, its colour, what it stands for, and how many items have it."""

    place: int
    colour: str
    name: str
    items: int


class Layer(NamedTuple):
    """Columns of the points, entries of the header, and the legend of each way to colour them, by name."""

    columns: dict[str, npt.NDArray[Any]]
    header: dict[str, object]
    legends: dict[str, list[Key]]


def map_section(items: Items, rows: Tensor, tick: Tick = untold) -> str:
    """The map as HTML, without its script; a sentence where there are too few items. Cost: see ``layout``."""
    if len(items) < LEAST:
        return note("There are too few items for a map.")
    some = some_of(len(items), POINTS)
    drawn_at_random = ""
    if len(some) < len(items):
        drawn_at_random = f" They are drawn at random from {len(items):,}."
        items, rows = items.select(some.numpy()), rows[some]
    near = nearest(rows, min(NEAR, len(items) - 1), part_of(tick, 0, 2))
    plane = layout(rows, near=near, tick=part_of(tick, 1, 2))
    layer = coloured(items, near[:, :NEIGHBOURS])
    columns = {"x": plane.xy[:, 0], "y": plane.xy[:, 1], **layer.columns}
    header = {**layer.header, "ids": names_within([shortened(name, LONGEST) for name in items.ids])}
    sprite = sprite_of(items.picture, some_of(len(items), PICTURED).tolist()) if items.pictured else None
    if sprite is not None:
        columns["picture"] = places_in(sprite, len(items))
        header["tiles"] = {"side": sprite.side, "across": sprite.across}
    said = plane.sentence() + drawn_at_random
    several = items.labels is not None and items.labels.ndim > 1
    said += " Of several labels the first gives the colour." if several else ""
    said += "" if sprite is None else f" {len(sprite.rows):,} of the items have a picture on the map."
    points = gzip.compress(pack_columns(columns, header, small=("x", "y")), 9, mtime=0)
    return note(said) + tools(layer.legends, len(items)) + blocks(points, sprite)


def script() -> str:
    """The script of a page with a map: one module."""
    viewer, own = files("likewise.viewer") / "static", files("likewise.reports")
    parts = (viewer / "columns.js", viewer / "raster.js", viewer / "gestures.js", own / "map.js")
    return "\n".join(part.read_text("utf-8") for part in parts)


def coloured(items: Items, near: Tensor) -> Layer:
    """The label of each point, numbered by frequency, and how many of its nearest, (N, k) rows, have another label."""
    wide = columns_of(items)
    if wide is None or not bool((wide >= 0).any()):
        return Layer({}, {"colours": LABELS[:1], "rest": REST}, {})
    wrong = differ(wide, torch.arange(len(items)), near).sum(1).numpy().astype(np.uint8)
    first = wide[:, 0].numpy()
    numbers, counts = np.unique(first[first >= 0], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    order = np.concatenate([np.sort(order[: len(LABELS)]), order[len(LABELS) :]])  # the most frequent, by name
    rank = np.full(len(items.label_names) + 1, -1, np.int32)  # the last one of no label
    rank[numbers[order]] = np.arange(len(order), dtype=np.int32)
    names = [shortened(items.label_names[number], LONGEST) for number in numbers[order].tolist()]
    shown = min(len(LABELS), len(names))
    sizes = counts[order]
    legend = [Key(place, LABELS[place], names[place], int(sizes[place])) for place in range(shown)]
    if len(names) > shown:
        legend.append(Key(shown, REST, f"{len(names) - shown:,} other labels", int(sizes[shown:].sum())))
    if none := int((first < 0).sum()):
        legend.append(Key(shown + 1, REST, "no label", none))
    bins = np.digitize(wrong[first >= 0], BINS)
    errors = [Key(place, *each, int((bins == place).sum())) for place, each in enumerate(ERRORS)]
    header = {
        "colours": LABELS[:shown],
        "rest": REST,
        "k": near.shape[1],
        "labels": names_within(names),
        "errors": [colour for colour, _ in ERRORS],
        "bins": BINS,
    }
    return Layer({"label": rank[first], "error": wrong}, header, {"label": legend, "error": errors})


def names_within(names: Sequence[str]) -> list[str] | None:
    """The names as text; None where they take more than ``TEXT_BYTES`` compressed."""
    shown = [readable(name) for name in names]
    size = len(gzip.compress(json.dumps(shown).encode(), 6, mtime=0))
    return shown if size <= TEXT_BYTES else None


def places_in(sprite: Sprite, count: int) -> npt.NDArray[np.int32]:
    """The place of each item's picture in the sprite, −1 of those without."""
    places = np.full(count, -1, np.int32)
    places[list(sprite.rows)] = np.arange(len(sprite.rows), dtype=np.int32)
    return places


def tools(legends: Mapping[str, Sequence[Key]], count: int) -> str:
    """What stands around the canvas: what to colour by, zoom, legends that filter, and what is said of a point."""
    options = "".join(f'<option value="{name}">{WAYS[name][0]}</option>' for name in legends)
    choice = f'<label>colour by <select id="map-colour">{options}</select></label>' if legends else ""
    buttons = "".join(
        f'<button type="button" id="map-{name}">{shown}</button>'
        for name, shown in (("in", "zoom in"), ("out", "zoom out"), ("whole", "whole map"))
    )
    keys = "".join(_legend(name, each, hidden=name != "label") for name, each in legends.items())
    about = (
        f"Map of {count:,} items: near points are alike. Arrow keys go to the next point, + and − zoom, 0 shows all."
    )
    canvas = f'<canvas id="map-canvas" tabindex="0" role="application" aria-label="{named(about)}"></canvas>'
    return (
        f'<div class="map" id="map-tools"><div class="tools on-screen">{choice}{FIND}{buttons}</div>'
        f'<div class="frame">{canvas}'
        '<div class="tip" id="map-tip" hidden><canvas id="map-picture" width="96" height="96" hidden></canvas>'
        '<p id="map-said" aria-live="polite"></p><p id="map-other"></p></div></div>'
        f'{keys}<p class="note on-screen">Drag to move. Click the map, and the wheel and the arrow keys work in it; '
        "Ctrl and the wheel, and two fingers, always zoom. Tap or point at an item to see its name.</p>"
        "<noscript><p>The map needs JavaScript; all else on this page does not.</p></noscript></div>"
    )


def _legend(name: str, keys: Sequence[Key], *, hidden: bool) -> str:
    """Check boxes that show and hide what is coloured alike."""
    each = "".join(
        f'<li><label><input type="checkbox" checked value="{key.place}"><svg class="swatch" viewBox="0 0 10 10" '
        f'aria-hidden="true"><rect width="10" height="10" fill="{key.colour}"/></svg><span>{named(key.name)}</span> '
        f"<small>{key.items:,}</small></label></li>"
        for key in keys
    )
    both = "".join(f'<button type="button" data-check="{what}">{what}</button>' for what in ("all", "none"))
    title = f"<legend>{WAYS[name][1]} {both}</legend>"
    return f'<fieldset class="legend" id="map-legend-{name}"{" hidden" * hidden}>{title}<ul>{each}</ul></fieldset>'


def blocks(points: bytes, sprite: Sprite | None) -> str:
    """The points and pictures as blocks of data, which a browser does not run."""
    text = f'<script type="text/plain" id="map-points">{b64encode(points).decode()}</script>'
    if sprite is not None:
        picture = b64encode(sprite.content).decode()
        text += f'<script type="text/plain" id="map-sprite">data:image/jpeg;base64,{picture}</script>'
    return text
