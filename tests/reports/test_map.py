"""The map of a report: what is in its columns, its legend, and how many bytes it takes."""

import base64
import gzip
import html
import json
import re
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import torch

from likewise.data import Items
from likewise.pages.colours import LABELS, REST
from likewise.pages.page import whole
from likewise.pages.sprite import sprite_of
from likewise.reports import map as module
from likewise.reports.map import map_section, script

TYPES = {"uint16": np.uint16, "int32": np.int32, "uint8": np.uint8, "float32": np.float32}


def made(n: int, classes: int, seed: int = 0) -> tuple[Items, torch.Tensor]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)
    rows = torch.from_numpy(random.normal(size=(classes, 8))[labels] + 0.7 * random.normal(size=(n, 8))).float()
    items = Items(
        ids=tuple(f"<item> {row}" for row in range(n)),
        values=random.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8),
        kind="images",
        labels=labels.astype(np.int64),
        label_names=tuple(f"label {number}" for number in range(classes)),
        source="made",
    )
    return items, torch.nn.functional.normalize(rows, dim=1)


def read(section: str) -> tuple[dict, dict[str, np.ndarray]]:
    """The header and the columns, read as viewer/columns.py describes them, without its code."""
    found = re.search(r'id="map-points">([^<]*)<', section)
    assert found is not None
    content = gzip.decompress(base64.b64decode(found[1]))
    assert content[:4] == b"LWC1"
    start = 8 + int.from_bytes(content[4:8], "little")
    header = json.loads(content[8:start])
    columns = {
        each["name"]: np.frombuffer(content, TYPES[each["type"]], header["rows"], start + each["offset"])
        for each in header["columns"]
    }
    return header, columns


def test_the_columns_say_label_errors_and_names_of_every_item() -> None:
    items, rows = made(60, 3)
    labels = np.array(items.labels)
    labels[:4] = -1
    items = replace(items, labels=labels)
    header, columns = read(map_section(items, rows))
    assert header["ids"] == list(items.ids)
    assert [header["labels"][label] if label >= 0 else None for label in columns["label"]] == [
        f"label {label}" if label >= 0 else None for label in labels
    ]
    cosines = rows @ rows.T - 2 * torch.eye(60)
    for row, near in enumerate(cosines.topk(10).indices.tolist()):
        wrong = sum(labels[row] >= 0 and labels[other] >= 0 and labels[row] != labels[other] for other in near)
        assert columns["error"][row] == wrong
    assert columns["x"].dtype == np.uint16
    assert sorted(columns["picture"]) == list(range(60))
    assert header["colours"] == list(LABELS[:3])


def test_the_most_frequent_labels_have_colours_and_the_rest_are_grey() -> None:
    items, rows = made(400, 30)
    section = map_section(items, rows)
    header, columns = read(section)
    sizes = np.bincount(columns["label"])
    assert sizes[:10].min() >= sizes[10:].max()
    legend = section.partition('id="map-legend-label"')[2].partition("</ul>")[0]
    counts = [int(count) for count in re.findall("<small>([0-9]+)</small>", legend)]
    assert counts == [*sizes[:10], 400 - sizes[:10].sum()]
    assert re.findall('fill="(#......)"', legend) == [*LABELS, REST]
    assert "20 other labels" in legend
    assert [header["labels"][label] for label in columns["label"]] == [f"label {label}" for label in items.labels]


def test_items_without_labels_or_pictures_have_a_map_too() -> None:
    items, rows = made(12, 2)
    plain = replace(items, labels=None, label_names=(), kind="vectors", values=np.zeros((12, 2), np.float32))
    section = map_section(plain, rows)
    header, columns = read(section)
    assert set(columns) == {"x", "y"}
    assert "map-legend" not in section
    assert "map-sprite" not in section
    assert header["colours"] == [LABELS[0]]
    assert "too few items" in map_section(items.select([0, 1]), rows[:2])
    several = np.stack([np.arange(12) % 2, np.full(12, -1)], 1)
    assert read(map_section(replace(items, labels=several), rows))[1]["label"].tolist() == [0, 1] * 6


def test_a_page_of_100_000_items_has_at_most_5_mb(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coordinates that can't be compressed, long names and noise for pictures: the bytes of few points, and a bound."""
    items, rows = made(4000, 50)
    random = np.random.default_rng(0)
    names = tuple(random.bytes(30).hex() for _ in range(4000))
    items = replace(items, ids=names, values=random.integers(0, 256, (4000, 32, 32, 3), dtype=np.uint8))
    monkeypatch.setattr(module, "TEXT_BYTES", 800_000 * 4000 // 100_000)
    monkeypatch.setattr(
        module, "layout", lambda rows, near, tick: Flat(random.uniform(size=(len(rows), 2)).astype(np.float32))
    )
    section = map_section(items, rows)
    header, _ = read(section)
    assert header["ids"] is None  # 60 bytes a name, of which half can't be compressed: too many
    found = re.search(r'id="map-points">([^<]*)<', section)
    assert found is not None
    points = len(found[1]) * 100_000 / 4000 + 800_000 * 4 / 3
    pictures = 800_000 * 4 / 3
    assert len(section) - len(found[1]) < pictures + 20_000
    neighbours = 150 * 8192 * 4 / 3
    assert points + pictures + neighbours < 4_900_000


class Flat:
    """A map whose points are given."""

    def __init__(self, xy: np.ndarray) -> None:
        self.xy = xy

    def sentence(self) -> str:
        return "A map."


def test_pictures_are_left_out_until_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    items, _ = made(40, 2)
    whole_sprite = sprite_of(items.picture, range(40))
    assert whole_sprite.rows == tuple(range(40))
    monkeypatch.setattr("likewise.pages.sprite.MOST_BYTES", len(whole_sprite.content) // 2)
    fewer = sprite_of(items.picture, range(40))
    assert len(fewer.content) <= len(whole_sprite.content) // 2
    assert set(fewer.rows) < set(range(40))


def test_the_page_allows_its_own_script_and_style_and_nothing_else() -> None:
    page = whole("<title>", {}, "<p>body</p>", script=script()).decode()
    policy = html.unescape(re.findall('Content-Security-Policy" content="(.*?)">', page)[0])
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert allowed["default-src"] == "'none'"
    for directive, tag in (("style-src", "style"), ("script-src", 'script type="module"')):
        text = page.partition(f"<{tag}>")[2].partition(f"</{tag.split()[0]}>")[0]
        wanted = base64.b64encode(sha256(text.encode()).digest()).decode()
        assert allowed[directive] == f"'sha256-{wanted}'"
    assert "://" not in page
    assert "</script" not in script()
    assert "script-src" not in whole("title", {}, "").decode()
